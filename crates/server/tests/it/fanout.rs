//! Many streams that come, stall, leave and come back while events are published: each is received of every seq
//! exactly once, and its account in the list closes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tapline_api::Backend as _;
use tapline_oapi::{Category, ConfigRequest, Event, KnownType};

use crate::http::{Connection, get, in_time, request};
use crate::server::{Server, Setup};
use crate::sse::Stream;

/// Numbers that look random and are the same each time (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((n ^ (n >> 31)) % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What is asked for, and which categories that is; with types no loss is exact, so there are none here.
const FILTERS: [(&str, &[Category]); 4] = [
    ("", &[Category::Page, Category::Console, Category::Network]),
    ("category=page", &[Category::Page]),
    (
        "category=console,network",
        &[Category::Console, Category::Network],
    ),
    ("category=screenshot", &[]),
];

const KNOWN: [KnownType; 3] = [
    KnownType::PageLoad,
    KnownType::ConsoleLog,
    KnownType::NetworkIdle,
];

/// What one connection received, from seq to seq.
struct Received {
    wanted: &'static [Category],
    notices: bool,
    /// Where it began.
    begin: u64,
    /// Everything up to it is accounted for: delivered, lost, or not asked for.
    position: u64,
    delivered: BTreeMap<u64, String>,
    /// First and last seq, and how many of them were asked for.
    gaps: Vec<(u64, u64, u64)>,
    /// How many were gone before it began, at most, and as the first beat has it.
    gone: u64,
    lost_before: Option<u64>,
}

impl Received {
    fn new(wanted: &'static [Category], notices: bool, asked: u64, begin: u64) -> Self {
        Self {
            wanted,
            notices,
            begin,
            position: begin,
            delivered: BTreeMap::new(),
            gaps: Vec::new(),
            gone: begin - asked,
            lost_before: None,
        }
    }

    fn delivered_or_lost(&mut self, from: u64, to: u64) {
        assert!(self.position < from, "{from} comes late: {}", self.position);
        self.position = to;
    }

    /// Reads up to an event after which the test is over, or so many frames.
    async fn read(&mut self, stream: &mut Stream, end: u64, frames: usize) {
        for _ in 0..frames {
            if end <= self.position {
                return;
            }
            let frame = stream.expect().await;
            if frame.is_event() {
                let seq = frame.seq();
                self.delivered_or_lost(seq, seq);
                let category = frame.json()["event"]["category"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                self.delivered.insert(seq, category);
            } else if frame.name() == "gap" {
                let gap = frame.json();
                let number = |name: &str| gap[name].as_u64().unwrap();
                assert_eq!(number("count"), number("to") - number("from") + 1);
                self.delivered_or_lost(number("from"), number("to"));
                self.gaps
                    .push((number("from"), number("to"), number("matching")));
            } else if frame.name() == "beat" {
                self.check_beat(&frame.json());
            } else if let Some(text) = frame.comments.first()
                && let Some(gap) = text.strip_prefix("gap: ")
            {
                let (lost, seqs) = gap.split_once(", seq ").unwrap();
                let (from, rest) = seqs.split_once(" to ").unwrap();
                let to = rest.split(':').next().unwrap().parse().unwrap();
                self.delivered_or_lost(from.parse().unwrap(), to);
                if lost.ends_with("before this stream began") {
                    (self.begin, self.position) = (to, to);
                    continue;
                }
                let matching = lost.strip_suffix(" lost").unwrap().parse().unwrap();
                self.gaps.push((from.parse().unwrap(), to, matching));
            }
        }
    }

    /// A beat says where the stream is: never before what it has delivered.
    fn check_beat(&mut self, beat: &Value) {
        assert!(self.notices);
        assert!(
            self.position <= beat["position"].as_u64().unwrap(),
            "{beat}"
        );
        // What its hello has reported is in it, too, and stays the same.
        let before = beat["lost"].as_u64().unwrap() - self.lost();
        assert!(before <= self.gone, "{beat}");
        assert_eq!(*self.lost_before.get_or_insert(before), before, "{beat}");
    }

    fn lost(&self) -> u64 {
        self.gaps.iter().map(|(_, _, matching)| matching).sum()
    }

    /// Compares what was received up to `end` with what was published.
    fn check(&self, published: &BTreeMap<u64, Category>, end: u64) {
        let wanted = |seq: &u64| self.wanted.contains(&published[seq]);
        // A gap after `end` is counted by the filter that holds there, which is another one.
        for (from, to, matching) in self.gaps.iter().filter(|(from, ..)| *from <= end) {
            assert!(*to <= end, "a gap ends where the filter changes");
            assert_eq!((*from..=*to).filter(wanted).count() as u64, *matching);
        }
        for seq in self.begin + 1..=end {
            let delivered = self.delivered.get(&seq);
            let in_gap = |(from, to, _): &(u64, u64, u64)| (*from..=*to).contains(&seq);
            let lost = self.gaps.iter().any(in_gap) && wanted(&seq);
            assert_eq!(
                (delivered.is_some(), lost),
                (wanted(&seq) && !lost, wanted(&seq) && delivered.is_none()),
                "seq {seq}"
            );
            if let Some(category) = delivered {
                assert_eq!(category, published[&seq].as_str());
            }
        }
        assert!(self.delivered.keys().all(|seq| self.begin < *seq));
    }
}

/// One subscriber: again and again a connection, of which it reads some, and on which it stalls now and then.
async fn subscribe(server: Arc<Server>, seed: u64, over: Arc<AtomicBool>) -> Vec<Received> {
    let mut numbers = Numbers(seed);
    let mut visits = Vec::new();
    let mut after = 0;
    let (filter, wanted) = FILTERS[seed as usize % 3];
    while !over.load(Ordering::Relaxed) {
        let notices = numbers.below(2) == 0;
        let connection = match numbers.below(3) {
            0 => Connection::open_narrow(server.addr).await,
            _ => Connection::open(server.addr).await,
        };
        let query = format!(
            "{filter}&notices={notices}&after={after}-{}",
            server.epoch()
        );
        let target = format!("/telemetry/stream?{}", query.trim_start_matches('&'));
        let mut stream = Stream::over(connection, &get(&target)).await;
        let begin = match notices {
            true => stream.notice("hello").await["used"].as_u64().unwrap(),
            false => after,
        };
        let mut received = Received::new(wanted, notices, after, begin);
        for _ in 0..1 + numbers.below(3) {
            let frames = 1 + numbers.below(60);
            received.read(&mut stream, u64::MAX, frames).await;
            // Long enough for its socket to fill, or only for others to have a turn.
            let pause = Duration::from_millis(numbers.one_of(&[0, 0, 1, 5, 60]));
            tokio::time::sleep(pause).await;
        }
        // The next connection resumes where this one ended.
        after = received.position;
        visits.push(received);
    }
    visits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whatever_streams_do_each_seq_is_accounted_for_once() {
    const SUBSCRIBERS: u64 = 24;
    const EVENTS: u64 = 6_000;
    let server = Setup::default()
        .events(256)
        .options(|options| options.beat = Duration::from_millis(20))
        .running()
        .await;
    let server = Arc::new(server);
    // These stay from the first event to the last.
    let mut staying = Vec::new();
    for n in 0..12 {
        let (filter, wanted) = FILTERS[n % 4];
        let notices = n % 2 == 0;
        let stream = Stream::open(server.addr, &format!("notices={notices}&{filter}")).await;
        staying.push((stream, wanted, notices));
    }
    let over = Arc::new(AtomicBool::new(false));
    let coming: Vec<_> = (0..SUBSCRIBERS)
        .map(|seed| tokio::spawn(subscribe(server.clone(), seed, over.clone())))
        .collect();

    let publishers: Vec<_> = (0..2)
        .map(|seed| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut numbers = Numbers(1000 + seed);
                let mut published = BTreeMap::new();
                let small = to_raw_value(&"x".repeat(100)).unwrap();
                let large = to_raw_value(&"x".repeat(30_000)).unwrap();
                let mut pace = tokio::time::interval(Duration::from_millis(2));
                while (published.len() as u64) < EVENTS / 2 {
                    for _ in 0..numbers.one_of(&[1, 1, 3, 40]) {
                        let known = numbers.one_of(&KNOWN);
                        let data = if numbers.below(20) == 0 {
                            &large
                        } else {
                            &small
                        };
                        let event = Event::known(known, Some(data.clone()));
                        let envelope = server.api.publisher().publish(event).unwrap();
                        published.insert(envelope.seq(), envelope.event().category);
                    }
                    pace.tick().await;
                }
                published
            })
        })
        .collect();
    let reading: Vec<_> = staying
        .into_iter()
        .map(|(mut stream, wanted, notices)| {
            tokio::spawn(async move {
                let mut received = Received::new(wanted, notices, 0, 0);
                // In the end each is asked to take everything, and that call is an event for all of them.
                while !received
                    .delivered
                    .values()
                    .any(|category| category == "platform")
                {
                    received.read(&mut stream, u64::MAX, 1).await;
                }
                (stream, received)
            })
        })
        .collect();

    let mut published = BTreeMap::new();
    for publisher in publishers {
        published.extend(publisher.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    let last = server.api.retained().head;
    // Who waits for an event of its own gets one.
    let waking = [Category::Page, Category::Console, Category::Network];
    let mut visits = Vec::new();
    for task in coming {
        let mut task = task;
        visits.extend(
            in_time(async {
                let mut pace = tokio::time::interval(Duration::from_millis(2));
                loop {
                    tokio::select! {
                        done = &mut task => return done.unwrap(),
                        _ = pace.tick() => {
                            for (known, category) in KNOWN.into_iter().zip(waking) {
                                let seq = server.publish(known).seq();
                                published.insert(seq, category);
                            }
                        }
                    }
                }
            })
            .await,
        );
    }
    assert!(EVENTS <= last);
    assert!(SUBSCRIBERS < visits.len() as u64, "some came back");
    for received in &visits {
        received.check(&published, received.position);
    }
    assert!(
        visits.iter().any(|received| received.lost() > 0),
        "some were overtaken"
    );

    // Those that stayed: whatever they ask for, from here on they get everything.
    let mut readers = server.readers().await;
    in_time(async {
        while readers.len() != 12 {
            tokio::task::yield_now().await;
            readers = server.readers().await;
        }
    })
    .await;
    let mut after = Vec::new();
    for reader in &readers {
        let target = format!("/telemetry/readers/{}", reader.id);
        let change = request("PATCH", &target).json(r#"{"category":[]}"#);
        let answer = server.call(&change).await;
        assert_eq!(answer.status(), 200);
        after.push(answer.json()["after"].as_u64().unwrap());
    }
    for (task, changed) in reading.into_iter().zip(after) {
        let (_stream, received) = in_time(task).await.unwrap();
        // A seq beyond is chosen by another filter.
        let until = changed.min(*published.keys().last().unwrap());
        received.check(&published, until);
    }
    // And the accounts close, for every one at every moment.
    for reader in server.readers().await {
        let passed = reader.delivered + reader.filtered + reader.lost;
        assert_eq!(passed, reader.position, "{reader:?}");
    }
}

/// Beats of a group are each member's own: with what that one has lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_reports_what_its_own_stream_has_lost() {
    let server = Setup::default()
        .events(16)
        .options(|options| options.beat = Duration::from_millis(30))
        .running()
        .await;
    let narrow = Connection::open_narrow(server.addr).await;
    let target = "/telemetry/stream?notices=true";
    let mut late = Stream::over(narrow, &get(target)).await;
    let mut prompt = Stream::open(server.addr, "notices=true").await;
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    for seq in 1..=200 {
        let event = Event::known(KnownType::PageLoad, Some(data.clone()));
        server.api.publisher().publish(event).unwrap();
        assert_eq!(prompt.seqs(1).await, [seq]);
    }
    let mut lost = 0;
    loop {
        let frame = late.expect().await;
        if frame.name() == "gap" {
            lost += frame.json()["matching"].as_u64().unwrap();
        } else if frame.is_event() && frame.seq() == 200 {
            break;
        }
    }
    assert!(0 < lost);
    let grouped = "tapline_fanout_readers{mode=\"grouped\"}";
    server.until_metric(grouped, 2).await;
    // Skip those that were on their way.
    for (stream, lost) in [(&mut late, lost), (&mut prompt, 0)] {
        for _ in 0..3 {
            let beat = stream.notice("beat").await;
            let expected = json!({"head": 200, "position": 200, "lag": 0, "lost": lost});
            assert_eq!(beat, expected);
        }
    }
    let list = server.readers().await;
    assert_eq!((list[0].lost, list[1].lost), (lost, 0));
    assert_eq!(list[0].delivered, 200 - lost);
}

/// Members of a group get changes of the session at the seq from which they hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_gets_session_notices_where_sessions_begin() {
    let server = Setup::default().running().await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(Stream::open(server.addr, "notices=true").await);
    }
    let grouped = "tapline_fanout_readers{mode=\"grouped\"}";
    server.until_metric(grouped, 6).await;
    let mut began = Vec::new();
    for round in 1..=20 {
        server.fill_to(round * 5);
        server.api.delete().await.unwrap();
        server.api.put(&ConfigRequest::default()).await.unwrap();
        began.push(server.api.state().unwrap().session_id.unwrap());
    }
    server.publish(KnownType::PageLoad);
    for stream in &mut streams {
        let mut position = 0;
        let mut session = Value::Null;
        while position < 101 {
            let frame = stream.expect().await;
            if frame.name() == "session" {
                let notice = frame.json();
                assert_eq!(notice["after"], position);
                session = notice["session_id"].clone();
            } else if frame.is_event() {
                position = frame.seq();
                let event = &frame.json()["event"];
                let stamp = &event["source"]["metadata"]["telemetry_session_id"];
                assert_eq!(*stamp, session, "{position}");
            }
        }
        assert_eq!(session, *began.last().unwrap());
    }
}
