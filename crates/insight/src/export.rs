//! A stream of events as a file of one of four formats: [`ExportWriter`].

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::Serialize;
use tapline_oapi::encode_envelope;

use crate::bundle::BundleWriter;
use crate::har::HarWriter;
use crate::input::Input;
use crate::insight::{Finding, Insight, Options, Tally};
use crate::sanitize::Sanitizer;
use crate::trace::TraceWriter;

/// How many bytes of events the requests may need that are not written yet: a server makes several exports at once.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// A format of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// HAR 1.2: the requests, for browsers' developer tools and other viewers.
    Har,
    /// One page that shows the events without a server. What is written here is the content of its element with the
    /// events (see [`BundleWriter::in_html`]); the page around it is that of `tapline-server`.
    Html,
    /// One envelope a line, byte for byte: what the archive holds, and `tapline publish --file` takes. Where events were
    /// lost, a line says so: `{"gap":{"first":2,"last":9}}`.
    Ndjson,
    /// Chrome's JSON trace format, for Perfetto: requests, navigations, console, causes on one time axis.
    Trace,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Har, Self::Html, Self::Ndjson, Self::Trace];

    /// The name, as in `--format` and `?format=`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Har => "har",
            Self::Html => "html",
            Self::Ndjson => "ndjson",
            Self::Trace => "trace",
        }
    }

    /// The media type of the file.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Har | Self::Trace => "application/json",
            Self::Html => "text/html; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// How files of this format usually end, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Har => "har",
            Self::Html => "html",
            Self::Ndjson => "ndjson",
            Self::Trace => "trace.json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// Not the name of a [`Format`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFormat(
    /// What was given.
    pub String,
);

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a format; use har, html, ndjson or trace",
            self.0
        )
    }
}

impl std::error::Error for UnknownFormat {}

/// Writes a stream of events as a file, while it is read. Give it a writer with a buffer.
///
/// Memory is bounded: requests are written when they have ended and 10,000 others, or others with 16 MiB of events, were read since,
/// or at the end. So the entries of a HAR are in the order in which the requests were reported, except for those that
/// lasted longer.
///
/// ```
/// use tapline_insight::{ExportWriter, Format, Input, Sanitizer};
/// use tapline_oapi::Envelope;
///
/// let mut export = ExportWriter::new(Format::Ndjson, Vec::new(), Sanitizer::default())?;
/// let line = r#"{"seq":1,"event":{"ts":1,"type":"page_load","category":"page","source":{"kind":"cdp"}}}"#;
/// let envelope: Envelope = serde_json::from_str(line)?;
/// export.feed(Input::Event(&envelope))?;
/// let (file, tally) = export.finish()?;
/// assert_eq!(file, format!("{line}\n").into_bytes());
/// assert_eq!(tally.events, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ExportWriter<W> {
    kind: Kind<W>,
}

#[derive(Debug)]
enum Kind<W> {
    Har(Box<Insight>, HarWriter<W>),
    Trace(Box<Insight>, TraceWriter<W>),
    Html(Box<BundleWriter<W>>),
    Ndjson(Lines<W>),
}

impl<W: io::Write> ExportWriter<W> {
    /// Writes the beginning of the file. NDJSON holds the events as they are: `sanitizer` has no effect on it.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn new(format: Format, out: W, sanitizer: Sanitizer) -> io::Result<Self> {
        let insight = |contents| {
            Box::new(Insight::new(Options {
                contents,
                request_bytes: MAX_REQUEST_BYTES,
                ..Options::default()
            }))
        };
        let kind = match format {
            Format::Har => Kind::Har(insight(true), HarWriter::new(out, sanitizer)?),
            Format::Html => Kind::Html(BundleWriter::in_html(out, "export", sanitizer)?.into()),
            Format::Trace => Kind::Trace(insight(false), TraceWriter::new(out, sanitizer)?),
            Format::Ndjson => Kind::Ndjson(Lines {
                out,
                line: Vec::new(),
                tally: Tally::default(),
            }),
        };
        Ok(Self { kind })
    }

    /// Takes the next piece of the stream, and writes what is complete.
    ///
    /// # Errors
    ///
    /// That of the writer. The file is not valid then.
    pub fn feed(&mut self, input: Input<'_>) -> io::Result<()> {
        let mut written = Ok(());
        match &mut self.kind {
            Kind::Har(insight, har) => insight.feed(input, &mut |finding| {
                if written.is_ok() {
                    written = put(har, &finding);
                }
            }),
            Kind::Trace(insight, trace) => {
                let before = insight.tally();
                insight.feed(input, &mut |finding| {
                    if written.is_ok() {
                        written = trace.finding(&finding);
                    }
                });
                let now = insight.tally();
                if before.restarts < now.restarts {
                    trace.restarted();
                }
                // A repeated event is not written again.
                if let Input::Event(envelope) = input
                    && written.is_ok()
                    && before.events < now.events
                {
                    written = trace.event(envelope);
                }
            }
            Kind::Html(bundle) => written = bundle.feed(input),
            Kind::Ndjson(lines) => written = lines.feed(input),
        }
        written
    }

    /// Writes what is left and the end of the file. Returns the writer, and what was read.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn finish(self) -> io::Result<(W, Tally)> {
        match self.kind {
            Kind::Har(insight, mut har) => {
                let mut written = Ok(());
                let tally = insight.finish(&mut |finding| {
                    if written.is_ok() {
                        written = put(&mut har, &finding);
                    }
                });
                written?;
                Ok((har.finish(&tally)?, tally))
            }
            Kind::Trace(insight, mut trace) => {
                let mut written = Ok(());
                let tally = insight.finish(&mut |finding| {
                    if written.is_ok() {
                        written = trace.finding(&finding);
                    }
                });
                written?;
                Ok((trace.finish(&tally)?, tally))
            }
            Kind::Html(bundle) => bundle.finish(),
            Kind::Ndjson(mut lines) => {
                lines.out.flush()?;
                Ok((lines.out, lines.tally))
            }
        }
    }

    /// The writer: to take what was written so far, for one.
    pub fn get_mut(&mut self) -> &mut W {
        match &mut self.kind {
            Kind::Har(_, har) => har.get_mut(),
            Kind::Trace(_, trace) => trace.get_mut(),
            Kind::Html(bundle) => bundle.get_mut(),
            Kind::Ndjson(lines) => &mut lines.out,
        }
    }
}

fn put<W: io::Write>(har: &mut HarWriter<W>, finding: &Finding) -> io::Result<()> {
    match finding {
        Finding::Request(request) => har.request(request),
        Finding::Navigation(navigation) => {
            har.navigation(navigation);
            Ok(())
        }
        Finding::Problem(_) => Ok(()),
    }
}

/// Envelopes as they are, and gaps.
#[derive(Debug)]
struct Lines<W> {
    out: W,
    line: Vec<u8>,
    tally: Tally,
}

impl<W: io::Write> Lines<W> {
    fn feed(&mut self, input: Input<'_>) -> io::Result<()> {
        match input {
            Input::Event(envelope) => {
                self.tally.events += 1;
                self.line.clear();
                let event = &envelope.event;
                encode_envelope(&mut self.line, envelope.seq, event.ts, event, None);
                // A producer may have broken lines between the tokens of its data, and only there.
                for byte in &mut self.line {
                    if matches!(*byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
                self.line.push(b'\n');
                self.out.write_all(&self.line)
            }
            Input::Lost(lost) => {
                self.tally.lost = self.tally.lost.saturating_add(lost.at_most());
                let (first, last) = (lost.from, lost.to);
                if last < first {
                    return Ok(());
                }
                writeln!(
                    self.out,
                    "{{\"gap\":{{\"first\":{first},\"last\":{last}}}}}"
                )
            }
            Input::Restarted => {
                self.tally.restarts += 1;
                Ok(())
            }
            Input::Epoch(_) | Input::Captured(_) => Ok(()),
        }
    }
}
