//! Answers within a number of bytes.
//!
//! What counts is the text that the agent reads, as UTF-8. The protocol adds some 150 bytes around it, and a backslash before each
//! line break and quote.

use std::ops::Range;

use serde_json::{Map, Value};
use tapline_insight::one_line;

/// The least that an answer may be limited to, in bytes: what was left out has to fit.
pub(super) const LEAST: u64 = 1_000;
/// The limit where the agent sets none: some 2,500 tokens.
pub(super) const DEFAULT: u64 = 8_192;
/// The most that an agent can ask for.
pub(super) const MOST: u64 = 100_000;

/// Ends a text that had to be cut.
const CUT: &str = "… [cut: ask for more with max_bytes]\n";

/// How many cut values are named below a JSON text.
const NAMED_CUTS: usize = 4;

/// Which items of a list matter most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    First,
    Last,
}

/// `head`, as many of the `items` as fit into `most` bytes, and what `rest` says about the range of those that are shown.
/// Items end with a line break, as do `head` and what `rest` says.
pub(super) fn list(
    most: usize,
    head: &str,
    items: &[String],
    keep: Keep,
    rest: impl Fn(Range<usize>) -> String,
) -> String {
    // The first that is too many ends the search: only those before it are looked at.
    let shown = |count: usize| match keep {
        Keep::First => 0..count,
        Keep::Last => items.len() - count..items.len(),
    };
    let size = |range: Range<usize>| items[range].iter().map(String::len).sum::<usize>();
    let all = rest(shown(items.len()));
    if head.len() + size(shown(items.len())) + all.len() <= most {
        return [head, &items.concat(), &all].concat();
    }
    let (mut count, mut bytes) = (0, head.len());
    while count < items.len() {
        let next = match keep {
            Keep::First => &items[count],
            Keep::Last => &items[items.len() - count - 1],
        };
        bytes += next.len();
        if most < bytes + rest(shown(count + 1)).len() {
            break;
        }
        count += 1;
    }
    // One that is larger than the answer is shown in part.
    let part = match (count, keep) {
        (0, Keep::First) => items.first(),
        (0, Keep::Last) => items.last(),
        _ => None,
    };
    if let Some(item) = part {
        let rest = rest(shown(1));
        let space = most.saturating_sub(head.len() + rest.len());
        return cut([head, &cut(item.clone(), space), &rest].concat(), most);
    }
    let range = shown(count);
    let rest = rest(range.clone());
    cut([head, &items[range].concat(), &rest].concat(), most)
}

/// `text` in at most `most` bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let mark = if CUT.len() <= most { CUT } else { "" };
    text.truncate(boundary(&text, most - mark.len()));
    text + mark
}

/// The last place up to this byte where a character begins, or the end of the text.
fn boundary(text: &str, at: usize) -> usize {
    tapline_insight::cut(text, at).len()
}

/// A JSON text in at most `most` bytes, on one line, and below it what was left out. `more` says how to get the value at a
/// path (a JSON Pointer), of which so many bytes were shown.
pub(super) fn json(
    most: usize,
    value: &Value,
    path: &str,
    more: impl Fn(&str, Option<usize>) -> String,
) -> String {
    /// How much of each text, list and object is shown: the first that fits.
    const STEPS: [(usize, usize); 12] = [
        (usize::MAX, usize::MAX),
        (16_000, 2_000),
        (8_000, 1_000),
        (4_000, 500),
        (2_000, 200),
        (1_000, 100),
        (500, 50),
        (250, 30),
        (120, 20),
        (60, 10),
        (30, 5),
        (15, 2),
    ];
    let mut text = String::new();
    for (bytes, items) in STEPS {
        let mut shortened = Shortened {
            bytes,
            items,
            cuts: Vec::new(),
        };
        let value = shortened.value(value, path);
        text = plain_json(&value) + "\n";
        for cut in shortened.cuts.iter().take(NAMED_CUTS) {
            text.push_str(&cut.text(&more));
        }
        if NAMED_CUTS < shortened.cuts.len() {
            let others = shortened.cuts.len() - NAMED_CUTS;
            text.push_str(&format!("left out: parts of {others} other values\n"));
        }
        if text.len() <= most {
            return text;
        }
    }
    cut(text, most)
}

/// As much as fits of a text from this byte on, as a JSON string, and how to get the rest.
pub(super) fn part(most: usize, text: &str, from: usize, more: impl Fn(usize) -> String) -> String {
    let from = boundary(text, from);
    let rest = &text[from..];
    let mut to = rest.len();
    loop {
        to = boundary(rest, to);
        let mut shown = plain_json(&rest[..to].into()) + "\n";
        if to < rest.len() {
            let left = rest.len() - to;
            shown.push_str(&format!("left out: {left} bytes; {}\n", more(from + to)));
        }
        if shown.len() <= most || to == 0 {
            return cut(shown, most);
        }
        // Escapes make it longer than the text is.
        to = to.min(most) * 3 / 4;
    }
}

/// JSON whose characters all can be seen: those that a terminal obeys, or that change the direction of a line, are escaped.
pub(super) fn plain_json(value: &Value) -> String {
    let json = value.to_string();
    // Outside of texts there are none of these.
    if json.chars().all(is_seen) {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        match is_seen(c) {
            true => plain.push(c),
            false => plain.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    plain
}

fn is_seen(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || !one_line(c.encode_utf8(&mut [0; 4]), 1).is_empty()
}

/// Shortens a value.
struct Shortened {
    /// How many bytes of a text are kept.
    bytes: usize,
    /// How many items of a list or fields of an object are kept.
    items: usize,
    cuts: Vec<Cut>,
}

/// A value of which something is left out.
struct Cut {
    path: String,
    of: usize,
    shown: usize,
    is_text: bool,
}

impl Cut {
    fn text(&self, more: &impl Fn(&str, Option<usize>) -> String) -> String {
        let (what, offset) = match self.is_text {
            true => ("bytes", Some(self.shown)),
            false => ("items", None),
        };
        let how = match self.path.len() {
            ..=200 => more(&self.path, offset),
            // A page can choose names of any length.
            _ => "max_bytes shows more".to_owned(),
        };
        let left = self.of - self.shown;
        format!("left out: {left} of {} {what}; {how}\n", self.of)
    }
}

impl Shortened {
    fn value(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) if self.bytes < text.len() => {
                let shown = boundary(text, self.bytes);
                self.cut(path, text.len(), shown, true);
                format!("{}…", &text[..shown]).into()
            }
            Value::Array(values) => {
                if self.items < values.len() {
                    self.cut(path, values.len(), self.items, false);
                }
                let kept = values.iter().take(self.items).enumerate();
                kept.map(|(n, value)| self.value(value, &format!("{path}/{n}")))
                    .collect()
            }
            Value::Object(fields) => {
                if self.items < fields.len() {
                    self.cut(path, fields.len(), self.items, false);
                }
                let mut kept = Map::new();
                for (name, value) in fields.iter().take(self.items) {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let value = self.value(value, &format!("{path}/{escaped}"));
                    let name = match name.len() <= self.bytes.max(60) {
                        true => name.clone(),
                        false => format!("{}…", &name[..boundary(name, 60)]),
                    };
                    kept.insert(name, value);
                }
                Value::Object(kept)
            }
            value => value.clone(),
        }
    }

    fn cut(&mut self, path: &str, of: usize, shown: usize, is_text: bool) {
        self.cuts.push(Cut {
            path: path.to_owned(),
            of,
            shown,
            is_text,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn hint(path: &str, offset: Option<usize>) -> String {
        format!("path={path} offset={offset:?}")
    }

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let items: Vec<_> = (0..100).map(|n| format!("item {n}\n")).collect();
        let rest = |shown: Range<usize>| format!("shown: {shown:?}\n");
        let text = list(1_000, "head\n", &items, Keep::Last, rest);
        assert!(text.starts_with("head\nitem 0\n"), "{text}");
        assert!(text.ends_with("item 99\nshown: 0..100\n"), "{text}");
        let text = list(52, "head\n", &items, Keep::Last, rest);
        assert_eq!(
            text,
            "head\nitem 96\nitem 97\nitem 98\nitem 99\nshown: 96..100\n"
        );
        let text = list(30, "", &items, Keep::First, rest);
        assert_eq!(text, "item 0\nitem 1\nshown: 0..2\n");
        let text = list(60, "", &["x".repeat(100)], Keep::First, rest);
        assert!(
            text.len() <= 60 && text.ends_with("max_bytes]\nshown: 0..1\n"),
            "{text}"
        );
    }

    #[test]
    fn json_says_what_it_leaves_out_and_how_to_get_it() {
        let value = json!({"a": "x".repeat(3_000), "b/c": [1, 2], "d": "ok\u{202e}"});
        let text = json(1_200, &value, "", hint);
        assert!(text.starts_with("{\"a\":\"xxx"), "{text}");
        assert!(text.contains(r#""b/c":[1,2],"d":"ok\u202e"}"#), "{text}");
        assert!(
            text.ends_with("left out: 2000 of 3000 bytes; path=/a offset=Some(1000)\n"),
            "{text}"
        );
        let text = part(1_000, &"é\n".repeat(1_000), 3, |offset| {
            format!("offset={offset}")
        });
        let (shown, left) = text.split_once('\n').unwrap();
        let shown: String = serde_json::from_str(shown).unwrap();
        assert!(
            left.ends_with(&format!("offset={}\n", 3 + shown.len())),
            "{left}"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,400}".prop_map(Value::from),
            "[\\u{0}-\\u{20}\"\\\\]{0,2000}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 200, 40, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..40).prop_map(Value::from),
                prop::collection::btree_map(".{0,300}", inner, 0..40)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_answer_is_longer_than_its_budget(
            value in values(),
            items in prop::collection::vec(".{0,300}", 0..60),
            head in ".{0,2000}",
            most in LEAST as usize..20_000,
            from in 0..5_000_usize,
        ) {
            let text = json(most, &value, "/event", hint);
            prop_assert!(text.len() <= most);
            // What a page wrote ends no line.
            prop_assert!(text.lines().skip(1).all(|line| line.starts_with("left out: ")) || text.contains(CUT));
            for keep in [Keep::First, Keep::Last] {
                let rest = |shown: Range<usize>| format!("{} are left out\n", items.len() - shown.len());
                prop_assert!(list(most, &head, &items, keep, rest).len() <= most);
            }
            let long = items.concat();
            let more = |offset| format!("offset={offset}");
            prop_assert!(part(most, &long, from, more).len() <= most);
            prop_assert!(cut(long, most).len() <= most);
        }
    }
}
