//! Typed `data`, tested with a recorded browser session and with the fields of the taxonomy.

use serde_json::Value;
use tapline_oapi::data::{CaptchaStatus, EventData, TargetType};
use tapline_oapi::{Category, Event, EventType, KnownType};

use crate::CORPUS;

fn typed(known: KnownType, data: &str) -> Result<Option<EventData>, serde_json::Error> {
    let data = serde_json::value::RawValue::from_string(data.to_owned()).unwrap();
    Event::known(known, Some(data)).typed_data()
}

/// Whether `after` contains everything that `before` contains. Numbers are compared by value, because a
/// 0 that is read into a float is written as 0.0.
fn contains_all(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, value)| {
            after
                .get(key)
                .is_some_and(|other| contains_all(value, other))
        }),
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len()
                && before
                    .iter()
                    .zip(after)
                    .all(|(value, other)| contains_all(value, other))
        }
        (Value::Number(before), Value::Number(after)) => before.as_f64() == after.as_f64(),
        _ => before == after,
    }
}

#[test]
fn no_field_of_a_recorded_session_is_lost() {
    let mut events = 0;
    for line in CORPUS.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        let data = event
            .typed_data()
            .unwrap_or_else(|error| panic!("{error}: {line}"))
            .unwrap();
        assert_eq!(EventType::Known(data.known_type()), event.event_type);

        let before: Value = serde_json::from_str(event.data.as_deref().unwrap().get()).unwrap();
        let after = serde_json::to_value(&data).unwrap();
        assert!(contains_all(&before, &after), "{before}\n{after}");
        assert!(contains_all(&after, &before), "made up: {after}\n{before}");
        events += 1;
    }
    assert_eq!(events, 313);
}

/// One example for each known type, with every field of the taxonomy. Read and written again, it
/// must come out the same.
#[test]
fn every_known_type_has_its_fields() {
    const CONTEXT: &str = r#""session_id":"s","target_id":"t","target_type":"page","nav_seq":3,"frame_id":"f","loader_id":"l","url":"u""#;
    const API_CALL: &str = r#"{"request_id":"r","operation_id":"o","status":200,"duration_ms":5}"#;
    const STACK: &str = r#""stack_trace":{"description":"setTimeout","callFrames":[{"functionName":"f","scriptId":"1","url":"u","lineNumber":1,"columnNumber":-1}],"parent":{"callFrames":[]}}"#;

    let with_context = |rest: &str| match rest {
        "" => format!("{{{CONTEXT}}}"),
        rest => format!("{{{CONTEXT},{rest}}}"),
    };
    let example = |known| {
        match known {
        KnownType::ConsoleLog => with_context(&format!(r#""level":"log","text":"x","args":["x"],{STACK},"log_source":"security","source_url":"u","exception_id":7"#)),
        KnownType::ConsoleError => with_context(&format!(
            r#""text":"x","level":"error","args":["x"],"line":1,"column":2,"source_url":"u",{STACK},"log_source":"network","exception_id":7"#
        )),
        KnownType::NetworkRequest => with_context(
            r#""request_id":"r","method":"GET","document_url":"u","headers":{"A":"b"},"initiator_type":"other","resource_type":"Document","post_data":"p","post_data_bytes":9,"post_data_omitted":true,"is_redirect":true,"redirect_url":"v""#,
        ),
        KnownType::NetworkResponse => with_context(
            r#""request_id":"r","method":"GET","status":200,"headers":{"A":"b"},"status_text":"OK","mime_type":"text/css","resource_type":"Stylesheet","body":"b","body_bytes":9,"protocol":"h2","remote_ip":"::1","from_cache":"disk","encoded_bytes":9,"duration_ms":9.5,"timing":{"blocked":0.5,"dns":0.5,"connect":0.5,"tls":0.5,"send":0.5,"wait":0.5,"receive":0.5},"open":true"#,
        ),
        KnownType::NetworkResponseEnd => with_context(
            r#""request_id":"r","duration_ms":9.5,"encoded_bytes":9,"error_text":"e""#,
        ),
        KnownType::NetworkWebsocketClosed => with_context(
            r#""request_id":"r","duration_ms":9.5,"messages_sent":1,"messages_received":2,"bytes_sent":3,"bytes_received":4,"code":1000,"reason":"x","error_text":"e""#,
        ),
        KnownType::NetworkLoadingFailed => {
            with_context(r#""request_id":"r","error_text":"e","canceled":true,"resource_type":"Script","status":200,"headers":{"A":"b"},"mime_type":"text/css","blocked_reason":"csp","cors_error":"c","duration_ms":9.5"#)
        }
        KnownType::NetworkIdle
        | KnownType::PageLayoutSettled
        | KnownType::PageNavigationSettled
        | KnownType::PageCrashed => with_context(""),
        KnownType::PageNavigation => r#"{"url":"u","frame_id":"f","loader_id":"l","parent_frame_id":"p","session_id":"s","target_id":"t","target_type":"iframe"}"#.to_owned(),
        KnownType::PageDomContentLoaded | KnownType::PageLoad => with_context(r#""cdp_timestamp":2405.5"#),
        KnownType::PageTabOpened => {
            r#"{"target_id":"t","target_type":"page","url":"u","title":"x","opener_id":"o"}"#.to_owned()
        }
        KnownType::PageLayoutShift => with_context(
            r#""source_frame_id":"f","time":1.5,"duration":0.5,"layout_shift_details":{"value":0.5,"had_recent_input":false}"#,
        ),
        KnownType::PageLcp => with_context(
            r#""source_frame_id":"f","time":1.5,"lcp_details":{"render_time":1.5,"load_time":0.5,"size":6384.5,"element_id":"e","url":"u","node_id":4}"#,
        ),
        KnownType::InteractionClick => with_context(r#""x":1.5,"y":2.5,"selector":"s","tag":"A","text":"t""#),
        KnownType::InteractionKey => with_context(r#""key":"Enter","selector":"s","tag":"INPUT""#),
        KnownType::InteractionScrollSettled => {
            with_context(r#""from_x":0.5,"from_y":0.5,"to_x":0.5,"to_y":900.5,"target_selector":"html""#)
        }
        KnownType::MonitorScreenshot => r#"{"png":"AAAA"}"#.to_owned(),
        KnownType::MonitorDisconnected => r#"{"reason":"chrome_restarted"}"#.to_owned(),
        KnownType::MonitorReconnected => r#"{"reconnect_duration_ms":5}"#.to_owned(),
        KnownType::MonitorReconnectFailed => r#"{"reason":"reconnect_exhausted"}"#.to_owned(),
        KnownType::MonitorInitFailed => r#"{"step":"attach"}"#.to_owned(),
        KnownType::ProxyError => r#"{"code":"c","request_id":"r","status":502,"method":"GET","raw_code":"x","resource_type":"Document"}"#.to_owned(),
        KnownType::ApiCall | KnownType::PlatformApiCall => API_CALL.to_owned(),
        KnownType::CdpCommand => r#"{"method":"Page.navigate","url":"u","n":[1]}"#.to_owned(),
        KnownType::CdpConnect => "{}".to_owned(),
        KnownType::CdpDisconnect => r#"{"duration_ms":5,"message_count":6,"reason":"closed"}"#.to_owned(),
        KnownType::LiveViewConnect => r#"{"session_id":"s"}"#.to_owned(),
        KnownType::LiveViewDisconnect => r#"{"session_id":"s","duration_ms":5}"#.to_owned(),
        KnownType::CaptchaSolveStarted => r#"{"captcha_type":"c","task_id":"t","challenge_id":"d","website_host":"h","website_path":"p"}"#.to_owned(),
        KnownType::CaptchaChallengeResult => r#"{"challenge_id":"d","status":"solved","duration_ms":5}"#.to_owned(),
        KnownType::CaptchaSolveResult => r#"{"captcha_type":"c","status":"abandoned","duration_ms":5,"task_id":"t","website_host":"h","website_path":"p","error_code":"e"}"#.to_owned(),
        KnownType::SystemOomKill => r#"{"process_name":"chrome","pid":1,"rss_kb":2,"trigger_process_name":"node","trigger_pid":3,"constraint":"memcg","mem_total_kb":4,"mem_free_kb":5,"top_tasks":[{"process_name":"chrome","pid":1,"rss_kb":2}]}"#.to_owned(),
        KnownType::ServiceCrashed => r#"{"service_name":"s","phase":"gave_up","pid":1}"#.to_owned(),
    }
    };

    for &known in KnownType::ALL {
        let before = example(known);
        let data = typed(known, &before)
            .unwrap_or_else(|error| panic!("{known}: {error}"))
            .unwrap();
        assert_eq!(data.known_type(), known);
        let before: Value = serde_json::from_str(&before).unwrap();
        assert_eq!(serde_json::to_value(&data).unwrap(), before, "{known}");
    }
}

#[test]
fn fields_can_be_matched_on() {
    let data = typed(
        KnownType::CaptchaSolveResult,
        r#"{"captcha_type":"c","status":"timeout","duration_ms":5,"new":true}"#,
    );
    let Ok(Some(EventData::CaptchaSolveResult(result))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(
        (result.status, result.task_id),
        (CaptchaStatus::Timeout, None)
    );
}

#[test]
fn the_context_may_be_absent() {
    let data = typed(KnownType::ConsoleLog, r#"{"level":"log","text":"hello"}"#);
    let Ok(Some(EventData::ConsoleLog(line))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(line.context, tapline_oapi::data::Context::default());
}

#[test]
fn an_unknown_kind_of_target_is_read_as_other() {
    let data = typed(
        KnownType::NetworkIdle,
        r#"{"target_type":"auction_worklet"}"#,
    );
    let Ok(Some(EventData::NetworkIdle(idle))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(idle.context.target_type, Some(TargetType::Other));
}

#[test]
fn absent_data_is_valid_for_a_type_without_required_fields() {
    let connect = Event::known(KnownType::CdpConnect, None).typed_data();
    assert!(matches!(connect, Ok(Some(EventData::CdpConnect(_)))));
    assert!(
        Event::known(KnownType::ConsoleLog, None)
            .typed_data()
            .is_err()
    );
    assert!(typed(KnownType::ConsoleLog, r#"{"text":1}"#).is_err());

    let custom = Event::custom("mine", Category::Page, None)
        .unwrap()
        .typed_data();
    assert_eq!(custom.unwrap(), None);
}
