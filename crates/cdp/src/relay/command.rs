//! What is told of a command: its method, and of its arguments those that are approved.
//!
//! Approved is what stands in [`approved`], and only as the kind of value that it says. Nothing in
//! there can hold typed text, a script, a cookie or a header, whatever a client writes into it: a
//! word is short and plain, and of an address that is a script or a document itself only the scheme
//! is told.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use tapline_oapi::data::CdpCommand;

use crate::outbox::MAX_URL;
use crate::protocol::{self, Text};
use crate::redact::{Redaction, cut};

/// A word of the protocol, the name of a method or an id of the browser's is shorter.
const MAX_WORD: usize = 128;

/// What an argument may be. Anything else is left out.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Flag,
    /// One of the protocol's own words, or an id of the browser's.
    Word,
    /// An address, without secrets.
    Url,
}

/// The arguments that are told of a method.
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
        // Never `key`, `code` or `text`: they are what is typed.
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

/// What is told of the message, of which this is at least the beginning. `None` where it is no
/// command.
pub(super) fn told(message: &[u8], redaction: &Redaction) -> Option<CdpCommand> {
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(message);
    // An error is no matter: the message may have been cut, or the rest of it is not needed.
    let _ = found.deserialize(&mut json);
    let method = found.method.filter(|method| is_word(method))?;
    let approved = approved(&method);
    let mut arguments = Map::new();
    if let Some(params) = found.params.filter(|_| !approved.is_empty())
        && let Ok(params) = serde_json::from_str::<BTreeMap<String, &RawValue>>(params.get())
    {
        for (name, kind) in approved {
            let value = params.get(*name);
            if let Some(value) = value.and_then(|value| kind.read(value, redaction)) {
                arguments.insert((*name).to_owned(), value);
            }
        }
    }
    Some(CdpCommand {
        method: method.into_owned(),
        arguments,
    })
}

/// What was found of a command until there was no more, or no more needed.
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
            match &*key {
                "method" => {
                    let method = map.next_value::<Text<'de>>()?.0;
                    let enough = approved(&method).is_empty();
                    self.method = Some(method);
                    if enough {
                        return Err(A::Error::custom("nothing else is told of this method"));
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
    fn read(self, value: &RawValue, redaction: &Redaction) -> Option<Value> {
        match self {
            Self::Number => serde_json::from_str::<Number>(value.get())
                .ok()
                .map(Value::Number),
            Self::Flag => serde_json::from_str(value.get()).ok().map(Value::Bool),
            Self::Word => {
                let word = protocol::string(value).ok()?;
                is_word(&word).then(|| Value::from(&*word))
            }
            Self::Url => {
                let url = protocol::string(value).ok()?;
                address(&url, redaction).map(|url| Value::from(&*url))
            }
        }
    }
}

/// A word or a name of the protocol, or an id.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(plain)
}

/// An address as it may be told. Where it is, or may be, more than an address, only its scheme; where
/// it has none, nothing.
fn address<'a>(url: &'a str, redaction: &Redaction) -> Option<Cow<'a, str>> {
    let (scheme, rest) = url.split_once(':')?;
    let of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || scheme.len() > 32 || !scheme.bytes().all(of_a_scheme) {
        return None;
    }
    let plain = match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" | "ws" | "wss" | "ftp" => has_plain_authority(rest),
        "about" | "chrome" | "chrome-extension" | "devtools" | "file" => true,
        // `javascript:` is a script, `data:` a document, and of others we do not know.
        _ => false,
    };
    if !plain {
        return Some(Cow::Borrowed(&url[..=scheme.len()]));
    }
    Some(match redaction.text(url) {
        Cow::Borrowed(url) => Cow::Borrowed(cut(url, MAX_URL)),
        Cow::Owned(url) => Cow::Owned(cut(&url, MAX_URL).to_owned()),
    })
}

/// Whether a user and a password in it stand where they are looked for. A browser forgives more.
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
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Option<&str>) {
        let redaction = Redaction::default().with_query_parameters(["token"]);
        let told = told(message.as_bytes(), &redaction);
        let told = told.map(|told| serde_json::to_string(&told).unwrap());
        assert_eq!(told.as_deref(), expected, "{message}");
    }

    #[test]
    fn approved_arguments_stand_beside_the_method() {
        check(
            r#"{"id":1,"method":"Page.navigate","params":{"url":"http://u:p@h/?token=s3","referrer":"http://r/"}}"#,
            Some(r#"{"method":"Page.navigate","url":"http://*redacted*@h/?token=*redacted*"}"#),
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
    fn text_scripts_cookies_and_headers_are_never_told() {
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
    fn of_an_address_that_is_more_than_one_the_scheme_is_told() {
        for (url, expected) in [
            ("https://h/a?b=c#d", Some("https://h/a?b=c#d")),
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
            let told = address(url, &Redaction::default());
            assert_eq!(told.as_deref(), expected, "{url:?}");
        }
        let long = format!("http://h/{}", "é".repeat(MAX_URL));
        let told = address(&long, &Redaction::default()).unwrap();
        assert!(told.len() <= MAX_URL && long.starts_with(&*told));
    }

    #[test]
    fn of_a_beginning_the_method_is_told() {
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
    fn what_is_no_command_is_not_told() {
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
