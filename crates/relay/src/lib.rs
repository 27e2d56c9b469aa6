//! A proxy between DevTools clients and a browser, which records the clients' commands as events.
//!
//! **What it is.** [`Relay`] accepts what Playwright, Puppeteer and other DevTools clients send, and copies it
//! to the browser byte by byte. Beside the copy it reads the clients' WebSocket frames, and publishes events:
//! that a client connected, its commands with approved arguments, and that it disconnected.
//!
//! **What it is not.** It is no source for a session's life cycle and no DevTools client itself: it sends
//! nothing of its own to the browser, and uses nothing of the browser source (`tapline-cdp`).
//!
//! **Start at** [`Relay::bind`], then [`Relay::run`].
//!
//! **Layer.** 4: it uses `tapline-access`, and the layers below.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::{Duration, Instant};
//! use tapline_api::ApiService;
//! use tapline_events::{EventStream, Retention};
//! use tapline_relay::{Relay, RelayOptions};
//! use tapline_telemetry::TelemetrySession;
//!
//! let stream = EventStream::new(Retention::default())?;
//! let api = ApiService::new(TelemetrySession::new(stream));
//! let options = RelayOptions::new("127.0.0.1:9222");
//! let relay = Relay::bind("127.0.0.1:9333".parse()?, options, api.publisher()).await?;
//! println!("connect DevTools clients to http://{}", relay.local_addr());
//! let shutdown = async {
//!     let _ = tokio::signal::ctrl_c().await;
//!     Instant::now() + Duration::from_secs(9) // by then, all connections are closed
//! };
//! relay.run(shutdown).await;
//! # Ok(())
//! # }
//! ```

mod relay;
mod head;
mod tap;
mod frames;
mod command;

pub use relay::{CommandUrls, Counters, RedactUrl, Relay, RelayCounts, RelayError, RelayOptions};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
