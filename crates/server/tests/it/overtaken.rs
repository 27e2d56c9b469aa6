//! What a stream does whose reader was overtaken: `overtaken=oldest`, `head` or `close`.

use serde_json::json;
use serde_json::value::to_raw_value;
use tapline_api::Backend as _;
use tapline_oapi::{Event, KnownType};

use crate::http::{Connection, get, request};
use crate::server::{Server, Setup};
use crate::sse::{Frame, Stream};

/// So many are retained.
const RETAINED: u64 = 16;

/// Far more than sockets hold, of which nothing is read meanwhile.
const EVENTS: u64 = 300;

fn publish_large(server: &Server, head: u64) {
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    while server.api.retained().head < head {
        let event = Event::known(KnownType::ConsoleLog, Some(data.clone()));
        server.api.publisher().publish(event).unwrap();
    }
}

async fn overtaken(policy: &str) -> (Server, Stream) {
    let server = Setup::default().events(RETAINED as usize).running().await;
    let connection = Connection::open_narrow(server.addr).await;
    let target = format!("/telemetry/stream?notices=true&overtaken={policy}");
    let stream = Stream::over(connection, &get(&target)).await;
    publish_large(&server, EVENTS);
    (server, stream)
}

/// What frames report about seqs: each delivered one, and the first and last of each gap.
#[derive(Default)]
struct Received {
    delivered: Vec<u64>,
    gaps: Vec<(u64, u64)>,
}

impl Received {
    fn enter(&mut self, frame: &Frame) {
        if frame.is_event() {
            assert_eq!(
                frame.seq(),
                self.position() + 1,
                "the rest is reported as lost"
            );
            self.delivered.push(frame.seq());
        } else if frame.name() == "gap" {
            let gap = frame.json();
            let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
            assert_eq!(from, self.position() + 1);
            assert_eq!(gap["count"], to - from + 1);
            assert_eq!(gap["matching"], to - from + 1);
            self.gaps.push((from, to));
        }
    }

    fn position(&self) -> u64 {
        let delivered = self.delivered.last().copied().unwrap_or(0);
        let lost = self.gaps.last().map_or(0, |gap| gap.1);
        delivered.max(lost)
    }

    fn lost(&self) -> u64 {
        self.gaps.iter().map(|(from, to)| to - from + 1).sum()
    }
}

async fn read_to(stream: &mut Stream, head: u64) -> Received {
    let mut received = Received::default();
    while received.position() < head {
        received.enter(&stream.expect().await);
    }
    assert_eq!(received.delivered.len() as u64 + received.lost(), head);
    assert!(!received.gaps.is_empty(), "the reader lagged");
    received
}

/// The list says the same, as soon as it is all sent.
async fn check_list(server: &Server, policy: &str, received: &Received) {
    let readers = server.readers().await;
    let reader = serde_json::to_value(&readers[0]).unwrap();
    assert_eq!(reader["overtaken"], policy);
    assert_eq!(reader["delivered"], received.delivered.len());
    assert_eq!(reader["lost"], received.lost());
    assert_eq!(reader["filtered"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oldest_resumes_at_the_oldest_retained() {
    let (server, mut stream) = overtaken("oldest").await;
    let received = read_to(&mut stream, EVENTS).await;
    let retained: Vec<_> = (EVENTS - RETAINED + 1..=EVENTS).collect();
    assert!(received.delivered.ends_with(&retained));
    check_list(&server, "oldest", &received).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_gives_up_what_is_retained_too() {
    let (server, mut stream) = overtaken("head").await;
    let received = read_to(&mut stream, EVENTS).await;
    // What it gave up each time is all that was retained then, and what was gone before that.
    for (from, to) in &received.gaps {
        assert!(RETAINED < to - from + 1, "{from} to {to}");
    }
    check_list(&server, "head", &received).await;
    // From there it continues as usual.
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.seqs(1).await, [EVENTS + 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_with_the_cursor_to_resume_from() {
    let (server, mut stream) = overtaken("close").await;
    let frames = stream.rest().await;
    let mut received = Received::default();
    for frame in &frames {
        received.enter(frame);
    }
    assert_eq!(received.gaps.len(), 1, "at the first loss");
    let bye = frames.last().unwrap();
    let last = received.position();
    let expected = json!({"reason": "overtaken", "last_seq": last});
    assert_eq!((bye.name(), bye.json()), ("bye", expected));
    assert!(bye.retry.is_some());
    server
        .until_metric("tapline_streams_ended_total{reason=\"overtaken\"}", 1)
        .await;
    assert_eq!(server.readers().await.len(), 0);
    // Who comes back has everything up to there accounted for.
    let query = "notices=true&overtaken=close";
    let mut again = Stream::resume(server.addr, query, last.to_string()).await;
    let hello = again.notice("hello").await;
    let used = hello["used"].as_u64().unwrap();
    assert_eq!(hello["lost"], used - last);
    let seqs = again.seqs((EVENTS - used) as usize).await;
    assert_eq!(seqs, (used + 1..=EVENTS).collect::<Vec<_>>());
}

/// However often it is overtaken while a batch is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_at_the_first_loss_while_events_flow() {
    let server = Setup::default().events(RETAINED as usize).running().await;
    let _flows = server.flood();
    for _ in 0..20 {
        let mut stream = Stream::open(server.addr, "notices=true&overtaken=close").await;
        let frames = stream.rest().await;
        let gap = frames.iter().position(|frame| frame.name() == "gap");
        let behind: Vec<_> = frames[gap.unwrap() + 1..].iter().map(Frame::name).collect();
        assert_eq!(behind, ["bye"]);
    }
}

#[tokio::test]
async fn other_words_are_refused() {
    let server = Setup::default().running().await;
    let answer = server
        .call(&request("GET", "/telemetry/stream?overtaken=newest"))
        .await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("overtaken"), "{}", answer.text());
}
