//! One document on a loopback port, for a browser on the same machine: [`serve_document`].

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tapline_access::Access;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::calls::{REQUEST_ID, RequestId};

/// How long the head of a request may take.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Answers `GET /` with this HTML until `stop` completes, and nothing else.
///
/// A request is refused whose `Host` is not a name of this machine, or whose `Origin` is that of a web page: the document may
/// hold secrets.
///
/// # Cancel safety
///
/// Dropping the future closes the listener and its connections.
pub async fn serve_document(
    listener: TcpListener,
    html: impl Into<Bytes>,
    stop: impl Future<Output = ()>,
) {
    let html = html.into();
    let access = std::sync::Arc::<Access>::default();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let socket = tokio::select! {
            () = stop.as_mut() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let (html, access) = (html.clone(), access.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &html, &access);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A connection that breaks concerns its client alone.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, html: &Bytes, access: &Access) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, body) = match access.check(request.headers()) {
        Err(error) => (StatusCode::FORBIDDEN, Bytes::from(error.to_string())),
        Ok(()) if request.uri().path() != "/" => (
            StatusCode::NOT_FOUND,
            Bytes::from_static(b"only `/` exists here"),
        ),
        Ok(()) if !is_read => (
            StatusCode::METHOD_NOT_ALLOWED,
            Bytes::from_static(b"`/` is read with GET"),
        ),
        Ok(()) => (StatusCode::OK, html.clone()),
    };
    let kind = match status {
        StatusCode::OK => "text/html; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let id = RequestId::of(request.headers());
    answer.headers_mut().insert(REQUEST_ID, id.into_header());
    // Its policy is in the document, but for this.
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (header::ALLOW, "GET, HEAD"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
