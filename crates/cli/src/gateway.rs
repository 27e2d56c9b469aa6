//! `tapline gateway`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::Retention;
use tapline_nats::{GATEWAY_RETENTION, NatsError, NatsFleet, NatsOptions};
use tapline_server::Shutdown;
use tokio::time::sleep;

use crate::args::Gateway;
use crate::failure::{Failure, chain};
use crate::output::print;
use crate::{reload, serve, signals};

/// The pause before another attempt to connect.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Gateway) -> Result<(), Failure> {
    serve::start_log(&args.listen.log)?;
    let nats = args.connection.options(&args.nats)?;
    let retention = Retention {
        events: args.capacity,
        bytes: args.capacity_bytes as u64,
        ..GATEWAY_RETENTION
    };
    let options = serve::options(
        args.access,
        args.instance_tokens,
        &args.streams,
        &args.limits,
    )?;
    let (listener, url) = serve::listen(args.listen.listen, &options)?;
    // From here on a signal starts a graceful shutdown.
    let signal = signals::stop_requested().map_err(Failure::Runtime)?;
    let mut signal = Box::pin(signal);
    reload::spawn(options.access.clone(), None).map_err(Failure::Runtime)?;
    let fleet = tokio::select! {
        fleet = connect(&nats, retention) => Arc::new(fleet?),
        () = &mut signal => return Ok(()),
    };
    print(&format!("listening on {url}\n"))?;
    let budget = args.listen.shutdown_timeout;
    let shutdown = async move {
        signal.await;
        Shutdown::by(Instant::now() + budget)
    };
    let served = tapline_server::serve_fleet(listener, fleet, options, shutdown).await;
    served.map_err(Failure::Serve)
}

/// Connects, for as long as a later attempt may succeed: the servers or the first instance may start after this program.
async fn connect(nats: &NatsOptions, retention: Retention) -> Result<NatsFleet, NatsError> {
    let mut said = String::new();
    loop {
        let error = match NatsFleet::open(nats, retention).await {
            Ok(fleet) => return Ok(fleet),
            Err(error) if error.is_temporary() => error,
            Err(error) => return Err(error),
        };
        // Once for each reason.
        let reason = chain(&error);
        if reason != said {
            tracing::warn!("{reason}; trying again every second");
            said = reason;
        }
        sleep(PAUSE).await;
    }
}
