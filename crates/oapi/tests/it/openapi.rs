//! The committed document, and the rules for every operation in it.

use std::path::Path;

use serde_json::Value;
use tapline_oapi::openapi::document_json;
use tapline_oapi::{
    ConfigRequest, ErrorBody, Event, KnownType, PublishRequest, ReaderPatch, ReaderPatched, State,
    Ticket, TicketRequest, from_json,
};

fn document() -> Value {
    serde_json::from_str(&document_json()).unwrap()
}

/// Every operation, with its method and path for messages.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

/// The answers of an operation; shared answers are elsewhere in the document.
fn responses<'a>(document: &'a Value, operation: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let responses = operation["responses"].as_object().unwrap();
    responses
        .iter()
        .map(|(status, response)| match response["$ref"].as_str() {
            None => (status.as_str(), response),
            Some(elsewhere) => {
                let response = document.pointer(elsewhere.strip_prefix('#').unwrap());
                (status.as_str(), response.unwrap())
            }
        })
        .collect()
}

/// All examples of a body or an answer.
fn examples(content: &Value) -> Vec<&Value> {
    let one = content.get("example");
    let many = content["examples"]
        .as_object()
        .into_iter()
        .flat_map(|many| many.values().map(|one| &one["value"]));
    one.into_iter().chain(many).collect()
}

#[test]
fn committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let current = document_json();
    if std::env::var_os("TAPLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "crates/oapi/openapi.json does not match the types; if the change is intended, renew it \
         with `cargo xtask openapi --write` and review the difference"
    );
}

#[test]
fn these_are_the_operations() {
    let document = document();
    let mut found: Vec<_> = operations(&document)
        .into_iter()
        .map(|(name, operation)| format!("{name} = {}", operation["operationId"].as_str().unwrap()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "delete /telemetry = delete_telemetry",
            "get / = get_page",
            "get /healthz = get_health",
            "get /metrics = get_metrics",
            "get /openapi.json = get_openapi",
            "get /readyz = get_readiness",
            "get /telemetry = get_telemetry",
            "get /telemetry/counts = count_events",
            "get /telemetry/events = read_events",
            "get /telemetry/export = export_events",
            "get /telemetry/navigations = list_navigations",
            "get /telemetry/problems = list_problems",
            "get /telemetry/readers = list_readers",
            "get /telemetry/requests = list_requests",
            "get /telemetry/requests/{id} = get_request",
            "get /telemetry/sinks = list_sinks",
            "get /telemetry/stream = stream_events",
            "get /telemetry/wait = wait_for_event",
            "patch /telemetry = patch_telemetry",
            "patch /telemetry/readers/{id} = patch_reader",
            "post /telemetry/events = publish_events",
            "post /telemetry/tickets = create_ticket",
            "post /telemetry/view = view_file",
            "put /telemetry = put_telemetry",
        ]
    );
}

/// utoipa omits a missing description, and the document is then invalid.
#[test]
fn everything_is_described() {
    let whole = document();
    for (name, operation) in operations(&whole) {
        assert!(operation["summary"].is_string(), "{name}");
        for (status, response) in responses(&whole, operation) {
            let described = response["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(described, "{name} {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name} {parameter}");
        }
    }
    let document = document_json();
    assert!(
        !document.contains("[`"),
        "a link that only rustdoc understands"
    );
    for known in KnownType::ALL {
        assert!(
            document.contains(&format!("| `{known}` | `{}` |", known.category())),
            "{known}"
        );
    }
}

#[test]
fn every_error_is_an_error_body_with_an_example() {
    let whole = document();
    for (name, operation) in operations(&whole) {
        for (status, response) in responses(&whole, operation) {
            if status.starts_with('2') {
                continue;
            }
            let content = &response["content"]["application/json"];
            assert_eq!(
                content["schema"]["$ref"], "#/components/schemas/ErrorBody",
                "{name} {status}"
            );
            for example in examples(content) {
                serde_json::from_value::<ErrorBody>(example.clone()).unwrap();
            }
            assert!(!examples(content).is_empty(), "{name} {status}");
        }
    }
}

/// Every operation declares the answers that any request may get; only an operation without access control has no 401.
#[test]
fn every_operation_declares_the_common_errors() {
    let whole = document();
    for (name, operation) in operations(&whole) {
        let is_open = operation["security"] == serde_json::json!([{}]);
        let responses = responses(&whole, operation);
        let has = |status| responses.iter().any(|(declared, _)| *declared == status);
        assert_eq!(has("401"), !is_open, "{name}");
        for status in ["403", "408", "429", "431", "503"] {
            assert!(has(status), "{name} {status}");
        }
        for (status, response) in &responses {
            assert!(
                response["headers"]["X-Request-Id"].is_object(),
                "{name} {status}"
            );
            let retry_after = response["headers"]["Retry-After"].is_object();
            assert_eq!(
                retry_after,
                ["429", "503"].contains(status),
                "{name} {status}"
            );
        }
    }
}

#[test]
fn every_way_to_authenticate_is_declared() {
    let document = document();
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let stream = document["paths"]["/telemetry/stream"]["get"]["security"]
        .as_array()
        .unwrap();
    let of_stream: Vec<_> = stream
        .iter()
        .flat_map(|way| way.as_object().unwrap().keys())
        .collect();
    assert_eq!(of_stream, ["bearer", "ticket", "jwt"]);
    assert!(of_stream.iter().all(|name| schemes.contains_key(*name)));
    assert_eq!(
        document["security"],
        serde_json::json!([{}, {"bearer": []}])
    );
}

#[test]
fn the_examples_are_valid() {
    let document = document();
    let telemetry = &document["paths"]["/telemetry"];
    for method in ["put", "patch"] {
        let bodies = examples(&telemetry[method]["requestBody"]["content"]["application/json"]);
        assert!(!bodies.is_empty());
        for body in bodies {
            from_json::<ConfigRequest>(body.to_string().as_bytes()).unwrap();
        }
        for state in examples(&telemetry[method]["responses"]["200"]["content"]["application/json"])
        {
            serde_json::from_value::<State>(state.clone()).unwrap();
        }
    }

    let patch = &document["paths"]["/telemetry/readers/{id}"]["patch"];
    for body in examples(&patch["requestBody"]["content"]["application/json"]) {
        from_json::<ReaderPatch>(body.to_string().as_bytes()).unwrap();
    }
    for answer in examples(&patch["responses"]["200"]["content"]["application/json"]) {
        serde_json::from_value::<ReaderPatched>(answer.clone()).unwrap();
    }
    let tickets = &document["paths"]["/telemetry/tickets"]["post"];
    for body in examples(&tickets["requestBody"]["content"]["application/json"]) {
        from_json::<TicketRequest>(body.to_string().as_bytes()).unwrap();
    }
    for answer in examples(&tickets["responses"]["201"]["content"]["application/json"]) {
        serde_json::from_value::<Ticket>(answer.clone()).unwrap();
    }

    let publish = &document["paths"]["/telemetry/events"]["post"]["requestBody"]["content"];
    let lines = examples(&publish["application/x-ndjson"])[0]
        .as_str()
        .unwrap();
    let events = examples(&publish["application/json"])
        .into_iter()
        .map(Value::to_string);
    for event in events.chain(lines.lines().map(str::to_owned)) {
        let request: PublishRequest = from_json(event.as_bytes()).unwrap();
        Event::try_from(request).unwrap();
    }
}
