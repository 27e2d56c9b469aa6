//! `POST /telemetry/view`: a file of events, or a HAR, as the page shows it.

use std::io;

use http::{HeaderValue, StatusCode};
use tapline_api::QueryError;
use tapline_insight::{BundleWriter, FileContent, FileError, Sanitizer, Unread};
use tapline_oapi::ErrorCode;

use crate::answer::{Failure, Whole, text};
use crate::body::RequestBody;
use crate::routes::{shown, stopping};

/// How many bytes a file may have, decompressed.
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// How many characters the name of a file has at most.
const MAX_NAME: usize = 200;

/// Reads a file of events: NDJSON, plain or compressed with zstd, such as a segment of an archive or a dump; or a HAR.
///
/// # Errors
///
/// Where the body cannot be read, is too large, or has no event and is no HAR.
pub(crate) async fn view<'a>(
    query: impl Iterator<Item = (&'a str, &'a str)>,
    body: RequestBody<'_>,
) -> Result<Whole, Failure> {
    let mut name = None;
    for (parameter, value) in query {
        let error = match parameter {
            "name" if name.is_some() => "given twice",
            "name" => {
                name = Some(value.chars().take(MAX_NAME).collect::<String>());
                continue;
            }
            _ => "unknown; known is `name`",
        };
        return Err(QueryError::new(parameter, error).into());
    }
    let name = name.unwrap_or_else(|| "file".to_owned());
    let bytes = body.whole().await?;
    // It takes a while, and waits for nothing.
    let read = tokio::task::spawn_blocking(move || read(&bytes, &name)).await;
    let (bundle, unread) = read.map_err(|_| stopping())??;
    let mut answer = text(StatusCode::OK, bundle);
    let headers = answer.headers_mut();
    headers.insert("x-unread", shown(unread.lines));
    headers.insert("x-complete", shown(unread.cut.is_none()));
    let value = HeaderValue::from_static("no-store");
    headers.insert(http::header::CACHE_CONTROL, value);
    Ok(answer)
}

fn read(bytes: &[u8], name: &str) -> Result<(Vec<u8>, Unread), Failure> {
    let internal = |error: io::Error| match error.kind() {
        io::ErrorKind::FileTooLarge => Failure::new(ErrorCode::BodyTooLarge, error.to_string()),
        _ => Failure::new(ErrorCode::Internal, error.to_string()),
    };
    let mut bundle = BundleWriter::new(Vec::new(), name, Sanitizer::off()).map_err(internal)?;
    let unread = match FileContent::open(bytes, MAX_BYTES).map_err(|error| refused(&error))? {
        FileContent::Har(har) => {
            bundle.har(har).map_err(internal)?;
            Unread::default()
        }
        FileContent::Events(mut events) => {
            while let Some(line) = events.next_line().map_err(|error| refused(&error))? {
                for input in line.inputs() {
                    bundle.feed(input).map_err(internal)?;
                }
            }
            if events.events() == 0 {
                let message = format!("body: there is no event in it; {SEND}");
                return Err(Failure::new(ErrorCode::BadRequest, message));
            }
            events.into_unread()
        }
    };
    let (bundle, _) = bundle.finish().map_err(internal)?;
    Ok((bundle, unread))
}

/// What can be viewed.
const SEND: &str =
    "send NDJSON, plain or compressed with zstd, such as a segment of an archive, or a HAR";

fn refused(error: &FileError) -> Failure {
    let (code, message) = match error {
        FileError::Unreadable(source) => (
            ErrorCode::BadRequest,
            format!("body: cannot be decompressed: {source}"),
        ),
        FileError::TooLarge(_) => (
            ErrorCode::BodyTooLarge,
            format!("{error}; open it with `tapline view FILE`"),
        ),
        FileError::NoEvent { .. } => (ErrorCode::BadRequest, format!("body: {error}; {SEND}")),
        _ => (ErrorCode::BadRequest, format!("body: {error}")),
    };
    Failure::new(code, message)
}
