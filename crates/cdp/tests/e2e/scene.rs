//! A session with a browser as its source, and a reader of it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapline_api::ApiService;
use tapline_cdp::{CdpSource, SourceOptions};
use tapline_events::{EventStream, Item, Retention};
use tapline_oapi::{ConfigRequest, Event, from_json};
use tapline_telemetry::{Reader, TelemetrySession};
use tokio::runtime::Handle;

use crate::browser::{Browser, chromium, free_port};
use crate::control::Control;
use crate::site::Site;

/// Longer than anything here takes. It ends a test that hangs and is no promise of speed: on a machine with a third of the
/// usual speed a hundred thousand lines took 43 s and two hundred tabs more than 40 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) struct Scene {
    pub(crate) chromium: PathBuf,
    pub(crate) port: u16,
    pub(crate) site: Site,
    pub(crate) api: Arc<ApiService>,
    reader: Reader,
    /// Everything that was read.
    pub(crate) seen: Vec<Event>,
    /// How many events the reader was too slow for.
    pub(crate) missed: u64,
}

impl Scene {
    /// Nothing runs yet. None where there is no browser.
    pub(crate) async fn set() -> Option<Self> {
        Self::set_with(|_| {}).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(&mut SourceOptions)) -> Option<Self> {
        let chromium = chromium()?;
        let port = free_port();
        let mut options = SourceOptions::new(format!("http://localhost:{port}").parse().unwrap());
        change(&mut options);
        let source = CdpSource::new(options, Handle::current());
        let retention = Retention {
            events: 1 << 18,
            bytes: 1 << 30,
            ..Retention::default()
        };
        let session = TelemetrySession::new(EventStream::new(retention).unwrap());
        let reader = session.new_reader(0);
        Some(Self {
            chromium,
            port,
            site: Site::start().await,
            api: Arc::new(ApiService::new(session).with_source(source)),
            reader,
            seen: Vec::new(),
            missed: 0,
        })
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::start(&self.chromium, self.port)
    }

    /// With everything captured, a browser, and a client that drives it.
    pub(crate) async fn play(&mut self) -> (Browser, Control) {
        self.capture(None).await;
        let browser = self.browser();
        let control = Control::open(self.port).await;
        // The tab that it begins with: from then on the source is there.
        self.until("the first tab", |event| is(event, "page_tab_opened"))
            .await;
        (browser, control)
    }

    /// These categories, or all of them.
    pub(crate) async fn capture(&self, categories: Option<&[&str]>) {
        let request = match categories {
            None => json!({}),
            Some(names) => {
                let names = names.iter();
                let enabled = names.map(|name| ((*name).to_owned(), json!({"enabled": true})));
                json!({"browser": enabled.collect::<serde_json::Map<_, _>>()})
            }
        };
        let request: ConfigRequest = from_json(request.to_string().as_bytes()).unwrap();
        self.api.put(&request).await.unwrap();
    }

    fn read(&mut self) {
        let (seen, missed) = (&mut self.seen, &mut self.missed);
        while 0
            != self.reader.read(256, |item| {
                match item {
                    Item::Envelope(envelope) => seen.push(envelope.event().clone()),
                    Item::Lost(lost) => *missed += lost.count(),
                }
                ControlFlow::Continue(())
            })
        {}
    }

    /// Reads on until an event is that; from the beginning, where it has been read before.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        self.nth(what, 1, is).await
    }

    /// Reads on until `n` events are that, and gives the last of them.
    pub(crate) async fn nth(&mut self, what: &str, n: usize, is: impl Fn(&Event) -> bool) -> Event {
        let started = Instant::now();
        let (mut looked_at, mut found) = (0, 0);
        loop {
            self.read();
            for event in &self.seen[looked_at..] {
                looked_at += 1;
                found += usize::from(is(event));
                if found == n {
                    return event.clone();
                }
            }
            assert!(
                started.elapsed() < DEADLINE,
                "{found} of {n}: {what}; seen are {:#?}",
                self.seen
                    .iter()
                    .rev()
                    .take(50)
                    .map(text)
                    .collect::<Vec<_>>(),
            );
            let waiting = tokio::time::timeout(
                Duration::from_millis(50),
                std::future::poll_fn(|cx| self.reader.poll_until(cx, |_, _| false)),
            );
            let _ = waiting.await;
        }
    }

    /// All events of a type so far.
    pub(crate) fn all(&mut self, event_type: &str) -> Vec<Value> {
        self.read();
        let of_type = self.seen.iter().filter(|event| is(event, event_type));
        of_type.map(data).collect()
    }

    /// Waits until lines that are logged in the tab arrive: before that, the browser may replace the tab's
    /// process while domains are being enabled in it.
    pub(crate) async fn follows(&mut self, control: &mut Control, session: &str) {
        let is_there = |event: &Event| is(event, "console_log") && data(event)["text"] == "there?";
        self.read();
        while !self.seen.iter().any(is_there) {
            control.evaluate(session, "console.log('there?')").await;
            self.read();
        }
    }

    /// A line that a page logs.
    pub(crate) async fn logged(&mut self, line: &str) -> Event {
        self.until(line, |event| {
            is(event, "console_log") && data(event)["text"] == line
        })
        .await
    }
}

pub(crate) fn is(event: &Event, event_type: &str) -> bool {
    event.event_type.as_str() == event_type
}

pub(crate) fn data(event: &Event) -> Value {
    let data = event.data.as_ref().expect("nothing here is cut");
    serde_json::from_str(data.get()).unwrap()
}

/// As it goes over the wire.
pub(crate) fn text(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}
