//! Query parameters: an error names the one that is wrong.

use std::time::Duration;

use tapline_api::{Order, PageQuery, QueryError, Replay, StreamQuery, WaitQuery};
use tapline_oapi::{Category, CategorySet, OnLag};

/// As they stand in a URL, but not encoded.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub(crate) fn page(query: &str) -> Result<PageQuery, QueryError> {
    PageQuery::from_pairs(pairs(query))
}

pub(crate) fn stream(query: &str) -> Result<StreamQuery, QueryError> {
    StreamQuery::from_pairs(pairs(query))
}

pub(crate) fn wait(query: &str) -> Result<WaitQuery, QueryError> {
    WaitQuery::from_pairs(pairs(query))
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, QueryError>, name: &str, message: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.name, name);
    assert!(error.message.contains(message), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("query parameter `{name}`: ")),
        "{text}"
    );
    assert!(text.len() < 600, "{text}");
}

#[test]
fn a_page_says_which_parameter_is_wrong() {
    for (query, name, message) in [
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("limit=-1", "limit", "`-1`"),
        ("limit=%2B1", "limit", "`%2B1`"),
        ("limit=+1", "limit", "`+1`"),
        ("limit=", "limit", "``"),
        ("limit=1.5", "limit", "`1.5`"),
        ("limit=9223372036854775808", "limit", "2^63 - 1"),
        ("limit=5&limit=5", "limit", "twice"),
        ("after=x", "after", "`x`"),
        ("after=1-00000000", "after", "SEQ or SEQ-EPOCH"),
        ("after=1&after=2", "after", "twice"),
        ("offset=1-2", "offset", "SEQ or SEQ-EPOCH"),
        ("offset=x", "offset", "`x`"),
        ("offset=1&offset=2", "offset", "twice"),
        ("offset=18446744073709551615", "offset", "2^63 - 1"),
        ("order=up", "order", "`asc`, `desc`"),
        ("order=ASC", "order", "`asc`, `desc`"),
        ("order=asc&order=asc", "order", "twice"),
        ("since=yesterday", "since", "`5m`"),
        ("since=", "since", "RFC 3339"),
        ("since=-5m", "since", "duration"),
        ("since=2026-11-23", "since", "RFC 3339"),
        ("since=5m&since=5m", "since", "twice"),
        ("until=1700000000", "until", "RFC 3339"),
        ("category=pages", "category", "`captcha`"),
        ("contains=", "contains", "is empty"),
        ("contains=a&contains=b", "contains", "given twice"),
        ("category=", "category", "unknown category ``"),
        ("category=page,,console", "category", "unknown category ``"),
        ("category=Page", "category", "`Page`"),
        ("type=", "type", "separate the types by one comma"),
        ("type=a,,b", "type", "separate the types by one comma"),
        ("types=a", "types", "`type`"),
        ("replay=all", "replay", "known are"),
        ("=1", "", "known are"),
    ] {
        check(page(query), name, message);
    }
}

#[test]
fn a_stream_says_which_parameter_is_wrong() {
    for (query, name, message) in [
        ("replay=none", "replay", "`all`, `live`"),
        ("replay=", "replay", "`all`, `live`"),
        ("replay=all&replay=all", "replay", "twice"),
        ("notices=1", "notices", "`true`, `false`"),
        ("notices", "notices", "`true`, `false`"),
        ("notices=true&notices=true", "notices", "twice"),
        ("after=1&after=1", "after", "twice"),
        ("category=x", "category", "unknown category `x`"),
        ("type=", "type", "separate the types by one comma"),
        ("limit=1", "limit", "known are"),
        ("overtaken=newest", "overtaken", "`oldest`, `head`, `close`"),
        ("overtaken=head&overtaken=head", "overtaken", "twice"),
        ("ticket=x", "ticket", "known are"),
    ] {
        check(stream(query), name, message);
    }
}

#[test]
fn a_wait_says_which_parameter_is_wrong() {
    for (query, name, message) in [
        (
            "timeout_ms=300001",
            "timeout_ms",
            "300001 is not from 0 to 300000",
        ),
        ("timeout_ms=-1", "timeout_ms", "`-1`"),
        ("timeout_ms=", "timeout_ms", "``"),
        ("timeout_ms=1&timeout_ms=1", "timeout_ms", "twice"),
        ("timeout=1", "timeout", "`timeout_ms`"),
        ("after=1&after=1", "after", "twice"),
        ("after=x", "after", "`x` is not a cursor"),
        ("category=x", "category", "unknown category `x`"),
        ("type=", "type", "separate the types by one comma"),
        ("replay=all", "replay", "known are"),
    ] {
        check(wait(query), name, message);
    }
}

#[test]
fn a_wait_asks_for_what_it_says() {
    let asked = wait("").unwrap();
    assert_eq!(asked.start, StreamQuery::default());
    assert_eq!(asked.timeout, Duration::from_secs(30));
    let asked = wait("after=7-00000000c0ffee00&category=page&type=a*,b&timeout_ms=300000").unwrap();
    assert_eq!(asked.start.after.as_deref(), Some("7-00000000c0ffee00"));
    assert_eq!(
        asked.start.filter,
        stream("type=a*&type=b&category=page").unwrap().filter
    );
    assert_eq!(asked.timeout, Duration::from_secs(300));
    assert_eq!(wait("timeout_ms=0").unwrap().timeout, Duration::ZERO);
}

#[test]
fn patterns_are_bounded() {
    let list = |n: usize| format!("type={}", vec!["a*"; n].join(","));
    assert_eq!(stream(&list(100)).unwrap().filter.types.len(), 100);
    check(stream(&list(101)), "type", "100");
    check(page(&format!("{}&type=b", list(100))), "type", "100");
}

#[test]
fn a_message_does_not_grow_with_the_query() {
    let long = "é".repeat(10_000);
    for query in [
        format!("limit={long}"),
        format!("order={long}"),
        format!("since={long}"),
        format!("category={long}"),
        format!("{long}=1"),
    ] {
        let text = page(&query).unwrap_err().to_string();
        assert!(text.contains('…') && text.len() < 600, "{text}");
    }
}

#[test]
fn a_page_asks_for_what_it_says() {
    let asked = page("limit=7&order=desc&after=3&since=2026-11-23T08:00:00Z&until=2026-11-23T09:00:00.5Z&category=page&type=a*,b").unwrap();
    assert_eq!((asked.limit, asked.order), (7, Order::Desc));
    assert_eq!((asked.after, asked.offset), (Some(3.into()), None));
    let hour = 3_600_000_000;
    assert_eq!(asked.since, Some(1_795_420_800_000_000));
    assert_eq!(asked.until, Some(1_795_420_800_000_000 + hour + 500_000));
    assert_eq!(
        asked.filter.categories,
        Some(CategorySet::of(&[Category::Page]))
    );
    let types: Vec<_> = asked.filter.types.iter().map(ToString::to_string).collect();
    assert_eq!(types, ["a*", "b"]);
    assert_eq!(page("offset=3").unwrap().offset, Some(3.into()));
}

/// `subscribe` answers whatever is no cursor.
#[test]
fn a_stream_takes_any_cursor() {
    for text in ["", "0", "7-00000000c0ffee00", "no cursor", "-1"] {
        let asked = stream(&format!("after={text}")).unwrap();
        assert_eq!(asked.after.as_deref(), Some(text));
    }
    let asked = stream("replay=live&notices=true").unwrap();
    assert_eq!((asked.replay, asked.notices), (Some(Replay::Live), true));
    for (text, overtaken) in [
        ("", None),
        ("overtaken=archive", Some(OnLag::Archive)),
        ("overtaken=oldest", Some(OnLag::Oldest)),
        ("overtaken=head", Some(OnLag::Head)),
        ("overtaken=close", Some(OnLag::Close)),
    ] {
        assert_eq!(stream(text).unwrap().overtaken, overtaken);
    }
    assert!(!stream("notices=false").unwrap().notices);
    assert_eq!(stream("").unwrap(), StreamQuery::default());
}

/// RFC 3339 has years up to 9999, and a day is 24 hours.
#[test]
fn moments_reach_to_the_end_of_the_year_9999() {
    let since = |text: &str| page(&format!("since={text}")).unwrap().since.unwrap();
    for (text, seconds) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-30T00:00:00Z", 253_402_128_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("9999-12-31T23:59:59+01:00", 253_402_300_799 - 3600),
        ("9999-12-31T23:59:59-01:00", 253_402_300_799 + 3600),
        ("9999-12-31t23:59:59z", 253_402_300_799),
    ] {
        assert_eq!(since(text), seconds * 1_000_000, "{text}");
    }
    assert_eq!(
        since("9999-12-31T23:59:59.999999Z"),
        253_402_300_799_999_999
    );
    for text in [
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59",
        "9999-12-31",
        "9999-12-31T23:59:59Z[UTC]",
        // A plus sign that was not encoded.
        "9999-12-31T23:59:59 01:00",
    ] {
        assert!(page(&format!("since={text}")).is_err(), "{text}");
    }
}

#[test]
fn durations_have_days_and_weeks() {
    let now = jiff::Timestamp::now().as_microsecond() as u64;
    for (text, seconds) in [
        ("1d", 86_400),
        ("7d", 7 * 86_400),
        ("2w", 14 * 86_400),
        ("1d12h", 129_600),
        ("1w 1d", 8 * 86_400),
        ("P1DT1H", 90_000),
        ("90m", 5400),
    ] {
        let since = page(&format!("since={text}")).unwrap().since.unwrap();
        let expected = now - seconds * 1_000_000;
        assert!(
            (expected..expected + 60_000_000).contains(&since),
            "{text}: {since} {expected}"
        );
    }
    // They have no length of their own.
    for text in ["1mo", "1y", "-1d"] {
        assert!(page(&format!("since={text}")).is_err(), "{text}");
    }
}
