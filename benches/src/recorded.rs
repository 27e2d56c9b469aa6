//! A recorded browser session, and a core that receives it: what `benches/cdp.rs` times and `examples/cdp.rs` repeats
//! for a profiler.

use std::hint::black_box;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tapline_cdp::{Core, Options, Output, Time};
use tapline_oapi::CategorySet;

/// What a Chromium said in a real session; see docs/cdp.md.
const SESSION: &str = include_str!("../../crates/cdp/data/session.ndjson");

/// The body of every response of text.
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A message of the browser and the moment at which it came. A recording has wall times only.
#[derive(Debug)]
pub struct Message {
    /// The moment.
    pub at: Time,
    /// The message as it was sent.
    pub text: String,
}

/// The messages of the session, in their order.
pub fn session() -> Vec<Message> {
    #[derive(Deserialize)]
    struct Line<'a> {
        t: u64,
        #[serde(borrow)]
        msg: &'a RawValue,
    }

    let message = |line| {
        let line: Line<'_> = serde_json::from_str(line).expect("the recording is good JSON");
        Message {
            at: Time {
                monotonic: Duration::from_micros(line.t),
                wall: line.t,
            },
            text: line.msg.get().to_owned(),
        }
    };
    SESSION.lines().map(message).collect()
}

/// A core whose browser has just been connected.
pub fn connected(captured: CategorySet, now: Time) -> Core {
    let mut core = Core::new(Options {
        captured,
        ..Options::default()
    });
    core.connected(now);
    drain(&mut core, now);
    core
}

/// Hands all messages to a core. Returns the number of events.
pub fn replay(core: &mut Core, messages: &[Message]) -> usize {
    let mut events = 0;
    for message in messages {
        core.message(message.at, black_box(&message.text));
        events += drain(core, message.at);
    }
    events
}

/// Takes what there is to say, and answers what is asked for: the recorded collector asked for no bodies.
/// Returns the number of events.
fn drain(core: &mut Core, now: Time) -> usize {
    let mut events = 0;
    while let Some(output) = core.poll() {
        match output {
            Output::Event(event) => {
                events += 1;
                drop(black_box(event));
            }
            Output::Command(command) if command.method == "Network.getResponseBody" => {
                let id = command.id;
                let answer =
                    format!(r#"{{"id":{id},"result":{{"body":"{BODY}","base64Encoded":false}}}}"#);
                core.message(now, &answer);
            }
            Output::Command(command) => drop(black_box(command)),
        }
    }
    events
}
