//! The notifier: one thread for each ring, for the work that no producer should have to do.
//!
//! It wakes sleeping readers, and frees what was retired by threads that have become idle since. It
//! sleeps while there is no such work. Foreign code that panics (a waker, a value's `Drop`) does not end
//! it (`foreign.rs`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::reclaim::Held;
use crate::sync::{self, MODEL, Thread, now, park, time_has_passed};
use crate::wait::{ARMED, CLOSED, GARBAGE, WAKE};

/// How long retired memory waits for the notifier, if its own thread does not free it before: seldom
/// enough to cost nothing, soon enough that the memory is free when it is needed.
const SWEEP_AFTER: Duration = Duration::from_millis(20);

/// How long a sleeper may have to wait where a producer was stopped for good in the few instructions
/// between its append and its wake-up, and no other producer appends after it.
pub(crate) const BACKSTOP: Duration = Duration::from_secs(1);

/// Starts the notifier of a ring. It ends when the ring is gone.
pub(crate) fn start<T, S>(core: Arc<Core<T, S>>, backstop: Duration) -> io::Result<Thread>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    sync::start("tapline-ring", move || run(&core, backstop))
}

fn run<T, S>(core: &Core<T, S>, backstop: Duration)
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    let mut held = Held::default();
    let mut sweep = Timer::default();
    let mut stopped = Timer::default();
    // The word at the head when the backstop was due last.
    let mut seen = None;
    loop {
        let flags = core.waiters.flags();
        if flags & CLOSED != 0 {
            core.domain.sweep(&mut held);
            return;
        }
        if flags & WAKE != 0 {
            stopped = Timer::default();
            core.waiters.wake_all();
            continue;
        }
        // Not in models: it would hide from them that a wake-up is missing.
        let has_waited = !MODEL && stopped.is_due_after(backstop);
        if has_waited && flags & ARMED != 0 {
            let now = Some(core.head_word());
            if now != seen {
                seen = now;
                core.waiters.wake_all();
            }
            continue;
        }
        if flags & GARBAGE != 0 && sweep.is_due_after(SWEEP_AFTER) {
            core.waiters.clear_garbage();
            if core.domain.sweep(&mut held) {
                core.waiters.set_garbage();
                // The thread that holds it back may be the last to do anything.
                sweep.start(SWEEP_AFTER);
            }
        }
        // No reader has slept for a while, and nothing was retired: no need to look at any time.
        if has_waited && sweep.left().is_none() {
            if core.waiters.rest() {
                stopped = Timer::default();
                park(None);
                core.waiters.end_rest();
            }
            continue;
        }
        park([sweep.left(), stopped.left()].into_iter().flatten().min());
    }
}

/// Is due some time after it was first asked, and then starts anew.
#[derive(Default)]
struct Timer(Option<Duration>);

impl Timer {
    fn is_due_after(&mut self, time: Duration) -> bool {
        let is_due = now() >= self.start(time) || time_has_passed();
        if is_due {
            self.0 = None;
        }
        is_due
    }

    /// Starts it, unless it runs already; answers when it is due.
    fn start(&mut self, time: Duration) -> Duration {
        *self.0.get_or_insert_with(|| now() + time)
    }

    /// How long until it is due; `None` where it does not run.
    fn left(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_sub(now()))
    }
}
