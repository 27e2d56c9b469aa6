//! Pages of what is retained.

use tapline_api::{ApiService, Page, PageQuery};
use tapline_oapi::from_json;

use crate::{fill_to, idle, publish, running};

fn page(api: &ApiService, query: &str) -> Page {
    api.page(&crate::query::page(query).unwrap())
}

fn seqs(page: &Page) -> Vec<u64> {
    page.envelopes
        .iter()
        .map(|envelope| envelope.seq())
        .collect()
}

/// The seqs of the page, its next offset, and what it says is lost.
#[track_caller]
fn check(api: &ApiService, query: &str, expected: &[u64], next: Option<u64>, lost: u64) {
    let page = page(api, query);
    assert_eq!(seqs(&page), expected, "{query}");
    assert_eq!(page.next_offset, next, "{query}");
    assert_eq!(page.lost, lost, "{query}");
}

#[test]
fn an_empty_stream_has_empty_pages() {
    let api = idle();
    for query in [
        "",
        "order=desc",
        "after=0",
        "after=7",
        "offset=7&order=desc",
    ] {
        check(&api, query, &[], None, 0);
    }
    let retained = page(&api, "").retained;
    assert_eq!((retained.oldest, retained.head), (0, 0));
}

#[test]
fn a_page_begins_and_ends_where_the_query_says() {
    let api = running(64);
    fill_to(&api, 10);
    check(&api, "limit=3", &[1, 2, 3], Some(3), 0);
    check(&api, "limit=3&offset=3", &[4, 5, 6], Some(6), 0);
    check(&api, "limit=3&after=7", &[8, 9, 10], None, 0);
    check(&api, "limit=3&after=8", &[9, 10], None, 0);
    check(&api, "after=10", &[], None, 0);
    check(&api, "after=11", &[], None, 0);
    check(&api, "after=9223372036854775807", &[], None, 0);
    check(&api, "offset=9223372036854775807", &[], None, 0);
    check(&api, "limit=3&order=desc", &[10, 9, 8], Some(8), 0);
    check(&api, "limit=3&order=desc&offset=8", &[7, 6, 5], Some(5), 0);
    check(&api, "limit=3&order=desc&offset=4", &[3, 2, 1], None, 0);
    check(&api, "limit=3&order=desc&offset=1", &[], None, 0);
    check(&api, "limit=3&order=desc&offset=0", &[], None, 0);
    check(&api, "order=desc&after=8", &[10, 9], None, 0);
    // Both: `offset` says where to continue, `after` stays the bound.
    check(&api, "limit=2&after=5&offset=7", &[8, 9], Some(9), 0);
    check(&api, "limit=2&after=7&offset=5", &[8, 9], Some(9), 0);
    check(
        &api,
        "limit=2&order=desc&after=6&offset=9",
        &[8, 7],
        None,
        0,
    );
    check(&api, "limit=2&order=desc&after=6&offset=7", &[], None, 0);
    check(
        &api,
        "order=desc&offset=9223372036854775807&limit=1",
        &[10],
        Some(10),
        0,
    );
    let retained = page(&api, "").retained;
    assert_eq!((retained.oldest, retained.head), (1, 10));
}

#[test]
fn a_hundred_by_default_and_a_thousand_at_most() {
    let api = running(2048);
    fill_to(&api, 1500);
    assert_eq!(page(&api, "").envelopes.len(), 100);
    assert_eq!(page(&api, "limit=1000").envelopes.len(), 1000);
    check(&api, "limit=1", &[1], Some(1), 0);
}

/// Whatever the order, the size of a page and the filter.
#[test]
fn paging_covers_everything_exactly_once() {
    let api = running(256);
    for n in 0..300 {
        let name = if n % 3 == 0 {
            "page_load"
        } else {
            "console_log"
        };
        publish(&api, &format!(r#"{{"type":"{name}"}}"#)).unwrap();
    }
    let all = |seq: &u64| 44 < *seq;
    let pages = |seq: &u64| all(seq) && seq % 3 == 1;
    type Wanted<'a> = &'a dyn Fn(&u64) -> bool;
    let filters: [(&str, Wanted<'_>); 6] = [
        ("", &all),
        ("&category=page", &pages),
        ("&type=page_*", &pages),
        ("&category=page&type=console_log", &|_| false),
        ("&category=page,console", &all),
        ("&after=200", &|seq| 200 < *seq),
    ];
    for (filter, wanted) in filters {
        for order in ["asc", "desc"] {
            for limit in [1, 7, 85, 86, 255, 256, 257, 1000] {
                let query = format!("limit={limit}&order={order}{filter}");
                let mut expected: Vec<u64> = (1..=300).filter(wanted).collect();
                if order == "desc" {
                    expected.reverse();
                }
                let (mut got, mut offset) = (Vec::new(), String::new());
                loop {
                    let page = page(&api, &format!("{query}{offset}"));
                    assert!(page.envelopes.len() <= limit, "{query}{offset}");
                    got.extend(seqs(&page));
                    match page.next_offset {
                        Some(next) => offset = format!("&offset={next}"),
                        None => break,
                    }
                }
                assert_eq!(got, expected, "{query}");
            }
        }
    }
}

/// New events are published while a client pages: neither order shows one twice or leaves one out.
#[test]
fn paging_is_stable_while_events_are_published() {
    let api = running(64);
    fill_to(&api, 20);
    check(
        &api,
        "limit=10&order=desc",
        &[20, 19, 18, 17, 16, 15, 14, 13, 12, 11],
        Some(11),
        0,
    );
    fill_to(&api, 30);
    check(
        &api,
        "limit=10&order=desc&offset=11",
        &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
        None,
        0,
    );
    check(
        &api,
        "limit=25&offset=10",
        &(11..=30).collect::<Vec<_>>(),
        None,
        0,
    );
}

#[test]
fn evicted_events_are_reported_as_lost() {
    let api = running(8);
    fill_to(&api, 20);
    let retained = page(&api, "").retained;
    assert_eq!((retained.oldest, retained.head), (13, 20));
    check(&api, "limit=2", &[13, 14], Some(14), 0);
    check(&api, "limit=2&after=0", &[13, 14], Some(14), 0);
    check(&api, "limit=2&after=1", &[13, 14], Some(14), 11);
    check(&api, "limit=2&offset=10", &[13, 14], Some(14), 2);
    check(&api, "limit=2&after=12", &[13, 14], Some(14), 0);
    check(&api, "limit=2&after=13", &[14, 15], Some(15), 0);
    check(&api, "limit=2&order=desc&after=5", &[20, 19], Some(19), 7);
    check(&api, "limit=2&order=desc&offset=5", &[], None, 0);
    check(&api, "limit=2&order=desc&offset=14", &[13], None, 0);
}

#[test]
fn filters_ask_for_categories_and_types() {
    let api = running(64);
    for name in [
        "page_load",
        "page_lcp",
        "console_log",
        "network_idle",
        "network_request",
        "system_oom_kill",
    ] {
        publish(&api, &format!(r#"{{"type":"{name}"}}"#)).unwrap();
    }
    publish(&api, r#"{"type":"page","category":"network"}"#).unwrap();
    for (query, expected) in [
        ("category=page", &[1, 2][..]),
        ("category=page,console", &[1, 2, 3]),
        ("category=page&category=console", &[1, 2, 3]),
        ("category=captcha", &[]),
        ("category=system", &[6]),
        ("type=page_load", &[1]),
        ("type=page", &[7]),
        ("type=page_*,network_idle", &[1, 2, 4]),
        ("type=page_*&type=network_idle", &[1, 2, 4]),
        ("type=*_l*", &[1, 2, 3]),
        ("type=*", &[1, 2, 3, 4, 5, 6, 7]),
        ("category=network&type=page*", &[7]),
        ("category=console&type=page*", &[]),
    ] {
        check(&api, query, expected, None, 0);
    }
}

#[test]
fn since_and_until_ask_for_a_time() {
    let api = running(64);
    let now = jiff::Timestamp::now().as_microsecond();
    for ago in [600, 300, 60] {
        let ts = now - ago * 1_000_000;
        publish(&api, &format!(r#"{{"type":"page_load","ts":{ts}}}"#)).unwrap();
    }
    publish(&api, r#"{"type":"page_load","ts":1000000}"#).unwrap();
    let at = |ago: i64| {
        jiff::Timestamp::from_microsecond(now - ago * 1_000_000)
            .unwrap()
            .to_string()
    };
    for (query, expected) in [
        ("since=5m30s".to_owned(), &[2, 3][..]),
        ("since=2m".to_owned(), &[3]),
        ("since=1h".to_owned(), &[1, 2, 3]),
        ("since=0s".to_owned(), &[]),
        ("until=2m".to_owned(), &[1, 2, 4]),
        ("since=400s&until=2 minutes".to_owned(), &[2]),
        (format!("since={}", at(300)), &[2, 3]),
        (format!("until={}", at(300)), &[1, 2, 4]),
        (format!("since={}&until={}", at(300), at(300)), &[2]),
        (format!("since={}", at(299)), &[3]),
        ("until=1970-01-01T00:00:01Z".to_owned(), &[4]),
        ("until=1970-01-01T01:00:01+01:00".to_owned(), &[4]),
        ("until=1970-01-01T00:00:00.999999Z".to_owned(), &[]),
        // Before the epoch there is nothing to ask for.
        ("since=1950-01-01T00:00:00Z".to_owned(), &[1, 2, 3, 4]),
        ("until=1950-01-01T00:00:00Z".to_owned(), &[]),
        ("since=900000h".to_owned(), &[1, 2, 3, 4]),
    ] {
        check(&api, &query, expected, None, 0);
    }
}

/// A filter that nothing matches costs a bounded time: such a page ends early, and the next one continues.
#[test]
fn a_page_looks_at_a_bounded_number_of_events() {
    let api = running(80_000);
    fill_to(&api, 70_000);
    publish(&api, r#"{"type":"page_load"}"#).unwrap();
    check(&api, "category=page", &[], Some(65_536), 0);
    check(&api, "category=page&offset=65536", &[70_001], None, 0);
    check(
        &api,
        "category=captcha&order=desc",
        &[],
        Some(70_001 - 65_535),
        0,
    );
    check(
        &api,
        &format!("category=captcha&order=desc&offset={}", 70_001 - 65_535),
        &[],
        None,
        0,
    );
}

/// The one query that no text can ask for.
#[test]
fn default_query_is_the_empty_text() {
    assert_eq!(PageQuery::default(), crate::query::page("").unwrap());
}

#[test]
fn a_page_is_bounded_in_bytes_and_the_next_one_continues() {
    let api = running(64);
    let data = format!(r#"{{"type":"page_load","data":"{}"}}"#, "x".repeat(900_000));
    for _ in 0..20 {
        api.publish(from_json(data.as_bytes()).unwrap()).unwrap();
    }
    let first = api.page(&PageQuery::default());
    let bytes: usize = first
        .envelopes
        .iter()
        .map(|envelope| envelope.json().len())
        .sum();
    assert!((8 << 20..9 << 20).contains(&bytes), "{bytes}");
    let mut seqs: Vec<_> = first
        .envelopes
        .iter()
        .map(|envelope| envelope.seq())
        .collect();
    let mut offset = first.next_offset;
    while offset.is_some() {
        let page = api.page(&PageQuery {
            offset,
            ..PageQuery::default()
        });
        seqs.extend(page.envelopes.iter().map(|envelope| envelope.seq()));
        offset = page.next_offset;
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
}
