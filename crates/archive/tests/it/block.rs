//! The block by itself, as other crates use it.

use tapline_api::{Filter, SharedEnvelope};
use tapline_archive::block::{BadBlock, BlockBuilder, DecodedBlock, Meta};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{Category, CategorySet, Event};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

fn json_of(envelopes: impl Iterator<Item = SharedEnvelope>) -> Vec<String> {
    envelopes.map(|it| it.json().to_string()).collect()
}

#[test]
fn a_block_gives_back_its_events_and_gaps() {
    let session = TelemetrySession::new(EventStream::new(Retention::default()).unwrap());
    session.start("shop", TelemetryConfig::default()).unwrap();
    let mut builder = BlockBuilder::new();
    let mut published = Vec::new();
    builder.push_gap(1..=1);
    session
        .publish(Event::custom("first", Category::Control, None).unwrap())
        .unwrap();
    for (name, category) in [
        ("step", Category::Control),
        ("seen", Category::Page),
        ("step", Category::Control),
    ] {
        let event = Event::custom(name, category, None).unwrap();
        let envelope = session.publish(event).unwrap();
        assert!(builder.is_continued_by(envelope.seq()));
        let event = envelope.event();
        let (seq, ts) = (envelope.seq(), envelope.ts());
        builder.push(seq, ts, event.category, &event.event_type, envelope.json());
        published.push(envelope.json().to_string());
    }
    assert!(!builder.is_continued_by(6));
    let epoch = session.stream().epoch();
    let mut bytes = Vec::new();
    let meta = builder.finish(epoch, 0, 7, &mut bytes).unwrap();
    assert_eq!((meta.first, meta.last, meta.count), (1, 4, 3));
    assert_eq!(meta.gaps, [1..=1]);
    assert_eq!(
        meta.categories(),
        CategorySet::of(&[Category::Control, Category::Page])
    );
    assert_eq!(builder.finish(epoch, 4, 7, &mut Vec::new()), None);

    assert_eq!(Meta::read(&bytes), Ok(meta.clone()));
    let block = DecodedBlock::decode(&bytes).unwrap();
    assert_eq!(*block.meta(), meta);
    let all = Filter::all();
    assert_eq!(json_of(block.events(1..=u64::MAX, &all)), published);
    assert_eq!(json_of(block.events(3..=3, &all)), published[1..2]);
    assert_eq!(json_of(block.events(1..=4, &all).rev())[0], published[2]);
    let control = Filter::categories(CategorySet::of(&[Category::Control]));
    assert_eq!(json_of(block.events(1..=4, &control)).len(), 2);

    let torn = &bytes[..bytes.len() - 1];
    assert_eq!(Meta::read(torn), Err(BadBlock::Torn));
    assert_eq!(DecodedBlock::decode(torn).unwrap_err(), BadBlock::Torn);
    bytes.push(0);
    assert_eq!(DecodedBlock::decode(&bytes).unwrap_err(), BadBlock::Damaged);
}
