//! The client of a Tapline server: its calls, and a stream that resumes by itself.
//!
//! **What it is.** [`Client`] makes the calls: the state, starting and changing a session,
//! publishing, waiting for an event, who reads. [`EventStream`] follows the events over a connection that may break as often as it
//! likes: it comes back, goes on after the last event that it has, delivers none twice, and tells
//! of every event that was evicted before it could be read.
//!
//! **What it is not.** It stores nothing (keep a [`Cursor`] where it survives), speaks no TLS, and
//! follows no redirect: a token given to it goes to the one address that it was given with.
//!
//! **Start at** [`Client::new`], then [`Client::stream`].
//!
//! **Layer.** Floor 4, and of this workspace it needs `tapline-oapi` alone: a program that only
//! talks to a server builds no server. It runs on tokio.
//!
//! ```no_run
//! use tapline_client::{Client, Item, StreamOptions};
//! use tapline_oapi::{CategorySet, Category};
//!
//! # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:10001")?;
//! let mut stream = client.stream(StreamOptions {
//!     categories: CategorySet::of(&[Category::Console]),
//!     ..StreamOptions::default()
//! });
//! while let Some(item) = stream.next().await {
//!     match item? {
//!         Item::Event(event) => println!("{}", event.envelope()?.event.event_type),
//!         // The lossy path: the server kept less than this reader was behind.
//!         Item::Lost(loss) => eprintln!("{loss}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

// In reading order.
mod client;
mod wait;
mod stream;
mod error;

pub use client::Client;
pub use error::{Error, ProtocolError};
pub use stream::{
    EventStream, Item, Loss, LossCause, Reconnect, Reconnecting, Start, StreamOptions,
    StreamedEvent,
};
pub use tapline_oapi::{Cursor, CursorError, Epoch};
pub use wait::{WaitOptions, Waited};
