//! A stream that continues an epoch.

use tapline_events::{
    Behind, CapacityError, Epoch, EventStream, Filter, Item, Retained, Retention, TypePattern,
};
use tapline_oapi::{Category, CategorySet};

use crate::{append, event};

const EPOCH: Epoch = Epoch::from_bits(0xc0ffee);

fn resume(events: usize, next_seq: u64) -> EventStream {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    EventStream::resume(retention, EPOCH, next_seq).unwrap()
}

#[test]
fn a_resumed_stream_continues_its_seqs_and_its_epoch() {
    let stream = resume(8, 43);
    assert_eq!(stream.epoch(), EPOCH);
    let empty = Retained {
        oldest: 0,
        head: 42,
        weight: 0,
    };
    assert_eq!((stream.head(), stream.retained()), (42, empty));
    assert_eq!(stream.totals().sum(), 0);
    let envelope = append(&stream, event("x", Category::Page));
    assert!(envelope.json().whole().starts_with(r#"{"seq":43,"#));
    let retained = stream.retained();
    assert_eq!((retained.oldest, retained.head), (43, 43));
    assert_eq!(stream.totals().sum(), 1);
}

#[test]
fn a_reader_from_before_a_resumed_stream_begins_at_its_first_event() {
    let stream = resume(8, 43);
    for (after, gone) in [(0, 42), (41, 1), (42, 0)] {
        let mut reader = stream.reader(after);
        assert_eq!(reader.position() - after, gone, "the exact loss in all");
        assert_eq!(reader.ledger().start, 42, "and nothing by category");
        assert!(reader.try_next().is_none());
    }
    let mut reader = stream.reader(0);
    append(&stream, event("x", Category::Page));
    let Some(Item::Envelope(envelope)) = reader.try_next() else {
        panic!("the first event")
    };
    assert_eq!((envelope.seq(), reader.ledger().lost), (43, 0));
}

#[test]
fn a_reader_of_a_resumed_stream_loses_exactly_and_by_category() {
    let stream = resume(2, 101);
    let asked = Filter::categories(CategorySet::of(&[Category::Page]));
    let by_type = Filter::types(vec![TypePattern::new("x*")]);
    let mut reader = stream.reader(0).filtered(asked);
    let mut typed = stream.reader(0).filtered(by_type);
    for category in [Category::Page, Category::Console, Category::Page] {
        append(&stream, event("x", category));
        append(&stream, event("x", category));
    }
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("101 to 104 are gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (101, 104, Some(2)));
    let Some(Item::Lost(lost)) = typed.try_next() else {
        panic!("101 to 104 are gone")
    };
    assert_eq!((lost.count(), lost.matching), (4, None));
}

#[test]
fn how_far_behind_is_exact_before_and_after_the_first_event() {
    let stream = resume(8, 43);
    let behind = |position, events| {
        let behind = stream.behind(position);
        assert_eq!(behind.events, events, "at {position}");
        behind
    };
    assert_eq!(behind(42, 0), Behind::default());
    assert_eq!(behind(50, 0), Behind::default());
    assert_eq!(behind(40, 2).bytes, 0);
    append(&stream, event("x", Category::Page));
    assert!(behind(40, 3).bytes > 0);
    assert_eq!(behind(43, 0), Behind::default());
}

#[test]
fn a_next_seq_out_of_range_is_an_error() {
    for next_seq in [0, (1 << 60) + 2, 1 << 61, u64::MAX] {
        let refused = EventStream::<()>::resume(Retention::default(), EPOCH, next_seq);
        assert_eq!(refused.unwrap_err(), CapacityError::FirstSeq(next_seq));
    }
    let last = EventStream::<()>::resume(Retention::default(), EPOCH, (1 << 60) + 1).unwrap();
    assert_eq!(
        append(&last, event("x", Category::Page)).seq(),
        (1 << 60) + 1
    );
}
