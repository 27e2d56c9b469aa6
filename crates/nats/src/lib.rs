//! Stores an event stream in NATS JetStream, in compressed blocks, each event once, and serves it from there.
//!
//! **What it is.** [`NatsSink`] is a [`Sink`](tapline_api::Sink): it collects the stream into blocks, those of the archive, and publishes
//! each as a message. A repeated message is recognised, so that the stream holds each event once, or says which are missing.
//!
//! [`NatsFleet`] is a [`Fleet`](tapline_api::Fleet): it reads what such sinks have stored, as a gateway does. [`Presence`]
//! lets gateways see an instance, and ask it.
//!
//! **What it is not.** It runs no server, and changes no stream that exists.
//!
//! **Start at** [`NatsOptions::new`], then [`NatsSink::new`] or [`NatsFleet::open`]. What a message has is in [`message`].
//!
//! **Layer.** 4: it uses the block of `tapline-archive`, the problems of `tapline-insight`, and the layers below.

mod options;
mod error;
mod name;
pub mod message;
mod connect;
mod streams;
mod sink;
mod collect;
mod refill;
mod block;
mod publish;
mod pause;
mod presence;
mod problems;
mod control;
mod gateway;

pub use connect::Connection;
pub use error::{ClientError, NatsError};
pub use gateway::{GATEWAY_RETENTION, Instance, NatsFleet};
pub use name::{InstanceName, InstanceNameError, Partitions, stream_name, stream_subject};
pub use options::{NatsOptions, StreamOptions};
pub use presence::Presence;
pub use sink::{NatsSink, SinkOptions};
pub use streams::{ensure_streams, find_partitions};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
