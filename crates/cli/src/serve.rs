//! `tapline serve`, and what `tapline demo` shares with it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use tapline_api::{ApiService, NoSource, Source};
use tapline_events::{EventStream, Retention};
use tapline_oapi::ConfigRequest;
use tapline_server::Options;
use tapline_telemetry::TelemetrySession;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::args::{Serve, Server};
use crate::failure::Failure;
use crate::signals;

pub(crate) async fn run(args: Serve) -> Result<(), Failure> {
    serve(args.server, NoSource, args.start, |_| String::new()).await
}

/// Serves until a signal comes. `welcome` is printed below the line that tells the address.
pub(crate) async fn serve(
    args: Server,
    source: impl Source,
    start: bool,
    welcome: impl FnOnce(SocketAddr) -> String,
) -> Result<(), Failure> {
    start_log(&args.log)?;
    let retention = Retention {
        events: args.capacity,
        bytes: args.capacity_bytes as u64,
    };
    let stream = EventStream::new(retention)
        .map_err(|error| Failure::Usage(format!("--capacity {}: {error}", args.capacity)))?;
    let listener = listen(args.listen).await?;
    let address = listener.local_addr().map_err(|source| Failure::Listen {
        address: args.listen,
        source,
    })?;
    // From here on a signal means stopping in good order.
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;

    let api = Arc::new(ApiService::new(TelemetrySession::new(stream), source));
    if start {
        api.put(&ConfigRequest::default())
            .map_err(Failure::Session)?;
    }
    // The socket takes connections already: they wait for the few steps until they are answered.
    let mut out = io::stdout();
    write!(out, "listening on http://{address}\n{}", welcome(address))
        .and_then(|()| out.flush())
        .map_err(Failure::Output)?;
    tapline_server::serve(listener, api, Options::default(), stop)
        .await
        .map_err(Failure::Serve)
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
        .init();
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "--listen {address}: only a loopback address, such as 127.0.0.1, can be listened on: \
             anybody who reaches the server may read and publish"
        )));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| Failure::Listen { address, source })
}
