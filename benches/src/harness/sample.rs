//! What one slice of one rival has given.

use super::histogram::Histogram;

/// What is measured; not everything in every cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    /// Wall time over the events of all producers: with two, a producer's own call takes twice as long.
    PerEvent,
    /// Events that readers were given, all readers together, per second.
    Delivered,
    /// CPU time of the producers' threads per event.
    CpuPublishing,
    /// CPU time of all other threads per event.
    CpuReading,
    P50,
    P99,
    P999,
    Max,
    /// From right before a publish until the first reader that it woke has the event.
    FirstP50,
    FirstP99,
    /// The same, for the last of them.
    LastP50,
    LastP99,
    /// How many wakers a publish called.
    Calls,
}

/// In which unit a metric is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Nanos,
    PerSecond,
    Number,
}

impl Metric {
    pub(super) const ALL: [Self; 13] = [
        Self::PerEvent,
        Self::Delivered,
        Self::CpuPublishing,
        Self::CpuReading,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Max,
        Self::FirstP50,
        Self::FirstP99,
        Self::LastP50,
        Self::LastP99,
        Self::Calls,
    ];

    /// The head of its column, and with `-` for a blank its name in the lines.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PerEvent => "per event",
            Self::Delivered => "delivered",
            Self::CpuPublishing => "cpu pub",
            Self::CpuReading => "cpu read",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::FirstP50 => "first p50",
            Self::FirstP99 => "first p99",
            Self::LastP50 => "last p50",
            Self::LastP99 => "last p99",
            Self::Calls => "calls",
        }
    }

    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Delivered => Unit::PerSecond,
            Self::Calls => Unit::Number,
            _ => Unit::Nanos,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sample([Option<f64>; Metric::ALL.len()]);

impl Sample {
    pub(super) fn get(&self, metric: Metric) -> Option<f64> {
        self.0[metric as usize]
    }

    pub(super) fn set(&mut self, metric: Metric, value: impl Into<Option<f64>>) {
        self.0[metric as usize] = value.into();
    }

    /// How long publish calls took.
    pub(super) fn set_latency(&mut self, calls: &Histogram) {
        self.set(Metric::P50, calls.quantile(0.5));
        self.set(Metric::P99, calls.quantile(0.99));
        self.set(Metric::P999, calls.quantile(0.999));
        self.set(Metric::Max, calls.longest());
    }
}
