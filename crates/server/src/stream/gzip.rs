//! Compression of a stream: each batch is flushed, so that a decompressor can pass on all of it at once.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// One stream's compressor. Each has its own, since what it writes depends on all that went before.
pub(crate) struct Gzip(GzEncoder<Vec<u8>>);

impl Default for Gzip {
    fn default() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }
}

impl Gzip {
    /// The bytes to send for these.
    pub(crate) fn compress(&mut self, bytes: &[u8]) -> Vec<u8> {
        let done = self.0.write_all(bytes).and_then(|()| self.0.flush());
        done.expect("writing to memory");
        std::mem::take(self.0.get_mut())
    }

    /// The bytes at the end of the stream.
    pub(crate) fn last(mut self) -> Vec<u8> {
        let done = self.0.try_finish();
        done.expect("writing to memory");
        std::mem::take(self.0.get_mut())
    }
}
