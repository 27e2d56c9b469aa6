//! The sink: reads, batches, sends, retries, and settles what became of each event.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use tapline_access::{TlsConnector, client_tls};
use tapline_api::{
    Backoff, BoxFuture, Progress, ReadLimit, Sink, SinkError, SinkItem, SinkReader, StopSignal,
};
use tapline_oapi::Epoch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::Verdict;
use crate::batch::{Batch, Frame};
use crate::headers;
use crate::options::{OtlpError, OtlpOptions};
use crate::record::{Mapping, Stamps};
use crate::send::{Sender, Signal, gzip};
use crate::span_sender::SpanSender;
use crate::spans::Spans;

/// What is mapped without a break: about a millisecond of work.
const SLICE: ReadLimit = ReadLimit {
    events: 128,
    bytes: 256 * 1024,
};

/// The longest pause of the back-off while the sink is being stopped.
const PAUSE_WHEN_STOPPING: Duration = Duration::from_millis(200);

/// Spans are not sent any more when the deadline of a stop is as near as this.
const BEFORE_DEADLINE: Duration = Duration::from_millis(250);

/// How often the same error is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Exports the stream to an OpenTelemetry collector, as OTLP logs over HTTP.
///
/// Needs a tokio runtime with timers and sockets.
///
/// # Lagging
///
/// While the endpoint does not accept anything, what was read is kept and sent again, and everything after it
/// waits in the ring. What the ring evicts is exported as a record `tapline.gap`, and counted as lost. Producers
/// never wait.
///
/// # Delivery
///
/// In order. An event is sent again only where there was no answer or one that asks for it, so that it may arrive
/// twice where an answer was lost on its way, and in no other case.
#[derive(Debug)]
pub struct OtlpSink {
    options: OtlpOptions,
    tls: Option<Tls>,
    headers: HeaderMap,
}

/// Without a `Debug` of its own.
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl OtlpSink {
    /// Reads the headers file and the certificates, and connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`OtlpError`] where one of the files cannot be used, or an option is out of its range.
    pub fn new(options: OtlpOptions) -> Result<Self, OtlpError> {
        options.check()?;
        let headers = match &options.headers_file {
            Some(path) => headers::read(path)?,
            None => HeaderMap::new(),
        };
        let tls = match options.endpoint.is_https {
            true => Some(client_tls(options.ca_file.as_deref()).map_err(OtlpError::Tls)?),
            false => None,
        };
        Ok(Self {
            options,
            tls: tls.map(Tls),
            headers,
        })
    }

    /// What requests are sent with: the attributes of the resource and the scope.
    fn frame(&self, epoch: Epoch) -> Frame {
        let epoch = epoch.to_string();
        let defaults = [
            ("service.name", "tapline"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", &*epoch),
        ];
        let given = &self.options.resource;
        let is_given = |key: &str| given.iter().any(|(name, _)| name == key);
        let defaults = defaults.into_iter().filter(|(key, _)| !is_given(key));
        // The last one of a name counts.
        let given = given
            .iter()
            .enumerate()
            .filter(|(n, (key, _))| given[n + 1..].iter().all(|(later, _)| later != key));
        let given = given.map(|(_, (key, value))| (&**key, &**value));
        Frame::new(defaults.chain(given))
    }
}

impl Sink for OtlpSink {
    fn name(&self) -> &str {
        "otlp"
    }

    fn run(&self, reader: SinkReader, stop: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        let options = &self.options;
        let tls = self.tls.as_ref().map(|tls| tls.0.clone());
        let frame = Arc::new(self.frame(reader.epoch()));
        let max_bytes = options.max_bytes - frame.overhead();
        let mut exporter = Exporter {
            max_bytes,
            frame: frame.clone(),
            mapping: Mapping {
                epoch: reader.epoch().to_string(),
            },
            sender: Sender::new(options, tls.clone(), self.headers.clone()),
            backoff: Backoff::new(options.first_pause, options.last_pause),
            spans: None,
            report: Report::new(reader.progress(), options.url()),
            progress: reader.progress(),
            options,
            stop,
        };
        Box::pin(async move {
            if options.spans {
                let (spans, waiting) = Spans::new(reader.epoch(), reader.progress());
                let sender = SpanSender {
                    waiting,
                    frame,
                    sender: Sender::new(options, tls, self.headers.clone()),
                    backoff: Backoff::new(options.first_pause, options.last_pause),
                    report: Report::new(reader.progress(), options.traces_url()),
                    compress: options.compress,
                    max_spans: options.max_records,
                    max_bytes,
                    stop: exporter.stop.clone(),
                };
                let mut sending = JoinSet::new();
                sending.spawn(sender.run());
                exporter.spans = Some((spans, sending));
            }
            exporter.run(reader).await
        })
    }
}

/// One run of the sink.
struct Exporter<'a> {
    options: &'a OtlpOptions,
    frame: Arc<Frame>,
    mapping: Mapping,
    sender: Sender,
    backoff: Backoff,
    /// What makes them, and the task that sends them, so that logs do not wait for them.
    spans: Option<(Spans, JoinSet<()>)>,
    progress: Progress,
    report: Report,
    stop: StopSignal,
    /// The most bytes of the records of a request. Gets smaller where the endpoint says that a request is too large.
    max_bytes: usize,
}

impl Exporter<'_> {
    async fn run(mut self, mut reader: SinkReader) -> Result<(), SinkError> {
        while let Some(batch) = self.collect(&mut reader).await {
            self.deliver(&batch).await?;
            if let Some((spans, _)) = &mut self.spans {
                spans.make();
            }
        }
        self.finish_spans().await;
        Ok(())
    }

    /// What is there, and what comes within the linger time: nothing, where spans may be due.
    /// `None` once the reader has ended.
    async fn collect(&mut self, reader: &mut SinkReader) -> Option<Batch> {
        let mut batch = Batch::default();
        let look = self.spans.as_ref().and_then(|(spans, _)| spans.next_look());
        let reading = reader.read(self.slice(&batch));
        let items = match look {
            None => reading.await?,
            Some(look) => match timeout_at(look, reading).await {
                Ok(items) => items?,
                Err(_) => return Some(batch),
            },
        };
        self.add(&mut batch, items);
        let until = Instant::now() + self.options.linger;
        while batch.len() < self.options.max_records && batch.bytes() < self.max_bytes {
            match timeout_at(until, reader.read(self.slice(&batch))).await {
                Ok(Some(items)) => self.add(&mut batch, items),
                // The end of the reader is there for the next call, too.
                Ok(None) | Err(_) => break,
            }
            tokio::task::yield_now().await;
        }
        Some(batch)
    }

    /// What to read next.
    fn slice(&self, batch: &Batch) -> ReadLimit {
        let left = self.options.max_records - batch.len();
        ReadLimit {
            events: SLICE.events.min(left),
            ..SLICE
        }
    }

    fn add(&mut self, batch: &mut Batch, items: Vec<SinkItem>) {
        let observed = SystemTime::now().duration_since(UNIX_EPOCH);
        let observed = observed.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        let max_bytes = self.options.max_bytes - self.frame.overhead();
        for item in items {
            match item {
                SinkItem::Gap(lost) => {
                    batch.gap(|out| self.mapping.gap(out, lost.first, lost.last, observed));
                    if let Some((spans, _)) = &mut self.spans {
                        spans.lost(lost.first, lost.last);
                    }
                }
                SinkItem::Event(envelope) => {
                    let event = envelope.event();
                    if !self.options.categories.contains(event.category) {
                        batch.excluded();
                        continue;
                    }
                    let stamps = Stamps {
                        seq: envelope.seq(),
                        ts: envelope.ts(),
                        session: envelope.stamp().session().map(|session| &*session.id),
                        observed,
                    };
                    // The key and the length of the record come before it.
                    let most = max_bytes - 8;
                    batch.event(|out| self.mapping.event(out, event, stamps, most));
                    if let Some((spans, _)) = &mut self.spans {
                        spans.event(stamps, event);
                    }
                }
            }
        }
    }

    /// Sends the batch in as many requests as it needs, and settles all of it.
    async fn deliver(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut left = 0..batch.len();
        while !left.is_empty() {
            let part = batch.first_part(left.clone(), self.options.max_records, self.max_bytes);
            let mut parts = vec![part.clone()];
            while let Some(part) = parts.pop() {
                let records = batch.records_in(part.clone());
                let rejected = match records {
                    0 => Some(0),
                    _ => self.send(batch, part.clone(), records).await,
                };
                match (rejected, batch.halves(part.clone())) {
                    (Some(rejected), _) => batch.settle(part, rejected, &self.progress)?,
                    (None, Some([first, second])) => parts.extend([second, first]),
                    (None, None) => batch.settle(part, records, &self.progress)?,
                }
            }
            left.start = part.end;
        }
        Ok(())
    }

    /// Sends these items, again and again where that may help. Gives how many records were rejected; `None` where
    /// they are too many or too large for one request.
    async fn send(&mut self, batch: &Batch, items: Range<usize>, records: usize) -> Option<usize> {
        let request = batch.request(&self.frame, items);
        let size = request.len();
        let (body, is_gzip) = body(request, self.options.compress).await;
        loop {
            if let Err(error) = self.sender.reload_headers().await {
                self.report.error(&error);
            }
            let answer = self.sender.post(Signal::Logs, body.clone(), is_gzip).await;
            let pause = match answer {
                Err(fault) => {
                    self.report.error(&fault);
                    self.backoff.next()
                }
                Ok(answer) => match answer.verdict(records) {
                    Verdict::Accepted { rejected, warning } => {
                        self.backoff.reset();
                        match warning {
                            Some(warning) => self.report.error(&warning),
                            None => self.report.success(),
                        }
                        return Some(usize::try_from(rejected).unwrap_or(records));
                    }
                    Verdict::TooLarge(refusal) => {
                        self.report.error(&refusal);
                        if records == 1 {
                            return None;
                        }
                        self.max_bytes = self.max_bytes.min(size / 2);
                        return None;
                    }
                    Verdict::Retry { after, refusal } => {
                        self.report.error(&refusal);
                        let pause = self.backoff.next();
                        match after {
                            // On top of what is asked for, so that not all clients come back at the same moment.
                            Some(after) => {
                                sleep(after + pause).await;
                                continue;
                            }
                            None => pause,
                        }
                    }
                    Verdict::Unauthorized(refusal) => {
                        self.report.error(&refusal);
                        // The token was replaced while the request was on its way.
                        if self.sender.reload_headers().await.unwrap_or(false) {
                            continue;
                        }
                        return Some(records);
                    }
                    Verdict::Rejected(refusal) => {
                        self.report.error(&refusal);
                        return Some(records);
                    }
                },
            };
            wait(pause, &self.stop).await;
        }
    }

    /// Makes the spans of what is left, and waits until all are sent, or until shortly before the deadline. The rest
    /// fails.
    async fn finish_spans(&mut self) {
        let Some((mut spans, mut sending)) = self.spans.take() else {
            return;
        };
        spans.make_all();
        drop(spans);
        let deadline = Instant::from_std(self.stop.stopped().await);
        let until = deadline.checked_sub(BEFORE_DEADLINE).unwrap_or(deadline);
        let _ = timeout_at(until, sending.join_next()).await;
    }
}

/// What is sent, and whether it is compressed.
pub(crate) async fn body(request: Bytes, compress: bool) -> (Bytes, bool) {
    if !compress {
        return (request, false);
    }
    match gzip(request.clone()).await {
        Ok(body) => (body, true),
        // Only a runtime that shuts down does not compress.
        Err(_) => (request, false),
    }
}

/// Waits, but not long once the sink is being stopped: until the deadline, there should be attempts.
pub(crate) async fn wait(pause: Duration, stop: &StopSignal) {
    if timeout(pause, stop.stopped()).await.is_ok() {
        sleep(pause.min(PAUSE_WHEN_STOPPING)).await;
    }
}

/// Shows errors to people: each in the status of the sink, and in the log where it is another one than before.
pub(crate) struct Report {
    progress: Progress,
    url: String,
    last: Option<(String, Instant)>,
}

impl Report {
    pub(crate) fn new(progress: Progress, url: String) -> Self {
        Self {
            progress,
            url,
            last: None,
        }
    }

    pub(crate) fn error(&mut self, error: &dyn Error) {
        let text = with_sources(error);
        self.progress.report(&text);
        let now = Instant::now();
        let is_known = |(last, at): &(String, Instant)| *last == text && now < *at + LOG_AGAIN;
        if self.last.as_ref().is_some_and(is_known) {
            tracing::debug!(sink = "otlp", url = self.url, error = text);
        } else {
            tracing::warn!(
                sink = "otlp",
                url = self.url,
                error = text,
                "the export failed"
            );
            self.last = Some((text, now));
        }
    }

    pub(crate) fn success(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(sink = "otlp", url = self.url, "the export works again");
        }
    }
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
