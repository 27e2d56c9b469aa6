//! The event stream as its users see it.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod envelope;
mod limit;
mod loss;
mod reading;
mod resume;
mod narrowed;

use std::sync::Arc;

use tapline_events::{Envelope, EventStream, Item, Retention, Stamp};
use tapline_oapi::{Category, Event, KnownType, Source};

/// A stamp of the text that it holds.
#[derive(Debug, Clone, Default)]
struct TestStamp(Option<Arc<str>>);

impl Stamp for TestStamp {
    fn metadata(&self) -> Option<(&str, &str)> {
        self.0.as_deref().map(|value| ("stamp", value))
    }
}

fn stream<M: Stamp>(events: usize) -> EventStream<M> {
    EventStream::new(Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    })
    .unwrap()
}

fn append<M: Stamp>(stream: &EventStream<M>, event: Event) -> Envelope<M> {
    stream.append(event, |_| Ok::<_, ()>(())).unwrap()
}

/// A custom event of that category, whose type is `name`.
fn event(name: &str, category: Category) -> Event {
    Event::custom(name, category, None).unwrap().with_ts(1)
}

fn console() -> Event {
    Event::known(KnownType::ConsoleLog, None).with_source(Source::default())
}

fn seqs<M: Stamp>(items: &[Item<Envelope<M>>]) -> Vec<u64> {
    items
        .iter()
        .map(|item| match item {
            Item::Envelope(envelope) => envelope.seq(),
            Item::Lost(lost) => panic!("lost {lost:?}"),
        })
        .collect()
}
