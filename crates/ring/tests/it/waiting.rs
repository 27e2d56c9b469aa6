//! Sleeping and being woken, by a thread's parking and by a task's waker.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tapline_ring::{Kept, ReadItem, Reader, Ring};

fn ring() -> Arc<Ring<u64>> {
    Arc::new(Ring::new(1024, ()).unwrap())
}

fn append(ring: &Ring<u64>, n: u64) {
    ring.append(n, |_, (), _| Ok::<(), ()>(())).unwrap();
}

fn value(item: Option<ReadItem<Kept<u64, ()>>>) -> u64 {
    match item {
        Some(ReadItem::Record(record)) => *record.value(),
        other => panic!("a record was to be had, not {other:?}"),
    }
}

#[test]
fn a_thousand_hand_overs_between_two_threads_lose_no_wake_up() {
    let (there, back) = (ring(), ring());
    let (mut here, mut away) = (back.reader(0), there.reader(0));
    let echo =
        thread::spawn(move || (0..5000).for_each(|_| append(&back, value(away.next(None)) + 1)));
    for n in 0..5000 {
        append(&there, n);
        assert_eq!(value(here.next(None)), n + 1);
    }
    echo.join().unwrap();
}

#[test]
fn sixteen_sleepers_all_see_all() {
    let ring = ring();
    let sleepers: Vec<_> = (0..16)
        .map(|_| {
            let mut reader = ring.reader(0);
            thread::spawn(move || (0..500).map(|_| value(reader.next(None))).sum::<u64>())
        })
        .collect();
    for n in 0..500 {
        append(&ring, n);
        if n % 16 == 0 {
            thread::yield_now();
        }
    }
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap(), (0..500).sum());
    }
}

#[test]
fn a_wait_ends_at_its_deadline_and_has_consumed_nothing() {
    let ring = ring();
    let mut reader = ring.reader(0);
    let begun = Instant::now();
    assert!(
        reader
            .next(Some(begun + Duration::from_millis(20)))
            .is_none()
    );
    assert!(Duration::from_millis(20) <= begun.elapsed());
    assert!(
        reader.next(Some(begun)).is_none(),
        "a deadline that has passed is no error"
    );
    append(&ring, 5);
    assert_eq!(value(reader.next(Some(begun))), 5);
}

#[test]
fn a_future_is_woken() {
    let ring = ring();
    let mut reader = ring.reader(0);
    let publisher = thread::spawn(move || (0..1000).for_each(|n| append(&ring, n)));
    for n in 0..1000 {
        assert_eq!(value(Some(block_on(poll_fn(|cx| reader.poll_next(cx))))), n);
    }
    publisher.join().unwrap();
}

#[test]
fn a_dropped_future_has_moved_nothing_and_its_waker_is_dropped() {
    let ring = ring();
    let mut reader = ring.reader(0);
    let calls = Arc::new(Calls::default());
    assert!(poll(&mut reader, &calls).is_pending());
    append(&ring, 1);
    until("it is woken", || calls.count() == 1);
    append(&ring, 2);
    until_called(&ring);
    assert_eq!(calls.count(), 1, "and not again before it has run");
    assert_eq!((value(reader.try_next()), value(reader.try_next())), (1, 2));

    until_called(&ring);
    while reader.try_next().is_some() {}
    assert!(poll(&mut reader, &calls).is_pending());
    drop(reader);
    assert_eq!(Arc::strong_count(&calls), 1, "its waker went with it");
    until_called(&ring);
    assert_eq!(calls.count(), 1, "a reader that is gone is not woken");
}

#[test]
fn a_panic_in_what_a_reader_waits_for_leaves_nothing_behind() {
    let ring = ring();
    let mut reader = ring.reader(0);
    let calls = Arc::new(Calls::default());
    let waker = Waker::from(calls.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut looked = false;
        let _ = reader.poll_until(&mut Context::from_waker(&waker), |_| -> Option<()> {
            assert!(!std::mem::replace(&mut looked, true), "at the second look");
            None
        });
    }));
    assert!(panicked.is_err());
    drop(waker);
    assert_eq!(Arc::strong_count(&calls), 1, "its waker is dropped");
    assert!(poll(&mut reader, &calls).is_pending());
    append(&ring, 1);
    until("it is woken as before", || calls.count() == 1);
    assert_eq!(value(reader.try_next()), 1);
}

#[test]
fn readers_that_come_and_go_while_nothing_is_published_leave_nothing_behind() {
    let ring = ring();
    let calls = Arc::new(Calls::default());
    for _ in 0..1000 {
        assert!(poll(&mut ring.reader(0), &calls).is_pending());
    }
    assert_eq!(Arc::strong_count(&calls), 1);
    until_called(&ring);
    assert_eq!(calls.count(), 0);
}

#[test]
fn a_waker_that_publishes_is_called_all_the_same() {
    struct Publishes(Arc<Ring<u64>>, AtomicUsize);
    impl Wake for Publishes {
        fn wake(self: Arc<Self>) {
            append(&self.0, 2);
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let ring = ring();
    let mut reader = ring.reader(0);
    let waker = Arc::new(Publishes(ring.clone(), AtomicUsize::new(0)));
    let polled = reader.poll_next(&mut Context::from_waker(&Waker::from(waker.clone())));
    assert!(polled.is_pending());
    append(&ring, 1);
    until("it has published", || waker.1.load(Ordering::SeqCst) == 1);
    assert_eq!((value(reader.try_next()), value(reader.try_next())), (1, 2));
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "this never happened: {what}");
        thread::yield_now();
    }
}

/// Publishes, and waits until all sleepers have been woken: the notifier wakes last those that slept first.
fn until_called(ring: &Arc<Ring<u64>>) {
    let calls = Arc::new(Calls::default());
    for _ in 0..2 {
        let mut reader = ring.reader(ring.head());
        let before = calls.count();
        assert!(poll(&mut reader, &calls).is_pending());
        append(ring, 0);
        until("a sleeper is called", || calls.count() > before);
    }
}

#[test]
fn a_reader_moves_from_task_to_task() {
    let ring = ring();
    let mut reader = ring.reader(0);
    let (first, second) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
    assert!(poll(&mut reader, &first).is_pending());
    assert!(poll(&mut reader, &second).is_pending());
    append(&ring, 1);
    until("the last one that asked is called", || second.count() == 1);
    until_called(&ring);
    assert_eq!(first.count(), 0);
    assert_eq!(value(reader.try_next()), 1);
}

#[derive(Default)]
struct Calls(AtomicUsize);

impl Calls {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(reader: &mut Reader<u64>, calls: &Arc<Calls>) -> Poll<ReadItem<Kept<u64, ()>>> {
    reader.poll_next(&mut Context::from_waker(&Waker::from(calls.clone())))
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
