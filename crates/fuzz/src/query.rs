//! The query of a page and of a stream: filters, bounds, times.
//!
//! The input is the part of a URL after the `?`.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::LazyLock;
use tapline_telemetry::TelemetrySession;

use tapline_api::{ApiService, Backend as _, Order, PageQuery, QueryError, Replay, StreamQuery};
use tapline_events::Filter;
use tapline_oapi::{Category, ConfigRequest, ErrorBody, Event};

use crate::pattern::fits;

/// A query is either refused, or means what it says.
pub fn query(input: &[u8]) {
    let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(input).collect();
    check_stream(&pairs);
    check_page(&pairs);
}

fn check_stream(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) {
    let asked = StreamQuery::from_pairs(pairs.iter().map(|(name, text)| (&**name, &**text)));
    let values = |name: &str| -> Vec<&str> {
        let named = pairs.iter().filter(|(known, _)| known == name);
        named.map(|(_, text)| &**text).collect()
    };
    let one_of = |name, choices: &[&str]| match values(name)[..] {
        [] => true,
        [one] => choices.contains(&one),
        _ => false,
    };
    let known = [
        "lastEventId",
        "after",
        "replay",
        "category",
        "type",
        "notices",
        "overtaken",
    ];
    let is_pattern = |word: &str| {
        let stars = word.bytes().filter(|byte| *byte == b'*').count();
        (1..=256).contains(&word.len()) && stars <= 16
    };
    let is_good = pairs.iter().all(|(name, _)| known.contains(&&**name))
        && values("after").len() <= 1
        && one_of("replay", &["all", "live"])
        && one_of("notices", &["true", "false"])
        && one_of("overtaken", &["archive", "oldest", "head", "close"])
        && words(pairs, "category").all(|word| word.parse::<Category>().is_ok())
        && words(pairs, "type").all(is_pattern)
        && words(pairs, "type").count() <= 100;
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => {
            assert!(!is_good, "a valid query is refused: {error}");
            return check_error(error);
        }
    };
    assert!(is_good, "an invalid query is accepted: {asked:?}");
    let last_event_id = values("lastEventId").last().copied();
    let after = last_event_id
        .filter(|id| !id.is_empty())
        .or(values("after").first().copied());
    assert_eq!(asked.after.as_deref(), after);
    assert_eq!(asked.notices, values("notices") == ["true"]);
    let replay = match values("replay")[..] {
        ["all"] => Some(Replay::All),
        ["live"] => Some(Replay::Live),
        _ => None,
    };
    assert_eq!(asked.replay, replay);
    check_filter(&asked.filter, pairs);
}

/// The filter selects the same events as the parameters, evaluated again for every event.
fn check_filter(filter: &Filter, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) {
    let mut reader = EVENTS.session.new_reader(0).filtered(filter.clone());
    let mut delivered = Vec::new();
    while let Some(item) = reader.try_next() {
        match item {
            tapline_events::Item::Envelope(envelope) => delivered.push(envelope.seq()),
            tapline_events::Item::Lost(lost) => {
                panic!("a reader that begins at the oldest event loses nothing: {lost:?}");
            }
        }
    }
    let expected: Vec<u64> = retained()
        .filter(|(_, event)| is_asked_for(event, pairs))
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(delivered, expected);
}

fn is_asked_for(event: &Event, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
    let category = event.category.as_str();
    let name = event.event_type.as_str();
    let any = |asked: &str| words(pairs, asked).next().is_none();
    (any("category") || words(pairs, "category").any(|word| word == category))
        && (any("type") || words(pairs, "type").any(|pattern| fits(pattern, name)))
}

/// Whether the JSON of a retained event has what is looked for: a text, as it stands or within a string; a tab; one of
/// several statuses.
fn is_found(seq: u64, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
    let stream = EVENTS.session.stream();
    let envelope = stream.envelope(seq).expect("nothing evicts it");
    let value = |asked: &str| {
        pairs
            .iter()
            .find(|(name, _)| name == asked)
            .map(|(_, text)| text)
    };
    let has_text = value("contains").is_none_or(|text| {
        let json = envelope.json().whole().to_ascii_lowercase();
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        [text, &quoted[1..quoted.len() - 1]]
            .iter()
            .any(|form| json.contains(&form.to_ascii_lowercase()))
    });
    let event: serde_json::Value =
        serde_json::from_str(&envelope.json().whole()).expect("an envelope is JSON");
    let event = &event["event"];
    let data = &event["data"];
    let is_of_target = value("target_id").is_none_or(|id| data["target_id"] == **id);
    let status = data["status"].as_f64();
    let is_failure = event["type"] == "network_loading_failed";
    let has_status = |word: &str| match word {
        "failed" => is_failure,
        "blocked" => ["blocked_reason", "cors_error"]
            .iter()
            .any(|field| data[field].as_str().is_some_and(|it| !it.is_empty())),
        "error" => {
            let is_problem = is_failure
                || event["type"] == "proxy_error"
                || status.is_some_and(|it| 400.0 <= it);
            event["category"] == "network" && is_problem
        }
        _ => match word.strip_suffix("xx") {
            Some(class) => {
                status.is_some_and(|it| Some((it / 100.0).floor()) == class.parse().ok())
            }
            None => status.is_some() && status == word.parse().ok(),
        },
    };
    let mut statuses = words(pairs, "status").peekable();
    has_text && is_of_target && (statuses.peek().is_none() || statuses.any(has_status))
}

/// All values of a parameter.
fn words<'a>(
    pairs: &'a [(Cow<'_, str>, Cow<'_, str>)],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    pairs
        .iter()
        .filter(move |(known, _)| known == name)
        .flat_map(|(_, text)| text.split(','))
}

fn check_page(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) {
    let asked = PageQuery::from_pairs(pairs.iter().map(|(name, text)| (&**name, &**text)));
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(error) => return check_error(error),
    };
    assert!(1 <= asked.limit && asked.limit <= tapline_api::MAX_LIMIT);
    check_filter(&asked.filter, pairs);

    // Reads all pages to the end and compares them with one scan of all events.
    let epoch = EVENTS.api.epoch();
    let mut cursors = [asked.after, asked.offset].into_iter().flatten();
    if cursors.any(|cursor| cursor.epoch.is_some_and(|of| of != epoch)) {
        assert!(crate::ready(EVENTS.api.page(&asked)).is_err());
        return;
    }
    let after = asked
        .after
        .filter(|after| 0 < after.seq || after.epoch.is_some());
    let after = after.map(|after| after.seq);
    let offset = asked.offset.map(|offset| offset.seq);
    let from = match asked.order {
        Order::Asc => after.max(offset.filter(|offset| 0 < *offset)),
        Order::Desc => after,
    };
    let start = from.unwrap_or(0);
    let end = match (asked.order, offset) {
        (Order::Desc, Some(offset)) => offset,
        _ => u64::MAX,
    };
    let mut expected: Vec<u64> = retained()
        .filter(|(seq, event)| {
            (start < *seq && *seq < end)
                && asked.since.is_none_or(|since| since <= event.ts)
                && asked.until.is_none_or(|until| event.ts <= until)
                && is_asked_for(event, pairs)
                && is_found(*seq, pairs)
        })
        .map(|(seq, _)| seq)
        .collect();
    if asked.order == Order::Desc {
        expected.reverse();
    }
    // What should be there and is gone, and what of that may have been asked for.
    let oldest = EVENTS.api.retained().oldest;
    let is_gone = |seq: u64| {
        let is_asked = from.is_some() || asked.since.is_some();
        is_asked && start < seq && seq < oldest.min(end)
    };
    let gone: Vec<_> = (1..)
        .zip(&EVENTS.log)
        .filter(|(seq, _)| is_gone(*seq))
        .collect();
    let missing = gone.iter().filter(|(_, event)| {
        asked.since.is_none_or(|since| since <= event.ts)
            && asked.until.is_none_or(|until| event.ts <= until)
            && is_asked_for(event, pairs)
    });
    let (missing, most) = (missing.count() as u64, gone.len() as u64);
    let mut lost = 0;

    let mut got: Vec<u64> = Vec::new();
    for pages in 1.. {
        let page = crate::ready(EVENTS.api.page(&asked)).expect("its cursor is of this epoch");
        assert!(page.envelopes.len() as u64 <= asked.limit);
        lost += page.lost;
        got.extend(page.envelopes.iter().map(|envelope| envelope.seq()));
        let Some(next) = page.next_offset else {
            break;
        };
        // The events here are too few for a search that ends early.
        assert!(
            !page.envelopes.is_empty(),
            "a page with a next page is not empty"
        );
        assert_eq!(Some(next.seq), got.last().copied());
        assert!(pages <= 16, "the pages do not end");
        asked.offset = Some(next);
    }
    assert_eq!(got, expected, "{asked:?}");
    assert!(
        missing <= lost && lost <= most,
        "{missing} {lost} {most} {asked:?}"
    );
}

fn check_error(error: QueryError) {
    crate::check_answer(&ErrorBody::from(&tapline_api::ApiError::from(error)));
}

/// 40 events, of which the last 16 are retained: known and custom types of every category, one minute apart.
static EVENTS: LazyLock<Events> = LazyLock::new(|| {
    let session = crate::session(16, u64::MAX);
    let api = ApiService::new(session.clone());
    crate::ready(api.put(&ConfigRequest::default())).expect("no source has to start");
    let mut log = Vec::new();
    for n in 0..40 {
        let event = match n % 3 {
            0 => Event::known(
                tapline_oapi::KnownType::ALL[n % tapline_oapi::KnownType::ALL.len()],
                None,
            ),
            _ => {
                let category = Category::ALL[n % Category::COUNT];
                let name = ["checkout_done", "a*b", "ü,&=", "*", "page_load_x"][n % 5];
                Event::custom(name, category, None).expect("the name is not empty")
            }
        };
        let ts = 1_795_349_358_000_000 + 60_000_000 * n as u64;
        let event = event.with_ts(ts);
        log.push(event.clone());
        api.publisher()
            .publish(event)
            .expect("everything is captured");
    }
    Events { session, api, log }
});

struct Events {
    session: Arc<TelemetrySession>,
    api: ApiService,
    /// All of them, the evicted ones as well.
    log: Vec<Event>,
}

/// The retained events with their seqs.
fn retained() -> impl Iterator<Item = (u64, Event)> {
    let stream = EVENTS.session.stream();
    let retained = stream.retained();
    (retained.oldest..=retained.head).map(|seq| {
        let envelope = stream.envelope(seq).expect("nothing evicts it");
        (seq, envelope.event().clone())
    })
}
