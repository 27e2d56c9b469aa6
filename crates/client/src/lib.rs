//! The client of a Tapline server: its calls, and a stream that resumes by itself.
//!
//! **What it is.** [`Client`] makes the calls: the state, starting and changing a session,
//! publishing, waiting for an event, who reads. [`Follower`] follows the events over a connection that may break as often as it
//! likes: it comes back, goes on after the last event that it has, delivers none twice, and tells
//! of every event that was evicted before it could be read.
//!
//! **What it is not.** It stores nothing (keep a [`Cursor`] where it survives), speaks no TLS, and
//! follows no redirect: a token given to it goes to the one address that it was given with.
//!
//! **Start at** [`Client::new`], then [`Client::follow`].
//!
//! **Layer.** Floor 4, and of this workspace it needs `tapline-oapi` alone: a program that only
//! talks to a server builds no server. It runs on tokio.
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
//!         // The lossy path: the server kept less than this reader was behind.
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
mod http;
mod sse;
mod item;
mod options;
mod wait;
mod error;

pub use client::Client;
pub use error::{Error, ProtocolError};
pub use follower::Follower;
pub use item::{Loss, LossCause, Reconnecting, StreamItem, StreamedEvent};
pub use options::{Reconnect, Start, StreamOptions};
pub use tapline_oapi::{Cursor, CursorError, Epoch};
pub use wait::{WaitOptions, Waited};
