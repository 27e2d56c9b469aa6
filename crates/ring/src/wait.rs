//! Sleeping until the ring has something, and being woken.
//!
//! A reader that finds nothing puts its waker into its *bed*, lays the bed onto a pile and sets a
//! mark, [`ARMED`]. A publisher that does not see the mark goes on: one load. One that does sets
//! another, [`RUNG`], and wakes the *keeper* (`keeper.rs`), a thread of the ring that takes the pile
//! and calls every waker in it. So a publisher's work is the same however many sleep, and no waker,
//! which is somebody else's code, runs in its place.
//!
//! A publisher that stops before it has woken the keeper leaves the mark, so that the next one wakes
//! it.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll, Waker};
#[cfg(not(any(loom, shuttle)))]
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;

use crate::stack::Stack;
use crate::sync::{AtomicBool, AtomicU32, Mutex, Thread, store_load_barrier, thread};

/// Somebody sleeps, or is about to.
pub(crate) const ARMED: u32 = 1;
/// The sleepers are to be called.
pub(crate) const RUNG: u32 = 2;
/// Something has been retired, and the keeper will look to it.
pub(crate) const LITTER: u32 = 4;
/// The ring is gone.
pub(crate) const CLOSED: u32 = 8;
/// The keeper sleeps until it is woken, and does not look by itself.
const AT_REST: u32 = 32;
/// Somebody has lost a place to another, and would like to have the next.
const WANTED: u32 = 16;

/// How long a producer stands aside for another, and the longest that this one waits for it: in
/// spins of the processor, about 1.5 microseconds.
#[cfg(not(any(loom, shuttle)))]
const ASIDE: u32 = 64;

/// All who sleep on one ring, and what its keeper is asked for.
#[derive(Default)]
pub(crate) struct Waiters {
    /// [`ARMED`], [`RUNG`], [`LITTER`] and [`CLOSED`].
    marks: AtomicU32,
    asleep: Stack<Arc<Bed>>,
    /// Beds of readers that are gone. They may still lie on the pile: to use them again bounds how
    /// high that becomes while nobody publishes.
    free: Mutex<Vec<Arc<Bed>>>,
}

/// Where one reader sleeps.
#[derive(Default)]
struct Bed {
    waker: AtomicWaker,
    /// Whether it lies on the pile, or is about to.
    piled: AtomicBool,
}

impl Waiters {
    /// To be called after something has been appended or turned: asks the keeper for what there is
    /// to do. `littered` says whether something has been retired.
    #[inline]
    pub(crate) fn notify(&self, littered: bool, keeper: &Thread) {
        store_load_barrier();
        // SeqCst [W1]: after the exchange of the slot; pairs with the marking in `lie_down`.
        let marks = self.marks.load(SeqCst);
        if marks & (ARMED | RUNG | WANTED) != 0 || littered && marks & LITTER == 0 {
            self.ask(marks, littered, keeper);
        }
    }

    /// Marks first and wakes afterwards: where we stop in between, the next one finds the mark, and
    /// wakes.
    #[cold]
    fn ask(&self, marks: u32, littered: bool, keeper: &Thread) {
        let rung = if marks & ARMED != 0 { RUNG } else { 0 };
        let litter = if littered { LITTER } else { 0 };
        let asked = (rung | litter) & !marks;
        if asked != 0 {
            self.marks.fetch_or(asked, SeqCst);
        }
        if asked != 0 || marks & RUNG != 0 {
            keeper.unpark();
        }
        if marks & WANTED != 0 {
            self.stand_aside();
        }
    }

    /// To be called by who has lost a place to another: the next that has appended stands aside.
    #[cold]
    pub(crate) fn want_place(&self) {
        // Relaxed: whether it is seen soon is a matter of speed alone.
        if self.marks.load(Relaxed) & WANTED == 0 {
            self.marks.fetch_or(WANTED, Relaxed);
        }
        #[cfg(any(loom, shuttle))]
        thread::yield_now();
        #[cfg(not(any(loom, shuttle)))]
        for _ in 0..ASIDE {
            if self.marks.load(Relaxed) & WANTED == 0 {
                break;
            }
            std::hint::spin_loop();
        }
    }

    /// Leaves the ring to somebody else for a moment, and does not look whether they use it.
    ///
    /// Without that, who appends without a pause has the few cache lines in question to itself for
    /// as long as it likes, and whoever is a little slower never gets a place. And where both go on
    /// at once, they take these lines from each other with every append: better that each has them
    /// for some dozen (`benches/README.md`).
    #[cold]
    fn stand_aside(&self) {
        self.marks.fetch_and(!WANTED, Relaxed);
        #[cfg(not(any(loom, shuttle)))]
        (0..ASIDE).for_each(|_| std::hint::spin_loop());
    }

    /// What the keeper is asked for.
    pub(crate) fn marks(&self) -> u32 {
        self.marks.load(SeqCst)
    }

    /// The keeper's answer to [`LITTER`]: whatever is retired from here on is marked anew.
    pub(crate) fn clear_litter(&self) {
        // SeqCst [E3]: before it looks into the yards; pairs with the look in `notify`.
        self.marks.fetch_and(!LITTER, SeqCst);
    }

    /// Whether the keeper may sleep until it is woken: whoever gives it something to look to from here
    /// on wakes it.
    pub(crate) fn let_keeper_sleep(&self) -> bool {
        let marks = self.marks.fetch_or(AT_REST, SeqCst);
        let may = marks & (ARMED | RUNG | LITTER | CLOSED) == 0;
        if !may {
            self.keeper_is_up();
        }
        may
    }

    pub(crate) fn keeper_is_up(&self) {
        self.marks.fetch_and(!AT_REST, SeqCst);
    }

    /// There is more to look to.
    pub(crate) fn mark_litter(&self) {
        self.marks.fetch_or(LITTER, SeqCst);
    }

    /// The keeper's answer to [`RUNG`]: calls everyone who is asleep now.
    pub(crate) fn call(&self) {
        // SeqCst [W6]: before it takes the pile. Who lies down from here on marks anew, and who has
        // seen the mark has been on the pile before; pairs with `lie_down`.
        self.marks.fetch_and(!(ARMED | RUNG), SeqCst);
        for bed in self.asleep.take_all() {
            // AcqRel [W5]: who finds it on the pile after this puts it there again, and the waker of
            // who found it there before is in it; pairs with the swap in `lie_down`.
            bed.piled.swap(false, SeqCst);
            bed.waker.wake();
        }
    }

    /// The ring is gone, and so are its readers.
    pub(crate) fn close(&self, keeper: &Thread) {
        self.marks.fetch_or(CLOSED, SeqCst);
        keeper.unpark();
    }
}

/// One reader's place among the sleepers.
#[derive(Default)]
pub(crate) struct Waiter {
    bed: Option<Arc<Bed>>,
}

impl Waiter {
    /// Looks, and where there is nothing, lies down with `cx`'s waker and looks again.
    ///
    /// `look` must see what a publisher has put before it called [`Waiters::notify`]: its read of
    /// the slot is `SeqCst` ([W2]).
    pub(crate) fn poll<R>(
        &mut self,
        waiters: &Waiters,
        keeper: &Thread,
        cx: &mut Context<'_>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Poll<R> {
        let mut found = look();
        if found.is_none() {
            self.lie_down(waiters, keeper, cx.waker());
            found = look();
            if found.is_some() {
                self.get_up();
            }
        }
        found.map_or(Poll::Pending, Poll::Ready)
    }

    /// As [`Waiter::poll`], with the thread itself as the sleeper. `None` at the deadline.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn wait<R>(
        &mut self,
        waiters: &Waiters,
        keeper: &Thread,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        THREAD.with(|waker| {
            loop {
                let polled = self.poll(waiters, keeper, &mut Context::from_waker(waker), &mut look);
                if let Poll::Ready(found) = polled {
                    return Some(found);
                }
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => {
                        self.get_up();
                        return look();
                    }
                    Some(left) => thread::park_timeout(left),
                }
            }
        })
    }

    fn lie_down(&mut self, waiters: &Waiters, keeper: &Thread, waker: &Waker) {
        let bed = self.bed.get_or_insert_with(|| waiters.free_bed());
        bed.waker.register(waker);
        // AcqRel [W5]: the waker before it; pairs with the swap in `call`.
        if !bed.piled.swap(true, SeqCst) {
            waiters.asleep.push(bed.clone());
        }
        // SeqCst [W6]: after the pile; pairs with the clearing in `call`.
        if waiters.marks.load(SeqCst) & (ARMED | RUNG) == 0 {
            // SeqCst [W2]: before the look at the slot; pairs with the load in `notify`.
            let marks = waiters.marks.fetch_or(ARMED, SeqCst);
            if marks & AT_REST != 0 {
                // It is to look now and then, as long as somebody sleeps.
                keeper.unpark();
            }
        }
        store_load_barrier();
    }

    fn get_up(&mut self) {
        if let Some(bed) = &self.bed {
            drop(bed.waker.take());
        }
    }

    /// Gives the bed back. The owner's last call.
    pub(crate) fn leave(&mut self, waiters: &Waiters) {
        self.get_up();
        if let Some(bed) = self.bed.take() {
            waiters.take_back(bed);
        }
    }
}

/// Also where a closure of its reader's has panicked: nobody is called who is not there.
impl Drop for Waiter {
    fn drop(&mut self) {
        self.get_up();
    }
}

impl Waiters {
    fn free_bed(&self) -> Arc<Bed> {
        // Whoever has the list now does not hold us up: a new bed does as well.
        let free = self.free.try_lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_default()
    }

    fn take_back(&self, bed: Arc<Bed>) {
        if let Ok(mut free) = self.free.try_lock() {
            free.push(bed);
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    static THREAD: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Wakes a parked thread.
#[cfg(not(any(loom, shuttle)))]
struct Unpark(Thread);

#[cfg(not(any(loom, shuttle)))]
impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
