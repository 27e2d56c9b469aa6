//! Any stream: cut, reordered, repeated, with losses, restarts and garbage. Nothing panics, every file is well-formed, and
//! the result does not depend on how the stream was divided.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tapline_insight::{
    BundleWriter, ExportWriter, Finding, Format, Input, Insight, Lost, Options, Outcome, Sanitizer,
};
use tapline_oapi::{Category, CategorySet, Envelope, Epoch, KnownType};

use crate::stream::{Found, recording};
use crate::{har, trace};

/// The file that these inputs become.
pub(crate) fn exported(inputs: &[Input<'_>], format: Format, sanitizer: Sanitizer) -> String {
    let mut export = ExportWriter::new(format, Vec::new(), sanitizer).unwrap();
    for input in inputs {
        export.feed(*input).unwrap();
    }
    String::from_utf8(export.finish().unwrap().0).unwrap()
}

/// What is done to a recording.
#[derive(Debug, Clone)]
enum Change {
    /// Two events change places, seqs excepted.
    Swap(prop::sample::Index, prop::sample::Index),
    /// An event is missing, and this is not known.
    Drop(prop::sample::Index),
    /// Events are missing, and this is known.
    Lose(prop::sample::Index, usize),
    /// The server is restarted.
    Restart(prop::sample::Index, u64),
    /// The session changes.
    Capture(prop::sample::Index, u16),
    /// A piece of the data is another JSON.
    Spoil(prop::sample::Index, prop::sample::Index, Value),
    /// All data is another JSON.
    Replace(prop::sample::Index, Value),
    /// The time is another one.
    Time(prop::sample::Index, u64),
}

/// An input that owns its event.
#[derive(Debug, Clone)]
enum Owned {
    Event(Envelope),
    Lost(Lost),
    Epoch(Epoch),
    Captured(CategorySet),
}

impl Owned {
    fn as_input(&self) -> Input<'_> {
        match self {
            Self::Event(envelope) => Input::Event(envelope),
            Self::Lost(lost) => Input::Lost(*lost),
            Self::Epoch(epoch) => Input::Epoch(*epoch),
            Self::Captured(captured) => Input::Captured(*captured),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just(-1.0),
            Just(1e308),
            Just(-1e308),
            any::<f64>().prop_filter("JSON", |it| it.is_finite())
        ]
        .prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({"a": "http://u:p@h/?token=1&x=\u{e9}#", "b": [1]})),
        Just(json!("{\"password\": \"x\\\"")),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Swap(a, b)),
        any::<Index>().prop_map(Change::Drop),
        (any::<Index>(), 1_usize..20).prop_map(|(a, n)| Change::Lose(a, n)),
        (any::<Index>(), 0_u64..3).prop_map(|(a, n)| Change::Restart(a, n)),
        (any::<Index>(), any::<u16>()).prop_map(|(a, n)| Change::Capture(a, n)),
        (any::<Index>(), any::<Index>(), any_json()).prop_map(|(a, b, c)| Change::Spoil(a, b, c)),
        (any::<Index>(), any_json()).prop_map(|(a, b)| Change::Replace(a, b)),
        (
            any::<Index>(),
            prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]
        )
            .prop_map(|(a, b)| Change::Time(a, b)),
    ]
}

fn changed(name: &str, changes: &[Change]) -> Vec<Owned> {
    let mut stream: Vec<_> = recording(name).into_iter().map(Owned::Event).collect();
    let set_data = |owned: &mut Owned, change: &dyn Fn(&mut Value)| {
        let Owned::Event(envelope) = owned else {
            return;
        };
        let text = envelope
            .event
            .data
            .as_ref()
            .map_or("null", |data| data.get());
        let mut data: Value = serde_json::from_str(text).unwrap();
        change(&mut data);
        envelope.event.data = Some(serde_json::value::to_raw_value(&data).unwrap());
    };
    for change in changes {
        if stream.len() < 2 {
            break;
        }
        match change {
            Change::Swap(a, b) => {
                let (a, b) = (a.index(stream.len()), b.index(stream.len()));
                stream.swap(a, b);
            }
            Change::Drop(a) => drop(stream.remove(a.index(stream.len()))),
            Change::Lose(a, count) => {
                let from = a.index(stream.len());
                let to = (from + count).min(stream.len());
                let count = (to - from) as u64;
                let lost = Lost {
                    count: Some(count),
                    ..Lost::unknown(from as u64 + 1, to as u64)
                };
                stream.splice(from..to, [Owned::Lost(lost)]);
            }
            Change::Restart(a, epoch) => {
                stream.insert(
                    a.index(stream.len()),
                    Owned::Epoch(Epoch::from_bits(*epoch)),
                );
            }
            Change::Capture(a, bits) => {
                let captured = CategorySet::from_bits(*bits);
                stream.insert(a.index(stream.len()), Owned::Captured(captured));
            }
            Change::Spoil(a, b, value) => {
                let index = a.index(stream.len());
                set_data(&mut stream[index], &|data| {
                    if let Some(object) = data.as_object_mut().filter(|it| !it.is_empty()) {
                        let field = b.index(object.len());
                        let field = object.values_mut().nth(field);
                        *field.unwrap() = value.clone();
                    }
                });
            }
            Change::Replace(a, value) => {
                let index = a.index(stream.len());
                set_data(&mut stream[index], &|data| *data = value.clone());
            }
            Change::Time(a, ts) => {
                let index = a.index(stream.len());
                if let Owned::Event(envelope) = &mut stream[index] {
                    envelope.event.ts = *ts;
                }
            }
        }
    }
    // Events were moved: their seqs are those of their places.
    let mut seq = 0;
    for owned in &mut stream {
        match owned {
            Owned::Event(envelope) => {
                seq += 1;
                envelope.seq = seq;
            }
            Owned::Lost(lost) => {
                lost.from = seq + 1;
                seq += lost.count.unwrap_or(1);
                lost.to = seq;
            }
            Owned::Epoch(_) => {}
            Owned::Captured(_) => {}
        }
    }
    stream
}

fn everything(inputs: &[Input<'_>], options: Options) -> Found {
    let mut insight = Insight::new(options);
    let mut found = Found::default();
    for input in inputs {
        insight.feed(*input, &mut |finding| found.take(finding));
    }
    insight.finish(&mut |finding| found.take(finding));
    found
}

fn check(stream: &[Owned]) {
    let inputs: Vec<_> = stream.iter().map(Owned::as_input).collect();
    let small = Options {
        requests: 5,
        navigations: 2,
        problems: 3,
        contents: true,
        ..Options::default()
    };
    for options in [Options::default(), small] {
        let found = everything(&inputs, options);
        assert_eq!(
            found,
            everything(&inputs, options),
            "the same input has the same result"
        );
        for request in &found.requests {
            // An outcome that is certain has its event.
            let has_end = request.end.is_some();
            assert_eq!(request.has_ended(), has_end, "{request:?}");
            assert_eq!(
                request.outcome == Outcome::Unknown,
                request.unknown.is_some(),
                "{request:?}"
            );
            assert_eq!(
                request.outcome == Outcome::Failed,
                request.failure.is_some(),
                "{request:?}"
            );
            let _ = request.sentence();
        }
    }
    har::check_form(&exported(&inputs, Format::Har, Sanitizer::default()));
    har::check_form(&exported(&inputs, Format::Har, Sanitizer::off()));
    trace::check_form(&exported(&inputs, Format::Trace, Sanitizer::default()));
    let lines = exported(&inputs, Format::Ndjson, Sanitizer::default());
    let events = inputs
        .iter()
        .filter(|it| matches!(it, Input::Event(_)))
        .count();
    let gaps = inputs.iter().filter(|it| match it {
        Input::Lost(lost) => lost.from <= lost.to,
        _ => false,
    });
    let (gaps_written, written) = lines
        .lines()
        .partition::<Vec<_>, _>(|line| line.starts_with("{\"gap\":"));
    assert_eq!(written.len(), events);
    assert_eq!(gaps_written.len(), gaps.count());
}

/// Who follows has, at every moment, what who reads everything has: taking what has changed since the last look is enough.
fn check_followed(stream: &[Owned], looks: &[usize]) {
    let mut insight = Insight::new(Options::default());
    let mut since = insight.at();
    let (mut requests, mut navigations, mut problems) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (n, owned) in stream.iter().enumerate() {
        // It is not noticed between two events.
        if matches!(owned, Owned::Captured(_)) {
            continue;
        }
        insight.feed(owned.as_input(), &mut |_| {});
        if !looks.contains(&n) && n + 1 < stream.len() {
            continue;
        }
        for it in insight.requests() {
            if insight.has_changed(it.at, it.updated, since) {
                requests.insert(it.at, it.clone());
            }
        }
        for it in insight.navigations() {
            if insight.has_changed(it.at, it.updated, since) {
                navigations.insert(it.at, it.clone());
            }
        }
        for it in insight.problems() {
            if insight.has_changed(it.at, it.updated, since) {
                problems.insert((it.at, it.kind as u8), it.clone());
            }
        }
        since = insight.at();
        assert!(insight.requests().eq(requests.values()));
        assert!(insight.navigations().eq(navigations.values()));
        let found: BTreeMap<_, _> = insight
            .problems()
            .map(|it| ((it.at, it.kind as u8), it))
            .collect();
        assert!(found.values().copied().eq(problems.values()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_is_read_and_exported(
        name in prop_oneof![Just("tour.ndjson"), Just("events.ndjson")],
        changes in prop::collection::vec(any_change(), 0..40),
    ) {
        check(&changed(name, &changes));
    }

    #[test]
    fn what_changed_is_enough_to_follow(
        name in prop_oneof![Just("tour.ndjson"), Just("events.ndjson")],
        changes in prop::collection::vec(any_change(), 0..40),
        looks in prop::collection::vec(0_usize..200, 0..40),
    ) {
        check_followed(&changed(name, &changes), &looks);
    }

    #[test]
    fn any_text_is_sanitised(text in ".{0,80}", name in "[a-z_]{1,12}") {
        let sanitizer = Sanitizer::default().with_names([&name]);
        let _ = (sanitizer.url(&text), sanitizer.body(&text), sanitizer.header(&name, &text));
        let json = json!({&name: &text, "x": [&text]}).to_string();
        let sanitized = sanitizer.body(&json);
        let value: Value = serde_json::from_str(&sanitized).unwrap();
        prop_assert_eq!(&value[&name], "*redacted*");
    }
}

/// Taking what leaves after each event, or asking for what is kept in between, changes nothing.
#[test]
fn looking_at_it_in_between_changes_nothing() {
    let events = recording("tour.ndjson");
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    for format in Format::ALL {
        let whole = exported(&inputs, format, Sanitizer::default());
        // Batches of another size, with the buffer emptied after each.
        for size in [1, 7, 64] {
            let mut export = ExportWriter::new(format, Vec::new(), Sanitizer::default()).unwrap();
            let mut file = Vec::new();
            for batch in inputs.chunks(size) {
                for input in batch {
                    export.feed(*input).unwrap();
                }
                file.append(export.get_mut());
            }
            file.append(&mut export.finish().unwrap().0);
            assert!(file == whole.as_bytes(), "{format} in batches of {size}");
        }
    }
    let mut insight = Insight::new(Options::default());
    let mut left: Vec<Finding> = Vec::new();
    for input in &inputs {
        insight.feed(*input, &mut |finding| left.push(finding));
        assert!(
            insight
                .requests()
                .chain(insight.requests().rev())
                .all(|it| it.at.seq <= insight.position())
        );
    }
    assert!(left.is_empty());
}

#[test]
fn every_known_type_without_its_data_is_read() {
    let stream: Vec<_> = KnownType::ALL
        .iter()
        .zip(1..)
        .flat_map(|(known, seq)| {
            [json!({}), json!(null), json!([1]), json!("x")].into_iter().enumerate().map(move |(n, data)| {
                let envelope = json!({"seq": seq * 4 + n, "event": {"ts": seq, "type": known.as_str(),
                    "category": known.category(), "data": data}});
                Owned::Event(serde_json::from_value(envelope).unwrap())
            })
        })
        .collect();
    check(&stream);
}

#[test]
fn unknown_types_are_moments_and_nothing_else() {
    let envelope = json!({"seq": 1, "event": {"ts": 1, "type": "checkout_done", "category": Category::Page,
        "data": {"total": 12.5}}});
    let stream = [Owned::Event(serde_json::from_value(envelope).unwrap())];
    let inputs: Vec<_> = stream.iter().map(Owned::as_input).collect();
    let found = everything(&inputs, Options::default());
    assert_eq!(found, Found::default());
    check(&stream);
}

/// What a bundle holds is what was fed and found, in HTML without any `<`.
#[test]
fn a_bundle_has_the_events_and_what_they_were_joined_to() {
    let events = recording("tour.ndjson");
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    let bundle = |in_html: bool, sanitizer: Sanitizer| {
        let mut bundle = match in_html {
            true => BundleWriter::in_html(Vec::new(), "a \"name\"", sanitizer).unwrap(),
            false => BundleWriter::new(Vec::new(), "a \"name\"", sanitizer).unwrap(),
        };
        for input in &inputs {
            bundle.feed(*input).unwrap();
        }
        let (file, tally) = bundle.finish().unwrap();
        assert_eq!(tally.events, events.len() as u64);
        String::from_utf8(file).unwrap()
    };
    let plain = bundle(false, Sanitizer::off());
    let value: Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(value["name"], "a \"name\"");
    let found = everything(&inputs, Options::default());
    for (envelope, written) in events.iter().zip(value["events"].as_array().unwrap()) {
        assert_eq!(*written, serde_json::to_value(envelope).unwrap());
    }
    let seqs = |name: &str| -> Vec<u64> {
        let items = value[name].as_array().unwrap();
        items.iter().map(|it| it["seq"].as_u64().unwrap()).collect()
    };
    let expected: Vec<_> = found.requests.iter().map(|it| it.at.seq).collect();
    assert_eq!(seqs("requests"), expected);
    assert_eq!(seqs("navigations").len(), found.navigations.len());
    assert_eq!(seqs("problems").len(), found.problems.len());

    let html = bundle(true, Sanitizer::off());
    assert!(plain.contains('<') && !html.contains('<'));
    assert_eq!(serde_json::from_str::<Value>(&html).unwrap(), value);
    let sanitized: Value = serde_json::from_str(&bundle(true, Sanitizer::default())).unwrap();
    assert_eq!(sanitized["events"].as_array().unwrap().len(), events.len());
}
