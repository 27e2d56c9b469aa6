//! A byte of each record, kept for longer than the record: [`ClassLog`].
//!
//! A producer writes down the class of the newest record before it stores the one that follows. So every record but
//! the newest is in the log, wherever a producer stops: its class was known from the record itself until then, and is
//! in the log from then on ([L1]).
//!
//! The log is made of chunks. A chunk that is replaced by a newer one is retired like a record: a producer that has
//! stopped for long, and writes at last, writes into memory that no other thread looks at any more ([L2]).
#![allow(unsafe_code)]

use std::array;
use std::ops::RangeInclusive;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

use crate::bounds::MAX_LOG;
use crate::order::{CHANGE_SLOT, LOOK_AT_SLOT};
use crate::reclaim::Guard;
use crate::stack::Stack;
use crate::sync::{AtomicPtr, AtomicU8};

/// How many classes there are: see [`Measure::class`](crate::Measure::class).
pub const CLASSES: usize = 16;

/// How many records there are of each class.
pub type ClassCounts = [u64; CLASSES];

/// So many records are in one chunk: their classes fill a page, and the counts before them take 3% more. Few in
/// models and in this crate's own tests, so that chunks change within few steps; in loom's models of something else none
/// changes.
pub(crate) const CHUNK: u64 = if cfg!(loom) {
    8
} else if cfg!(any(shuttle, test)) {
    2
} else {
    4096
};

/// The classes of the newest records.
pub(crate) struct ClassLog {
    /// Chunk number n is at n modulo their number, which is a power of two. Null: there was none yet.
    chunks: Box<[AtomicPtr<Chunk>]>,
    /// The seq before the first one.
    start: u64,
    /// Whether it counts all records and no fewer: there is no log then but the little that this takes.
    is_off: bool,
    retired: Stack<Retired>,
}

/// A chunk that was replaced, and the seq from which on a thread that enters cannot reach it. Others may until then: it is
/// no [`Box`], which would be the only way to it.
struct Retired {
    chunk: NonNull<Chunk>,
    stamp: u64,
}

// SAFETY: [L2] a chunk is shared between threads, and freed by the one that finds that no other can reach it.
unsafe impl Send for Retired {}

struct Chunk {
    /// The first seq in it is this times [`CHUNK`].
    number: u64,
    /// What there was before it.
    before: ClassCounts,
    classes: [AtomicU8; CHUNK as usize],
}

impl ClassLog {
    /// For `records`, rounded up to a power of two, and for two chunks at least; off with 0. `None` for more than
    /// [`MAX_LOG`], and where there is no memory for the pointers to its chunks; the chunks themselves are allocated when
    /// they begin.
    pub(crate) fn new(records: usize, start: u64) -> Option<Self> {
        if records as u64 > MAX_LOG {
            return None;
        }
        let chunks = records.div_ceil(CHUNK as usize).max(2);
        let chunks = chunks.checked_next_power_of_two()?;
        let first = (start + 1) / CHUNK;
        let first_place = first as usize & (chunks - 1);
        let mut pointers = Vec::new();
        pointers.try_reserve_exact(chunks).ok()?;
        pointers.extend((0..chunks).map(|place| {
            AtomicPtr::new(match place == first_place {
                true => Box::into_raw(Chunk::new(first, [0; CLASSES])),
                false => ptr::null_mut(),
            })
        }));
        Some(Self {
            chunks: pointers.into_boxed_slice(),
            start,
            is_off: records == 0,
            retired: Stack::default(),
        })
    }

    /// How many records it is for; 0 where it is off.
    pub(crate) fn records(&self) -> usize {
        match self.is_off {
            true => 0,
            false => self.chunks.len() * CHUNK as usize,
        }
    }

    /// The memory that it takes now, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        // Relaxed: only whether there is one.
        let begun = |place: &&AtomicPtr<Chunk>| !place.load(Relaxed).is_null();
        let chunks = self.chunks.iter().filter(begun).count();
        (size_of_val(&*self.chunks) + chunks * size_of::<Chunk>()) as u64
    }

    /// Writes down the class of a record that is stored, as long as no record after it is, or was when the caller
    /// looked. Does nothing for the seq before the first one.
    #[inline]
    pub(crate) fn note<T, S>(&self, seq: u64, class: u8, guard: &Guard<'_, T, S>)
    where
        T: Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        if seq == self.start {
            return;
        }
        let number = seq / CHUNK;
        let chunk = match self.chunk(number, guard) {
            Some(chunk) => chunk,
            None => match self.begin(number, guard) {
                Some(chunk) => chunk,
                None => return,
            },
        };
        // Relaxed [L1]: the exchange that stores the next record publishes it. Every producer that writes here
        // writes the same.
        chunk.classes[(seq % CHUNK) as usize].store(class, Relaxed);
    }

    /// That chunk, if it is in its place.
    #[inline]
    fn chunk<'g, T, S>(&self, number: u64, _: &'g Guard<'_, T, S>) -> Option<&'g Chunk> {
        // SeqCst [E1] and Acquire [L2]: after the thread has entered; pairs with the exchange in `begin`.
        let chunk = self.place(number).load(LOOK_AT_SLOT);
        // SAFETY: [L2] loaded under the guard: not freed, and not used again, while that lives.
        unsafe { chunk.as_ref() }.filter(|chunk| chunk.number == number)
    }

    #[inline]
    fn place(&self, number: u64) -> &AtomicPtr<Chunk> {
        // The length is a power of two and not 0, so this masks and stays within bounds.
        &self.chunks[number as usize & (self.chunks.len() - 1)]
    }

    /// Begins that chunk, or finds it begun by another producer. `None` where a newer one is in its place: the caller
    /// has seen an old head, and appends nothing with it.
    #[cold]
    fn begin<'g, T, S>(&self, number: u64, guard: &'g Guard<'_, T, S>) -> Option<&'g Chunk>
    where
        T: Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        // SeqCst [E1] and Acquire [L2], as in `chunk`.
        let old = self.place(number).load(LOOK_AT_SLOT);
        // SAFETY: [L2] loaded under the guard.
        if let Some(there) = unsafe { old.as_ref() }
            && number <= there.number
        {
            return (there.number == number).then_some(there);
        }
        // [L1] All of it is written: the record that begins this chunk is stored.
        let before = self.through(number * CHUNK - 1, guard)?;
        let unused = match old.is_null() {
            true => Chunk::new(number, before),
            false => self.unused(number, before, guard),
        };
        let new = Box::into_raw(unused);
        // Release [L2]: its number and the counts; pairs with the loads. SeqCst [E1]: it has left its place before
        // the seq that stamps it is stored.
        match self
            .place(number)
            .compare_exchange(old, new, CHANGE_SLOT, Relaxed)
        {
            Ok(_) => {
                if let Some(chunk) = NonNull::new(old) {
                    // The record after the one that begins this chunk: its producer writes that one down first, and
                    // finds this chunk, or has put it there itself.
                    let stamp = number * CHUNK + 1;
                    self.retired.push(Retired { chunk, stamp });
                }
            }
            // SAFETY: it came from a box, and the exchange failed, so no thread has seen it.
            Err(_) => drop(unsafe { Box::from_raw(new) }),
        }
        self.chunk(number, guard)
    }

    /// Memory for a chunk: of one that no thread can reach any more, if there is one. Frees others like it.
    fn unused<T, S>(&self, number: u64, before: ClassCounts, guard: &Guard<'_, T, S>) -> Box<Chunk>
    where
        T: Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        let mut spare = None;
        let retired = self.retired.take_all();
        let horizon = guard.horizon();
        for retired in retired {
            match retired.stamp <= horizon {
                // SAFETY: [E1] no thread can reach it; it came from a box.
                true => spare = Some(unsafe { Box::from_raw(retired.chunk.as_ptr()) }),
                false => self.retired.push(retired),
            }
        }
        match spare {
            Some(mut chunk) => {
                chunk.number = number;
                chunk.before = before;
                chunk
            }
            None => Chunk::new(number, before),
        }
    }

    /// How many of the records up to that one were of each class, if that is in the log. The record after it is stored,
    /// or it is the seq before the first.
    fn through<T, S>(&self, seq: u64, guard: &Guard<'_, T, S>) -> Option<ClassCounts> {
        if seq == self.start {
            return Some([0; CLASSES]);
        }
        let chunk = self.chunk(seq / CHUNK, guard)?;
        let first = (self.start + 1).max(chunk.number * CHUNK);
        let mut counts = chunk.before;
        chunk.count(first..=seq, &mut counts);
        Some(counts)
    }

    /// How many of these records were of each class, if all of them are in the log. The record after the last one is
    /// stored.
    pub(crate) fn count<T, S>(
        &self,
        seqs: RangeInclusive<u64>,
        guard: &Guard<'_, T, S>,
    ) -> Option<ClassCounts> {
        let (first, last) = seqs.into_inner();
        if self.is_off && first - 1 != self.start {
            return None;
        }
        if last < first {
            return Some([0; CLASSES]);
        }
        // A reader that can hardly follow loses some at a time, again and again.
        if 8 * (last - first) < CHUNK && first / CHUNK == last / CHUNK {
            let mut counts = [0; CLASSES];
            self.chunk(first / CHUNK, guard)?
                .count(first..=last, &mut counts);
            return Some(counts);
        }
        let before = match first % CHUNK {
            // The chunk before it may be gone, and of the first of all there is none.
            0 if first - 1 != self.start => self.chunk(first / CHUNK, guard)?.before,
            _ => self.through(first - 1, guard)?,
        };
        let mut counts = self.through(last, guard)?;
        for (count, before) in counts.iter_mut().zip(before) {
            *count -= before;
        }
        Some(counts)
    }
}

impl Chunk {
    fn new(number: u64, before: ClassCounts) -> Box<Self> {
        Box::new(Self {
            number,
            before,
            classes: array::from_fn(|_| AtomicU8::new(0)),
        })
    }

    /// Adds these, which are in it. The record after the last one is stored.
    fn count(&self, seqs: RangeInclusive<u64>, counts: &mut ClassCounts) {
        let (first, last) = (*seqs.start() % CHUNK, *seqs.end() % CHUNK);
        // Four at a time, so that one addition need not wait for the one before.
        let mut lanes = [[0_u16; CLASSES]; 4];
        for class in self.classes[first as usize..=last as usize].chunks(lanes.len()) {
            for (class, lane) in class.iter().zip(&mut lanes) {
                // Relaxed [L1]: the load of the record after it came first.
                lane[class.load(Relaxed) as usize % CLASSES] += 1;
            }
        }
        for lane in lanes {
            for (count, more) in counts.iter_mut().zip(lane) {
                *count += u64::from(more);
            }
        }
    }
}

impl Drop for ClassLog {
    fn drop(&mut self) {
        for place in &mut self.chunks {
            #[cfg(not(loom))]
            let chunk = *place.get_mut();
            #[cfg(loom)]
            let chunk = place.with_mut(|chunk| *chunk);
            if !chunk.is_null() {
                // SAFETY: it came from a box, and no other thread has the log.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
        for retired in self.retired.take_all() {
            // SAFETY: as above; it was taken out of its place once.
            drop(unsafe { Box::from_raw(retired.chunk.as_ptr()) });
        }
    }
}
