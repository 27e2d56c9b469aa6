//! Pages of what is retained.

use tapline_api::{ApiService, Backend as _, Cursor, Page, PageQuery};
use tapline_oapi::from_json;

use crate::{block_on, code_and_message, fill_to, idle, publish, running};

fn page(api: &ApiService, query: &str) -> Page {
    block_on(api.page(&crate::query::page(query).unwrap())).unwrap()
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
    assert_eq!(page.next_offset, next.map(Cursor::from), "{query}");
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
    // In descending order the page that comes to the oldest event reports it, once for all pages.
    check(
        &api,
        "limit=4&order=desc&after=5",
        &[20, 19, 18, 17],
        Some(17),
        0,
    );
    check(
        &api,
        "limit=4&order=desc&after=5&offset=17",
        &[16, 15, 14, 13],
        None,
        7,
    );
    check(&api, "limit=2&order=desc&after=5&offset=11", &[], None, 5);
    check(&api, "limit=2&order=desc&offset=5", &[], None, 0);
    check(&api, "limit=2&order=desc&offset=14", &[13], None, 0);
}

/// A walk back promises what is there when it begins.
#[test]
fn a_walk_back_reports_what_is_evicted_on_its_way() {
    let api = running(16);
    fill_to(&api, 16);
    check(&api, "order=desc&limit=4", &[16, 15, 14, 13], Some(13), 0);
    // Another walk asks for less, and with another filter.
    check(
        &api,
        "order=desc&limit=4&category=console",
        &[16, 15, 14, 13],
        Some(13),
        0,
    );
    fill_to(&api, 24);
    // Some is left of it: the page that ends the walk reports the rest.
    check(&api, "order=desc&limit=2&offset=13", &[12, 11], Some(11), 0);
    check(&api, "order=desc&limit=2&offset=11", &[10, 9], None, 8);
    fill_to(&api, 48);
    check(&api, "order=desc&limit=4&offset=13", &[], None, 12);
    check(
        &api,
        "order=desc&limit=4&category=console&offset=13",
        &[],
        None,
        12,
    );
    // What was evicted before it began is not part of it.
    check(&api, "order=desc&limit=1", &[48], Some(48), 0);
    check(
        &api,
        "order=desc&limit=100&offset=48",
        &(33..=47).rev().collect::<Vec<_>>(),
        None,
        0,
    );
}

/// Who asks for a time asks for everything of that time.
#[test]
fn what_is_gone_of_the_time_asked_for_is_lost() {
    let api = running(8);
    let now = jiff::Timestamp::now().as_microsecond();
    // One each minute, the newest is of now; the first twelve are evicted.
    for ago in (0..20).rev() {
        let ts = now - ago * 60_000_000;
        publish(&api, &format!(r#"{{"type":"page_load","ts":{ts}}}"#)).unwrap();
    }
    let all: Vec<_> = (13..=20).collect();
    let back: Vec<_> = (13..=20).rev().collect();
    check(&api, "since=1h", &all, None, 12);
    check(&api, "since=1h&order=desc", &back, None, 12);
    check(&api, "since=1h&category=page", &all, None, 12);
    check(&api, "since=1h&category=network", &[], None, 0);
    check(&api, "since=1h&after=10", &all, None, 2);
    check(&api, "since=1h&order=desc&after=10", &back, None, 2);
    check(&api, "since=1h&after=10&until=30m", &[], None, 2);
    // That time is retained.
    check(&api, "since=150s", &[18, 19, 20], None, 0);
    check(&api, "since=150s&after=3", &[18, 19, 20], None, 0);
    check(&api, "since=150s&order=desc", &[20, 19, 18], None, 0);
    check(&api, "since=1h&order=desc&limit=8", &back, None, 12);
    check(
        &api,
        "since=1h&order=desc&limit=4",
        &[20, 19, 18, 17],
        Some(17),
        0,
    );
    check(
        &api,
        "since=1h&order=desc&limit=4&offset=17",
        &[16, 15, 14, 13],
        None,
        12,
    );
    // Without a bound below, it is about what there is.
    check(&api, "until=1h", &[], None, 0);
    check(&api, "until=0s&limit=1", &[13], Some(13), 0);
}

/// Pages that are read while their events are evicted, against the log of all events.
#[test]
fn no_page_has_a_hole_that_it_does_not_report() {
    const EVENTS: u64 = 60_000;
    let api = running(64);
    // Every third seq is a page's: the single publisher knows which.
    let is_page = |seq: u64| seq % 3 == 1;
    let mut reported = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=EVENTS {
                let name = if is_page(seq) {
                    "page_load"
                } else {
                    "console_log"
                };
                publish(&api, &format!(r#"{{"type":"{name}"}}"#)).unwrap();
            }
        });
        let mut walk = 0;
        let mut after = 0;
        while api.retained().head < EVENTS {
            walk += 1;
            let by_category = walk % 2 == 0;
            let wanted = |seq: u64| !by_category || is_page(seq);
            let filter = if by_category { "&category=page" } else { "" };
            // Up, from where the walk before ended, in pages that are smaller than what is retained.
            let asked = page(&api, &format!("limit=20&after={after}{filter}"));
            let got = seqs(&asked);
            let end = asked
                .next_offset
                .map(|it| it.seq)
                .or(got.last().copied())
                .unwrap_or(after);
            if 0 < after {
                let missing = (after + 1..=end).filter(|seq| wanted(*seq)).count() - got.len();
                assert!(missing as u64 <= asked.lost, "{after} {asked:?}");
                // Only before a page's first event the number can be a bound.
                if !by_category {
                    assert!(asked.lost <= end - after, "{after} {asked:?}");
                }
                reported += asked.lost;
            } else if let (Some(first), false) = (got.first(), by_category) {
                let missing = end - first + 1 - got.len() as u64;
                assert_eq!(missing, asked.lost, "{asked:?}");
            }
            // Every so often without a cursor.
            after = if walk % 7 == 0 { 0 } else { end };

            // And down, over all that is retained.
            let first = page(&api, &format!("limit=20&order=desc{filter}"));
            let oldest = first.retained.oldest;
            let (mut got, mut lost) = (seqs(&first), first.lost);
            let mut offset = first.next_offset;
            while let Some(at) = offset {
                let next = page(&api, &format!("limit=20&order=desc{filter}&offset={at}"));
                got.extend(seqs(&next));
                lost += next.lost;
                offset = next.next_offset;
            }
            let Some(top) = got.first() else { continue };
            let missing = (oldest..=*top).filter(|seq| wanted(*seq)).count() - got.len();
            assert!(
                missing as u64 <= lost,
                "{missing} of {oldest} to {top}: {lost}"
            );
            if !by_category {
                assert_eq!(missing as u64, lost, "{oldest} to {top}");
            }
            reported += lost;
        }
    });
    assert!(0 < reported, "nothing was evicted under a page");
}

#[test]
fn a_cursor_of_another_epoch_is_an_error() {
    let api = running(8);
    fill_to(&api, 20);
    let epoch = api.epoch();
    check(&api, &format!("after=18-{epoch}"), &[19, 20], None, 0);
    // With its epoch the beginning is a position as any other.
    let all: Vec<_> = (13..=20).collect();
    check(&api, &format!("after=0-{epoch}"), &all, None, 12);
    let query = crate::query::page("after=18-00000000c0ffee00").unwrap();
    let (code, message) = code_and_message(&block_on(api.page(&query)).unwrap_err());
    assert_eq!(code, "conflict");
    assert!(
        message.contains(&format!("`after=20-{epoch}`")),
        "{message}"
    );
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
    let first = block_on(api.page(&PageQuery::default())).unwrap();
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
        let query = PageQuery {
            offset,
            ..PageQuery::default()
        };
        let page = block_on(api.page(&query)).unwrap();
        seqs.extend(page.envelopes.iter().map(|envelope| envelope.seq()));
        offset = page.next_offset;
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
}

/// A page with a filter that is costly to match looks at fewer events, and the pages together at all of them.
#[test]
fn a_costly_filter_makes_pages_shorter_and_loses_nothing() {
    const EVENTS: u64 = 20_000;
    let api = running(EVENTS as usize);
    for n in 0..EVENTS {
        let name = if n % 5000 == 0 {
            "a-b-c-found"
        } else {
            "a-b-c"
        };
        publish(&api, &format!(r#"{{"type":"{name}","category":"page"}}"#));
    }
    let patterns: Vec<_> = (1..100).map(|n| format!("*a*b*c*x{n}")).collect();
    let types = format!("{},*a*found", patterns.join(","));
    for order in ["asc", "desc"] {
        let (mut pages, mut found, mut offset) = (0, Vec::new(), String::new());
        loop {
            let page = page(&api, &format!("order={order}&type={types}{offset}"));
            pages += 1;
            found.extend(seqs(&page));
            assert_eq!(page.lost, 0);
            match page.next_offset {
                Some(next) => offset = format!("&offset={next}"),
                None => break,
            }
        }
        assert!(pages > 5, "{pages}");
        found.sort_unstable();
        assert_eq!(found, [1, 5001, 10_001, 15_001], "{order}");
    }
}

/// A text is looked for in the JSON; pages with and without it have the same events.
#[test]
fn a_text_is_found_in_either_order_over_several_pages() {
    let api = running(64);
    for n in 0..40 {
        let text = if n % 8 == 0 { "Not Found" } else { "fine" };
        publish(
            &api,
            &format!(r#"{{"type":"console_log","data":{{"text":"{text} {n}"}}}}"#),
        )
        .unwrap();
    }
    check(&api, "contains=not found", &[1, 9, 17, 25, 33], None, 0);
    check(&api, "contains=NOT FOUND&limit=2", &[1, 9], Some(9), 0);
    check(
        &api,
        "contains=not found&limit=2&offset=9",
        &[17, 25],
        Some(25),
        0,
    );
    let query = "contains=not found&order=desc&after=9";
    check(&api, query, &[33, 25, 17], None, 0);
    check(&api, "contains=not found&type=page_*", &[], None, 0);
    check(&api, "contains=nothing has this", &[], None, 0);
    check(&api, r#"contains="seq":7,"#, &[7], None, 0);
}

/// However much text there is, one page searches a bounded part of it and says that there is more.
#[test]
fn a_page_that_looks_for_a_text_ends_after_a_megabyte() {
    let api = running(64);
    let long = "x".repeat(300_000);
    for n in 1..=10 {
        let data = format!(r#"{{"type":"console_log","data":{{"text":"{long}{n}."}}}}"#);
        publish(&api, &data).unwrap();
    }
    for order in ["asc", "desc"] {
        let (mut pages, mut found, mut offset) = (0, Vec::new(), String::new());
        loop {
            let page = page(&api, &format!("contains=x9.&order={order}{offset}"));
            pages += 1;
            found.extend(seqs(&page));
            match page.next_offset {
                Some(next) => offset = format!("&offset={next}"),
                None => break,
            }
        }
        assert_eq!((found, pages), (vec![9], 3), "{order}");
    }
}
