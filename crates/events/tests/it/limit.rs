//! The envelope's JSON, seq and stamp included, is at most 1,000,000 bytes.

use serde_json::value::RawValue;
use tapline_events::AppendError;
use tapline_oapi::encode::{LargestField, MAX_ENVELOPE_BYTES};
use tapline_oapi::{Envelope as Wire, Event};

use crate::{TestStamp, append, console, stream};

/// Data of that many bytes.
fn with_data(bytes: usize) -> Event {
    let mut event = console().with_ts(1);
    let data = format!("\"{}\"", "x".repeat(bytes - 2));
    event.data = Some(RawValue::from_string(data).unwrap());
    event
}

#[test]
fn the_last_byte_decides() {
    // The seq's digits, the stamp and what it takes in escapes all count.
    for (stamp, seq) in [
        (None, 1),
        (Some("session"), 1),
        (Some("\n\n\n"), 1),
        (Some("s"), 10),
    ] {
        let stream = stream::<TestStamp>(16);
        stream
            .transition(|_, _| Ok::<_, ()>(TestStamp(stamp.map(Into::into))))
            .unwrap();
        (1..seq).for_each(|_| drop(append(&stream, console())));
        let around = append(&stream, with_data(2)).json().len() - 2;
        // The envelopes below have the same number of digits in their seq.
        let most = MAX_ENVELOPE_BYTES - around - usize::from(seq == 9);

        let full = append(&stream, with_data(most));
        assert_eq!(
            full.json().len(),
            MAX_ENVELOPE_BYTES,
            "{stamp:?} at seq {seq}"
        );
        assert!(!full.event().truncated);

        let cut = append(&stream, with_data(most + 1));
        let wire: Wire = serde_json::from_str(&cut.json().whole()).unwrap();
        assert_eq!(wire.event.data.unwrap().get(), "null");
        assert!(wire.event.truncated, "{stamp:?} at seq {seq}");
    }
}

#[test]
fn what_is_over_it_without_its_data_is_refused() {
    let stream = stream::<()>(4);
    let mut event = console();
    event
        .source
        .metadata
        .insert("k".into(), "v".repeat(MAX_ENVELOPE_BYTES));
    let refused = stream.append(event, |()| Ok::<_, ()>(()));
    let largest = LargestField::SourceMetadata;
    assert_eq!(refused.unwrap_err(), AppendError::TooLarge(largest));
    assert_eq!(stream.head(), 0, "and has no seq");
}

#[test]
fn what_only_might_be_over_it_is_not_cut() {
    // Every byte of the metadata might have to be escaped into six, and none has.
    let stream = stream::<()>(4);
    let mut event = console();
    event
        .source
        .metadata
        .insert("k".into(), "v".repeat(MAX_ENVELOPE_BYTES / 2));
    assert!(!append(&stream, event).event().truncated);
}

/// The stamp changes during an append that had cut the event for the longer stamp.
#[test]
fn what_was_cut_for_a_stamp_that_it_does_not_get_is_whole() {
    let stream = stream::<TestStamp>(4);
    let long = TestStamp(Some("s".repeat(200).into()));
    stream.transition(|_, _| Ok::<_, ()>(long.clone())).unwrap();
    let around = append(&stream, with_data(2)).json().len() - 2;
    let mut changed = false;
    let appended = stream.append(with_data(MAX_ENVELOPE_BYTES - around + 1), |_| {
        if !changed {
            changed = true;
            stream
                .transition(|_, _| Ok::<_, ()>(TestStamp(None)))
                .unwrap();
        }
        Ok::<_, ()>(())
    });
    let envelope = appended.unwrap();
    assert!(!envelope.json().whole().contains("stamp"));
    assert!(!envelope.event().truncated, "it fits without the stamp");
}
