//! `tapline serve`, and what `tapline demo` shares with it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_access::{AccessConfig, TlsFiles};
use tapline_api::{ApiService, MemoryHistory};
use tapline_cdp::CdpSource;
use tapline_events::{CapacityError, EventStream, Retention};
use tapline_nats::Presence;
use tapline_oapi::ConfigRequest;
use tapline_relay::{Relay, RelayOptions};
use tapline_server::{Options, Shutdown};
use tapline_sources::KernelLog;
use tapline_telemetry::TelemetrySession;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::browser::Source;
use crate::args::{Access, Limits, Serve, Server, Streams};
use crate::failure::Failure;
use crate::output::print;
use crate::reload::{self, RedactionFile};
use crate::{files, signals, sinks, token};

pub(crate) async fn run(args: Serve) -> Result<(), Failure> {
    let browser = args.browser.source()?;
    let (source, relay, redaction) = match browser {
        None => (None, None, None),
        Some(Source {
            options,
            relay,
            redaction,
        }) => (Some(options), relay, redaction),
    };
    let has_source = source.is_some() || args.kernel_log.is_some();
    let setup = Setup {
        sources: Box::new(|mut api: ApiService| {
            if let Some(options) = source {
                api = api.with_source(CdpSource::new(options, Handle::current()));
            }
            if let Some(path) = args.kernel_log {
                api = api.with_source(KernelLog::new(path));
            }
            api
        }),
        relay,
        redaction,
        start: args.start,
    };
    serve(args.server, setup, |url| match has_source && !args.start {
        true => format!(
            "nothing is captured before a session starts: restart with --start, or run\n  \
             tapline start --url {url}\n"
        ),
        false => String::new(),
    })
    .await
}

/// What a server has besides its flags.
pub(crate) struct Setup {
    /// Adds the sources of events.
    pub(crate) sources: Box<dyn FnOnce(ApiService) -> ApiService>,
    /// Where the relay for DevTools clients listens.
    pub(crate) relay: Option<(SocketAddr, RelayOptions)>,
    /// More redaction rules, which can change.
    pub(crate) redaction: Option<RedactionFile>,
    /// Whether a session starts at once.
    pub(crate) start: bool,
}

impl Setup {
    /// With one source, and a session from the beginning.
    pub(crate) fn started(source: impl tapline_api::Source) -> Self {
        Self {
            sources: Box::new(|api| api.with_source(source)),
            relay: None,
            redaction: None,
            start: true,
        }
    }
}

/// Serves until a signal comes. `welcome` is printed below the line with the address.
pub(crate) async fn serve(
    args: Server,
    setup: Setup,
    welcome: impl FnOnce(&str) -> String,
) -> Result<(), Failure> {
    start_log(&args.listen.log)?;
    let retention = Retention {
        events: args.capacity,
        bytes: args.capacity_bytes as u64,
        category_log: args.category_log,
    };
    let stream = EventStream::new(retention).map_err(|error| {
        let flag = match error {
            CapacityError::LogTooLarge(_) => "category-log",
            _ => "capacity",
        };
        Failure::Usage(format!("--{flag}: {error}"))
    })?;
    let options = options(args.access, None, &args.streams, &args.limits)?;
    let (listener, url) = listen(args.listen.listen, &options)?;
    // From here on a signal starts a graceful shutdown.
    let signal = signals::stop_requested().map_err(Failure::Runtime)?;
    reload::spawn(options.access.clone(), setup.redaction).map_err(Failure::Runtime)?;

    let memory = MemoryHistory::new(stream.clone());
    let session = TelemetrySession::new(stream);
    let instance = args.nats.instance()?;
    let api = sinks::add(
        ApiService::new(session),
        args.archive,
        args.otlp,
        args.nats,
        args.dumps,
        memory,
    )
    .await?;
    let api = Arc::new((setup.sources)(api));
    let (leave, leaves) = oneshot::channel::<()>();
    let presence = instance.map(|(nats, name)| {
        let presence = Presence::new(nats, name, api.clone());
        tokio::spawn(presence.run(async {
            let _ = leaves.await;
        }))
    });
    if setup.start {
        api.put(&ConfigRequest::default())
            .await
            .map_err(Failure::Session)?;
    }
    let (end_relay, relay_ends) = oneshot::channel();
    let (relay, relay_line) = match setup.relay {
        None => (None, String::new()),
        Some((address, relay)) => {
            let access = options.access.clone();
            let relay = Relay::bind(address, RelayOptions { access, ..relay }, api.publisher())
                .await
                .map_err(Failure::Relay)?;
            let line = format!("relaying DevTools on http://{}\n", relay.local_addr());
            let ends = async { relay_ends.await.unwrap_or_else(|_| Instant::now()) };
            (Some(tokio::spawn(relay.run(ends))), line)
        }
    };
    // The socket accepts connections already: they wait for the few steps until they are answered.
    print(&format!(
        "listening on {url}\n{relay_line}{}",
        welcome(&url)
    ))?;

    let budget = Budget(args.listen.shutdown_timeout);
    let producers = api.clone();
    let (sinks_end, sinks_have_ended) = oneshot::channel();
    let shutdown = async move {
        signal.await;
        let begin = Instant::now();
        let end = begin + budget.whole();
        Shutdown::by(end).after(async move {
            if let Some(relay) = relay {
                // An error says that the relay has ended.
                let _ = end_relay.send(begin + budget.of_relay());
                let _ = relay.await;
            }
            producers.shutdown(begin + budget.of_sources()).await;
            // Nothing is published any more. Sinks end while streams get what is left.
            tokio::spawn(async move {
                producers.shutdown_sinks(end).await;
                let _ = leave.send(());
                if let Some(presence) = presence {
                    let _ = tokio::time::timeout_at(end.into(), presence).await;
                }
                let _ = sinks_end.send(());
            });
        })
    };
    let served = tapline_server::serve(listener, api, options, shutdown).await;
    // An error says that the shutdown has not begun.
    let _ = sinks_have_ended.await;
    served.map_err(Failure::Serve)
}

/// How the time for a shutdown is divided, counted from the signal. A part that ends early leaves the rest to
/// those after it, and one that hangs takes nothing from them.
#[derive(Clone, Copy)]
struct Budget(Duration);

impl Budget {
    /// The relay is first: it publishes how its clients ended, and for that the session has to run.
    fn of_relay(self) -> Duration {
        self.0 / 4
    }

    /// The session and its sources.
    fn of_sources(self) -> Duration {
        self.0 / 2
    }

    /// Streams and sinks get what is left.
    fn whole(self) -> Duration {
        self.0
    }
}

pub(crate) fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = log_filter(filter)
        .map_err(|problem| Failure::Usage(format!("--log {filter}: {problem}")))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    Ok(())
}

/// A level, or a level for each of several modules: `warn,tapline_server=debug`.
fn log_filter(filter: &str) -> Result<Targets, String> {
    // A word that is no level is the name of a module to `Targets`, and then the rest of the log is off.
    for part in filter.split(',').filter(|part| !part.contains('=')) {
        if part.trim().is_empty() || part.trim().parse::<LevelFilter>().is_err() {
            return Err(format!(
                "`{part}` is no level; write off, error, warn, info, debug or trace, and for a module \
                 MODULE=LEVEL, such as warn,tapline_server=debug"
            ));
        }
    }
    let targets: Targets = filter
        .parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())?;
    // The client of NATS logs each attempt to connect. What matters of it, the sink logs.
    let is_noise =
        !filter.contains("async_nats") && targets.default_level() <= Some(LevelFilter::INFO);
    Ok(match is_noise {
        true => targets.with_target("async_nats", LevelFilter::OFF),
        false => targets,
    })
}

/// The access rules and limits that the flags describe.
pub(crate) fn options(
    access: Access,
    instance_tokens: Option<PathBuf>,
    streams: &Streams,
    limits: &Limits,
) -> Result<Options, Failure> {
    let config = AccessConfig {
        token: token::source(access.token_file.as_deref())?,
        instance_tokens,
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
        body_total_time: limits.body_total_timeout,
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
    files::fit_limits(&mut limits);
    Ok(Options {
        limits,
        reconnect_window: streams.reconnect_window,
        compress: streams.compress,
        access,
        ..Options::default()
    })
}

/// Refuses an address other than loopback without a token: every client that reaches the server could
/// do everything.
fn check(address: SocketAddr, options: &Options) -> Result<(), Failure> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if !options.access.has_token() {
        return Err(Failure::Usage(format!(
            "--listen {address}: every client that reaches this address could read and publish; set a \
             token with --token-file, or listen on a loopback address such as 127.0.0.1"
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

/// Listens, unless every client that reaches the address could do everything. Returns the URL, too.
pub(crate) fn listen(
    address: SocketAddr,
    options: &Options,
) -> Result<(TcpListener, String), Failure> {
    check(address, options)?;
    let failed = |source| Failure::Listen { address, source };
    let listener = bind(address).map_err(failed)?;
    let scheme = match options.access.has_tls() {
        true => "https",
        false => "http",
    };
    let url = format!("{scheme}://{}", listener.local_addr().map_err(failed)?);
    Ok((listener, url))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    /// How many connections may wait to be accepted. After a restart all clients reconnect at once. The
    /// system has a limit of its own, `net.core.somaxconn`, 4,096 by default.
    const BACKLOG: u32 = 4096;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Or a restart would have to wait until the last connections are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
