//! The client reads a stream of arbitrary Server-Sent Events.
//!
//! The first byte of the input says how the answer is cut into chunks (its lower bits) and whether the client filters by
//! type (its highest bit). The rest is the body of the answer; `\x1e` ends a connection, and the client resumes with its
//! cursor.
//!
//! The client's parser is private, so the bytes go through a socket and HTTP.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tapline_client::{Client, Cursor, Reconnect, Start, StreamItem, StreamOptions};
use tapline_oapi::{ByeReason, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// However a stream is cut into chunks, the client yields the same items: events in order, none twice, and each unchanged.
pub fn client(input: &[u8]) {
    let (how, body) = match input.split_first() {
        Some((how, body)) => (*how, body),
        None => (0, input),
    };
    let mut start = Start::Oldest;
    for body in body.split(|byte| *byte == 0x1e).take(4) {
        let options = StreamOptions {
            start,
            types: Vec::from_iter((how & 0x80 != 0).then(|| "my_*".to_owned())),
            reconnect: Reconnect {
                attempts: Some(0),
                ..Reconnect::default()
            },
            ..StreamOptions::default()
        };
        let whole = follow(&[body], &options);
        let size = usize::from(how & 0x7f) + 1;
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(
            follow(&pieces, &options),
            whole,
            "cut into pieces of {size} bytes"
        );
        check(body, &whole);
        start = match whole.cursor {
            Some(cursor) => Start::After(cursor),
            None => options.start,
        };
    }
}

/// What a client yields for a stream.
#[derive(Debug, PartialEq)]
struct Yielded {
    /// The events among the items: their cursors and their JSON.
    events: Vec<(Cursor, String)>,
    /// All items as text, the error at the end included.
    items: Vec<String>,
    cursor: Option<Cursor>,
}

fn follow(pieces: &[&[u8]], options: &StreamOptions) -> Yielded {
    PEER.with_borrow_mut(|peer| {
        let peer = peer.get_or_insert_with(Peer::new);
        *peer.answer.lock().unwrap_or_else(PoisonError::into_inner) = in_chunks(pieces);
        peer.runtime.block_on(async {
            let mut stream = peer.client.follow(options.clone());
            let mut yielded = Yielded {
                events: Vec::new(),
                items: Vec::new(),
                cursor: None,
            };
            while let Some(item) = stream.next().await {
                yielded.items.push(format!("{item:?}"));
                if let Ok(StreamItem::Event(event)) = item {
                    yielded.events.push((event.cursor(), event.into_json()));
                }
            }
            yielded.cursor = stream.cursor();
            yielded
        })
    })
}

fn check(body: &[u8], yielded: &Yielded) {
    let last = yielded.items.last().map(String::as_str).unwrap_or_default();
    let says_why = last.starts_with("Err(") || last.starts_with("Ok(Bye(");
    assert!(says_why, "a stream ends with a reason");
    // Invalid UTF-8 is an error from some frame on; the reference does not model which events come before it.
    if let Ok(body) = std::str::from_utf8(body) {
        assert_eq!(yielded.events, expected(&frames(body)));
    }
}

/// The part of an envelope that is used if its frame has no id.
#[derive(Deserialize)]
struct Seq {
    seq: u64,
}

/// The events of these frames: all that were not delivered before, up to the first invalid frame or to a `bye` with a final
/// reason.
fn expected(frames: &[Frame]) -> Vec<(Cursor, String)> {
    let mut events = Vec::new();
    // The position. Seqs of different or unknown epochs cannot be compared.
    let mut position: Option<Cursor> = None;
    let is_delivered = |at: &Cursor, position: &Option<Cursor>| {
        let same = |it: &&Cursor| it.epoch.is_some() && it.epoch == at.epoch;
        position
            .as_ref()
            .filter(same)
            .is_some_and(|it| at.seq <= it.seq)
    };
    for Frame { id, event, data } in frames {
        let here = |seq| Cursor {
            seq,
            epoch: position.and_then(|it| it.epoch),
        };
        let id = id.as_deref().and_then(|id| id.parse::<Cursor>().ok());
        let to = match (data, event.as_deref()) {
            (None, _) => id,
            (Some(json), None | Some("message")) => {
                let seq = || Some(serde_json::from_str::<Seq>(json).ok()?.seq);
                let at = id.or_else(|| seq().map(here));
                let Some(at) = at else {
                    break;
                };
                if !is_delivered(&at, &position) {
                    events.push((at, json.clone()));
                }
                Some(at)
            }
            (Some(json), Some(name)) => match Notice::parse(name, json) {
                Err(_) => break,
                Ok(Some(Notice::Hello(hello))) => Some(Cursor {
                    seq: hello.used,
                    epoch: Some(hello.epoch),
                }),
                Ok(Some(Notice::Gap(gap))) => Some(here(gap.to)),
                Ok(Some(Notice::Beat(beat))) => Some(here(beat.position)),
                Ok(Some(Notice::Filter(filter))) => Some(here(filter.after)),
                Ok(Some(Notice::Bye(bye))) => match bye.reason {
                    ByeReason::Expired | ByeReason::Overtaken | ByeReason::Complete => break,
                    _ => Some(here(bye.last_seq)),
                },
                Ok(Some(Notice::Epoch(epoch))) => Some(Cursor {
                    seq: 0,
                    epoch: Some(epoch.epoch),
                }),
                Ok(Some(Notice::Session(_)) | None) => None,
            },
        };
        if let Some(to) = to.filter(|to| !is_delivered(to, &position)) {
            position = Some(to);
        }
    }
    events
}

/// The fields of a frame that matter for events.
struct Frame {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
}

/// A simple parser, which reads the whole body at once.
fn frames(body: &str) -> Vec<Frame> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = body.split('\n').collect();
    // A line without an end is no line, and lines without a blank line after them are no frame.
    lines.pop();
    let whole = lines
        .split_inclusive(|line| line.is_empty())
        .filter(|frame| frame.last() == Some(&""));
    whole
        .map(|lines| {
            let fields = lines.iter().map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name, value.strip_prefix(' ').unwrap_or(value))
            });
            let values = |name| {
                let named = fields.clone().filter(move |(known, _)| *known == name);
                named.map(|(_, value)| value)
            };
            let data: Vec<&str> = values("data").collect();
            Frame {
                id: values("id")
                    .rfind(|id| !id.contains('\0'))
                    .map(str::to_owned),
                event: values("event")
                    .next_back()
                    .filter(|event| !event.is_empty())
                    .map(str::to_owned),
                data: (!data.is_empty()).then(|| data.join("\n")),
            }
        })
        .collect()
}

thread_local! {
    /// Connections are reused between inputs, because there are not enough ports for a new one each time.
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
}

/// The client and its server, in one thread.
struct Peer {
    runtime: Runtime,
    client: Client,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Peer {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be created");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let client = runtime.block_on(async { Client::new(&format!("http://{address}")) });
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        runtime.spawn(serve(listener, answer.clone()));
        Self {
            client: client.expect("that is an address"),
            runtime,
            answer,
        }
    }
}

/// Answers every request with `answer`.
async fn serve(listener: TcpListener, answer: Arc<Mutex<Vec<u8>>>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(answer_all(socket, answer.clone()));
    }
}

async fn answer_all(mut socket: TcpStream, answer: Arc<Mutex<Vec<u8>>>) {
    let mut request = Vec::new();
    // Until the client closes the connection, which it does if it does not read the answer to its end.
    while socket.read_buf(&mut request).await.is_ok_and(|n| n > 0) {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        let bytes = answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A complete HTTP answer with each piece in its own chunk.
fn in_chunks(pieces: &[&[u8]]) -> Vec<u8> {
    let mut answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}
