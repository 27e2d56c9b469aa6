//! Appending several values: [`Batch`].
#![allow(unsafe_code)]

use std::fmt;

use crate::reclaim::Guard;
use crate::record::{Kept, Measure, Record, RecordRef, Spare};
use crate::ring::{Rejected, Ring};

/// After so many records of one batch, sleeping readers are called, and what was evicted meanwhile can be freed.
///
/// After each in models, so that what this is about happens in few steps.
const AT_ONCE: usize = if cfg!(any(loom, shuttle)) {
    1
} else if cfg!(test) {
    2
} else {
    64
};

/// Appends one value after the other, for less than [`Ring::append`] takes for each: it enters the ring once for 64 records,
/// calls sleeping readers once for them, and shows each record instead of handing it out.
///
/// # Ordering
///
/// Each append is decided and takes effect by itself, exactly as [`Ring::append`] does it, before [`Batch::append`]
/// returns: readers that are awake can read it then. Records of other producers, and transitions, may come in between.
/// Readers that sleep are called after 64 records, and when the batch is dropped.
///
/// # Memory
///
/// As long as it lives, what has been evicted since its last 64 records began is not freed. So it is for values that are at
/// hand: drop it before anything that waits. It belongs to the thread that made it, and holds up no other one.
pub struct Batch<'r, T, S = ()>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    ring: &'r Ring<T, S>,
    guard: Guard<'r, T, S>,
    /// A seq that is stored: where to look for the newest from.
    from: u64,
    /// How many it has appended since it has called readers.
    appended: usize,
    /// Whether what was evicted for one of them is to be freed at once.
    is_heavy: bool,
}

impl<T, S> Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// To append several values: see [`Batch`].
    #[inline]
    pub fn batch(&self) -> Batch<'_, T, S> {
        let from = self.core.tail();
        Batch {
            ring: self,
            guard: self.core.pin_at(from),
            from,
            appended: 0,
            is_heavy: false,
        }
    }
}

impl<T, S> Batch<'_, T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// Appends `value`, if `decide` allows it, and shows the record: [`RecordRef::keep`] keeps it for longer than until the
    /// next append.
    ///
    /// # Errors and panics
    ///
    /// As [`Ring::append`]. The batch can be used further.
    #[inline]
    pub fn append<R, D: Into<Measure>>(
        &mut self,
        value: T,
        decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<RecordRef<'_, T, S>, Rejected<T, R>> {
        self.append_with(|| value, decide)
    }

    /// As [`append`](Self::append), with a value that is made where it is stored: see [`Ring::append_with`].
    #[inline]
    pub fn append_with<R, D: Into<Measure>>(
        &mut self,
        make: impl FnOnce() -> T,
        decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<RecordRef<'_, T, S>, Rejected<T, R>> {
        self.append_for(1, make, decide)
    }

    /// As [`append_with`](Self::append_with), with the record to keep: it has a reference for the caller from the beginning.
    #[inline(always)]
    pub(crate) fn append_kept<R, D: Into<Measure>>(
        &mut self,
        make: impl FnOnce() -> T,
        decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<Kept<T, S>, Rejected<T, R>> {
        let stored = self.append_for(2, make, decide)?;
        // SAFETY: one of the two references that it was made for.
        Ok(unsafe { Kept::new(stored.address()) })
    }

    /// For so many references, the ring's own included.
    #[inline(always)]
    fn append_for<R, D: Into<Measure>>(
        &mut self,
        refs: u32,
        make: impl FnOnce() -> T,
        mut decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<RecordRef<'_, T, S>, Rejected<T, R>> {
        if self.appended >= AT_ONCE || self.is_heavy {
            self.finish();
            self.guard.renew(self.from);
        }
        let core = &*self.ring.core;
        let spare = self.guard.spare();
        let mut claim = core.claim_from(self.from, &self.guard);
        let mut record = Record::new(spare, make, claim.state);
        let stored = loop {
            let measure = match decide(&mut record.value, &mut record.state, claim.seq()) {
                Ok(measure) => measure.into(),
                Err(reason) => {
                    let (value, spare) = Spare::of(record);
                    self.guard.put_back(spare);
                    return Err(Rejected { value, reason });
                }
            };
            record.seq = claim.seq();
            record.weight = measure.weight;
            record.sum = claim.sum.followed_by(measure);
            record = match core.put(&claim, record, refs, &self.guard) {
                Ok(stored) => break stored,
                Err(record) => record,
            };
            core.waiters.lost_exchange();
            claim = core.claim_from(claim.head, &self.guard);
            record.state.clone_from(claim.state);
        };
        // From here on no foreign code runs but what `foreign` calls.
        self.from = stored.seq();
        self.appended += 1;
        self.is_heavy = core.is_heavy(&stored);
        Ok(stored)
    }

    /// Calls sleeping readers, if it has appended, and frees what is due.
    #[inline]
    fn finish(&mut self) {
        if self.appended == 0 {
            return;
        }
        let waiters = &self.ring.core.waiters;
        waiters.notify(self.guard.has_retired(), &self.ring.notifier);
        self.guard.appended(self.is_heavy);
        (self.appended, self.is_heavy) = (0, false);
    }
}

impl<T, S> Drop for Batch<'_, T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    #[inline]
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T, S> fmt::Debug for Batch<'_, T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("ring", &self.ring)
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}
