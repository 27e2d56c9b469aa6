//! What is published of a command: its method, and approved arguments.
//!
//! An argument is approved if [`approved`] lists it, and only as the kind of value that is listed. No
//! approved argument can carry typed text, a script, a cookie or a header, whatever a client writes into it:
//! a word is short and plain, and of a URL that is a script or a document itself only the scheme is published.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use tapline_oapi::data::CdpCommand;

use crate::RedactUrl;

/// Words of the protocol, names of methods and ids of the browser's are shorter, in bytes.
const MAX_WORD: usize = 128;

/// The longest URL that is published, in bytes: the same as in the browser source's events.
const MAX_URL: usize = 8 * 1024;

/// The kind of value that an argument may have. Other values are left out.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Flag,
    /// A word of the protocol, or an id of the browser's.
    Word,
    /// A URL, without secrets.
    Url,
}

/// The approved arguments of a method.
fn approved(method: &str) -> &'static [(&'static str, Kind)] {
    use Kind::{Flag, Number, Url, Word};
    match method {
        "Page.navigate" => &[("url", Url), ("frameId", Word), ("transitionType", Word)],
        "Page.reload" => &[("ignoreCache", Flag)],
        "Page.navigateToHistoryEntry" => &[("entryId", Number)],
        "Page.captureScreenshot" => &[
            ("format", Word),
            ("quality", Number),
            ("captureBeyondViewport", Flag),
            ("fromSurface", Flag),
        ],
        "Page.startScreencast" => &[
            ("format", Word),
            ("quality", Number),
            ("maxWidth", Number),
            ("maxHeight", Number),
            ("everyNthFrame", Number),
        ],
        "Page.printToPDF" => &[
            ("landscape", Flag),
            ("printBackground", Flag),
            ("scale", Number),
            ("paperWidth", Number),
            ("paperHeight", Number),
        ],
        "Page.handleJavaScriptDialog" => &[("accept", Flag)],
        "Page.setInterceptFileChooserDialog" => &[("enabled", Flag)],
        "Target.createTarget" => &[
            ("url", Url),
            ("width", Number),
            ("height", Number),
            ("newWindow", Flag),
            ("background", Flag),
            ("browserContextId", Word),
        ],
        "Target.activateTarget" | "Target.closeTarget" => &[("targetId", Word)],
        "Target.attachToTarget" => &[("targetId", Word), ("flatten", Flag)],
        "Target.setAutoAttach" => &[
            ("autoAttach", Flag),
            ("waitForDebuggerOnStart", Flag),
            ("flatten", Flag),
        ],
        "Target.createBrowserContext" => &[("disposeOnDetach", Flag)],
        "Target.disposeBrowserContext" => &[("browserContextId", Word)],
        "Input.dispatchMouseEvent" => &[
            ("type", Word),
            ("x", Number),
            ("y", Number),
            ("button", Word),
            ("clickCount", Number),
            ("deltaX", Number),
            ("deltaY", Number),
        ],
        // Never `key`, `code` or `text`: they are the typed text.
        "Input.dispatchKeyEvent" | "Input.dispatchTouchEvent" => &[("type", Word)],
        "Input.emulateTouchFromMouseEvent" => &[
            ("type", Word),
            ("x", Number),
            ("y", Number),
            ("button", Word),
        ],
        "Input.synthesizeTapGesture" => &[("x", Number), ("y", Number), ("tapCount", Number)],
        "Input.synthesizePinchGesture" => &[("x", Number), ("y", Number), ("scaleFactor", Number)],
        "Input.synthesizeScrollGesture" => &[
            ("x", Number),
            ("y", Number),
            ("xDistance", Number),
            ("yDistance", Number),
        ],
        "Emulation.setDeviceMetricsOverride" => &[
            ("width", Number),
            ("height", Number),
            ("deviceScaleFactor", Number),
            ("mobile", Flag),
        ],
        "Emulation.setVisibleSize" => &[("width", Number), ("height", Number)],
        "Emulation.setPageScaleFactor" => &[("pageScaleFactor", Number)],
        "Emulation.setTouchEmulationEnabled" => &[("enabled", Flag), ("maxTouchPoints", Number)],
        "Emulation.setCPUThrottlingRate" => &[("rate", Number)],
        "Emulation.setEmulatedMedia" => &[("media", Word)],
        "Emulation.setScriptExecutionDisabled" => &[("value", Flag)],
        "Browser.setDownloadBehavior" | "Page.setDownloadBehavior" => &[("behavior", Word)],
        "Network.emulateNetworkConditions" => &[
            ("offline", Flag),
            ("latency", Number),
            ("downloadThroughput", Number),
            ("uploadThroughput", Number),
        ],
        "Network.setCacheDisabled" => &[("cacheDisabled", Flag)],
        "Security.setIgnoreCertificateErrors" => &[("ignore", Flag)],
        _ => &[],
    }
}

/// What is published of a message, of which `message` is at least the beginning. `None` where it is no
/// command.
pub(crate) fn read(message: &[u8], redact_url: &RedactUrl) -> Option<CdpCommand> {
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(message);
    // An error is expected: the message may be cut, or its rest is not needed.
    let _ = found.deserialize(&mut json);
    let method = found.method.filter(|method| is_word(method))?;
    let approved = approved(&method);
    let mut arguments = Map::new();
    if let Some(params) = found.params.filter(|_| !approved.is_empty())
        && let Ok(params) = serde_json::from_str::<BTreeMap<String, &RawValue>>(params.get())
    {
        for (name, kind) in approved {
            let value = params.get(*name);
            if let Some(value) = value.and_then(|value| kind.read(value, redact_url)) {
                arguments.insert((*name).to_owned(), value);
            }
        }
    }
    Some(CdpCommand {
        method: method.into_owned(),
        arguments,
        ..CdpCommand::default()
    })
}

/// The parts of a command that were found before the text ended, or was not needed any more.
#[derive(Default)]
struct Found<'a> {
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
}

impl<'de> DeserializeSeed<'de> for &mut Found<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Found<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "method" => {
                    let method = map.next_value::<Text<'de>>()?.0;
                    let enough = approved(&method).is_empty();
                    self.method = Some(method);
                    if enough {
                        return Err(A::Error::custom("this method has no approved arguments"));
                    }
                }
                "params" => self.params = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    fn read(self, value: &RawValue, redact_url: &RedactUrl) -> Option<Value> {
        match self {
            Self::Number => serde_json::from_str::<Number>(value.get())
                .ok()
                .map(Value::Number),
            Self::Flag => serde_json::from_str(value.get()).ok().map(Value::Bool),
            Self::Word => {
                let word = string(value)?;
                is_word(&word).then(|| Value::from(&*word))
            }
            Self::Url => {
                let url = string(value)?;
                publishable(&url, redact_url).map(|url| Value::from(&*url))
            }
        }
    }
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of a JSON string; `None` for any other value.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

/// Whether it is a word or a name of the protocol, or an id.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(plain)
}

/// The part of a URL that may be published: of a URL that is, or may be, more than an address, only its
/// scheme; without a scheme, nothing.
fn publishable<'a>(url: &'a str, redact_url: &RedactUrl) -> Option<Cow<'a, str>> {
    let (scheme, rest) = url.split_once(':')?;
    let of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || scheme.len() > 32 || !scheme.bytes().all(of_a_scheme) {
        return None;
    }
    let plain = match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" | "ws" | "wss" | "ftp" => has_plain_authority(rest),
        "about" | "chrome" | "chrome-extension" | "devtools" | "file" => true,
        // `javascript:` is a script, `data:` a document, and others are unknown.
        _ => false,
    };
    if !plain {
        return Some(Cow::Borrowed(&url[..=scheme.len()]));
    }
    let mut url = redact_url(url);
    let mut end = url.len().min(MAX_URL);
    while !url.is_char_boundary(end) {
        end -= 1;
    }
    url.truncate(end);
    Some(Cow::Owned(url))
}

/// Whether a user and a password are where redaction expects them. Browsers accept more.
fn has_plain_authority(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix("//") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let odd = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'"' || byte == b'\\';
    !authority.is_empty() && !authority.bytes().any(odd)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::RelayOptions;

    #[track_caller]
    fn check(message: &str, expected: Option<&str>) {
        let redact: RedactUrl = Arc::new(|url| url.replace("s3", "*redacted*"));
        let command = read(message.as_bytes(), &redact);
        let command = command.map(|command| serde_json::to_string(&command).unwrap());
        assert_eq!(command.as_deref(), expected, "{message}");
    }

    #[test]
    fn approved_arguments_are_published_with_the_method() {
        check(
            r#"{"id":1,"method":"Page.navigate","params":{"url":"http://h/?token=s3","referrer":"http://r/"}}"#,
            Some(r#"{"method":"Page.navigate","url":"http://h/?token=*redacted*"}"#),
        );
        check(
            r#"{"params":{"type":"mousePressed","x":1.5,"y":-2,"button":"left","modifiers":1},"sessionId":"A","method":"Input.dispatchMouseEvent","id":9}"#,
            Some(
                r#"{"method":"Input.dispatchMouseEvent","button":"left","type":"mousePressed","x":1.5,"y":-2}"#,
            ),
        );
        check(
            r#"{"id":2,"method":"Browser.getVersion"}"#,
            Some(r#"{"method":"Browser.getVersion"}"#),
        );
        check(
            r#"{"id":3,"method":"Emulation.setDeviceMetricsOverride","params":{"width":800,"height":600,"mobile":false,"deviceScaleFactor":1}}"#,
            Some(
                r#"{"method":"Emulation.setDeviceMetricsOverride","deviceScaleFactor":1,"height":600,"mobile":false,"width":800}"#,
            ),
        );
    }

    #[test]
    fn text_scripts_cookies_and_headers_are_never_published() {
        for (method, params) in [
            ("Input.insertText", r#"{"text":"s3cret"}"#),
            ("Input.imeSetComposition", r#"{"text":"s3cret"}"#),
            (
                "Input.dispatchKeyEvent",
                r#"{"key":"s3cret","text":"s3cret","code":"s3cret","unmodifiedText":"s3cret","commands":["s3cret"]}"#,
            ),
            ("Runtime.evaluate", r#"{"expression":"s3cret"}"#),
            (
                "Runtime.callFunctionOn",
                r#"{"functionDeclaration":"s3cret","arguments":[{"value":"s3cret"}]}"#,
            ),
            (
                "Page.addScriptToEvaluateOnNewDocument",
                r#"{"source":"s3cret"}"#,
            ),
            ("Page.reload", r#"{"scriptToEvaluateOnLoad":"s3cret"}"#),
            ("Page.setDocumentContent", r#"{"html":"s3cret"}"#),
            ("Page.handleJavaScriptDialog", r#"{"promptText":"s3cret"}"#),
            ("Network.setCookies", r#"{"cookies":[{"value":"s3cret"}]}"#),
            (
                "Network.setExtraHTTPHeaders",
                r#"{"headers":{"x":"s3cret"}}"#,
            ),
            (
                "Fetch.continueRequest",
                r#"{"url":"s3cret","headers":[],"postData":"s3cret"}"#,
            ),
            (
                "Fetch.continueWithAuth",
                r#"{"authChallengeResponse":{"password":"s3cret"}}"#,
            ),
            (
                "Target.createBrowserContext",
                r#"{"proxyServer":"http://u:s3cret@h"}"#,
            ),
            ("DOM.setFileInputFiles", r#"{"files":["s3cret"]}"#),
            (
                "Page.printToPDF",
                r#"{"headerTemplate":"s3cret","scale":"s3cret"}"#,
            ),
            // A value of another kind than the protocol's.
            (
                "Input.dispatchMouseEvent",
                r#"{"type":"s3cret typed","x":"s3cret","button":{"a":"s3cret"}}"#,
            ),
            (
                "Page.captureScreenshot",
                r#"{"format":"s3cret!","fromSurface":"s3cret"}"#,
            ),
            ("Page.navigate", r#"{"url":["s3cret"]}"#),
        ] {
            check(
                &format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#),
                Some(&format!(r#"{{"method":"{method}"}}"#)),
            );
        }
    }

    #[test]
    fn of_a_url_that_is_a_script_or_a_document_only_the_scheme_is_published() {
        for (url, expected) in [
            ("https://u:s3@h/a?b=c#d", Some("https://h/a")),
            ("about:blank", Some("about:blank")),
            ("file:///home/a.html", Some("file:///home/a.html")),
            ("javascript:alert('s3')", Some("javascript:")),
            ("JavaScript:alert('s3')", Some("JavaScript:")),
            ("data:text/html,<b>s3</b>", Some("data:")),
            ("view-source:http://h/", Some("view-source:")),
            ("blob:http://u:s3@h/", Some("blob:")),
            ("http:u:s3@h", Some("http:")),
            (r"http:\\u:s3@h", Some("http:")),
            (r"http://\u:s3@h", Some("http:")),
            ("http:///u:s3@h", Some("http:")),
            ("http://u:s 3@h", Some("http:")),
            ("http://u:s\"3@h", Some("http:")),
            (" javascript:s3", None),
            ("java\nscript:s3", None),
            ("s3", None),
            ("", None),
        ] {
            let redact = RelayOptions::new("h").redact_url;
            let url_part = publishable(url, &redact);
            assert_eq!(url_part.as_deref(), expected, "{url:?}");
        }
        let long = format!("http://h/{}", "é".repeat(MAX_URL));
        let redact = RelayOptions::new("h").redact_url;
        let published = publishable(&long, &redact).unwrap();
        assert!(published.len() <= MAX_URL && long.starts_with(&*published));
    }

    #[test]
    fn a_cut_message_yields_its_method() {
        check(
            r#"{"id":1,"method":"Page.navigate","params":{"url":"http://h/a"#,
            Some(r#"{"method":"Page.navigate"}"#),
        );
        check(
            r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"#,
            Some(r#"{"method":"Runtime.evaluate"}"#),
        );
        // Only the outermost counts.
        check(r#"{"id":1,"params":{"method":"Page.navigate","#, None);
    }

    #[test]
    fn what_is_not_a_command_is_not_published() {
        for message in [
            "",
            "{}",
            "[]",
            "null",
            "{",
            r#"{"id":1}"#,
            r#"{"method":7}"#,
            r#"{"method":""}"#,
            r#"{"method":"my s3cret"}"#,
            r#"{"meth"#,
            "\u{0}",
        ] {
            check(message, None);
        }
        let long = format!(r#"{{"method":"{}"}}"#, "a".repeat(MAX_WORD + 1));
        check(&long, None);
    }
}
