//! Values as a console shows them, made from what the browser sends about them.
//!
//! A console call carries its arguments by reference, each with a *preview*: the first properties or
//! entries, as the browser abbreviates them. No further command is sent, so nothing in the page is read
//! that the browser has not read by itself.
//!
//! | value | text |
//! |---|---|
//! | object, class instance | `{id: 1, name: 'Bo', nested: {…}, …}`, `Cart {total: 3}` |
//! | array, typed array | `(3) [1, 'a', empty]`, `Uint8Array(2) [1, 2]` |
//! | map, set | `Map(1) {'k' => {v: 1}}`, `Set(2) {1, 2}` |
//! | error | its stack, its other properties, and `Caused by: …` |
//! | promise, boxed value | `Promise {<fulfilled>: 4}`, `String {'boxed'}` |
//! | node, date, regular expression, function | as the browser describes it |
//!
//! A `…` is where the browser, or the limit, left something out. A preview is read only while there is
//! space for it, and one level at a time, because a page chooses how much there is of it.

use crate::json::Raw;
use crate::outbox::Outbox;
use crate::protocol::{
    self, Beginning, EntryPreview, ObjectPreview, PageText, PropertyPreview, RemoteObject,
};
use crate::redact::{MARGIN, REDACTED, cut};

/// How many previews within previews are shown. `console.table` sends two levels, maps one more.
const MAX_DEPTH: usize = 4;

/// The longest name of a property that is shown, in bytes.
const MAX_NAME: usize = 1024;

/// The length in UTF-16 units to which the browser abbreviates a value of a property
/// (`abbreviateString` in V8's inspector).
const ABBREVIATED: usize = 100;

/// What stands for something that is left out.
const MORE: &str = "…";

/// A value as a console shows it: without secrets, and no longer than `limit` bytes.
pub(crate) fn text_of(value: &RemoteObject<'_>, limit: usize, out: &Outbox) -> String {
    if let Some(preview) = value.preview {
        let mut line = Line {
            out,
            text: String::new(),
            limit,
        };
        let is_dom_exception = value.class_name.is_some_and(|it| it.is("DOMException"));
        line.preview(preview, is_dom_exception, MAX_DEPTH);
        if !line.text.is_empty() {
            return line.text;
        }
    }
    let string = value
        .value
        .filter(|_| &*value.kind == "string")
        .and_then(PageText::of);
    let text = string
        .as_ref()
        .or(value.description.as_ref())
        .or(value.unserializable_value.as_ref());
    if let Some(text) = text {
        return out.text_within(text, limit);
    }
    if let Some(json) = value.value {
        let json = Beginning::of(json.0, limit.saturating_add(MARGIN));
        return out.redacted(&json, limit);
    }
    let kind = value.subtype.as_ref().unwrap_or(&value.kind);
    out.plain_text(kind, limit)
}

/// All arguments as one text, from the text of each. If the first one is a string with format specifiers,
/// they are replaced, as the Console Standard says; what is left is joined by spaces.
pub(crate) fn joined(args: &[String], is_format: bool, limit: usize, out: &Outbox) -> String {
    let Some((first, mut rest)) = args.split_first() else {
        return String::new();
    };
    let mut text = String::new();
    let is_formatted = is_format && !rest.is_empty() && first.contains('%');
    if is_formatted {
        let mut format = first.as_str();
        while let Some(at) = format.find('%') {
            let specifier = format.as_bytes().get(at + 1).copied();
            let (by, length) = match (specifier, rest.split_first()) {
                (Some(b'%'), _) => ("%", 2),
                (Some(b's' | b'd' | b'i' | b'f' | b'o' | b'O'), Some((arg, others))) => {
                    rest = others;
                    (arg.as_str(), 2)
                }
                // The style of what follows.
                (Some(b'c'), Some((_, others))) => {
                    rest = others;
                    ("", 2)
                }
                _ => ("%", 1),
            };
            text.push_str(&format[..at]);
            text.push_str(by);
            format = &format[at + length..];
        }
        text.push_str(format);
    } else {
        text.push_str(first);
    }
    for arg in rest {
        if limit <= text.len() {
            break;
        }
        text.push(' ');
        text.push_str(arg);
    }
    if is_formatted {
        // What was put together may be a secret only now.
        return out.plain_text(&text, limit);
    }
    text.truncate(cut(&text, limit).len());
    text
}

/// A text of limited length that is being written.
struct Line<'o> {
    out: &'o Outbox,
    text: String,
    limit: usize,
}

impl Line<'_> {
    fn is_full(&self) -> bool {
        self.limit <= self.text.len()
    }

    fn push(&mut self, text: &str) {
        let left = self.limit.saturating_sub(self.text.len());
        self.text.push_str(cut(text, left));
    }

    /// Text of the page, without its secrets.
    fn push_text(&mut self, text: &PageText<'_>) {
        let left = self.limit.saturating_sub(self.text.len());
        let text = self.abbreviated(text, left);
        self.push(&text);
    }

    /// The first line of a text of the page.
    fn push_line(&mut self, text: &PageText<'_>) {
        let left = self.limit.saturating_sub(self.text.len());
        let text = self.abbreviated(text, left);
        self.push(text.lines().next().unwrap_or_default());
    }

    /// A string of the page, in quotes and in one line.
    fn push_string(&mut self, text: &PageText<'_>) {
        let left = self.limit.saturating_sub(self.text.len());
        let text = self.abbreviated(text, left);
        self.push("'");
        let mut lines = text.split('\n');
        self.push(lines.next().unwrap_or_default());
        for line in lines {
            self.push("\\n");
            self.push(line);
        }
        self.push("'");
    }

    /// A text that the browser may have abbreviated in its middle. A secret that it cut there is removed
    /// like one that the limit cuts.
    fn abbreviated(&self, text: &PageText<'_>, limit: usize) -> String {
        let window = text.beginning(limit.saturating_add(MARGIN));
        let may_be = window.text.encode_utf16().take(ABBREVIATED + 1).count() == ABBREVIATED;
        let Some((head, tail)) = window.text.split_once(MORE).filter(|_| may_be) else {
            return self.out.redacted(&window, limit);
        };
        let head = Beginning {
            text: head.into(),
            is_cut: true,
        };
        let mut text = self.out.redacted(&head, limit);
        text.push_str(MORE);
        if !text.ends_with(&format!("{REDACTED}{MORE}")) {
            let tail = Beginning {
                text: tail.into(),
                is_cut: window.is_cut,
            };
            text.push_str(&self.out.redacted(&tail, limit));
        }
        text
    }

    /// A preview that was not read yet. One that cannot be read is left out.
    fn preview(&mut self, preview: Raw<'_>, is_dom_exception: bool, depth: usize) {
        if self.is_full() {
            return;
        }
        if depth == 0 {
            self.push(MORE);
        } else if let Ok(preview) = protocol::read::<ObjectPreview<'_>>(preview.0) {
            self.value(&preview, is_dom_exception, depth - 1);
        }
    }

    fn value(&mut self, preview: &ObjectPreview<'_>, is_dom_exception: bool, depth: usize) {
        match &*preview.kind {
            "string" => return self.push_string(&preview.description),
            "function" => return self.push("ƒ"),
            "object" => {}
            _ => return self.push_text(&preview.description),
        }
        match preview.subtype.as_deref().unwrap_or_default() {
            "array" | "typedarray" => self.array(preview, depth),
            "error" => self.error(preview, is_dom_exception, depth),
            "promise" => self.promise(preview, depth),
            "null" => self.push("null"),
            "node" | "date" | "regexp" | "arraybuffer" | "dataview" | "trustedtype"
            | "webassemblymemory" | "wasmvalue" => self.push_text(&preview.description),
            _ => self.object(preview, depth),
        }
    }

    fn object(&mut self, preview: &ObjectPreview<'_>, depth: usize) {
        if !preview.description.is("Object") {
            self.push_line(&preview.description);
            self.push(" ");
        }
        self.push("{");
        let mut list = List::default();
        if let Some(entries) = &preview.entries {
            for entry in &entries.items {
                if !list.next(self) {
                    break;
                }
                self.entry(entry, depth);
            }
            list.is_cut |= 0 < entries.skipped;
        } else {
            for property in &preview.properties.items {
                if !list.next(self) {
                    break;
                }
                if property.name.is("[[PrimitiveValue]]") {
                    self.property_value(property, depth);
                } else {
                    self.property(property, depth);
                }
            }
        }
        list.is_cut |= preview.overflow || 0 < preview.properties.skipped;
        list.end(self, "}");
    }

    fn entry(&mut self, entry: &EntryPreview<'_>, depth: usize) {
        if let Some(key) = entry.key {
            let name = protocol::read::<ObjectPreview<'_>>(key.0);
            let is_secret = name.is_ok_and(|name| self.is_secret(&name.description));
            self.preview(key, false, depth);
            self.push(" => ");
            if is_secret {
                return self.push(REDACTED);
            }
        }
        self.preview(entry.value, false, depth);
    }

    /// The elements of an array, then its other properties. A typed array has none that say more.
    fn array(&mut self, preview: &ObjectPreview<'_>, depth: usize) {
        let description = preview.description.beginning(MAX_NAME).text;
        let length = description
            .strip_suffix(')')
            .and_then(|it| it.rsplit_once('('))
            .and_then(|(_, length)| length.parse::<u64>().ok());
        match length {
            Some(0 | 1) if preview.description.starts_with("Array(") => {}
            Some(length) if preview.description.starts_with("Array(") => {
                self.push(&format!("({length}) "));
            }
            _ => {
                self.push_line(&preview.description);
                self.push(" ");
            }
        }
        self.push("[");
        let mut list = List::default();
        let is_typed = preview.subtype.as_deref() == Some("typedarray");
        let mut next = 0;
        let mut others = false;
        for property in &preview.properties.items {
            match property.name.beginning(MAX_NAME).text.parse::<u64>() {
                Ok(index) if !others => {
                    if !self.holes(&mut list, index.saturating_sub(next)) || !list.next(self) {
                        break;
                    }
                    self.property_value(property, depth);
                    next = index.saturating_add(1);
                }
                _ if is_typed => {}
                _ => {
                    if !others {
                        others = true;
                        self.holes(&mut list, length.unwrap_or(next).saturating_sub(next));
                    }
                    if !list.next(self) {
                        break;
                    }
                    self.property(property, depth);
                }
            }
        }
        list.is_cut |= preview.overflow || 0 < preview.properties.skipped;
        if !others && !list.is_cut {
            self.holes(&mut list, length.unwrap_or(next).saturating_sub(next));
        }
        list.end(self, "]");
    }

    /// So many elements that are not there. Returns whether there is space for more.
    fn holes(&mut self, list: &mut List, count: u64) -> bool {
        if count == 0 {
            return true;
        }
        let has_space = list.next(self);
        if has_space {
            self.push("empty");
            if 1 < count {
                self.push(&format!(" × {count}"));
            }
        }
        has_space
    }

    /// The stack, which begins with name and message; what else the error has; and its cause.
    fn error(&mut self, preview: &ObjectPreview<'_>, is_dom_exception: bool, depth: usize) {
        self.push_text(&preview.description);
        let is_known = |name: &PageText<'_>| {
            ["stack", "message", "name", "cause"]
                .iter()
                .any(|it| name.is(it))
                || is_dom_exception && name.is("code")
        };
        let properties = &preview.properties.items;
        let mut others = properties
            .iter()
            .filter(|it| !is_known(&it.name))
            .peekable();
        if others.peek().is_some() {
            self.push(" {");
            let mut list = List::default();
            for property in others {
                if !list.next(self) {
                    break;
                }
                self.property(property, depth);
            }
            list.is_cut |= preview.overflow;
            list.end(self, "}");
        }
        if let Some(cause) = properties.iter().find(|it| it.name.is("cause")) {
            self.push("\nCaused by: ");
            match &cause.value {
                Some(value) if matches!(cause.subtype.as_deref(), Some("error")) => {
                    self.push_text(value);
                }
                Some(value) if &*cause.kind == "string" => self.push_text(value),
                _ => self.property_value(cause, depth),
            }
        }
    }

    fn promise(&mut self, preview: &ObjectPreview<'_>, depth: usize) {
        let properties = &preview.properties.items;
        let find = |name: &str| properties.iter().find(|it| it.name.is(name));
        self.push_line(&preview.description);
        self.push(" {<");
        let state = find("[[PromiseState]]").and_then(|it| it.value);
        self.push_text(&state.unwrap_or_default());
        self.push(">");
        if let Some(result) = find("[[PromiseResult]]")
            && !state.is_some_and(|it| it.is("pending"))
        {
            self.push(": ");
            self.property_value(result, depth);
        }
        self.push("}");
    }

    fn property(&mut self, property: &PropertyPreview<'_>, depth: usize) {
        let name = property.name.beginning(MAX_NAME).text;
        let is_plain =
            |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '#' | '(' | ')' | '.');
        if name.is_empty() || !name.chars().all(is_plain) {
            self.push_string(&property.name);
        } else {
            self.push(&name);
        }
        self.push(": ");
        if self.is_secret(&property.name) {
            self.push(REDACTED);
        } else {
            self.property_value(property, depth);
        }
    }

    fn property_value(&mut self, property: &PropertyPreview<'_>, depth: usize) {
        let value = property.value.unwrap_or_default();
        match &*property.kind {
            "string" => self.push_string(&value),
            "function" => self.push("ƒ"),
            "accessor" => self.push("(...)"),
            "object" => match property.value_preview {
                Some(preview) => self.preview(preview, false, depth),
                None if value.is("Object") => self.push("{…}"),
                None => self.push_line(&value),
            },
            _ => self.push_text(&value),
        }
    }

    /// Whether the value under this name is a secret.
    fn is_secret(&self, name: &PageText<'_>) -> bool {
        self.out
            .rules
            .is_secret_name(&name.beginning(MAX_NAME).text)
    }
}

/// A list that is being written, with commas between its elements.
#[derive(Default)]
struct List {
    has_elements: bool,
    is_cut: bool,
}

impl List {
    /// Begins the next element. Returns whether there is space for it.
    fn next(&mut self, line: &mut Line<'_>) -> bool {
        if line.is_full() {
            self.is_cut = true;
            return false;
        }
        if self.has_elements {
            line.push(", ");
        }
        self.has_elements = true;
        true
    }

    fn end(self, line: &mut Line<'_>, bracket: &str) {
        if self.is_cut {
            line.push(if self.has_elements { ", …" } else { MORE });
        }
        line.push(bracket);
    }
}
