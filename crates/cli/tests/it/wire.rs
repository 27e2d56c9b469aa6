//! A publisher and a follower on plain sockets, so that no library hides what is wrong on the wire.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::program::DEADLINE;

/// The value of `what`, which must resolve before the deadline.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it should have come")
}

/// The time between attempts to connect.
const PACE: Duration = Duration::from_millis(20);

/// One connection for calls in a row.
pub(crate) struct Caller {
    socket: BufReader<TcpStream>,
    address: String,
}

impl Caller {
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: BufReader::new(socket),
            address: address.to_owned(),
        })
    }

    /// Tries until it works, as a client does whose server comes back.
    pub(crate) async fn connect_again(address: &str) -> Self {
        in_time(async {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                if let Ok(caller) = Self::connect(address).await {
                    return caller;
                }
            }
        })
        .await
    }

    /// Status and body of the answer. An error is a connection that broke, and an answer that did not come whole.
    pub(crate) async fn call(&mut self, what: &str, body: &str) -> io::Result<(u16, String)> {
        let kind = if what == "POST /telemetry/events" {
            "application/x-ndjson"
        } else {
            "application/json"
        };
        let request = format!(
            "{what} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await?;
        let (status, length, _) = read_head(&mut self.socket).await?;
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await?;
        Ok((status, String::from_utf8(body).unwrap()))
    }

    /// Publishes these lines.
    pub(crate) async fn publish(&mut self, lines: &str) -> io::Result<Published> {
        let (status, body) = self.call("POST /telemetry/events", lines).await?;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        Ok(Published {
            published: number("published"),
            offered: number("published") + number("filtered") + number("refused"),
            last: number("last_seq"),
        })
    }

    /// The value of a metric, summed over its labels.
    pub(crate) async fn metric(&mut self, name: &str) -> u64 {
        let (_, text) = in_time(self.call("GET /metrics", "")).await.unwrap();
        let lines = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
        });
        lines.sum::<f64>() as u64
    }

    /// Waits until all streams are gone, and all connections but this one.
    pub(crate) async fn all_gone(&mut self) {
        in_time(async {
            while self.metric("tapline_connections_open").await != 1
                || self.metric("tapline_streams_open").await != 0
            {}
        })
        .await;
    }
}

/// What became of lines that were published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) published: u64,
    pub(crate) offered: u64,
    /// The seq of the last one, 0 where there is none.
    pub(crate) last: u64,
}

/// Status and length of an answer, and whether its body has chunks.
async fn read_head(socket: &mut BufReader<TcpStream>) -> io::Result<(u16, usize, bool)> {
    let (mut status, mut length, mut chunked) = (0, 0, false);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().unwrap();
        } else if line == "transfer-encoding: chunked" {
            chunked = true;
        } else if line.is_empty() {
            return Ok((status, length, chunked));
        }
    }
}

/// A stream, with notices.
pub(crate) struct Follower {
    socket: BufReader<TcpStream>,
    chunked: bool,
    /// What came of the body and was not read.
    body: Vec<u8>,
}

/// What came between two blank lines.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Empty for an event of the stream.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) retry: Option<u64>,
    pub(crate) data: String,
}

impl Frame {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.json()[field].as_u64()
    }

    /// The seq of an event.
    pub(crate) fn seq(&self) -> Option<u64> {
        let seq = self.id.split('-').next()?;
        (self.name.is_empty() && !seq.is_empty()).then(|| seq.parse().unwrap())
    }
}

impl Follower {
    /// `query` is what stands behind `notices=true`, `last` where to resume. The address may have a path, under
    /// which a proxy has the server.
    pub(crate) async fn open(address: &str, query: &str, last: &str) -> io::Result<Self> {
        let (address, path) = address.split_once('/').unwrap_or((address, ""));
        Self::over(TcpStream::connect(address).await?, path, query, last).await
    }

    /// A stream at another path.
    pub(crate) async fn open_at(address: &str, target: &str, last: &str) -> io::Result<Self> {
        Self::ask(TcpStream::connect(address).await?, target, last).await
    }

    /// Tries until it works, as a client does whose server comes back.
    pub(crate) async fn open_again(address: &str, query: &str, last: &str) -> Self {
        in_time(async {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                if let Ok(follower) = Self::open(address, query, last).await {
                    return follower;
                }
            }
        })
        .await
    }

    /// A follower whose socket buffers few bytes.
    pub(crate) async fn open_narrow(address: &str, query: &str) -> io::Result<Self> {
        let (address, path) = address.split_once('/').unwrap_or((address, ""));
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let socket = socket.connect(address.parse().unwrap()).await?;
        Self::over(socket, path, query, "").await
    }

    async fn over(socket: TcpStream, path: &str, query: &str, last: &str) -> io::Result<Self> {
        let path = match path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        let target = format!("{path}/telemetry/stream?notices=true{query}");
        Self::ask(socket, &target, last).await
    }

    async fn ask(socket: TcpStream, target: &str, last: &str) -> io::Result<Self> {
        let host = socket.peer_addr()?;
        let mut socket = BufReader::with_capacity(1024, socket);
        let last = match last {
            "" => String::new(),
            last => format!("last-event-id: {last}\r\n"),
        };
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{last}\r\n");
        socket.write_all(request.as_bytes()).await?;
        match read_head(&mut socket).await? {
            (200, _, chunked) => Ok(Self {
                socket,
                chunked,
                body: Vec::new(),
            }),
            (status, _, _) => Err(io::Error::other(format!("answered with {status}"))),
        }
    }

    /// The next frame; `None` where the stream has ended or broken.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame::default();
        loop {
            let line = self.next_line().await?;
            if line.is_empty() {
                if !frame.data.is_empty() {
                    return Some(frame);
                }
            } else if let Some((name, value)) = line.split_once(": ") {
                match name {
                    "event" => value.clone_into(&mut frame.name),
                    "id" => value.clone_into(&mut frame.id),
                    "data" => frame.data.push_str(value),
                    "retry" => frame.retry = Some(value.parse().unwrap()),
                    _ => {}
                }
            }
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.body.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.body.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.chunked {
                // Without chunks, lines are what can be read at a time.
                let read = self.socket.read_until(b'\n', &mut self.body).await;
                if !matches!(read, Ok(1..)) || !self.body.ends_with(b"\n") {
                    return None;
                }
                continue;
            }
            let mut length = String::new();
            self.socket.read_line(&mut length).await.ok()?;
            // A proxy divides what it passes on as it likes.
            let length = usize::from_str_radix(length.trim_end(), 16).ok()?;
            let before = self.body.len();
            self.body.resize(before + length, 0);
            let chunk = &mut self.body[before..];
            self.socket.read_exact(chunk).await.ok()?;
            let mut end = [0; 2];
            self.socket.read_exact(&mut end).await.ok()?;
            if length == 0 {
                return None;
            }
        }
    }

    /// The next frame, which must arrive before the deadline.
    pub(crate) async fn expect(&mut self) -> Frame {
        in_time(self.next())
            .await
            .expect("the stream should continue")
    }
}
