//! `GET /telemetry/export`: a range of events as a file, written while it is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use hyper::body::Frame;
use tapline_api::{Backend, EncodedEnvelope, Missing, Page, PageQuery, QueryError};
use tapline_insight::{ExportWriter, Format, Input, Lost, Sanitizer};
use tapline_oapi::{Envelope, ErrorCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::answer::{Body, Failure, Whole};
use crate::app::App;
use crate::pace::Pace;
use crate::standalone::standalone;

/// How many exports there are at once. Each holds the requests that have not ended yet: some megabytes at most.
pub(crate) const MAX_EXPORTS: usize = 4;

/// How many bytes are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// How many pieces may wait for the client.
const PIECES: usize = 4;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct ExportQuery {
    format: Format,
    sanitizer: Sanitizer,
    events: PageQuery,
}

impl ExportQuery {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is missing, unknown, given twice or out of range.
    pub(crate) fn from_pairs<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const OF_PAGES: [&str; 3] = ["limit", "offset", "order"];
        let (mut format, mut with_secrets, mut rest) = (None, None, Vec::new());
        for (name, text) in pairs {
            let twice = || Err(QueryError::new(name, "is given twice"));
            match name {
                "format" if format.is_some() => return twice(),
                "format" => {
                    let named = text.parse::<Format>();
                    format = Some(named.map_err(|error| QueryError::new(name, error.to_string()))?);
                }
                "with_secrets" if with_secrets.is_some() => return twice(),
                "with_secrets" => {
                    with_secrets = Some(match text {
                        "true" => true,
                        "false" => false,
                        _ => return Err(QueryError::new(name, "is neither `true` nor `false`")),
                    });
                }
                _ if OF_PAGES.contains(&name) => {
                    let message = "an export has no pages; `since`, `until` and `after` bound it";
                    return Err(QueryError::new(name, message));
                }
                _ => rest.push((name, text)),
            }
        }
        let format = format.ok_or_else(|| {
            QueryError::new(
                "format",
                "is missing; it is one of har, html, ndjson and trace",
            )
        })?;
        Ok(Self {
            format,
            sanitizer: match with_secrets {
                Some(true) => Sanitizer::off(),
                _ => Sanitizer::default(),
            },
            events: PageQuery {
                limit: tapline_api::MAX_LIMIT,
                ..PageQuery::from_pairs(rest)?
            },
        })
    }
}

/// Begins an export. The first page is read before the answer begins, so that what is wrong with the query is an
/// answer of its own.
///
/// # Errors
///
/// Where the query is wrong, the archive cannot be read, or there are [`MAX_EXPORTS`] already.
pub(crate) async fn export<'a, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    let query = ExportQuery::from_pairs(query)?;
    let Ok(permit) = app.host.exports.clone().try_acquire_owned() else {
        let message = format!("this server is writing {MAX_EXPORTS} exports, its limit");
        return Err(Failure::new(ErrorCode::Unavailable, message).retry_after(5));
    };
    let first = app.backend.page(&query.events).await?;
    let (pieces, body) = mpsc::channel(PIECES);
    let format = query.format;
    let before = match format {
        Format::Html => standalone().before.clone().into_bytes(),
        Format::Har | Format::Ndjson | Format::Trace => Vec::new(),
    };
    let export = Export {
        format,
        app: app.clone(),
        query: query.events,
        pieces,
        writer: ExportWriter::new(format, before, query.sanitizer)
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?,
    };
    app.host.spawn(async move {
        let _permit = permit;
        if let Err(error) = export.run(first).await {
            tracing::debug!(%error, "an export ended early");
        }
    });
    let mut answer = Response::new(Body::Export(ExportBody(body)));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static(format.media_type());
    headers.insert(header::CONTENT_TYPE, kind);
    let name = format!("attachment; filename=\"tapline.{}\"", format.extension());
    let name = HeaderValue::try_from(name).expect("an extension is plain text");
    headers.insert(header::CONTENT_DISPOSITION, name);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

struct Export<B: Backend> {
    app: Arc<App<B>>,
    format: Format,
    query: PageQuery,
    writer: ExportWriter<Vec<u8>>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl<B: Backend> Export<B> {
    /// Writes everything up to the head of the moment in which it began.
    async fn run(mut self, first: Page<B::Envelope>) -> io::Result<()> {
        let written = self.write(first).await;
        if let Err(error) = &written {
            // The body ends without its last chunk: the client sees that the file is not whole.
            let broken = io::Error::new(error.kind(), error.to_string());
            let _ = self.pieces.send(Err(broken)).await;
            return written;
        }
        let (mut rest, _) = self.writer.finish()?;
        if self.format == Format::Html {
            rest.extend_from_slice(standalone().after.as_bytes());
        }
        send(&self.pieces, rest, &self.app).await
    }

    async fn write(&mut self, first: Page<B::Envelope>) -> io::Result<()> {
        let present = self.app.backend.epoch();
        let head = self.app.backend.retained().head;
        let mut pace = Pace::new();
        let mut page = first;
        let mut epoch = page.epoch;
        self.writer.feed(Input::Epoch(epoch))?;
        loop {
            if page.epoch != epoch {
                epoch = page.epoch;
                self.writer.feed(Input::Epoch(epoch))?;
            }
            let mut missing = page.missing.iter().peekable();
            for envelope in &page.envelopes {
                let seq = envelope.seq();
                while let Some(missing) = missing.next_if(|it| *it.seqs.start() < seq) {
                    self.feed_missing(missing)?;
                }
                if epoch == present && head < seq {
                    return Ok(());
                }
                self.feed_event(envelope)?;
                if PIECE_BYTES <= self.writer.get_mut().len() {
                    let piece = std::mem::take(self.writer.get_mut());
                    send(&self.pieces, piece, &self.app).await?;
                }
                pace.rest().await;
            }
            for missing in missing {
                self.feed_missing(missing)?;
            }
            let Some(next) = page.next_offset else {
                return Ok(());
            };
            if epoch == present && head <= next.seq && next.epoch.is_none_or(|it| it == present) {
                return Ok(());
            }
            self.query.offset = Some(next);
            page = self
                .app
                .backend
                .page(&self.query)
                .await
                .map_err(io::Error::other)?;
        }
    }

    fn feed_event(&mut self, encoded: &B::Envelope) -> io::Result<()> {
        let envelope: Envelope = serde_json::from_str(&encoded.json().whole())?;
        self.writer.feed(Input::Event(&envelope))
    }

    fn feed_missing(&mut self, missing: &Missing) -> io::Result<()> {
        self.writer.feed(Input::Lost(Lost {
            count: Some(missing.at_most),
            ..Lost::unknown(*missing.seqs.start(), *missing.seqs.end())
        }))
    }
}

/// Sends a piece, for as long as the client takes any.
async fn send<B: Backend>(
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    app: &App<B>,
) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let sent = timeout(app.host.options.limits.stall, pieces.send(Ok(piece.into()))).await;
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The file as the body of an answer.
#[derive(Debug)]
pub(crate) struct ExportBody(pub(crate) mpsc::Receiver<io::Result<Bytes>>);

impl ExportBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(Pin::new(&mut self.0).poll_recv(cx));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}
