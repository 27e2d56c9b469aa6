//! The types of the published SDK (PyPI `kernel`) and ours, in both directions: its strict models read
//! what we emit, and our typed data reads what its models allow and writes it back without a loss.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;
use tapline_oapi::{Event, EventType, KnownType};

use crate::peer;
use crate::program::{Directory, Running};

/// Types of the taxonomy that this version of the SDK does not have: they say more about a request than one
/// answer can. In its usual mode the SDK passes them on as they are; its strict models know no type beside
/// their own.
const NOT_IN_THE_SDK: [KnownType; 2] = [
    KnownType::NetworkResponseEnd,
    KnownType::NetworkWebsocketClosed,
];

/// A value of the taxonomy that the SDK does not have: its producer loses its browser in one way only.
const REASON_NOT_IN_THE_SDK: &str = r#""data":{"reason":"connection_lost"}"#;

/// The script in one of its modes, unless the test is skipped.
fn types(mode: &str) -> Option<Command> {
    let found = peer::installed("python/bin/python");
    let python = peer::or_skip(found, "PyPI kernel", "TAPLINE_REQUIRE_PEERS")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/sdk_types.py");
    let mut command = Command::new(python);
    command.arg(script).arg(mode).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// Checks that the SDK's strict models read these events, of which there is one a line.
#[track_caller]
pub(crate) fn sdk_reads<'a>(events: impl IntoIterator<Item = &'a str>) {
    let is_known = |event: &&str| {
        let read: Event = serde_json::from_str(event).unwrap();
        let is_new = |known| NOT_IN_THE_SDK.contains(&known);
        !matches!(read.event_type, EventType::Known(known) if is_new(known))
            && !event.contains(REASON_NOT_IN_THE_SDK)
    };
    let events: Vec<_> = events.into_iter().filter(is_known).collect();
    assert!(!events.is_empty());
    let Some(mut command) = types("read") else {
        return;
    };
    let name = std::thread::current().name().unwrap().replace("::", "-");
    let folder = Directory::new(&name);
    let file = folder.path("events.ndjson");
    std::fs::write(&file, events.join("\n")).unwrap();
    command.stdin(std::fs::File::open(&file).unwrap());
    let mut reading = Running::start(command);
    for event in events {
        assert_eq!(reading.line(), "ok", "{event}");
    }
    let said = reading.end();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
}

#[test]
fn the_sdk_reads_every_known_type_strictly() {
    sdk_reads(include_str!("../../../oapi/tests/it/known-types.ndjson").lines());
}

#[test]
fn the_sdk_reads_a_recorded_session_strictly() {
    sdk_reads(include_str!("../../../cdp/tests/golden/events.ndjson").lines());
}

#[test]
fn what_the_sdk_allows_is_read_and_written_back_without_a_loss() {
    let Some(command) = types("write") else {
        return;
    };
    let output = command_output(command);
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for line in output.lines() {
        let event: Event = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let EventType::Known(known) = event.event_type else {
            panic!("an event of an unknown type: {line}")
        };
        seen.insert(known.as_str());
        count += 1;
        let data = event.typed_data();
        let data = data.unwrap_or_else(|error| panic!("{error}: {line}"));
        let Some(before) = event.data.as_deref() else {
            continue;
        };
        let before: Value = serde_json::from_str(before.get()).unwrap();
        // `null` stands for an event without data.
        if !before.is_null() {
            let after = serde_json::to_value(data).unwrap();
            assert_eq!(after, before, "{known}");
        }
    }
    let all = KnownType::ALL
        .iter()
        .filter(|known| !NOT_IN_THE_SDK.contains(known));
    assert_eq!(seen, all.map(|known| known.as_str()).collect());
    assert!(count > 1_000, "{count} events");
}

#[track_caller]
fn command_output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}
