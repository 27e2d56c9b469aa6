//! `POST /telemetry/view`: a file of events as the page shows it.

use std::io::{self, BufRead, BufReader, Read};

use http::{HeaderValue, StatusCode};
use tapline_api::QueryError;
use tapline_insight::{BundleWriter, LineReader, Sanitizer};
use tapline_oapi::ErrorCode;

use crate::answer::{Failure, Whole, text};
use crate::body::RequestBody;
use crate::routes::{shown, stopping};

/// How many bytes a compressed file may have when it is decompressed.
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// The longest line that is read. An envelope has at most 1,000,000 bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// How many characters the name of a file has at most.
const MAX_NAME: usize = 200;

/// Reads a file of events: NDJSON, plain or compressed with zstd, such as a segment of an archive or a dump.
///
/// # Errors
///
/// Where the body cannot be read, is too large, or has no event.
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
    headers.insert("x-complete", shown(!unread.is_cut));
    let value = HeaderValue::from_static("no-store");
    headers.insert(http::header::CACHE_CONTROL, value);
    Ok(answer)
}

/// What could not be read.
#[derive(Debug, Default)]
struct Unread {
    /// Lines that are no events.
    lines: u64,
    /// Whether the rest of the file could not be read.
    is_cut: bool,
}

fn read(bytes: &[u8], name: &str) -> Result<(Vec<u8>, Unread), Failure> {
    let internal = |error: io::Error| match error.kind() {
        io::ErrorKind::FileTooLarge => Failure::new(ErrorCode::BodyTooLarge, error.to_string()),
        _ => Failure::new(ErrorCode::Internal, error.to_string()),
    };
    let mut bundle = BundleWriter::new(Vec::new(), name, Sanitizer::off()).map_err(internal)?;
    let mut unread = Unread::default();
    let (mut lines, mut line, mut number, mut events) = (LineReader::default(), Vec::new(), 0, 0);
    let mut input = decoded(bytes)?;
    loop {
        line.clear();
        match (&mut input)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => break,
            Ok(_) => {}
            // A file that is being written, or one that was cut.
            Err(_) if 0 < events => {
                unread.is_cut = true;
                break;
            }
            Err(error) => {
                let message = format!("body: cannot be decompressed: {error}");
                return Err(Failure::new(ErrorCode::BadRequest, message));
            }
        }
        number += 1;
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        let Ok(read) = lines.read(&text) else {
            if events == 0 {
                let message = format!(
                    "body: line {number} is no event; send NDJSON, plain or compressed with zstd, such as a segment of an archive"
                );
                return Err(Failure::new(ErrorCode::BadRequest, message));
            }
            unread.lines += 1;
            continue;
        };
        events += 1;
        for input in read.inputs() {
            bundle.feed(input).map_err(internal)?;
        }
    }
    if input.limit() == 0 {
        let most = MAX_BYTES / 1024 / 1024;
        let message =
            format!("the file has more than {most} MiB; open it with `tapline view FILE`");
        return Err(Failure::new(ErrorCode::BodyTooLarge, message));
    }
    if events == 0 {
        let message = "body: there is no event in it; send NDJSON, plain or compressed with zstd, such as a segment of an archive";
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    let (bundle, _) = bundle.finish().map_err(internal)?;
    Ok((bundle, unread))
}

/// The text of a file, decompressed if it is compressed with zstd.
fn decoded<'a>(bytes: &'a [u8]) -> Result<io::Take<Box<dyn BufRead + 'a>>, Failure> {
    // A frame, or a skippable frame, which an archive's segment begins with.
    let is_frame = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let is_skippable = matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    let input: Box<dyn BufRead> = match is_frame || is_skippable {
        true => {
            let decoder = zstd::Decoder::with_buffer(bytes)
                .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
            Box::new(BufReader::new(decoder))
        }
        false => Box::new(bytes),
    };
    Ok(input.take(MAX_BYTES))
}
