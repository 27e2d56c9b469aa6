//! Agents over HTTP: the protocol's streamable HTTP, without sessions, under the rules of who may call.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::tower::StreamableHttpService;
use tapline_access::{Access, AccessConfig, Requirement, TokenSource};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Server;
use crate::failure::Failure;
use crate::output::print;
use crate::{reload, signals};

/// Where agents send their messages.
const PATH: &str = "/mcp";

/// How many connections are open at the same time. Further ones wait to be accepted.
const CONNECTIONS: usize = 64;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest message of an agent, in bytes.
const MESSAGE_BYTES: usize = 1024 * 1024;

type Service = StreamableHttpService<Server, NeverSessionManager>;

/// Serves until SIGINT or SIGTERM.
pub(super) async fn serve(
    address: SocketAddr,
    token: Option<TokenSource>,
    server: Server,
) -> Result<(), Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "--listen {address}: this is without TLS, so the token and all events could be read on their way; listen on a \
             loopback address such as 127.0.0.1"
        )));
    }
    let access = AccessConfig {
        token,
        ..AccessConfig::default()
    };
    let access = Arc::new(access.load()?);
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Failure::Listen { address, source })?;
    let address = listener.local_addr().map_err(Failure::Serve)?;
    reload::spawn(access.clone(), None).map_err(Failure::Runtime)?;
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;
    print(&format!("listening on http://{address}{PATH}\n"))?;

    // Nothing has to be remembered between two messages. Hosts and origins are checked before, in one place.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MESSAGE_BYTES)
        .disable_allowed_hosts();
    let service = Service::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    tokio::select! {
        () = stop => Ok(()),
        error = accept(listener, access, service) => Err(Failure::Serve(error)),
    }
}

/// Accepts connections for as long as the system provides them.
async fn accept(listener: TcpListener, access: Arc<Access>, service: Service) -> io::Error {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return io::Error::other("no connection is permitted any more");
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        let (access, service) = (access.clone(), service.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let (access, service) = (access.clone(), service.clone());
                async move { Ok::<_, Infallible>(answer(&access, &service, request).await) }
            });
            // A connection that breaks concerns its client alone.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(socket), answer)
                .await;
            drop(permit);
        });
    }
}

async fn answer(
    access: &Access,
    service: &Service,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    if let Err(error) = access.check(request.headers()) {
        return refusal(StatusCode::FORBIDDEN, &error.to_string());
    }
    if let Err(error) = access.admit(request.headers(), [], Requirement::Token) {
        let mut refusal = refusal(StatusCode::UNAUTHORIZED, &error.to_string());
        let headers = refusal.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, error.challenge());
        return refusal;
    }
    match request.uri().path() {
        PATH => service.handle(request).await,
        _ => refusal(
            StatusCode::NOT_FOUND,
            "the Model Context Protocol is at /mcp",
        ),
    }
}

fn refusal(status: StatusCode, text: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))).boxed());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
