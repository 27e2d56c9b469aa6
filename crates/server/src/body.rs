//! The body of a request: read within its limits, decompressed, and parsed.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tapline_api::ApiError;
use tapline_oapi::{ErrorCode, from_json};
use tokio::time::timeout;

use crate::answer::Failure;
use crate::pace::Pace;
use crate::serve::Limits;
use crate::socket::SocketState;

/// A body that is still to be read.
pub(crate) struct RequestBody<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) state: &'a SocketState,
    /// Of the request.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Incoming,
    /// How long it may take, where no timer of the connection ends it.
    pub(crate) time: Option<Duration>,
}

/// The media types of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// One JSON object.
    Json,
    /// A JSON object on each line.
    Lines,
}

impl RequestBody<'_> {
    /// A JSON object.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let headers = self.headers;
        parse(headers, &self.whole().await?)
    }

    /// A JSON object; none is the same as `{}`.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(self) -> Result<T, Failure> {
        let headers = self.headers;
        let body = self.whole().await?;
        if body.is_empty() {
            return Ok(T::default());
        }
        parse(headers, &body)
    }

    /// All of it, decompressed, if both forms are within the limit. How long it may take to arrive is the
    /// connection's business.
    ///
    /// It is read before anything about it is refused, so that a client that writes all before it reads gets
    /// the answer.
    pub(crate) async fn whole(mut self) -> Result<Bytes, Failure> {
        self.state.reading.store(true, Relaxed);
        let whole = match self.time {
            None => self.read().await,
            Some(time) => (timeout(time, self.read()).await).unwrap_or(Err(Unread::Late(time))),
        };
        self.state.reading.store(false, Relaxed);
        match whole {
            Ok(body) => decompressed(self.headers, body, self.limits.body_bytes).await,
            Err(Unread::Broken) => Err(Failure::new(
                ErrorCode::InvalidJson,
                "the body ended before it was complete",
            )),
            Err(Unread::TooLarge) => Err(self.too_large().await),
            Err(Unread::Late(time)) => Err(late(time)),
        }
    }

    async fn read(&mut self) -> Result<Bytes, Unread> {
        let limit = self.limits.body_bytes;
        let size = self.body.size_hint();
        if size.lower() > limit as u64 {
            return Err(Unread::TooLarge);
        }
        // Most come in one piece, which is then not copied.
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| Unread::Broken)?;
            // Trailers say nothing to us.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if first.len() + whole.len() + piece.len() > limit {
                return Err(Unread::TooLarge);
            }
            if whole.is_empty() && first.is_empty() {
                first = piece;
                continue;
            }
            if whole.is_empty() {
                whole.reserve(size.exact().map_or(2 * first.len(), |size| size as usize));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(if whole.is_empty() {
            first
        } else {
            whole.freeze()
        })
    }

    /// Takes what is left of it, within bounds: a connection that is closed with bytes unread is reset, and a
    /// client that writes all before it reads would not see the answer.
    async fn too_large(mut self) -> Failure {
        const BYTES: usize = 32 * 1024 * 1024;
        const TIME: Duration = Duration::from_secs(5);
        /// A client that has stopped writing is reading, most likely.
        const SILENCE: Duration = Duration::from_millis(200);
        let rest = async {
            let mut left = BYTES;
            while let Ok(Some(Ok(frame))) = timeout(SILENCE, self.body.frame()).await {
                let taken = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(taken) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        // Whether it came to its end makes no difference to the answer.
        let _ = timeout(TIME, rest).await;
        over(self.limits.body_bytes, "")
    }
}

/// Why a body was not read to its end.
enum Unread {
    /// The connection broke, or the body is not framed as HTTP has it.
    Broken,
    TooLarge,
    /// It took longer than this.
    Late(Duration),
}

/// A body took longer than this in all.
pub(crate) fn late(time: Duration) -> Failure {
    Failure::new(
        ErrorCode::Timeout,
        format!("the request's body was not complete within {time:?}"),
    )
}

fn over(limit: usize, when: &str) -> Failure {
    Failure::new(
        ErrorCode::BodyTooLarge,
        format!("the body is over {limit} bytes{when}"),
    )
}

/// The body as it was before the client compressed it.
async fn decompressed(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Failure> {
    match coding(headers)? {
        Coding::Gzip if !body.is_empty() => gunzip(&body, limit).await,
        Coding::Identity | Coding::Gzip => Ok(body),
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

/// The coding that the header `content-encoding` names.
fn coding(headers: &HeaderMap) -> Result<Coding, Failure> {
    let mut found = Coding::Identity;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let is_gzip = ["gzip", "x-gzip"]
                .iter()
                .any(|gzip| name.eq_ignore_ascii_case(gzip));
            if !is_gzip || found == Coding::Gzip {
                let failure = format!(
                    "header `content-encoding`: `{}` is not accepted here; send `gzip`, or a body that is not compressed",
                    short(&text)
                );
                return Err(Failure::new(ErrorCode::UnsupportedMediaType, failure).with(
                    header::ACCEPT_ENCODING,
                    HeaderValue::from_static("gzip, identity"),
                ));
            }
            found = Coding::Gzip;
        }
    }
    Ok(found)
}

/// The content of a gzip file, which may have several members. Lets other tasks run now and then.
async fn gunzip(mut body: &[u8], limit: usize) -> Result<Bytes, Failure> {
    /// Deflate makes at most 1,032 bytes of one: so many bytes cost a millisecond or two.
    const PART: usize = 2 * 1024;
    let space = (4 * body.len()).min(limit);
    let mut decoder = MultiGzDecoder::new(Bounded {
        bytes: Vec::with_capacity(space),
        limit,
        is_over: false,
    });
    let failed = |decoder: &MultiGzDecoder<Bounded>, error: io::Error| {
        if decoder.get_ref().is_over {
            return over(limit, " when it is decompressed");
        }
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(
            ErrorCode::BadRequest,
            format!("header `content-encoding`: the body is not valid gzip: {error}"),
        )
    };
    let mut pace = Pace::new();
    while !body.is_empty() {
        let part = &body[..body.len().min(PART)];
        let taken = match decoder.write(part) {
            // It takes nothing behind the last member but another one.
            Ok(0) => Err(io::Error::other("there is something behind its end")),
            taken => taken,
        };
        match taken {
            Ok(taken) => body = &body[taken..],
            Err(error) => return Err(failed(&decoder, error)),
        }
        pace.rest().await;
    }
    match decoder.try_finish() {
        Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes).into()),
        Err(error) => Err(failed(&decoder, error)),
    }
}

/// Takes bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit - self.bytes.len() < bytes.len() {
            self.is_over = true;
            return Err(io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Failure> {
    match media_type(headers, "`application/json`")? {
        MediaType::Json => Ok(from_json(body).map_err(ApiError::from)?),
        MediaType::Lines => Err(unsupported(&content_type(headers)?, "`application/json`")),
    }
}

/// The media type of a body; JSON where none is named. `expected` is for the error.
pub(crate) fn media_type(headers: &HeaderMap, expected: &str) -> Result<MediaType, Failure> {
    match &*content_type(headers)? {
        "" | "application/json" => Ok(MediaType::Json),
        // No one of the three is registered, and all are in use.
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(MediaType::Lines),
        other => Err(unsupported(other, expected)),
    }
}

/// The media type without its parameters, in lower case; empty where none is named.
fn content_type(headers: &HeaderMap) -> Result<Cow<'_, str>, Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok("".into());
    };
    let text = value.to_str().map_err(|_| {
        Failure::new(
            ErrorCode::UnsupportedMediaType,
            "header `content-type`: not text",
        )
    })?;
    let name = text.split(';').next().unwrap_or_default().trim();
    Ok(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    })
}

fn unsupported(got: &str, expected: &str) -> Failure {
    // What curl sends with `-d` unless it is given another type.
    let hint = if got == "application/x-www-form-urlencoded" {
        "; with curl, use `--json` instead of `-d`, or add `-H 'Content-Type: application/json'`"
    } else {
        ""
    };
    Failure::new(
        ErrorCode::UnsupportedMediaType,
        format!(
            "header `content-type`: `{}` is not accepted here; send {expected}{hint}",
            short(got)
        ),
    )
}

/// What the caller sent, not longer than a message should be.
pub(crate) fn short(text: &str) -> &str {
    match text.char_indices().nth(100) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
