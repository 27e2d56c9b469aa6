//! The hot-path encoder, compared with serde.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::value::RawValue;
use tapline_oapi::{
    Category, Envelope, EnvelopeJson, Event, EventType, KnownType, Source, SourceKind,
    encode_envelope, encode_event, encode_head, encoded_len_at_most,
};

use crate::CORPUS;

type Stamp<'a> = Option<(&'a str, &'a str)>;

/// The envelope that `encode_envelope` should write, as an owned value.
fn owned(seq: u64, ts: u64, event: &Event, stamp: Stamp<'_>) -> Envelope {
    let mut event = event.clone().with_ts(ts);
    if let Some((key, value)) = stamp {
        event
            .source
            .metadata
            .insert(key.to_owned(), value.to_owned());
    }
    Envelope { seq, event }
}

#[track_caller]
fn check(seq: u64, ts: u64, event: &Event, stamp: Stamp<'_>) {
    let expected = serde_json::to_string(&owned(seq, ts, event, stamp)).unwrap();

    let mut out = b"before".to_vec();
    encode_envelope(&mut out, seq, ts, event, stamp);
    assert_eq!(str::from_utf8(&out).unwrap(), format!("before{expected}"));
    assert!(expected.len() <= encoded_len_at_most(event, stamp));

    let mut head = String::new();
    encode_head(&mut head, seq, ts, event, stamp);
    let json = EnvelopeJson::new(&head, event);
    for json in [json, EnvelopeJson::from(&*expected)] {
        assert_eq!(
            (json.to_string(), json.len()),
            (expected.clone(), expected.len())
        );
        assert_eq!(
            (&*json.parts().concat(), &*json.whole()),
            (&*expected, &*expected)
        );
        let mut out = b"before".to_vec();
        json.append_to(&mut out);
        assert_eq!(out, [b"before", expected.as_bytes()].concat());
    }

    let mut out = Vec::new();
    encode_event(&mut out, ts, event, stamp);
    assert_eq!(
        format!(
            r#"{{"seq":{seq},"event":{}}}"#,
            str::from_utf8(&out).unwrap()
        ),
        expected
    );
}

/// Text that is mostly plain, with what JSON escapes and what is more than a byte mixed in.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => prop::char::range('a', 'z'),
        1 => prop::char::range('\0', '\u{2f}'),
        1 => prop::sample::select(vec!['"', '\\', '/', '\u{7f}', '\u{80}', '\u{2028}', '\u{feff}']),
        1 => any::<char>(),
    ];
    vec(character, 0..40).prop_map(|characters| characters.into_iter().collect())
}

fn event_type() -> impl Strategy<Value = EventType> {
    prop_oneof![
        prop::sample::select(KnownType::ALL).prop_map(EventType::Known),
        text().prop_filter_map("a type has a name", |name| EventType::new(&name).ok()),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let kind = prop::sample::select(vec![
        SourceKind::Cdp,
        SourceKind::KernelApi,
        SourceKind::Extension,
        SourceKind::LocalProcess,
    ]);
    // Few short keys, so that the stamp often meets its own.
    let metadata = btree_map(prop_oneof!["[a-c]{0,2}", text()], text(), 0..5);
    (kind, option::of(text()), metadata).prop_map(|(kind, event, metadata)| Source {
        kind,
        event,
        metadata,
    })
}

fn data() -> impl Strategy<Value = Box<RawValue>> {
    prop_oneof![
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
        prop::sample::select(vec![
            "null",
            "1.0",
            "1e400",
            "{ \"b\" : [ ],\n\"a\":1 }",
            "-0"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_map(|json| RawValue::from_string(json).unwrap())
}

prop_compose! {
    fn event()(
        ts in any::<u64>(),
        event_type in event_type(),
        category in prop::sample::select(Category::ALL.to_vec()),
        source in source(),
        data in option::of(data()),
        truncated in any::<bool>(),
    ) -> Event {
        Event { ts, event_type, category, source, data, truncated }
    }
}

proptest! {
    #[test]
    fn the_bytes_are_the_same_as_from_serde(
        seq in any::<u64>(),
        ts in any::<u64>(),
        event in event(),
        stamp in option::of((prop_oneof!["[a-c]{0,2}", text()], text())),
    ) {
        let stamp = stamp.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
        check(seq, ts, &event, stamp);
    }
}

#[test]
fn every_byte_that_needs_an_escape_is_escaped() {
    for byte in 0..=0x7f_u8 {
        check_name(&format!("a{}b", char::from(byte)));
    }
}

/// Strings are looked at in pieces of some bytes: no piece, and no byte of it, may be left out.
#[test]
fn an_escape_is_made_wherever_in_a_string_it_is_needed() {
    for len in 1..=67 {
        for at in 0..len {
            let mut text = vec![b'x'; len];
            text[at] = b'"';
            check_name(str::from_utf8(&text).unwrap());
        }
    }
}

/// With this text wherever an event may have a name of its own.
#[track_caller]
fn check_name(text: &str) {
    let source = Source {
        event: Some(text.to_owned()),
        ..Source::default()
    };
    let event = Event::custom(text, Category::Page, None).unwrap();
    check(1, 1, &event.with_source(source), Some((text, text)));
}

#[test]
fn the_stamp_replaces_the_producers_value_in_the_order_of_keys() {
    let metadata = |keys: &[&str]| -> BTreeMap<String, String> {
        keys.iter()
            .map(|key| ((*key).to_owned(), "own".to_owned()))
            .collect()
    };
    for keys in [
        &[][..],
        &["a"],
        &["k"],
        &["z"],
        &["a", "z"],
        &["a", "k", "z"],
        &["k", "k0"],
        &["", "kk"],
    ] {
        let source = Source {
            metadata: metadata(keys),
            ..Source::default()
        };
        let event = Event::known(KnownType::PageLoad, None).with_source(source);
        check(7, 8, &event, Some(("k", "stamp")));
        check(7, 8, &event, None);
        assert_eq!(event.source.metadata, metadata(keys));
    }
}

#[test]
fn the_bound_holds_for_the_worst_case() {
    let longest = "\u{1}".repeat(50);
    let source = Source {
        kind: SourceKind::LocalProcess,
        event: Some(longest.clone()),
        metadata: BTreeMap::from([(longest.clone(), longest.clone())]),
    };
    let mut event = Event::custom(
        &longest,
        Category::Interaction,
        Some(RawValue::NULL.to_owned()),
    )
    .unwrap()
    .with_source(source);
    event.truncated = true;
    check(
        u64::MAX,
        u64::MAX,
        &event,
        Some((&format!("{longest}k"), &longest)),
    );
}

#[test]
fn a_recorded_session_is_encoded_as_by_serde() {
    for (seq, line) in (1..).zip(CORPUS.lines()) {
        let event: Event = serde_json::from_str(line).unwrap();
        check(
            seq,
            event.ts,
            &event,
            Some((
                "telemetry_session_id",
                "0f8fad5b-d9cb-469f-a165-70867728950e",
            )),
        );
    }
}
