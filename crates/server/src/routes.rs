//! Each route, a thin cover over an operation.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tapline_api::{ApiError, Page, PageQuery, PutAnswer, StreamQuery};
use tapline_oapi::{BatchResult, ConfigRequest, ErrorCode, Health, from_json, openapi};
use tokio::time::timeout;

use crate::answer::{Failure, json, text};
use crate::serve::App;
use crate::sse::EventBody;

/// All routes, and JSON errors for whatever is not among them.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/telemetry", get(show).put(put).patch(patch))
        .route("/telemetry/events", post(publish).get(page))
        .route("/telemetry/stream", get(stream))
        .route("/healthz", get(health))
        .route("/openapi.json", get(document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

async fn show(State(app): State<App>) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &app.api.state()?))
}

async fn put(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let request = config_request(&app, &headers, body).await?;
    let answer = configure(move || app.api.put(&request)).await?;
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

async fn patch(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let request = config_request(&app, &headers, body).await?;
    let state = configure(move || app.api.patch(&request)).await?;
    tracing::info!(
        session = state.session_id,
        seq = state.seq,
        "telemetry reconfigured"
    );
    Ok(json(StatusCode::OK, &state))
}

/// Where a body is, it is JSON; none is the same as `{}`.
async fn config_request(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<ConfigRequest, Failure> {
    let body = read(app, body).await?;
    if body.is_empty() {
        return Ok(ConfigRequest::default());
    }
    match media_type(headers)?.as_ref() {
        "" | "application/json" => Ok(from_json(&body).map_err(ApiError::from)?),
        other => Err(unsupported(other, "`application/json`")),
    }
}

/// Runs an operation that may call the source, which takes what time it takes.
async fn configure<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(operation).await {
        Ok(answer) => Ok(answer?),
        Err(panic) => {
            tracing::error!(%panic, "an operation failed");
            Err(Failure::new(
                ErrorCode::Internal,
                "the operation failed; the log says why",
            ))
        }
    }
}

async fn publish(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let media_type = media_type(&headers)?;
    match media_type.as_ref() {
        "" | "application/json" => {
            let request = from_json(&read(&app, body).await?).map_err(ApiError::from)?;
            Ok(match app.api.publish(request)? {
                Some(envelope) => text(StatusCode::OK, envelope.json().to_owned()),
                None => StatusCode::NO_CONTENT.into_response(),
            })
        }
        "application/x-ndjson" => {
            let result = publish_lines(&app, &read(&app, body).await?).await;
            Ok(json(StatusCode::OK, &result))
        }
        other => Err(unsupported(
            other,
            "`application/json` or `application/x-ndjson`",
        )),
    }
}

/// Publishes line by line, and lets others have a turn now and then.
async fn publish_lines(app: &App, body: &[u8]) -> BatchResult {
    /// Some hundred lines: a few hundred microseconds.
    const TURN_BYTES: usize = 64 * 1024;
    let mut result = BatchResult::default();
    let (mut rest, mut line) = (body, 1);
    while !rest.is_empty() {
        let turn = rest.len().min(TURN_BYTES);
        let end = match rest[turn..].iter().position(|byte| *byte == b'\n') {
            Some(more) => turn + more + 1,
            None => rest.len(),
        };
        let (lines, left) = rest.split_at(end);
        line += app.api.publish_lines(lines, line, &mut result);
        rest = left;
        tokio::task::yield_now().await;
    }
    result
}

async fn page(State(app): State<App>, uri: Uri) -> Result<Response, Failure> {
    let pairs = pairs(&uri);
    let query = PageQuery::from_pairs(pairs.iter().map(|(name, text)| (&**name, &**text)))?;
    let Page {
        envelopes,
        next_offset,
        retained,
        lost,
    } = app.api.page(&query);

    let mut body =
        String::with_capacity(2 + envelopes.iter().map(|e| e.json().len() + 1).sum::<usize>());
    for envelope in &envelopes {
        body.push(if body.is_empty() { '[' } else { ',' });
        body.push_str(envelope.json());
    }
    body.push_str(if body.is_empty() { "[]" } else { "]" });

    let mut answer = text(StatusCode::OK, body);
    let headers = answer.headers_mut();
    let mut tell = |name: &'static str, value: String| {
        let value = HeaderValue::try_from(value).expect("digits and letters");
        headers.insert(HeaderName::from_static(name), value);
    };
    tell("x-has-more", next_offset.is_some().to_string());
    if let Some(offset) = next_offset {
        tell("x-next-offset", offset.to_string());
    }
    tell("x-head", retained.head.to_string());
    tell("x-oldest", retained.oldest.to_string());
    tell("x-epoch", app.api.session().stream().epoch().to_string());
    tell("x-lost", lost.to_string());
    Ok(answer)
}

async fn stream(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let pairs = pairs(&uri);
    let mut query = StreamQuery::from_pairs(pairs.iter().map(|(name, text)| (&**name, &**text)))?;
    if let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) {
        // It wins over `after`. What is not text is not a cursor either, and answered as such.
        query.after = Some(String::from_utf8_lossy(id.as_bytes()).into_owned());
    }
    let body = EventBody::new(&app, &query);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (
            HeaderName::from_static("x-sse-content-type"),
            "application/json",
        ),
    ];
    Ok((headers, Body::new(body)).into_response())
}

async fn health() -> Response {
    json(StatusCode::OK, &Health::ok())
}

async fn document() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document_json().into());
    text(StatusCode::OK, DOCUMENT.clone())
}

async fn not_found(uri: Uri) -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        format!(
            "there is nothing at `{}`; `/openapi.json` tells what there is",
            short(uri.path())
        ),
    )
}

async fn method_not_allowed(uri: Uri) -> Failure {
    Failure::new(
        ErrorCode::MethodNotAllowed,
        format!(
            "`{}` does not take this method; the header `allow` tells which",
            short(uri.path())
        ),
    )
}

/// The body, if it is within the limit.
async fn read(app: &App, mut body: Body) -> Result<Bytes, Failure> {
    let limit = app.options.body_bytes;
    match Limited::new(&mut body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(Failure::new(
                ErrorCode::BodyTooLarge,
                format!("the body is over {limit} bytes"),
            ))
        }
        Err(_) => Err(Failure::new(
            ErrorCode::InvalidJson,
            "the body ended before it was complete",
        )),
    }
}

/// Takes what is left of a body that is not wanted, within bounds: a connection that is closed with
/// bytes unread is reset, and a client that writes all before it reads would not see the answer.
async fn discard(mut body: Body) {
    const BYTES: usize = 32 * 1024 * 1024;
    const TIME: Duration = Duration::from_secs(5);
    /// A client that has stopped writing is reading, most likely.
    const SILENCE: Duration = Duration::from_millis(200);
    let rest = async {
        let mut left = BYTES;
        while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
            let taken = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(taken) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whether it came to its end makes no difference to the answer.
    let _ = timeout(TIME, rest).await;
}

/// The media type without its parameters, in lower case; empty where none is named.
fn media_type(headers: &HeaderMap) -> Result<Cow<'static, str>, Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok("".into());
    };
    let text = value.to_str().map_err(|_| {
        Failure::new(
            ErrorCode::UnsupportedMediaType,
            "header `content-type`: not text",
        )
    })?;
    Ok(text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .into())
}

fn unsupported(got: &str, expected: &str) -> Failure {
    Failure::new(
        ErrorCode::UnsupportedMediaType,
        format!(
            "header `content-type`: `{}` is not taken here, {expected} is",
            short(got)
        ),
    )
}

/// The query's parameters, decoded.
fn pairs(uri: &Uri) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect()
}

/// What the caller sent, not longer than a message should be.
fn short(text: &str) -> &str {
    match text.char_indices().nth(100) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
