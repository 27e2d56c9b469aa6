//! Input of any length in batches of whole lines, in bounded memory.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::args::MAX_BODY_BYTES;

/// How long a batch waits to become full, so that what trickles into a pipe goes out soon.
const IDLE: Duration = Duration::from_millis(100);

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Whole lines, blank ones included: `count` of them, from line `first` of the input, from 1.
    Lines {
        first: u64,
        count: u64,
        bytes: Bytes,
    },
    /// A line that no server would take; it was passed over.
    TooLong { line: u64, limit: usize },
}

pub(super) struct Batches<R> {
    input: R,
    buffer: BytesMut,
    /// The part of `buffer` that is whole lines for the next batch, and how many.
    whole: usize,
    lines: usize,
    /// How many lines came before `buffer`.
    before: u64,
    at_end: bool,
    most_lines: usize,
    most_bytes: usize,
    longest_line: usize,
}

impl<R: AsyncRead + Unpin> Batches<R> {
    pub(super) fn new(input: R, most_lines: usize, most_bytes: usize) -> Self {
        Self {
            input,
            buffer: BytesMut::new(),
            whole: 0,
            lines: 0,
            before: 0,
            at_end: false,
            most_lines,
            most_bytes,
            // And its line break.
            longest_line: MAX_BODY_BYTES - 1,
        }
    }

    /// The next batch: full, or what there is once the input pauses or ends. `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Batch>> {
        // Before this position `buffer` has been searched for the end of a line.
        let mut searched = self.whole;
        loop {
            while self.lines < self.most_lines {
                match self.buffer[searched..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                {
                    Some(end) => {
                        let end = searched + end + 1;
                        let is_too_long = self.longest_line < end - self.whole - 1;
                        if 0 < self.lines && (self.most_bytes < end || is_too_long) {
                            return Ok(Some(self.take()));
                        }
                        if is_too_long {
                            return self.pass_over().await.map(Some);
                        }
                        (self.whole, searched) = (end, end);
                        self.lines += 1;
                    }
                    None => {
                        searched = self.buffer.len();
                        break;
                    }
                }
            }
            if self.lines == self.most_lines
                || 0 < self.lines && self.most_bytes <= self.buffer.len()
            {
                return Ok(Some(self.take()));
            }
            if self.longest_line < self.buffer.len() - self.whole {
                return match self.lines {
                    0 => self.pass_over().await.map(Some),
                    _ => Ok(Some(self.take())),
                };
            }
            if self.at_end {
                if self.whole < self.buffer.len() {
                    // The last line, without a line break.
                    self.whole = self.buffer.len();
                    self.lines += 1;
                }
                return Ok((0 < self.lines).then(|| self.take()));
            }
            if self.lines == 0 {
                self.read().await?;
            } else {
                // Dropping a read half way loses nothing: it has read nothing then.
                match tokio::time::timeout(IDLE, self.read()).await {
                    Ok(read) => read?,
                    Err(_) => return Ok(Some(self.take())),
                }
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        self.at_end = self.input.read_buf(&mut self.buffer).await? == 0;
        Ok(())
    }

    fn take(&mut self) -> Batch {
        let bytes = self
            .buffer
            .split_to(std::mem::take(&mut self.whole))
            .freeze();
        let count = std::mem::take(&mut self.lines) as u64;
        let first = self.before + 1;
        self.before += count;
        Batch::Lines {
            first,
            count,
            bytes,
        }
    }

    /// Drops input up to the end of the line that has begun.
    async fn pass_over(&mut self) -> io::Result<Batch> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let _ = self.buffer.split_to(end + 1);
                break;
            }
            self.buffer.clear();
            if self.at_end {
                break;
            }
            self.read().await?;
        }
        self.before += 1;
        Ok(Batch::TooLong {
            line: self.before,
            limit: self.longest_line,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn lines(first: u64, count: u64, bytes: &'static str) -> Batch {
        Batch::Lines {
            first,
            count,
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    /// All batches of `input`, at most `most_lines` and `most_bytes` each, and lines of 20 bytes.
    #[track_caller]
    fn check(input: &str, most_lines: usize, most_bytes: usize, expected: &[Batch]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let batches = runtime.block_on(async {
            let mut batches = Batches::new(input.as_bytes(), most_lines, most_bytes);
            batches.longest_line = 20;
            let mut all = Vec::new();
            while let Some(batch) = batches.next().await.unwrap() {
                all.push(batch);
            }
            all
        });
        assert_eq!(batches, expected);
    }

    #[test]
    fn batches_are_bounded_by_lines() {
        check(
            "a\nb\n\nc\nd",
            2,
            99,
            &[
                lines(1, 2, "a\nb\n"),
                lines(3, 2, "\nc\n"),
                lines(5, 1, "d"),
            ],
        );
    }

    #[test]
    fn batches_are_bounded_by_bytes_but_a_long_line_goes_alone() {
        let long = lines(3, 1, "cccccccc\n");
        check(
            "aa\nbb\ncccccccc\nd\n",
            9,
            6,
            &[lines(1, 2, "aa\nbb\n"), long, lines(4, 1, "d\n")],
        );
    }

    #[test]
    fn a_line_without_end_is_a_line_and_nothing_is_none() {
        check("a", 9, 99, &[lines(1, 1, "a")]);
        check("", 9, 99, &[]);
    }

    #[test]
    fn a_line_that_no_server_takes_is_passed_over_and_counted() {
        let too_long = |line| Batch::TooLong { line, limit: 20 };
        check(
            "a\nxxxxxxxxxxxxxxxxxxxxxxxxxx\nb",
            1,
            8,
            &[lines(1, 1, "a\n"), too_long(2), lines(3, 1, "b")],
        );
        check("xxxxxxxxxxxxxxxxxxxxxxxxxx", 9, 8, &[too_long(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_trickles_in_goes_out_soon() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut batches = Batches::new(reader, 500, 1000);
        writer.write_all(b"a\nb\nc").await.unwrap();
        assert_eq!(batches.next().await.unwrap(), Some(lines(1, 2, "a\nb\n")));
        writer.write_all(b"c\n").await.unwrap();
        assert_eq!(batches.next().await.unwrap(), Some(lines(3, 1, "cc\n")));
        drop(writer);
        assert_eq!(batches.next().await.unwrap(), None);
    }
}
