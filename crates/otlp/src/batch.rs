//! Log records, encoded once, from which requests are cut.
//!
//! A request is a resource, a scope and a list of records. The bytes of the records do not depend on the request that
//! they are in, so that a batch that is too large for the other end is halved without encoding anything again.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tapline_api::{Progress, Settled, SinkError};

use crate::encode::put_message;

/// The numbers of the fields, in `ExportLogsServiceRequest` and what is in it.
mod field {
    pub(super) const RESOURCE_LOGS: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPE_LOGS: u32 = 2;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const LOG_RECORDS: u32 = 2;
}

/// What the records of every request are of.
#[derive(Debug)]
pub(crate) struct Frame {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Frame {
    /// With these attributes of the resource.
    pub(crate) fn new<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let attributes = attributes.into_iter().map(|(key, text)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(text.to_owned())),
            }),
            ..KeyValue::default()
        });
        let resource = Resource {
            attributes: attributes.collect(),
            ..Resource::default()
        };
        let scope = InstrumentationScope {
            name: "tapline".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        Self {
            resource: message(field::RESOURCE, &resource),
            scope: message(field::SCOPE, &scope),
        }
    }

    /// The most bytes of a request beside its records.
    pub(crate) fn overhead(&self) -> usize {
        self.resource.len() + self.scope.len() + 2 * (key_len(field::SCOPE_LOGS) + 5)
    }

    /// The request with these records, or with these spans: both have the same numbers of fields.
    pub(crate) fn request(&self, records: &[u8]) -> Bytes {
        let scope_logs = self.scope.len() + records.len();
        let resource_logs = self.resource.len() + prefix_len(scope_logs) + scope_logs;
        let mut request = BytesMut::with_capacity(prefix_len(resource_logs) + resource_logs);
        put_prefix(&mut request, field::RESOURCE_LOGS, resource_logs);
        request.put_slice(&self.resource);
        put_prefix(&mut request, field::SCOPE_LOGS, scope_logs);
        request.put_slice(&self.scope);
        request.put_slice(records);
        request.freeze()
    }
}

fn message(tag: u32, message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_message(&mut bytes, tag, |out| message.encode_raw(out));
    bytes
}

fn put_prefix(bytes: &mut BytesMut, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(length as u64, bytes);
}

/// All tags are below 16, so that a key is one byte.
fn prefix_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64)
}

/// What was read and is not settled, in the order of reading.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The field `log_records`, again and again.
    records: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    kind: Kind,
    /// Where its record ends in `records`. Where there is none, it begins there, too.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Excluded,
    Gap,
}

impl Batch {
    /// An event, whose record `write` writes.
    pub(crate) fn event(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        put_message(&mut self.records, field::LOG_RECORDS, write);
        self.push(Kind::Event);
    }

    pub(crate) fn excluded(&mut self) {
        self.push(Kind::Excluded);
    }

    /// A gap, whose record `write` writes.
    pub(crate) fn gap(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        put_message(&mut self.records, field::LOG_RECORDS, write);
        self.push(Kind::Gap);
    }

    fn push(&mut self, kind: Kind) {
        let end = self.records.len();
        self.items.push(Item { kind, end });
    }

    /// How many items it has, whether they are exported or not.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The bytes of its records.
    pub(crate) fn bytes(&self) -> usize {
        self.records.len()
    }

    /// The first part of `items` that is within both limits: at least one item.
    pub(crate) fn first_part(
        &self,
        items: Range<usize>,
        max_records: usize,
        max_bytes: usize,
    ) -> Range<usize> {
        let start = self.start(items.start);
        let mut records = 0;
        let fits = |item: &&Item| {
            records += usize::from(item.kind != Kind::Excluded);
            records <= max_records && item.end - start <= max_bytes
        };
        let count = self.items[items.clone()].iter().take_while(fits).count();
        items.start..items.start + count.max(1)
    }

    /// Two halves with the same number of records. `None` where there is but one.
    pub(crate) fn halves(&self, items: Range<usize>) -> Option<[Range<usize>; 2]> {
        let half = self.records_in(items.clone()) / 2;
        if half == 0 {
            return None;
        }
        let first = self.first_part(items.clone(), half, usize::MAX);
        let second = first.end..items.end;
        Some([first, second])
    }

    /// How many records they have.
    pub(crate) fn records_in(&self, items: Range<usize>) -> usize {
        let has_record = |item: &&Item| item.kind != Kind::Excluded;
        self.items[items].iter().filter(has_record).count()
    }

    /// The request that exports them.
    pub(crate) fn request(&self, frame: &Frame, items: Range<usize>) -> Bytes {
        let end = items.end.checked_sub(1).map_or(0, |n| self.items[n].end);
        frame.request(&self.records[self.start(items.start)..end])
    }

    /// Settles them: of the events the first so many as rejected, and the others as exported.
    pub(crate) fn settle(
        &self,
        items: Range<usize>,
        rejected: usize,
        progress: &Progress,
    ) -> Result<(), SinkError> {
        let mut left = rejected;
        let settled = self.items[items].iter().map(|item| match item.kind {
            Kind::Excluded => Settled::Excluded,
            Kind::Event if 0 < left => {
                left -= 1;
                Settled::Rejected
            }
            // What is said of a gap does not matter.
            Kind::Event | Kind::Gap => Settled::Exported,
        });
        let settled: Vec<_> = settled.collect();
        for run in settled.chunk_by(|a, b| a == b) {
            progress.settle(run[0], run.len()).map_err(SinkError::new)?;
        }
        Ok(())
    }

    fn start(&self, item: usize) -> usize {
        item.checked_sub(1).map_or(0, |n| self.items[n].end)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

    use super::*;
    use crate::encode::put_text;

    /// A record with that name.
    fn record(name: &str) -> impl FnOnce(&mut Vec<u8>) {
        let name = name.to_owned();
        move |out| put_text(out, 12, &name)
    }

    fn names(request: Bytes) -> Vec<String> {
        let request = ExportLogsServiceRequest::decode(request).unwrap();
        let [resource] = &request.resource_logs[..] else {
            panic!()
        };
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let shop = Some(Value::StringValue("shop".to_owned()));
        assert_eq!(attributes[0].key, "service.name");
        assert_eq!(attributes[0].value, Some(AnyValue { value: shop }));
        let [scope] = &resource.scope_logs[..] else {
            panic!()
        };
        assert_eq!(scope.scope.as_ref().unwrap().name, "tapline");
        scope
            .log_records
            .iter()
            .map(|it| it.event_name.clone())
            .collect()
    }

    fn batch() -> (Frame, Batch) {
        let frame = Frame::new([("service.name", "shop")]);
        let mut batch = Batch::default();
        batch.excluded();
        batch.event(record("a"));
        batch.gap(record("b"));
        batch.excluded();
        batch.event(record("c"));
        batch.event(record(&"d".repeat(300)));
        batch.excluded();
        (frame, batch)
    }

    #[test]
    fn a_request_has_the_records_of_its_items() {
        let (frame, batch) = batch();
        let long = "d".repeat(300);
        assert_eq!(names(batch.request(&frame, 0..7)), ["a", "b", "c", &long]);
        assert_eq!(names(batch.request(&frame, 2..5)), ["b", "c"]);
        assert_eq!(names(batch.request(&frame, 5..7)), [&*long]);
        assert_eq!(batch.records_in(0..7), 4);
        assert_eq!(batch.records_in(3..4), 0);
        let most = batch.bytes() + frame.overhead();
        assert!(batch.request(&frame, 0..7).len() <= most);
    }

    #[test]
    fn parts_keep_to_the_limits_and_make_progress() {
        let (_, batch) = batch();
        assert_eq!(batch.first_part(0..7, 2, usize::MAX), 0..4);
        assert_eq!(batch.first_part(4..7, 9, 100), 4..5);
        assert_eq!(batch.first_part(5..7, 9, 100), 5..6);
        assert_eq!(batch.first_part(0..7, 9, usize::MAX), 0..7);
    }

    #[test]
    fn halves_end_at_one_record() {
        let (_, batch) = batch();
        assert_eq!(batch.halves(0..7), Some([0..4, 4..7]));
        assert_eq!(batch.halves(4..7), Some([4..5, 5..7]));
        assert_eq!(batch.halves(5..7), None);
        assert_eq!(batch.halves(3..4), None);
    }
}
