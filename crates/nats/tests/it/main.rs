//! The sink with a real server. `crates/nats/tests/install.sh` puts it where these tests look. Without it they say so and
//! pass, unless `TAPLINE_REQUIRE_NATS` is 1.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod server;
mod proxy;
mod rig;

mod names;
mod versions;
mod streams;
mod round_trip;
mod conformance;
mod once;
mod batches;
mod partition;
mod limits;
mod writers;
mod cluster;
mod access;
mod credentials;
mod gateway;
mod forge;
mod disorder;
mod places;
