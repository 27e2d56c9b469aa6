//! What an event looks like to OpenTelemetry.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tapline_oapi::{Category, Event, Source, SourceKind};

use crate::mock::{Mock, attribute};
use crate::rig::{Rig, event, ledger, options};

/// The records of these events.
async fn records(events: impl IntoIterator<Item = Event>) -> Vec<LogRecord> {
    let mock = Mock::new();
    let rig = Rig::new(options(&mock.url()));
    for event in events {
        rig.publish(event);
    }
    rig.stop().await;
    mock.accepted()
}

fn known(name: &str, data: &str) -> Event {
    // The category is that of the type.
    event(name, Category::System, data)
}

fn text(record: &LogRecord, key: &str) -> Option<String> {
    match attribute(record, key)? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(record: &LogRecord, key: &str) -> Option<i64> {
    match attribute(record, key)? {
        Value::IntValue(number) => Some(number),
        other => panic!("{key} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_the_attributes_of_the_conventions_and_its_data_as_body() {
    let source = Source {
        kind: SourceKind::Cdp,
        event: Some("Network.responseReceived".to_owned()),
        metadata: BTreeMap::from([
            (
                "trace_id".to_owned(),
                "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            ),
            ("span_id".to_owned(), "00f067aa0ba902b7".to_owned()),
            ("cdp_session_id".to_owned(), "EB3B".to_owned()),
        ]),
    };
    let data = r#"{"request_id":"9.1","method":"GET","url":"https://a.example/x?y=1","status":404,"headers":{"a":"b"},
        "protocol":"h2","remote_ip":"::1","encoded_bytes":9007199254740993,"duration_ms":1.5,"huge":18446744073709551616}"#;
    let event = known("network_response", data)
        .with_ts(1_795_349_358_733_796)
        .with_source(source);
    let records = records([event]).await;
    let [record] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(record.time_unix_nano, 1_795_349_358_733_796_000);
    assert!(1_700_000_000_000_000_000 < record.observed_time_unix_nano);
    assert_eq!(record.event_name, "network_response");
    assert_eq!(
        (record.severity_number, &*record.severity_text),
        (13, "WARN")
    );
    assert_eq!(record.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
    assert_eq!((record.trace_id.len(), record.span_id.len()), (16, 8));
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("url.full", "https://a.example/x?y=1"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "2"),
        ("network.peer.address", "::1"),
        ("error.type", "404"),
        ("session.id", "shop-7"),
        ("tapline.type", "network_response"),
        ("tapline.category", "network"),
        ("tapline.source.kind", "cdp"),
        ("tapline.source.event", "Network.responseReceived"),
        ("tapline.metadata.cdp_session_id", "EB3B"),
        ("tapline.request_id", "9.1"),
    ] {
        assert_eq!(text(record, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(number(record, "http.response.status_code"), Some(404));
    assert_eq!(number(record, "tapline.seq"), Some(1));
    assert_eq!(attribute(record, "tapline.metadata.trace_id"), None);
    let mut names: Vec<_> = record.attributes.iter().map(|it| &it.key).collect();
    names.sort_unstable();
    assert!(
        names.windows(2).all(|two| two[0] != two[1]),
        "names are unique: {names:?}"
    );
    let Some(AnyValue {
        value: Some(Value::KvlistValue(body)),
    }) = &record.body
    else {
        panic!()
    };
    let field = |name: &str| {
        let field = body.values.iter().find(|it| it.key == name);
        field.unwrap().value.clone().unwrap().value.unwrap()
    };
    assert_eq!(
        field("encoded_bytes"),
        Value::IntValue(9_007_199_254_740_993)
    );
    assert_eq!(field("duration_ms"), Value::DoubleValue(1.5));
    assert_eq!(
        field("huge"),
        Value::StringValue("18446744073709551616".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_time_has_that_of_its_publishing() {
    let records = records([known("page_load", "{}")]).await;
    let (time, observed) = (
        records[0].time_unix_nano,
        records[0].observed_time_unix_nano,
    );
    assert!(
        1_700_000_000_000_000_000 < time && time <= observed,
        "{time} {observed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_has_its_type_message_and_stack() {
    let data = r#"{"text":"Uncaught (in promise) TypeError: x is not a function\n    at f","stack_trace":{"callFrames":[
        {"functionName":"f","scriptId":"8","url":"http://a/b.js","lineNumber":0,"columnNumber":115},
        {"functionName":"","scriptId":"8","url":"http://a/b.js","lineNumber":9,"columnNumber":0}]}}"#;
    let written = r#"{"level":"error","text":"TypeError: no exception"}"#;
    let thrown = r#"{"text":"Uncaught no type here: x"}"#;
    let records = records([
        known("console_error", data),
        known("console_error", written),
        known("console_error", thrown),
    ])
    .await;
    let of = |n: usize, key: &str| text(&records[n], key);
    assert_eq!(of(0, "exception.type").unwrap(), "TypeError");
    assert_eq!(of(0, "exception.message").unwrap(), "x is not a function");
    assert_eq!(
        of(0, "exception.stacktrace").unwrap(),
        "Uncaught (in promise) TypeError: x is not a function\n    at f (http://a/b.js:1:116)\n    at http://a/b.js:10:1"
    );
    assert_eq!(
        (of(1, "exception.type"), of(1, "exception.message")),
        (None, None)
    );
    assert_eq!(of(1, "tapline.console.level").unwrap(), "error");
    assert_eq!(
        (of(2, "exception.type"), of(2, "exception.message").unwrap()),
        (None, "no type here: x".to_owned())
    );
    assert!(records.iter().all(|it| it.severity_text == "ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_severity_follows_from_the_type_and_the_data() {
    let cases = [
        ("console_log", r#"{"level":"log","text":""}"#, "INFO"),
        ("console_log", r#"{"level":"verbose","text":""}"#, "DEBUG"),
        ("console_log", r#"{"level":"warning","text":""}"#, "WARN"),
        ("console_log", r#"{"level":"trace","text":""}"#, "INFO"),
        ("console_log", r#"{"level":"table","text":""}"#, "INFO"),
        ("console_log", r#"{"level":"assert","text":""}"#, "ERROR"),
        ("network_response", r#"{"status":200}"#, "INFO"),
        ("network_response", r#"{"status":500}"#, "WARN"),
        (
            "network_loading_failed",
            r#"{"error_text":"net::ERR_ABORTED","canceled":true}"#,
            "INFO",
        ),
        (
            "network_loading_failed",
            r#"{"error_text":"net::ERR_FAILED","canceled":false}"#,
            "WARN",
        ),
        ("page_crashed", "{}", "ERROR"),
        ("system_oom_kill", "{}", "ERROR"),
        ("service_crashed", "{}", "ERROR"),
        ("page_load", "null", "INFO"),
        ("captcha_solve_result", r#"{"status":"timeout"}"#, "WARN"),
        ("captcha_challenge_result", r#"{"status":"solved"}"#, "INFO"),
        ("api_call", r#"{"status":503}"#, "WARN"),
        ("deploy_failed", "[]", "WARN"),
        ("worker_error", "1", "ERROR"),
        ("step", r#"{"level":"debug"}"#, "DEBUG"),
        ("step", r#"{"level":7}"#, "INFO"),
    ];
    let records = records(cases.map(|(name, data, _)| known(name, data))).await;
    assert_eq!(records.len(), cases.len());
    for (record, (name, data, expected)) in records.iter().zip(cases) {
        assert_eq!(record.severity_text, expected, "{name} {data}");
        let number = match expected {
            "DEBUG" => 5,
            "INFO" => 9,
            "WARN" => 13,
            _ => 17,
        };
        assert_eq!(record.severity_number, number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_valid_ids_of_traces_become_fields() {
    let with = |trace: &str, span: &str| {
        let mut source = Source::default();
        source
            .metadata
            .insert("trace_id".to_owned(), trace.to_owned());
        source
            .metadata
            .insert("span_id".to_owned(), span.to_owned());
        known("page_load", "{}").with_source(source)
    };
    let (trace, span) = ("4BF92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let zeros = "0".repeat(32);
    let records = records([
        with(trace, span),
        with(trace, "mine"),
        with("mine", span),
        with(&zeros, span),
        with("", ""),
    ])
    .await;
    let lengths: Vec<_> = records
        .iter()
        .map(|it| (it.trace_id.len(), it.span_id.len()))
        .collect();
    assert_eq!(lengths, [(16, 8), (16, 0), (0, 0), (0, 0), (0, 0)]);
    assert_eq!(
        text(&records[1], "tapline.metadata.span_id").unwrap(),
        "mine"
    );
    assert_eq!(text(&records[2], "tapline.metadata.span_id").unwrap(), span);
    assert_eq!(
        text(&records[3], "tapline.metadata.trace_id").unwrap(),
        zeros
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_bounded_and_what_is_cut_is_visible() {
    let mut source = Source::default();
    for n in 0..100 {
        source
            .metadata
            .insert(format!("key-{n:03}"), "é".repeat(3000));
    }
    source.metadata.insert("k".repeat(300), String::new());
    let data = format!(r#"{{"url":"http://a/{}"}}"#, "x".repeat(10_000));
    let records = records([known("page_navigation", &data).with_source(source)]).await;
    let record = &records[0];
    let url = text(record, "url.full").unwrap();
    assert!(url.len() <= 4096 && url.ends_with("x…"), "{}", url.len());
    let value = text(record, "tapline.metadata.key-000").unwrap();
    assert!(value.len() <= 4096 && value.ends_with("é…"));
    let metadata = record
        .attributes
        .iter()
        .filter(|it| it.key.starts_with("tapline.metadata."));
    assert_eq!(
        (metadata.count(), record.dropped_attributes_count),
        (64, 37)
    );
    // The body has all of it.
    let Some(AnyValue {
        value: Some(Value::KvlistValue(body)),
    }) = &record.body
    else {
        panic!()
    };
    let Some(Value::StringValue(url)) = &body.values[0].value.as_ref().unwrap().value else {
        panic!()
    };
    assert_eq!(url.len(), 10_009);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_any_depth_can_be_decoded() {
    let nested = |depth: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        known("deep", &format!("{open}1{close}"))
    };
    // The mock decodes with a bound of its own, as collectors do.
    let records = records([
        nested(5),
        nested(24),
        nested(25),
        nested(100),
        nested(10_000),
    ])
    .await;
    assert_eq!(records.len(), 5);
    for record in records {
        assert!(matches!(
            record.body.unwrap().value,
            Some(Value::KvlistValue(_))
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_method_of_a_request_is_not_that_of_a_command() {
    let records = records([
        known("network_request", r#"{"method":"POST","url":"http://a"}"#),
        known("network_request", r#"{"method":"PROPFIND","url":"http://a"}"#),
        known("cdp_command", r#"{"method":"Page.navigate"}"#),
        known("api_call", r#"{"request_id":"r","operation_id":"click","status":422,"duration_ms":1,"code":"bad"}"#),
    ])
    .await;
    let of = |n: usize, key: &str| text(&records[n], key);
    assert_eq!(of(0, "http.request.method").unwrap(), "POST");
    assert_eq!(of(1, "http.request.method").unwrap(), "_OTHER");
    assert_eq!(of(1, "http.request.method_original").unwrap(), "PROPFIND");
    assert_eq!(
        (
            of(2, "http.request.method"),
            of(2, "tapline.cdp.method").unwrap()
        ),
        (None, "Page.navigate".to_owned())
    );
    assert_eq!(of(3, "tapline.operation_id").unwrap(), "click");
    assert_eq!(of(3, "error.type").unwrap(), "bad");
    assert_eq!(number(&records[3], "http.response.status_code"), Some(422));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_says_which_program_it_is_and_takes_further_attributes() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    for (key, value) in [
        ("service.name", "x"),
        ("deployment.environment.name", "staging"),
        ("service.name", "shop"),
    ] {
        options.resource.push((key.to_owned(), value.to_owned()));
    }
    let rig = Rig::new(options);
    rig.publish_some(1);
    assert_eq!(rig.stop().await.ledger, ledger(1, 0, 0, 0));
    let received = mock.received();
    let logs = &received[0].request.resource_logs[0];
    let attributes: BTreeMap<_, _> = logs
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|it| match it.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => (it.key.clone(), text),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(attributes.len(), 4);
    assert_eq!(attributes["service.name"], "shop");
    assert_eq!(attributes["deployment.environment.name"], "staging");
    assert_eq!(
        attributes["service.instance.id"],
        rig.session.stream().epoch().to_string()
    );
    assert_eq!(attributes["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(logs.scope_logs[0].scope.as_ref().unwrap().name, "tapline");
    let epoch = text(&received[0].records()[0], "tapline.epoch");
    assert_eq!(epoch.as_ref(), Some(&attributes["service.instance.id"]));
}
