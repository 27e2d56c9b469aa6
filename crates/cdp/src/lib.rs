//! Turns what a Chromium says over the DevTools protocol into telemetry events.
//!
//! **What it is.** [`Core`] is a machine: in go the time and a message of the browser, out come
//! events and commands. It attaches to every page, frame and worker, switches on in each what the
//! captured categories need and nothing else, follows requests to their one end, computes when a
//! page has settled, and takes secrets out of everything that it tells.
//!
//! The machine opens no socket, has no clock and no thread, and publishes nothing. That is why a recorded
//! session replays through it, to the same events each time. [`CdpSource`] has all of these: it connects
//! the machine to a browser and publishes into a telemetry session. [`Relay`] stands between other
//! clients and the browser: it passes on what they say as it is, and tells which commands they gave.
//!
//! **What it is not.** It starts no browser and drives none: what it does to one is to look.
//!
//! **Start at** [`CdpSource`], or for the machine at [`Core::new`], then [`Core::connected`]; and at
//! [`Relay::bind`].
//!
//! **Layer.** Floor 4: it may use the floors below, and knows neither the server nor the client.

// In reading order.
mod core;
mod outbox;
mod targets;
mod network;
mod proxy;
mod page;
mod console;
mod interaction;
mod screenshot;
mod redact;
mod timers;
mod protocol;
mod relay;

mod source;
mod drive;
mod endpoint;
mod record;

pub use crate::core::{Core, Held, Options};
pub use drive::SourceOptions;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use outbox::{Command, Output};
pub use record::{Recorded, Recording, RecordingError, record};
pub use redact::{REDACTED, Redaction, SharedRedaction};
pub use relay::{Relay, RelayCounts, RelayError, RelayOptions};
pub use source::CdpSource;
