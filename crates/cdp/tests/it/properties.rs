//! A recorded session, cut, shuffled and doubled: any messages in any order.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tapline_cdp::{Held, Options, Redaction};
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{Category, CategorySet, Event};

use crate::browser::{Browser, data_of};
use crate::recording;

/// What is done to the recording.
#[derive(Debug, Clone)]
struct Mangled {
    /// Which messages, and in which order.
    order: Vec<usize>,
    /// Messages that are cut, and after how many bytes.
    cut: Vec<(usize, usize)>,
    /// What else happens, and before which message.
    other: Vec<(usize, Other)>,
}

#[derive(Debug, Clone)]
enum Other {
    Captures(u16),
    Gone,
    Back,
    GivenUp,
    /// That many seconds pass.
    Waits(u64),
}

const MESSAGES: usize = 1081;

fn mangled() -> impl Strategy<Value = Mangled> {
    let other = prop_oneof![
        any::<u16>().prop_map(Other::Captures),
        Just(Other::Gone),
        Just(Other::Back),
        Just(Other::GivenUp),
        (0..700_u64).prop_map(Other::Waits),
    ];
    // In order, nearly so, or shuffled; some are left out, and some come twice.
    let order = prop_oneof![Just(1_usize), Just(40), Just(MESSAGES)]
        .prop_flat_map(|late| prop::collection::vec((0..MESSAGES, 0..late), 0..1500))
        .prop_map(|picks| {
            let mut picks: Vec<_> = picks.into_iter().map(|(n, late)| (n + late, n)).collect();
            picks.sort_by_key(|(at, _)| *at);
            picks.into_iter().map(|(_, n)| n).collect()
        });
    (
        order,
        prop::collection::vec((0..1500_usize, 0..2000_usize), 0..20),
        prop::collection::vec((0..1500_usize, other), 0..12),
    )
        .prop_map(|(order, cut, other)| Mangled { order, cut, other })
}

const SECRETS: [&str; 3] = [
    "s3cr3t-token",
    "4111111111111111",
    "cafc45f614fe913f22d7b930d37da1b2e08f49ca",
];

/// How many WebSockets the recording opens. One that is open may stay so.
const SOCKETS: usize = 2;

/// Requests without an end. A redirect emits its request again.
fn open(events: &[Event]) -> BTreeMap<String, i64> {
    let mut open = BTreeMap::new();
    for event in events {
        let data = match event.event_type.as_str() {
            "network_request" | "network_response" | "network_loading_failed" => data_of(event),
            _ => continue,
        };
        if data["resource_type"] == "WebSocket" {
            continue;
        }
        let id = data["request_id"].to_string();
        if event.event_type.as_str() == "network_request" {
            open.insert(id, 1);
        } else {
            open.insert(id, 0);
        }
    }
    open
}

/// Responses that were emitted while they lasted, and have no end yet.
fn lasting(events: &[Event]) -> usize {
    let ids = |name: &'static str| {
        let named = events
            .iter()
            .filter(move |it| it.event_type.as_str() == name);
        named.map(data_of)
    };
    let open = ids("network_response").filter(|data| data["open"] == true);
    open.count() - ids("network_response_end").count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_continues_and_keeps_nothing(mangled in mangled()) {
        let messages = recording::messages();
        prop_assert_eq!(messages.len(), MESSAGES);
        let redaction = Redaction::default().with_json_fields(["card"]);
        let mut browser = Browser::new(Options { redaction: redaction.into(), ..Options::default() });
        let mut always_captured = true;
        for (n, pick) in mangled.order.iter().enumerate() {
            for (_, other) in mangled.other.iter().filter(|(at, _)| *at == n) {
                match other {
                    Other::Captures(bits) => {
                        let captured = CategorySet::from_bits(*bits);
                        always_captured &= captured.contains(Category::Network);
                        browser.core.reconfigure(browser.now, captured);
                    }
                    Other::Gone => browser.core.disconnected(browser.now, DisconnectReason::ConnectionLost),
                    Other::Back => browser.core.connected(browser.now),
                    Other::GivenUp => browser.core.reconnect_failed(browser.now),
                    Other::Waits(seconds) => { browser.passes(Duration::from_secs(*seconds)); }
                }
                browser.settle();
            }
            browser.passes(Duration::from_millis(1));
            let message = &messages[*pick].1;
            match mangled.cut.iter().find(|(at, _)| *at == n) {
                Some((_, at)) => browser.sends(message.get(..*at).unwrap_or(message)),
                None => browser.sends(message),
            }
        }
        let held = browser.core.held();
        prop_assert!(held.targets <= 10 && held.requests <= MESSAGES);
        prop_assert!(held.timers <= 4 * held.targets);

        // Every request ends, also if the browser stays and is silent. A response that was emitted while it
        // lasts may last for ever.
        browser.passes(Duration::from_secs(3600));
        browser.waits();
        let held = browser.core.held();
        let events = browser.events();
        let lasting = if always_captured { lasting(&events) } else { 0 };
        let most = if always_captured { lasting + SOCKETS } else { MESSAGES };
        prop_assert!((lasting..=most).contains(&held.requests), "{} of {}", held.requests, lasting);
        prop_assert_eq!((held.commands, held.timers), (0, 0));
        if always_captured {
            prop_assert!(open(&events).values().all(|open| *open == 0));
        }

        // One pair for each loss, and all of them in order.
        let link: String = events.iter().filter_map(|event| match event.event_type.as_str() {
            "monitor_disconnected" => Some('d'),
            "monitor_reconnected" => Some('r'),
            "monitor_reconnect_failed" => Some('f'),
            _ => None,
        }).collect();
        prop_assert!(!link.contains("dd") && !link.contains("rr") && !link.contains("ff"), "{}", link);
        prop_assert!(!link.starts_with('r') && !link.starts_with('f'));

        for event in &events {
            let text = serde_json::to_string(event).unwrap();
            for secret in SECRETS {
                prop_assert!(!text.contains(secret), "{}", text);
            }
            prop_assert!(event.typed_data().unwrap().is_some(), "{}", text);
        }

        browser.core.disconnected(browser.now, DisconnectReason::ConnectionLost);
        prop_assert_eq!(browser.core.held(), Held::default());
        prop_assert_eq!(browser.core.next_deadline(), None);
    }

    #[test]
    fn redaction_removes_nothing_else_and_never_fails(text in "[a-z@:/\\\\%2F40=&?\"'{}\\[\\], é]{0,60}") {
        let emitted = |redaction: Redaction| {
            let mut browser = Browser::new(Options { redaction: redaction.into(), ..Options::default() });
            browser.tab("S", "T");
            let args = json!([{"type": "string", "value": text}]);
            browser.reports(Some("S"), "Runtime.consoleAPICalled", json!({"type": "log", "args": args, "timestamp": 1e15}));
            browser.data("console_log").remove(0)["text"].as_str().unwrap().to_owned()
        };
        prop_assert_eq!(&emitted(Redaction::off()), &text);
        let all = Redaction::default().with_query_parameters(["a"]).with_json_fields(["b"]);
        emitted(all);
        if !text.contains('@') && !text.contains("%40") {
            prop_assert_eq!(&emitted(Redaction::default()), &text);
        }
    }
}
