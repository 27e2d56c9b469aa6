//! The sink against an endpoint on a real socket, which misbehaves in every way that is listed in docs/otlp.md.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod mock;
mod rig;
mod trace;

mod batches;
mod conformance;
mod faults;
mod headers;
mod mapping;
mod spans;
mod stop;
mod tls;
