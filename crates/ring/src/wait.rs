//! Sleeping until the ring has something, and being woken.
//!
//! A reader that finds nothing stores its waker in its *wait node*, pushes the node onto the *waiter
//! stack*, sets the flag [`ARMED`] and looks once more. A publisher that does not see the flag is done:
//! one load. One that sees it sets another flag, [`WAKE`], and unparks the *notifier thread*
//! (`notifier.rs`), which takes the whole stack and calls every waker. So a publisher's work is the same
//! for any number of sleepers, and no waker, which is foreign code, runs in the publisher.
//!
//! A publisher that stops before it has unparked the notifier leaves the flag, and the next publisher
//! unparks it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
#[cfg(not(any(loom, shuttle)))]
use std::time::{Duration, Instant};

use crate::foreign;
use crate::hand_off::HandOff;
use crate::order::{ARM, CLEAR_ARMED, LOOK_AT_FLAGS};
use crate::stack::{Linked, NodeStack};
use crate::sync::{AtomicU32, Mutex, Thread, thread};

/// A reader sleeps, or is about to.
pub(crate) const ARMED: u32 = 1;
/// The notifier is to wake the sleepers.
pub(crate) const WAKE: u32 = 2;
/// A thread has retired something, and the notifier knows of it.
pub(crate) const GARBAGE: u32 = 4;
/// The ring is gone.
pub(crate) const CLOSED: u32 = 8;
/// A producer has lost an exchange to another one, and would like to have the next.
const CONTENDED: u32 = 16;
/// The notifier sleeps until it is unparked, and does not look at the flags by itself.
const AT_REST: u32 = 32;

/// How long a producer backs off for another one, and the longest that the other one waits for it: in
/// spins of the processor, about 1.5 microseconds.
#[cfg(not(any(loom, shuttle)))]
const BACK_OFF_SPINS: u32 = 64;

/// All sleepers of one ring, and what its notifier is asked for.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Where a comment gives no reason, an access is `Relaxed`: the flags are one word, so every change
    /// of it sees the change before, and unparking orders what the notifier is asked for.
    flags: AtomicU32,
    stack: NodeStack<HandOff<Waker>>,
    /// Nodes of readers that are gone. They may still be on the stack: to use them again bounds how
    /// large the stack becomes while nothing is published.
    free: Mutex<Vec<Arc<WaitNode>>>,
}

/// Where one reader's waker is stored.
type WaitNode = Linked<HandOff<Waker>>;

impl Waiters {
    /// To be called after an append or a transition: asks the notifier for what there is to do.
    /// `has_garbage` says whether this thread has retired something.
    #[inline]
    pub(crate) fn notify(&self, has_garbage: bool, notifier: &Thread) {
        // SeqCst [W1]: after the exchange of the slot; pairs with `register`.
        // [E5]: after this thread has entered; pairs with the fence in `sweep`.
        let flags = self.flags.load(LOOK_AT_FLAGS);
        if flags & (ARMED | WAKE | CONTENDED) != 0 || has_garbage && flags & GARBAGE == 0 {
            self.ask(flags, has_garbage, notifier);
        }
    }

    /// Sets the flags first and unparks afterwards: where a publisher stops in between, the next one
    /// finds the flag and unparks.
    #[cold]
    fn ask(&self, flags: u32, has_garbage: bool, notifier: &Thread) {
        let wake = if flags & ARMED != 0 { WAKE } else { 0 };
        let garbage = if has_garbage { GARBAGE } else { 0 };
        let asked = (wake | garbage) & !flags;
        if asked != 0 {
            self.flags.fetch_or(asked, Relaxed);
        }
        if asked != 0 || flags & WAKE != 0 {
            notifier.unpark();
        }
        if flags & CONTENDED != 0 {
            self.back_off();
        }
    }

    /// To be called by a producer that has lost an exchange: the next one that has appended backs off.
    #[cold]
    pub(crate) fn lost_exchange(&self) {
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

    /// Leaves the ring to the other producers for a moment, whether they use it or not.
    ///
    /// Without that, a producer that appends without a pause has the few cache lines in question to
    /// itself, and a slower one never wins an exchange. Where both append at full speed they take these
    /// lines from each other with every append: it is better that each has them for some dozen
    /// (`benches/README.md`).
    #[cold]
    fn back_off(&self) {
        self.flags.fetch_and(!CONTENDED, Relaxed);
        #[cfg(not(any(loom, shuttle)))]
        (0..BACK_OFF_SPINS).for_each(|_| std::hint::spin_loop());
    }

    /// What the notifier is asked for.
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// The notifier is about to look for garbage: what is retired from here on is announced again.
    pub(crate) fn clear_garbage(&self) {
        // Relaxed [E5]: the fence in `sweep` follows.
        self.flags.fetch_and(!GARBAGE, Relaxed);
    }

    /// There is more garbage to look for.
    pub(crate) fn set_garbage(&self) {
        self.flags.fetch_or(GARBAGE, Relaxed);
    }

    /// Whether the notifier may sleep until it is unparked. If so, every thread that has work for it
    /// from here on unparks it.
    pub(crate) fn rest(&self) -> bool {
        let flags = self.flags.fetch_or(AT_REST, Relaxed);
        let may = flags & (ARMED | WAKE | GARBAGE | CLOSED) == 0;
        if !may {
            self.end_rest();
        }
        may
    }

    pub(crate) fn end_rest(&self) {
        self.flags.fetch_and(!AT_REST, Relaxed);
    }

    /// The notifier's answer to [`WAKE`]: wakes all that sleep now. A waker that panics keeps no other
    /// reader from being woken.
    pub(crate) fn wake_all(&self) {
        // Acquire [W6]: before the stack is taken. A reader whose flag this clears is on the stack; one
        // that sets the flag after this sets it for the next publisher. Pairs with `register`.
        self.flags.fetch_and(!(ARMED | WAKE), CLEAR_ARMED);
        for node in self.stack.take_all() {
            // [W5]: the node was marked as not queued before. A reader that has found it queued has stored its waker
            // before this takes it; one that has not pushes it again, also where this finds it at its waker and leaves
            // that alone.
            if let Some(waker) = node.item.take() {
                foreign::call(|| waker.wake());
            }
        }
    }

    /// The ring is gone, and so are its readers.
    pub(crate) fn close(&self, notifier: &Thread) {
        self.flags.fetch_or(CLOSED, Relaxed);
        notifier.unpark();
    }

    fn free_node(&self) -> Arc<WaitNode> {
        // Another thread that has the list does not hold this one up: a new node does as well.
        let free = self.free.try_lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_default()
    }

    fn give_back(&self, node: Arc<WaitNode>) {
        if let Ok(mut free) = self.free.try_lock() {
            free.push(node);
        }
    }
}

/// What one reader needs in order to sleep.
#[derive(Default)]
pub(crate) struct Waiter {
    node: Option<Arc<WaitNode>>,
}

impl Waiter {
    /// Looks, and where there is nothing, registers `cx`'s waker and looks again.
    ///
    /// `look` must see what a publisher has stored before it called [`Waiters::notify`]: it reads slots
    /// ([W2]).
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
                let mut cx = Context::from_waker(waker);
                if let Poll::Ready(found) = self.poll(waiters, notifier, &mut cx, &mut look) {
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
        // A waker's `clone` is foreign and may panic. Then nothing has changed, and the caller gets the panic.
        let mut waker = waker.clone();
        let node = loop {
            let node = self.node.get_or_insert_with(|| waiters.free_node());
            match node.item.put(waker, Waker::will_wake) {
                Ok(replaced) => {
                    foreign::drop_caught(replaced);
                    break &*node;
                }
                // The notifier is taking the old waker. This one needs another node then: nothing waits for it.
                Err(refused) => {
                    waker = refused;
                    self.node = Some(Arc::default());
                }
            }
        };
        // [W5]: after the waker is stored; pairs with `wake_all`.
        waiters.stack.push(node);
        // SeqCst [W2]: before the look at the slot; pairs with the load in `notify`.
        // [W6]: after the push; pairs with the clearing in `wake_all`. Always a change of the word,
        // also where the flag is set already, so that the clearing comes before or after it.
        let flags = waiters.flags.fetch_or(ARMED, ARM);
        if flags & AT_REST != 0 {
            // The notifier looks by itself now and then, as long as a reader sleeps.
            notifier.unpark();
        }
    }

    fn unregister(&self) {
        if let Some(node) = &self.node {
            foreign::drop_caught(node.item.take());
        }
    }

    /// Gives the node back. The owner's last call.
    pub(crate) fn leave(&mut self, waiters: &Waiters) {
        self.unregister();
        if let Some(node) = self.node.take() {
            waiters.give_back(node);
        }
    }
}

/// Also where a closure of its reader's has panicked: a reader that is gone is not called.
impl Drop for Waiter {
    fn drop(&mut self) {
        self.unregister();
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
