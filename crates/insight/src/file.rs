//! Files of events: [`EventFile`], and [`FileContent`] for one that may also be a HAR.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use crate::har_file::HarFile;
use crate::lines::{Line, LineReader};

/// The longest line that is read. An envelope has at most 1,000,000 bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// How much is read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// What a file holds.
#[derive(Debug)]
pub enum FileContent<'a> {
    /// Events, to be read one by one.
    Events(EventFile<'a>),
    /// Requests and pages.
    Har(HarFile),
}

impl<'a> FileContent<'a> {
    /// Looks at the beginning of a file, whatever its name: it is NDJSON or a HAR, plain or compressed with zstd. A HAR is
    /// read to its end. `most` is how many bytes are read of what is decompressed.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is a HAR that cannot be understood, or that is too large.
    pub fn open(input: impl Read + 'a, most: u64) -> Result<Self, FileError> {
        let mut input = decoded(input).map_err(FileError::Unreadable)?;
        let start = input.fill_buf().map_err(FileError::Unreadable)?;
        let is_har = HarFile::begins(start);
        let mut input = input.take(most);
        if is_har {
            let mut text = Vec::new();
            input
                .read_to_end(&mut text)
                .map_err(FileError::Unreadable)?;
            if input.limit() == 0 {
                return Err(FileError::TooLarge(most));
            }
            return HarFile::read(&text).map(Self::Har).map_err(FileError::Har);
        }
        Ok(Self::Events(EventFile {
            input,
            most,
            lines: LineReader::default(),
            line: Vec::new(),
            events: 0,
            number: 0,
            unread: Unread::default(),
        }))
    }
}

/// The events of a file, in their order: NDJSON, plain or compressed with zstd, such as a segment of an archive or what
/// `tapline tail --json` prints.
pub struct EventFile<'a> {
    input: io::Take<Box<dyn BufRead + 'a>>,
    most: u64,
    lines: LineReader,
    line: Vec<u8>,
    events: u64,
    /// Of the last line, from 1.
    number: u64,
    unread: Unread,
}

impl EventFile<'_> {
    /// The next event, and what is missing before it. `None` at the end, or where the rest cannot be read: see [`unread`](Self::unread).
    ///
    /// # Errors
    ///
    /// If the file has more bytes than are read; and before the first event, if a line is no event or cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line>, FileError> {
        loop {
            self.line.clear();
            let input = &mut self.input;
            match input.take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line) {
                Ok(0) if self.input.limit() == 0 => return Err(FileError::TooLarge(self.most)),
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // A file that is being written, or one that was cut.
                Err(error) if 0 < self.events => {
                    self.unread.cut = Some(error);
                    return Ok(None);
                }
                Err(error) => return Err(FileError::Unreadable(error)),
            }
            self.number += 1;
            // Checking is several times as fast as looking for what to replace, and nearly every line passes.
            let text = match std::str::from_utf8(&self.line) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => String::from_utf8_lossy(&self.line),
            };
            if text.trim().is_empty() {
                continue;
            }
            match self.lines.read(&text) {
                Ok(line) => {
                    self.events += 1;
                    self.unread.repeated = self.lines.repeated();
                    return Ok(Some(line));
                }
                Err(_) if self.events == 0 => return Err(FileError::NoEvent { line: self.number }),
                Err(_) => {
                    self.unread.lines += 1;
                    if self.unread.first == 0 {
                        self.unread.first = self.number;
                    }
                }
            }
        }
    }

    /// How many events were read, repeats included.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What could not be read so far.
    #[must_use]
    pub const fn unread(&self) -> &Unread {
        &self.unread
    }

    /// The same, at the end.
    #[must_use]
    pub fn into_unread(self) -> Unread {
        self.unread
    }
}

impl fmt::Debug for EventFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFile")
            .field("events", &self.events)
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

/// What could not be read of a file.
#[derive(Debug, Default)]
pub struct Unread {
    /// Lines that are no events.
    pub lines: u64,
    /// The number of the first of them, from 1; 0 if there is none.
    pub first: u64,
    /// Envelopes whose seq was read before.
    pub repeated: u64,
    /// Why reading ended before the end of the file.
    pub cut: Option<io::Error>,
}

/// Why a file cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// Reading failed, or what is compressed is damaged.
    Unreadable(io::Error),
    /// Before any event there is a line that is none. Lines count from 1.
    NoEvent {
        /// The number of the line.
        line: u64,
    },
    /// It begins as a HAR, and is none that can be understood.
    Har(serde_json::Error),
    /// The file has more bytes than this, decompressed.
    TooLarge(u64),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(_) => f.write_str("the file cannot be read"),
            Self::NoEvent { line } => write!(f, "line {line} is no event"),
            Self::Har(error) => write!(
                f,
                "the file begins as a HAR, and is no valid one (line {}, column {})",
                error.line(),
                error.column()
            ),
            Self::TooLarge(most) => write!(f, "the file has more than {} MiB", most / 1024 / 1024),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Har(error) => Some(error),
            Self::NoEvent { .. } | Self::TooLarge(_) => None,
        }
    }
}

/// The text of a file, decompressed if it is compressed with zstd.
fn decoded<'a>(file: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let start = file.fill_buf()?;
    // A frame, or a skippable frame, which an archive's segment begins with.
    let is_frame = start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let is_skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    Ok(match is_frame || is_skippable {
        true => Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
        false => Box::new(file),
    })
}
