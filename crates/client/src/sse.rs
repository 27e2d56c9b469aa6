//! Parses Server-Sent Events from chunks of bytes.
//!
//! It is our own parser because no library at hand gives all three: `data` unchanged to the byte, a bound
//! on the memory that a server can make the client use, and frames that consist of an id or a `retry`
//! alone. The format: <https://html.spec.whatwg.org/multipage/server-sent-events.html>,
//! with two differences. Invalid UTF-8 is an error. An id belongs to its frame only, because notices have
//! none.

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::error::ProtocolError;

/// The most bytes of a frame. The largest envelope has 1,000,000; the rest allows for a server that breaks
/// its data into many lines.
pub(crate) const MAX_FRAME_BYTES: usize = 2 * 1024 * 1024;

/// The fields between two blank lines. Comments are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    /// The lines of data, joined by line breaks.
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<Duration>,
}

/// Turns chunks, cut anywhere, into frames.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    chunk: Bytes,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    frame: Frame,
    /// How many bytes of input the frame has so far.
    frame_bytes: usize,
    /// The last byte was a CR: a following LF belongs to it.
    after_cr: bool,
    /// The first line was parsed: no byte order mark can follow.
    begun: bool,
}

impl Parser {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk. The previous one must be used up: [`next`](Self::next) returned `None`.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the previous chunk is not used up");
        self.chunk = chunk;
    }

    /// The next complete frame; `None` if another chunk is needed.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if self.after_cr && !self.chunk.is_empty() {
                self.after_cr = false;
                if self.chunk[0] == b'\n' {
                    self.chunk.advance(1);
                }
            }
            let end = self
                .chunk
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(self.chunk.len());
            self.frame_bytes += taken;
            if MAX_FRAME_BYTES < self.frame_bytes {
                return Err(ProtocolError::FrameTooLarge(MAX_FRAME_BYTES));
            }
            let Some(end) = end else {
                self.line.extend_from_slice(&self.chunk);
                self.chunk.clear();
                return Ok(None);
            };

            let rest = self.chunk.split_to(end);
            self.after_cr = self.chunk[0] == b'\r';
            self.chunk.advance(1);
            let is_blank = if self.line.is_empty() {
                self.take_line(&rest)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest);
                let is_blank = self.take_line(&line)?;
                line.clear();
                self.line = line;
                is_blank
            };
            // Comments between frames have no blank line behind them: a stream may have nothing else for weeks.
            if self.frame == Frame::default() {
                self.frame_bytes = 0;
            }
            if is_blank {
                self.frame_bytes = 0;
                let frame = std::mem::take(&mut self.frame);
                if frame != Frame::default() {
                    return Ok(Some(frame));
                }
            }
        }
    }

    /// Adds a line to the frame; true if it is blank and ends the frame.
    fn take_line(&mut self, mut line: &[u8]) -> Result<bool, ProtocolError> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(true);
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            // A comment. Receiving it has already reset the silence timer.
            Some(0) => return Ok(false),
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let value = std::str::from_utf8(value).map_err(|_| ProtocolError::NotUtf8)?;
        match field {
            b"data" => match &mut self.frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            b"event" => self.frame.event = (!value.is_empty()).then(|| value.to_owned()),
            b"id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            b"retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                if let Ok(millis) = value.parse() {
                    self.frame.retry = Some(Duration::from_millis(millis));
                }
            }
            _ => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `text` at once, byte by byte, and cut in two at every position: always the same frames.
    #[track_caller]
    fn check(text: &str, expected: &[Frame]) {
        let bytes = text.as_bytes();
        assert_eq!(frames([bytes]), expected, "whole: {text:?}");
        assert_eq!(frames(bytes.chunks(1)), expected, "byte by byte: {text:?}");
        for cut in 0..bytes.len() {
            let (start, rest) = bytes.split_at(cut);
            assert_eq!(frames([start, rest]), expected, "cut at {cut}: {text:?}");
        }
    }

    fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
        let mut parser = Parser::new();
        let mut frames = Vec::new();
        for chunk in chunks {
            parser.push(Bytes::copy_from_slice(chunk));
            while let Some(frame) = parser.next().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    fn data(data: &str) -> Frame {
        Frame {
            data: Some(data.to_owned()),
            ..Frame::default()
        }
    }

    fn id(id: &str) -> Frame {
        Frame {
            id: Some(id.to_owned()),
            ..Frame::default()
        }
    }

    #[test]
    fn lines_end_in_lf_cr_or_both() {
        for end in ["\n", "\r", "\r\n"] {
            let text = [
                "id: 1",
                "data: ü€😀",
                "",
                "data: b",
                "data: c",
                "",
                "data: cut",
            ]
            .join(end);
            let first = Frame {
                id: Some("1".to_owned()),
                ..data("ü€😀")
            };
            check(&text, &[first, data("b\nc")]);
        }
    }

    #[test]
    fn one_space_after_the_colon_is_removed() {
        check(
            "data:a\n\ndata: a\n\ndata:  a \n\n",
            &[data("a"), data("a"), data(" a ")],
        );
    }

    #[test]
    fn data_may_be_empty() {
        check("data\n\ndata:\ndata:\n\n", &[data(""), data("\n")]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_once() {
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[data("a")]);
    }

    #[test]
    fn comments_and_unknown_fields_are_ignored() {
        check(": hi\n\n:\n: x\ndata: a\nfoo: bar\n: y\n\n", &[data("a")]);
    }

    #[test]
    fn an_id_alone_is_a_frame() {
        check("id: 7-ab\n\nid: 8\0\n\nid\n\n", &[id("7-ab"), id("")]);
    }

    #[test]
    fn an_id_is_not_carried_over() {
        let first = Frame {
            id: Some("1".to_owned()),
            ..data("a")
        };
        check("id: 1\ndata: a\n\ndata: b\n\n", &[first, data("b")]);
    }

    #[test]
    fn retry_accepts_digits_only() {
        let retry = |millis| Frame {
            retry: Some(Duration::from_millis(millis)),
            ..Frame::default()
        };
        check(
            "retry: 250\n\nretry: 2s\n\nretry: -1\n\nretry:\n\n",
            &[retry(250)],
        );
    }

    #[test]
    fn an_empty_event_name_is_no_name() {
        check(
            "event:\ndata: a\n\nevent: gap\nevent\ndata: b\n\nevent:\n\n",
            &[data("a"), data("b")],
        );
    }

    #[test]
    fn a_named_event_keeps_its_name() {
        let gap = Frame {
            event: Some("gap".to_owned()),
            ..data("{}")
        };
        check("event: gap\ndata: {}\n\n", &[gap]);
    }

    #[test]
    fn a_frame_is_bounded_with_one_line_or_many() {
        let endless_line = vec![b'x'; MAX_FRAME_BYTES + 1];
        let endless_lines = b"data: xxxxxxxx\n".repeat(MAX_FRAME_BYTES / 14 + 1);
        for bytes in [endless_line, endless_lines] {
            let mut parser = Parser::new();
            let mut chunks = bytes.chunks(64 * 1024);
            let error = loop {
                parser.push(Bytes::copy_from_slice(
                    chunks.next().expect("an error comes before the end"),
                ));
                match parser.next() {
                    Ok(frame) => assert_eq!(frame, None),
                    Err(error) => break error,
                }
            };
            assert!(matches!(
                error,
                ProtocolError::FrameTooLarge(MAX_FRAME_BYTES)
            ));
        }
    }

    #[test]
    fn many_comments_are_no_large_frame() {
        let text = ": keep-alive\n".repeat(MAX_FRAME_BYTES / 8) + "data: a\n\n";
        assert_eq!(frames([text.as_bytes()]), [data("a")]);
    }

    #[test]
    fn many_frames_are_not_one_large_one() {
        let text = format!("data: {}\n\n", "x".repeat(MAX_FRAME_BYTES / 4)).repeat(9);
        assert_eq!(frames([text.as_bytes()]).len(), 9);
    }

    #[test]
    fn invalid_utf8_is_an_error() {
        let mut parser = Parser::new();
        parser.push(Bytes::from_static(b"data: \xff\n\n"));
        assert!(matches!(parser.next(), Err(ProtocolError::NotUtf8)));
    }
}
