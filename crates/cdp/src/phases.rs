//! The phases of a request, and its duration, from the browser's clocks.

use std::time::Duration;

use tapline_oapi::data::NetworkTiming;

use crate::protocol::ResourceTiming;

/// When a request began: on the browser's monotonic clock in seconds, and on ours.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clocks {
    /// The start; 0 if it was not seen.
    sent: f64,
    /// The start of the present hop: after a redirect, that of the request that follows it.
    hop: f64,
    /// Our clock at `hop`.
    at_hop: Duration,
}

impl Clocks {
    /// A request that began now.
    pub(crate) fn begun(timestamp: f64, now: Duration) -> Self {
        Self {
            sent: timestamp,
            hop: timestamp,
            at_hop: now,
        }
    }

    /// The same request, which was redirected now.
    pub(crate) fn redirected(self, timestamp: f64, now: Duration) -> Self {
        Self {
            hop: timestamp,
            at_hop: now,
            ..self
        }
    }

    /// The browser's clock when ours shows `now`.
    pub(crate) fn at(&self, now: Duration) -> f64 {
        self.hop + now.saturating_sub(self.at_hop).as_secs_f64()
    }

    /// From the start to this time of the browser's clock, in milliseconds.
    pub(crate) fn duration(&self, timestamp: f64) -> Option<f64> {
        (0.0 < self.sent && self.sent <= timestamp)
            .then(|| milliseconds((timestamp - self.sent) * 1000.0))
    }
}

/// The phases of a request that ended, or was looked at, at this time of the browser's clock.
pub(crate) fn of(timing: &ResourceTiming, clocks: &Clocks, end: f64) -> NetworkTiming {
    let base = timing.request_time;
    // The browser writes -1 for what did not take place.
    let between = |from: f64, to: f64| (0.0 <= from && from <= to).then(|| milliseconds(to - from));
    let first = [timing.dns_start, timing.connect_start, timing.send_start]
        .into_iter()
        .find(|start| 0.0 <= *start);
    // Before `request_time` it was in a queue of the renderer.
    let queued = if 0.0 < clocks.hop && clocks.hop <= base {
        (base - clocks.hop) * 1000.0
    } else {
        0.0
    };
    let answered = if 0.0 < timing.receive_headers_start {
        timing.receive_headers_start
    } else {
        timing.receive_headers_end
    };
    NetworkTiming {
        blocked: first.map(|first| milliseconds(queued + first)),
        dns: between(timing.dns_start, timing.dns_end),
        connect: between(timing.connect_start, timing.connect_end),
        tls: between(timing.ssl_start, timing.ssl_end),
        send: between(timing.send_start, timing.send_end),
        wait: between(timing.send_end, answered),
        receive: between(answered, (end - base) * 1000.0),
    }
}

/// Rounded to a microsecond: what is beyond comes from the arithmetic.
pub(crate) fn milliseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
