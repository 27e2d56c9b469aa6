//! Problems and what is around them.

use serde_json::json;
use tapline_insight::{Input, Lost, ProblemKind};
use tapline_oapi::{Category, CategorySet, Envelope, Epoch};

use crate::stream::{data, event, found, found_of, request, response, with_metadata};

const URL: &str = "http://h/a.js";

fn failed(seq: u64, ms: u64, id: &str, error: &str, more: serde_json::Value) -> Envelope {
    let mut all = json!({"request_id": id, "url": URL, "error_text": error, "canceled": false});
    all.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event(seq, ms, "network_loading_failed", data("tab", all))
}

fn exception(seq: u64, ms: u64, target: &str, text: &str) -> Envelope {
    event(
        seq,
        ms,
        "console_error",
        data(target, json!({"text": text, "exception_id": 4})),
    )
}

#[test]
fn failed_blocked_and_refused_requests_are_problems_and_given_up_ones_are_not() {
    let kinds = |end: Envelope| {
        let found = found(&[request(1, 0, "1", URL), end]);
        found
            .problems
            .iter()
            .map(|it| (it.kind, it.request))
            .collect::<Vec<_>>()
    };
    let one = |kind| vec![(kind, Some(1))];
    assert_eq!(kinds(response(2, 5, "1", URL, 399)), []);
    assert_eq!(
        kinds(response(2, 5, "1", URL, 404)),
        one(ProblemKind::HttpError)
    );
    let refused = failed(2, 5, "1", "net::ERR_CONNECTION_REFUSED", json!({}));
    assert_eq!(kinds(refused), one(ProblemKind::RequestFailed));
    let csp = failed(
        2,
        5,
        "1",
        "net::ERR_BLOCKED_BY_CSP",
        json!({"blocked_reason": "csp"}),
    );
    assert_eq!(kinds(csp), one(ProblemKind::RequestBlocked));
    let canceled = failed(2, 5, "1", "net::ERR_ABORTED", json!({"canceled": true}));
    assert_eq!(kinds(canceled), []);
    assert_eq!(
        kinds(failed(2, 5, "1", "tapline::NAVIGATED_AWAY", json!({}))),
        []
    );
    assert_eq!(
        kinds(failed(2, 5, "1", "tapline::TOO_OLD", json!({}))),
        one(ProblemKind::RequestFailed)
    );
}

/// An answer is reported when its body was read: the page may have logged what it made of it by then.
#[test]
fn what_was_before_and_after_a_problem_goes_by_the_time_and_not_by_the_seq() {
    let log = |seq, ms, text: &str| {
        let line = json!({"level": "log", "text": text});
        event(seq, ms, "console_log", data("tab", line))
    };
    let found = found(&[
        request(1, 0, "1", URL),
        log(2, 5, "asks"),
        log(3, 12, "the second thing"),
        log(4, 11, "the first thing"),
        response(5, 10, "1", URL, 500),
        log(6, 9, "reported late"),
        log(7, 13, "the third thing"),
    ]);
    let texts = |moments: &[tapline_insight::Moment]| {
        moments.iter().map(|it| it.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&found.problems[0].before), ["asks", "reported late"]);
    assert_eq!(
        texts(&found.problems[0].after),
        ["the first thing", "the second thing", "the third thing"]
    );
}

#[test]
fn a_problem_has_what_was_before_and_after_it_in_its_tab() {
    let log = |seq, ms, target: &str, text: &str| {
        event(
            seq,
            ms,
            "console_log",
            data(target, json!({"level": "log", "text": text})),
        )
    };
    let found = found(&[
        log(1, 0, "tab", "too early"),
        log(2, 2_500, "other", "in another tab"),
        log(3, 2_600, "tab", "before"),
        request(4, 2_700, "1", URL),
        response(5, 3_000, "1", URL, 404),
        exception(
            6,
            3_100,
            "tab",
            "Uncaught ReferenceError: price is not defined",
        ),
        log(7, 3_200, "other", "in another tab"),
        log(8, 5_500, "tab", "too late"),
    ]);
    let [missing, thrown] = &found.problems[..] else {
        panic!("{:?}", found.problems)
    };
    let texts = |moments: &[tapline_insight::Moment]| {
        moments.iter().map(|it| it.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(missing.kind, ProblemKind::HttpError);
    assert_eq!(missing.text, "GET http://h/a.js answered 404 after 6 ms");
    assert_eq!(texts(&missing.before), ["before"]);
    assert_eq!(
        texts(&missing.after),
        ["Uncaught ReferenceError: price is not defined"]
    );
    assert_eq!(thrown.kind, ProblemKind::Exception);
    assert_eq!(
        texts(&thrown.before),
        ["before", "404 GET http://h/a.js text/plain"]
    );
    assert!(thrown.is_settled && thrown.after.is_empty());
}

#[test]
fn a_line_of_the_console_is_joined_with_the_request_that_it_is_about() {
    let line = |seq, ms| {
        let more = json!({"text": "Failed to load resource", "level": "error", "log_source": "network",
            "source_url": URL});
        event(seq, ms, "console_error", data("tab", more))
    };
    for events in [
        [
            request(1, 0, "1", URL),
            line(2, 4),
            response(3, 5, "1", URL, 404),
        ],
        [
            request(1, 0, "1", URL),
            response(2, 5, "1", URL, 404),
            line(3, 6),
        ],
    ] {
        let found = found(&events);
        let requests: Vec<_> = found.problems.iter().map(|it| it.request).collect();
        assert_eq!(requests, [Some(1), Some(1)]);
    }

    // The same address again, and the line comes before the answer: it is not about the request before.
    let again = found(&[
        request(1, 0, "1", URL),
        line(2, 4),
        response(3, 5, "1", URL, 404),
        request(4, 5000, "2", URL),
        line(5, 5004),
        response(6, 5005, "2", URL, 404),
    ]);
    let requests: Vec<_> = again.problems.iter().map(|it| it.request).collect();
    assert_eq!(requests, [Some(1), Some(1), Some(4), Some(4)]);

    // Two at once: each has one line.
    let twice = found(&[
        request(1, 0, "1", URL),
        request(2, 0, "2", URL),
        line(3, 4),
        line(4, 4),
        response(5, 5, "1", URL, 404),
        response(6, 5, "2", URL, 404),
    ]);
    let requests: Vec<_> = twice.problems.iter().map(|it| it.request).collect();
    assert_eq!(requests, [Some(1), Some(2), Some(1), Some(2)]);
}

#[test]
fn what_was_taken_back_is_marked() {
    let revoked = json!({"level": "revoked", "text": "handled", "exception_id": 4});
    let found1 = found(&[
        exception(1, 0, "tab", "Uncaught (in promise) 1"),
        exception(2, 1, "other", "Uncaught (in promise) 2"),
        event(3, 5, "console_log", data("tab", revoked)),
    ]);
    let withdrawn: Vec<_> = found1.problems.iter().map(|it| it.withdrawn).collect();
    assert_eq!(withdrawn, [Some(3), None]);

    let found2 = found(&[
        request(1, 0, "1", URL),
        failed(2, 5, "1", "tapline::TOO_OLD", json!({})),
        response(3, 9, "1", URL, 200),
    ]);
    assert_eq!(found2.problems[0].withdrawn, Some(3));
}

#[test]
fn losses_and_restarts_are_problems_and_known_to_those_beside_them() {
    let (one, two) = (
        exception(1, 0, "tab", "one"),
        exception(9, 500, "tab", "two"),
    );
    let far = exception(10, 9_000, "tab", "far");
    let after = exception(1, 9_500, "tab", "after the restart");
    let found = found_of(&[
        Input::Epoch(Epoch::from_bits(1)),
        Input::Event(&one),
        Input::Lost(Lost {
            count: Some(5),
            ..Lost::unknown(2, 8)
        }),
        Input::Event(&two),
        Input::Event(&far),
        Input::Epoch(Epoch::from_bits(2)),
        Input::Event(&after),
    ]);
    let problems: Vec<_> = found
        .problems
        .iter()
        .map(|it| (it.kind, it.lost, it.at.run))
        .collect();
    assert_eq!(
        problems,
        [
            (ProblemKind::Exception, 5, 0),
            (ProblemKind::EventsLost, 5, 0),
            (ProblemKind::Exception, 5, 0),
            (ProblemKind::Exception, 0, 0),
            (ProblemKind::Restart, 0, 0),
            (ProblemKind::Exception, 0, 1),
        ]
    );
    assert_eq!(found.problems[1].text, "5 events are missing (seq 2 to 8)");
    assert!(
        found.problems[5].before.is_empty(),
        "it has seqs of another run"
    );
}

#[test]
fn what_was_not_captured_is_said() {
    let thrown = exception(1, 0, "tab", "one");
    let captured = CategorySet::of(&[Category::Console]).union(CategorySet::ALWAYS);
    let problems = found_of(&[Input::Captured(captured), Input::Event(&thrown)]).problems;
    assert!(problems[0].not_captured.contains(Category::Network));
    assert!(!problems[0].not_captured.contains(Category::Console));
    assert!(
        found(&[thrown]).problems[0].not_captured.is_empty(),
        "it is not known"
    );
}

#[test]
fn a_problem_has_the_command_that_caused_it() {
    let sent = with_metadata(request(2, 1, "1", URL), "caused_by", "1");
    let command = event(
        1,
        0,
        "cdp_command",
        json!({"method": "Page.navigate", "target_id": "tab"}),
    );
    let found = found(&[command, sent, response(3, 6, "1", URL, 500)]);
    assert_eq!(found.problems[0].caused_by, Some(1));
    assert_eq!(found.problems[0].before[0].text, "Page.navigate");
}

#[test]
fn crashes_and_what_the_machine_reports_are_problems() {
    let kinds = found(&[
        event(
            1,
            0,
            "page_crashed",
            data("tab", json!({"url": "http://h/"})),
        ),
        event(
            2,
            0,
            "monitor_disconnected",
            json!({"reason": "connection_lost"}),
        ),
        event(
            3,
            0,
            "monitor_init_failed",
            json!({"step": "Network.enable"}),
        ),
        event(
            4,
            0,
            "service_crashed",
            json!({"service_name": "chromium", "phase": "running"}),
        ),
        event(
            5,
            0,
            "system_oom_kill",
            json!({"process_name": "chrome", "pid": 7, "rss_kb": 9}),
        ),
        event(
            6,
            0,
            "api_call",
            json!({"request_id": "1", "operation_id": "run", "status": 500, "duration_ms": 1}),
        ),
        event(
            7,
            0,
            "api_call",
            json!({"request_id": "2", "operation_id": "run", "status": 200, "duration_ms": 1}),
        ),
        event(
            8,
            0,
            "captcha_solve_result",
            json!({"captcha_type": "x", "status": "timeout", "duration_ms": 1}),
        ),
        event(
            9,
            0,
            "proxy_error",
            data(
                "tab",
                json!({"request_id": "9", "code": "dns_error", "status": 502}),
            ),
        ),
    ])
    .problems
    .iter()
    .map(|it| it.kind)
    .collect::<Vec<_>>();
    assert_eq!(
        kinds,
        [
            ProblemKind::PageCrashed,
            ProblemKind::BrowserLost,
            ProblemKind::CollectorFailed,
            ProblemKind::ServiceCrashed,
            ProblemKind::OutOfMemory,
            ProblemKind::ApiError,
            ProblemKind::CaptchaFailed,
            ProblemKind::ProxyError,
        ]
    );
}

#[test]
fn an_error_that_a_program_logged_is_a_problem() {
    let log = |seq, kind: &str, record: serde_json::Value| event(seq, seq * 10, kind, record);
    let logged = found(&[
        log(1, "log_record", json!({"level": "warn", "message": "slow"})),
        log(
            2,
            "log_record",
            json!({"level": "error", "target": "shop::cart", "message": "cannot pay", "fields": {"by": "ann", "status": 402}}),
        ),
        log(
            3,
            "log_record",
            json!({"level": "fatal", "fields": {"disk": "full"}}),
        ),
        // A span has a level, too: how important it is.
        log(4, "span_end", json!({"level": "error", "name": "pay"})),
        log(5, "log_record", json!({"level": 4, "message": "fatal"})),
    ]);
    let problems: Vec<_> = logged
        .problems
        .iter()
        .map(|it| (it.kind, it.at.seq, it.text.as_str()))
        .collect();
    assert_eq!(
        problems,
        [
            (
                ProblemKind::LogError,
                2,
                "error shop::cart: cannot pay by=ann status=402"
            ),
            (ProblemKind::LogError, 3, "fatal: disk=full"),
        ]
    );
    assert_eq!(logged.problems[0].before[0].text, "warn: slow");
}
