//! Turns the activity of a Chromium into telemetry events, over the Chrome DevTools Protocol (CDP).
//!
//! **What it is.** [`Core`] is a state machine without a socket, a clock or a thread: messages of the
//! browser and the time go in, events, commands and deadlines come out. It attaches to every page, frame
//! and worker, enables in each what the captured categories need and nothing else, follows each request
//! to its one end, computes when a page has settled, and removes secrets from all events.
//! [`CdpSource`] connects the core to a browser and publishes its events into a telemetry session.
//! [`record`] writes a browser's messages to a file, and a [`Recording`] turns them into the same events
//! at any later time.
//!
//! **What it is not.** It starts no browser and drives none: it only observes.
//!
//! **Start at** [`CdpSource`], or for the core alone at [`Core`].
//!
//! **Layer.** 4: it may use the layers below, and knows neither the server nor the client.
//!
//! ```
//! use std::time::Duration;
//! use tapline_cdp::{Core, Options, Output, Time};
//!
//! let mut core = Core::new(Options::default());
//! let now = Time { monotonic: Duration::ZERO, wall: 1_795_349_358_708_459 };
//! core.connected(now);
//! core.message(now, concat!(
//!     r#"{"method":"Target.attachedToTarget","params":{"sessionId":"S","waitingForDebugger":false,"#,
//!     r#""targetInfo":{"targetId":"T","type":"page","title":"Shop","url":"http://u:p@shop/"}}}"#,
//! ));
//! let mut events = Vec::new();
//! while let Some(output) = core.poll() {
//!     match output {
//!         Output::Event(event) => events.push(event),
//!         Output::Command(command) => println!("to be sent: {}", command.to_text()),
//!     }
//! }
//! assert_eq!(events[0].event_type.as_str(), "page_tab_opened");
//! let data = events[0].data.as_ref().unwrap().get();
//! assert!(data.contains("http://*redacted*@shop/"));
//! ```
//!
//! # Modules
//!
//! A module uses only modules above it. None but `core` knows all of them.

// The core, from the bottom up.
mod time;
mod key;
mod find;
mod redact;
mod json;
mod protocol;
mod proxy;
mod options;
mod timers;
mod outbox;
mod repeats;
mod frames;
mod targets;
mod phases;
mod body;
mod network;
mod websocket;
mod recover;
mod screenshot;
mod page;
mod preview;
mod console;
mod interaction;
mod attach;
mod core;

// The source around it, and recordings.
mod endpoint;
mod drive;
mod source;
mod record;

pub use crate::core::{Core, Held};
pub use drive::SourceOptions;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use options::Options;
pub use outbox::{Command, Output};
pub use record::{Recorded, Recording, RecordingError, record};
pub use redact::{REDACTED, Redaction, SharedRedaction};
pub use source::CdpSource;
pub use time::Time;

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
