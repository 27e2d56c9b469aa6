//! What a Chromium sent in a real session, one message a line with the time at which it came.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tapline_cdp::{Options, Time};

use crate::browser::Browser;

#[derive(Deserialize)]
struct Line {
    t: u64,
    msg: Box<RawValue>,
}

/// All messages: when, and what.
pub(crate) fn messages() -> Vec<(u64, String)> {
    let lines = include_str!("../../data/session.ndjson").lines();
    let message = |line| {
        let line: Line = serde_json::from_str(line).unwrap();
        (line.t, line.msg.get().to_owned())
    };
    lines.map(message).collect()
}

/// A browser that has sent all of it, and answered what it was asked.
pub(crate) fn replayed(options: Options) -> Browser {
    let mut browser = Browser::new(options);
    for (t, message) in messages() {
        browser.now = Time {
            monotonic: Duration::from_micros(t),
            wall: t,
        };
        browser.answers(
            "Network.getResponseBody",
            json!({"result": {"body": "what was answered", "base64Encoded": false}}),
        );
        browser.sends(&message);
    }
    browser
}
