//! Protobuf, written field by field: no message is built first.
//!
//! A nested message is written behind one byte for its length. Where the length needs more bytes, the message is moved
//! by these. Most are shorter than 128 bytes, so that this costs less than finding out the lengths before.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

pub(crate) fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    put_bytes(out, field, text.as_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// An integer, a boolean or a kind.
pub(crate) fn put_varint(out: &mut Vec<u8>, field: u32, value: u64) {
    encode_key(field, WireType::Varint, out);
    encode_varint(value, out);
}

/// An unsigned integer of fixed length, or the bits of a double.
pub(crate) fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    encode_key(field, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A message that `write` writes.
pub(crate) fn put_message<T>(
    out: &mut Vec<u8>,
    field: u32,
    write: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    encode_key(field, WireType::LengthDelimited, out);
    let start = out.len();
    out.push(0);
    let result = write(out);
    let length = out.len() - start - 1;
    if let Ok(short @ ..0x80) = u8::try_from(length) {
        out[start] = short;
        return result;
    }
    let more = encoded_len_varint(length as u64) - 1;
    out.resize(out.len() + more, 0);
    out.copy_within(start + 1..start + 1 + length, start + 1 + more);
    let mut place = &mut out[start..=start + more];
    encode_varint(length as u64, &mut place);
    result
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_message_has_its_length_before_it_whatever_that_is() {
        for length in [
            0, 1, 120, 121, 123, 124, 127, 128, 16_379, 16_380, 16_384, 3_000_000,
        ] {
            let text = "x".repeat(length);
            let mut out = b"before".to_vec();
            put_text(&mut out, 1, "key");
            put_message(&mut out, 2, |out| put_text(out, 1, &text));
            let expected = KeyValue {
                key: "key".to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue(text)),
                }),
                ..KeyValue::default()
            };
            assert_eq!(out[6..], expected.encode_to_vec(), "{length}");
        }
    }
}
