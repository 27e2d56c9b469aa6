//! A scripted server: it answers the nth connection with the nth script.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The answer to one connection.
pub(crate) struct Answer {
    pieces: Vec<Vec<u8>>,
    /// Keep the connection open after the answer.
    hold: bool,
}

impl Answer {
    /// A complete answer with a body.
    pub(crate) fn json(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    /// These bytes.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            pieces: vec![bytes.into()],
            hold: false,
        }
    }

    /// A stream of these frames; the connection ends after them.
    pub(crate) fn stream(frames: &str) -> Self {
        Self::stream_in_chunks(frames, usize::MAX)
    }

    /// The same, in HTTP chunks of `size` bytes, each written separately.
    pub(crate) fn stream_in_chunks(frames: &str, size: usize) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut pieces = vec![head.as_bytes().to_vec()];
        for chunk in frames.as_bytes().chunks(size) {
            let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
            piece.extend_from_slice(chunk);
            piece.extend_from_slice(b"\r\n");
            pieces.push(piece);
        }
        Self {
            pieces,
            hold: false,
        }
    }

    /// The same answer, but the connection stays open.
    pub(crate) fn and_hold(mut self) -> Self {
        self.hold = true;
        self
    }
}

pub(crate) struct Scripted {
    pub(crate) url: String,
    requests: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::unbounded_channel();
        let answers: Vec<_> = answers.into_iter().collect();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                // The test may end before it reads its last request.
                let _ = seen.send(read_request(&mut socket).await);
                for piece in answer.pieces {
                    if socket.write_all(&piece).await.is_err() {
                        break;
                    }
                    // Lets the client read piece by piece; nothing depends on it.
                    tokio::task::yield_now().await;
                }
                if answer.hold {
                    held.push(socket);
                }
            }
            if !held.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        Self {
            url,
            requests,
            task,
        }
    }

    /// The next request, in lower case: head and body.
    pub(crate) async fn request(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(10), self.requests.recv())
            .await
            .expect("a request should arrive")
            .expect("the script has an answer left")
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok())
                .unwrap_or(0);
            if head + 4 + length <= request.len() {
                return text;
            }
        }
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the client hung up within its request: {text}");
        request.extend_from_slice(&buffer[..read]);
    }
}
