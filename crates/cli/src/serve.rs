//! `tapline serve`, and what `tapline demo` shares with it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_access::{AccessConfig, TlsFiles};
use tapline_api::ApiService;
use tapline_cdp::CdpSource;
use tapline_events::{EventStream, Retention};
use tapline_oapi::ConfigRequest;
use tapline_relay::{Relay, RelayOptions};
use tapline_server::Options;
use tapline_sources::KernelLog;
use tapline_telemetry::TelemetrySession;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Access, Limits, Serve, Server, Streams};
use crate::failure::Failure;
use crate::{files, reload, signals, token};

/// How long sources may take to stop when the program ends.
const STOP_SOURCES_WITHIN: Duration = Duration::from_secs(3);

/// How long the relay's connections may take to end.
const RELAY_DRAIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Serve) -> Result<(), Failure> {
    let (source, relay) = args.browser.source().unzip();
    let add = |mut api: ApiService| {
        if let Some(options) = source {
            api = api.with_source(CdpSource::new(options, Handle::current()));
        }
        if let Some(path) = args.kernel_log {
            api = api.with_source(KernelLog::new(path));
        }
        api
    };
    serve(args.server, add, relay.flatten(), args.start, |_| {
        String::new()
    })
    .await
}

/// Serves until a signal comes. `welcome` is printed below the line that tells the address.
pub(crate) async fn serve(
    args: Server,
    add_sources: impl FnOnce(ApiService) -> ApiService,
    relay: Option<(SocketAddr, RelayOptions)>,
    start: bool,
    welcome: impl FnOnce(&str) -> String,
) -> Result<(), Failure> {
    start_log(&args.log)?;
    let retention = Retention {
        events: args.capacity,
        bytes: args.capacity_bytes as u64,
    };
    let stream = EventStream::new(retention)
        .map_err(|error| Failure::Usage(format!("--capacity {}: {error}", args.capacity)))?;
    let options = options(args.access, &args.streams, &args.limits)?;
    check(args.listen, &options)?;
    let listener = listen(args.listen)?;
    let address = listener.local_addr().map_err(|source| Failure::Listen {
        address: args.listen,
        source,
    })?;
    // From here on a signal means stopping in good order.
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;
    reload::start(options.access.clone()).map_err(Failure::Runtime)?;

    let api = Arc::new(add_sources(ApiService::new(TelemetrySession::new(stream))));
    if start {
        api.put(&ConfigRequest::default())
            .await
            .map_err(Failure::Session)?;
    }
    let (relayed, stop): (_, Pin<Box<dyn Future<Output = ()> + Send>>) = match relay {
        None => (String::new(), Box::pin(stop)),
        Some((address, relay)) => {
            let access = options.access.clone();
            let relay = Relay::bind(address, RelayOptions { access, ..relay }, api.publisher())
                .await
                .map_err(Failure::Relay)?;
            let line = format!("relaying DevTools on http://{}\n", relay.local_addr());
            let deadline = async move {
                stop.await;
                Instant::now() + RELAY_DRAIN
            };
            // The relay ends first, so that streams carry the ends of its clients.
            (line, Box::pin(relay.run(deadline)))
        }
    };
    let scheme = if options.access.has_tls() {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{address}");
    // The socket takes connections already: they wait for the few steps until they are answered.
    let mut out = io::stdout();
    write!(out, "listening on {url}\n{relayed}{}", welcome(&url))
        .and_then(|()| out.flush())
        .map_err(Failure::Output)?;
    let served = tapline_server::serve(listener, api.clone(), options, stop).await;
    // A browser that is not detached would keep running our script in its pages.
    api.shutdown(Instant::now() + STOP_SOURCES_WITHIN).await;
    served.map_err(Failure::Serve)
}

pub(crate) fn start_log(filter: &str) -> Result<(), Failure> {
    let filter: Targets = filter
        .parse()
        .map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    Ok(())
}

/// What the flags say of who may, and of how much.
fn options(access: Access, streams: &Streams, limits: &Limits) -> Result<Options, Failure> {
    let config = AccessConfig {
        token: token::source(access.token_file.as_deref())?,
        allow_origins: access.allow_origin,
        hosts: access.host,
        allow_file: access.allow_file,
        tls: match (access.tls_cert, access.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            _ => None,
        },
    };
    let access = Arc::new(config.load()?);
    let mut limits = tapline_server::Limits {
        body_bytes: limits.max_body,
        body_time: limits.body_timeout,
        header_bytes: limits.max_headers,
        header_time: limits.header_timeout,
        idle: limits.idle_timeout,
        stall: streams.stall_timeout,
        connections: limits.max_connections,
        connections_per_address: limits.max_connections_per_address,
        streams: limits.max_streams,
        stream_bytes: streams.stream_buffer,
        requests: limits.max_requests_per_connection as u64,
    };
    files::make_room(&mut limits);
    Ok(Options {
        limits,
        drain: streams.drain,
        reconnect_window: streams.reconnect_window,
        compress: streams.compress,
        access,
        ..Options::default()
    })
}

/// Whether it may be listened there: whoever reaches a server without a token may do everything.
fn check(address: SocketAddr, options: &Options) -> Result<(), Failure> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if !options.access.has_token() {
        return Err(Failure::Usage(format!(
            "--listen {address}: anybody who reaches the server may read and publish: set a token \
             with --token-file, or listen on a loopback address such as 127.0.0.1"
        )));
    }
    if !options.access.has_tls() {
        tracing::warn!(
            "listening on {address} without TLS: the token and all events can be read on their way; \
             --tls-cert and --tls-key hide them"
        );
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    /// How many connections may wait to be taken. All of them come back at once after a restart; the
    /// system has a bound of its own, `net.core.somaxconn`, 4,096 by default.
    const BACKLOG: u32 = 4096;
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // Or a restart would have to wait until the last connections are forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| Failure::Listen { address, source })
}
