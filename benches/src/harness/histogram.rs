//! How long calls took: counted by length, in little memory, so that recording one does not push out of the cache what is
//! measured.

use std::time::Duration;

/// Each power of two is cut into so many parts: a value is exact to 1.6 %.
const PARTS: u64 = 64;

/// The highest power of two that is distinguished: 69 seconds, far longer than any wait here.
const HIGHEST: u32 = 36;

const BUCKETS: usize = PARTS as usize * (HIGHEST as usize - 6 + 1);

pub(super) struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    all: u64,
    longest: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            all: 0,
            longest: 0,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.counts[bucket(nanos)] += 1;
        self.all += 1;
        self.longest = self.longest.max(nanos);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.all += other.all;
        self.longest = self.longest.max(other.longest);
    }

    /// The length in nanoseconds that a `share` of the calls did not exceed. `None` where there were none.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        let wanted = ((self.all as f64 * share).ceil() as u64).clamp(1, self.all);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            wanted <= seen
        });
        reached.map(|bucket| middle(bucket).min(self.longest as f64))
    }

    pub(super) fn longest(&self) -> Option<f64> {
        (self.all > 0).then_some(self.longest as f64)
    }
}

/// Below [`PARTS`] a bucket for each nanosecond, and above it [`PARTS`] for each power of two.
#[inline]
fn bucket(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let power = nanos.ilog2();
    let shift = power - PARTS.ilog2();
    let of_power = (u64::from(shift) + 1) * PARTS;
    let part = (nanos >> shift) - PARTS;
    ((of_power + part) as usize).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket as f64;
    }
    let shift = bucket / PARTS - 1;
    let lowest = (PARTS + bucket % PARTS) << shift;
    lowest as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_hole() {
        let mut last = 0;
        for nanos in 0..100_000 {
            let its = bucket(nanos);
            assert!(its == last || its == last + 1, "{nanos}");
            let shown = middle(its);
            let off = (shown - nanos as f64).abs();
            assert!(off <= nanos as f64 / 64.0, "{nanos} is shown as {shown}");
            last = its;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_what_was_recorded() {
        let mut one = Histogram::new();
        assert_eq!((one.quantile(0.5), one.longest()), (None, None));
        let mut other = Histogram::new();
        for nanos in 1..=60 {
            let half = if nanos % 2 == 0 { &mut one } else { &mut other };
            half.record(Duration::from_nanos(nanos));
        }
        one.merge(&other);
        one.record(Duration::from_millis(1));
        assert_eq!(one.quantile(0.0), Some(1.0));
        assert_eq!(one.quantile(0.5), Some(31.0));
        assert_eq!(one.quantile(0.98), Some(60.0));
        assert_eq!(one.longest(), Some(1_000_000.0));
        let highest = one.quantile(1.0).unwrap();
        assert!((984_000.0..=1_000_000.0).contains(&highest), "{highest}");
    }
}
