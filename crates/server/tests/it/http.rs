//! HTTP/1.1 as it is on the wire: requests written out, answers read byte by byte.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// Far more than anything here takes; a test that waits for so long waits for ever.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it should have come")
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
    }
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target)
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().into()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// A body that says how long it is and not what it is.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().into());
        self
    }

    pub(crate) fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub(crate) fn lines(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/x-ndjson")
            .body(body)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if self.headers.iter().all(|(name, _)| name != "host") {
            bytes.extend_from_slice(b"host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// Status and headers of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The one value that the header has.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "`{name}` is there twice");
        value
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body, which is JSON and declared as such. The request id of an error, which every error has, is
    /// checked and left out.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let mut body: Value = serde_json::from_slice(&self.body).unwrap();
        if self.status() >= 400 {
            let id = body.as_object_mut().unwrap().remove("request_id");
            let id = id.unwrap_or_else(|| panic!("an error without a request id: {self:?}"));
            assert_eq!(id.as_str(), self.header("x-request-id"));
        }
        body
    }
}

/// A socket, with TLS in between or without.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub(crate) struct Connection {
    stream: BufReader<Box<dyn Socket>>,
    /// What is left of a chunked body: unread bytes of the chunk at hand.
    chunk: usize,
}

/// A socket that sends what it is given at once.
pub(crate) async fn tcp(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::over(tcp(addr).await)
    }

    /// A connection whose socket takes few bytes before its peer reads them.
    pub(crate) async fn open_narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(addr).await.unwrap())
    }

    pub(crate) fn over(socket: impl Socket + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(socket)),
            chunk: 0,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        in_time(self.stream.write_all(bytes)).await.unwrap();
        in_time(self.stream.flush()).await.unwrap();
    }

    /// Says that nothing more will be written.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) async fn call(&mut self, request: &Request) -> Answer {
        self.write(&request.bytes()).await;
        self.answer(&request.method).await
    }

    /// The next answer, to a request with this method.
    pub(crate) async fn answer(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let mut body = Vec::new();
        if method == "HEAD" || head.status == 204 {
        } else if head.is_chunked() {
            while self.read_chunk(&mut body).await {}
        } else {
            let length = head.header("content-length").expect("a length, or chunks");
            body.resize(length.parse().unwrap(), 0);
            in_time(self.stream.read_exact(&mut body)).await.unwrap();
        }
        Answer { head, body }
    }

    /// The head of an answer. Every answer has a request id.
    pub(crate) async fn head(&mut self) -> Head {
        let line = self.line().await;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .or(line.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let head = Head {
            status: status.unwrap_or_else(|| panic!("no answer: {line:?}")),
            headers,
        };
        let id = head.header("x-request-id");
        assert!(
            id.is_some_and(|id| !id.is_empty()),
            "no request id: {head:?}"
        );
        head
    }

    /// Appends what has come of a chunked body; false at its end.
    pub(crate) async fn read_chunk(&mut self, body: &mut Vec<u8>) -> bool {
        if self.chunk == 0 {
            let size = self.line().await;
            self.chunk = usize::from_str_radix(&size, 16).unwrap();
            if self.chunk == 0 {
                assert_eq!(self.line().await, "", "no trailers");
                return false;
            }
        }
        let there = in_time(self.stream.fill_buf()).await.unwrap();
        assert!(!there.is_empty(), "the connection broke off within a body");
        let taken = there.len().min(self.chunk);
        body.extend_from_slice(&there[..taken]);
        self.stream.consume(taken);
        self.chunk -= taken;
        if self.chunk == 0 {
            assert_eq!(self.line().await, "", "a chunk ends with a line break");
        }
        true
    }

    /// Whatever comes until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        in_time(self.stream.read_to_end(&mut rest)).await.unwrap();
        rest
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        in_time(self.stream.read_line(&mut line)).await.unwrap();
        match line.strip_suffix("\r\n") {
            Some(line) => line.to_owned(),
            None => panic!("the connection broke off after {line:?}"),
        }
    }
}
