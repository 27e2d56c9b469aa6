//! Attacks on the server over real sockets: slow clients, oversized requests, request smuggling, clients that
//! vanish, and connection floods.
//!
//! Every case asserts what the server answered and whether it closed the connection. After every case
//! [`Target::check_recovery`] asserts that the server still works: `/healthz` answers, a new event reaches an open
//! stream, connections, streams and requests are back to what they were, and the session's ledger equals what the
//! test sent.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use tapline_oapi::KnownType;
use tapline_server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::http::{Connection, get, in_time, request};
use crate::server::{Server, Setup};
use crate::sse::Stream;

/// A time limit of the server under test that a case waits for.
const SHORT: Duration = Duration::from_millis(150);

/// Within this time `/healthz` has to answer. It is a bound for a server that hangs, not a promise.
const HEALTHY: Duration = Duration::from_secs(2);

/// The body limit of the server under test, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The event that the visible request of a smuggling case publishes.
const OUTER: &str = r#"{"type":"page_load","data":"outer"}"#;

/// A whole request, to be hidden in another one. It must never be executed.
fn hidden() -> String {
    let body = r#"{"type":"page_load","data":"hidden"}"#;
    post(&format!("content-length: {}\r\n", body.len()), body)
}

/// A publish request with these header lines, each with its line break.
fn post(headers: &str, body: &str) -> String {
    format!("POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")
}

/// A publish request with a chunked body, which is written as it is sent.
fn post_chunks(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

// --- The target ---

/// What the server holds for its clients, by its own account.
#[derive(Debug, PartialEq, Eq)]
struct Load {
    connections: u64,
    streams: u64,
    in_flight: u64,
}

/// The server under attack, with a reader and a prober that must not notice.
struct Target {
    server: Server,
    /// Opened before the attack and kept open: it works even where all connections are taken.
    prober: Connection,
    reader: Stream,
    /// The load without an attack.
    quiet: Load,
    /// How many events the server has taken.
    published: u64,
}

impl Target {
    async fn start(change: impl FnOnce(&mut Limits)) -> Self {
        let setup = Setup::default().limits(|limits| {
            limits.body_bytes = BODY_BYTES;
            change(limits);
        });
        let server = setup.running().await;
        let mut prober = Connection::open(server.addr).await;
        assert_eq!(prober.call(&get("/healthz")).await.status(), 200);
        let reader = Stream::open(server.addr, "").await;
        let mut target = Self {
            server,
            prober,
            reader,
            quiet: Load {
                connections: 2,
                streams: 1,
                // The scrape itself.
                in_flight: 1,
            },
            published: 0,
        };
        target.check_recovery("no attack", 0..=0).await;
        target
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    async fn scrape(&mut self) -> String {
        let answer = self.prober.call(&get("/metrics")).await;
        assert_eq!(answer.status(), 200);
        answer.text().to_owned()
    }

    async fn load(&mut self) -> Load {
        let scrape = self.scrape().await;
        Load {
            connections: sum(&scrape, "tapline_connections_open"),
            streams: sum(&scrape, "tapline_streams_open"),
            in_flight: sum(&scrape, "tapline_http_requests_in_flight"),
        }
    }

    /// Waits until so many connections of attackers are open.
    async fn until_attackers(&mut self, count: usize) {
        let expected = self.quiet.connections + count as u64;
        in_time(async { while self.load().await.connections != expected {} }).await;
    }

    /// A new client is answered in time.
    async fn check_health(&self, case: &str) {
        let answer = timeout(HEALTHY, self.server.call(&get("/healthz"))).await;
        let answer = answer.unwrap_or_else(|_| panic!("{case}: `/healthz` does not answer"));
        assert_eq!(answer.status(), 200, "{case}");
    }

    /// Checks after an attack that the server works, has let go of the attackers, and has published as many events
    /// of theirs as `published` allows.
    async fn check_recovery(&mut self, case: &str, published: RangeInclusive<u64>) {
        let mut last = None;
        let settled = timeout(Duration::from_secs(20), async {
            loop {
                let load = self.load().await;
                if load == self.quiet {
                    break;
                }
                last = Some(load);
            }
        });
        let settled = settled.await;
        assert!(settled.is_ok(), "{case}: still open: {last:?}");
        self.check_health(case).await;

        // The ledger closes: all that was sent is in it, and the stream's head agrees.
        let scrape = self.scrape().await;
        let (head, outcomes) = (
            sum(&scrape, "tapline_stream_head_seq"),
            [
                "tapline_events_published_total",
                "tapline_events_filtered_total",
                "tapline_events_refused_total",
            ]
            .map(|name| sum(&scrape, name)),
        );
        let new = head - self.published;
        assert!(published.contains(&new), "{case}: published {new} events");
        assert_eq!(outcomes, [head, 0, 0], "{case}: the ledger");

        // A new event is taken, and the reader has received every event up to it.
        let event = request("POST", "/telemetry/events").json(OUTER);
        let answer = self.prober.call(&event).await;
        assert_eq!(answer.status(), 200, "{case}");
        assert_eq!(answer.json()["seq"], head + 1, "{case}");
        for seq in self.published + 1..=head + 1 {
            let frame = self.reader.event().await;
            assert_eq!(frame.seq(), seq, "{case}");
            assert_eq!(frame.json()["event"]["data"], "outer", "{case}");
        }
        self.published = head + 1;
    }
}

/// The sum over all series of a metric.
fn sum(scrape: &str, name: &str) -> u64 {
    let values = scrape.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .starts_with(['{', ' '])
            .then(|| rest.rsplit(' ').next());
        Some(value??.parse::<u64>().unwrap())
    });
    let values: Vec<_> = values.collect();
    assert!(!values.is_empty(), "no {name} in {scrape}");
    values.iter().sum()
}

// --- The attacker ---

/// A client that follows no rule. It keeps all that it receives, and takes an error of its socket for the end.
struct Attacker {
    socket: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Attacker {
    async fn open(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        Self::connect(socket, addr).await
    }

    /// One whose socket takes few bytes before they are read.
    async fn open_narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::connect(socket, addr).await
    }

    async fn connect(socket: TcpSocket, addr: SocketAddr) -> Self {
        let socket = in_time(socket.connect(addr)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            received: Vec::new(),
            closed: false,
        }
    }

    /// Sends all of it, and receives meanwhile. Stops early where the server has closed.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let mut left = bytes.as_ref();
        in_time(async {
            while !left.is_empty() && !self.closed {
                let (mut read, mut write) = self.socket.split();
                tokio::select! {
                    sent = write.write(left) => match sent {
                        Ok(sent) => left = &left[sent..],
                        Err(_) => break,
                    },
                    got = read.read_buf(&mut self.received) => self.closed = !matches!(got, Ok(1..)),
                }
            }
        })
        .await;
    }

    /// Sends and receives nothing, until the server has closed. Returns how much was sent.
    async fn send_until_closed(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        in_time(async {
            while self.socket.write_all(bytes).await.is_ok() {
                sent += bytes.len();
            }
        })
        .await;
        sent
    }

    /// Sends a piece now and then, until the server has closed or `pieces` are sent.
    async fn drip(&mut self, pieces: impl Iterator<Item = u8>, pause: Duration) {
        let mut pace = interval(pause);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        in_time(async {
            for piece in pieces {
                tokio::select! {
                    biased;
                    () = self.receive() => if self.closed { break },
                    _ = pace.tick() => {}
                }
                self.send([piece]).await;
            }
        })
        .await;
    }

    async fn receive(&mut self) {
        let got = self.socket.read_buf(&mut self.received).await;
        self.closed = !matches!(got, Ok(1..));
    }

    /// Receives until so many answers have begun, or the server has closed.
    async fn receive_answers(&mut self, count: usize) {
        in_time(async {
            while !self.closed && self.statuses().len() < count {
                self.receive().await;
            }
        })
        .await;
    }

    async fn receive_all(&mut self) {
        in_time(async {
            while !self.closed {
                self.receive().await;
            }
        })
        .await;
    }

    /// Closes its own side only.
    async fn half_close(&mut self) {
        // It may be closed already: then there is nothing to say.
        let _ = self.socket.shutdown().await;
    }

    /// Vanishes with a TCP reset.
    fn reset(self) {
        self.socket.set_zero_linger().unwrap();
    }

    /// The statuses of all answers received, without `100 Continue`.
    fn statuses(&self) -> Vec<u16> {
        self.text()
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| answer[..3].parse().unwrap())
            .filter(|status| *status != 100)
            .collect()
    }

    fn text(&self) -> String {
        // Half a status line at the end is not looked at yet.
        let text = String::from_utf8_lossy(&self.received).into_owned();
        match text.rfind("HTTP/1.1 ") {
            Some(at) if !text[at..].contains('\n') => text[..at].to_owned(),
            _ => text,
        }
    }
}

// --- Cases of bytes and answers ---

/// What is sent on one connection, and what must come of it.
struct Case {
    name: String,
    bytes: Vec<u8>,
    answers: Vec<u16>,
    /// Whether the server closes of its own accord after the last answer.
    closes: bool,
    published: u64,
}

/// The server answers so and closes; nothing is published.
fn refused(status: u16, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.into(),
        answers: vec![status],
        closes: true,
        published: 0,
    }
}

/// The server answers so and keeps the connection.
fn answered(
    answers: &[u16],
    published: u64,
    name: impl Into<String>,
    bytes: impl Into<Vec<u8>>,
) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.into(),
        answers: answers.into(),
        closes: false,
        published,
    }
}

impl Case {
    fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    async fn run(self, target: &mut Target) {
        let name = &self.name;
        let mut attacker = Attacker::open(target.addr()).await;
        attacker.send(&self.bytes).await;
        if !self.closes {
            attacker.receive_answers(self.answers.len()).await;
            attacker.half_close().await;
        }
        attacker.receive_all().await;
        let text = attacker.text();
        assert_eq!(attacker.statuses(), self.answers, "{name}: {text}");
        drop(attacker);
        target
            .check_recovery(name, self.published..=self.published)
            .await;
    }
}

async fn run(target: &mut Target, cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        case.run(target).await;
    }
}

fn short_times(limits: &mut Limits) {
    limits.header_time = SHORT;
    limits.body_time = SHORT;
    limits.stall = SHORT;
}

// --- Slow clients ---

#[tokio::test]
async fn a_slow_head_ends_in_its_time() {
    let mut target = Target::start(short_times).await;
    let line = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n";
    for (name, begin, piece) in [
        ("a request line byte by byte", String::new(), b'G'),
        ("a target byte by byte", "GET /".to_owned(), b'x'),
        ("a header byte by byte", format!("{line}x: "), b'x'),
        ("line breaks before a request", String::new(), b'\n'),
    ] {
        let mut attacker = Attacker::open(target.addr()).await;
        attacker.send(begin).await;
        attacker.drip(std::iter::repeat(piece), SHORT / 10).await;
        assert_eq!(attacker.statuses(), [408], "{name}");
        drop(attacker);
        target.check_recovery(name, 0..=0).await;
    }
    let nothing = [
        refused(408, "nothing at all", ""),
        refused(408, "half a head", line),
        refused(408, "half a line break at the end", format!("{line}\r")),
    ];
    run(&mut target, nothing).await;
}

#[tokio::test]
async fn a_body_that_pauses_ends_in_its_time() {
    let mut target = Target::start(short_times).await;
    let cases = [
        ("a body not begun", post("content-length: 35\r\n", "")),
        (
            "a body without its last byte",
            post("content-length: 35\r\n", &OUTER[..34]),
        ),
        ("no chunk at all", post_chunks("")),
        ("half a chunk size", post_chunks("2")),
        ("half a chunk", post_chunks(&chunk(OUTER)[..10])),
        ("half a chunk extension", post_chunks("23;name=value")),
        ("no last chunk", post_chunks(&chunk(OUTER))),
        (
            "half a trailer",
            post_chunks(&format!("{}0\r\nx-trailer: 1", chunk(OUTER))),
        ),
    ];
    run(
        &mut target,
        cases.map(|(name, bytes)| refused(408, name, bytes)),
    )
    .await;
}

#[tokio::test]
async fn a_slow_body_that_continues_is_taken() {
    let mut target = Target::start(|limits| limits.body_time = Duration::from_secs(2)).await;
    let whole = post(&format!("content-length: {}\r\n", OUTER.len()), OUTER);
    let chunks = post_chunks(&format!("{}0\r\n\r\n", chunk(OUTER)));
    for (name, bytes) in [("by length", whole), ("by chunks", chunks)] {
        let head = bytes.find("\r\n\r\n").unwrap() + 4;
        let mut attacker = Attacker::open(target.addr()).await;
        attacker.send(&bytes[..head]).await;
        let pause = Duration::from_millis(10);
        attacker.drip(bytes.bytes().skip(head), pause).await;
        attacker.receive_answers(1).await;
        assert_eq!(attacker.statuses(), [200], "{name}");
        drop(attacker);
        target.check_recovery(name, 1..=1).await;
    }
}

#[tokio::test]
async fn many_slow_clients_do_not_keep_others_waiting() {
    let mut target = Target::start(|limits| {
        limits.header_time = 4 * SHORT;
        limits.body_time = 4 * SHORT;
    })
    .await;
    let bytes = [
        String::new(),
        "GET /healthz HTTP/1.1\r\nx: ".to_owned(),
        post("content-length: 35\r\n", "{"),
    ];
    let mut clients = JoinSet::new();
    for client in 0..clients_at_once() {
        // One after the other: more connects at once than the listener's queue takes are dropped by the system.
        let mut attacker = Attacker::open(target.addr()).await;
        attacker.send(&bytes[client % bytes.len()]).await;
        clients.spawn(async move {
            attacker.receive_all().await;
            attacker.statuses()
        });
    }
    target.check_health("many slow clients").await;
    while let Some(statuses) = clients.join_next().await {
        assert_eq!(statuses.unwrap(), [408]);
    }
    target.check_recovery("many slow clients", 0..=0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let mut target = Target::start(short_times).await;
    let mut attacker = Attacker::open_narrow(target.addr()).await;
    let request = get("/openapi.json").bytes();
    assert!(attacker.send_until_closed(&request).await > 0);
    let stalled = "tapline_connections_closed_total{reason=\"stalled\"}";
    in_time(async { while sum(&target.scrape().await, stalled) != 1 {} }).await;
    target.check_recovery("asks and never reads", 0..=0).await;
}

#[tokio::test]
async fn a_client_that_talks_to_a_stream_is_closed() {
    let mut target = Target::start(|_| {}).await;
    let mut attacker = Attacker::open(target.addr()).await;
    attacker.send(get("/telemetry/stream").bytes()).await;
    attacker.receive_answers(1).await;
    assert_eq!(attacker.statuses(), [200]);
    assert!(attacker.send_until_closed(hidden().as_bytes()).await > 0);
    drop(attacker);
    target.check_recovery("talks to a stream", 0..=0).await;
}

// --- Oversized requests ---

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let mut target = Target::start(|_| {}).await;
    let line = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n";
    let headers = |count: usize| {
        let headers: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("{line}{headers}\r\n")
    };
    let cases = [
        answered(&[200], 0, "as many headers as are allowed", headers(99)),
        refused(431, "a header too many", headers(100)),
        refused(431, "10,000 headers", headers(10_000)),
        refused(
            431,
            "10,000 headers of one name",
            format!("{line}{}\r\n", "x: \r\n".repeat(10_000)),
        ),
        refused(
            431,
            "one huge header",
            format!("{line}x: {}\r\n\r\n", "x".repeat(40_000)),
        ),
        refused(
            431,
            "a huge header name",
            format!("{line}{}: x\r\n\r\n", "x".repeat(40_000)),
        ),
        refused(
            431,
            "a header without an end",
            format!("{line}x: {}", "x".repeat(8_000_000)),
        ),
        refused(
            431,
            "a huge target",
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)),
        ),
        refused(
            431,
            "a target over 64 KiB",
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(80_000)),
        ),
        refused(
            431,
            "a request line without an end",
            format!("GET /{}", "x".repeat(8_000_000)),
        ),
    ];
    run(&mut target, cases).await;
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let mut target = Target::start(|_| {}).await;
    let over = "x".repeat(BODY_BYTES + 1);
    let lines = "x-www-form-urlencoded\n".repeat(BODY_BYTES / 22);
    let length = |length: usize| format!("content-length: {length}\r\n");
    let ndjson = |body: &str| {
        let headers = format!(
            "content-type: application/x-ndjson\r\n{}",
            length(body.len())
        );
        post(&headers, body)
    };
    let deep = "[".repeat(BODY_BYTES);
    let cases = [
        answered(
            &[413],
            0,
            "a byte too many by length",
            post(&length(over.len()), &over),
        ),
        answered(
            &[413],
            0,
            "a byte too many in one chunk",
            post_chunks(&format!("{}0\r\n\r\n", chunk(&over))),
        ),
        answered(
            &[413],
            0,
            "chunks of a byte",
            post_chunks(&format!("{}0\r\n\r\n", chunk("x").repeat(over.len()))),
        ),
        refused(413, "terabytes announced", post(&length(1 << 42), "")),
        refused(
            413,
            "terabytes announced and begun",
            post(&length(1 << 42), &over),
        ),
        refused(413, "chunks without an end", post_chunks(&chunk(&over))),
        refused(
            400,
            "trailers without an end",
            post_chunks(&format!("0\r\n{}", "x: y\r\n".repeat(100_000))),
        ),
        refused(
            400,
            "a chunk extension without an end",
            post_chunks(&format!("23;{}", "x".repeat(100_000))),
        ),
        answered(&[400], 0, "deep JSON", post(&length(deep.len()), &deep)),
        answered(&[200], 0, "nothing but bad lines", ndjson(&lines)),
        answered(
            &[200],
            0,
            "nothing but line breaks",
            ndjson(&"\n".repeat(BODY_BYTES)),
        ),
    ];
    run(&mut target, cases).await;
}

// --- Smuggling ---

/// Header lines that some servers take for `transfer-encoding: chunked` and others do not.
const ODD_CODINGS: &[&str] = &[
    "transfer-encoding: chunked, identity",
    "transfer-encoding: identity, chunked",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: chunked, gzip",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked,",
    "transfer-encoding: , chunked",
    "transfer-encoding: identity",
    "transfer-encoding:",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunkedx",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding: chunked;q=1",
    "transfer-encoding: chunked\x0b",
    "transfer-encoding: \x0bchunked",
    "transfer-encoding: chunked\0",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding:",
    "transfer-encoding : chunked",
    "transfer-encoding\t: chunked",
    "transfer-encoding\x0b: chunked",
    " transfer-encoding: chunked",
    "transfer encoding: chunked",
    "transfer-encoding:\r\n chunked",
    "transfer-encoding: chun\r\n ked",
    "x: y\r\n transfer-encoding: chunked",
    "x: y\r\n\ttransfer-encoding: chunked",
    "x: y\rtransfer-encoding: chunked",
];

#[tokio::test]
async fn an_unclear_transfer_encoding_is_refused() {
    let mut target = Target::start(short_times).await;
    let body = format!("0\r\n\r\n{}", hidden());
    for coding in ODD_CODINGS {
        let length = body.len();
        run(
            &mut target,
            [
                format!("{coding}\r\n"),
                format!("content-length: {length}\r\n{coding}\r\n"),
                format!("{coding}\r\ncontent-length: {length}\r\n"),
            ]
            .map(|headers| refused(400, format!("{headers:?}"), post(&headers, &body))),
        )
        .await;
    }
    let bytes = post_chunks(&body).replacen("HTTP/1.1", "HTTP/1.0", 1);
    run(&mut target, [refused(400, "chunks in HTTP/1.0", bytes)]).await;
}

/// The transfer coding counts, and the connection ends with the answer (RFC 9112, 6.3).
#[tokio::test]
async fn a_length_beside_chunks_does_not_count() {
    let mut target = Target::start(short_times).await;
    let empty = format!("0\r\n\r\n{}", hidden());
    let event = format!("{}0\r\n\r\n{}", chunk(OUTER), hidden());
    let inside = format!("{}0\r\n\r\n", chunk(&hidden()));
    let chunked = "transfer-encoding: chunked\r\n";
    let mut cases = Vec::new();
    for (name, body, status, published) in [
        ("no event, then a request", &empty, 400, 0),
        ("an event, then a request", &event, 200, 1),
        ("a request in a chunk", &inside, 400, 0),
    ] {
        for length in [0, 4, body.len()] {
            let length = format!("content-length: {length}\r\n");
            for headers in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
                let name = format!("{name}: {headers:?}");
                let case = answered(&[status], published, name, post(&headers, body));
                cases.push(case.closes());
            }
        }
    }
    run(&mut target, cases).await;
}

#[tokio::test]
async fn an_unclear_length_is_refused() {
    let mut target = Target::start(short_times).await;
    let body = hidden();
    let length = body.len();
    let headers = [
        format!("content-length: 0\r\ncontent-length: {length}"),
        format!("content-length: {length}\r\ncontent-length: 0"),
        format!("content-length: {length}, {length}"),
        format!("content-length: 0, {length}"),
        format!("content-length: {length} {length}"),
        format!("content-length: +{length}"),
        format!("content-length: {length}.0"),
        format!("content-length: {length}\x0b"),
        format!("content-length: {length}\0"),
        format!("content-length : {length}"),
        format!("content-length:\r\n {length}"),
        format!("content-length: 1\r\n {length}"),
        format!("x: y\r\n content-length: {length}"),
        format!("x: y\ncontent-length: 0\r\ncontent-length: {length}"),
        "content-length: -1".to_owned(),
        "content-length: -0".to_owned(),
        "content-length: 0x10".to_owned(),
        "content-length: 1e2".to_owned(),
        "content-length: 1_0".to_owned(),
        "content-length:".to_owned(),
        "content-length: 99999999999999999999999999".to_owned(),
    ];
    let cases = headers.map(|headers| {
        refused(
            400,
            format!("{headers:?}"),
            post(&format!("{headers}\r\n"), &body),
        )
    });
    run(&mut target, cases).await;
    let twice = format!("content-length: {length}\r\ncontent-length: {length}\r\n");
    let cases = [
        answered(&[400], 0, "the same length twice", post(&twice, &body)),
        refused(
            431,
            "the largest length",
            post(&format!("content-length: {}\r\n", u64::MAX), &body),
        ),
        refused(
            413,
            "a huge length",
            post(&format!("content-length: {}\r\n", i64::MAX), &body),
        ),
    ];
    run(&mut target, cases).await;
}

#[tokio::test]
async fn bad_chunks_are_refused() {
    let mut target = Target::start(short_times).await;
    let hidden = hidden();
    let rest = format!("{OUTER}\r\n0\r\n\r\n{hidden}");
    let size = format!("{:x}", OUTER.len());
    let sizes = [
        format!("-{size}"),
        format!("+{size}"),
        format!("0x{size}"),
        format!(" {size}"),
        format!("{size} {size}"),
        format!("{size}_"),
        format!("{size}\0"),
        format!("{size}\x0b"),
        format!("{size},"),
        format!("{size}\n"),
        format!("{size}\r"),
        format!("{size};name\nvalue"),
        format!("\r\n{size}"),
        format!("100000000000000{size}"),
        format!("fffffffffffffffff{size}"),
        "g".to_owned(),
        ";".to_owned(),
        "-1".to_owned(),
        "\u{ff12}\u{ff13}".to_owned(),
        String::new(),
    ];
    let cases = sizes.map(|size| {
        let name = format!("a chunk size of {size:?}");
        refused(400, name, post_chunks(&format!("{size}\r\n{rest}")))
    });
    run(&mut target, cases).await;

    let event = chunk(OUTER);
    let bodies = [
        (
            "a line feed alone after a size",
            format!("{size}\n{OUTER}\n0\n\n{hidden}"),
        ),
        (
            "a carriage return alone after a size",
            format!("{size}\r{rest}"),
        ),
        ("a chunk longer than its size", format!("5\r\n{rest}")),
        ("a chunk shorter than its size", format!("30\r\n{rest}")),
        (
            "no line break after a chunk",
            format!("{size}\r\n{OUTER}0\r\n\r\n{hidden}"),
        ),
        (
            "a line feed alone after a chunk",
            format!("{size}\r\n{OUTER}\n0\r\n\r\n{hidden}"),
        ),
        (
            "a line feed alone after the last chunk",
            format!("{event}0\n\n{hidden}"),
        ),
        (
            "a carriage return alone as the end",
            format!("{event}0\r\n\rX{hidden}"),
        ),
        (
            "a negative last chunk",
            format!("{event}-0\r\n\r\n{hidden}"),
        ),
        ("a request as trailers", format!("{event}0\r\n{hidden}")),
        (
            "a folded trailer",
            format!("{event}0\r\nx: y\r\n z\r\n\r\n{hidden}"),
        ),
    ];
    let cases = bodies.map(|(name, body)| refused(400, name, post_chunks(&body)));
    run(&mut target, cases).await;

    let bodies = [
        ("the largest size", format!("ffffffffffffffff\r\n{hidden}")),
        ("a huge size", format!("7fffffffffffffff\r\n{hidden}")),
        ("a size of 4 GiB more", format!("1000000{size}\r\n{rest}")),
    ];
    let cases = bodies.map(|(name, body)| refused(408, name, post_chunks(&body)));
    run(&mut target, cases).await;
}

#[tokio::test]
async fn unusual_chunks_are_one_request() {
    let mut target = Target::start(short_times).await;
    let (event, hidden) = (chunk(OUTER), hidden());
    let size = format!("{:x}", OUTER.len());
    let bodies = [
        (
            "an extension",
            format!("{size};name=value\r\n{OUTER}\r\n0\r\n\r\n"),
        ),
        (
            "an extension in quotes",
            format!("{size};n=\"0;1\"\r\n{OUTER}\r\n0;n\r\n\r\n"),
        ),
        (
            "blanks after a size",
            format!("{size} \t\r\n{OUTER}\r\n0\r\n\r\n"),
        ),
        (
            "leading zeros",
            format!("{}{size}\r\n{OUTER}\r\n00\r\n\r\n", "0".repeat(40)),
        ),
        (
            "framing in trailers",
            format!("{event}0\r\ncontent-length: 9\r\ntransfer-encoding: x\r\n\r\n"),
        ),
    ];
    let mut cases: Vec<_> = bodies
        .into_iter()
        .map(|(name, body)| answered(&[200], 1, name, post_chunks(&body)))
        .collect();
    // The HTTP library takes what follows this line feed for trailers: the head of the hidden request becomes part of
    // the first one, and its body is not a request.
    let feed = format!("{event}0\r\n\n{hidden}");
    cases.push(
        answered(
            &[200, 400],
            1,
            "a line feed alone as the end",
            post_chunks(&feed),
        )
        .closes(),
    );
    // Without junk in between, the next request is executed: this server does read on, so the cases mean something.
    let next = post(&format!("content-length: {}\r\n", OUTER.len()), OUTER);
    let bytes = post_chunks(&format!("{event}0\r\n\r\n{next}"));
    cases.push(answered(
        &[200, 200],
        2,
        "a request behind a request",
        bytes,
    ));
    // With junk before it, it is not a publish request.
    let end = format!("{event}0\r\n\r\n");
    cases.extend([
        answered(
            &[200, 405],
            1,
            "letters before a request",
            post_chunks(&format!("{end}XXXX{hidden}")),
        ),
        answered(
            &[200, 400],
            1,
            "a blank before a request",
            post_chunks(&format!("{end} {hidden}")),
        )
        .closes(),
        answered(
            &[200, 400],
            1,
            "NUL before a request",
            post_chunks(&format!("{end}\0{hidden}")),
        )
        .closes(),
        answered(
            &[200, 400],
            1,
            "a chunk before a request",
            post_chunks(&format!("{end}{event}{hidden}")),
        )
        .closes(),
    ]);
    run(&mut target, cases).await;
}

#[tokio::test]
async fn a_bad_head_is_refused() {
    let mut target = Target::start(short_times).await;
    let hidden = hidden();
    let lines = [
        "x: y\r\n folded",
        "x: y\r\n\tfolded",
        "x: y\rz",
        "x: y\0z",
        "no colon",
        ": no name",
        "two words: x",
        "x\u{e4}: y",
        "(x): y",
    ];
    let cases = lines.map(|line| {
        let headers = format!("{line}\r\ncontent-length: {}\r\n", hidden.len());
        refused(400, format!("{line:?}"), post(&headers, &hidden))
    });
    run(&mut target, cases).await;

    let requests = [
        ("no version", "GET /healthz\r\n\r\n"),
        (
            "an unknown version",
            "GET /healthz HTTP/1.2\r\nhost: localhost\r\n\r\n",
        ),
        (
            "two blanks",
            "GET  /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ),
        (
            "words after the version",
            "GET /healthz HTTP/1.1 x\r\nhost: localhost\r\n\r\n",
        ),
        (
            "a blank in the target",
            "GET /health z HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03"),
    ];
    let cases = requests.map(|(name, bytes)| refused(400, name, format!("{bytes}{hidden}")));
    run(&mut target, cases).await;
    let preface = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}");
    // What follows the preface is not HTTP/2, and nothing of it is a request.
    run(&mut target, [answered(&[], 0, "HTTP/2", preface).closes()]).await;
}

/// A body that the route has no use for is a body all the same, and no request.
#[tokio::test]
async fn a_body_is_never_a_request() {
    let mut target = Target::start(short_times).await;
    let hidden = hidden();
    let length = format!("content-length: {}\r\n", hidden.len());
    let chunks = format!("{}0\r\n\r\n", chunk(&hidden));
    let mut cases = Vec::new();
    for (line, status) in [
        ("GET /healthz", 200),
        ("HEAD /healthz", 200),
        ("GET /telemetry", 200),
        ("GET /telemetry/events", 200),
        ("GET /nothing", 404),
        ("POST /healthz", 405),
        ("XXXX /telemetry/events", 405),
    ] {
        for (headers, body) in [
            (length.clone(), &hidden),
            ("transfer-encoding: chunked\r\n".to_owned(), &chunks),
            (format!("expect: 100-continue\r\n{length}"), &hidden),
            (
                format!("connection: upgrade\r\nupgrade: h2c\r\n{length}"),
                &hidden,
            ),
        ] {
            let bytes = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
            let name = format!("{line}: {headers:?}");
            cases.push(answered(&[status], 0, name, bytes));
        }
    }
    // Line feeds alone end the lines of a head, and change nothing about its body.
    let feeds = post(&length, "").replace("\r\n", "\n");
    cases.push(answered(&[400], 0, "line feeds alone", feeds + &hidden));
    let feeds = "x: y\ntransfer-encoding: chunked\r\n";
    let body = format!("0\r\n\r\n{hidden}");
    let headers = format!("{feeds}content-length: {}\r\n", body.len());
    cases.push(refused(
        400,
        "a line feed within a header",
        post(&headers, &body),
    ));
    cases.push(answered(
        &[400],
        0,
        "a request as a body",
        post(&length, &hidden),
    ));
    run(&mut target, cases).await;
}

#[tokio::test]
async fn requests_behind_a_stream_are_not_executed() {
    let mut target = Target::start(|_| {}).await;
    let requests = get("/healthz").bytes().repeat(100);
    let stream = get("/telemetry/stream?replay=live").bytes();
    let bytes = [
        requests,
        stream,
        hidden().into_bytes(),
        b"\0\xff".repeat(100),
    ]
    .concat();
    let mut attacker = Attacker::open(target.addr()).await;
    attacker.send(bytes).await;
    attacker.receive_answers(101).await;
    assert_eq!(attacker.statuses(), [200; 101]);
    target.until_attackers(1).await;
    attacker.half_close().await;
    attacker.receive_all().await;
    assert_eq!(attacker.statuses(), [200; 101]);
    target
        .check_recovery("requests behind a stream", 0..=0)
        .await;
}

// --- Clients that vanish ---

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// With a TCP reset.
    Reset,
    /// As a program does that ends.
    Close,
    /// It closes its own side and waits for the server to close the other one.
    HalfClose,
}

/// Where clients are when they leave.
struct State {
    name: &'static str,
    bytes: Vec<u8>,
    /// How many answers have begun.
    answers: usize,
    /// How many events each may have published: it does not know itself.
    published: u64,
}

fn states() -> Vec<State> {
    let state = |name, bytes: &str, answers| State {
        name,
        bytes: bytes.into(),
        answers,
        published: 0,
    };
    let whole = post(&format!("content-length: {}\r\n", OUTER.len()), OUTER);
    let lines = format!("{OUTER}\n").repeat(10);
    let stream = "GET /telemetry/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let wait = "GET /telemetry/wait?type=never&timeout_ms=500 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let document = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    vec![
        state("before the first byte", "", 0),
        state("in a request line", "POST /tele", 0),
        state(
            "in a header",
            &whole[..whole.find("content").unwrap() + 9],
            0,
        ),
        state("before a body", &whole[..whole.len() - OUTER.len()], 0),
        state("in a body", &whole[..whole.len() - 1], 0),
        state(
            "in a body of whole lines",
            &post(
                "content-type: application/x-ndjson\r\ncontent-length: 4000\r\n",
                &lines,
            ),
            0,
        ),
        state("in a chunk size", &post_chunks("2"), 0),
        state("in a chunk", &post_chunks(&chunk(OUTER)[..10]), 0),
        state("before the last chunk", &post_chunks(&chunk(OUTER)), 0),
        State {
            published: 1,
            ..state("before the answer", &whole, 0)
        },
        State {
            published: 1,
            ..state("after the answer", &whole, 1)
        },
        state("in an answer", &document.repeat(5), 1),
        state("in a wait", wait, 0),
        state("in a stream", stream, 1),
    ]
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    const CLIENTS: usize = 10;
    let mut target = Target::start(|_| {}).await;
    for leave in [Leave::Reset, Leave::Close, Leave::HalfClose] {
        for state in states() {
            let name = format!("{leave:?} {}", state.name);
            let mut attackers = Vec::new();
            for _ in 0..CLIENTS {
                let mut attacker = Attacker::open_narrow(target.addr()).await;
                attacker.send(&state.bytes).await;
                attacker.receive_answers(state.answers).await;
                attackers.push(attacker);
            }
            target.until_attackers(CLIENTS).await;
            for mut attacker in attackers {
                match leave {
                    Leave::Reset => attacker.reset(),
                    Leave::Close => drop(attacker),
                    Leave::HalfClose => {
                        attacker.half_close().await;
                        attacker.receive_all().await;
                    }
                }
            }
            let most = CLIENTS as u64 * state.published;
            let least = if state.answers == 1 { most } else { 0 };
            target.check_recovery(&name, least..=most).await;
        }
    }
}

// --- Floods ---

/// How many connections a test has at once: a small part of the files that this process may have open.
fn clients_at_once() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| {
        let rest = line.strip_prefix("Max open files")?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    });
    // Each one has two ends here, and other tests run at the same time.
    (files.unwrap_or(1024) / 16).clamp(32, 500)
}

#[tokio::test]
async fn thousands_connect_and_leave_in_every_state() {
    const CONNECTIONS: usize = 4000;
    let mut target = Target::start(|_| {}).await;
    let states = states();
    let (mut opened, mut published) = (0, 0);
    while opened < CONNECTIONS {
        let mut attackers = Vec::new();
        for client in opened..opened + clients_at_once() {
            let state = &states[client % states.len()];
            let mut attacker = Attacker::open(target.addr()).await;
            attacker.send(&state.bytes).await;
            published += state.published;
            attackers.push(attacker);
        }
        opened += attackers.len();
        target.check_health("a wave of connections").await;
        for (client, attacker) in attackers.into_iter().enumerate() {
            if client % 2 == 0 {
                attacker.reset();
            }
        }
        target
            .check_recovery("a wave of connections", 0..=published)
            .await;
        published = 0;
    }
    let accepted = sum(&target.scrape().await, "tapline_connections_closed_total");
    assert!(
        accepted >= CONNECTIONS as u64,
        "{accepted} connections were closed"
    );
}

#[tokio::test]
async fn a_flood_over_the_connection_limit_is_refused_and_passes() {
    const LIMIT: usize = 32;
    let mut target = Target::start(|limits| limits.connections = LIMIT).await;
    // The prober and the reader have the other two.
    let free = LIMIT - 2;
    for wave in 0..5 {
        let case = format!("flood {wave}");
        let mut attackers = Vec::new();
        for _ in 0..free {
            let mut attacker = Attacker::open(target.addr()).await;
            attacker.send(get("/healthz").bytes()).await;
            attacker.receive_answers(1).await;
            assert_eq!(attacker.statuses(), [200], "{case}");
            attackers.push(attacker);
        }
        let mut refused = 0;
        for _ in 0..clients_at_once() {
            let mut attacker = Attacker::open(target.addr()).await;
            attacker.send(get("/healthz").bytes()).await;
            attacker.receive_all().await;
            match attacker.statuses()[..] {
                [503] => refused += 1,
                [] => {}
                _ => panic!("{case}: {}", attacker.text()),
            }
        }
        assert!(refused > 0, "{case}");
        let answer = timeout(HEALTHY, target.prober.call(&get("/healthz"))).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{case}");
        for attacker in attackers {
            attacker.reset();
        }
        target.check_recovery(&case, 0..=0).await;
    }
}

// --- Filters that are costly to match ---

/// One hundred patterns that no event matches, and that each have to be looked for in every name.
fn costly_types() -> String {
    let patterns = (0..100).map(|n| format!("*n*e*o*t*_*{n}"));
    patterns.collect::<Vec<_>>().join(",")
}

/// Streams, waits and pages with costly filters do not keep a request waiting, over known types and others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costly_filters_do_not_keep_other_requests_waiting() {
    const EVENTS: usize = 20_000;
    /// More than a request waits for here, and a small part of what these filters would cost at a time.
    const QUICK: Duration = Duration::from_millis(500);
    let server = Setup::default().events(EVENTS).running().await;
    let lines: String = (0..EVENTS)
        .map(|n| match n % 2 {
            0 => "{\"type\":\"network_request\"}\n".to_owned(),
            _ => format!("{{\"type\":\"note_not_known_type_{n}x\",\"category\":\"page\"}}\n"),
        })
        .collect();
    let published = server
        .call(&request("POST", "/telemetry/events").lines(lines))
        .await;
    assert_eq!(published.json()["published"], EVENTS);
    let types = costly_types();
    let mut attackers = Vec::new();
    for n in 0..64 {
        let target = match n % 4 {
            0 => format!("/telemetry/wait?after=0&type={types}"),
            1 => format!("/telemetry/events?limit=1000&type={types}"),
            _ => format!("/telemetry/stream?replay=all&type={types}"),
        };
        let mut attacker = Attacker::open(server.addr).await;
        attacker.send(get(&target).bytes()).await;
        attackers.push(attacker);
    }
    let mut worst = Duration::ZERO;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let start = Instant::now();
        assert_eq!(server.call(&get("/healthz")).await.status(), 200);
        worst = worst.max(start.elapsed());
        server.publish(KnownType::PageLoad);
    }
    assert!(worst < QUICK, "a request took {worst:?}");
}

#[tokio::test]
async fn what_a_pattern_can_cost_is_bounded() {
    let server = Setup::default().running().await;
    let long = "x".repeat(257);
    let stars = "*a".repeat(17);
    for (pattern, message) in [(&long, "more than 256 bytes"), (&stars, "more than 16 `*`")] {
        for path in ["stream", "wait", "events"] {
            let answer = server
                .call(&get(&format!("/telemetry/{path}?type=x,{pattern}")))
                .await;
            assert_eq!(answer.status(), 400, "{path}");
            assert!(answer.text().contains(message), "{}", answer.text());
        }
        let ticket = request("POST", "/telemetry/tickets");
        let answer = server
            .call(&ticket.json(format!(r#"{{"type":["{pattern}"]}}"#)))
            .await;
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains(message), "{}", answer.text());
    }
    let most = ["*a".repeat(16), "y".repeat(256)].join(",");
    let target = format!("/telemetry/events?type={most}");
    assert_eq!(server.call(&get(&target)).await.status(), 200);
}
