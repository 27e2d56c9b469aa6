//! Streams that are compressed: for who asks, where it is switched on, and readable as they come.

use std::io::Write as _;

use flate2::write::GzDecoder;
use tapline_oapi::KnownType;

use crate::http::{Connection, Request, get};
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

async fn compressing() -> Server {
    Setup::default()
        .options(|options| options.compress = true)
        .running()
        .await
}

fn ask(codings: &str) -> Request {
    get("/telemetry/stream?notices=true").header("accept-encoding", codings)
}

/// A compressed stream, and what it says so far.
struct Compressed {
    connection: Connection,
    decoder: GzDecoder<Vec<u8>>,
}

impl Compressed {
    async fn open(server: &Server) -> Self {
        let mut connection = Connection::open(server.addr).await;
        connection.write(&ask("gzip").bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.header("content-encoding"), Some("gzip"));
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Self {
            connection,
            decoder: GzDecoder::new(Vec::new()),
        }
    }

    /// Reads what comes, until it ends with this; false at the stream's end.
    async fn until(&mut self, end: &str) -> bool {
        loop {
            self.decoder.flush().unwrap();
            if String::from_utf8_lossy(self.decoder.get_ref()).contains(end) {
                return true;
            }
            let mut bytes = Vec::new();
            if !self.connection.read_chunk(&mut bytes).await {
                return false;
            }
            self.decoder.write_all(&bytes).unwrap();
        }
    }
}

/// Each event is there before the next one is published: nothing waits in a compressor.
#[tokio::test]
async fn every_event_can_be_read_as_soon_as_it_is_there() {
    let mut server = compressing().await;
    let mut stream = Compressed::open(&server).await;
    assert!(stream.until("event: session\n").await);
    for seq in 1..=50 {
        assert_eq!(server.publish(KnownType::PageLoad).seq(), seq);
        let event = format!("id: {seq}-{}\ndata: {{\"seq\":{seq},", server.epoch());
        assert!(stream.until(&event).await, "{seq}");
    }
    server.begin_stop();
    assert!(!stream.until("this never comes").await);
    // The end is the end of the compressed stream, too: with its checksum.
    let text = String::from_utf8(stream.decoder.finish().unwrap()).unwrap();
    assert_eq!(text.matches("\ndata: {\"seq\":").count(), 50);
    assert!(text.contains("event: bye\n"), "{text}");
    assert!(text.ends_with("\n\n"), "{text}");
}

#[tokio::test]
async fn it_is_for_who_asks_for_it() {
    let server = compressing().await;
    for (codings, expected) in [
        ("gzip", true),
        ("gzip, deflate, br", true),
        ("br;q=1.0, GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0, br", false),
        ("br", false),
        ("xgzip", false),
        ("identity", false),
    ] {
        let mut connection = Connection::open(server.addr).await;
        connection.write(&ask(codings).bytes()).await;
        let head = connection.head().await;
        let coding = expected.then_some("gzip");
        assert_eq!(head.header("content-encoding"), coding, "{codings}");
        assert_eq!(head.header("vary"), Some("accept-encoding"));
    }
    let mut plain = Stream::open(server.addr, "").await;
    server.publish(KnownType::PageLoad);
    assert_eq!(plain.seqs(1).await, [1]);
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let server = running().await;
    let mut stream = Stream::ask(server.addr, &ask("gzip")).await;
    assert_eq!(stream.head.header("content-encoding"), None);
    assert_eq!(stream.head.header("vary"), None);
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.seqs(1).await, [1]);
}

/// Much that is alike takes little: a whole backlog in one go.
#[tokio::test]
async fn what_repeats_takes_little() {
    let server = compressing().await;
    server.fill_to(1000);
    let mut stream = Compressed::open(&server).await;
    assert!(stream.until("\"seq\":1000,").await);
    let plain = stream.decoder.get_ref().len() as u64;
    let sent = server.metric("tapline_stream_bytes_total").await;
    assert!(0 < sent && sent * 4 < plain, "{sent} bytes for {plain}");
}
