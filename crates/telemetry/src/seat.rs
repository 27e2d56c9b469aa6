//! A number for each thread that no other thread has while it runs: its *seat*.
//!
//! Whoever keeps an array with an entry for each seat has an entry that one thread alone writes.
//! Seats are handed on: a thread that ends leaves its seat, with all that was written there, to
//! the next that asks. They are taken and left without a lock, since the first event that a thread
//! publishes is published like any other.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How many threads can have a seat at the same time.
pub(crate) const SEATS: usize = ROWS * ROW;

/// How many seats are in a row: the bits of a word.
pub(crate) const ROW: usize = 64;

const ROWS: usize = 16;

/// One bit for each seat.
static TAKEN: [AtomicU64; ROWS] = [const { AtomicU64::new(0) }; ROWS];

/// The thread has not asked for a seat yet.
const NOT_ASKED: usize = usize::MAX;

/// All seats were taken, or the thread has left its own and is about to end.
const NONE: usize = usize::MAX - 1;

thread_local! {
    /// Nothing has to be done at its end, so a look at it is one load.
    static SEAT: Cell<usize> = const { Cell::new(NOT_ASKED) };
    static LEAVING: Leaving = const { Leaving(Cell::new(NONE)) };
}

/// This thread's seat, below [`SEATS`]; where it has none, a number beyond all seats.
#[inline]
pub(crate) fn seat() -> usize {
    SEAT.try_with(Cell::get).unwrap_or(NONE)
}

/// As [`seat`], after taking one where this thread has not asked for one before.
#[cold]
pub(crate) fn take_seat() -> usize {
    if seat() != NOT_ASKED {
        return seat();
    }
    // A thread whose variables are going already could not leave it any more.
    let taken = LEAVING.try_with(|leaving| {
        leaving.0.set(free_seat().unwrap_or(NONE));
        leaving.0.get()
    });
    let seat = taken.unwrap_or(NONE);
    // It is there: it has just been looked at.
    let _ = SEAT.try_with(|mine| mine.set(seat));
    seat
}

/// The first seat that is free, now taken.
fn free_seat() -> Option<usize> {
    TAKEN.iter().enumerate().find_map(|(number, row)| {
        loop {
            // Relaxed: only a guess at which one is free.
            let at = row.load(Relaxed).trailing_ones() as usize;
            if at == ROW {
                return None;
            }
            // Acquire: what those who had the seat before have written; pairs with their leaving.
            if row.fetch_or(1 << at, Acquire) & 1 << at == 0 {
                return Some(number * ROW + at);
            }
        }
    })
}

/// Leaves the seat when the thread ends.
struct Leaving(Cell<usize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        // What the thread publishes after this, it publishes without a seat.
        let _ = SEAT.try_with(|mine| mine.set(NONE));
        let seat = self.0.get();
        if let Some(row) = TAKEN.get(seat / ROW) {
            // Release: what was written at the seat; pairs with the taking.
            row.fetch_and(!(1 << (seat % ROW)), Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// Beside other tests, which have seats too.
    #[test]
    fn no_two_threads_have_one_seat_and_seats_are_handed_on() {
        const THREADS: usize = 100;
        let all_seated = Barrier::new(THREADS);
        let mut highest = 0;
        for _ in 0..20 {
            let seats: Vec<usize> = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            let mine = take_seat();
                            all_seated.wait();
                            assert_eq!((seat(), take_seat()), (mine, mine));
                            mine
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(seats.iter().collect::<HashSet<_>>().len(), THREADS);
            highest = highest.max(*seats.iter().max().unwrap());
        }
        assert!(highest < SEATS, "2000 threads in all found a seat each");
    }

    #[test]
    fn a_thread_that_is_ending_takes_none() {
        thread_local! {
            static LATE: Late = const { Late };
        }
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                // Before or after `LEAVING` goes, by the system's choice: no seat is taken for good.
                let seat = take_seat();
                assert!(seat < SEATS || seat == NONE);
            }
        }
        for _ in 0..2 * SEATS {
            thread::spawn(|| {
                LATE.with(|_| ());
                take_seat();
            })
            .join()
            .unwrap();
        }
        assert!(take_seat() < SEATS, "all those seats are free again");
    }
}
