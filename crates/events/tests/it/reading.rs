use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_core::Stream;
use tapline_events::{EventStream, Filter, Item, Retained, Retention};
use tapline_oapi::{Category, CategorySet};

use crate::{append, console, event, seqs, stream};

#[test]
fn readers_do_not_take_from_each_other() {
    let stream = stream::<()>(8);
    (0..5).for_each(|_| drop(append(&stream, console())));
    let (mut all, mut some) = (stream.reader(0), stream.reader(3));
    let read = |reader: &mut tapline_events::Reader| {
        std::iter::from_fn(|| reader.try_next()).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&read(&mut all)), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&read(&mut some)), [4, 5]);
    assert_eq!(read(&mut all).len(), 0);
}

#[test]
fn what_is_retained_and_the_bounds_can_be_read() {
    let stream = stream::<()>(3);
    assert_eq!(
        stream.retention(),
        Retention {
            events: 4,
            bytes: u64::MAX,
            ..Retention::default()
        }
    );
    let range = |retained: Retained| (retained.oldest, retained.head);
    assert_eq!(range(stream.retained()), (0, 0));
    (0..6).for_each(|_| drop(append(&stream, console())));
    assert_eq!(range(stream.retained()), (3, 6));
}

#[test]
fn retention_is_bounded_by_bytes_too() {
    const MOST: u64 = 768 * 1024;
    let stream = EventStream::<()>::new(Retention {
        events: 65_536,
        bytes: MOST,
        ..Retention::default()
    })
    .unwrap();
    let mut reader = stream.reader(0);
    let with_data = |bytes: usize| {
        let mut event = console();
        let data = format!("\"{}\"", "x".repeat(bytes));
        event.data = Some(serde_json::value::RawValue::from_string(data).unwrap());
        event
    };
    let mut heaviest = 0;
    for n in 0..2000 {
        append(&stream, with_data(n * 7 % 5000));
        let Retained {
            oldest,
            head,
            weight,
        } = stream.retained();
        assert!(oldest <= head && weight <= MOST);
        heaviest = heaviest.max(weight);
        let json: usize = (oldest..=head)
            .map(|seq| stream.envelope(seq).unwrap().json().len())
            .sum();
        assert!(
            json as u64 + 128 * (head - oldest + 1) <= weight,
            "the whole JSON counts, and what is around it"
        );
    }
    assert!(heaviest > MOST * 9 / 10, "and the bound is used");

    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("most of it is gone")
    };
    assert_eq!((lost.first, lost.last + 1), (1, stream.retained().oldest));
    assert_eq!(lost.matching, Some(lost.count()));

    append(&stream, with_data(900_000));
    let Retained {
        oldest,
        head,
        weight,
    } = stream.retained();
    assert_eq!(
        (oldest, head),
        (2001, 2001),
        "larger than the whole bound: retained alone"
    );
    assert!(weight > MOST);
}

#[test]
fn two_streams_have_two_epochs() {
    let (one, other) = (stream::<()>(1), stream::<()>(1));
    assert_ne!(one.epoch(), other.epoch());
    assert_eq!(one.clone().epoch(), one.epoch());
}

#[test]
fn waiting_passes_over_what_is_filtered_and_ends_at_the_time_out() {
    let stream = stream::<()>(1024);
    let only_page = Filter::categories(CategorySet::of(&[Category::Page]));
    let mut reader = stream.reader(0).filtered(only_page);
    assert!(reader.next(Some(Duration::from_millis(5))).is_none());
    let publisher = {
        let stream = stream.clone();
        thread::spawn(move || {
            (0..600).for_each(|_| drop(append(&stream, console())));
            append(&stream, event("there", Category::Page));
        })
    };
    let Some(Item::Envelope(found)) = reader.next(None) else {
        panic!("it is there")
    };
    assert_eq!(found.seq(), 601);
    publisher.join().unwrap();
    // Filtered events arrive all the time, and the time-out still holds.
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while begun.elapsed() < Duration::from_millis(60) {
                append(&stream, console());
            }
        });
        assert!(reader.next(Some(Duration::from_millis(20))).is_none());
    });
    assert!(Duration::from_millis(20) <= begun.elapsed());
    assert_eq!(reader.ledger().delivered, 1);
}

/// A reader is faster than a producer: it would catch up with each event as it comes, for ever.
#[test]
fn a_read_returns_although_filtered_events_never_stop() {
    let stream = stream::<()>(1024);
    let nothing = Filter::categories(CategorySet::EMPTY);
    let mut reader = stream.reader(0).filtered(nothing);
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Long enough for anything but a failure, and then it ends all the same.
                while !done.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(20) {
                    append(&stream, console());
                }
            });
        }
        for _ in 0..200 {
            assert!(reader.try_next().is_none());
            assert!(
                reader
                    .poll_next(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            assert!(reader.next(Some(Duration::from_micros(100))).is_none());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(reader.ledger().delivered, 0);
}

#[test]
fn a_reader_is_a_stream_that_never_ends() {
    let stream = stream::<()>(8);
    let mut reader = stream.reader(0);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Stream::poll_next(Pin::new(&mut reader), &mut cx).is_pending());
    append(&stream, console());
    let Poll::Ready(Some(Item::Envelope(envelope))) =
        Stream::poll_next(Pin::new(&mut reader), &mut cx)
    else {
        panic!("one is there")
    };
    assert_eq!(envelope.seq(), 1);
    assert!(Stream::poll_next(Pin::new(&mut reader), &mut cx).is_pending());
}

#[test]
fn a_change_of_the_mark_can_be_waited_for() {
    use crate::TestStamp;
    let stream = stream::<TestStamp>(8);
    let mut reader = stream.reader(0);
    let mut cx = Context::from_waker(Waker::noop());
    let mut stamped = |cx: &mut Context<'_>| reader.poll_until(cx, |stamp, _| stamp.0.is_some());
    assert!(stamped(&mut cx).is_pending());
    stream
        .transition(|_, _| Ok::<_, ()>(TestStamp(Some("s".into()))))
        .unwrap();
    assert!(stamped(&mut cx).is_ready());
}
