//! Each route, a thin cover over an operation.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use hyper::body::Incoming;
use tapline_access::{AccessError, Grant, is_ticket};
use tapline_api::{
    ApiError, Backend, Delivery, EncodedEnvelope, Epoch, Filter, Missing, NotReady, Page,
    PageQuery, Published, PutAnswer, QueryError, ReaderLedger, StreamQuery, Subscription, Trace,
    WaitQuery,
};
use tapline_oapi::{
    BatchResult, ConfigRequest, ErrorCode, Health, PublishRequest, ReaderKind, ReaderPatch,
    SinkList, Ticket, from_json, openapi,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer::{Failure, Whole, empty, json, text};
use crate::app::App;
use crate::body::{MediaType, RequestBody, media_type, short};
use crate::calls::{self, RequestId};
use crate::cors;
use crate::counts;
use crate::export;
use crate::host::Host;
use crate::joins;
use crate::metrics::{self, Call};
use crate::pace::{Pace, Turns};
use crate::page::{self, Asset};
use crate::readers::{PatchError, ReaderAccount, ReaderSpec};
use crate::route::{Route, Unrouted};
use crate::scope;
use crate::socket::{self, SocketState};
use crate::stream::{Opening, StreamPermit};

use crate::view;

/// What comes of a request.
pub(crate) enum Answer<B: Backend> {
    Whole(Whole),
    /// A stream: the head of its answer, and what is to follow on the socket.
    Stream(Response<()>, Box<Opening<B>>),
}

/// The client of a request.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) state: &'a SocketState,
    /// The socket of its connection.
    pub(crate) tcp: Option<&'a TcpStream>,
}

/// Answers a request for a backend, which is looked for once the caller is admitted to it. `instance` is its name, where it is
/// one of a fleet.
pub(crate) async fn answer<B: Backend>(
    host: &Host,
    instance: Option<&str>,
    client: Client<'_>,
    request: Request<Incoming>,
    find: impl AsyncFnOnce() -> Result<Arc<App<B>>, Failure>,
) -> Answer<B> {
    let (mut head, body) = request.into_parts();
    set_host(&mut head);
    let found = Route::find(&head.method, head.uri.path());
    let exchange = Exchange::begin(host, &found, &head);
    // What the call becomes an event of: calls are captured there before and after it.
    let mut captures = None;
    let handled = catch_panic(async {
        let asked = match exchange.admit(found, client, &head, body)? {
            Admission::Preflight(answer) => return Ok(Answer::Whole(answer)),
            Admission::Asked(asked) => asked,
        };
        scope::check_instance(&asked.grant, instance)?;
        let app = find().await?;
        if asked.route.is_platform_call() && calls::are_captured(&*app.backend) {
            captures = Some(app.clone());
        }
        dispatch(&app, client, asked).await
    })
    .await;
    exchange.end(&head, handled, |route, id, status, took| {
        if let Some(app) = captures {
            let trace = calls::trace_of(&head.headers);
            calls::publish(&*app.backend, route, id, status, took, trace.as_ref());
        }
    })
}

/// Answers a request that is for no backend.
pub(crate) async fn answer_without<B: Backend>(
    host: &Host,
    client: Client<'_>,
    request: Request<Incoming>,
    handle: impl AsyncFnOnce(Asked<'_>) -> Result<Whole, Failure>,
) -> Answer<B> {
    let (mut head, body) = request.into_parts();
    set_host(&mut head);
    let found = Route::find(&head.method, head.uri.path());
    let exchange = Exchange::begin(host, &found, &head);
    let handled = catch_panic(async {
        Ok(Answer::Whole(
            match exchange.admit(found, client, &head, body)? {
                Admission::Preflight(answer) => answer,
                Admission::Asked(asked) => handle(asked).await?,
            },
        ))
    })
    .await;
    exchange.end(&head, handled, |_, _, _, _| {})
}

/// What [`Route::find`] gives: the route, and the id in its path.
type Found<'a> = Result<(Route, Option<&'a str>), Unrouted>;

/// What comes of the checks that every request has to pass.
enum Admission<'a> {
    /// A browser only asks what a page may ask: this is the answer.
    Preflight(Whole),
    /// It is to be handled.
    Asked(Asked<'a>),
}

/// A request of a caller who may make it, as far as the grant permits it.
pub(crate) struct Asked<'a> {
    pub(crate) route: Route,
    /// The id in its path.
    id: Option<&'a str>,
    pub(crate) head: &'a Parts,
    pub(crate) grant: Grant,
    pub(crate) body: RequestBody<'a>,
    request_id: &'a RequestId,
}

/// A request that is being answered: where it is counted, and its id.
struct Exchange<'a> {
    host: &'a Host,
    route: Route,
    call: Call<'a>,
    id: RequestId,
}

impl<'a> Exchange<'a> {
    fn begin(host: &'a Host, found: &Found<'_>, head: &Parts) -> Self {
        let route = found.as_ref().map_or(Route::NotFound, |(route, _)| *route);
        Self {
            host,
            route,
            call: host.metrics.call(route),
            id: RequestId::of(&head.headers),
        }
    }

    /// Checks what every request has to hold, whatever it asks for, and whether the caller may ask for it.
    fn admit<'b>(
        &'b self,
        found: Found<'b>,
        client: Client<'b>,
        head: &'b Parts,
        body: Incoming,
    ) -> Result<Admission<'b>, Failure> {
        if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
            return Err(Failure::new(
                ErrorCode::BadRequest,
                "header `host`: missing; HTTP/1.1 requires it",
            ));
        }
        check_framing(&head.headers)?;
        let options = &self.host.options;
        options.access.check(&head.headers)?;
        if head.method == Method::OPTIONS
            && let Some(preflight) = cors::preflight(&options.access, &head.headers)
        {
            return Ok(Admission::Preflight(preflight));
        }
        let path = head.uri.path();
        let (route, id) = found.map_err(|unrouted| match unrouted {
            Unrouted::NotFound => not_found(path),
            Unrouted::MethodNotAllowed { allow } => method_not_allowed(path, &allow),
        })?;
        let pairs = pairs(&head.uri);
        let query = pairs.iter().map(|(name, text)| (&**name, &**text));
        let grant = options
            .access
            .admit(&head.headers, query, route.requirement())?;
        let is_http2 = head.version == Version::HTTP_2;
        Ok(Admission::Asked(Asked {
            route,
            id,
            head,
            grant,
            body: RequestBody {
                limits: &options.limits,
                state: client.state,
                headers: &head.headers,
                body,
                time: is_http2.then_some(options.limits.body_total_time),
            },
            request_id: &self.id,
        }))
    }

    /// The answer as it is sent. `publish` makes the event of the call.
    fn end<B: Backend>(
        self,
        head: &Parts,
        handled: Result<Answer<B>, Failure>,
        publish: impl FnOnce(Route, &RequestId, StatusCode, Duration),
    ) -> Answer<B> {
        let Self {
            host,
            route,
            call,
            id,
        } = self;
        let mut answer = match handled {
            Ok(answer) => answer,
            Err(failure) => Answer::Whole(failure.into_response(&id)),
        };
        let (status, headers) = match &mut answer {
            Answer::Whole(whole) => (whole.status(), whole.headers_mut()),
            Answer::Stream(head, _) => (head.status(), head.headers_mut()),
        };
        let origin = head.headers.get(header::ORIGIN);
        // Browsers send `origin` with every request that is not a plain `GET`. The headers for browsers would
        // be wasted work for every event that another program publishes.
        if origin.is_some() || matches!(head.method, Method::GET | Method::HEAD) {
            cors::decorate(&host.options.access, origin, headers);
        }
        publish(route, &id, status, call.elapsed());
        tracing::debug!(
            request_id = id.as_str(),
            method = head.method.as_str(),
            path = head.uri.path(),
            status = status.as_u16(),
            "answered"
        );
        headers.insert(calls::REQUEST_ID, id.into_header());
        call.answered(status);
        answer
    }
}

/// Makes `host` what the request was sent to.
///
/// A target with a host of its own (`GET http://host/path`, or HTTP/2) takes the place of the header, whatever
/// that says: RFC 9112, section 3.2.2. Where the header is missing although HTTP/1.1 requires it, and where there are two, they
/// stay so, to be refused.
fn set_host(head: &mut Parts) {
    let mut given = head.headers.get_all(header::HOST).iter();
    let is_right = match (given.next(), given.next()) {
        (None, _) => head.version != Version::HTTP_11,
        (Some(_), None) => true,
        (Some(_), Some(_)) => false,
    };
    if is_right
        && let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(header::HOST, host);
    }
}

/// A panic of a handler ends its request with 500, and nothing else.
async fn catch_panic<T>(handler: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut handler = pin!(handler);
    let poll = |cx: &mut Context<'_>| {
        // What a handler has changed belongs to its request, or is behind a lock that says what a panic
        // leaves there.
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(failed(&*panic))))
    };
    poll_fn(poll).await
}

fn failed(panic: &(dyn Any + Send)) -> Failure {
    let text = match panic.downcast_ref::<&str>() {
        Some(text) => Some(*text),
        None => panic.downcast_ref::<String>().map(|text| &**text),
    };
    let cause = format!("a panic: {}", text.unwrap_or("without a text"));
    Failure::new(ErrorCode::Internal, "the server failed to answer").caused_by(cause)
}

/// Handles a request that was admitted.
async fn dispatch<B: Backend>(
    app: &Arc<App<B>>,
    client: Client<'_>,
    asked: Asked<'_>,
) -> Result<Answer<B>, Failure> {
    let Asked {
        route,
        id,
        head,
        grant,
        body,
        request_id,
    } = asked;
    let pairs = pairs(&head.uri);
    let query = || pairs.iter().map(|(name, text)| (&**name, &**text));
    let whole = match route {
        Route::GetTelemetry => json(StatusCode::OK, &app.backend.state().await?),
        Route::PutTelemetry => put(app, body, request_id).await?,
        Route::PatchTelemetry => patch(app, body, request_id).await?,
        Route::DeleteTelemetry => delete(app, request_id).await?,
        Route::PublishEvents => publish(app, body).await?,
        Route::ReadEvents => read_page(app, query()).await?,
        Route::StreamEvents => return stream(app, client, head, query(), &grant).await,
        Route::WaitForEvent => wait(app, client, query()).await?,
        Route::ListReaders => json(StatusCode::OK, &app.readers.list(&*app.backend)),
        Route::ExportEvents => export::export(app, query()).await?,
        Route::CountEvents => counts::count(app, query()).await?,
        Route::ListRequests => joins::requests(app, query()).await?,
        Route::GetRequest => {
            if let Some((name, _)) = query().next() {
                return Err(QueryError::new(name, "unknown; this call takes no parameters").into());
            }
            joins::request(app, id.unwrap_or_default()).await?
        }
        Route::ViewFile => view::view(query(), body).await?,
        Route::ListNavigations => joins::navigations(app, query()).await?,
        Route::ListProblems => joins::problems(app, query()).await?,
        Route::ListSinks => json(
            StatusCode::OK,
            &SinkList {
                head: app.backend.retained().head,
                epoch: app.backend.epoch(),
                sinks: app.backend.sinks(),
            },
        ),
        Route::PatchReader => patch_reader(app, id.unwrap_or_default(), body).await?,
        Route::IssueTicket => issue_ticket(app, body).await?,
        Route::GetReadiness => readiness(app.stopping.is_cancelled(), || app.backend.readiness())?,
        Route::GetMetrics => {
            let metrics = app.host.metrics.render(&*app.backend);
            typed(metrics::CONTENT_TYPE, metrics)
        }
        Route::GetHealth
        | Route::GetOpenapi
        | Route::ShowPage
        | Route::PageFile
        | Route::ListInstances
        | Route::StreamFleet
        | Route::IssueForFleet
        | Route::NotFound => {
            let path = head.uri.path();
            open(route, path).unwrap_or_else(|| Err(not_found(path)))?
        }
    };
    Ok(Answer::Whole(whole))
}

/// The answer of a route that asks no backend; `None` for the others.
pub(crate) fn open(route: Route, path: &str) -> Option<Result<Whole, Failure>> {
    Some(Ok(match route {
        Route::GetHealth => json(StatusCode::OK, &Health::ok()),
        Route::GetOpenapi => document(),
        Route::ShowPage => page_file(&page::DOCUMENT),
        Route::PageFile => {
            let name = path.rsplit('/').next().unwrap_or_default();
            match Asset::find(name) {
                Some(asset) => page_file(asset),
                None => return Some(Err(not_found(path))),
            }
        }
        _ => return None,
    }))
}

/// Refuses a request whose end two programs may read differently.
///
/// `chunked` is the only transfer coding that is supported. With another one beside it, or with two of it, a
/// proxy in front and this server may not agree on where the body ends.
fn check_framing(headers: &HeaderMap) -> Result<(), Failure> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_plain {
        return Ok(());
    }
    let failure = Failure::new(
        ErrorCode::BadRequest,
        "header `transfer-encoding`: only `chunked` is supported, and only once",
    );
    // Where the next request begins is unknown.
    Err(failure.with(header::CONNECTION, HeaderValue::from_static("close")))
}

async fn put<B: Backend>(
    app: &Arc<App<B>>,
    body: RequestBody<'_>,
    id: &RequestId,
) -> Result<Whole, Failure> {
    let request: ConfigRequest = body.json_or_default().await?;
    let (backend, id) = (app.backend.clone(), id.as_str().to_owned());
    let answer = detached(async move { backend.put(&request, &id).await }).await?;
    let (status, state) = match &answer {
        PutAnswer::Started(state) => (StatusCode::CREATED, state),
        PutAnswer::Replaced(state) | PutAnswer::Cleared(state) => (StatusCode::OK, state),
    };
    tracing::info!(
        session = state.session_id,
        seq = state.seq,
        "telemetry configured"
    );
    Ok(json(status, state))
}

async fn patch<B: Backend>(
    app: &Arc<App<B>>,
    body: RequestBody<'_>,
    id: &RequestId,
) -> Result<Whole, Failure> {
    let request: ConfigRequest = body.json_or_default().await?;
    let (backend, id) = (app.backend.clone(), id.as_str().to_owned());
    let state = detached(async move { backend.patch(&request, &id).await }).await?;
    tracing::info!(
        session = state.session_id,
        seq = state.seq,
        "telemetry reconfigured"
    );
    Ok(json(StatusCode::OK, &state))
}

async fn delete<B: Backend>(app: &Arc<App<B>>, id: &RequestId) -> Result<Whole, Failure> {
    let (backend, id) = (app.backend.clone(), id.as_str().to_owned());
    let state = detached(async move { backend.delete(&id).await }).await?;
    tracing::info!(seq = state.seq, "telemetry session ended");
    Ok(json(StatusCode::OK, &state))
}

/// Runs an operation in a task of its own: it is completed also where its client leaves before the end.
async fn detached<T: Send + 'static>(
    operation: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(operation).await {
        Ok(answer) => Ok(answer?),
        Err(error) => Err(match error.try_into_panic() {
            Ok(panic) => failed(&*panic),
            // Its task was cancelled with the server's runtime.
            Err(_) => stopping(),
        }),
    }
}

async fn publish<B: Backend>(app: &App<B>, body: RequestBody<'_>) -> Result<Whole, Failure> {
    let headers = body.headers;
    let trace = calls::trace_of(headers);
    let bytes = body.whole().await?;
    let expected = "`application/json` or `application/x-ndjson`";
    match media_type(headers, expected)? {
        MediaType::Json => {
            let mut request: PublishRequest = from_json(&bytes).map_err(ApiError::from)?;
            if let Some(trace) = trace {
                trace.mark(request.source.get_or_insert_default());
            }
            Ok(match app.backend.publish(request).await? {
                Published::Captured(envelope) => {
                    text(StatusCode::OK, envelope.json().whole().into_owned())
                }
                Published::NotCaptured(reason) => {
                    let mut answer = empty(StatusCode::NO_CONTENT);
                    let reason = HeaderValue::from_static(reason.as_str());
                    answer.headers_mut().insert("x-not-captured", reason);
                    answer
                }
            })
        }
        MediaType::Lines => {
            let backend = app.backend.clone();
            let result =
                detached(async move { Ok(publish_lines(&*backend, &bytes, trace.as_ref()).await) });
            Ok(json(StatusCode::OK, &result.await?))
        }
    }
}

/// Publishes line by line, and lets other tasks run now and then.
async fn publish_lines(backend: &impl Backend, body: &[u8], trace: Option<&Trace>) -> BatchResult {
    /// Some hundred lines: a few hundred microseconds.
    const PART_BYTES: usize = 64 * 1024;
    let mut result = BatchResult::default();
    let (mut rest, mut line) = (body, 1);
    while !rest.is_empty() {
        let part = rest.len().min(PART_BYTES);
        let end = match rest[part..].iter().position(|byte| *byte == b'\n') {
            Some(more) => part + more + 1,
            None => rest.len(),
        };
        let (lines, left) = rest.split_at(end);
        line += backend.publish_lines(lines, line, trace, &mut result).await;
        rest = left;
        tokio::task::yield_now().await;
    }
    result
}

async fn read_page<'a, B: Backend>(
    app: &App<B>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    let query = PageQuery::from_pairs(query)?;
    let Page {
        envelopes,
        epoch,
        next_offset,
        retained,
        lost,
        missing,
    } = search(app, query).await?;
    app.host.metrics.streams.lost(lost);

    let mut body =
        String::with_capacity(2 + envelopes.iter().map(|e| e.json().len() + 1).sum::<usize>());
    for envelope in &envelopes {
        body.push(if body.is_empty() { '[' } else { ',' });
        body.extend(envelope.json().parts());
    }
    body.push_str(if body.is_empty() { "[]" } else { "]" });

    let mut answer = text(StatusCode::OK, body);
    let headers = answer.headers_mut();
    say_what_follows(headers, next_offset);
    headers.insert("x-head", retained.head.into());
    headers.insert("x-oldest", retained.oldest.into());
    headers.insert("x-epoch", shown(epoch));
    headers.insert("x-lost", lost.into());
    if !missing.is_empty() {
        headers.insert("x-gaps", gaps(&missing));
    }
    Ok(answer)
}

/// Where events are missing, in the order of the page: `4-9, 21-40/7`, if only 7 of the last 20 can have been asked for.
fn gaps(missing: &[Missing]) -> HeaderValue {
    /// Proxies accept some kilobytes of headers.
    const MOST: usize = 64;
    let gaps = missing.iter().take(MOST).map(|gap| {
        let (first, last) = (gap.seqs.start(), gap.seqs.end());
        match last - first + 1 == gap.at_most {
            true => format!("{first}-{last}"),
            false => format!("{first}-{last}/{}", gap.at_most),
        }
    });
    shown(gaps.collect::<Vec<_>>().join(", "))
}

/// A page. Where a text is looked for, as many pages of the backend as make one, within a bounded time: the rest is the
/// next page.
async fn search<B: Backend>(
    app: &App<B>,
    mut query: PageQuery,
) -> Result<Page<B::Envelope>, Failure> {
    const TIME: Duration = Duration::from_secs(1);
    let began = Instant::now();
    let mut found = {
        let _turn = app.host.turns.take_for_page(&query).await;
        app.backend.page(&query).await?
    };
    let limit = query.limit;
    while !query.search.is_empty()
        && let Some(next) = found.next_offset
        && began.elapsed() < TIME
    {
        let has = found.envelopes.len() as u64;
        if limit <= has {
            break;
        }
        query.offset = Some(next);
        query.limit = limit - has;
        tokio::task::yield_now().await;
        let page = {
            let _turn = app.host.turns.take_for_page(&query).await;
            app.backend.page(&query).await?
        };
        let is_empty = found.envelopes.is_empty() && found.lost == 0;
        if page.epoch != found.epoch && !is_empty {
            break;
        }
        found.epoch = page.epoch;
        found.envelopes.extend(page.envelopes);
        found.missing.extend(page.missing);
        found.lost += page.lost;
        found.next_offset = page.next_offset;
        found.retained = page.retained;
    }
    Ok(found)
}

/// Begins a stream; all that is left to do is done on its socket.
async fn stream<'a, B: Backend>(
    app: &Arc<App<B>>,
    client: Client<'_>,
    head: &Parts,
    query: impl Iterator<Item = (&'a str, &'a str)>,
    grant: &Grant,
) -> Result<Answer<B>, Failure> {
    let turn = app.host.turns.take_to_read(head.uri.query()).await;
    let mut query = StreamQuery::from_pairs(query.filter(|(name, _)| !is_ticket(name)))?;
    if let Some(id) = head
        .headers
        .get("last-event-id")
        .filter(|id| !id.is_empty())
    {
        // It wins over `after`. What is not text is not a cursor either, and answered as such.
        query.after = Some(String::from_utf8_lossy(id.as_bytes()).into_owned());
    }
    let asked = query.filter.clone();
    let (mut scope, mut until, mut expires) = (Filter::all(), None, None);
    if let Some(claims) = &grant.ticket {
        let head = app.backend.retained().head;
        let epoch = app.backend.epoch();
        scope::narrow(&mut query, claims, epoch, head).map_err(AccessError::from)?;
        scope = scope::filter(claims);
        until = claims.until();
        expires = Some(Instant::now() + claims.time_left());
    }
    drop(turn);
    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    mark_as_stream(headers);
    headers.insert("x-epoch", shown(app.backend.epoch()));
    if head.method == Method::HEAD {
        return Ok(Answer::Whole(answer.map(|()| Default::default())));
    }
    if app.stopping.is_cancelled() {
        return Err(stopping());
    }
    let permit = StreamPermit::acquire(&app.host)?;
    let gzip = app.host.options.compress && accepts_gzip(&head.headers);
    if app.host.options.compress {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let opened = app.backend.subscribe(&query).await?;
    let overtaken = opened.subscription.overtaken();
    let spec = ReaderSpec {
        kind: ReaderKind::Stream,
        peer: client.address.to_string(),
        asked,
        scope,
        notices: query.notices,
        overtaken,
    };
    let reader = app.readers.register(spec, opened.subscription.ledger());
    headers.insert("x-reader-id", shown(reader.id()));
    let date = httpdate::HttpDate::from(std::time::SystemTime::now());
    headers.insert(header::DATE, shown(date));
    let opening = Opening {
        app: app.clone(),
        opened,
        notices: query.notices,
        until,
        expires: expires.map(Into::into),
        gzip,
        reader,
        permit,
    };
    Ok(Answer::Stream(answer, Box::new(opening)))
}

/// The headers of every stream: no proxy is to hold it back or to keep it.
pub(crate) fn mark_as_stream(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (
            HeaderName::from_static("x-sse-content-type"),
            "application/json",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The first event after a place that matches, or nothing within the time.
async fn wait<'a, B: Backend>(
    app: &App<B>,
    client: Client<'_>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    let query = WaitQuery::from_pairs(query)?;
    let opened = app.backend.subscribe(&query.start).await?;
    let mut subscription = opened.at_cursor()?.subscription;
    let spec = ReaderSpec {
        kind: ReaderKind::Wait,
        peer: client.address.to_string(),
        asked: query.start.filter.clone(),
        scope: Filter::all(),
        notices: false,
        overtaken: subscription.overtaken(),
    };
    let reader = app.readers.register(spec, subscription.ledger());
    let present = app.backend.epoch();
    let found = find_first(&mut subscription, &app.host.turns, |ledger, epoch| {
        reader.store(match epoch == present {
            true => ReaderAccount::Own(ledger),
            false => ReaderAccount::Earlier { ledger, epoch },
        });
    });
    let found = tokio::select! {
        biased;
        found = timeout(query.timeout, found) => found.ok(),
        () = app.stopping.cancelled() => return Err(stopping()),
        () = socket::unreachable(client.tcp) => return Err(Failure::new(
            ErrorCode::Timeout,
            "the client cannot be reached any more",
        )),
    };
    let mut answer = match &found {
        Some(json) => text(StatusCode::OK, json.clone()),
        None => empty(StatusCode::NO_CONTENT),
    };
    let headers = answer.headers_mut();
    let ledger = subscription.ledger();
    app.host.metrics.streams.lost(ledger.lost);
    // From where the next call continues.
    headers.insert("x-head", subscription.position().into());
    headers.insert("x-epoch", shown(subscription.epoch()));
    headers.insert("x-lost", ledger.lost.into());
    Ok(answer)
}

/// The JSON of the first event that matches. `report` is called with the ledger and its epoch after each part
/// that was read.
async fn find_first(
    subscription: &mut impl Subscription,
    turns: &Turns,
    report: impl Fn(ReaderLedger, Epoch),
) -> String {
    /// How many events one read looks at: some hundred microseconds where the filter is costly.
    const BATCH: usize = 32;
    let mut pace = Pace::new();
    loop {
        let mut found = None;
        let turn = turns.take(subscription.filter()).await;
        let looked_at = subscription.read(BATCH, |delivery| match delivery {
            Delivery::Envelope { json, .. } => {
                found = Some(json.whole().into_owned());
                ControlFlow::Break(())
            }
            Delivery::Lost(_) | Delivery::Session(_) | Delivery::Epoch(_) => {
                ControlFlow::Continue(())
            }
        });
        drop(turn);
        report(subscription.ledger(), subscription.epoch());
        if let Some(json) = found {
            return json;
        }
        if looked_at < BATCH {
            poll_fn(|cx| subscription.poll_news(cx)).await;
        }
        pace.rest().await;
    }
}

/// Changes the filter of an open stream.
async fn patch_reader<B: Backend>(
    app: &App<B>,
    id: &str,
    body: RequestBody<'_>,
) -> Result<Whole, Failure> {
    /// How long a stream may take to come to it: it does between two writes.
    const PATIENCE: Duration = Duration::from_secs(5);
    let patch: ReaderPatch = body.json().await?;
    let no_such_reader = |_| PatchError::NoSuchReader;
    match timeout(PATIENCE, app.readers.patch(id, patch)?).await {
        Ok(patched) => Ok(json(StatusCode::OK, &patched.map_err(no_such_reader)?)),
        Err(_) => Err(Failure::new(
            ErrorCode::Unavailable,
            format!(
                "reader `{}` does not come to it; the change may still be made",
                short(id)
            ),
        )
        .retry_after(5)),
    }
}

async fn issue_ticket<B: Backend>(app: &App<B>, body: RequestBody<'_>) -> Result<Whole, Failure> {
    let request = body.json_or_default().await?;
    let epoch = app.backend.epoch().to_string();
    let access = &app.host.options.access;
    let issued = access.issue(&request, &epoch, app.instance.as_deref())?;
    Ok(ticket(&issued))
}

/// The answer with a ticket.
pub(crate) fn ticket(ticket: &Ticket) -> Whole {
    let mut answer = json(StatusCode::CREATED, ticket);
    let value = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, value);
    answer
}

/// Whether requests should be sent here.
pub(crate) fn readiness(
    is_stopping: bool,
    ready: impl FnOnce() -> Result<(), NotReady>,
) -> Result<Whole, Failure> {
    if is_stopping {
        return Err(stopping());
    }
    match ready() {
        Ok(()) => Ok(json(StatusCode::OK, &Health::ok())),
        Err(reason) => {
            let failure = Failure::new(ErrorCode::Unavailable, reason.to_string());
            Err(failure.retry_after(1))
        }
    }
}

pub(crate) fn stopping() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the server is stopping").retry_after(1)
}

fn document() -> Whole {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document_json().into());
    text(StatusCode::OK, DOCUMENT.clone())
}

pub(crate) fn gateway_document() -> Whole {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::gateway_document_json().into());
    text(StatusCode::OK, DOCUMENT.clone())
}

pub(crate) fn page_file(asset: &'static Asset) -> Whole {
    let mut answer = typed(asset.content_type(), asset.text);
    for (name, value) in page::HEADERS {
        answer.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    answer
}

/// An answer that is no JSON.
pub(crate) fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Whole {
    let mut answer = text(StatusCode::OK, body);
    let value = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, value);
    answer
}

fn not_found(path: &str) -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        format!(
            "`{}` does not exist; `/openapi.json` lists the paths that do",
            short(path)
        ),
    )
}

fn method_not_allowed(path: &str, allow: &str) -> Failure {
    Failure::new(
        ErrorCode::MethodNotAllowed,
        format!("`{}` does not have this method, only {allow}", short(path)),
    )
    .with(header::ALLOW, shown(allow))
}

/// The query's parameters, decoded.
pub(crate) fn pairs(uri: &Uri) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect()
}

/// Adds whether there is more behind this answer, and the `offset` for it.
pub(crate) fn say_what_follows(headers: &mut HeaderMap, next_offset: Option<impl Display>) {
    headers.insert("x-has-more", shown(next_offset.is_some()));
    if let Some(offset) = next_offset {
        headers.insert("x-next-offset", shown(offset));
    }
}

/// A header's value of digits and letters.
pub(crate) fn shown(value: impl Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).expect("visible ASCII")
}

/// Whether the caller takes gzip, and rather than nothing.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    codings.into_iter().any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}
