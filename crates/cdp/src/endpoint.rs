//! The address of a browser, and opening a socket to it: [`Endpoint`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder};

/// How long a browser may take from the first packet to the open socket. One that is busy starting
/// takes a second or two.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// How long a browser may take to say whether it is still the same one.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// The largest message that is accepted. Chromium itself keeps no more than that for a DevTools client,
/// and drops larger messages, so no page can end the connection with a long line.
const MAX_MESSAGE: usize = 256 << 20;

/// The largest answer about the version that is read. It has some 500 bytes.
const MAX_VERSION: usize = 64 << 10;

/// The address of a browser's DevTools.
///
/// With `http://127.0.0.1:9222` the browser's WebSocket URL is requested before each connection, so that a
/// restarted browser is found again. The WebSocket URL itself, `ws://127.0.0.1:9222/devtools/browser/…`,
/// is valid for one browser only.
///
/// The `Host` header has the IP address, whatever name was given, because Chromium refuses every
/// name but `localhost`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// The path of the browser's WebSocket, if it is known.
    path: Option<String>,
}

/// A text that is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST:PORT or ws://HOST:PORT/devtools/browser/ID, without a user or TLS")]
pub struct InvalidEndpoint;

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint)?;
        let authority = uri.authority().ok_or(InvalidEndpoint)?;
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint);
        }
        let path = match uri.scheme().map(Scheme::as_str) {
            Some("http") if matches!(uri.path(), "" | "/") && uri.query().is_none() => None,
            Some("ws") => uri.path_and_query().map(ToString::to_string),
            _ => return Err(InvalidEndpoint),
        };
        Ok(Self {
            host: host_of(authority),
            port: authority.port_u16().unwrap_or(80),
            path,
        })
    }
}

/// Without the brackets of an IPv6 address.
fn host_of(authority: &Authority) -> String {
    let host = authority.host();
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(host).to_owned()
}

/// Without the path: a client that has the whole address controls the browser, so no log may contain it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// A socket to a browser.
pub(crate) struct Opened {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// The path that identifies this browser among those that are started later.
    pub(crate) browser: String,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Nothing listens there, perhaps not yet.
    #[error("nothing listens there")]
    Unreachable(#[source] io::Error),
    #[error("no socket within {} s", OPEN_WITHIN.as_secs())]
    TimedOut,
    /// Something listens there, but it does not seem to be a browser.
    #[error("no answer to GET /json/version")]
    Http(#[source] hyper::Error),
    #[error("GET /json/version was answered with status {0}")]
    Status(StatusCode),
    #[error("GET /json/version was answered without a webSocketDebuggerUrl")]
    Version,
    #[error("the WebSocket was refused")]
    Handshake(#[source] Box<tungstenite::Error>),
}

impl OpenError {
    /// The step that failed, if something listens there.
    pub(crate) fn step(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) => None,
            Self::TimedOut => Some("connect"),
            Self::Http(_) | Self::Status(_) | Self::Version => Some("GET /json/version"),
            Self::Handshake(_) => Some("WebSocket handshake"),
        }
    }
}

impl Endpoint {
    /// The address as `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) async fn open(&self) -> Result<Opened, OpenError> {
        let opened = tokio::time::timeout(OPEN_WITHIN, self.open_now()).await;
        opened.unwrap_or(Err(OpenError::TimedOut))
    }

    /// Whether the browser with this path seems to have ended: nothing listens there, or another browser does.
    pub(crate) async fn lost(&self, browser: &str) -> bool {
        let found = tokio::time::timeout(ASK_WITHIN, async {
            let (stream, address) = self.connect().await?;
            match &self.path {
                Some(path) => Ok(path.clone()),
                None => ask_for_browser(stream, address).await,
            }
        });
        match found.await {
            Ok(Ok(found)) => found != browser,
            Ok(Err(error)) => matches!(error, OpenError::Unreachable(_) | OpenError::Http(_)),
            Err(_elapsed) => false,
        }
    }

    async fn open_now(&self) -> Result<Opened, OpenError> {
        let browser = match &self.path {
            Some(path) => path.clone(),
            None => {
                let (stream, address) = self.connect().await?;
                ask_for_browser(stream, address).await?
            }
        };
        let (stream, address) = self.connect().await?;
        let uri = format!("ws://{address}{browser}");
        let uri = uri.parse().map_err(|_| OpenError::Version)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let request = ClientRequestBuilder::new(uri);
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(|error| OpenError::Handshake(Box::new(error)))?;
        Ok(Opened { socket, browser })
    }

    async fn connect(&self) -> Result<(TcpStream, SocketAddr), OpenError> {
        let connected = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            let address = stream.peer_addr()?;
            Ok((stream, address))
        };
        connected.await.map_err(OpenError::Unreachable)
    }
}

/// The path of the browser's WebSocket. Its host is ignored: it is the one that the browser assumes.
async fn ask_for_browser(stream: TcpStream, address: SocketAddr) -> Result<String, OpenError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "webSocketDebuggerUrl")]
        socket: String,
    }

    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(OpenError::Http)?;
    let request = Request::get("/json/version")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .expect("an address is a header's value");
    let answered = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(OpenError::Http)?;
        if answer.status() != StatusCode::OK {
            return Err(OpenError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_VERSION).collect();
        let body = body.await.map_err(|_| OpenError::Version)?;
        let version: Version =
            serde_json::from_slice(&body.to_bytes()).map_err(|_| OpenError::Version)?;
        let uri: Uri = version.socket.parse().map_err(|_| OpenError::Version)?;
        let path = uri.path_and_query().ok_or(OpenError::Version)?;
        Ok(path.to_string())
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answered = &mut answered => answered,
        // The browser may close the connection as soon as it has answered.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(OpenError::Http(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |text: &str, host: &str, port: u16, path: Option<&str>| {
            let expected = Endpoint {
                host: host.to_owned(),
                port,
                path: path.map(str::to_owned),
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        };
        check("http://127.0.0.1:9222", "127.0.0.1", 9222, None);
        check("http://browser:9222/", "browser", 9222, None);
        check("http://[::1]:9222", "::1", 9222, None);
        check("http://localhost", "localhost", 80, None);
        let path = "/devtools/browser/0c1-2?token=x";
        check(&format!("ws://h:1{path}"), "h", 1, Some(path));
        for text in [
            "",
            "127.0.0.1:9222",
            "https://127.0.0.1:9222",
            "wss://127.0.0.1:9222/devtools/browser/1",
            "http://127.0.0.1:9222/json",
            "http://user:password@127.0.0.1:9222",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text}");
        }
    }

    #[test]
    fn the_path_that_controls_the_browser_is_not_shown() {
        let endpoint: Endpoint = "ws://[::1]:9222/devtools/browser/SECRET".parse().unwrap();
        assert_eq!(
            format!("{endpoint} {endpoint:?}"),
            "[::1]:9222 Endpoint([::1]:9222)"
        );
    }
}
