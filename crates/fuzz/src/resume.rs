//! Cursors, and readers that resume with one while events are published.
//!
//! The input has up to three lines:
//!
//! 1. the cursor, in which `@` stands for the stream's epoch;
//! 2. the query of the stream without its `?`;
//! 3. the script, one byte for each action: see [`Stage::act`].

use std::ops::ControlFlow;

use tapline_api::{
    ApiService, Backend as _, Delivery, SessionSubscription, StreamQuery, Subscription,
};
use tapline_events::{Cursor, Filter, Item, Lost, ReaderLedger};
use tapline_oapi::{
    Category, CategorySet, ConfigRequest, Event, Hello, HelloReason, KnownType, PublishRequest,
    from_json,
};

/// Wherever a reader resumes, it receives the events that it asks for in order and once, and every loss is reported.
pub fn resume(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (cursor, query, script) = (line(), line(), line());
    check_cursor(cursor);

    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let pairs = pairs.iter().map(|(name, text)| (&**name, &**text));
    let Ok(mut query) = StreamQuery::from_pairs(pairs) else {
        return;
    };
    let mut stage = Stage::new();
    // Half of the script runs before the reader is opened.
    let script: Vec<char> = script.chars().take(512).collect();
    let (before, after) = script.split_at(script.len() / 2);
    for act in before {
        stage.act(*act);
    }
    if !cursor.is_empty() {
        query.after = Some(cursor.replace('@', &stage.epoch()));
    }
    stage.open(query);
    for act in after {
        stage.act(*act);
    }
    stage.read_all();
}

/// Exactly the two forms of a cursor are read, and a cursor is printed in the form in which it is read.
fn check_cursor(text: &str) {
    let cursor = text.parse::<Cursor>();
    assert_eq!(cursor.is_ok(), is_cursor(text), "{text:?}");
    if let Ok(cursor) = cursor {
        let printed = cursor.to_string();
        assert_eq!(
            printed.parse(),
            Ok(cursor),
            "{text:?} is printed as {printed:?}"
        );
    }
}

/// Whether `text` is a seq, or a seq and an epoch.
fn is_cursor(text: &str) -> bool {
    let is_seq = |seq: &str| {
        let digits = seq.chars().all(|digit| digit.is_ascii_digit());
        digits && seq.len() <= 20 && seq.parse::<u64>().is_ok()
    };
    let is_epoch =
        |epoch: &str| epoch.len() == 16 && epoch.chars().all(|digit| digit.is_ascii_hexdigit());
    match text.split_once('-') {
        None => is_seq(text),
        Some((seq, epoch)) => is_seq(seq) && is_epoch(epoch),
    }
}

/// Reads what there is, up to `limit` items. Changes of the session are left out.
fn read(reader: &mut SessionSubscription, limit: usize) -> (usize, Vec<Item<(u64, String)>>) {
    let mut visited = Vec::new();
    let looked_at = reader.read(limit, |delivery| {
        match delivery {
            Delivery::Envelope { seq, json } => {
                visited.push(Item::Envelope((seq, json.to_string())));
            }
            Delivery::Lost(lost) => visited.push(Item::Lost(lost)),
            Delivery::Session(_) | Delivery::Epoch(_) => {}
        }
        ControlFlow::Continue(())
    });
    (looked_at, visited)
}

/// A small stream, a list of all events ever published, and a reader that is compared with the list.
struct Stage {
    api: ApiService,
    captured: CategorySet,
    /// The event with seq 1 is the first.
    events: Vec<(Event, String)>,
    opened: Option<Opened>,
}

struct Opened {
    query: StreamQuery,
    reader: SessionSubscription,
    /// The account of all seqs up to this one was checked.
    checked: u64,
    ledger: ReaderLedger,
}

impl Stage {
    /// Sixteen events or 16 KiB are retained; everything is captured.
    fn new() -> Self {
        let mut stage = Self {
            api: crate::service(16, 16 * 1024),
            captured: CategorySet::EMPTY,
            events: Vec::new(),
            opened: None,
        };
        stage.put("{}");
        stage
    }

    fn epoch(&self) -> String {
        self.api.epoch().to_string()
    }

    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// Runs one action of the script. Other bytes do nothing.
    fn act(&mut self, act: char) {
        match act {
            // A custom type in the category with that index.
            'a'..='k' => {
                let category = Category::ALL[act as usize - 'a' as usize];
                let event = Event::custom(&format!("my_{act}"), category, None);
                self.publish(event.expect("the name is not empty"));
            }
            'A'..='Z' => {
                self.publish(Event::known(
                    KnownType::ALL[act as usize - 'A' as usize],
                    None,
                ));
            }
            // A large event; few of them are retained.
            'z' => self.publish_large(2_000),
            'y' => self.publish_large(20_000),
            // Enough events that a slow reader lags.
            ',' => {
                for n in 0..20 {
                    self.act(char::from(b'a' + n % 11));
                }
            }
            // Reads that many items.
            '0'..='9' => self.read(act as usize - '0' as usize),
            '.' => self.read_next(),
            // Closes the reader and resumes with its cursor, with or without the epoch.
            '!' => self.resume(true),
            '?' => self.resume(false),
            // The session.
            '-' => {
                let _ = crate::ready(self.api.delete());
                self.captured = CategorySet::EMPTY;
            }
            '+' => self.put("{}"),
            '/' => self.put(r#"{"browser":{"page":{"enabled":true}}}"#),
            _ => {}
        }
    }

    fn put(&mut self, body: &str) {
        let request: ConfigRequest = from_json(body.as_bytes()).expect("a good request");
        self.captured = request
            .browser
            .as_ref()
            .map_or(CategorySet::ALL, |browser| {
                browser.enabled().union(CategorySet::ALWAYS)
            });
        crate::ready(self.api.put(&request)).expect("nothing has to start");
    }

    fn publish_large(&mut self, bytes: usize) {
        let data = format!(r#"{{"type":"page_load","data":"{}"}}"#, "x".repeat(bytes));
        let request: PublishRequest = from_json(data.as_bytes()).expect("a good request");
        self.publish(Event::try_from(request).expect("of a known type"));
    }

    fn publish(&mut self, event: Event) {
        let published = self.api.publisher().publish(event.clone());
        assert_eq!(published.is_ok(), self.captured.contains(event.category));
        if let Ok(envelope) = published {
            let state = self.api.state().expect("an event was captured");
            let id = state.session_id.expect("a session is running");
            self.events.push((event, id));
            assert_eq!(envelope.seq(), self.head());
        }
        let retained = self.api.retained();
        assert_eq!(retained.head, self.head());
        let count = retained.head + 1 - retained.oldest;
        assert!(count <= 16 && (retained.weight <= 16 * 1024 || count == 1));
    }

    /// Opens a reader where its query says.
    fn open(&mut self, query: StreamQuery) {
        let tapline_api::Opened {
            subscription: reader,
            hello,
        } = crate::ready(self.api.subscribe(&query));
        let ledger = reader.ledger();
        self.check_hello(&query, &hello, ledger);
        assert_eq!(
            (reader.position(), ledger.position()),
            (hello.used, hello.used)
        );
        self.opened = Some(Opened {
            query,
            reader,
            checked: hello.used,
            ledger,
        });
    }

    fn check_hello(&self, query: &StreamQuery, hello: &Hello, ledger: ReaderLedger) {
        let head = self.head();
        let oldest = self.api.retained().oldest;
        assert_eq!((hello.head, hello.oldest), (head, oldest));
        assert_eq!(hello.asked, query.after);
        assert_eq!(hello.epoch, self.api.epoch());
        // The seq after which it resumes, if that is known.
        let from = match query.after.as_deref().map(str::parse::<Cursor>) {
            None => match query.replay {
                Some(tapline_api::Replay::All) => None,
                Some(tapline_api::Replay::Live) => Some(head),
                None => Some(self.api.metrics().session_start_seq.unwrap_or(head)),
            },
            Some(Err(_)) => {
                assert_eq!(hello.reason, HelloReason::Invalid);
                None
            }
            Some(Ok(Cursor { seq, epoch })) => match epoch.map(|epoch| epoch.to_string()) {
                Some(epoch) if epoch != self.epoch() => {
                    assert_eq!(hello.reason, HelloReason::OtherEpoch);
                    None
                }
                _ if head < seq => {
                    assert_eq!(hello.reason, HelloReason::Ahead);
                    None
                }
                None if seq == 0 => None,
                _ => Some(seq),
            },
        };
        let first = oldest.max(1) - 1;
        assert_eq!(hello.used, from.map_or(first, |from| from.max(first)));
        assert_eq!(
            ledger.start,
            from.map_or(hello.used, |from| from.min(hello.used))
        );
        let evicted = hello.used - ledger.start;
        assert_eq!(evicted > 0, hello.reason == HelloReason::Evicted);
        // The ledger has what the hello reports, or the most that it can be.
        assert_eq!(ledger.delivered, 0);
        match hello.lost {
            Some(lost) => assert_eq!(lost, ledger.lost),
            None => assert!(from.is_none() || query.filter != Filter::all()),
        }
        let gone = (1..)
            .zip(&self.events)
            .filter(|(seq, _)| ledger.start < *seq && *seq <= hello.used);
        let missing = gone
            .filter(|(_, (event, _))| query.filter.matches(event))
            .count() as u64;
        match hello.lost {
            Some(lost) => assert_eq!(lost, missing),
            None => assert!(missing <= ledger.lost && ledger.lost <= evicted),
        }
    }

    fn resume(&mut self, with_epoch: bool) {
        let Some(opened) = self.opened.take() else {
            return;
        };
        let position = opened.reader.position();
        self.check_skipped(opened.checked, position, &opened.query.filter);
        let cursor = if with_epoch {
            format!("{position}-{}", self.epoch())
        } else {
            position.to_string()
        };
        check_cursor(&cursor);
        self.open(StreamQuery {
            after: Some(cursor),
            ..opened.query
        });
    }

    fn read(&mut self, limit: usize) {
        let Some(mut opened) = self.opened.take() else {
            return;
        };
        let (looked_at, visited) = read(&mut opened.reader, limit);
        assert!(looked_at <= limit);
        self.check(opened, visited);
    }

    fn read_next(&mut self) {
        let Some(mut opened) = self.opened.take() else {
            return;
        };
        // Filtered events are looked at, too: it reads until one matches or nothing is left. A loss comes
        // with the event that follows it.
        let items = loop {
            let (looked_at, visited) = read(&mut opened.reader, 1);
            if looked_at == 0 || !visited.is_empty() {
                break visited;
            }
        };
        let nothing = items.is_empty();
        self.check(opened, items);
        let opened = self.opened.as_ref().expect("the reader was put back");
        assert!(!nothing || opened.reader.position() == self.head());
    }

    fn read_all(&mut self) {
        let Some(opened) = &self.opened else {
            return;
        };
        for _ in opened.reader.position()..=self.head() {
            self.read_next();
        }
        let opened = self.opened.as_ref().expect("the reader was put back");
        assert_eq!(
            opened.reader.position(),
            self.head(),
            "all events can be read"
        );
    }

    /// Compares what a reader received with the list, and puts the reader back.
    fn check(&mut self, mut opened: Opened, items: Vec<Item<(u64, String)>>) {
        for item in items {
            match item {
                Item::Envelope((seq, json)) => {
                    self.check_skipped(opened.checked, seq - 1, &opened.query.filter);
                    let (event, session) = &self.events[seq as usize - 1];
                    assert!(
                        opened.query.filter.matches(event),
                        "{seq} was not asked for: {json}"
                    );
                    let start = format!(r#"{{"seq":{seq},"event":{{"#);
                    assert!(json.starts_with(&start) && json.contains(session));
                    opened.ledger.filtered += seq - 1 - opened.checked;
                    opened.ledger.delivered += 1;
                    opened.checked = seq;
                }
                Item::Lost(lost) => {
                    self.check_skipped(opened.checked, lost.first - 1, &opened.query.filter);
                    let possible = self.check_lost(&lost, &opened.query.filter);
                    opened.ledger.filtered +=
                        lost.first - 1 - opened.checked + (lost.count() - possible);
                    opened.ledger.lost += possible;
                    opened.checked = lost.last;
                }
            }
        }
        let position = opened.reader.position();
        self.check_skipped(opened.checked, position, &opened.query.filter);
        opened.ledger.filtered += position - opened.checked;
        opened.checked = position;
        let ledger = opened.reader.ledger();
        assert_eq!(ledger, opened.ledger);
        assert_eq!(
            ledger.delivered + ledger.filtered + ledger.lost,
            position - ledger.start
        );
        self.opened = Some(opened);
    }

    /// No event in `after + 1..=to`, which was skipped without a report, was asked for.
    fn check_skipped(&self, after: u64, to: u64, filter: &Filter) {
        assert!(
            after <= to && to <= self.head(),
            "the position moved back from {after} to {to}"
        );
        for seq in after + 1..=to {
            let (event, _) = &self.events[seq as usize - 1];
            assert!(
                !filter.matches(event),
                "{seq} was asked for, but skipped without a report"
            );
        }
    }

    /// Checks a reported loss; returns an upper bound of the lost events that were asked for.
    fn check_lost(&self, lost: &Lost, filter: &Filter) -> u64 {
        let oldest = self.api.retained().oldest;
        assert_eq!(lost.last + 1, oldest, "a lost event is not retained");
        let gone = &self.events[lost.first as usize - 1..lost.last as usize];
        let matching = gone.iter().filter(|(event, _)| filter.matches(event));
        let matching = matching.count() as u64;
        let counts = lost
            .by_category
            .expect("known, because the reader does not begin after the head");
        for (category, count) in counts.iter() {
            assert!(
                filter
                    .categories
                    .is_none_or(|asked| asked.contains(category))
            );
            let of_category = gone.iter().filter(|(event, _)| event.category == category);
            assert_eq!(count, of_category.count() as u64);
        }
        if filter.types.is_empty() {
            assert_eq!(lost.matching, Some(matching));
            assert_eq!(counts.sum(), matching);
            assert!(matching > 0, "a filtered event is never reported as lost");
        } else {
            assert_eq!(lost.matching, None);
            assert!(matching <= counts.sum());
        }
        counts.sum()
    }
}
