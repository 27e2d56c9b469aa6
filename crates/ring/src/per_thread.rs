//! A value for each thread: [`PerThread`].
//!
//! Two ideas. The values stand in a list that only grows; a thread takes the first that nobody has,
//! or adds one, and gives it back when it ends, so there are never more than there were threads at
//! one time. And each thread remembers in a small table which value of which list is its own, so
//! that asking again is a few loads.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, AtomicPtr, fence};

/// A value for each thread that asks, without a lock: what a thread writes to its own disturbs
/// nobody, and whoever wants them all looks through them.
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
///         // Nobody else writes to it, so a load and a store do.
///         scope.spawn(|| counts.mine().store(counts.mine().load(Relaxed) + 1, Relaxed));
///     }
/// });
/// assert_eq!(counts.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 2);
/// ```
pub struct PerThread<T> {
    id: Id,
    newest: AtomicPtr<Entry<T>>,
}

/// A value, and whether a thread has it. Each is an `Arc`, whose first reference is the list's; the
/// others are those of threads that have it or had it.
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
    /// The value of the calling thread: made, or taken over from one that has ended, when it first
    /// asks.
    ///
    /// Lock-free, and allocates only then.
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
        // From here on the thread is in the list for whoever looks through it after a fence of
        // their own: what it does next does not come before that [E3].
        fence(SeqCst); // [E3]
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
            match self.newest.compare_exchange(older, entry, AcqRel, Acquire) {
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
    /// A thread that comes while this runs may be missing.
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
            // SAFETY: [T1] this is the list's reference, given up once.
            let entry = unsafe { Arc::from_raw(next.cast_const()) };
            next = entry.older;
        }
    }
}

impl<T> fmt::Debug for PerThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerThread").finish_non_exhaustive()
    }
}

/// Which list it is. Never used twice, so that what a thread remembers of a list that is gone is
/// not taken for another's. Not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id(u64);

impl Id {
    fn next() -> Self {
        // Not seen by models: only that no number comes twice matters.
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
    use crate::sync::thread_local;

    thread_local! {
        static HELD: RefCell<Held> = RefCell::new(Held(Vec::new()));
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

    #[inline]
    pub(super) fn find(id: Id) -> Option<NonNull<()>> {
        match found::at(id) {
            Some(entry) => Some(entry),
            None => look_up(id),
        }
    }

    #[cold]
    fn look_up(id: Id) -> Option<NonNull<()>> {
        HELD.try_with(|held| {
            let held = held.borrow();
            let (_, entry) = held.0.iter().find(|(of, _)| *of == id)?;
            let entry = NonNull::from(&**entry).cast();
            found::put(id, entry);
            Some(entry)
        })
        .ok()?
    }

    pub(super) fn remember<E: GiveBack + 'static>(id: Id, entry: Arc<E>) {
        found::put(id, NonNull::from(&*entry).cast());
        // Where the thread is at its very end, the entry stays taken for good.
        let _ = HELD.try_with(|held| {
            // Of lists that are gone only this thread has the entries. They are dropped when nothing
            // is borrowed any more: a value may do anything in its end.
            let of_gone = |(_, entry): &mut (Id, Arc<dyn GiveBack>)| Arc::strong_count(entry) == 1;
            let gone: Vec<_> = held.borrow_mut().0.extract_if(.., of_gone).collect();
            held.borrow_mut().0.push((id, entry));
            drop(gone);
        });
    }
}

/// What it has found last.
#[cfg(not(any(loom, shuttle)))]
mod found {
    use std::cell::Cell;
    use std::ptr::NonNull;

    use super::Id;

    /// How many lists a thread finds at once; the others it looks up. Lists that are used in turns
    /// have ids close to each other.
    const PLACES: usize = 8;

    thread_local! {
        // Needs no destructor, so that finding costs no look at whether it still is there.
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

/// A model's threads share one thread of the system, and what is found first is a matter of speed.
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
