//! A line for each event, as the caller wrote it: `{time} {data.url}`.

use std::str::FromStr;

use serde_json::Value;
use tapline_insight::{one_line, summary};
use tapline_oapi::Envelope;

use crate::figures::Clock;

/// The longest text of a field, in characters.
const MAX_CHARS: usize = 2_000;

/// Text, and fields of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Time,
    Seq,
    Summary,
    /// A path in the event, such as `data.url`.
    Field(Vec<String>),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, Self::Err> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.next_if_eq(&c).is_some() => text.push(c),
                '}' => return Err("a `}` without its `{`; write `}}` for a brace".to_owned()),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(c) => name.push(c),
                            None => return Err(format!("`{{{name}` has no `}}`")),
                        }
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(field(&name)?);
                }
                '\\' if chars.next_if_eq(&'t').is_some() => text.push('\t'),
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }
}

fn field(name: &str) -> Result<Part, String> {
    Ok(match name {
        "time" => Part::Time,
        "seq" => Part::Seq,
        "text" => Part::Summary,
        "ts" | "category" | "type" => Part::Field(vec![name.to_owned()]),
        _ => {
            let path: Vec<_> = name.split('.').map(str::to_owned).collect();
            let is_known = matches!(path[0].as_str(), "data" | "source");
            if !is_known || path.iter().any(String::is_empty) {
                return Err(format!(
                    "`{{{name}}}` is no field; there are time, seq, category, type, text, ts, data and source, and \
                     fields within the last two, such as data.url"
                ));
            }
            Part::Field(path)
        }
    })
}

impl Template {
    /// The line of an event, without a line break. A field that the event does not have is empty.
    pub(crate) fn fill(&self, envelope: &Envelope, clock: &Clock) -> String {
        let event = &envelope.event;
        let mut whole = None;
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Time => line.push_str(&clock.of_day(event.ts)),
                Part::Seq => line.push_str(&envelope.seq.to_string()),
                Part::Summary => line.push_str(&one_line(&summary(event).text, MAX_CHARS)),
                Part::Field(path) => {
                    let whole = whole
                        .get_or_insert_with(|| serde_json::to_value(event).unwrap_or_default());
                    let value = path
                        .iter()
                        .try_fold(&*whole, |value, name| value.get(name.as_str()));
                    line.push_str(&match value {
                        None | Some(Value::Null) => String::new(),
                        Some(Value::String(text)) => one_line(text, MAX_CHARS),
                        Some(value) => one_line(&value.to_string(), MAX_CHARS),
                    });
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn filled(template: &str) -> String {
        let envelope = serde_json::from_str(
            r#"{"seq":7,"event":{"ts":1795349358721694,"type":"network_response","category":"network","source":{"kind":"cdp","metadata":{}},"data":{"request_id":"1","method":"GET","status":404,"headers":{"a":"b"},"url":"http://h/\u001b[2J\n"}}}"#,
        );
        let template: Template = template.parse().unwrap();
        template.fill(&envelope.unwrap(), &Clock::new(true))
    }

    #[test]
    fn fields_are_filled_in() {
        assert_eq!(
            filled("{time} {seq} {category}/{type}\\t{data.status} {data.url}"),
            "12:09:18.721 7 network/network_response\t404 http://h/ [2J"
        );
        assert_eq!(filled("{source.kind} {data.headers}"), r#"cdp {"a":"b"}"#);
        assert_eq!(filled("{{{seq}}} {data.nothing.here}."), "{7} .");
        assert_eq!(filled("{text}"), "404 GET http://h/ [2J");
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        for (template, part) in [
            ("{", "has no `}`"),
            ("}", "without its `{`"),
            ("{url}", "data.url"),
            ("{data.}", "no field"),
            ("{}", "no field"),
        ] {
            let error = template.parse::<Template>().unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
