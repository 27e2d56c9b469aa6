//! Reading payloads leniently, and writing them back without a loss: [`Rest`] and [`Read`].
//!
//! A payload is read field by field, and then compared with the JSON that it came from. What its fields
//! cannot hold is kept in its [`Rest`]: keys that it does not have, nulls, header values that are no text,
//! the name of an unknown kind. Written back, the JSON is the same again, except for fields that were
//! changed in between. A payload that a producer made has an empty rest, which costs nothing to write.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap;
use serde_json::{Error, Map, Value};

type Object = Map<String, Value>;

/// What the JSON of a payload has beyond the payload's fields.
///
/// Empty in a payload that was made and not read: write `rest: Rest::default()`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Rest(Option<Box<Difference>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    /// The parts of the JSON that no field holds. Within objects, only their parts.
    kept: Object,
    /// What the fields write in the place of those parts, or where there was nothing: a field that was absent
    /// is written with its default.
    replaced: Object,
}

impl Rest {
    /// Whether the fields hold all of the JSON, and no more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The part of the JSON under that key, where no field holds it: the value of an unknown key, or the
    /// value as it was sent where a field holds only something like it.
    ///
    /// ```
    /// use tapline_oapi::data::{EventData, TargetType};
    /// use tapline_oapi::KnownType;
    ///
    /// let json = r#"{"target_type":"auction_worklet","speed":3}"#;
    /// let EventData::NetworkIdle(idle) = EventData::parse(KnownType::NetworkIdle, json)? else { panic!() };
    /// assert_eq!(idle.context.target_type, Some(TargetType::Other));
    /// assert_eq!(idle.context.rest.get("target_type").unwrap(), "auction_worklet");
    /// assert_eq!(idle.context.rest.get("speed").unwrap(), 3);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.as_ref()?.kept.get(key)
    }

    /// What `before` has beyond `after`, which the fields write.
    pub(crate) fn between(before: Object, after: Object) -> Self {
        let difference = Difference::between(before, after);
        Self((!difference.is_empty()).then(|| Box::new(difference)))
    }

    /// Puts the rest into what the fields have written. A field that was changed since it was read wins.
    pub(crate) fn apply(&self, written: &mut Object) {
        if let Some(difference) = &self.0 {
            apply(written, &difference.kept, &difference.replaced);
        }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.iter().flat_map(|difference| &difference.kept);
        f.debug_map().entries(kept).finish()
    }
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.replaced.is_empty()
    }

    fn between(before: Object, mut after: Object) -> Self {
        let mut kept = Object::new();
        let mut replaced = Object::new();
        for (key, before) in before {
            match (before, after.remove(&key)) {
                (before, Some(after)) if before == after => {}
                (Value::Object(before), Some(Value::Object(after))) => {
                    let within = Self::between(before, after);
                    // Also where it is empty: that there was an object is a part, too.
                    kept.insert(key.clone(), within.kept.into());
                    replaced.insert(key, within.replaced.into());
                }
                (before, after) => {
                    if let Some(after) = after {
                        replaced.insert(key.clone(), after);
                    }
                    kept.insert(key, before);
                }
            }
        }
        replaced.extend(after);
        Self { kept, replaced }
    }
}

fn apply(written: &mut Object, kept: &Object, replaced: &Object) {
    for (key, replaced) in replaced {
        match (written.get_mut(key), kept.get(key), replaced) {
            (Some(Value::Object(written)), Some(Value::Object(kept)), Value::Object(replaced)) => {
                apply(written, kept, replaced);
            }
            (Some(current), Some(kept), _) if current == replaced => *current = kept.clone(),
            (Some(current), None, _) if current == replaced => {
                written.remove(key);
            }
            // The field was changed.
            _ => {}
        }
    }
    for (key, kept) in kept {
        if !replaced.contains_key(key) && !written.contains_key(key) {
            written.insert(key.clone(), kept.clone());
        }
    }
}

/// The part that all payloads of a kind share: the context of the browser's, or only the rest.
pub(crate) trait Base: Sized {
    fn read(object: &Object) -> Result<Self, Error>;
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
    fn rest(&self) -> &Rest;
    fn rest_mut(&mut self) -> &mut Rest;
}

impl Base for Rest {
    fn read(_: &Object) -> Result<Self, Error> {
        Ok(Self::default())
    }

    fn write<M: SerializeMap>(&self, _: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    fn rest(&self) -> &Rest {
        self
    }

    fn rest_mut(&mut self) -> &mut Rest {
        self
    }
}

/// Reads a field's value. What it cannot hold is no error where a value of that kind can be read: the rest
/// has it.
pub(crate) trait Read: Sized {
    fn read(value: &Value) -> Result<Self, Error>;
}

/// A field that may be absent or null, and has its default then.
pub(crate) fn lenient<T: Read + Default>(object: &Object, key: &str) -> Result<T, Error> {
    optional(object, key).map(Option::unwrap_or_default)
}

/// A field that has to be there.
pub(crate) fn required<T: Read>(object: &Object, key: &str) -> Result<T, Error> {
    let missing = || Error::custom(format_args!("field `{key}`: missing"));
    optional(object, key)?.ok_or_else(missing)
}

/// A field that may be absent or null.
pub(crate) fn optional<T: Read>(object: &Object, key: &str) -> Result<Option<T>, Error> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::read(value)
            .map(Some)
            .map_err(|error| Error::custom(format_args!("field `{key}`: {error}"))),
    }
}

/// Reads with the type's own `Deserialize`.
pub(crate) fn exactly<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value)
}

/// What is no text becomes its JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

macro_rules! read_exactly {
    ($($type:ty)*) => { $(
        impl Read for $type {
            fn read(value: &Value) -> Result<Self, Error> {
                exactly(value)
            }
        }
    )* };
}
read_exactly! { String bool f64 }

macro_rules! read_integer {
    ($($type:ty)*) => { $(
        /// The nearest integer of a number that is none, or is out of range.
        impl Read for $type {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "the cast saturates, and the rest has the number itself"
            )]
            fn read(value: &Value) -> Result<Self, Error> {
                match value {
                    Value::Number(number) => Ok(exactly(value).unwrap_or_else(|_| {
                        number.as_f64().unwrap_or_default().round() as $type
                    })),
                    _ => exactly(value),
                }
            }
        }
    )* };
}
read_integer! { u32 u64 i64 }

impl Read for Vec<String> {
    fn read(value: &Value) -> Result<Self, Error> {
        Ok(match value {
            Value::Array(values) => values.iter().map(text).collect(),
            _ => exactly(value)?,
        })
    }
}

impl Read for BTreeMap<String, String> {
    fn read(value: &Value) -> Result<Self, Error> {
        let Value::Object(fields) = value else {
            return exactly(value);
        };
        let own = |(key, value): (&String, &Value)| (key.clone(), text(value));
        Ok(fields.iter().map(own).collect())
    }
}

impl<T: Read> Read for Box<T> {
    fn read(value: &Value) -> Result<Self, Error> {
        T::read(value).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        serde_json::from_str(json).unwrap()
    }

    #[track_caller]
    fn check(before: &str, after: &str, changed: &str, expected: &str) {
        let rest = Rest::between(object(before), object(after));
        let mut written = object(after);
        rest.apply(&mut written);
        assert_eq!(written, object(before), "nothing was changed");
        let mut written = object(changed);
        rest.apply(&mut written);
        assert_eq!(written, object(expected));
    }

    #[test]
    fn what_was_read_is_written_again_and_what_was_changed_wins() {
        check(
            r#"{"a":1,"new":[1]}"#,
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":2,"new":[1]}"#,
        );
        // A default for an absent field, and a null.
        check(
            r#"{"n":null}"#,
            r#"{"n":"","t":""}"#,
            r#"{"n":"","t":"x"}"#,
            r#"{"n":null,"t":"x"}"#,
        );
        // A kind that is only known as another one.
        check(
            r#"{"k":"webview"}"#,
            r#"{"k":"other"}"#,
            r#"{"k":"page"}"#,
            r#"{"k":"page"}"#,
        );
        // A field that was removed stays removed, with its rest.
        check(
            r#"{"o":{"a":1,"new":2}}"#,
            r#"{"o":{"a":1,"b":0}}"#,
            r#"{}"#,
            r#"{}"#,
        );
        check(
            r#"{"o":{"a":1.5,"new":2,"deep":{"x":null}}}"#,
            r#"{"o":{"a":2,"b":0,"deep":{"y":0}}}"#,
            r#"{"o":{"a":2,"b":3,"deep":{"y":0}}}"#,
            r#"{"o":{"a":1.5,"b":3,"new":2,"deep":{"x":null}}}"#,
        );
        check(
            r#"{"o":{}}"#,
            r#"{"o":{"b":0}}"#,
            r#"{"o":{"b":1}}"#,
            r#"{"o":{"b":1}}"#,
        );
        check(
            r#"{"l":[{"a":1,"new":1}]}"#,
            r#"{"l":[{"a":1}]}"#,
            r#"{"l":[{"a":2}]}"#,
            r#"{"l":[{"a":2}]}"#,
        );
    }

    #[test]
    fn a_payload_that_holds_everything_has_no_rest() {
        let rest = Rest::between(object(r#"{"a":{"b":1}}"#), object(r#"{"a":{"b":1}}"#));
        assert!(rest.is_empty());
        assert_eq!(rest.get("a"), None);
    }
}
