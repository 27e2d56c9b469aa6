//! What the events have in them.

use std::fmt;

use serde_json::{Value, json};
use tapline_tracing::{LOG_RECORD, Options, SPAN_END, SPAN_START, Sanitizer, in_process};
use tracing::subscriber::with_default;
use tracing::{debug, error, info, info_span, trace, warn};
use tracing_subscriber::prelude::*;

use crate::rig::Service;

/// The events of what `work` logs.
fn events_of(options: Options, work: impl FnOnce()) -> Vec<Value> {
    let (layer, source) = in_process(options);
    let mut service = Service::new(Some(source));
    service.start();
    with_default(tracing_subscriber::registry().with(layer), work);
    service.rest()
}

#[test]
fn a_record_has_its_message_level_target_and_fields() {
    let events = events_of(Options::default(), || {
        info!(
            target: "shop::cart",
            items = 3,
            price = 2.5,
            big = u64::MAX,
            below = -7_i64,
            paid = true,
            name = "Ann \"A\"",
            nothing = f64::NAN,
            list = ?[1, 2],
            "added {}",
            1 + 1
        );
    });
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(event["type"], LOG_RECORD);
    assert_eq!(event["category"], "platform");
    assert_eq!(event["source"]["kind"], "local_process");
    assert!(event.get("truncated").is_none());
    assert_eq!(
        event["data"],
        json!({"level": "info", "target": "shop::cart", "message": "added 2", "fields": {
            "items": 3, "price": 2.5, "big": u64::MAX, "below": -7, "paid": true,
            "name": "Ann \"A\"", "nothing": "NaN", "list": "[1, 2]"}})
    );
}

#[test]
fn the_levels_have_their_names_and_the_most_verbose_can_be_chosen() {
    let log = || {
        error!("e");
        warn!("w");
        info!("i");
        debug!("d");
        trace!("t");
    };
    let levels = |options| {
        let events = events_of(options, log);
        let levels = events.iter().map(|event| event["data"]["level"].clone());
        levels.collect::<Vec<_>>()
    };
    assert_eq!(levels(Options::default()), ["error", "warn", "info"]);
    let all = Options {
        level: tracing::level_filters::LevelFilter::TRACE,
        ..Options::default()
    };
    assert_eq!(levels(all), ["error", "warn", "info", "debug", "trace"]);
}

#[test]
fn a_record_shows_the_spans_that_it_is_in_and_a_closed_span_its_time() {
    let options = Options {
        service_name: Some("shop".to_owned()),
        span_starts: true,
        ..Options::default()
    };
    let events = events_of(options, || {
        let outer = info_span!("request", path = "/", status = tracing::field::Empty);
        let inner = info_span!(parent: &outer, "query", table = "items");
        inner.in_scope(|| warn!("slow"));
        outer.record("status", 200);
        outer.record("path", "/again");
        drop(inner);
        outer.in_scope(|| info!("done"));
    });
    let types: Vec<_> = events.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(
        types,
        [
            SPAN_START, SPAN_START, LOG_RECORD, SPAN_END, LOG_RECORD, SPAN_END
        ]
    );
    let [opened, _, slow, query, done, request] = &events[..] else {
        panic!("{events:?}")
    };
    let ids = |event: &Value| event["source"]["metadata"].clone();
    let (outer, inner) = (ids(request), ids(query));
    assert_eq!(ids(opened), outer);
    assert_eq!(ids(slow), inner);
    assert_eq!(ids(done), outer);
    assert_eq!(outer["trace_id"], inner["trace_id"]);
    assert_ne!(outer["span_id"], inner["span_id"]);
    assert_eq!(outer["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(outer["span_id"].as_str().unwrap().len(), 16);

    assert_eq!(
        slow["data"]["spans"],
        json!([{"name": "request", "id": outer["span_id"], "fields": {"path": "/"}},
               {"name": "query", "id": inner["span_id"], "fields": {"table": "items"}}])
    );
    assert_eq!(
        done["data"]["spans"][0]["fields"],
        json!({"path": "/again", "status": 200})
    );
    let data = &query["data"];
    assert_eq!(data["parent_span_id"], outer["span_id"]);
    assert_eq!(
        (&data["name"], &data["service_name"]),
        (&"query".into(), &"shop".into())
    );
    let data = &request["data"];
    assert!(data.get("parent_span_id").is_none() && opened["data"].get("duration_ms").is_none());
    assert_eq!(data["fields"], json!({"path": "/again", "status": 200}));
    let time = |name: &str| data[name].as_f64().unwrap();
    assert!(
        0.0 < time("busy_ms") && time("busy_ms") <= time("duration_ms"),
        "{data}"
    );
}

#[test]
fn a_span_that_was_opened_before_the_session_is_not_shown() {
    let (layer, source) = in_process(Options::default());
    let mut service = Service::new(Some(source));
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = info_span!("early");
        service.start();
        let _entered = span.enter();
        let _inner = info_span!("late").entered();
        info!("in both");
    });
    let events = service.rest();
    let types: Vec<_> = events.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, [LOG_RECORD, SPAN_END]);
    let spans = events[0]["data"]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0]["name"], "late");
}

#[test]
fn an_error_is_published_with_its_causes() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read the order")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Outer("x".parse::<u8>().unwrap_err());
    let events = events_of(Options::default(), || {
        error!(error = &error as &dyn std::error::Error, "failed");
    });
    assert_eq!(
        events[0]["data"]["fields"]["error"],
        "cannot read the order: invalid digit found in string"
    );
}

fn log_secrets() {
    let span = info_span!("login", user = "ann", password = "hunter2", pin = 4711);
    let _entered = span.enter();
    let token = "hunter2";
    info!(
        api_key = "hunter2",
        auth.token = token,
        url = "https://u:hunter2@h/?sid=hunter2&a=1",
        body = r#"{"password":"hunter2","a":1}"#,
        "sent to http://h/?access_token=hunter2 now"
    );
}

#[test]
fn values_with_the_name_of_a_secret_are_redacted() {
    let events = events_of(Options::default(), log_secrets);
    let text = format!("{events:?}");
    assert!(
        !text.contains("hunter2") && !text.contains("4711"),
        "{text}"
    );
    let data = &events[0]["data"];
    assert_eq!(
        data["message"],
        "sent to http://h/?access_token=*redacted* now"
    );
    assert_eq!(
        data["fields"]["url"],
        "https://*redacted*@h/?sid=*redacted*&a=1"
    );
    assert_eq!(data["spans"][0]["fields"]["user"], "ann");
}

#[test]
fn redaction_can_be_switched_off() {
    let options = Options {
        redaction: Sanitizer::off(),
        ..Options::default()
    };
    let events = events_of(options, log_secrets);
    assert_eq!(events[1]["data"]["fields"]["pin"], 4711);
    assert_eq!(events[0]["data"]["fields"]["api_key"], "hunter2");
}
