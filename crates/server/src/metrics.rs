//! The metrics of the server, as `/metrics` shows them: [`Metrics`].
//!
//! Most of it is counted elsewhere anyhow, by the session and the ring, and only read when a client
//! asks. What is counted here are requests, connections and streams, each by a relaxed add at a place
//! that is known when the program is compiled.
//!
//! # Why no library
//!
//! The text format (0.0.4) is a page of rules, of which we need four: `# HELP`, `# TYPE`, samples,
//! and buckets that add up. `prometheus-client` was looked at: its histograms take a lock for each
//! observation, its families a lock and a look-up in a map for each label set (or a clone of every
//! metric kept beside it), what is read from a ledger needs a collector of its own, and what it writes
//! is OpenMetrics, in which counters are declared under another name. A table of atomics does what a
//! request may cost; what is left is [`Text`], some fifty lines.
//!
//! # Invariants
//!
//! 1. No label has a value that a caller chose: every one is of an enum, or is the same for the life of
//!    the process.
//! 2. A number never becomes less from one scrape to the next, gauges apart.
//! 3. A number of open things is the started ones minus the ended ones, so that no path can forget to count down.

use std::fmt::{Display, Write as _};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tapline_api::{Backend, BackendMetrics, Counts, Epoch};
use tapline_oapi::{ByeReason, Category, InstanceList, SinkInfo};

use crate::route::Route;

/// The media type of what [`Metrics::render`] writes.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the server counts. One for each server, shared by all that it does.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: SystemTime,
    calls: [Calls; Route::COUNT],
    pub(crate) streams: Streams,
    pub(crate) connections: Connections,
}

/// The streams that readers hold open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    opened: Counter,
    ended: Counters<StreamEnd>,
    /// Envelopes put into a stream: once for each reader that gets it.
    pub(crate) deliveries: Counter,
    /// Bytes put into streams, frames and notices alike.
    pub(crate) bytes: Counter,
    /// Pieces written: each is one frame of the body, and as a rule one write to the socket.
    pub(crate) batches: Counter,
    gaps: Counter,
    lost: Counter,
    /// Groups of readers that share the work of being written to.
    pub(crate) groups: Gauge,
    /// Readers in such a group.
    pub(crate) grouped: Gauge,
}

/// The connections that clients hold open.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    accepted: Counter,
    closed: Counters<CloseReason>,
    refused: Counters<RefusalReason>,
}

/// A request that is being answered. Counted when it is [answered](Self::answered), or when it is
/// dropped because its client went away first.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    began: Instant,
    status: usize,
}

/// Declares the values of a label.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $variant,)* }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Why a stream ended.
    StreamEnd {
        /// Its client went away.
        Client "client",
        /// The server stopped.
        Shutdown "shutdown",
        /// What allowed it to read has run out.
        Expired "expired",
        /// It lagged, and had asked to end rather than continue after a gap.
        Overtaken "overtaken",
        /// The instance that it was of, at a gateway, was started anew, or events of it are missing.
        Restarted "restarted",
        /// It got what it had asked for.
        Complete "complete",
        /// It took no bytes for too long.
        Stalled "stalled",
        /// The server could not continue it.
        Failed "failed",
    }
}

label! {
    /// Which limit refused a client.
    RefusalReason {
        /// So many connections were open.
        Connections "connections",
        /// So many were open from that address.
        Address "address",
        /// So many streams were open.
        Streams "streams",
    }
}

label! {
    /// Why a connection was closed.
    CloseReason {
        /// As connections are: the peer left, or the last answer was given.
        Done "done",
        /// The head of a request took too long.
        HeaderTimeout "header_timeout",
        /// The head of a request was too large.
        HeaderSize "header_size",
        /// A body took too long.
        BodyTimeout "body_timeout",
        /// No request came for too long.
        Idle "idle",
        /// It had made as many requests as one connection may.
        Requests "requests",
        /// The peer took no bytes for too long.
        Stalled "stalled",
        /// No TLS came about.
        Tls "tls",
        /// What was received was not HTTP.
        Parse "parse",
        /// The server failed to continue it: its task, or that of its group of streams, panicked.
        Failed "failed",
    }
}

impl From<ByeReason> for StreamEnd {
    fn from(reason: ByeReason) -> Self {
        match reason {
            ByeReason::Shutdown => Self::Shutdown,
            ByeReason::Expired => Self::Expired,
            ByeReason::Overtaken => Self::Overtaken,
            ByeReason::Restarted => Self::Restarted,
            ByeReason::Complete => Self::Complete,
            ByeReason::Stalled => Self::Stalled,
            ByeReason::Failed | ByeReason::Other => Self::Failed,
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: SystemTime::now(),
            calls: Default::default(),
            streams: Streams::default(),
            connections: Connections::default(),
        }
    }

    /// A request has come in. It costs four adds in all, some 30 ns, and two looks at the clock, which
    /// are 40 more; with another thread at the same route twice that.
    pub(crate) fn call(&self, route: Route) -> Call<'_> {
        let calls = &self.calls[route.index()];
        calls.began.add(1);
        Call {
            calls,
            began: Instant::now(),
            status: ABANDONED,
        }
    }

    /// All of it, in the text format, version 0.0.4.
    ///
    /// Takes a tenth of a millisecond, at 70 KB, and looks into `/proc`, for which it blocks: as long as
    /// the kernel takes to count the open files.
    pub(crate) fn render(&self, backend: &impl Backend) -> String {
        let mut text = Text::default();
        let numbers = backend.metrics();
        write_ledger(&mut text, &numbers);
        write_stream(&mut text, &numbers, backend.epoch());
        write_sources(&mut text, &numbers);
        write_sinks(&mut text, &backend.sinks());
        self.streams.write(&mut text);
        self.write_calls(&mut text);
        self.connections.write(&mut text);
        self.write_process(&mut text, &Process::look());
        text.0
    }

    /// As [`render`](Self::render), at a gateway with these instances, of which so many are open.
    pub(crate) fn render_fleet(&self, all: &InstanceList, open: usize) -> String {
        let mut text = Text::default();
        text.gauge("fleet_instances", "Instances that are known.")
            .sample([], all.total);
        text.gauge(
            "fleet_instances_alive",
            "Instances that report that they run.",
        )
        .sample([], all.alive);
        text.gauge("fleet_instances_open", "Instances that are read from here.")
            .sample([], open);
        text.gauge(
            "fleet_events_not_stored",
            "Events that instances have published and the broker has not stored, as of their last report.",
        )
        .sample([], all.not_stored);
        self.streams.write(&mut text);
        self.write_calls(&mut text);
        self.connections.write(&mut text);
        self.write_process(&mut text, &Process::look());
        text.0
    }

    fn write_calls(&self, text: &mut Text) {
        // A route that was never called is left out. One that was called has all its statuses, so
        // that the first error is a step from 0, which is what `rate` and `increase` can see.
        let called: Vec<_> = Route::ALL
            .iter()
            .map(|route| (labels_of(*route), self.calls[route.index()].read()))
            .filter(|(_, read)| read.began > 0)
            .collect();

        let mut requests = text.counter(
            "http_requests_total",
            "Requests by route and status. The status is `other` where it is none of those listed, \
             and `none` where the client left before it was answered.",
        );
        for (labels, read) in &called {
            for (status, count) in STATUSES
                .iter()
                .map(|(_, text)| *text)
                .chain(["other", "none"])
                .zip(read.statuses)
            {
                let status = ("status", status);
                requests.sample(labels.iter().copied().flatten().chain([status]), count);
            }
        }

        let mut seconds = text.histogram(
            "http_request_duration_seconds",
            "From a request's head to the head of its answer: of a stream, how long it took to begin.",
        );
        for (labels, read) in &called {
            seconds.histogram_of(labels.iter().copied().flatten(), read);
        }

        let in_flight: u64 = self
            .calls
            .iter()
            .map(|calls| {
                // What is done first: nothing is done that has not begun.
                let done: u64 = calls.statuses.iter().map(Counter::get).sum();
                calls.began.get().saturating_sub(done)
            })
            .sum();
        text.gauge(
            "http_requests_in_flight",
            "Requests that wait for the head of their answer.",
        )
        .value(in_flight);
    }

    fn write_process(&self, text: &mut Text, process: &Process) {
        let started = self.started.duration_since(UNIX_EPOCH);
        text.gauge("build_info", "1, with the version that runs.")
            .sample([("version", env!("CARGO_PKG_VERSION"))], 1);
        text.gauge(
            "start_time_seconds",
            "When the server began, in seconds since the Unix epoch.",
        )
        .value(started.unwrap_or_default().as_secs_f64());
        if let Some(bytes) = process.resident_bytes {
            text.gauge("resident_memory_bytes", "Memory that the process occupies.")
                .value(bytes);
        }
        if let Some(files) = process.open_files {
            text.gauge(
                "open_fds",
                "File descriptors that the process has open, sockets among them.",
            )
            .value(files);
        }
        if let Some(seconds) = process.cpu_seconds {
            text.counter(
                "cpu_seconds_total",
                "Time that the process has spent on a CPU.",
            )
            .value(seconds);
        }
    }
}

impl Call<'_> {
    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// It is answered with `status`.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.status = slot_of(status);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.calls.seconds.observe(took);
        self.calls.statuses[self.status].add(1);
    }
}

impl Streams {
    /// A stream has begun.
    pub(crate) fn opened(&self) {
        self.opened.add(1);
    }

    /// A stream that had begun has ended.
    pub(crate) fn ended(&self, why: StreamEnd) {
        self.ended.add(why);
    }

    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        let ended = self.ended.sum();
        self.opened.get().saturating_sub(ended)
    }

    /// So many gaps were reported to readers, with so many lost events in all.
    pub(crate) fn gaps(&self, gaps: u64, lost: u64) {
        self.gaps.add(gaps);
        self.lost.add(lost);
    }

    /// A client was informed of so many lost events when it resumed, or by a page or a wait.
    pub(crate) fn lost(&self, lost: u64) {
        if 0 < lost {
            self.gaps(1, lost);
        }
    }

    /// So many pieces were written, with so many bytes in all.
    pub(crate) fn wrote(&self, batches: u64, bytes: u64) {
        self.batches.add(batches);
        self.bytes.add(bytes);
    }

    fn write(&self, text: &mut Text) {
        text.gauge("streams_open", "Streams that readers hold open.")
            .value(self.open());
        text.counter("streams_opened_total", "Streams that were begun.")
            .value(self.opened.get());
        text.counter("streams_ended_total", "Streams that ended, by reason.")
            .each("reason", &self.ended);
        text.counter(
            "deliveries_total",
            "Events put into streams, once for each reader that gets it.",
        )
        .value(self.deliveries.get());
        text.counter("stream_bytes_total", "Bytes put into streams.")
            .value(self.bytes.get());
        text.counter("stream_batches_total", "Pieces in which they were written.")
            .value(self.batches.get());
        text.counter(
            "gaps_total",
            "Gaps reported to readers: while they read, when they resumed, by a page or by a wait.",
        )
        .value(self.gaps.get());
        text.counter(
            "lost_events_total",
            "Events that readers had asked for and that were reported to them as lost; where the \
             exact number is unknown, the most that it can be.",
        )
        .value(self.lost.get());
        text.gauge(
            "fanout_groups",
            "Groups of readers that share the work of being written to.",
        )
        .value(self.groups.get());
        let mut readers = text.gauge(
            "fanout_readers",
            "Readers in a group (`grouped`), and on their own (`single`).",
        );
        readers.sample([("mode", "grouped")], self.grouped.get());
        readers.sample(
            [("mode", "single")],
            self.open().saturating_sub(self.grouped.get()),
        );
    }
}

impl Connections {
    /// A connection was taken.
    pub(crate) fn accepted(&self) {
        self.accepted.add(1);
    }

    /// A connection that was taken is gone.
    pub(crate) fn closed(&self, why: CloseReason) {
        self.closed.add(why);
    }

    /// A connection was not taken, or a stream not begun.
    pub(crate) fn refused(&self, why: RefusalReason) {
        self.refused.add(why);
    }

    fn write(&self, text: &mut Text) {
        let closed = self.closed.sum();
        text.gauge("connections_open", "Connections that are open.")
            .value(self.accepted.get().saturating_sub(closed));
        text.counter("connections_accepted_total", "Connections that were taken.")
            .value(self.accepted.get());
        text.counter(
            "connections_closed_total",
            "Connections that were closed, by reason: `done` is the ordinary one.",
        )
        .each("reason", &self.closed);
        text.counter(
            "refused_total",
            "Connections not taken and streams not begun, by the limit that was reached.",
        )
        .each("reason", &self.refused);
    }
}

/// What the session did with all that was offered.
fn write_ledger(text: &mut Text, numbers: &BackendMetrics) {
    fn by_category(family: &mut Family<'_>, counts: &Counts, reason: Option<&'static str>) {
        for category in Category::ALL {
            let labels = [("category", category.as_str())];
            let reason = reason.map(|reason| ("reason", reason));
            family.sample(labels.into_iter().chain(reason), counts[category]);
        }
    }

    let ledger = &numbers.ledger;
    by_category(
        &mut text.counter("events_published_total", "Events that got a seq."),
        &ledger.published,
        None,
    );
    let mut filtered = text.counter(
        "events_filtered_total",
        "Events that were not captured: `inactive` while no session ran, `category_disabled` where it \
         did not capture the category.",
    );
    by_category(&mut filtered, &ledger.filtered.inactive, Some("inactive"));
    by_category(
        &mut filtered,
        &ledger.filtered.category_disabled,
        Some("category_disabled"),
    );
    by_category(
        &mut text.counter(
            "events_refused_total",
            "Events that were too large even without their data.",
        ),
        &ledger.refused,
        None,
    );
    by_category(
        &mut text.counter(
            "events_truncated_total",
            "Of those published: events whose data was cut because they were too large.",
        ),
        &ledger.truncated,
        None,
    );
}

/// Where the stream is, and the session.
fn write_stream(text: &mut Text, numbers: &BackendMetrics, epoch: Epoch) {
    let (retained, bounds) = (numbers.retained, numbers.retention);
    let epoch = epoch.to_string();
    text.gauge(
        "stream_info",
        "1, with the id of this incarnation of the stream.",
    )
    .sample([("epoch", &*epoch)], 1);
    text.gauge("stream_head_seq", "The newest seq published; 0 before one.")
        .value(retained.head);
    text.gauge(
        "stream_oldest_seq",
        "The oldest seq retained; 0 before one.",
    )
    .value(retained.oldest);
    // Seqs have no hole, and 0 is the oldest before there is one.
    let events = match retained.oldest {
        0 => 0,
        oldest => retained.head - oldest + 1,
    };
    text.gauge("stream_retained_events", "Events that can be read now.")
        .value(events);
    text.gauge(
        "stream_retained_bytes",
        "Memory that they occupy, estimated.",
    )
    .value(retained.weight);
    text.gauge("stream_max_events", "So many events are retained at most.")
        .value(bounds.events);
    text.gauge("stream_max_bytes", "So many bytes are retained at most.")
        .value(bounds.bytes);
    text.gauge(
        "stream_category_log_events",
        "Of so many of the newest events the category is known, retained or not.",
    )
    .value(bounds.category_log);
    text.gauge(
        "stream_category_log_bytes",
        "Memory that their categories take.",
    )
    .value(numbers.category_log_bytes);

    let start_seq = numbers.session_start_seq;
    text.gauge(
        "session_active",
        "1 while a telemetry session runs, else 0.",
    )
    .value(u8::from(start_seq.is_some()));
    let mut since = text.gauge(
        "session_start_seq",
        "The head when the running session began; absent while none runs.",
    );
    if let Some(seq) = start_seq {
        since.value(seq);
    }
}

/// What the sources have counted. A source is there from the beginning, so that its first unreadable message
/// is a step from 0.
fn write_sources(text: &mut Text, numbers: &BackendMetrics) {
    let mut unreadable = text.counter(
        "source_unreadable_total",
        "Messages that a source of events could not read, so that events may be missing, by source.",
    );
    for (name, counts) in &numbers.sources {
        unreadable.sample([("source", &**name)], counts.unreadable);
    }
}

/// What became of the events that each sink has read.
fn write_sinks(text: &mut Text, sinks: &[SinkInfo]) {
    let mut on = text.gauge("sink_on", "1 for a sink that is on, by sink.");
    for sink in sinks {
        on.sample([("sink", &*sink.name)], u64::from(sink.on));
    }
    let mut events = text.counter(
        "sink_events_total",
        "Events that a sink has read, by sink and by what became of them.",
    );
    for sink in sinks {
        for (result, count) in [
            ("exported", sink.exported),
            ("excluded", sink.excluded),
            ("rejected", sink.rejected),
            ("failed", sink.failed),
        ] {
            events.sample([("sink", &*sink.name), ("result", result)], count);
        }
    }
    let mut recovered = text.counter(
        "sink_recovered_total",
        "Events that were evicted before a sink could read them, and that it has recovered from the archive, by sink.",
    );
    for sink in sinks {
        recovered.sample([("sink", &*sink.name)], sink.recovered);
    }
    let mut lost = text.counter(
        "sink_lost_total",
        "Events that were evicted before a sink could read them, and that it has not recovered, by sink.",
    );
    for sink in sinks {
        lost.sample([("sink", &*sink.name)], sink.lost);
    }
    let mut pending = text.gauge(
        "sink_pending",
        "Events that a sink has read and not settled, by sink.",
    );
    for sink in sinks {
        pending.sample([("sink", &*sink.name)], sink.pending);
    }
    let mut spans = text.counter(
        "sink_spans_total",
        "Spans that a sink has made of events, by sink and by what became of them.",
    );
    for sink in sinks {
        let Some(made) = &sink.spans else { continue };
        for (result, count) in [
            ("exported", made.exported),
            ("rejected", made.rejected),
            ("failed", made.failed),
        ] {
            spans.sample([("sink", &*sink.name), ("result", result)], count);
        }
    }
    let mut lag = text.gauge(
        "sink_lag_events",
        "How many events a sink is behind the newest one, by sink; 0 while it is off.",
    );
    for sink in sinks {
        lag.sample([("sink", &*sink.name)], sink.lag);
    }
}

fn labels_of(route: Route) -> [Option<(&'static str, &'static str)>; 2] {
    [
        route.method().map(|method| ("method", method.as_str())),
        Some(("route", route.path())),
    ]
}

/// The statuses that are counted under their own number: all that the server gives of its own accord.
const STATUSES: [(u16, &str); 18] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (415, "415"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
];
/// Where any other is counted.
const OTHER: usize = STATUSES.len();
/// Where is counted what was never answered.
const ABANDONED: usize = STATUSES.len() + 1;
const SLOTS: usize = STATUSES.len() + 2;

fn slot_of(status: StatusCode) -> usize {
    // From the front: what is most frequent stands there.
    STATUSES
        .iter()
        .position(|(known, _)| *known == status.as_u16())
        .unwrap_or(OTHER)
}

/// The requests of one route, on cache lines of its own, so that routes do not wait for each other.
/// 128 bytes because Intel's prefetcher fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Calls {
    began: Counter,
    statuses: [Counter; SLOTS],
    seconds: Histogram,
}

/// [`Calls`] as of about one moment.
struct CallsRead {
    began: u64,
    statuses: [u64; SLOTS],
    /// Not added up yet.
    buckets: [u64; BOUNDS.len() + 1],
    nanoseconds: u64,
}

impl Calls {
    fn read(&self) -> CallsRead {
        CallsRead {
            began: self.began.get(),
            statuses: std::array::from_fn(|n| self.statuses[n].get()),
            buckets: std::array::from_fn(|n| self.seconds.buckets[n].get()),
            nanoseconds: self.seconds.nanoseconds.get(),
        }
    }
}

/// The upper bounds of a histogram's buckets, and each in seconds: a request takes some ten microseconds to answer where
/// nothing is in the way, and no caller waits for more than ten seconds.
const BOUNDS: [(Duration, &str); 17] = [
    (Duration::from_micros(50), "0.00005"),
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_micros(250), "0.00025"),
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2_500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2_500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
];

/// How often which duration. How many there were is the sum of the buckets, so it always fits them.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    /// All durations together. Enough for 584 years.
    nanoseconds: Counter,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < took);
        self.buckets[bucket].add(1);
        self.nanoseconds
            .add(took.as_nanos().try_into().unwrap_or(u64::MAX));
    }
}

/// A number that only grows. Relaxed throughout: it orders nothing, and each is right by itself.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes away what was added before.
    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    fn get(&self) -> u64 {
        // A look between two threads' changes may find the second first.
        self.0.load(Relaxed).cast_signed().max(0).cast_unsigned()
    }
}

/// The values of a label: an enum whose variants are all known.
pub(crate) trait Label: Copy + 'static {
    /// Each value, in the order of [`index`](Self::index).
    const ALL: &'static [Self];

    fn as_str(self) -> &'static str;

    fn index(self) -> usize;
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(crate) struct Counters<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    fn add(&self, label: L) {
        self.counters[label.index()].add(1);
    }

    fn sum(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self {
            counters: L::ALL.iter().map(|_| Counter::default()).collect(),
            label: PhantomData,
        }
    }
}

/// What the system knows of this process; what it does not report is absent.
#[derive(Debug, Default, PartialEq)]
struct Process {
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl Process {
    /// From `/proc`, which only Linux has.
    fn look() -> Self {
        let read = |name| std::fs::read_to_string(name).unwrap_or_default();
        Self {
            resident_bytes: resident_bytes(&read("/proc/self/status")),
            // One of them is the directory that is being read.
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
            cpu_seconds: cpu_seconds(&read("/proc/self/stat")),
        }
    }
}

/// `VmRSS:    1234 kB`, where a kB is 1024 bytes (proc_pid_status(5)).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The 14th and 15th field, in ticks (proc_pid_stat(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    /// The ticks of a second that Linux reports to programs, whatever it uses itself: `USER_HZ` is 100 on every
    /// architecture that we build for.
    const TICKS: f64 = 100.0;
    // The second field is the program's name in brackets, in which anything may stand.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS)
}

/// The text as far as it is written.
#[derive(Debug, Default)]
struct Text(String);

/// A metric that has been declared, and to which samples are added.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Text {
    fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        let _ = writeln!(text, "# HELP {PREFIX}{name} {help}");
        let _ = writeln!(text, "# TYPE {PREFIX}{name} {kind}");
        Family { text, name }
    }
}

/// What every name begins with.
const PREFIX: &str = "tapline_";

impl Family<'_> {
    /// The only sample.
    fn value(&mut self, value: impl Display) {
        self.sample([], value);
    }

    /// A sample for each value of a label.
    fn each<L: Label>(&mut self, name: &str, counters: &Counters<L>) {
        for label in L::ALL {
            let count = counters.counters[label.index()].get();
            self.sample([(name, label.as_str())], count);
        }
    }

    fn sample<'l>(
        &mut self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: impl Display,
    ) {
        self.suffixed("", labels, value);
    }

    /// The samples of one histogram.
    fn histogram_of(
        &mut self,
        labels: impl Iterator<Item = (&'static str, &'static str)> + Clone,
        read: &CallsRead,
    ) {
        let mut below = 0;
        let bounds = BOUNDS.iter().map(|(_, seconds)| *seconds);
        for (bound, count) in bounds.chain(["+Inf"]).zip(read.buckets) {
            below += count;
            self.suffixed("_bucket", labels.clone().chain([("le", bound)]), below);
        }
        let seconds = Duration::from_nanos(read.nanoseconds).as_secs_f64();
        self.suffixed("_sum", labels.clone(), seconds);
        self.suffixed("_count", labels, below);
    }

    fn suffixed<'l>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: impl Display,
    ) {
        let _ = write!(self.text, "{PREFIX}{}{suffix}", self.name);
        let mut before = '{';
        for (name, value) in labels {
            // Nothing to escape: invariant 1, and none of our own has a quote in it.
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use tapline_api::{
        ApiService, BoxFuture, Prepared, Retention, Source, SourceCounts, SourceError,
    };
    use tapline_events::EventStream;
    use tapline_oapi::{CategorySet, Event, KnownType};
    use tapline_telemetry::{SessionState, TelemetryConfig, TelemetrySession};

    use super::*;

    /// The text read back: every rule of the format that we rely on is checked on the way.
    #[derive(Debug, Default)]
    struct Scrape {
        kinds: BTreeMap<String, String>,
        /// By name and labels, as they stand in the text.
        samples: BTreeMap<String, f64>,
    }

    impl Scrape {
        fn of(metrics: &Metrics, api: &ApiService) -> Self {
            Self::parse(&metrics.render(api))
        }

        fn parse(text: &str) -> Self {
            assert!(text.ends_with('\n'));
            let mut scrape = Self::default();
            // The family whose samples stand here, and the one that has its help but no type yet.
            let (mut current, mut helped) = (String::new(), None);
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# HELP ") {
                    let (name, help) = rest.split_once(' ').expect(line);
                    assert!(!help.trim().is_empty() && !help.contains('\\'), "{line}");
                    assert_eq!(helped.replace(name.to_owned()), None, "{line}");
                } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                    let (name, kind) = rest.split_once(' ').expect(line);
                    assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                    assert_eq!(helped.take().as_deref(), Some(name), "{line}");
                    assert!(name.starts_with("tapline_"), "{line}");
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                    let before = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                    assert_eq!(before, None, "declared twice: {line}");
                    current = name.to_owned();
                } else {
                    scrape.sample(line, &current);
                }
            }
            assert_eq!(helped, None);
            scrape.check_histograms();
            scrape
        }

        fn sample(&mut self, line: &str, current: &str) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match series.split_once('{') {
                None => (series, ""),
                Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
            };
            let suffix = name.strip_prefix(current).expect(line);
            let suffixes: &[_] = match &*self.kinds[current] {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line}");
            let mut names = BTreeSet::new();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").expect(line);
                let value = value.strip_suffix('"').expect(line);
                assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
                assert!(!value.is_empty() && !value.contains(['"', '\\']), "{line}");
                assert!(names.insert(label), "a label twice: {line}");
            }
            let value: f64 = value.parse().expect(line);
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let before = self.samples.insert(series.to_owned(), value);
            assert_eq!(before, None, "a sample twice: {line}");
        }

        /// Buckets add up, end with `+Inf`, and agree with the count.
        fn check_histograms(&self) {
            for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
                let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
                for (sample, value) in &self.samples {
                    let Some(rest) = sample.strip_prefix(&format!("{name}_bucket{{")) else {
                        continue;
                    };
                    let (labels, bound) = rest.rsplit_once(",le=\"").expect(sample);
                    let bound = bound.strip_suffix("\"}").expect(sample);
                    let bound = match bound {
                        "+Inf" => f64::INFINITY,
                        bound => bound.parse().expect(sample),
                    };
                    let buckets = series.entry(labels.to_owned()).or_default();
                    buckets.push((bound, *value));
                }
                for (labels, mut buckets) in series {
                    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                    assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
                    let (bound, all) = buckets[buckets.len() - 1];
                    assert!(bound.is_infinite());
                    assert_eq!(all, self.samples[&format!("{name}_count{{{labels}}}")]);
                    assert!(
                        self.samples
                            .contains_key(&format!("{name}_sum{{{labels}}}"))
                    );
                }
            }
        }

        #[track_caller]
        fn expect(&self, series: &str, value: f64) {
            assert_eq!(self.samples.get(series), Some(&value), "{series}");
        }
    }

    fn stream() -> EventStream<SessionState> {
        let retention = Retention {
            events: 8,
            bytes: 1_000_000,
            ..Retention::default()
        };
        EventStream::new(retention).unwrap()
    }

    fn api() -> ApiService {
        ApiService::new(TelemetrySession::new(stream()))
    }

    #[test]
    fn unused_metrics_are_valid_and_zero() {
        let scrape = Scrape::of(&Metrics::new(), &api());
        scrape.expect("tapline_session_active", 0.0);
        scrape.expect("tapline_stream_head_seq", 0.0);
        scrape.expect("tapline_stream_retained_events", 0.0);
        scrape.expect("tapline_stream_max_events", 8.0);
        scrape.expect("tapline_streams_open", 0.0);
        scrape.expect("tapline_connections_open", 0.0);
        scrape.expect("tapline_http_requests_in_flight", 0.0);
        assert!(!scrape.samples.contains_key("tapline_session_start_seq"));
        // 11 categories, filtered for two reasons.
        let filtered = |series: &&String| series.starts_with("tapline_events_filtered_total");
        assert_eq!(scrape.samples.keys().filter(filtered).count(), 22);
    }

    #[test]
    fn the_ledger_and_the_stream_are_reported_as_they_are() {
        let session = Arc::new(TelemetrySession::new(stream()));
        let api = ApiService::new(session.clone());
        let publish = |known| session.publish(Event::known(known, None));
        publish(KnownType::PageLoad).unwrap_err();
        let categories = CategorySet::of(&[Category::Page]);
        session
            .start("s-1", TelemetryConfig { categories })
            .unwrap();
        for _ in 0..10 {
            publish(KnownType::PageLoad).unwrap();
        }
        publish(KnownType::ConsoleLog).unwrap_err();
        let data = format!("\"{}\"", "x".repeat(1_000_000));
        let data = serde_json::value::RawValue::from_string(data).unwrap();
        session
            .publish(Event::known(KnownType::PageLcp, Some(data)))
            .unwrap();
        let huge = Event::custom(&"x".repeat(1_000_000), Category::Page, None).unwrap();
        session.publish(huge).unwrap_err();

        let scrape = Scrape::of(&Metrics::new(), &api);
        scrape.expect("tapline_events_published_total{category=\"page\"}", 11.0);
        scrape.expect("tapline_events_published_total{category=\"console\"}", 0.0);
        scrape.expect(
            "tapline_events_filtered_total{category=\"page\",reason=\"inactive\"}",
            1.0,
        );
        scrape.expect(
            "tapline_events_filtered_total{category=\"console\",reason=\"category_disabled\"}",
            1.0,
        );
        scrape.expect("tapline_events_truncated_total{category=\"page\"}", 1.0);
        scrape.expect("tapline_events_refused_total{category=\"page\"}", 1.0);
        scrape.expect("tapline_stream_head_seq", 11.0);
        scrape.expect("tapline_stream_oldest_seq", 4.0);
        scrape.expect("tapline_stream_retained_events", 8.0);
        scrape.expect("tapline_session_active", 1.0);
        scrape.expect("tapline_session_start_seq", 0.0);
        let epoch = session.stream().epoch();
        scrape.expect(&format!("tapline_stream_info{{epoch=\"{epoch}\"}}"), 1.0);
    }

    #[test]
    fn every_metric_is_explained_in_operating_md() {
        const PAGE: &str = include_str!("../../../docs/operating.md");
        let documented = |name: &str| {
            let declared = format!("`{name}");
            PAGE.match_indices(&declared)
                .any(|(at, _)| PAGE[at + declared.len()..].starts_with(['`', '{']))
        };
        let metrics = Metrics::new();
        metrics.call(Route::GetHealth).answered(StatusCode::OK);
        for name in Scrape::of(&metrics, &api()).kinds.keys() {
            assert!(documented(name), "{name}");
        }
    }

    #[test]
    fn a_request_is_in_flight_then_counted_once_under_its_status() {
        let (metrics, api) = (Metrics::new(), api());
        let (first, second) = (
            metrics.call(Route::PutTelemetry),
            metrics.call(Route::PutTelemetry),
        );
        metrics
            .call(Route::NotFound)
            .answered(StatusCode::IM_A_TEAPOT);
        Scrape::of(&metrics, &api).expect("tapline_http_requests_in_flight", 2.0);

        first.answered(StatusCode::CREATED);
        drop(second);
        let scrape = Scrape::of(&metrics, &api);
        scrape.expect("tapline_http_requests_in_flight", 0.0);
        let put = |status| {
            format!(
                "tapline_http_requests_total{{method=\"PUT\",route=\"/telemetry\",status=\"{status}\"}}"
            )
        };
        scrape.expect(&put("201"), 1.0);
        scrape.expect(&put("none"), 1.0);
        scrape.expect(&put("500"), 0.0);
        scrape.expect(
            "tapline_http_requests_total{route=\"not_found\",status=\"other\"}",
            1.0,
        );
        scrape.expect(
            "tapline_http_request_duration_seconds_count{method=\"PUT\",route=\"/telemetry\"}",
            2.0,
        );
        // `GET /telemetry` has the same path, and was not called.
        assert!(!scrape.samples.keys().any(|series| series.contains("GET")));
    }

    #[test]
    fn a_duration_lies_in_the_first_bucket_that_it_does_not_exceed() {
        let check = |took, expected: usize| {
            let histogram = Histogram::default();
            histogram.observe(took);
            let filled = histogram.buckets.iter().position(|b| b.get() == 1);
            assert_eq!(filled, Some(expected), "{took:?}");
        };
        check(Duration::ZERO, 0);
        check(Duration::from_micros(50), 0);
        check(Duration::from_nanos(50_001), 1);
        check(Duration::from_secs(10), BOUNDS.len() - 1);
        check(Duration::from_secs(11), BOUNDS.len());
        assert!(BOUNDS.is_sorted_by(|a, b| a.0 < b.0));
        for (bound, seconds) in BOUNDS {
            assert_eq!(seconds.parse(), Ok(bound.as_secs_f64()));
        }
    }

    #[test]
    fn every_status_that_an_error_can_have_is_counted_under_its_number() {
        for code in tapline_oapi::ErrorCode::ALL {
            let status = StatusCode::from_u16(crate::answer::status(code).as_u16()).unwrap();
            assert_ne!(slot_of(status), OTHER, "{code}: {status}");
        }
        assert!(STATUSES.iter().all(|(n, text)| n.to_string() == *text));
    }

    #[test]
    fn unreadable_messages_are_reported_by_source() {
        struct Counting(&'static str, u64);

        impl Source for Counting {
            fn name(&self) -> &str {
                self.0
            }

            fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
                Box::pin(async { Err(SourceError::new("only its counts are read")) })
            }

            fn counts(&self) -> SourceCounts {
                SourceCounts { unreadable: self.1 }
            }
        }

        let api = api()
            .with_source(Counting("browser", 3))
            .with_source(Counting("kernel", 0));
        let scrape = Scrape::of(&Metrics::new(), &api);
        scrape.expect("tapline_source_unreadable_total{source=\"browser\"}", 3.0);
        scrape.expect("tapline_source_unreadable_total{source=\"kernel\"}", 0.0);
    }

    #[test]
    fn what_is_open_is_what_came_minus_what_went() {
        let (metrics, api) = (Metrics::new(), api());
        for why in [StreamEnd::Client, StreamEnd::Stalled] {
            metrics.streams.opened();
            metrics.streams.ended(why);
            metrics.connections.accepted();
        }
        metrics.streams.opened();
        metrics.streams.gaps(1, 3);
        metrics.streams.gaps(1, 4);
        metrics.streams.deliveries.add(100);
        metrics.streams.grouped.add(5);
        metrics.streams.grouped.sub(1);
        metrics.connections.closed(CloseReason::Idle);
        metrics.connections.refused(RefusalReason::Address);

        let scrape = Scrape::of(&metrics, &api);
        scrape.expect("tapline_streams_open", 1.0);
        scrape.expect("tapline_streams_opened_total", 3.0);
        scrape.expect("tapline_streams_ended_total{reason=\"stalled\"}", 1.0);
        scrape.expect("tapline_streams_ended_total{reason=\"expired\"}", 0.0);
        scrape.expect("tapline_gaps_total", 2.0);
        scrape.expect("tapline_lost_events_total", 7.0);
        scrape.expect("tapline_deliveries_total", 100.0);
        scrape.expect("tapline_fanout_readers{mode=\"grouped\"}", 4.0);
        scrape.expect("tapline_connections_open", 1.0);
        scrape.expect("tapline_connections_closed_total{reason=\"idle\"}", 1.0);
        scrape.expect("tapline_refused_total{reason=\"address\"}", 1.0);
    }

    #[test]
    fn nothing_that_is_counted_shrinks_while_others_count() {
        let (metrics, api) = (Metrics::new(), api());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        metrics.call(Route::PublishEvents).answered(StatusCode::OK);
                    }
                });
            }
            let mut before = BTreeMap::new();
            for _ in 0..50 {
                let scrape = Scrape::of(&metrics, &api);
                for (series, value) in scrape.samples {
                    if series.contains("_total") || series.contains("_bucket") {
                        let before = before.insert(series.clone(), value);
                        assert!(before.is_none_or(|before| before <= value), "{series}");
                    }
                }
            }
        });
        Scrape::of(&metrics, &api).expect(
            "tapline_http_request_duration_seconds_bucket{method=\"POST\",route=\"/telemetry/events\",le=\"+Inf\"}",
            10_000.0,
        );
    }

    #[test]
    fn the_process_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t  12 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(resident_bytes(""), None);
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 111 0 0 0 250 50 0 0 20 0 9 0 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_reported() {
        let scrape = Scrape::of(&Metrics::new(), &api());
        assert!(scrape.samples["tapline_resident_memory_bytes"] > 100_000.0);
        assert!(scrape.samples["tapline_open_fds"] >= 3.0);
        assert!(scrape.samples.contains_key("tapline_cpu_seconds_total"));
        assert!(scrape.samples["tapline_start_time_seconds"] > 1e9);
    }
}
