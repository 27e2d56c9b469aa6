//! The telemetry session: decides which categories are captured, and stamps its id on each event.
//!
//! **What it is.** A stream with a session in front: publishing filters, stamps and numbers without
//! a lock, and the session's beginning, change and end are atomic with it. An event carries a
//! session's id if and only if its seq lies in that session's window.
//!
//! **What it is not.** It knows no HTTP, no source of events and no configuration format.
//!
//! **Start at** [`TelemetrySession`].
//!
//! **Layer.** 2: above `tapline-events`.
//!
//! ```
//! use tapline_events::{EventStream, Retention};
//! use tapline_oapi::{Category, CategorySet, Event, KnownType};
//! use tapline_telemetry::{PublishError, TelemetryConfig, TelemetrySession};
//!
//! let session = TelemetrySession::new(EventStream::new(Retention::default())?);
//! session.start("s-1", TelemetryConfig { categories: CategorySet::of(&[Category::Console]) })?;
//!
//! let line = || Event::known(KnownType::ConsoleLog, None);
//! let envelope = session.publish(line()).unwrap();
//! assert!(envelope.json().whole().contains(r#""telemetry_session_id":"s-1""#));
//!
//! let idle = Event::known(KnownType::NetworkIdle, None);
//! assert_eq!(session.publish(idle).unwrap_err(), PublishError::CategoryDisabled(Category::Network));
//! session.stop();
//! assert_eq!(session.publish(line()).unwrap_err(), PublishError::Inactive);
//!
//! // What became of it all: nothing is dropped without being counted.
//! let ledger = session.ledger();
//! assert_eq!((ledger.published.sum(), ledger.filtered.inactive[Category::Console]), (1, 1));
//! assert_eq!(ledger.filtered.category_disabled[Category::Network], 1);
//! assert_eq!(ledger.offered().sum(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod session;
mod state;
mod tally;
mod ledger;
mod sync;

pub use ledger::{Filtered, SessionLedger};
pub use session::{
    Batch, EmptyId, Envelope, EnvelopeRef, Inactive, PublishError, Reader, TelemetrySession,
};
pub use state::{Session, SessionState, TelemetryConfig};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
