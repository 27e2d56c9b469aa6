//! What is looked for in the JSON of events: [`Search`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::query::{self, QueryError};
use crate::text::Text;

/// What the JSON of an event must have, beyond its category and its type, which are known without it.
///
/// ```
/// use tapline_api::PageQuery;
///
/// let query = PageQuery::from_pairs([("status", "4xx"), ("target_id", "A1")])?;
/// let json = r#"{"seq":1,"event":{"type":"x","category":"network","data":{"target_id":"A1","status":404}}}"#;
/// assert!(query.search.is_in(json));
/// assert!(!query.search.is_in(&json.replace("404", "200")));
/// # Ok::<(), tapline_api::QueryError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    contains: Option<Text>,
    /// The tab, and the same as a text that is found without reading the JSON.
    target: Option<(Box<str>, Text)>,
    /// One of these; empty: any.
    status: Vec<Status>,
}

impl Search {
    /// Whether nothing is looked for: every event has it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contains.is_none() && self.target.is_none() && self.status.is_empty()
    }

    /// Whether the JSON of an envelope has all of it. Takes a time that grows with the length of the JSON: some 1 µs for
    /// 1,000 bytes, and twice as much where a tab or a status may be in it.
    #[must_use]
    pub fn is_in(&self, json: &str) -> bool {
        let has_text = |text: &Text| text.is_in(json);
        if !self.contains.as_ref().is_none_or(has_text) {
            return false;
        }
        let may_have_target = self
            .target
            .as_ref()
            .is_none_or(|(_, text)| text.is_in(json));
        let may_have_status =
            self.status.is_empty() || self.status.iter().any(|it| it.may_be_in(json));
        if !may_have_target || !may_have_status {
            return false;
        }
        if self.target.is_none() && self.status.is_empty() {
            return true;
        }
        let Ok(Envelope { event }) = serde_json::from_str::<Envelope<'_>>(json) else {
            return false;
        };
        // Data that is no object, or has something else under these names, has neither.
        let data = event.data.map(RawValue::get);
        let data: Data<'_> = data
            .and_then(|data| serde_json::from_str(data).ok())
            .unwrap_or_default();
        let is_of_target = self
            .target
            .as_ref()
            .is_none_or(|(id, _)| text_of(data.target_id).as_deref() == Some(id));
        is_of_target
            && (self.status.is_empty() || self.status.iter().any(|it| it.is_of(&event, &data)))
    }

    /// Takes a parameter of a query.
    pub(crate) fn read(&mut self, name: &str, text: &str) -> Result<(), QueryError> {
        match name {
            "contains" if self.contains.is_none() => self.contains = Some(Text::new(name, text)?),
            "target_id" if self.target.is_none() => {
                self.target = Some((text.into(), Text::new(name, text)?));
            }
            "status" => {
                query::add_values(&mut self.status, name, text, Status::parse, Status::KNOWN)?;
            }
            _ => return Err(QueryError::twice(name)),
        }
        Ok(())
    }
}

/// The statuses that a query asks for: one such as `404`, or a class such as `4xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPattern {
    /// This status, 100 to 999.
    Exactly(u32),
    /// The hundreds, 1 to 9.
    Class(u32),
}

impl StatusPattern {
    /// From three digits, or a digit and `xx`. `None` if it is neither.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word.as_bytes() {
            [class @ b'1'..=b'9', b'x', b'x'] => Some(Self::Class(u32::from(class - b'0'))),
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => word.parse().ok().map(Self::Exactly),
            _ => None,
        }
    }

    /// Whether the status is one of these. Producers may write it as any number.
    #[must_use]
    pub fn matches(self, status: f64) -> bool {
        match self {
            Self::Exactly(exactly) => status == f64::from(exactly),
            Self::Class(class) => (status / 100.0).floor() == f64::from(class),
        }
    }
}

/// What an event says about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Is(StatusPattern),
    /// A request failed.
    Failed,
    /// The browser refused a request by a rule.
    Blocked,
    /// An event of the network is a problem.
    Error,
}

impl Status {
    const KNOWN: &'static str =
        "a status such as `404`, a class such as `4xx`, or one of `failed`, `blocked` and `error`";

    fn parse(word: &str) -> Option<Self> {
        match word {
            "failed" => Some(Self::Failed),
            "blocked" => Some(Self::Blocked),
            "error" => Some(Self::Error),
            _ => StatusPattern::parse(word).map(Self::Is),
        }
    }

    /// Whether it is worth reading the JSON.
    fn may_be_in(self, json: &str) -> bool {
        let has = |word: &str| memchr::memmem::find(json.as_bytes(), word.as_bytes()).is_some();
        match self {
            Self::Is(_) => has("\"status\""),
            Self::Failed => has("network_loading_failed"),
            Self::Blocked => has("\"blocked_reason\"") || has("\"cors_error\""),
            Self::Error => has("\"network\""),
        }
    }

    fn is_of(self, event: &Event<'_>, data: &Data<'_>) -> bool {
        let status = data.status.and_then(|it| it.get().parse::<f64>().ok());
        let is_failure = event.event_type == "network_loading_failed";
        match self {
            Self::Is(pattern) => status.is_some_and(|it| pattern.matches(it)),
            Self::Failed => is_failure,
            Self::Blocked => {
                let is_there =
                    |reason: Option<&RawValue>| text_of(reason).is_some_and(|it| !it.is_empty());
                is_there(data.blocked_reason) || is_there(data.cors_error)
            }
            Self::Error => {
                let is_problem = is_failure
                    || event.event_type == "proxy_error"
                    || status.is_some_and(|it| 400.0 <= it);
                event.category == "network" && is_problem
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    category: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow)]
    target_id: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    blocked_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    cors_error: Option<&'a RawValue>,
}

/// The value, if it is a text.
fn text_of(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pairs: &[(&str, &str)]) -> Result<Search, QueryError> {
        let mut search = Search::default();
        for (name, text) in pairs {
            search.read(name, text)?;
        }
        Ok(search)
    }

    fn event(event_type: &str, category: &str, data: &str) -> String {
        format!(
            r#"{{"seq":1,"event":{{"ts":1,"type":"{event_type}","category":"{category}","source":{{"kind":"cdp"}},"data":{data}}}}}"#
        )
    }

    #[test]
    fn a_status_is_that_of_the_data_and_nothing_else() {
        let answered = event(
            "network_response",
            "network",
            r#"{"status" : 404, "body":"\"status\":200"}"#,
        );
        for (status, is_found) in [
            ("404", true),
            ("4xx", true),
            ("200", false),
            ("5xx", false),
            ("500,404", true),
            ("error", true),
            ("failed", false),
            ("blocked", false),
        ] {
            let search = search(&[("status", status)]).unwrap();
            assert_eq!(search.is_in(&answered), is_found, "{status}");
        }
        let error = search(&[("status", "error")]).unwrap();
        assert!(
            !error.is_in(&event("api_call", "control", r#"{"status":500}"#)),
            "of the network only"
        );
        assert!(error.is_in(&event("network_loading_failed", "network", "{}")));
        let blocked = search(&[("status", "blocked")]).unwrap();
        assert!(blocked.is_in(&event(
            "network_loading_failed",
            "network",
            r#"{"cors_error":"Missing"}"#
        )));
        assert!(!blocked.is_in(&event(
            "network_loading_failed",
            "network",
            r#"{"cors_error":""}"#
        )));
        for data in [
            "[]",
            "7",
            "null",
            "\"status\"",
            r#"{"status":"404"}"#,
            r#"{"data":{"status":404}}"#,
        ] {
            let other = event("x", "page", data);
            assert!(
                !search(&[("status", "404")]).unwrap().is_in(&other),
                "{data}"
            );
        }
    }

    #[test]
    fn a_tab_is_that_of_the_data() {
        let tab = search(&[("target_id", "A\"1")]).unwrap();
        assert!(tab.is_in(&event("x", "page", r#"{"target_id":"A\"1"}"#)));
        assert!(!tab.is_in(&event(
            "x",
            "page",
            r#"{"other_id":"A\"1","target_id":"B"}"#
        )));
        assert!(
            !tab.is_in(&event("x", "page", r#"{"target_id":"a\"1"}"#)),
            "as it is written"
        );
        let both = search(&[("target_id", "A"), ("status", "404"), ("contains", "hello")]).unwrap();
        assert!(both.is_in(&event(
            "x",
            "page",
            r#"{"target_id":"A","status":404,"text":"Hello"}"#
        )));
        assert!(!both.is_in(&event("x", "page", r#"{"target_id":"A","status":404}"#)));
        assert!(search(&[]).unwrap().is_empty() && !both.is_empty());
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for wrong in ["", "40", "4040", "pending", "0xx", "404,"] {
            let error = search(&[("status", wrong)]).unwrap_err();
            assert!(
                error.message.contains("is not a status such as `404`"),
                "{error}"
            );
        }
        assert!(search(&[("target_id", "")]).is_err());
        assert!(search(&[("contains", "a"), ("contains", "b")]).is_err());
        assert!(search(&[("status", &vec!["404"; 101].join(","))]).is_err());
    }
}
