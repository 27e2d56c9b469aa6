//! The fields of a record or a span: [`Fields`].

use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::ops::Range;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tapline_insight::{REDACTED, Sanitizer, cut};
use tracing::field::{Field, Visit};

use crate::options::Limits;

/// How many bytes beyond the kept ones the rules for secrets see of a long text, so that one at the cut is not shown in half.
const MARGIN: usize = 1024;

/// What is at the end of a text that was cut.
const CUT: &str = "…";

/// Names and values. The texts are behind each other in one buffer, which is used again for the next record.
#[derive(Default)]
pub(crate) struct Fields {
    texts: String,
    values: Vec<(&'static str, Value)>,
    message: Option<Range<usize>>,
    /// The target that a record of the crate `log` names.
    log_target: Option<Range<usize>>,
    omitted: u64,
    is_cut: bool,
}

#[derive(Clone)]
enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Text(Range<usize>),
    Redacted,
}

/// What may be kept of a record, and what is a secret.
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) redaction: Sanitizer,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.values.clear();
        (self.message, self.log_target) = (None, None);
        (self.omitted, self.is_cut) = (0, false);
    }

    pub(crate) fn recorder<'a>(&'a mut self, rules: &'a Rules) -> Recorder<'a> {
        Recorder {
            fields: self,
            rules,
        }
    }

    pub(crate) fn message(&self) -> Option<&str> {
        Some(&self.texts[self.message.clone()?])
    }

    pub(crate) fn log_target(&self) -> Option<&str> {
        Some(&self.texts[self.log_target.clone()?])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many fields there are.
    pub(crate) fn len(&self) -> u64 {
        self.values.len() as u64
    }

    /// How many fields there were beyond the limit.
    pub(crate) const fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Whether something is missing.
    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut || 0 < self.omitted
    }

    /// Takes over what was recorded later. A field that is there already gets its new value.
    pub(crate) fn merge(&mut self, later: &Self, rules: &Rules) {
        for (name, value) in &later.values {
            let value = match value {
                Value::Text(range) => Value::Text(self.keep(&later.texts[range.clone()], rules)),
                other => other.clone(),
            };
            self.put(name, value, rules);
        }
        if let Some(message) = later.message() {
            self.message = Some(self.keep(message, rules));
        }
        self.omitted += later.omitted;
        self.is_cut |= later.is_cut;
    }

    /// Copies a text that is without secrets already.
    fn keep(&mut self, text: &str, rules: &Rules) -> Range<usize> {
        if rules.limits.event_bytes < self.texts.len() + text.len() {
            self.compact();
        }
        let start = self.texts.len();
        let kept = cut(text, rules.limits.event_bytes.saturating_sub(start));
        self.texts.push_str(kept);
        self.is_cut |= kept.len() < text.len();
        start..self.texts.len()
    }

    fn put(&mut self, name: &'static str, value: Value, rules: &Rules) {
        if let Some((_, old)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *old = value;
        } else if self.values.len() < rules.limits.fields {
            self.values.push((name, value));
        } else {
            self.omitted += 1;
        }
    }

    /// Copies the texts that are still used, and no others: a span's field can be recorded again and again.
    fn compact(&mut self) {
        let mut texts = String::new();
        let mut keep = |range: &mut Range<usize>| {
            let start = texts.len();
            texts.push_str(&self.texts[range.clone()]);
            *range = start..texts.len();
        };
        for (_, value) in &mut self.values {
            if let Value::Text(range) = value {
                keep(range);
            }
        }
        [&mut self.message, &mut self.log_target]
            .into_iter()
            .flatten()
            .for_each(keep);
        self.texts = texts;
    }
}

/// As a JSON object, without the message.
impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.values {
            match value {
                Value::Bool(it) => map.serialize_entry(name, it)?,
                Value::I64(it) => map.serialize_entry(name, it)?,
                Value::U64(it) => map.serialize_entry(name, it)?,
                Value::I128(it) => map.serialize_entry(name, it)?,
                Value::U128(it) => map.serialize_entry(name, it)?,
                // JSON has no such numbers: NaN, inf, -inf.
                Value::F64(it) if !it.is_finite() => {
                    map.serialize_entry(name, &format_args!("{it}"))?;
                }
                Value::F64(it) => map.serialize_entry(name, it)?,
                Value::Text(range) => map.serialize_entry(name, &self.texts[range.clone()])?,
                Value::Redacted => map.serialize_entry(name, REDACTED)?,
            }
        }
        map.end()
    }
}

/// Takes over the fields that `tracing` shows it.
pub(crate) struct Recorder<'a> {
    fields: &'a mut Fields,
    rules: &'a Rules,
}

impl Recorder<'_> {
    fn value(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match self.rules.redaction.is_secret_name(name) {
            true => self.put(name, Value::Redacted),
            false => self.put(name, value),
        }
    }

    /// A text, which is written by `write`, in all or until it is cut.
    fn text(&mut self, field: &Field, write: impl FnOnce(&mut Bounded<'_>)) {
        let name = field.name();
        if let Some(of_log) = name.strip_prefix("log.") {
            // The crate `log` has one statement for all; these fields say where a record is from.
            if of_log == "target" {
                self.fields.log_target = Some(self.write(write));
            }
        } else if name == "message" {
            self.fields.message = Some(self.write(write));
        } else if self.rules.redaction.is_secret_name(name) {
            // It is not even formatted.
            self.put(name, Value::Redacted);
        } else if self.fields.values.len() < self.rules.limits.fields || self.has(name) {
            let range = self.write(write);
            self.put(name, Value::Text(range));
        } else {
            self.fields.omitted += 1;
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut Bounded<'_>)) -> Range<usize> {
        let Limits {
            text_bytes,
            event_bytes,
            ..
        } = self.rules.limits;
        let texts = &mut self.fields.texts;
        let start = texts.len();
        let most = text_bytes.min(event_bytes.saturating_sub(start));
        let mut bounded = Bounded {
            end: start + most + MARGIN,
            texts,
        };
        write(&mut bounded);
        if let std::borrow::Cow::Owned(redacted) = self.rules.redaction.text(&texts[start..]) {
            texts.truncate(start);
            texts.push_str(&redacted);
        }
        if start + most < texts.len() {
            let end = cut(&texts[start..], most.saturating_sub(CUT.len())).len();
            texts.truncate(start + end);
            texts.push_str(CUT);
            self.fields.is_cut = true;
        }
        start..texts.len()
    }

    fn put(&mut self, name: &'static str, value: Value) {
        self.fields.put(name, value, self.rules);
    }

    fn has(&self, name: &str) -> bool {
        self.fields.values.iter().any(|(known, _)| *known == name)
    }
}

impl Visit for Recorder<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        // `log` sends its line number so.
        if !field.name().starts_with("log.") {
            self.value(field, Value::I64(value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.value(field, Value::U64(value));
        }
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.value(field, Value::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.value(field, Value::U128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| {
            let _ = text.write_str(value);
        });
    }

    /// An error and its causes, each behind a colon.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, |text| {
            let mut next = Some(value);
            let mut separator = "";
            while let Some(error) = next {
                if write!(text, "{separator}{error}").is_err() {
                    return;
                }
                (next, separator) = (error.source(), ": ");
            }
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, |text| {
            let _ = write!(text, "{value:?}");
        });
    }
}

/// Writes up to a limit. Beyond it, formatting ends with an error, so that a value of any size costs no more.
struct Bounded<'a> {
    texts: &'a mut String,
    end: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let space = self.end.saturating_sub(self.texts.len());
        if text.len() <= space {
            self.texts.push_str(text);
            return Ok(());
        }
        self.texts.push_str(cut(text, space));
        Err(fmt::Error)
    }
}
