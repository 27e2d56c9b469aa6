//! The event stream: events in, numbered envelopes out, to readers that know what they missed.
//!
//! **What it is.** A ring of events: each gets a seq, the oldest goes when the bound is reached, and
//! what an envelope's JSON has before its data is made at most once, when it is first needed; its data is lent. A [`Reader`] follows from any seq, may
//! ask for some categories and types only, and learns by category what was evicted before it got there.
//!
//! **What it is not.** It knows no session and no configuration: the [`Stamp`] is a value of its writer's
//! that every event is stamped with. It does not know HTTP, and it stores nothing.
//!
//! **Start at** [`EventStream`], then [`Reader`].
//!
//! **Layer.** 1: above `tapline-ring` and `tapline-oapi`.
//!
//! # Lagging
//!
//! ```
//! use tapline_events::{EventStream, Item, Retention};
//! use tapline_oapi::{Event, KnownType};
//!
//! let stream = EventStream::<()>::new(Retention { events: 2, ..Retention::default() })?;
//! let mut reader = stream.reader(0);
//! for _ in 0..3 {
//!     stream.append(Event::known(KnownType::NetworkIdle, None), |_stamp| Ok::<_, ()>(())).unwrap();
//! }
//!
//! // The first was evicted before it was read. What follows it is still there.
//! let Some(Item::Lost(lost)) = reader.try_next() else { panic!("a loss comes first") };
//! assert_eq!((lost.first, lost.last, lost.matching), (1, 1, Some(1)));
//! let Some(Item::Envelope(envelope)) = reader.try_next() else { panic!("then what is left") };
//! assert!(envelope.json().whole().starts_with(r#"{"seq":2,"event":{"ts":"#));
//! # Ok::<(), tapline_events::CapacityError>(())
//! ```

mod stream;
mod reader;
mod envelope;
mod stamp;
mod filter;
mod counts;

pub use counts::Counts;
pub use envelope::{Envelope, EnvelopeRef};
pub use filter::{Filter, TypePattern};
pub use reader::{Item, LagPolicy, Lost, Reader, ReaderLedger};
pub use stamp::Stamp;
pub use stream::{AppendError, Batch, Behind, EventStream, IntoEvent, Retention};
pub use tapline_oapi::{Cursor, CursorError, Epoch};
pub use tapline_ring::{CapacityError, Retained};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
