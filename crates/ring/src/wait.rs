//! Sleeping until the ring has something, and being woken.
//!
//! Every reader that ever slept has a *bed* of its own: a number that says what it waits for, and
//! the waker to call. Beds stand in a list that only grows, and are reused. A publisher that finds
//! nobody asleep reads one number and goes on; otherwise it looks through the beds.
//!
//! A publisher that stops in the middle loses nothing for the ones after it: a bed stays as it was
//! until its sleeper has been called ([W3]).
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::task::{Context, Poll, Waker};
#[cfg(not(loom))]
use std::thread;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

use crate::reclaim::{Domain, Guard};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, store_load_barrier};

/// All who sleep on one ring.
#[derive(Default)]
pub(crate) struct Waiters {
    /// How many are asleep and not called yet, or about to be. May be too high for a moment, never
    /// too low ([W3]).
    asleep: AtomicUsize,
    beds: AtomicPtr<Bed>,
}

/// Where one reader sleeps.
struct Bed {
    /// [`AWAKE`], [`ASLEEP`] or [`CALLED`], with the count of the sleep above them, so that a late
    /// caller cannot take a new sleep for the old one.
    state: AtomicU64,
    waker: AtomicPtr<Waker>,
    taken: AtomicBool,
    next: AtomicPtr<Bed>,
}

const AWAKE: u64 = 0;
const ASLEEP: u64 = 1;
const CALLED: u64 = 2;
const PHASE: u64 = 0b11;
const ONE_SLEEP: u64 = 0b100;

impl Waiters {
    /// Calls everyone who is asleep. Those that were called and have not run yet are left alone.
    #[inline]
    pub(crate) fn wake_all(&self, guard: &Guard<'_>) {
        store_load_barrier();
        // SeqCst [W1]: after the exchange of the slot; pairs with the stores in `Waiter::lie_down`.
        if self.asleep.load(SeqCst) != 0 {
            self.call_beds(guard);
        }
    }

    #[cold]
    fn call_beds(&self, _guard: &Guard<'_>) {
        // Acquire [W4]: the bed behind the address; pairs with the exchange in `take_bed`.
        let mut next = self.beds.load(Acquire);
        // SAFETY: [W4] beds are freed with the ring, which is borrowed.
        while let Some(bed) = unsafe { next.as_ref() } {
            // SeqCst [W1], as the count. Acquire [W5]: the waker of this sleep; pairs with the store
            // in `lie_down`.
            let state = bed.state.load(SeqCst);
            if state & PHASE == ASLEEP {
                // Acquire [W5]: the waker's content; pairs with the swap in `set_waker`.
                let waker = bed.waker.load(Acquire);
                // SAFETY: [R1] replaced wakers are retired, and we are pinned.
                if let Some(waker) = unsafe { waker.as_ref() } {
                    // Called first, marked after: if we stop in between, the next one calls again.
                    waker.wake_by_ref();
                }
                let called = state & !PHASE | CALLED;
                // Relaxed: says only that a call was made. A failure means that it is up already.
                if bed
                    .state
                    .compare_exchange(state, called, Relaxed, Relaxed)
                    .is_ok()
                {
                    self.asleep.fetch_sub(1, Relaxed);
                }
            }
            next = bed.next.load(Relaxed);
        }
    }

    fn take_bed(&self) -> *const Bed {
        // Acquire [W4], as in `call_beds`.
        let first = self.beds.load(Acquire);
        let mut next = first;
        // SAFETY: [W4] beds are freed with the ring, which is borrowed.
        while let Some(bed) = unsafe { next.as_ref() } {
            // Acquire: the bed as its last sleeper left it; pairs with `Waiter::leave`.
            if !bed.taken.load(Relaxed) && !bed.taken.swap(true, Acquire) {
                return bed;
            }
            next = bed.next.load(Relaxed);
        }
        let bed = Box::into_raw(Box::new(Bed {
            state: AtomicU64::new(AWAKE),
            waker: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicBool::new(true),
            next: AtomicPtr::new(first),
        }));
        let mut head = first;
        loop {
            // Release [W4]: publishes the bed; pairs with the loads of the list.
            match self.beds.compare_exchange(head, bed, AcqRel, Acquire) {
                Ok(_) => return bed,
                Err(now) => {
                    head = now;
                    // SAFETY: not published yet, so ours alone; the field is an atomic all the same.
                    unsafe { &*bed }.next.store(head, Relaxed);
                }
            }
        }
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        let mut next = self.beds.load(Relaxed);
        while !next.is_null() {
            // SAFETY: nobody has the ring any more; each bed came from a box and is freed once.
            let bed = unsafe { Box::from_raw(next) };
            let waker = bed.waker.load(Relaxed);
            if !waker.is_null() {
                // SAFETY: as above; the bed owns its waker.
                drop(unsafe { Box::from_raw(waker) });
            }
            next = bed.next.load(Relaxed);
        }
    }
}

/// One reader's place among the waiters. Its owner keeps the ring alive.
pub(crate) struct Waiter {
    bed: *const Bed,
}

// SAFETY: a bed consists of atomics, and lives as long as the ring, which the owner keeps ([W4]).
unsafe impl Send for Waiter {}
// SAFETY: as above; everything that changes it takes `&mut`.
unsafe impl Sync for Waiter {}

impl Waiter {
    pub(crate) const fn new() -> Self {
        Self { bed: ptr::null() }
    }

    /// Looks, and where there is nothing, lies down with `cx`'s waker and looks again.
    ///
    /// `look` must see what a publisher has put before it called [`Waiters::wake_all`]: its read of
    /// the slot is `SeqCst` ([W2]).
    pub(crate) fn poll<R>(
        &mut self,
        waiters: &Waiters,
        domain: &Domain,
        cx: &mut Context<'_>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Poll<R> {
        let mut found = look();
        if found.is_none() {
            self.lie_down(waiters, domain, cx.waker());
            found = look();
        }
        match found {
            Some(found) => {
                self.get_up(waiters);
                Poll::Ready(found)
            }
            None => Poll::Pending,
        }
    }

    /// As [`Waiter::poll`], with the thread itself as the sleeper. `None` at the deadline.
    #[cfg(not(loom))]
    pub(crate) fn wait<R>(
        &mut self,
        waiters: &Waiters,
        domain: &Domain,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        THREAD.with(|waker| {
            loop {
                if let Poll::Ready(found) =
                    self.poll(waiters, domain, &mut Context::from_waker(waker), &mut look)
                {
                    return Some(found);
                }
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => {
                        self.get_up(waiters);
                        return look();
                    }
                    Some(left) => thread::park_timeout(left),
                }
            }
        })
    }

    fn lie_down(&mut self, waiters: &Waiters, domain: &Domain, waker: &Waker) {
        if self.bed.is_null() {
            self.bed = waiters.take_bed();
        }
        // SAFETY: [W4] beds are freed with the ring, which is borrowed.
        let bed = unsafe { &*self.bed };
        let guard = domain.pin();
        // Relaxed: only the bed's owner stores a waker, and that is us.
        let old = bed.waker.load(Relaxed);
        // SAFETY: it is not retired before we replace it.
        let same = unsafe { old.as_ref() }.is_some_and(|old| old.will_wake(waker));
        // A sleep of its own each time, also where the last one was not called: its caller may be
        // between calling and marking, and the mark must not fall on a sleep that goes on ([W3]).
        self.get_up(waiters);
        // Relaxed: nobody else changes the count of the sleep, nor anything else while we are up.
        let state = bed.state.load(Relaxed);
        if !same {
            set_waker(bed, Box::into_raw(Box::new(waker.clone())), &guard);
        }
        // The count goes up first, so that it is never too low ([W3]).
        waiters.asleep.fetch_add(1, SeqCst);
        // SeqCst [W2]: before the look at the slot; pairs with the loads in `wake_all`.
        // Release [W5]: the waker; pairs with the load in `call_beds`.
        bed.state
            .store((state & !PHASE) + ONE_SLEEP + ASLEEP, SeqCst);
        store_load_barrier();
    }

    fn get_up(&mut self, waiters: &Waiters) {
        // SAFETY: [W4], as in `lie_down`.
        let Some(bed) = (unsafe { self.bed.as_ref() }) else {
            return;
        };
        // Relaxed: nothing is read on the strength of it, and an exchange sees the newest value.
        let state = bed.state.load(Relaxed);
        if state & PHASE == ASLEEP
            && bed
                .state
                .compare_exchange(state, state & !PHASE | AWAKE, Relaxed, Relaxed)
                .is_ok()
        {
            waiters.asleep.fetch_sub(1, Relaxed);
        }
    }

    /// Gives the bed back. The owner's last call.
    pub(crate) fn leave(&mut self, waiters: &Waiters, domain: &Domain) {
        self.get_up(waiters);
        // SAFETY: [W4], as in `lie_down`.
        let Some(bed) = (unsafe { self.bed.as_ref() }) else {
            return;
        };
        set_waker(bed, ptr::null_mut(), &domain.pin());
        // Release: the bed as we leave it; pairs with the swap in `take_bed`.
        bed.taken.store(false, Release);
        self.bed = ptr::null();
    }
}

fn set_waker(bed: &Bed, waker: *mut Waker, guard: &Guard<'_>) {
    // Release [W5]: the waker's content; pairs with the load in `call_beds`.
    let old = Retired(bed.waker.swap(waker, AcqRel));
    if !old.0.is_null() {
        // SAFETY: [R1] the swap made it unreachable, we took it, and wakers are `Send + 'static`.
        unsafe {
            guard.retire(move || {
                let old = old;
                // SAFETY: it came from a box, and nobody who saw it is left.
                drop(Box::from_raw(old.0));
            });
        }
    }
}

/// A waker on its way to be freed.
struct Retired(*mut Waker);
// SAFETY: a `Waker` is `Send`.
unsafe impl Send for Retired {}

#[cfg(not(loom))]
thread_local! {
    static THREAD: Waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
}

/// Wakes a parked thread.
#[cfg(not(loom))]
struct Unpark(thread::Thread);

#[cfg(not(loom))]
impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
