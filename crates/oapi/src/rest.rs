//! Reading payloads leniently, and writing them back without a loss: [`Rest`] and [`Read`].
//!
//! A payload is read key by key ([`Reading`]). Each value becomes a field, and what the field cannot hold is kept in
//! the payload's [`Rest`]: keys that it does not have, nulls, header values that are no text, the name of an
//! unknown kind. Written back, the JSON is the same again, except for fields that were
//! changed in between. A payload that a producer made has an empty rest, which costs nothing to write.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Error, Map, Value};

type Object = Map<String, Value>;

/// What the JSON of a payload has beyond the payload's fields.
///
/// Empty in a payload that was made and not read: write `rest: Rest::default()`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Rest(Option<Box<Difference>>);

/// What the JSON of an object has beyond the fields that it was read into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Difference {
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

impl From<Difference> for Rest {
    fn from(difference: Difference) -> Self {
        Self((!difference.is_empty()).then(|| Box::new(difference)))
    }
}

impl Difference {
    /// The text under a key that is called `field` now, where that is absent. It is to be put into the field.
    pub(crate) fn renamed(&mut self, key: &str, field: &str) -> Option<String> {
        let absent = self.replaced.get_mut(field)?;
        let text = self.kept.get(key)?.as_str()?.to_owned();
        *absent = text.clone().into();
        Some(text)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.replaced.is_empty()
    }
}

/// What is read from an object, key by key.
pub(crate) trait Payload: Default {
    /// Reads the value of that key into its field. False, and nothing is read, where there is no such field.
    fn take<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        reading: &mut Reading,
    ) -> Result<bool, A::Error>;

    /// All keys were read.
    fn finish(&self, reading: &mut Reading) -> Result<(), Error>;
}

/// The part that all payloads of a kind share: the context of the browser's, or only the rest.
pub(crate) trait Base: Payload {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
    fn rest(&self) -> &Rest;
    fn rest_mut(&mut self) -> &mut Rest;
}

impl Payload for Rest {
    fn take<'de, A: MapAccess<'de>>(
        &mut self,
        _: &str,
        _: &mut A,
        _: &mut Reading,
    ) -> Result<bool, A::Error> {
        Ok(false)
    }

    fn finish(&self, _: &mut Reading) -> Result<(), Error> {
        Ok(())
    }
}

impl Base for Rest {
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

/// An object that is being read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    difference: Difference,
    /// The fields that have a value.
    found: Vec<&'static str>,
}

impl Reading {
    /// Reads a field. `None` for a null.
    pub(crate) fn field<'de, T: Read, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
    ) -> Result<Option<T>, A::Error> {
        let held = map.next_value_seed(Field(PhantomData));
        let held = held.map_err(|error| A::Error::custom(of_field(key, &error)))?;
        let Difference { kept, replaced } = &mut self.difference;
        // Of a key that is there twice, the last value counts.
        if !kept.is_empty() {
            kept.remove(key);
            replaced.remove(key);
        }
        let Some(held) = held else {
            self.found.retain(|it| *it != key);
            kept.insert(key.to_owned(), Value::Null);
            return Ok(None);
        };
        self.found.push(key);
        if let Some(part) = held.beyond {
            kept.insert(key.to_owned(), part.kept);
            replaced.insert(key.to_owned(), part.replaced);
        }
        Ok(Some(held.value))
    }

    /// A field that is always written, whether it had a value or not.
    pub(crate) fn always<T: Serialize>(
        &mut self,
        key: &'static str,
        field: &T,
    ) -> Result<(), Error> {
        if !self.found.contains(&key) {
            let written = serde_json::to_value(field)?;
            self.difference.replaced.insert(key.to_owned(), written);
        }
        Ok(())
    }

    /// A field that has to have a value.
    pub(crate) fn required(&self, key: &'static str) -> Result<(), Error> {
        match self.found.contains(&key) {
            true => Ok(()),
            false => Err(Error::custom(of_field(key, &"missing"))),
        }
    }
}

/// Reads a payload from an object, with what its fields do not hold.
pub(crate) fn read_payload<'de, T: Payload, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(T, Difference), D::Error> {
    let read = deserializer.deserialize_map(Fields(PhantomData))?;
    read.ok_or_else(|| D::Error::invalid_type(Unexpected::Unit, &"a map"))
}

/// The same within another payload, where a null is none.
pub(crate) fn read_nested<'de, T: Payload, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Held<T>>, D::Error> {
    let read = deserializer.deserialize_any(Fields(PhantomData))?;
    Ok(read.map(|(payload, difference)| Held::but(payload, difference)))
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Payload> Visitor<'de> for Fields<T> {
    type Value = Option<(T, Difference)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut payload = T::default();
        let mut reading = Reading::default();
        while let Some(Text(key)) = map.next_key()? {
            if !payload.take(&key, &mut map, &mut reading)? {
                let unknown = map.next_value()?;
                reading.difference.kept.insert(key.into_owned(), unknown);
            }
        }
        payload.finish(&mut reading).map_err(A::Error::custom)?;
        Ok(Some((payload, reading.difference)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A text, without a copy where the JSON has it as it is.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;

        impl<'de> Visitor<'de> for AnyText {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }

        deserializer.deserialize_str(AnyText)
    }
}

/// The value of a field, and what of its JSON that does not hold.
pub(crate) struct Held<T> {
    value: T,
    beyond: Option<Beyond>,
}

struct Beyond {
    kept: Value,
    replaced: Value,
}

impl<T> Held<T> {
    /// It holds all of it.
    pub(crate) const fn all(value: T) -> Self {
        Self {
            value,
            beyond: None,
        }
    }

    /// It is written as something else than what it was read from.
    pub(crate) fn like(value: T, json: Value) -> Result<Self, Error>
    where
        T: Serialize,
    {
        let replaced = serde_json::to_value(&value)?;
        Ok(Self {
            value,
            beyond: Some(Beyond {
                kept: json,
                replaced,
            }),
        })
    }

    /// An object, of which it holds all but this.
    pub(crate) fn but(value: T, difference: Difference) -> Self {
        let beyond = (!difference.is_empty()).then(|| Beyond {
            kept: difference.kept.into(),
            replaced: difference.replaced.into(),
        });
        Self { value, beyond }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Held<U> {
        Held {
            value: change(self.value),
            beyond: self.beyond,
        }
    }
}

/// Reads a field's value. What it cannot hold is no error where a value of that kind can be read: the rest
/// has it.
pub(crate) trait Read: Sized {
    /// `None` for a null.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error>;
}

struct Field<T>(PhantomData<T>);

impl<'de, T: Read> DeserializeSeed<'de> for Field<T> {
    type Value = Option<Held<T>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        T::read(deserializer)
    }
}

/// Reads with the type's own `Deserialize`, and compares what it writes.
fn compared<T: DeserializeOwned + Serialize>(value: Value) -> Result<Held<T>, Error> {
    let read = T::deserialize(&value)?;
    match serde_json::to_value(&read)? == value {
        true => Ok(Held::all(read)),
        false => Held::like(read, value),
    }
}

/// What is wrong with a field.
pub(crate) fn of_field(key: &str, error: &impl fmt::Display) -> String {
    format!("field `{key}`: {error}")
}

impl Read for String {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let text = Option::deserialize(deserializer)?;
        Ok(text.map(Held::all))
    }
}

impl Read for bool {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let bool = Option::deserialize(deserializer)?;
        Ok(bool.map(Held::all))
    }
}

impl Read for f64 {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let Some(value) = Option::<Value>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let held = match &value {
            Value::Number(number) if number.is_f64() => {
                Ok(Held::all(number.as_f64().unwrap_or_default()))
            }
            _ => compared(value),
        };
        held.map(Some).map_err(D::Error::custom)
    }
}

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
            fn read<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Held<Self>>, D::Error> {
                let Some(value) = Option::<Value>::deserialize(deserializer)? else {
                    return Ok(None);
                };
                let held = match (&value, Self::deserialize(&value)) {
                    (_, Ok(integer)) => Ok(Held::all(integer)),
                    (Value::Number(number), Err(_)) => {
                        let nearest = number.as_f64().unwrap_or_default().round() as $type;
                        Held::like(nearest, value)
                    }
                    (_, Err(error)) => Err(error),
                };
                held.map(Some).map_err(D::Error::custom)
            }
        }
    )* };
}
read_integer! { u32 u64 i64 }

impl Read for Vec<String> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let Some(values) = Option::<Vec<Value>>::deserialize(deserializer)? else {
            return Ok(None);
        };
        if values.iter().all(Value::is_string) {
            return Ok(Some(Held::all(values.into_iter().map(text).collect())));
        }
        let texts = values.iter().cloned().map(text).collect();
        let held = Held::like(texts, values.into()).map_err(D::Error::custom)?;
        Ok(Some(held))
    }
}

impl Read for BTreeMap<String, String> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Option<Held<BTreeMap<String, String>>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut texts = BTreeMap::new();
                let mut difference = Difference::default();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    let Difference { kept, replaced } = &mut difference;
                    // Of a key that is there twice, the last value counts.
                    if !kept.is_empty() {
                        kept.remove(&key);
                        replaced.remove(&key);
                    }
                    if !value.is_string() {
                        kept.insert(key.clone(), value.clone());
                        replaced.insert(key.clone(), value.to_string().into());
                    }
                    texts.insert(key, text(value));
                }
                Ok(Some(Held::but(texts, difference)))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

/// Reads a list of payloads, each of which `amend` may change before it is compared. A list is kept as a whole where one
/// payload does not hold all of its JSON.
pub(crate) fn read_list<'de, T: Payload + Serialize, D: Deserializer<'de>>(
    deserializer: D,
    amend: impl Fn(&mut T, &mut Difference),
) -> Result<Option<Held<Vec<T>>>, D::Error> {
    struct Element<T>(T, Difference);

    impl<'de, T: Payload> Deserialize<'de> for Element<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (payload, difference) = read_payload(deserializer)?;
            Ok(Self(payload, difference))
        }
    }

    let Some(elements) = Option::<Vec<Element<T>>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if elements.iter().all(|Element(_, beyond)| beyond.is_empty()) {
        let payloads = elements.into_iter().map(|Element(payload, _)| payload);
        return Ok(Some(Held::all(payloads.collect())));
    }
    let (mut payloads, mut json) = (Vec::new(), Vec::new());
    for Element(mut payload, mut beyond) in elements {
        amend(&mut payload, &mut beyond);
        let mut written = serde_json::to_value(&payload).map_err(D::Error::custom)?;
        if let Value::Object(written) = &mut written {
            apply(written, &beyond.kept, &beyond.replaced);
        }
        json.push(written);
        payloads.push(payload);
    }
    let held = Held::like(payloads, json.into()).map_err(D::Error::custom)?;
    Ok(Some(held))
}

impl<T: Read> Read for Box<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let held = T::read(deserializer)?;
        Ok(held.map(|held| held.map(Self::new)))
    }
}

/// What is no text becomes its JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rest {
        fn between(before: Object, after: Object) -> Self {
            Difference::between(before, after).into()
        }
    }

    /// What a payload keeps, from what it was read from and what its fields write.
    impl Difference {
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
