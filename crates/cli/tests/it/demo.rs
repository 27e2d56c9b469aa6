use std::time::{SystemTime, UNIX_EPOCH};

use crate::program::{Running, Server, tapline};

#[test]
fn real_events_happen_now() {
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros() as u64;
    let mut demo = Server::with(&["demo", "--listen", "127.0.0.1:0", "--speed", "20"]);
    let said = demo.running.line();
    assert!(said.starts_with("replaying 313 events"), "{said}");
    let url = demo.url.clone();
    assert_eq!(demo.running.line(), "");
    assert_eq!(
        demo.running.line(),
        format!("open {url}/ in a browser, or try:")
    );
    assert_eq!(demo.running.line(), format!("  tapline tail --url {url}"));
    assert_eq!(demo.running.line(), format!("  tapline why --url {url}"));

    let said = Running::start(demo.tail(&["--json", "--replay", "all", "--limit", "20"])).end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let recording = include_str!("../../data/browser-events.ndjson");
    for (line, recorded) in said.out.lines().zip(recording.lines()) {
        let envelope: tapline_oapi::Envelope = serde_json::from_str(line).unwrap();
        let recorded: tapline_oapi::Event = serde_json::from_str(recorded).unwrap();
        assert_eq!(envelope.event.event_type, recorded.event_type);
        assert_eq!(
            envelope.event.data.unwrap().get(),
            recorded.data.unwrap().get()
        );
        assert!(before <= envelope.event.ts, "{line}");
    }
}

#[test]
fn without_a_browser_it_says_why_there_is_a_recording() {
    let mut command = tapline(&["demo", "--listen", "127.0.0.1:0"]);
    command.env("PATH", "");
    let mut demo = Running::start(command);
    assert!(demo.line().starts_with("listening on http://"));
    assert_eq!(
        demo.line(),
        "no browser (none of chromium, chromium-browser, google-chrome is on the search path), so this shows a \
         recording; --browser PATH starts one"
    );
    assert!(demo.line().starts_with("replaying 313 events"));
}
