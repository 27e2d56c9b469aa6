//! One connection to the endpoint, and one request after the other on it.

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tapline_access::{ServerName, TlsConnector};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::endpoint::Endpoint;
use crate::headers::{self, HeadersError};
use crate::options::OtlpOptions;

/// The most bytes of an answer that are read. It contains a count and a message.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends requests to the endpoint, one at a time, on a connection that is kept.
pub(crate) struct Sender {
    endpoint: Endpoint,
    host: HeaderValue,
    /// For `https`.
    tls: Option<TlsConnector>,
    timeout: Duration,
    headers_file: Option<PathBuf>,
    headers: HeaderMap,
    connection: Option<Connection>,
}

/// What a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Traces,
}

struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Moves the bytes. Ends with the connection.
    _task: JoinSet<()>,
}

/// Why there is no answer. Another attempt may have one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot connect to {endpoint}")]
    Connect {
        endpoint: Endpoint,
        source: Box<dyn StdError + Send + Sync>,
    },
    #[error("{endpoint} did not answer within {timeout:?}")]
    TimedOut {
        endpoint: Endpoint,
        timeout: Duration,
    },
    #[error("the connection to {endpoint} broke before there was an answer")]
    Broken {
        endpoint: Endpoint,
        source: hyper::Error,
    },
}

/// Why the body of an answer is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("its body is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("its body did not end in time")]
    TimedOut,
    #[error("its body broke off")]
    Broken,
}

impl Sender {
    /// Connects to nothing yet.
    pub(crate) fn new(
        options: &OtlpOptions,
        tls: Option<TlsConnector>,
        headers: HeaderMap,
    ) -> Self {
        let endpoint = options.endpoint.clone();
        Self {
            host: HeaderValue::from_str(&endpoint.authority)
                .expect("the authority of a URL is visible ASCII"),
            endpoint,
            tls,
            timeout: options.timeout,
            headers_file: options.headers_file.clone(),
            headers,
            connection: None,
        }
    }

    /// Reads the headers file again, and says whether it gave other headers. Where it cannot be used, those before
    /// stay.
    pub(crate) async fn reload_headers(&mut self) -> Result<bool, HeadersError> {
        let Some(path) = self.headers_file.clone() else {
            return Ok(false);
        };
        let read = tokio::task::spawn_blocking(move || headers::read(&path)).await;
        // Only a runtime that shuts down drops the task.
        let Ok(headers) = read else { return Ok(false) };
        let headers = headers?;
        let has_changed = headers != self.headers;
        self.headers = headers;
        Ok(has_changed)
    }

    /// Sends a request, and waits for its answer.
    ///
    /// A connection that was kept may have been closed by the other end in the meantime, so that a request that
    /// breaks there is sent again at once, on a new one.
    pub(crate) async fn post(
        &mut self,
        signal: Signal,
        body: Bytes,
        is_gzip: bool,
    ) -> Result<Answer, Fault> {
        let deadline = Instant::now() + self.timeout;
        let kept = self.connection.take().filter(|it| !it.requests.is_closed());
        if let Some(connection) = kept {
            let request = self.request(signal, body.clone(), is_gzip);
            let answer = self.exchange(connection, request, deadline).await;
            if !matches!(answer, Err(Fault::Broken { .. })) {
                return answer;
            }
        }
        let connection = match timeout_at(deadline, self.connect()).await {
            Ok(connection) => connection.map_err(|source| Fault::Connect {
                endpoint: self.endpoint.clone(),
                source,
            })?,
            Err(_) => return Err(self.timed_out()),
        };
        let request = self.request(signal, body, is_gzip);
        self.exchange(connection, request, deadline).await
    }

    async fn connect(&self) -> Result<Connection, Box<dyn StdError + Send + Sync>> {
        let address = (&*self.endpoint.host, self.endpoint.port);
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => {
                let name = ServerName::try_from(self.endpoint.host.clone())?;
                handshake(tls.connect(name, tcp).await?).await
            }
        }
    }

    async fn exchange(
        &mut self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let sent = async {
            connection.requests.ready().await?;
            connection.requests.send_request(request).await
        };
        let response = match timeout_at(deadline, sent).await {
            Ok(response) => response.map_err(|source| Fault::Broken {
                endpoint: self.endpoint.clone(),
                source,
            })?,
            Err(_) => return Err(self.timed_out()),
        };
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect();
        let body = match timeout_at(deadline, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLong),
            Ok(Err(_)) => Err(BodyFault::Broken),
            Err(_) => Err(BodyFault::TimedOut),
        };
        if body.is_ok() {
            self.connection = Some(connection);
        }
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    fn request(&self, signal: Signal, body: Bytes, is_gzip: bool) -> Request<Full<Bytes>> {
        let mut headers = self.headers.clone();
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "tapline/",
                env!("CARGO_PKG_VERSION")
            )));
        headers.insert(HOST, self.host.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let path = match signal {
            Signal::Logs => &self.endpoint.path,
            Signal::Traces => &self.endpoint.traces_path,
        };
        *request.uri_mut() = path.clone().into();
        *request.headers_mut() = headers;
        request
    }

    fn timed_out(&self) -> Fault {
        Fault::TimedOut {
            endpoint: self.endpoint.clone(),
            timeout: self.timeout,
        }
    }
}

async fn handshake<S>(socket: S) -> Result<Connection, Box<dyn StdError + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // The request that it breaks gets the error, too.
        let _ = connection.await;
    });
    Ok(Connection {
        requests,
        _task: task,
    })
}

/// Compressed with gzip, on a thread that may take its time.
pub(crate) async fn gzip(body: Bytes) -> io::Result<Bytes> {
    let compress = move || {
        // The fastest level: a tenth of the size, at a third of the time of the default.
        let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        gzip.write_all(&body)?;
        gzip.finish().map(Bytes::from)
    };
    tokio::task::spawn_blocking(compress)
        .await
        .map_err(io::Error::other)?
}
