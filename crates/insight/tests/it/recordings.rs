//! Two recorded sessions of a browser.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tapline_insight::{Format, Input, Insight, Navigation, Options, Outcome, Request, Sanitizer};
use tapline_oapi::Envelope;

use crate::stream::{self, Found, found, recording};

/// What the tour becomes, in a form that people can read in a diff: one thing a line.
#[test]
fn the_requests_navigations_and_problems_of_the_tour_are_as_before() {
    let found = found(&recording("tour.ndjson"));
    stream::compare_with_golden("tour.findings.ndjson", &lines(&found));
}

#[test]
fn the_tour_as_har_is_as_before() {
    stream::compare_with_golden("tour.har", &exported("tour.ndjson", Format::Har));
}

#[test]
fn the_tour_as_trace_is_as_before() {
    stream::compare_with_golden("tour.trace.json", &exported("tour.ndjson", Format::Trace));
}

#[test]
fn every_request_of_a_recording_is_found_once() {
    for name in ["tour.ndjson", "events.ndjson"] {
        let events = recording(name);
        let found = found(&events);
        let is_sent = |it: &&Envelope| it.event.event_type.as_str() == "network_request";
        let sent: Vec<_> = events.iter().filter(is_sent).collect();
        let ids: BTreeSet<_> = sent.iter().map(|it| field(it, "request_id")).collect();
        assert_eq!(found.requests.len(), ids.len(), "{name}");
        let hops = found.requests.iter().flat_map(|it| {
            let earlier = it.redirects.iter().filter_map(|hop| hop.seq);
            earlier.chain([it.hop_seq])
        });
        let seqs: BTreeSet<_> = sent.iter().map(|it| it.seq).collect();
        assert_eq!(hops.collect::<BTreeSet<_>>(), seqs, "{name}");
        for request in &found.requests {
            // One recording begins with the second hop of a request.
            let misses_hop = request.redirects.iter().any(|hop| hop.seq.is_none());
            assert_eq!(request.start_seen, !misses_hop, "{request:?}");
            assert!(request.has_ended(), "{request:?}");
            assert!(request.end_ts().unwrap() >= request.ts, "{request:?}");
        }
    }
}

fn field(envelope: &Envelope, name: &str) -> String {
    let data: serde_json::Value =
        serde_json::from_str(envelope.event.data.as_ref().unwrap().get()).unwrap();
    data[name].as_str().unwrap().to_owned()
}

#[test]
fn every_navigation_has_the_request_of_its_document_where_there_was_one() {
    for name in ["tour.ndjson", "events.ndjson"] {
        let found = found(&recording(name));
        for navigation in &found.navigations {
            let loader = navigation.place.loader_id.as_ref().unwrap();
            let is_of_loader = |it: &&Navigation| it.place.loader_id.as_ref() == Some(loader);
            let first = found.navigations.iter().find(is_of_loader).unwrap();
            if first.at != navigation.at {
                // Restored from the back/forward cache: it asked for nothing.
                assert_eq!(navigation.request, None, "{navigation:?}");
                continue;
            }
            let document = found.requests.iter().find(|it| it.request_id == *loader);
            assert_eq!(
                navigation.request,
                document.map(|it| it.at.seq),
                "{navigation:?}"
            );
            let document = document.filter(|_| navigation.is_page());
            if let Some(document) = document {
                assert_eq!(document.navigation, Some(navigation.at.seq), "{document:?}");
                assert!(navigation.start_ts <= navigation.ts);
            }
        }
    }
}

#[test]
fn a_page_has_the_milestones_that_were_recorded() {
    let found = found(&recording("tour.ndjson"));
    let page = found
        .navigations
        .iter()
        .find(|it| it.url.ends_with("/everything"))
        .unwrap();
    assert!(page.start_ts < page.dom_content_loaded.unwrap());
    assert!(page.dom_content_loaded < page.load && page.load < page.settled);
    assert_eq!(page.place.nav_seq, Some(1));
    assert!(
        (page.cls - 0.392_156_862_745_098).abs() < 1e-9,
        "{}",
        page.cls
    );
    assert_eq!(page.lcp.as_ref().unwrap().ts, 1_795_678_971_746_800);
    // Every request that the page made, and those of its frame.
    let of_page = found
        .requests
        .iter()
        .filter(|it| it.navigation == Some(page.at.seq));
    let urls: Vec<_> = of_page
        .map(|it| it.url.rsplit('/').next().unwrap())
        .collect();
    assert!(
        urls.contains(&"everything") && urls.contains(&"frame"),
        "{urls:?}"
    );
    assert!(
        urls.contains(&"missing") && !urls.contains(&"answers"),
        "{urls:?}"
    );
}

#[test]
fn a_redirect_is_a_hop_of_its_request() {
    let found = found(&recording("tour.ndjson"));
    let redirected = found
        .requests
        .iter()
        .find(|it| !it.redirects.is_empty())
        .unwrap();
    assert_eq!(redirected.redirects.len(), 1);
    let hop = &redirected.redirects[0];
    assert!(
        hop.url.ends_with("/redirect") && hop.to.ends_with("/data.json"),
        "{hop:?}"
    );
    assert_eq!(hop.status, Some(302));
    assert_eq!(
        (redirected.status(), redirected.outcome),
        (Some(200), Outcome::Answered)
    );
    assert_eq!(redirected.ts, hop.ts.unwrap());
}

/// The state between two events must not matter: only the events do.
#[test]
fn what_left_early_and_what_is_kept_are_the_same_requests() {
    let events = recording("events.ndjson");
    let whole = found(&events);
    let mut insight = Insight::new(Options {
        requests: 3,
        navigations: 2,
        problems: 1,
        contents: true,
        ..Options::default()
    });
    let mut left = Found::default();
    for envelope in &events {
        insight.feed(Input::Event(envelope), &mut |finding| left.take(finding));
        assert!(insight.requests().len() <= 3 && insight.problems().len() <= 1);
        assert!(insight.navigations().len() <= 2);
    }
    insight.finish(&mut |finding| left.take(finding));
    let seqs = |found: &Found| {
        let mut seqs: Vec<_> = found.requests.iter().map(|it| it.at.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    };
    // A request that left while it was open has its end as a request of its own, without a beginning.
    let whole_seqs = seqs(&whole);
    assert!(whole_seqs.iter().all(|seq| seqs(&left).contains(seq)));
    assert_eq!(left.navigations.len(), whole.navigations.len());
    let is_part = |it: &Request| {
        it.start_seen || it.end.is_some() || it.response.is_some() || !it.redirects.is_empty()
    };
    assert!(left.requests.iter().all(is_part));
}

pub(crate) fn exported(name: &str, format: Format) -> String {
    let events = recording(name);
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    crate::anything::exported(&inputs, format, Sanitizer::default())
}

fn lines(found: &Found) -> String {
    let mut lines = String::new();
    for request in &found.requests {
        // Bodies are in the HAR.
        let mut request = request.clone();
        if let Some(response) = &mut request.response {
            response.body = response
                .body
                .take()
                .map(|body| format!("{} bytes", body.len()));
            response.headers.clear();
        }
        request.headers.clear();
        request.post_data = request
            .post_data
            .take()
            .map(|body| format!("{} bytes", body.len()));
        writeln!(lines, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    }
    for navigation in &found.navigations {
        writeln!(lines, "{}", serde_json::to_string(navigation).unwrap()).unwrap();
    }
    for problem in &found.problems {
        writeln!(lines, "{}", serde_json::to_string(problem).unwrap()).unwrap();
    }
    lines
}
