//! Requests of streams that are cut, out of order, or ambiguous.

use serde_json::{Value, json};
use tapline_insight::{BodyOmitted, Input, Insight, Lost, Options, Outcome, Unknown};
use tapline_oapi::{Category, CategorySet, Epoch};

use crate::stream::{self, data, event, found, found_of, request, response, with_metadata};

const URL: &str = "http://h/a.js";

#[test]
fn a_request_is_joined_with_its_answer() {
    let found = found(&[request(1, 0, "1", URL), response(2, 6, "1", URL, 404)]);
    let [request] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert_eq!((request.at.seq, request.end.unwrap().seq), (1, 2));
    assert_eq!(
        request.sentence(),
        "GET http://h/a.js answered 404 after 6 ms"
    );
    assert_eq!(request.end_ts().unwrap() - request.ts, 5500);
    assert_eq!(
        request.response.as_ref().unwrap().mime_type.as_deref(),
        Some("text/plain")
    );
}

#[test]
fn an_end_before_its_beginning_is_joined_with_it() {
    let found = found(&[response(1, 6, "1", URL, 200), request(2, 0, "1", URL)]);
    let [request] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert!(request.start_seen && request.has_ended());
    assert_eq!(request.headers["Accept"], "*/*");
    assert_eq!((request.hop_seq, request.end.unwrap().seq), (2, 1));
}

#[test]
fn an_answer_without_a_beginning_says_so_and_has_a_computed_start() {
    let found = found(&[response(7, 10, "1", URL, 200)]);
    let [request] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert!(!request.start_seen);
    assert_eq!(
        (request.url.as_str(), request.method.as_str()),
        (URL, "GET")
    );
    assert_eq!(request.end.unwrap().ts - request.ts, 5500);
}

#[test]
fn a_request_without_an_end_is_pending_and_unknown_only_if_something_is_missing() {
    let sent = request(1, 0, "1", URL);
    let pending = &found(std::slice::from_ref(&sent)).requests[0];
    assert_eq!((pending.outcome, pending.lost), (Outcome::Pending, 0));

    let lost = Input::Lost(Lost {
        count: Some(3),
        ..Lost::unknown(2, 9)
    });
    let unknown = &found_of(&[Input::Event(&sent), lost]).requests[0];
    assert_eq!(
        (unknown.outcome, unknown.unknown),
        (Outcome::Unknown, Some(Unknown::EventsLost))
    );
    assert_eq!(unknown.lost, 3);
    assert!(
        unknown.sentence().contains("events are missing"),
        "{}",
        unknown.sentence()
    );

    // Nothing of the network was lost.
    let categories = CategorySet::of(&[Category::Console]);
    let lost = Input::Lost(Lost {
        categories,
        ..Lost::unknown(2, 9)
    });
    let pending = &found_of(&[Input::Event(&sent), lost]).requests[0];
    assert_eq!(pending.outcome, Outcome::Pending);
}

#[test]
fn an_end_after_a_gap_ends_the_request_and_the_gap_stays_known() {
    let (sent, answered) = (request(1, 0, "1", URL), response(10, 6, "1", URL, 200));
    let lost = Input::Lost(Lost::unknown(2, 9));
    let found = found_of(&[Input::Event(&sent), lost, Input::Event(&answered)]);
    let [request] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (request.outcome, request.unknown, request.lost),
        (Outcome::Answered, None, 8)
    );
}

#[test]
fn a_restart_ends_what_is_known_of_open_requests() {
    let (sent, answered) = (request(5, 0, "1", URL), response(1, 6, "1", URL, 200));
    let (one, other) = (Epoch::from_bits(1), Epoch::from_bits(2));
    let found = found_of(&[
        Input::Epoch(one),
        Input::Event(&sent),
        Input::Epoch(one),
        Input::Epoch(other),
        Input::Event(&answered),
    ]);
    let [first, second] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (first.outcome, first.unknown),
        (Outcome::Unknown, Some(Unknown::Restart))
    );
    assert_eq!((first.at.run, second.at.run), (0, 1));
    assert!(!second.start_seen && second.has_ended());
}

#[test]
fn the_same_id_in_two_targets_is_two_requests() {
    let of = |target: &str, seq, url: &str| {
        let more = json!({"request_id": "1", "url": url, "method": "GET"});
        event(seq, 0, "network_request", data(target, more))
    };
    let answer = |target: &str, seq, url: &str, status: u32| {
        let more = json!({"request_id": "1", "url": url, "status": status, "method": "GET"});
        event(seq, 5, "network_response", data(target, more))
    };
    let found = found(&[
        of("a", 1, "http://h/a"),
        of("b", 2, "http://h/b"),
        answer("b", 3, "http://h/b", 201),
        answer("a", 4, "http://h/a", 202),
    ]);
    let statuses: Vec<_> = found
        .requests
        .iter()
        .map(|it| (it.url.as_str(), it.status()))
        .collect();
    assert_eq!(
        statuses,
        [("http://h/a", Some(202)), ("http://h/b", Some(201))]
    );
}

#[test]
fn an_answer_of_another_target_is_not_taken_for_that_of_a_request_with_its_id() {
    let sent = request(1, 0, "1", URL);
    let of_other =
        json!({"request_id": "1", "url": "http://h/other", "status": 500, "method": "GET"});
    let found1 = found(&[
        sent.clone(),
        event(2, 5, "network_response", data("other", of_other)),
    ]);
    assert_eq!(found1.requests[0].outcome, Outcome::Pending);
    assert_eq!(
        (found1.requests[1].status(), found1.requests[1].start_seen),
        (Some(500), false)
    );
    // With its address, it is: a frame's request may end in another process.
    let same = json!({"request_id": "1", "url": URL, "status": 200, "method": "GET"});
    let found2 = found(&[sent, event(2, 5, "network_response", data("other", same))]);
    assert_eq!(found2.requests.len(), 1);
    assert!(found2.requests[0].has_ended());
}

#[test]
fn redirects_are_hops_also_where_one_of_them_is_missing() {
    let hop = |seq, ms, to: &str, from: &str| {
        let more = json!({"request_id": "1", "url": to, "method": "GET", "headers": {},
            "is_redirect": true, "redirect_url": from, "redirect_status": 302});
        event(seq, ms, "network_request", data("tab", more))
    };
    let whole = found(&[
        request(1, 0, "1", "http://h/1"),
        hop(2, 10, "http://h/2", "http://h/1"),
        hop(3, 20, "http://h/3", "http://h/2"),
        response(4, 30, "1", "http://h/3", 200),
    ]);
    let [request1] = &whole.requests[..] else {
        panic!("{whole:?}")
    };
    let hops: Vec<_> = request1
        .redirects
        .iter()
        .map(|it| (&*it.url, &*it.to, it.status))
        .collect();
    assert_eq!(
        hops,
        [
            ("http://h/1", "http://h/2", Some(302)),
            ("http://h/2", "http://h/3", Some(302))
        ]
    );
    assert_eq!(
        (request1.url.as_str(), request1.hop_seq, request1.at.seq),
        ("http://h/3", 3, 1)
    );

    // The event of the second hop was lost.
    let cut = found(&[
        request(1, 0, "1", "http://h/1"),
        hop(3, 20, "http://h/3", "http://h/2"),
        response(4, 30, "1", "http://h/3", 200),
    ]);
    let hops: Vec<_> = cut.requests[0]
        .redirects
        .iter()
        .map(|it| (&*it.url, it.seq, it.status))
        .collect();
    assert_eq!(
        hops,
        [
            ("http://h/1", Some(1), None),
            ("http://h/2", None, Some(302))
        ]
    );

    // That of the first one.
    let cut = found(&[
        hop(2, 10, "http://h/2", "http://h/1"),
        response(4, 30, "1", "http://h/2", 200),
    ]);
    let [request2] = &cut.requests[..] else {
        panic!("{cut:?}")
    };
    assert!(!request2.start_seen);
    assert_eq!(request2.redirects[0].seq, None);
}

#[test]
fn a_request_that_was_given_up_is_corrected_and_no_other_end_is_taken_twice() {
    let failed = |seq, error: &str| {
        let more = json!({"request_id": "1", "url": URL, "error_text": error, "canceled": false});
        event(seq, 5, "network_loading_failed", data("tab", more))
    };
    let sent = request(1, 0, "1", URL);
    let given_up = failed(2, "tapline::NAVIGATED_AWAY");
    let corrected = found(&[sent.clone(), given_up, response(3, 6, "1", URL, 200)]);
    let [request] = &corrected.requests[..] else {
        panic!("{corrected:?}")
    };
    assert_eq!(
        (request.outcome, request.failure.is_none()),
        (Outcome::Answered, true)
    );

    let refused = failed(2, "net::ERR_CONNECTION_REFUSED");
    let twice = [sent, refused, response(3, 6, "1", URL, 200)];
    let mut insight = Insight::new(Options::default());
    for envelope in &twice {
        insight.feed(Input::Event(envelope), &mut |_| {});
    }
    assert_eq!(insight.requests().next().unwrap().outcome, Outcome::Failed);
    assert_eq!(insight.tally().repeated_ends, 1);
}

#[test]
fn a_body_that_broke_off_keeps_the_status() {
    let broke = json!({"request_id": "1", "url": URL, "canceled": false, "status": 200,
        "error_text": "net::ERR_INCOMPLETE_CHUNKED_ENCODING"});
    let found = found(&[
        request(1, 0, "1", URL),
        event(2, 5, "network_loading_failed", data("tab", broke)),
    ]);
    let request = &found.requests[0];
    assert_eq!(
        (request.outcome, request.status()),
        (Outcome::Failed, Some(200))
    );
    assert!(request.sentence().contains("answered 200, and failed"));
}

/// A producer may publish anything: such a number would make the request end before it began.
#[test]
fn a_duration_below_zero_is_not_known() {
    let sent = request(1, 0, "1", URL);
    for (name, rest) in [
        (
            "network_response",
            json!({"method": "GET", "status": 200, "headers": {}}),
        ),
        ("network_response_end", json!({})),
        (
            "network_loading_failed",
            json!({"error_text": "net::ERR_FAILED"}),
        ),
    ] {
        let mut fields = json!({"request_id": "1", "url": URL, "duration_ms": -12.5});
        fields
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        let end = event(2, 30, name, data("tab", fields));
        let found = found(&[sent.clone(), end]);
        assert_eq!(found.requests[0].duration_ms, None, "{name}");
    }
}

#[test]
fn an_answer_that_lasts_is_open_until_its_end() {
    let open = json!({"request_id": "1", "url": URL, "method": "GET", "status": 200, "headers": {},
        "open": true, "duration_ms": 3000.0, "timing": {"wait": 10.0, "receive": 2990.0}});
    let open = event(2, 3000, "network_response", data("tab", open));
    let closed = json!({"request_id": "1", "duration_ms": 9000.0, "encoded_bytes": 77});
    let closed = event(3, 9000, "network_response_end", data("tab", closed));
    let sent = request(1, 0, "1", URL);

    let found1 = found(&[sent.clone(), open.clone()]);
    assert_eq!(
        (found1.requests[0].outcome, found1.requests[0].end),
        (Outcome::Open, None)
    );
    let found2 = found(&[sent, open, closed]);
    let request = &found2.requests[0];
    assert_eq!(
        (request.outcome, request.duration_ms),
        (Outcome::Answered, Some(9000.0))
    );
    assert_eq!(request.timing.as_ref().unwrap().receive, Some(8990.0));
    assert_eq!(
        (request.status(), request.encoded_bytes),
        (Some(200), Some(77))
    );
}

#[test]
fn a_socket_is_open_until_it_is_closed_and_keeps_a_bounded_number_of_messages() {
    let socket = |seq, name: &str, more: Value| {
        let mut all = json!({"request_id": "1", "url": "ws://h/", "resource_type": "WebSocket"});
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event(seq, seq, name, data("tab", all))
    };
    let opened = socket(
        2,
        "network_response",
        json!({"status": 101, "method": "GET", "headers": {}}),
    );
    let message = |seq| {
        socket(
            seq,
            "network_websocket_message",
            json!({"direction": "sent", "bytes": 2, "text": "hi"}),
        )
    };
    let totals = json!({"duration_ms": 9.0, "messages_sent": 3, "messages_received": 0,
        "bytes_sent": 6, "bytes_received": 0, "code": 1000});
    let events = [
        socket(1, "network_request", json!({"method": "GET"})),
        opened,
        message(3),
        message(4),
        message(5),
        socket(6, "network_websocket_closed", totals),
    ];
    let mut insight = Insight::new(Options {
        messages: 2,
        contents: true,
        ..Options::default()
    });
    for envelope in &events[..5] {
        insight.feed(Input::Event(envelope), &mut |_| {});
    }
    assert_eq!(insight.requests().next().unwrap().outcome, Outcome::Open);
    insight.feed(Input::Event(&events[5]), &mut |_| {});
    let request = insight.requests().next().unwrap();
    let socket = request.websocket.as_ref().unwrap();
    assert_eq!(request.outcome, Outcome::Answered);
    assert_eq!(
        (socket.messages.len(), socket.messages_dropped, socket.sent),
        (2, 1, Some(3))
    );
    assert_eq!(socket.messages[0].text.as_deref(), Some("hi"));
}

#[test]
fn an_end_whose_data_is_missing_may_be_that_of_any_open_request() {
    let cut: tapline_oapi::Envelope = serde_json::from_str(
        r#"{"seq":2,"event":{"ts":9,"type":"network_response","category":"network","data":null,"truncated":true}}"#,
    )
    .unwrap();
    let sent = request(1, 0, "1", URL);
    let mut insight = Insight::new(Options::default());
    for envelope in [&sent, &cut] {
        insight.feed(Input::Event(envelope), &mut |_| {});
    }
    let request = insight.requests().next().unwrap();
    assert_eq!(
        (request.unknown, request.lost),
        (Some(Unknown::EventsLost), 1)
    );
    assert_eq!(insight.tally().unreadable, 1);
}

#[test]
fn requests_of_a_session_that_ended_are_not_pending() {
    let of = |session: &str, envelope| with_metadata(envelope, "telemetry_session_id", session);
    let found1 = found(&[
        of("one", request(1, 0, "1", URL)),
        of("two", request(2, 9, "2", URL)),
    ]);
    assert_eq!(found1.requests[0].unknown, Some(Unknown::NotCaptured));
    assert_eq!(found1.requests[1].outcome, Outcome::Pending);

    let sent = request(1, 0, "1", URL);
    let console = Input::Captured(CategorySet::of(&[Category::Console]));
    let found2 = found_of(&[Input::Event(&sent), console]);
    assert_eq!(found2.requests[0].unknown, Some(Unknown::NotCaptured));
}

#[test]
fn what_was_sent_again_is_another_request() {
    let found = found(&[
        request(1, 0, "1", URL),
        request(2, 9, "1", URL),
        response(3, 12, "1", URL, 200),
    ]);
    assert_eq!(found.requests[0].unknown, Some(Unknown::SentAgain));
    assert_eq!(found.requests[1].status(), Some(200));
}

#[test]
fn an_event_that_was_read_before_is_ignored() {
    let (sent, answered) = (request(1, 0, "1", URL), response(2, 6, "1", URL, 200));
    let mut insight = Insight::new(Options::default());
    for envelope in [&sent, &answered, &answered, &sent] {
        insight.feed(Input::Event(envelope), &mut |_| {});
    }
    assert_eq!((insight.requests().len(), insight.tally().repeated), (1, 2));
}

#[test]
fn memory_is_bounded_by_the_length_of_events() {
    let mut insight = Insight::new(Options {
        request_bytes: 100_000,
        contents: true,
        ..Options::default()
    });
    let mut left = 0;
    for seq in (1..=200).step_by(2) {
        let id = seq.to_string();
        let more = json!({"request_id": id, "url": URL, "method": "GET", "status": 200,
            "body": "x".repeat(10_000)});
        for envelope in [
            request(seq, seq, &id, URL),
            event(seq + 1, seq + 1, "network_response", data("tab", more)),
        ] {
            insight.feed(Input::Event(&envelope), &mut |_| left += 1);
        }
        assert!(insight.requests().len() <= 10);
    }
    assert_eq!(left + insight.requests().len(), 100);
}

#[test]
fn the_beginning_of_a_body_is_kept_where_the_answer_is_an_error() {
    let answered = |status: u32, body: &str| {
        let mut answer = response(2, 5, "1", "http://h/a", status);
        let mut data: Value =
            serde_json::from_str(answer.event.data.as_ref().unwrap().get()).unwrap();
        data["body"] = body.into();
        answer.event.data = Some(serde_json::value::to_raw_value(&data).unwrap());
        let mut insight = Insight::new(Options::default());
        for envelope in [&request(1, 0, "1", "http://h/a"), &answer] {
            insight.feed(Input::Event(envelope), &mut |_| {});
        }
        let response = insight.requests().next().unwrap().response.clone().unwrap();
        (response.body, response.body_bytes)
    };
    assert_eq!(answered(200, "fine"), (None, Some(4)));
    assert_eq!(answered(200, ""), (None, Some(0)));
    assert_eq!(
        answered(402, "no money"),
        (Some("no money".to_owned()), None)
    );
    // 512 bytes would end within a letter.
    let long = format!("x{}", "é".repeat(300));
    let kept = format!("x{}", "é".repeat(255));
    assert_eq!(answered(500, &long), (Some(kept), Some(601)));
}

/// Only what the events say is claimed.
#[test]
fn an_answer_without_its_body_says_why_as_far_as_that_is_known() {
    let answer = |event: &str, more: Value| {
        let mut answered = response(2, 10, "1", "http://h/x", 404);
        let text = answered.event.data.as_ref().unwrap().get();
        let mut data: Value = serde_json::from_str(text).unwrap();
        for (name, value) in more.as_object().unwrap() {
            data[name] = value.clone();
        }
        answered.event.data = Some(serde_json::value::to_raw_value(&data).unwrap());
        answered.event.source.event = Some(event.to_owned());
        answered
    };
    let finished = "Network.loadingFinished";
    for (event, more, expected) in [
        (finished, json!({"body": "no"}), None),
        (finished, json!({"body": ""}), None),
        (finished, json!({}), Some(BodyOmitted::Unknown)),
        (
            finished,
            json!({"mime_type": "image/png"}),
            Some(BodyOmitted::NotText),
        ),
        (
            finished,
            json!({"mime_type": "application/wasm"}),
            Some(BodyOmitted::NotText),
        ),
        (
            finished,
            json!({"mime_type": "image/svg+xml"}),
            Some(BodyOmitted::Unknown),
        ),
        (
            finished,
            json!({"encoded_bytes": (4 << 20) + 1}),
            Some(BodyOmitted::TooLarge),
        ),
        (
            "Network.responseReceived",
            json!({"open": true}),
            Some(BodyOmitted::Open),
        ),
        (
            "Network.loadingFailed",
            json!({}),
            Some(BodyOmitted::NotRead),
        ),
        (
            finished,
            json!({"canceled": true}),
            Some(BodyOmitted::NotRead),
        ),
        ("Runtime.evaluate", json!({}), Some(BodyOmitted::Earlier)),
        // There is none.
        (finished, json!({"method": "HEAD"}), None),
        (finished, json!({"status": 204}), None),
        (finished, json!({"headers": {"Content-Length": "0"}}), None),
    ] {
        let begin = match more.get("method") {
            None => vec![request(1, 0, "1", "http://h/x")],
            Some(_) => Vec::new(),
        };
        let answered = answer(event, more.clone());
        let events: Vec<_> = begin.into_iter().chain([answered]).collect();
        for contents in [true, false] {
            let options = Options {
                contents,
                ..Options::default()
            };
            let mut found = stream::Found::default();
            let mut insight = Insight::new(options);
            for envelope in &events {
                insight.feed(Input::Event(envelope), &mut |it| found.take(it));
            }
            insight.finish(&mut |it| found.take(it));
            let response = found.requests[0].response.as_ref().unwrap();
            assert_eq!(
                response.body_omitted, expected,
                "{event} {more}, contents: {contents}"
            );
        }
    }
}

/// It was reported as one that lasts, and ended later; or it broke off.
#[test]
fn why_there_is_no_body_is_known_also_after_the_end() {
    let url = "http://h/x";
    let open = json!({"request_id": "1", "url": url, "method": "GET", "status": 200, "headers": {},
        "mime_type": "text/plain", "open": true});
    let open = event(2, 10, "network_response", data("tab", open));
    let ended = json!({"request_id": "1", "duration_ms": 9000.0});
    let ended = event(3, 9000, "network_response_end", data("tab", ended));
    let found = found(&[request(1, 0, "1", url), open, ended]);
    let response = found.requests[0].response.as_ref().unwrap();
    assert_eq!(response.body_omitted, Some(BodyOmitted::Open));

    let broken = json!({"request_id": "1", "url": url, "error_text": "net::ERR_FAILED", "canceled": false,
        "status": 200, "mime_type": "text/plain"});
    let broken = event(2, 10, "network_loading_failed", data("tab", broken));
    let found = stream::found(&[request(1, 0, "1", url), broken]);
    let response = found.requests[0].response.as_ref().unwrap();
    assert_eq!(response.body_omitted, Some(BodyOmitted::BrokenOff));
}
