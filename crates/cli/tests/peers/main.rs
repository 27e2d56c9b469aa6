//! The built program, with published clients that were not changed for it: a browser's
//! `EventSource`, two SDKs, nine clients for Server-Sent Events, two for the Model Context Protocol, proxies, a collector for OpenTelemetry, and a tool that attacks what
//! the OpenAPI document promises.
//!
//! `install.sh` puts them where these tests look. Where one is missing, its tests say so and pass,
//! unless `TAPLINE_REQUIRE_PEERS` (for the browser `TAPLINE_REQUIRE_BROWSER`) is 1.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

#[allow(dead_code, reason = "the program's own tests need more of it")]
#[path = "../it/program.rs"]
mod program;
#[allow(dead_code, reason = "the program's own tests need more of it")]
#[path = "../it/wire.rs"]
mod wire;

mod front;
mod http;
mod peer;
mod quick;

mod archive;
mod browser;
mod clients;
mod document;
mod examples;
mod fleet;
mod generators;
mod har;
mod live_page;
mod mcp;
mod nats;
mod otlp;
mod packages;
mod page;
mod proxies;
mod sdks;
mod snippets;
mod types;
