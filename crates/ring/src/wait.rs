//! Sleeping until the ring has something, and being woken.
//!
//! A reader that finds nothing puts its waker into its *node*, lays the node onto a pile and sets a
//! mark, [`ARMED`]. A publisher that does not see the mark goes on: one load. One that does sets
//! another, [`RINGING`], and wakes the *notifier* (`notifier.rs`), a thread of the ring that takes the pile
//! and calls every waker in it. So a publisher's work is the same however many sleep, and no waker,
//! which is somebody else's code, runs in its place.
//!
//! A publisher that stops before it has woken the notifier leaves the mark, so that the next one wakes
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
pub(crate) const RINGING: u32 = 2;
/// Something has been retired, and the notifier will look to it.
pub(crate) const GARBAGE: u32 = 4;
/// The ring is gone.
pub(crate) const CLOSED: u32 = 8;
/// The notifier sleeps until it is woken, and does not look by itself.
const AT_REST: u32 = 32;
/// Somebody has lost a place to another, and would like to have the next.
const CONTENDED: u32 = 16;

/// How long a producer stands aside for another, and the longest that this one waits for it: in
/// spins of the processor, about 1.5 microseconds.
#[cfg(not(any(loom, shuttle)))]
const BACK_OFF_SPINS: u32 = 64;

/// All who sleep on one ring, and what its notifier is asked for.
#[derive(Default)]
pub(crate) struct Waiters {
    /// [`ARMED`], [`RINGING`], [`GARBAGE`] and [`CLOSED`].
    flags: AtomicU32,
    stack: Stack<Arc<WaitNode>>,
    /// Beds of readers that are gone. They may still lie on the pile: to use them again bounds how
    /// high that becomes while nobody publishes.
    free: Mutex<Vec<Arc<WaitNode>>>,
}

/// Where one reader sleeps.
#[derive(Default)]
struct WaitNode {
    waker: AtomicWaker,
    /// Whether it lies on the pile, or is about to.
    queued: AtomicBool,
}

impl Waiters {
    /// To be called after something has been appended or turned: asks the notifier for what there is
    /// to do. `has_garbage` says whether something has been retired.
    #[inline]
    pub(crate) fn notify(&self, has_garbage: bool, notifier: &Thread) {
        store_load_barrier();
        // SeqCst [W1]: after the exchange of the slot; pairs with the marking in `register`.
        let flags = self.flags.load(SeqCst);
        if flags & (ARMED | RINGING | CONTENDED) != 0 || has_garbage && flags & GARBAGE == 0 {
            self.ask(flags, has_garbage, notifier);
        }
    }

    /// Marks first and wakes afterwards: where we stop in between, the next one finds the mark, and
    /// wakes.
    #[cold]
    fn ask(&self, flags: u32, has_garbage: bool, notifier: &Thread) {
        let rung = if flags & ARMED != 0 { RINGING } else { 0 };
        let garbage = if has_garbage { GARBAGE } else { 0 };
        let asked = (rung | garbage) & !flags;
        if asked != 0 {
            self.flags.fetch_or(asked, SeqCst);
        }
        if asked != 0 || flags & RINGING != 0 {
            notifier.unpark();
        }
        if flags & CONTENDED != 0 {
            self.back_off();
        }
    }

    /// To be called by who has lost a place to another: the next that has appended stands aside.
    #[cold]
    pub(crate) fn lost_race(&self) {
        // Relaxed: whether it is seen soon is a matter of speed alone.
        if self.flags.load(Relaxed) & CONTENDED == 0 {
            self.flags.fetch_or(CONTENDED, Relaxed);
        }
        #[cfg(any(loom, shuttle))]
        thread::yield_now();
        #[cfg(not(any(loom, shuttle)))]
        for _ in 0..BACK_OFF_SPINS {
            if self.flags.load(Relaxed) & CONTENDED == 0 {
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
    fn back_off(&self) {
        self.flags.fetch_and(!CONTENDED, Relaxed);
        #[cfg(not(any(loom, shuttle)))]
        (0..BACK_OFF_SPINS).for_each(|_| std::hint::spin_loop());
    }

    /// What the notifier is asked for.
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(SeqCst)
    }

    /// The notifier's answer to [`GARBAGE`]: whatever is retired from here on is marked anew.
    pub(crate) fn clear_garbage(&self) {
        // SeqCst [E3]: before it looks into the retire lists; pairs with the look in `notify`.
        self.flags.fetch_and(!GARBAGE, SeqCst);
    }

    /// Whether the notifier may sleep until it is woken: whoever gives it something to look to from here
    /// on wakes it.
    pub(crate) fn let_notifier_sleep(&self) -> bool {
        let flags = self.flags.fetch_or(AT_REST, SeqCst);
        let may = flags & (ARMED | RINGING | GARBAGE | CLOSED) == 0;
        if !may {
            self.notifier_is_up();
        }
        may
    }

    pub(crate) fn notifier_is_up(&self) {
        self.flags.fetch_and(!AT_REST, SeqCst);
    }

    /// There is more to look to.
    pub(crate) fn flag_garbage(&self) {
        self.flags.fetch_or(GARBAGE, SeqCst);
    }

    /// The notifier's answer to [`RINGING`]: calls everyone who is stack now.
    pub(crate) fn call(&self) {
        // SeqCst [W6]: before it takes the pile. Who lies down from here on flags anew, and who has
        // seen the mark has been on the pile before; pairs with `register`.
        self.flags.fetch_and(!(ARMED | RINGING), SeqCst);
        for node in self.stack.take_all() {
            // AcqRel [W5]: who finds it on the pile after this puts it there again, and the waker of
            // who found it there before is in it; pairs with the swap in `register`.
            node.queued.swap(false, SeqCst);
            node.waker.wake();
        }
    }

    /// The ring is gone, and so are its readers.
    pub(crate) fn close(&self, notifier: &Thread) {
        self.flags.fetch_or(CLOSED, SeqCst);
        notifier.unpark();
    }
}

/// One reader's place among the sleepers.
#[derive(Default)]
pub(crate) struct Waiter {
    node: Option<Arc<WaitNode>>,
}

impl Waiter {
    /// Looks, and where there is nothing, lies down with `cx`'s waker and looks again.
    ///
    /// `look` must see what a publisher has put before it called [`Waiters::notify`]: its read of
    /// the slot is `SeqCst` ([W2]).
    pub(crate) fn poll<R>(
        &mut self,
        waiters: &Waiters,
        notifier: &Thread,
        cx: &mut Context<'_>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Poll<R> {
        let mut found = look();
        if found.is_none() {
            self.register(waiters, notifier, cx.waker());
            found = look();
            if found.is_some() {
                self.unregister();
            }
        }
        found.map_or(Poll::Pending, Poll::Ready)
    }

    /// As [`Waiter::poll`], with the thread itself as the sleeper. `None` at the deadline.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn wait<R>(
        &mut self,
        waiters: &Waiters,
        notifier: &Thread,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        THREAD.with(|waker| {
            loop {
                let polled = self.poll(
                    waiters,
                    notifier,
                    &mut Context::from_waker(waker),
                    &mut look,
                );
                if let Poll::Ready(found) = polled {
                    return Some(found);
                }
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => {
                        self.unregister();
                        return look();
                    }
                    Some(left) => thread::park_timeout(left),
                }
            }
        })
    }

    fn register(&mut self, waiters: &Waiters, notifier: &Thread, waker: &Waker) {
        let node = self.node.get_or_insert_with(|| waiters.free_node());
        node.waker.register(waker);
        // AcqRel [W5]: the waker before it; pairs with the swap in `call`.
        if !node.queued.swap(true, SeqCst) {
            waiters.stack.push(node.clone());
        }
        // SeqCst [W6]: after the pile; pairs with the clearing in `call`.
        if waiters.flags.load(SeqCst) & (ARMED | RINGING) == 0 {
            // SeqCst [W2]: before the look at the slot; pairs with the load in `notify`.
            let flags = waiters.flags.fetch_or(ARMED, SeqCst);
            if flags & AT_REST != 0 {
                // It is to look now and then, as long as somebody sleeps.
                notifier.unpark();
            }
        }
        store_load_barrier();
    }

    fn unregister(&mut self) {
        if let Some(node) = &self.node {
            drop(node.waker.take());
        }
    }

    /// Gives the node back. The owner's last call.
    pub(crate) fn leave(&mut self, waiters: &Waiters) {
        self.unregister();
        if let Some(node) = self.node.take() {
            waiters.take_back(node);
        }
    }
}

/// Also where a closure of its reader's has panicked: nobody is called who is not there.
impl Drop for Waiter {
    fn drop(&mut self) {
        self.unregister();
    }
}

impl Waiters {
    fn free_node(&self) -> Arc<WaitNode> {
        // Whoever has the list now does not hold us up: a new node does as well.
        let free = self.free.try_lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_default()
    }

    fn take_back(&self, node: Arc<WaitNode>) {
        if let Ok(mut free) = self.free.try_lock() {
            free.push(node);
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
