//! What goes over the wire: frames, comments and notices, written one after the other into a piece.

use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;
use tapline_api::{Counts, Cursor, Epoch, Lost, ReaderLedger};
use tapline_oapi::{EnvelopeJson, EpochNotice, Gap, Hello, HelloReason, Notice};

/// Bytes for a stream, in the making: whole frames, with space in front for the chunk's length.
///
/// An HTTP/1.1 body of unknown length goes in chunks. A piece is one chunk, so that the bytes of a shared
/// piece go to every socket as they are.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    chunked: bool,
}

impl FrameBuffer {
    /// A length in hexadecimal digits, and a line break.
    const LENGTH_SPACE: usize = size_of::<u64>() * 2 + 2;

    pub(crate) fn new(chunked: bool) -> Self {
        Self {
            bytes: Vec::new(),
            chunked,
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        if self.bytes.is_empty() && self.chunked {
            self.bytes.resize(Self::LENGTH_SPACE, b' ');
        }
        &mut self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes of frames there are.
    pub(crate) fn len(&self) -> usize {
        let space = if self.chunked { Self::LENGTH_SPACE } else { 0 };
        self.bytes.len().saturating_sub(space)
    }

    /// The frames alone.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.len()..]
    }

    /// Takes what there is, ready to be sent.
    pub(crate) fn take(&mut self) -> Bytes {
        let len = self.len();
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() || !self.chunked {
            return bytes.into();
        }
        let length = format!("{len:x}\r\n");
        let start = Self::LENGTH_SPACE - length.len();
        bytes[start..Self::LENGTH_SPACE].copy_from_slice(length.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        Bytes::from(bytes).slice(start..)
    }

    /// Puts these bytes in the place of the frames, as after compression.
    pub(crate) fn replace(&mut self, payload: &[u8]) {
        self.bytes.clear();
        if !payload.is_empty() {
            self.out().extend_from_slice(payload);
        }
    }

    /// The last chunk: the body ends here.
    pub(crate) fn last(&self) -> &'static [u8] {
        if self.chunked { b"0\r\n\r\n" } else { b"" }
    }

    /// An event, with its seq for an id, or with `{seq}-{epoch}` where an epoch is given.
    pub(crate) fn envelope(&mut self, seq: u64, epoch: Option<Epoch>, json: EnvelopeJson<'_>) {
        let out = self.out();
        out.reserve(json.len() + 64);
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        if let Some(epoch) = epoch {
            let _ = write!(out, "-{epoch}");
        }
        out.push(b'\n');
        write_data(out, json.parts());
    }

    /// A notice. `resume` is the position behind it: a client that loses its connection resumes there, and
    /// what the notice reports is not reported again.
    pub(crate) fn notice(&mut self, notice: &Notice, resume: Option<Cursor>) {
        let out = self.out();
        let _ = writeln!(out, "event: {}", notice.name());
        if let Some(cursor) = resume {
            let _ = writeln!(out, "id: {cursor}");
        }
        write_data(out, [to_json(notice).as_str()]);
    }

    /// A notice, and when to come back if the stream breaks. Only with a notice: a plain client may take
    /// any block for an event.
    pub(crate) fn notice_with_retry(&mut self, notice: &Notice, resume: Cursor, retry_ms: u64) {
        let _ = writeln!(self.out(), "retry: {retry_ms}");
        self.notice(notice, Some(resume));
    }

    /// One line, and never a blank line behind it: clients in wide use take one for an event, once they
    /// have seen an id.
    pub(crate) fn comment(&mut self, text: &str) {
        let _ = writeln!(self.out(), ": {text}");
    }

    /// Where reading begins, for clients that get no notices: nothing, where nothing is special. `ledger` is
    /// that of the reader, which has read nothing yet.
    pub(crate) fn hello_comment(&mut self, hello: &Hello, ledger: ReaderLedger) {
        let (epoch, used) = (hello.epoch, hello.used);
        // What only the client can know: whether it is still the run of the server that it has its id from.
        if let HelloReason::Resumed | HelloReason::Evicted = hello.reason
            && let Some(Ok(Cursor {
                seq: 1..,
                epoch: None,
            })) = hello.asked.as_deref().map(str::parse)
        {
            self.comment(&format!(
                "epoch {epoch}: the cursor has no epoch, and names another event if the server was restarted since"
            ));
        }
        let why = match hello.reason {
            HelloReason::Fresh | HelloReason::Resumed => return,
            // Nothing of it was asked for.
            HelloReason::Evicted if ledger.lost == 0 => return,
            HelloReason::Evicted => {
                let at_most = if hello.lost.is_none() { "at most " } else { "" };
                let (lost, first) = (ledger.lost, ledger.start + 1);
                return self.comment(&format!(
                    "gap: {at_most}{lost} lost before this stream began, seq {first} to {used}"
                ));
            }
            HelloReason::Ahead => "is ahead of the newest event",
            HelloReason::OtherEpoch => "is from before a restart",
            HelloReason::Invalid => "cannot be read",
        };
        self.comment(&format!(
            "the cursor {why}: reading continues at the oldest event retained, seq {}",
            used + 1
        ));
    }

    /// What follows is of another epoch: a notice, or a comment for clients that get none.
    pub(crate) fn epoch(&mut self, epoch: &EpochNotice, notices: bool) {
        if notices {
            let begin = Cursor {
                seq: 0,
                epoch: Some(epoch.epoch),
            };
            return self.notice(&Notice::Epoch(*epoch), Some(begin));
        }
        let rest = if epoch.complete {
            ""
        } else {
            "; what came after it cannot be read"
        };
        self.comment(&format!(
            "epoch: {} ends here after seq {}{rest}; {} follows from seq 1",
            epoch.from, epoch.last_seq, epoch.epoch
        ));
    }

    /// A loss: a notice, or a comment for clients that get none.
    pub(crate) fn lost(&mut self, lost: &Lost, notices: bool, epoch: Option<Epoch>) {
        let by_category = lost.by_category.iter().flat_map(Counts::iter);
        if notices {
            let gap = Notice::Gap(Gap {
                count: lost.count(),
                matching: lost.matching,
                from: lost.first,
                to: lost.last,
                by_category: by_category.collect(),
            });
            let seq = lost.last;
            return self.notice(&gap, Some(Cursor { seq, epoch }));
        }
        let out = self.out();
        let _ = match lost.matching {
            Some(matching) => write!(out, ": gap: {matching} lost"),
            None => write!(out, ": gap: at most {} lost", lost.at_most()),
        };
        let _ = write!(out, ", seq {} to {}", lost.first, lost.last);
        for (n, (category, count)) in by_category.enumerate() {
            let _ = write!(out, "{} {category} {count}", if n == 0 { ":" } else { "," });
        }
        out.push(b'\n');
    }
}

/// The `data` of a frame, and its end.
///
/// JSON may have line breaks between its tokens where the producer wrote them. In a frame a line
/// break starts another field, so each line gets a `data:` of its own; the receiver puts them
/// together again with `\n`.
///
/// No line break of two characters is in two parts: those are within `data` alone.
pub(crate) fn write_data<'a>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'a str>) {
    out.extend_from_slice(b"data: ");
    for part in parts {
        let mut rest = part.as_bytes();
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"\ndata: ");
            let end = if rest[at..].starts_with(b"\r\n") {
                at + 2
            } else {
                at + 1
            };
            rest = &rest[end..];
        }
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(b"\n\n");
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types serialize")
}
