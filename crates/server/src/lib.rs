//! Tapline over HTTP: the operations as JSON, the events as Server-Sent Events.
//!
//! **What it is.** One function, [`serve`], that answers on a listener until it is asked to stop. A
//! subscriber is a position in the ring and a socket: there is no queue in between, so one that
//! does not read costs a bounded buffer and falls behind, and gets a report of what it missed.
//!
//! **What it is not.** It decides nothing about events or sessions: that is `tapline-api`, and
//! each route is a thin cover of it.
//!
//! **Start at** [`serve`].
//!
//! **Layer.** Layer 4: above `tapline-api`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use tapline_api::ApiService;
//! use tapline_events::{EventStream, Retention};
//! use tapline_server::{Options, serve};
//! use tapline_telemetry::TelemetrySession;
//!
//! let session = TelemetrySession::new(EventStream::new(Retention::default())?);
//! let api = Arc::new(ApiService::new(session));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:10001").await?;
//! serve(listener, api, Options::default(), std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod serve;
mod host;
mod app;
mod fleet;
mod connection;
mod http2;
mod socket;

mod route;
mod routes;
mod readers;
mod scope;
mod cors;
mod calls;
mod body;
mod pace;
mod answer;

mod stream;
mod counts;
mod joins;
mod export;
mod metrics;
mod page;
mod standalone;
mod view;
mod document;

pub use document::serve_document;
pub use serve::{Limits, Options, Shutdown, serve, serve_fleet};
pub use standalone::{Standalone, standalone};

/// The example of the project's README is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
