//! How a stream gets here: what a proxy between does to it.

use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT, CONTENT_ENCODING, DATE, HeaderMap, HeaderValue, SERVER, VIA};
use hyper::{Method, StatusCode};
use tapline_oapi::{Hello, Notice};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::http::Http;
use crate::sse::Parser;

/// A stream that asks for nothing that there is yet, with its notices.
const PATH: &str = "/telemetry/stream?notices=true&replay=live";

/// A stream that was opened to see how it gets here. It stays open until this is dropped.
///
/// A server sends the head of its answer and the `hello` at once. Where one of them does not come, something between
/// the server and this client holds it back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Probe {
    /// From the request to the head of the answer. `None` if it did not come within the time.
    pub head_after: Option<Duration>,
    /// From the request to the whole `hello`. `None` if it did not come within the time.
    pub hello_after: Option<Duration>,
    /// The `hello`.
    pub hello: Option<Hello>,
    /// The id of the reader in the list of readers, where the head or the `hello` came.
    pub reader: Option<String>,
    /// What programs between say of themselves: the headers `Via` and `Server`. A Tapline server sends neither.
    pub between: Vec<String>,
    /// Whether the server's header `X-Accel-Buffering: no` arrived. Some proxies obey it and take it away.
    pub says_unbuffered: bool,
    /// How the stream is compressed, although the request does not ask for that.
    pub encoding: Option<String>,
    /// The header `Date` of the answer: a time in whole seconds, by the clock of the last program that set it.
    pub date: Option<String>,
    /// The stream, which is open until this is dropped.
    _body: Option<Incoming>,
}

impl Probe {
    pub(crate) async fn open(http: &Http, within: Duration) -> Result<Self, Error> {
        let mut probe = Self {
            head_after: None,
            hello_after: None,
            hello: None,
            reader: None,
            between: Vec::new(),
            says_unbuffered: false,
            encoding: None,
            date: None,
            _body: None,
        };
        let mut request = http.request(Method::GET, PATH);
        let accept = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(ACCEPT, accept);
        let began = Instant::now();
        let deadline = began + within;
        let Ok(response) = timeout_at(deadline, http.send(request)).await else {
            return Ok(probe);
        };
        let response = response?;
        if response.status() != StatusCode::OK {
            return Err(http.refusal(response).await);
        }
        probe.head_after = Some(began.elapsed());
        probe.read_head(response.headers());
        let mut body = response.into_body();
        if let Ok(hello) = timeout_at(deadline, hello(http, &mut body)).await {
            probe.hello_after = Some(began.elapsed());
            let hello = hello?;
            probe.reader = Some(hello.reader.clone()).filter(|id| !id.is_empty());
            probe.hello = Some(hello);
        }
        probe._body = Some(body);
        Ok(probe)
    }

    fn read_head(&mut self, headers: &HeaderMap) {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let programs = headers.get_all(VIA).iter().chain(headers.get_all(SERVER));
        self.between = programs.filter_map(text).collect();
        let accel = headers.get("x-accel-buffering");
        self.says_unbuffered = accel.is_some_and(|it| it.as_bytes() == b"no");
        self.encoding = headers.get(CONTENT_ENCODING).and_then(text);
        self.date = headers.get(DATE).and_then(text);
        self.reader = headers.get("x-reader-id").and_then(text);
    }
}

/// Reads up to the first `hello`.
async fn hello(http: &Http, body: &mut Incoming) -> Result<Hello, Error> {
    let mut parser = Parser::new();
    loop {
        while let Some(frame) = parser.next().map_err(|error| http.protocol(error))? {
            let (Some(name), Some(json)) = (frame.event, frame.data) else {
                continue;
            };
            // What is no notice is not what is looked for.
            if let Ok(Some(Notice::Hello(hello))) = Notice::parse(&name, &json) {
                return Ok(hello);
            }
        }
        let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
        match next {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    parser.push(bytes);
                }
            }
            Some(Err(error)) => return Err(http.disconnected(Some(error.into()))),
            None => return Err(http.disconnected(None)),
        }
    }
}
