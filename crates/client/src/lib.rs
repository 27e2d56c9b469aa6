//! A client of a Tapline server: its calls, and a stream that resumes automatically and reports every loss.
//!
//! **What it is.** [`Client`] makes the calls: state, start and change a session, publish, wait for an
//! event, page through the retained events, list the readers. [`Follower`] follows the events over as many connections as needed: it
//! reconnects, continues after the last event that it received, delivers no event twice, and reports every
//! event that was evicted before it could be read.
//!
//! **What it is not.** It stores nothing: store a [`Cursor`] to resume after a restart of your program. It
//! follows no redirect: a token is sent only to the address that it was given with.
//!
//! **Start at** [`Client::new`], then [`Client::follow`].
//!
//! **Features.** `tls`: addresses that begin with `https://`.
//!
//! **Layer 4.** Of this workspace it uses only `tapline-oapi`, so a program that talks to a server builds
//! no server. It runs on tokio.
//!
//! ```no_run
//! use tapline_client::{Client, StreamItem, StreamOptions};
//! use tapline_oapi::{CategorySet, Category};
//!
//! # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:10001")?;
//! let mut stream = client.follow(StreamOptions {
//!     categories: CategorySet::of(&[Category::Console]),
//!     ..StreamOptions::default()
//! });
//! while let Some(item) = stream.next().await {
//!     match item? {
//!         StreamItem::Event(event) => println!("{}", event.envelope()?.event.event_type),
//!         // The lossy path: these events were evicted before this reader received them.
//!         StreamItem::Lost(loss) => eprintln!("{loss}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

// In reading order: a module uses only those below it.
mod client;
mod follower;
mod probe;
mod http;
mod connector;
mod sse;
mod item;
mod options;
mod wait;
mod page;
mod error;

pub use client::Client;
pub use error::{Error, ProtocolError};
pub use follower::Follower;
pub use item::{Loss, LossCause, Reconnecting, StreamItem, StreamedEvent};
pub use options::{Reconnect, Start, StreamOptions};
pub use page::{EventPage, PageGap, PageOptions, PageOrder};
pub use probe::Probe;
pub use tapline_oapi::{Cursor, CursorError, Epoch};
pub use wait::{WaitOptions, Waited};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
