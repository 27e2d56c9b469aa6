//! Foreign code that panics: wakers, values, states and closures.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tapline_ring::{Bounds, PerThread, ReadItem, Ring};

/// A value whose `Drop` counts, and panics where it is asked to. The payload of its panic does, too.
struct Bomb {
    armed: bool,
    dropped: Arc<AtomicUsize>,
}

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("in the drop of a panic's payload");
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, SeqCst);
        if self.armed {
            panic_any(PanicsAgain);
        }
    }
}

fn append(ring: &Ring<Bomb>, armed: bool, dropped: &Arc<AtomicUsize>) -> u64 {
    let dropped = dropped.clone();
    let bomb = Bomb { armed, dropped };
    let weight = if armed { 1 } else { 100 };
    let appended = ring.append(bomb, |_, (), _| Ok::<_, ()>(weight));
    appended.map_or(0, |record| record.seq())
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "this never happened: {what}");
        thread::yield_now();
    }
}

/// Counts its calls, and panics in each if it is asked to.
#[derive(Default)]
struct Calls {
    count: AtomicUsize,
    panics: bool,
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, SeqCst);
        if self.panics {
            panic_any(PanicsAgain);
        }
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_reader_asleep() {
    let ring = Arc::new(Ring::<u64>::new(8, ()).unwrap());
    for round in 1..=3 {
        let wakers = [false, true, false, true, false].map(|panics| {
            Arc::new(Calls {
                panics,
                ..Calls::default()
            })
        });
        let _readers = wakers.each_ref().map(|calls| {
            let mut reader = ring.reader(ring.head());
            let waker = Waker::from(calls.clone());
            let polled = reader.poll_next(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            reader
        });
        ring.append(round, |_, (), _| Ok::<(), ()>(())).unwrap();
        for calls in &wakers {
            until("every reader is woken", || calls.count.load(SeqCst) == 1);
        }
    }
}

#[test]
fn an_append_returns_whatever_the_evicted_values_do() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(4, ()).unwrap());
    for n in 1..=1000 {
        assert_eq!(append(&ring, true, &dropped), n);
    }
    // The notifier frees the rest, and survives each of them.
    until("all but the retained are dropped", || {
        dropped.load(SeqCst) == 996
    });
    drop(ring);
    until("the retained are dropped with the ring", || {
        dropped.load(SeqCst) == 1000
    });
}

#[test]
fn an_append_that_frees_much_at_once_returns_whatever_the_values_do() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bounds = Bounds {
        weight: 100,
        ..Bounds::of(256)
    };
    let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
    for n in 1..=100 {
        assert_eq!(append(&ring, true, &dropped), n);
    }
    assert_eq!(append(&ring, false, &dropped), 101);
    assert_eq!(ring.retained().oldest, 101);
    until("all evicted values are dropped", || {
        dropped.load(SeqCst) == 100
    });
}

#[test]
fn the_notifier_wakes_readers_after_values_have_panicked_in_it() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(1, ()).unwrap());
    append(&ring, true, &dropped);
    append(&ring, true, &dropped);
    until("the notifier has dropped the first", || {
        dropped.load(SeqCst) == 1
    });
    let mut reader = ring.reader(ring.head());
    let sleeper = thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        reader.next(Some(deadline)).is_some()
    });
    append(&ring, true, &dropped);
    assert!(sleeper.join().unwrap());
}

/// A state whose `Clone` panics as long as a flag is set, and whose `Drop` panics once. `abandoned.rs` has a
/// `Clone` that panics after an append.
struct State {
    clone_panics: Arc<AtomicBool>,
    drop_panics: Arc<AtomicBool>,
}

impl Clone for State {
    fn clone(&self) -> Self {
        assert!(!self.clone_panics.load(SeqCst), "in the clone of a state");
        Self {
            clone_panics: self.clone_panics.clone(),
            drop_panics: self.drop_panics.clone(),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        assert!(
            !self.drop_panics.swap(false, SeqCst),
            "in the drop of a state"
        );
    }
}

#[test]
fn a_state_whose_clone_panics_appends_nothing_and_its_drop_is_caught() {
    let clone_panics = Arc::new(AtomicBool::new(false));
    let drop_panics = Arc::new(AtomicBool::new(false));
    let state = State {
        clone_panics: clone_panics.clone(),
        drop_panics: drop_panics.clone(),
    };
    let bounds = Bounds {
        weight: 10,
        ..Bounds::of(4)
    };
    let ring = Arc::new(Ring::bounded(bounds, state.clone()).unwrap());
    let append = |weight| {
        let appended = ring.append(weight, |_, _, _| Ok::<_, ()>(weight));
        appended.map_or(0, |record| record.seq())
    };
    let transition = || ring.transition(|_, _| Ok::<_, ()>(state.clone())).unwrap();
    assert_eq!((1..=4).map(append).collect::<Vec<_>>(), [1, 2, 3, 4]);

    // Before the append takes effect: the caller gets the panic, and nothing was appended.
    clone_panics.store(true, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| append(1))).is_err());
    clone_panics.store(false, SeqCst);
    assert_eq!(ring.head(), 4);

    for head in 5..40 {
        drop_panics.store(head % 2 == 0, SeqCst);
        assert_eq!(transition(), head - 1);
        drop_panics.store(head % 3 == 0, SeqCst);
        assert_eq!(append(1), head);
    }
    drop_panics.store(false, SeqCst);
    assert_eq!(ring.head(), 39);
}

/// What was appended before stays, readers are called for it, and the batch can be used further.
#[test]
fn a_batch_continues_after_a_panic() {
    let ring = Arc::new(Ring::<u64>::new(4, ()).unwrap());
    let calls = Arc::new(Calls::default());
    let mut reader = ring.reader(0);
    let waker = Waker::from(calls.clone());
    let polled = reader.poll_next(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let mut batch = ring.batch();
    for n in 1..=6_u64 {
        let appended = catch_unwind(AssertUnwindSafe(|| {
            let make = || if n == 2 { panic!("in a value") } else { n };
            let decide = |value: &mut u64, (): &mut (), _| {
                assert_ne!(*value, 4, "in a decision");
                if *value == 5 { Err(()) } else { Ok(()) }
            };
            batch.append_with(make, decide).map(|record| record.seq())
        }));
        let expected = match n {
            1 => Some(Ok(1)),
            3 => Some(Ok(2)),
            5 => Some(Err(5)),
            6 => Some(Ok(3)),
            _ => None,
        };
        let seen = appended.ok().map(|it| it.map_err(|refused| refused.value));
        assert_eq!(seen, expected, "{n}");
    }
    drop(batch);
    until("the reader is called", || calls.count.load(SeqCst) == 1);
    assert_eq!(ring.head(), 3);
}

#[test]
fn a_visit_that_panics_has_read_what_it_was_shown() {
    let ring = Arc::new(Ring::<u64>::new(8, ()).unwrap());
    for n in 1..=4 {
        ring.append(n, |_, (), _| Ok::<(), ()>(())).unwrap();
    }
    let mut reader = ring.reader(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        reader.read(usize::MAX, |item| {
            let ReadItem::Record(record) = item else {
                panic!("nothing is lost")
            };
            assert_ne!(record.seq(), 2, "in a visit");
            ControlFlow::Continue(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(reader.position(), 2);
    assert!(catch_unwind(AssertUnwindSafe(|| reader.peek(|_| panic!("in a look")))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| ring.state(|(), _| panic!("in a look")))).is_err());
    let mut rest = Vec::new();
    reader.read(usize::MAX, |item| {
        if let ReadItem::Record(record) = item {
            rest.push(record.seq());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(rest, [3, 4]);
    // No guard is left over that would keep memory from being used again.
    let dropped = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(1, ()).unwrap());
    append(&ring, false, &dropped);
    let visit = || ring.reader(0).read(1, |_| panic!("in a visit"));
    assert!(catch_unwind(AssertUnwindSafe(visit)).is_err());
    append(&ring, false, &dropped);
    until("the evicted value is dropped", || dropped.load(SeqCst) == 1);
}

/// What a waker of [`WAKER`] does when it is cloned and dropped.
static CLONE_PANICS: AtomicBool = AtomicBool::new(false);
static DROP_PANICS: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);

static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        assert!(!CLONE_PANICS.swap(false, SeqCst), "in the clone of a waker");
        RawWaker::new(data, &WAKER)
    },
    |_| {
        CALLS.fetch_add(1, SeqCst);
    },
    |_| {
        CALLS.fetch_add(1, SeqCst);
    },
    |_| assert!(!DROP_PANICS.swap(false, SeqCst), "in the drop of a waker"),
);

fn fragile_waker(data: usize) -> Waker {
    let data = std::ptr::without_provenance(data);
    #[allow(unsafe_code)]
    // SAFETY: the functions of the table use the data for nothing.
    unsafe {
        Waker::new(data, &WAKER)
    }
}

#[test]
fn a_waker_whose_clone_or_drop_panics_leaves_its_reader_usable() {
    let ring = Arc::new(Ring::<u64>::new(8, ()).unwrap());
    let mut reader = ring.reader(0);
    let (first, second) = (fragile_waker(1), fragile_waker(2));

    CLONE_PANICS.store(true, SeqCst);
    let poll = AssertUnwindSafe(|| {
        reader
            .poll_next(&mut Context::from_waker(&first))
            .is_pending()
    });
    assert!(catch_unwind(poll).is_err());
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&first))
            .is_pending()
    );

    // The first waker is replaced by the second, and dropped.
    DROP_PANICS.store(true, SeqCst);
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&second))
            .is_pending()
    );
    assert!(!DROP_PANICS.load(SeqCst), "its drop has panicked");
    ring.append(1, |_, (), _| Ok::<(), ()>(())).unwrap();
    until("the second waker is called", || CALLS.load(SeqCst) == 1);

    // And with a reader that goes away while it waits.
    assert!(reader.try_next().is_some());
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&second))
            .is_pending()
    );
    DROP_PANICS.store(true, SeqCst);
    drop(reader);
    assert!(!DROP_PANICS.load(SeqCst), "its drop has panicked");
    let calls = Arc::new(Calls::default());
    let waker = Waker::from(calls.clone());
    let mut reader = ring.reader(ring.head());
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    ring.append(2, |_, (), _| Ok::<(), ()>(())).unwrap();
    until("the next reader is woken", || calls.count.load(SeqCst) == 1);
}

/// The thread that drops the last reference gets the panic, and the rest of the record is freed.
#[test]
fn a_kept_value_panics_where_it_is_dropped() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(1, ()).unwrap());
    append(&ring, true, &dropped);
    let kept = ring.get(1).expect("it is retained");
    append(&ring, false, &dropped);
    drop(ring);
    until("only the kept one is left", || dropped.load(SeqCst) == 1);
    assert!(
        catch_unwind(AssertUnwindSafe(|| drop(kept)))
            .is_err_and(|payload| catch_unwind(AssertUnwindSafe(|| drop(payload))).is_err())
    );
    assert_eq!(dropped.load(SeqCst), 2);
}

/// Its destructor runs after those that were registered later, the ring's among them.
#[test]
fn a_thread_that_appends_in_its_last_destructor_gives_its_entry_back() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    struct Last(Arc<Ring<u64>>, Arc<PerThread<AtomicUsize>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.append(1, |_, (), _| Ok::<(), ()>(())).unwrap();
            self.1.mine().fetch_add(1, SeqCst);
        }
    }
    let ring = Arc::new(Ring::<u64>::new(8, ()).unwrap());
    let counts = Arc::new(PerThread::default());
    for _ in 0..50 {
        let last = Last(ring.clone(), counts.clone());
        let thread = thread::spawn(move || {
            LAST.set(Some(last));
            LAST.with_borrow(|last| {
                let Last(ring, counts) = last.as_ref().expect("it was just set");
                ring.append(1, |_, (), _| Ok::<(), ()>(())).unwrap();
                counts.mine().fetch_add(1, SeqCst);
            });
        });
        thread.join().unwrap();
    }
    assert_eq!(ring.head(), 100);
    let all: Vec<_> = counts.iter().map(|count| count.load(SeqCst)).collect();
    assert_eq!(all.iter().sum::<usize>(), 100);
    assert!(
        all.len() <= 2,
        "{} entries for one thread at a time",
        all.len()
    );
}
