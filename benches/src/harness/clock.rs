//! Time and CPU time.

use std::hint;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long one call took, by two looks at the clock.
#[inline]
pub(super) fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Keeps this thread busy for so long.
pub(super) fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        hint::spin_loop();
    }
}

pub(super) fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// The CPU time that this thread has used.
pub(super) fn of_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// The CPU time that all threads of the process have used.
pub fn of_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.try_into().expect("CPU time is not negative"),
        time.tv_nsec.try_into().expect("below a second"),
    )
}
