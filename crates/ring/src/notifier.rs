//! The notifier: one thread for each ring, for what no producer should have to do.
//!
//! It calls the readers that sleep, and frees what threads have retired that have gone quiet since.
//! It sleeps while there is neither.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::reclaim::Held;
use crate::sync::{self, MODEL, Thread, now, park, time_has_passed};
use crate::wait::{ARMED, CLOSED, GARBAGE, RINGING};

/// How long what was retired waits for the notifier, if its own thread does not free it before:
/// seldom enough to cost nothing, soon enough that nobody counts on the memory in vain.
const SWEEP_AFTER: Duration = Duration::from_millis(20);

/// How long a sleeper may have to wait for its call where a producer was stopped for good in the few
/// instructions between its append and the call, and nobody appends after it.
pub(crate) const BACKSTOP: Duration = Duration::from_secs(1);

/// Starts the notifier of a ring. It ends when the ring is gone.
pub(crate) fn start<T, S>(core: Arc<Core<T, S>>, backstop: Duration) -> io::Result<Thread>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    sync::start("tapline-ring", move || keep(&core, backstop))
}

fn keep<T, S>(core: &Core<T, S>, backstop: Duration)
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    let mut held = Held::default();
    let mut sweep = Alarm::default();
    let mut stopped = Alarm::default();
    // What stood at the head when the backstop was due last.
    let mut seen = None;
    loop {
        let flags = core.waiters.flags();
        if flags & CLOSED != 0 {
            core.domain.sweep(&mut held);
            return;
        }
        if flags & RINGING != 0 {
            stopped = Alarm::default();
            core.waiters.call();
            continue;
        }
        // Not in models: it would hide from them that a call is missing.
        let has_waited = !MODEL && stopped.rings_after(backstop);
        if has_waited && flags & ARMED != 0 {
            let now = Some(core.mark());
            if now != seen {
                seen = now;
                core.waiters.call();
            }
            continue;
        }
        if flags & GARBAGE != 0 && sweep.rings_after(SWEEP_AFTER) {
            core.waiters.clear_garbage();
            if core.domain.sweep(&mut held) {
                core.waiters.flag_garbage();
                // Whoever holds it back may be the last to do anything.
                sweep.wind_up(SWEEP_AFTER);
            }
        }
        // Nobody has slept for a while, nor retired anything: no need to look at any time.
        if has_waited && sweep.left().is_none() {
            if core.waiters.let_notifier_sleep() {
                stopped = Alarm::default();
                park(None);
                core.waiters.notifier_is_up();
            }
            continue;
        }
        park([sweep.left(), stopped.left()].into_iter().flatten().min());
    }
}

/// Rings some time after it was first asked, and is then wound up anew.
#[derive(Default)]
struct Alarm(Option<Duration>);

impl Alarm {
    fn rings_after(&mut self, time: Duration) -> bool {
        let rings = now() >= self.wind_up(time) || time_has_passed();
        if rings {
            self.0 = None;
        }
        rings
    }

    /// If it is not wound up already; answers when it rings.
    fn wind_up(&mut self, time: Duration) -> Duration {
        *self.0.get_or_insert_with(|| now() + time)
    }

    /// How long until it rings; `None` where nobody has asked since it did.
    fn left(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_sub(now()))
    }
}
