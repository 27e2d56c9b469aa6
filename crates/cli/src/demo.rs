//! `tapline demo`: a server with a browser that visits a small shop; where there is no browser, with a
//! recorded session that happens again and again.

use std::path::Path;
use std::time::Duration;

use tapline_cdp::{CdpSource, Options, SourceOptions};
use tapline_oapi::{Event, PublishRequest, from_json};
use tokio::runtime::Handle;

use crate::args::{Demo, Server};
use crate::chromium::{self, Chromium};
use crate::failure::Failure;
use crate::player::{Pace, Player};
use crate::serve::{self, Setup};
use crate::site;

/// One publish request a line, in the order of their `ts`. Recorded with Chromium: a small shop with
/// errors, a redirect, a worker, a popup and a crash, then a large web application.
const RECORDING: &str = include_str!("../data/browser-events.ndjson");

/// From the last event to the first one of the next round.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Demo) -> Result<(), Failure> {
    if let Some(speed) = args.speed {
        return recorded(args.server, speed, "").await;
    }
    if let Some(program) = &args.browser {
        let chromium = start(program).await?;
        return live(args.server, &chromium).await;
    }
    let why = match chromium::find() {
        None => format!(
            "none of {} is on the search path",
            chromium::NAMES.join(", ")
        ),
        Some(program) => match start(&program).await {
            Ok(chromium) => return live(args.server, &chromium).await,
            Err(failure) => crate::failure::chain(&failure),
        },
    };
    let why = format!("no browser ({why}), so this shows a recording; --browser PATH starts one\n");
    recorded(args.server, 1.0, &why).await
}

async fn start(program: &Path) -> Result<Chromium, Failure> {
    let started = async {
        let page = site::serve().await?;
        Chromium::start(program, &page).await
    };
    started.await.map_err(|source| Failure::Start {
        program: program.to_owned(),
        source,
    })
}

async fn live(server: Server, chromium: &Chromium) -> Result<(), Failure> {
    let endpoint = chromium.endpoint();
    let options = SourceOptions {
        core: Options::default(),
        ..SourceOptions::new(endpoint.parse().expect("an address with a port is one"))
    };
    let source = CdpSource::new(options, Handle::current());
    serve::serve(server, Setup::started(source), |url| {
        let what = format!("a browser visits a small shop, its DevTools are at {endpoint}");
        welcome(&what, url)
    })
    .await
}

/// `why` says why there is no browser, where one was wanted.
async fn recorded(server: Server, speed: f64, why: &str) -> Result<(), Failure> {
    let pause = PAUSE.div_f64(speed);
    let player = Player::new(
        recording,
        Pace::Times(speed),
        Some(pause),
        Handle::current(),
    );
    serve::serve(server, Setup::started(player), |url| {
        let what = format!(
            "{why}replaying {events} events of a browser, again every {seconds:.0} s",
            events = RECORDING.lines().count(),
            seconds = (recording_length() + PAUSE).as_secs_f64() / speed,
        );
        welcome(&what, url)
    })
    .await
}

fn welcome(what: &str, url: &str) -> String {
    format!(
        "{what}\n\nopen {url}/ in a browser, or try:\n  \
         tapline tail --url {url}\n  \
         tapline why --url {url}\n  \
         curl -N {url}/telemetry/stream\n  \
         curl -N '{url}/telemetry/stream?replay=all&category=console&notices=true'\n  \
         curl '{url}/telemetry/events?type=page_*&limit=3'\n"
    )
}

fn recording() -> impl Iterator<Item = Event> + Send {
    let event = |line: &str| {
        let request: PublishRequest = from_json(line.as_bytes()).ok()?;
        Event::try_from(request).ok()
    };
    // A test reads every line, so none is left out.
    RECORDING.lines().filter_map(event)
}

fn recording_length() -> Duration {
    let first = recording().next().map_or(0, |event| event.ts);
    let last = recording().last().map_or(0, |event| event.ts);
    Duration::from_micros(last - first)
}

#[cfg(test)]
mod tests {
    use tapline_api::{ApiService, PutAnswer};
    use tapline_events::{EventStream, Retention};
    use tapline_oapi::ConfigRequest;
    use tapline_telemetry::TelemetrySession;

    use super::*;

    #[test]
    fn every_line_of_the_recording_is_an_event_in_order() {
        let events: Vec<_> = recording().collect();
        assert_eq!(events.len(), RECORDING.lines().count());
        assert!(events.is_sorted_by_key(|event| event.ts));
        assert_eq!(recording_length().as_secs(), 42);
    }

    #[tokio::test(start_paused = true)]
    async fn replays_while_a_session_is_on() {
        let session = TelemetrySession::new(EventStream::new(Retention::default()).unwrap());
        let pace = Pace::Times(2.0);
        let replay = Player::new(recording, pace, Some(PAUSE / 2), Handle::current());
        let api = ApiService::new(session).with_source(replay);
        let seq = || api.state().unwrap().seq;
        let events = recording().count() as u64;

        api.put(&ConfigRequest::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(21_400)).await;
        assert_eq!(seq(), events, "one round takes 21.2 s at twice the pace");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(events < seq(), "the next round follows");

        let stopped = api.delete().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let later = api.put(&ConfigRequest::default()).await.unwrap();
        let PutAnswer::Started(later) = later else {
            panic!("{later:?}")
        };
        assert_eq!(
            later.session_start_seq,
            Some(stopped.seq),
            "nothing was published without a session"
        );
    }
}
