//! Turns what a Chromium says over the DevTools protocol into telemetry events.
//!
//! **What it is.** [`Core`] is a machine: in go the time and a message of the browser, out come
//! events and commands. It attaches to every page, frame and worker, switches on in each what the
//! captured categories need and nothing else, follows requests to their one end, computes when a
//! page has settled, and takes secrets out of everything that it tells.
//!
//! [`Relay`] stands between other clients and the browser: it passes on what they say as it is, and
//! tells which commands they gave.
//!
//! **What it is not.** The machine opens no socket, has no clock and no thread, and publishes
//! nothing: whoever drives it does. That is why a recorded session replays through it, to the same
//! events each time.
//!
//! **Start at** [`Core::new`], then [`Core::connected`]; and at [`Relay::bind`].
//!
//! **Layer.** Floor 4: of this workspace the machine needs `tapline-oapi`, the relay also
//! `tapline-telemetry`. Neither knows the server or the client.

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

pub use crate::core::{Core, Held, Options};
pub use outbox::{Command, Output};
pub use redact::{MARK, Redaction};
pub use relay::{Relay, RelayCounts, RelayError, RelayOptions};
