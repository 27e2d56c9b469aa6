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
        let (status, length) = read_head(&mut self.socket).await?;
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

/// Status and length of an answer.
async fn read_head(socket: &mut BufReader<TcpStream>) -> io::Result<(u16, usize)> {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().unwrap();
        } else if line.is_empty() {
            return Ok((status, length));
        }
    }
}

/// A stream, with notices.
pub(crate) struct Follower {
    socket: BufReader<TcpStream>,
    line: String,
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
    /// `query` is what stands behind `notices=true`, `last` where to resume.
    pub(crate) async fn open(address: &str, query: &str, last: &str) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, query, last).await
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
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let socket = socket.connect(address.parse().unwrap()).await?;
        Self::over(socket, query, "").await
    }

    async fn over(socket: TcpStream, query: &str, last: &str) -> io::Result<Self> {
        let mut socket = BufReader::with_capacity(1024, socket);
        let last = match last {
            "" => String::new(),
            last => format!("last-event-id: {last}\r\n"),
        };
        let request = format!(
            "GET /telemetry/stream?notices=true{query} HTTP/1.1\r\nhost: localhost\r\n{last}\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        match read_head(&mut socket).await? {
            (200, _) => Ok(Self {
                socket,
                line: String::new(),
            }),
            (status, _) => Err(io::Error::other(format!("answered with {status}"))),
        }
    }

    /// The next frame; `None` where the stream has ended or broken.
    ///
    /// Its chunks are passed over: a line of theirs is a hexadecimal number alone or empty, and no field of a
    /// frame is either.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame::default();
        loop {
            self.line.clear();
            if !matches!(self.socket.read_line(&mut self.line).await, Ok(1..)) {
                return None;
            }
            let line = self.line.trim_end_matches(['\r', '\n']);
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

    /// The next frame, which must arrive before the deadline.
    pub(crate) async fn expect(&mut self) -> Frame {
        in_time(self.next())
            .await
            .expect("the stream should continue")
    }
}
