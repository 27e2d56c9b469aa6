//! A value for each thread: [`PerThread`].
//!
//! Two ideas. The values are in a list that only grows: a thread takes the first free one or adds one, and
//! gives it back when it ends, so there are never more values than there were threads at one time. And
//! each thread remembers in a small table which value of which list is its own, so that asking again is a
//! few loads.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;

use crate::foreign;
use crate::order::ADD_THREAD;
use crate::sync::{AtomicBool, AtomicPtr};

/// A value for each thread that asks, without a lock. A thread writes to its own value without disturbing
/// another thread, and any thread can look at all values.
///
/// While a thread lives, no other gets its value from [`mine`](Self::mine). When it ends, the value
/// stays as it is and goes to the next thread that asks: right for counters that are only summed.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use tapline_ring::PerThread;
///
/// let counts = PerThread::<AtomicU64>::default();
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         // No other thread writes to it, so a load and a store are enough.
///         scope.spawn(|| counts.mine().store(counts.mine().load(Relaxed) + 1, Relaxed));
///     }
/// });
/// assert_eq!(counts.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 2);
/// ```
pub struct PerThread<T> {
    id: Id,
    newest: AtomicPtr<Entry<T>>,
}

/// A value, and whether a thread has it. Each is an `Arc`: the first reference is the list's, the others
/// belong to threads that have the value or had it.
struct Entry<T> {
    value: CachePadded<T>,
    taken: AtomicBool,
    /// Does not change once the entry is in the list.
    older: *mut Entry<T>,
}

// SAFETY: `older` is written before the entry is shared; the value is shared only if it is `Sync`,
// and may be dropped by the thread that ends last.
unsafe impl<T: Send + Sync> Send for Entry<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Entry<T> {}

// SAFETY: owns its entries, and hands out references from any thread.
unsafe impl<T: Send + Sync> Send for PerThread<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PerThread<T> {}

impl<T: Default + Send + Sync + 'static> PerThread<T> {
    /// The value of the calling thread. When it first asks, the value is made or taken over from a thread
    /// that has ended.
    ///
    /// Lock-free, and allocates only the first time.
    #[inline]
    pub fn mine(&self) -> &T {
        let mine = match table::find(self.id) {
            Some(known) => known.cast::<Entry<T>>(),
            None => self.take(),
        };
        // SAFETY: [T1] what the table has under this list's id is an entry of this list, and those
        // live as long as the list.
        unsafe { &mine.as_ref().value }
    }

    #[cold]
    fn take(&self) -> ptr::NonNull<Entry<T>> {
        let entry = self.take_free().unwrap_or_else(|| self.add());
        // SAFETY: [T1] it is an `Arc` of the list, which has a reference to it.
        let shared = unsafe {
            Arc::increment_strong_count(entry);
            Arc::from_raw(entry)
        };
        table::remember(self.id, shared);
        ptr::NonNull::new(entry.cast_mut()).expect("an `Arc` is not null")
    }

    fn take_free(&self) -> Option<*const Entry<T>> {
        // Acquire [T2], as in `iter`.
        let mut next = self.newest.load(Acquire);
        // SAFETY: [T1], as in `iter`.
        while let Some(entry) = unsafe { next.as_ref() } {
            // Acquire [T3]: the value as its last thread left it; pairs with `give_back`.
            if !entry.taken.load(Relaxed) && !entry.taken.swap(true, Acquire) {
                return Some(entry);
            }
            next = entry.older;
        }
        None
    }

    fn add(&self) -> *const Entry<T> {
        let mut older = self.newest.load(Relaxed);
        let entry = Arc::into_raw(Arc::new(Entry {
            value: CachePadded::new(T::default()),
            taken: AtomicBool::new(true),
            older,
        }))
        .cast_mut();
        loop {
            // Release [T2]: the entry and those behind it; pairs with the loads of the list.
            // SeqCst [E4]: before all that the thread does with its value; pairs with the fences in
            // `horizon` and `sweep`: a thread that they do not find in the list finds what they know.
            match self
                .newest
                .compare_exchange(older, entry, ADD_THREAD, Relaxed)
            {
                Ok(_) => return entry,
                Err(now) => {
                    older = now;
                    // SAFETY: not in the list yet, so it is ours alone.
                    unsafe { (*entry).older = older };
                }
            }
        }
    }
}

impl<T> PerThread<T> {
    /// The values of all threads, ended ones included, in no particular order.
    ///
    /// A thread that first asks while this runs may be missing.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        // Acquire [T2]: the entry; pairs with the exchange in `add`.
        let mut next = self.newest.load(Acquire);
        std::iter::from_fn(move || {
            // SAFETY: [T1] entries live as long as the list.
            let entry = unsafe { next.as_ref() }?;
            next = entry.older;
            Some(&*entry.value)
        })
    }
}

impl<T> Default for PerThread<T> {
    fn default() -> Self {
        Self {
            id: Id::next(),
            newest: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl<T> Drop for PerThread<T> {
    fn drop(&mut self) {
        let mut next = self.newest.load(Relaxed);
        while !next.is_null() {
            // SAFETY: [T1] this is the list's reference, dropped once.
            let entry = unsafe { Arc::from_raw(next.cast_const()) };
            next = entry.older;
            foreign::drop_caught(entry);
        }
    }
}

impl<T> fmt::Debug for PerThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerThread").finish_non_exhaustive()
    }
}

/// Identifies a list. Never used twice, so that what a thread remembers of a list that is gone is not
/// taken for another list's. Not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id(u64);

impl Id {
    fn next() -> Self {
        // Not seen by models: it only matters that no number comes twice.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// What a thread keeps of an entry, whatever its type.
trait GiveBack: Send + Sync {
    fn give_back(&self);
}

impl<T: Send + Sync> GiveBack for Entry<T> {
    fn give_back(&self) {
        // Release [T3]: the value as this thread leaves it; pairs with the swap in `take_free`.
        self.taken.store(false, Release);
    }
}

/// What the calling thread remembers.
mod table {
    use std::cell::RefCell;
    use std::ptr::NonNull;
    use std::sync::Arc;

    use super::{GiveBack, Id, found};
    use crate::foreign;
    use crate::sync::thread_local;

    thread_local! {
        static HELD: RefCell<Held> = RefCell::new(Held(Vec::new()));
        /// For the destructors of other thread-local variables that run after `HELD` is gone. Using it
        /// there makes it, and it is dropped after them.
        static HELD_LATE: RefCell<Held> = RefCell::new(Held(Vec::new()));
    }

    /// The entries that this thread has. Given back when it ends.
    struct Held(Vec<(Id, Arc<dyn GiveBack>)>);

    impl Drop for Held {
        fn drop(&mut self) {
            // Before they are given back: what another thread may have must not be found here.
            found::forget();
            for (_, entry) in &self.0 {
                entry.give_back();
            }
        }
    }

    /// Uses the table that exists: the second one only at the end of a thread. `None` where both are gone.
    fn with<R>(mut work: impl FnMut(&RefCell<Held>) -> R) -> Option<R> {
        match HELD.try_with(&mut work) {
            Ok(result) => Some(result),
            Err(_) => HELD_LATE.try_with(work).ok(),
        }
    }

    #[inline]
    pub(super) fn find(id: Id) -> Option<NonNull<()>> {
        match found::at(id) {
            Some(entry) => Some(entry),
            None => look_up(id),
        }
    }

    #[cold]
    fn look_up(id: Id) -> Option<NonNull<()>> {
        with(|held| {
            let held = held.borrow();
            let (_, entry) = held.0.iter().find(|(of, _)| *of == id)?;
            let entry = NonNull::from(&**entry).cast();
            found::put(id, entry);
            Some(entry)
        })
        .flatten()
    }

    pub(super) fn remember<E: GiveBack + 'static>(id: Id, entry: Arc<E>) {
        found::put(id, NonNull::from(&*entry).cast());
        // Where both tables are gone, the entry stays taken for good.
        with(|held| {
            // Of lists that are gone only this thread has the entries. They are dropped when nothing
            // is borrowed any more: a value's `Drop` may do anything.
            let of_gone = |(_, entry): &mut (Id, Arc<dyn GiveBack>)| Arc::strong_count(entry) == 1;
            let gone: Vec<_> = held.borrow_mut().0.extract_if(.., of_gone).collect();
            held.borrow_mut().0.push((id, entry.clone()));
            for entry in gone {
                foreign::drop_caught(entry);
            }
        });
    }
}

/// The entries that it has found last.
#[cfg(not(any(loom, shuttle)))]
mod found {
    use std::cell::Cell;
    use std::ptr::NonNull;

    use super::Id;

    /// How many lists a thread finds at once; the others it looks up. Lists that are used alternately have
    /// ids close to each other.
    const PLACES: usize = 8;

    thread_local! {
        // Has no destructor, so that finding costs no check whether it still exists.
        static FOUND: [Cell<(u64, Option<NonNull<()>>)>; PLACES] =
            const { [const { Cell::new((0, None)) }; PLACES] };
    }

    #[inline]
    pub(super) fn at(id: Id) -> Option<NonNull<()>> {
        let (found, entry) = FOUND.with(|found| found[id.0 as usize % PLACES].get());
        if found == id.0 { entry } else { None }
    }

    pub(super) fn put(id: Id, entry: NonNull<()>) {
        FOUND.with(|found| found[id.0 as usize % PLACES].set((id.0, Some(entry))));
    }

    pub(super) fn forget() {
        FOUND.with(|found| found.iter().for_each(|place| place.set((0, None))));
    }
}

/// In models there is none: their threads share one thread of the system, and this is about speed alone.
#[cfg(any(loom, shuttle))]
mod found {
    use std::ptr::NonNull;

    use super::Id;

    pub(super) fn at(_: Id) -> Option<NonNull<()>> {
        None
    }

    pub(super) fn put(_: Id, _: NonNull<()>) {}

    pub(super) fn forget() {}
}
