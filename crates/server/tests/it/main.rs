//! The one integration binary of this crate: a real server on a real socket, and a client that sees
//! every byte.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod http;
mod sse;
mod server;

mod configure;
mod publish;
mod bodies;
mod export;
mod counts;
mod joins;
mod view;
mod page;
mod errors;
mod request_id;
mod stream;
mod frames;
mod notices;
mod lagging;
mod concurrent;
mod fanout;
mod overtaken;
mod readers;
mod wait;
mod compress;
mod shutdown;
mod connections;
mod limits;
mod attack;
mod auth;
mod tickets;
mod origin;
mod tls;
mod http2;
mod reload;
mod platform;
mod document;
mod fleet;
