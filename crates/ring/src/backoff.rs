//! What a producer does that has lost its place to another.

/// Stays away for a while, longer each time.
///
/// Two producers that go on at once take the same few cache lines from each other with every append.
/// Where the one that lost stays away, the other goes on alone, as fast as one producer does: so the
/// first wait is as long as some dozen appends, and not as short as can be. `benches/README.md` has
/// the figures.
pub(crate) struct Backoff(u32);

/// In spins of the processor: about 1 and 10 microseconds.
const FIRST: u32 = 64;
const LONGEST: u32 = 512;

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(crate) fn wait(&mut self) {
        // Loom takes it for other threads' turn.
        #[cfg(not(loom))]
        (0..self.0).for_each(|_| std::hint::spin_loop());
        self.0 = (self.0 * 2).min(LONGEST);
    }
}
