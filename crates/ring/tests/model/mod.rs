//! What the models of loom and of shuttle share: a ring whose state counts, and a reader that checks
//! everything a reader can check.
//!
//! Values and states hold a [`Cell`]. To loom it is memory: a read that is not ordered after the write
//! is reported as a race, and not only a wrong result. To shuttle each look at it is a step, and between
//! two steps another thread may use the memory again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tapline_ring::{Bounds, CLASSES, Measure, ReadItem, Reader, Ring};

/// A number whose every read the model checks against its write.
#[derive(Debug)]
pub(crate) struct Cell(memory::Memory);

impl Clone for Cell {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }

    /// Writes to the same cell: the model sees it where another thread still reads.
    fn clone_from(&mut self, source: &Self) {
        self.set(source.get());
    }
}

/// A write, so that the model sees it where another thread still reads.
impl Drop for Cell {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Cell {
    pub(crate) fn new(n: u64) -> Self {
        Self(memory::Memory::new(n))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }

    pub(crate) fn set(&mut self, n: u64) {
        self.0.set(n);
    }
}

#[cfg(loom)]
mod memory {
    #![allow(unsafe_code)] // loom's cell is read through raw pointers

    use loom::cell::UnsafeCell;

    #[derive(Debug)]
    pub(super) struct Memory(UnsafeCell<u64>);

    // SAFETY: written before it is shared, only read afterwards; loom reports it where that is not so.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(super) fn new(n: u64) -> Self {
            Self(UnsafeCell::new(n))
        }

        pub(super) fn get(&self) -> u64 {
            // SAFETY: as above.
            self.0.with(|n| unsafe { *n })
        }

        pub(super) fn set(&mut self, n: u64) {
            // SAFETY: `&mut`.
            self.0.with_mut(|at| unsafe { *at = n });
        }
    }
}

#[cfg(shuttle)]
mod memory {
    use std::sync::atomic::Ordering::Relaxed;

    use shuttle::sync::atomic::AtomicU64;

    #[derive(Debug)]
    pub(super) struct Memory(AtomicU64);

    impl Memory {
        pub(super) fn new(n: u64) -> Self {
            Self(AtomicU64::new(n))
        }

        pub(super) fn get(&self) -> u64 {
            self.0.load(Relaxed)
        }

        pub(super) fn set(&mut self, n: u64) {
            self.0.store(n, Relaxed);
        }
    }
}

/// The state counts records. Every record must find the count that its predecessor left.
pub(crate) type Counting<T = Cell> = Ring<T, Cell>;

pub(crate) fn counting<T: Send + Sync + 'static>(records: usize) -> Arc<Counting<T>> {
    Arc::new(Ring::new(records, Cell::new(0)).unwrap())
}

/// As [`counting`], for a ring whose first seq follows `start`.
pub(crate) fn counting_after<T: Send + Sync + 'static>(
    start: u64,
    records: usize,
) -> Arc<Counting<T>> {
    let bounds = Bounds::of(records);
    Arc::new(Ring::starting_after(start, bounds, Cell::new(start)).unwrap())
}

/// As [`counting`], where the class of a record is its seq.
pub(crate) fn classified(records: usize) -> Arc<Counting<Cell>> {
    let bounds = Bounds {
        log: 16,
        ..Bounds::of(records)
    };
    Arc::new(Ring::bounded(bounds, Cell::new(0)).unwrap())
}

/// Appends to a ring of [`classified`] records.
pub(crate) fn append_classified(ring: &Counting<Cell>) -> u64 {
    let appended = ring.append(Cell::new(0), |value, count, seq| {
        value.set(seq);
        count.set(seq);
        let class = seq as u8;
        Ok::<_, ()>(Measure { weight: 0, class })
    });
    appended.unwrap().seq()
}

/// Counts the classes of these records, if they are known.
pub(crate) fn count_classes(ring: &Counting<Cell>, first: u64, last: u64) -> bool {
    let Some(counts) = ring.classes(first..=last) else {
        return false;
    };
    let mut expected = [0; CLASSES];
    (first..=last).for_each(|seq| expected[seq as usize % CLASSES] += 1);
    assert_eq!(counts, expected, "{first} to {last}");
    true
}

/// As [`counting`], with a bound on the weight.
pub(crate) fn weighed<T: Send + Sync + 'static>(records: usize, weight: u64) -> Arc<Counting<T>> {
    let bounds = Bounds {
        weight,
        ..Bounds::of(records)
    };
    Arc::new(Ring::bounded(bounds, Cell::new(0)).unwrap())
}

/// What can be appended to a ring with a bound on the weight.
pub(crate) trait Weighs: std::fmt::Debug + Send + Sync + 'static {
    fn weight(&self) -> u32;
}

/// Weighs as much as it says.
impl Weighs for Cell {
    fn weight(&self) -> u32 {
        self.get() as u32
    }
}

/// Appends and counts; returns the seq.
pub(crate) fn append<T: Weighs>(ring: &Counting<T>, value: T) -> u64 {
    ring.append(value, count).unwrap().seq()
}

/// Appends all of them as one batch, and counts; returns the last seq.
pub(crate) fn append_all<T: Weighs>(
    ring: &Counting<T>,
    values: impl IntoIterator<Item = T>,
) -> u64 {
    let mut batch = ring.batch();
    let mut seqs = values
        .into_iter()
        .map(|value| batch.append(value, count).unwrap().seq());
    let mut last = seqs.next().unwrap();
    for seq in seqs {
        assert!(last < seq);
        last = seq;
    }
    last
}

fn count<T: Weighs>(value: &mut T, count: &mut Cell, seq: u64) -> Result<u32, ()> {
    count.set(count.get() + 1);
    assert_eq!(count.get(), seq, "the state is that of the record before");
    Ok(value.weight())
}

/// How many records were read, and how many were lost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
}

/// Reads up to `limit` of what there is and checks that seqs and losses follow each other without a
/// hole. `visit` gets the seq and the value.
pub(crate) fn read<T: Send + Sync + 'static>(
    reader: &mut Reader<T, Cell>,
    limit: usize,
    mut visit: impl FnMut(u64, &T),
) -> Tally {
    let mut tally = Tally::default();
    let start = reader.position();
    let mut position = start;
    reader.read(limit, |item| {
        match item {
            ReadItem::Lost(lost) => {
                assert_eq!(lost.first, position + 1);
                position = lost.last;
                tally.lost += lost.count();
            }
            ReadItem::Record(record) => {
                assert_eq!(record.seq(), position + 1, "seq order is publish order");
                assert_eq!(record.state().get(), record.seq(), "a record is never torn");
                position = record.seq();
                visit(record.seq(), record.value());
                tally.delivered += 1;
            }
        }
        ControlFlow::Continue(())
    });
    assert_eq!(position, reader.position());
    assert_eq!(tally.delivered + tally.lost, position - start);
    tally
}

/// As the models' own, but with one waker throughout, as a real task or thread has it.
pub(crate) fn block_on<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    let bell = Arc::new(bell::Bell::new());
    let waker = Waker::from(bell.clone());
    loop {
        match poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => bell.wait(),
        }
    }
}

impl Wake for bell::Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

#[cfg(loom)]
mod bell {
    pub(super) struct Bell(loom::sync::Notify);

    impl Bell {
        pub(super) fn new() -> Self {
            Self(loom::sync::Notify::new())
        }

        pub(super) fn ring(&self) {
            self.0.notify();
        }

        pub(super) fn wait(&self) {
            self.0.wait();
        }
    }
}

/// Not shuttle's `park`, which also returns without a wake-up: that would hide that one is missing.
#[cfg(shuttle)]
mod bell {
    use shuttle::sync::{Condvar, Mutex};

    pub(super) struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        pub(super) fn new() -> Self {
            Self {
                rung: Mutex::new(false),
                changed: Condvar::new(),
            }
        }

        pub(super) fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }

        pub(super) fn wait(&self) {
            let rung = self.rung.lock().unwrap();
            *self.changed.wait_while(rung, |rung| !*rung).unwrap() = false;
        }
    }
}
