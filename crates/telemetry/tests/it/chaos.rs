//! Chaos: producers that pause and stop for good, a controller that toggles, readers that lag, and
//! an observer. Afterwards every account is compared with what the producers were answered.
//!
//! Nothing here takes time, all is bounded by events. Which thread does what comes from a seed; when it
//! gets to do it does not, so a seed that failed may need a few runs: `TAPLINE_CHAOS_SEED=… cargo test chaos`.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::hint;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use serde_json::value::RawValue;
use tapline_events::{EventStream, Filter, Item, Lost, ReaderLedger, Retention, TypePattern};
use tapline_oapi::encode::MAX_ENVELOPE_BYTES;
use tapline_oapi::{Category, CategorySet, Event};
use tapline_telemetry::{
    Filtered, PublishError, Reader, SessionLedger, SessionState, TelemetryConfig, TelemetrySession,
};

/// How many producers there are at a time; each is replaced when it stops.
const PRODUCERS: usize = 3;
const READERS: usize = 6;
/// How often something is published in a run.
const OFFERS: u64 = 20_000;

#[test]
fn every_account_closes_whatever_happens() {
    let stock = stock();
    match env::var("TAPLINE_CHAOS_SEED") {
        Ok(seed) => {
            run(seed.parse().expect("the seed is a number"), &stock);
        }
        Err(_) => {
            let fresh = RandomState::new().build_hasher().finish();
            let seen = [1, 2, 3, fresh].map(|seed| run(seed, &stock));
            for entry in 0..seen[0].len() {
                let all: u64 = seen.iter().map(|run| run[entry]).sum();
                assert!(all > 0, "not the chaos that it is meant to be: {seen:?}");
            }
        }
    }
}

/// Answers with how much there was of everything that can happen.
fn run(seed: u64, stock: &[Offer]) -> [u64; 9] {
    let _seed = SeedOnFailure(seed);
    let mut rng = Rng(seed);
    // Some are bound by count, some by bytes, most by now the one and now the other.
    let retention = Retention {
        events: *rng.pick(&[1, 16, 64, 256]),
        bytes: *rng.pick(&[5_000, 50_000, u64::MAX]),
        ..Retention::default()
    };
    let session = TelemetrySession::new(EventStream::new(retention).unwrap());
    let offers = Offers::default();
    let done = AtomicBool::new(false);

    let (answers, transitions, readings) = thread::scope(|scope| {
        let _done = SetAtLast(&done);
        let producers = [(); PRODUCERS].map(|()| {
            let (session, offers, mut rng) = (&session, &offers, rng.fork());
            scope.spawn(move || {
                let mut answers = Answers::default();
                while !offers.are_all_made() {
                    // A thread of its own, which comes and goes with the producer.
                    let (rng, answers) = (rng.fork(), &mut answers);
                    thread::scope(|scope| {
                        scope.spawn(move || produce(session, stock, offers, rng, answers));
                    });
                }
                answers
            })
        });
        let controller = {
            let (session, done, rng) = (&session, &done, rng.fork());
            scope.spawn(move || control(session, done, rng))
        };
        let readers = [(); READERS].map(|()| {
            let (session, done, rng) = (&session, &done, rng.fork());
            scope.spawn(move || follow(session, done, rng))
        });
        let observer = {
            let (session, offers, done) = (&session, &offers, &done);
            scope.spawn(move || observe(session, offers, done))
        };
        let answers = producers.map(|producer| producer.join().unwrap());
        done.store(true, Release);
        observer.join().unwrap();
        let transitions = controller.join().unwrap();
        (
            answers,
            transitions,
            readers.map(|reader| reader.join().unwrap()),
        )
    });

    let log = Log::of(answers);
    assert_eq!(session.ledger(), log.ledger);
    assert_eq!(log.ledger.offered().sum(), OFFERS);
    assert_eq!(session.seq(), log.published.len() as u64);
    log.check_windows(&transitions);
    for reading in &readings {
        log.check_reading(reading);
    }
    let sum = |entry: fn(&ReaderLedger) -> u64| {
        let all = readings.iter().map(|reading| entry(&reading.ledger));
        all.sum()
    };
    [
        log.ledger.published.sum(),
        log.ledger.filtered.inactive.sum(),
        log.ledger.filtered.category_disabled.sum(),
        log.ledger.truncated.sum(),
        log.ledger.refused.sum(),
        sum(|ledger| ledger.delivered),
        sum(|ledger| ledger.filtered),
        sum(|ledger| ledger.lost),
        transitions.len() as u64,
    ]
}

/// What producers offer.
struct Offer {
    event: Arc<Event>,
    fate: Fate,
}

/// What becomes of it where it is captured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Cut,
    TooLarge,
}

/// Some of each category and of several types, of all sizes.
fn stock() -> Vec<Offer> {
    let event = |name: &str, category, bytes: usize| {
        let data = format!("\"{}\"", "x".repeat(bytes));
        let data = Some(RawValue::from_string(data).unwrap());
        Event::custom(name, category, data).unwrap()
    };
    let offer = |event, fate| Offer {
        event: Arc::new(event),
        fate,
    };
    let mut stock = Vec::new();
    for (n, category) in Category::ALL.into_iter().enumerate() {
        for (name, bytes) in [("odd_x", 0), ("even_x", n * 40), ("odd_y", n * 300)] {
            stock.push(offer(event(name, category, bytes), Fate::Kept));
        }
    }
    stock.push(offer(
        event("console_log", Category::Console, 9),
        Fate::Kept,
    ));
    for category in [Category::Page, Category::System] {
        let over = event("odd_z", category, MAX_ENVELOPE_BYTES);
        stock.push(offer(over, Fate::Cut));
        let mut over = event("even_z", category, 1);
        let metadata = &mut over.source.metadata;
        metadata.insert("k".into(), "v".repeat(MAX_ENVELOPE_BYTES));
        stock.push(offer(over, Fate::TooLarge));
    }
    stock
}

/// How many offers have been begun and how many were answered, for the observer.
#[derive(Default)]
struct Offers {
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Offers {
    /// Whether there is one more to make: if so, it has been begun.
    fn begin(&self) -> bool {
        let more = |begun| (begun < OFFERS).then_some(begun + 1);
        self.begun.fetch_update(AcqRel, Relaxed, more).is_ok()
    }

    fn are_all_made(&self) -> bool {
        self.begun.load(Relaxed) == OFFERS
    }
}

/// What producers were answered, as they count it themselves.
#[derive(Default)]
struct Answers {
    published: Vec<Published>,
    truncated: [u64; Category::COUNT],
    inactive: [u64; Category::COUNT],
    category_disabled: [u64; Category::COUNT],
    refused: [u64; Category::COUNT],
}

struct Published {
    seq: u64,
    event: Arc<Event>,
    /// The session's id.
    id: String,
}

/// Publishes for a while, with pauses, and stops for good.
fn produce(
    session: &TelemetrySession,
    stock: &[Offer],
    offers: &Offers,
    mut rng: Rng,
    answers: &mut Answers,
) {
    for _ in 0..rng.below(1500) {
        let (common, rare) = stock.split_at(stock.len() - 4);
        let from = if rng.one_in(300) { rare } else { common };
        let Offer { event, fate } = rng.pick(from);
        if !offers.begin() {
            return;
        }
        let answer = match rng.below(3) {
            0 => session.publish(event),
            1 => session.publish(event.clone()),
            _ => session.publish(Event::clone(event)),
        };
        let category = event.category;
        match answer {
            Ok(envelope) => {
                assert!(*fate != Fate::TooLarge);
                assert_eq!(envelope.event().truncated, *fate == Fate::Cut);
                answers.truncated[category.index()] += u64::from(*fate == Fate::Cut);
                answers.published.push(Published {
                    seq: envelope.seq(),
                    event: event.clone(),
                    id: id_in(envelope.stamp()),
                });
            }
            Err(PublishError::Inactive) => answers.inactive[category.index()] += 1,
            Err(PublishError::CategoryDisabled(disabled)) => {
                assert_eq!(disabled, category);
                answers.category_disabled[category.index()] += 1;
            }
            Err(PublishError::TooLarge(_)) => {
                assert!(*fate == Fate::TooLarge);
                answers.refused[category.index()] += 1;
            }
            Err(other) => panic!("a new reason: {other}"),
        }
        // Release: a thread that sees this finds the answer in the ledger.
        offers.answered.fetch_add(1, Release);
        rng.pause(20);
    }
}

fn id_in(state: &SessionState) -> String {
    let session = state.session();
    session.expect("published by a session").id.to_string()
}

/// The session from a head on: its id and what it captures; `None` where there is none.
type Transition = (u64, Option<(String, CategorySet)>);

/// Starts, updates and stops, and answers with what was in force from which head on.
fn control(session: &TelemetrySession, done: &AtomicBool, mut rng: Rng) -> Vec<Transition> {
    let mut transitions: Vec<Transition> = vec![(0, None)];
    while !done.load(Acquire) {
        // Not one of many categories, half of the time: then something is switched off.
        let categories = CategorySet::from_bits(rng.below(1 << 16) as u16);
        let config = TelemetryConfig { categories };
        let captured = config.captured();
        let running = transitions.last().and_then(|(_, state)| state.clone());
        let transition = match rng.below(8) {
            0..3 => {
                let id = format!("session {}", transitions.len());
                let start = session.start(&id, config).unwrap();
                (start, Some((id, captured)))
            }
            3..7 => match session.update_config(config) {
                Ok(head) => (head, running.map(|(id, _)| (id, captured))),
                Err(_) => {
                    assert_eq!(running, None);
                    continue;
                }
            },
            _ => (session.stop(), None),
        };
        transitions.push(transition);
        rng.pause(2);
    }
    transitions
}

/// What a reader asked for, what it got, and its own account of it.
struct Reading {
    asked: Asked,
    items: Vec<Item<u64>>,
    position: u64,
    ledger: ReaderLedger,
}

/// A filter, written in another way than the one under test.
#[derive(Debug, Clone, Copy)]
struct Asked {
    categories: Option<CategorySet>,
    types: Option<&'static str>,
}

impl Asked {
    fn any(rng: &mut Rng) -> Self {
        let some = CategorySet::from_bits(rng.below(1 << 16) as u16);
        Self {
            categories: *rng.pick(&[None, Some(some), Some(some)]),
            types: *rng.pick(&[None, None, Some("odd_*"), Some("console_log")]),
        }
    }

    fn filter(self) -> Filter {
        let types = self.types.map(TypePattern::new);
        Filter::new(self.categories, types.into_iter().collect())
    }

    fn wants(self, event: &Event) -> bool {
        let name = event.event_type.as_str();
        self.categories
            .is_none_or(|some| some.contains(event.category))
            && match self.types {
                None => true,
                Some("odd_*") => name.starts_with("odd_"),
                Some(known) => name == known,
            }
    }

    /// Whether it may have been wanted, as far as its category says.
    fn may_want(self, category: Category) -> bool {
        self.categories.is_none_or(|some| some.contains(category))
            && (self.types != Some("console_log") || category == Category::Console)
    }
}

/// Reads in batches of all sizes, now fast and now slow, until there is nothing left.
fn follow(session: &TelemetrySession, done: &AtomicBool, mut rng: Rng) -> Reading {
    let asked = Asked::any(&mut rng);
    let slow = rng.one_in(2);
    rng.pause(1);
    let after = match rng.below(3) {
        0 => 0,
        1 => session.seq(),
        _ => rng.below(session.seq() + 1),
    };
    let mut reader = session.new_reader(after).filtered(asked.filter());
    let mut items = Vec::new();
    loop {
        let all_published = done.load(Acquire);
        if rng.one_in(3) {
            let item = reader.try_next();
            items.extend(item.map(|item| match item {
                Item::Envelope(envelope) => Item::Envelope(envelope.seq()),
                Item::Lost(lost) => Item::Lost(lost),
            }));
        } else {
            let most = *rng.pick(&[2, 20, 300]);
            let limit = rng.below(most) as usize;
            reader.read(limit, |item| {
                items.push(match item {
                    Item::Envelope(envelope) => Item::Envelope(envelope.seq()),
                    Item::Lost(lost) => Item::Lost(lost),
                });
                match rng.one_in(50) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
        }
        assert_closed(&reader);
        if all_published && reader.position() == session.seq() {
            return Reading {
                asked,
                items,
                position: reader.position(),
                ledger: reader.ledger(),
            };
        }
        rng.pause(if slow { 1 } else { 10 });
    }
}

/// For every reader at every moment.
fn assert_closed(reader: &Reader) {
    let ReaderLedger {
        start,
        delivered,
        filtered,
        lost,
    } = reader.ledger();
    assert_eq!(delivered + filtered + lost, reader.position() - start);
}

/// Looks at the ledger all the time: it only grows, has all that was answered before, and nothing that was
/// not begun.
fn observe(session: &TelemetrySession, offers: &Offers, done: &AtomicBool) {
    let mut before = session.ledger();
    while !done.load(Acquire) {
        let answered = offers.answered.load(Acquire);
        let now = session.ledger();
        let offered = now.offered().sum();
        assert!(answered <= offered && offered <= offers.begun.load(Relaxed));
        for category in Category::ALL {
            let each = |ledger: &SessionLedger| {
                [
                    ledger.published[category],
                    ledger.filtered.inactive[category],
                    ledger.filtered.category_disabled[category],
                    ledger.truncated[category],
                    ledger.refused[category],
                ]
            };
            let pairs = each(&before).into_iter().zip(each(&now));
            assert!(pairs.into_iter().all(|(before, now)| before <= now));
        }
        before = now;
        thread::yield_now();
    }
}

/// Everything that the producers were answered.
struct Log {
    /// The event with seq `n` at `n - 1`.
    published: Vec<Published>,
    ledger: SessionLedger,
}

impl Log {
    fn of(all: [Answers; PRODUCERS]) -> Self {
        let mut ledger = SessionLedger::default();
        let mut published = Vec::new();
        for answers in all {
            ledger.truncated = ledger.truncated + answers.truncated.into();
            ledger.refused = ledger.refused + answers.refused.into();
            let Filtered {
                inactive,
                category_disabled,
            } = &mut ledger.filtered;
            *inactive = *inactive + answers.inactive.into();
            *category_disabled = *category_disabled + answers.category_disabled.into();
            published.extend(answers.published);
        }
        let mut counts = [0; Category::COUNT];
        for answer in &published {
            counts[answer.event.category.index()] += 1;
        }
        ledger.published = counts.into();
        published.sort_by_key(|answer| answer.seq);
        for (answer, seq) in published.iter().zip(1..) {
            assert_eq!(answer.seq, seq, "no hole, and no seq twice");
        }
        Self { published, ledger }
    }

    fn event(&self, seq: u64) -> &Event {
        &self.published[seq as usize - 1].event
    }

    /// Every event is of the session in whose window its seq lies, and of a category that was on there.
    fn check_windows(&self, transitions: &[Transition]) {
        let mut window = transitions.iter().peekable();
        let mut state = &None;
        for answer in &self.published {
            while let Some((_, next)) = window.next_if(|(head, _)| *head < answer.seq) {
                state = next;
            }
            let (id, captured) = state.as_ref().expect("published by a session");
            assert_eq!(answer.id, *id, "seq {}", answer.seq);
            assert!(
                captured.contains(answer.event.category),
                "seq {}",
                answer.seq
            );
        }
    }

    /// What a reader got is what it asked for, and its losses were reported exactly.
    fn check_reading(&self, reading: &Reading) {
        let asked = reading.asked;
        let start = reading.ledger.start;
        let mut ledger = ReaderLedger {
            start,
            ..Default::default()
        };
        let mut position = start;
        let skip = |from: u64, to: u64, ledger: &mut ReaderLedger| {
            for seq in from + 1..to {
                assert!(!asked.wants(self.event(seq)), "{seq} for {asked:?}");
                ledger.filtered += 1;
            }
        };
        for item in &reading.items {
            match *item {
                Item::Envelope(seq) => {
                    skip(position, seq, &mut ledger);
                    assert!(asked.wants(self.event(seq)), "{seq} for {asked:?}");
                    ledger.delivered += 1;
                    position = seq;
                }
                Item::Lost(lost) => {
                    skip(position, lost.first, &mut ledger);
                    self.check_loss(asked, &lost, &mut ledger);
                    position = lost.last;
                }
            }
        }
        skip(position, reading.position + 1, &mut ledger);
        assert_eq!(reading.ledger, ledger, "{asked:?}");
    }

    fn check_loss(&self, asked: Asked, lost: &Lost, ledger: &mut ReaderLedger) {
        let mut may_have_been_wanted = [0; Category::COUNT];
        for seq in lost.first..=lost.last {
            let category = self.event(seq).category;
            may_have_been_wanted[category.index()] += u64::from(asked.may_want(category));
        }
        assert_eq!(
            lost.by_category,
            Some(may_have_been_wanted.into()),
            "{asked:?}"
        );
        let possible: u64 = may_have_been_wanted.iter().sum();
        assert!(possible > 0, "what was not asked for is not lost");
        let known = asked.types.is_none();
        assert_eq!(lost.matching, known.then_some(possible));
        ledger.lost += possible;
        ledger.filtered += lost.count() - possible;
    }
}

/// Small and good enough: a counter, well stirred.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let stirred = (self.0 ^ self.0 >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let stirred = (stirred ^ stirred >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        stirred ^ stirred >> 32
    }

    fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Once in `n` times it does nothing for a while: some rounds of a loop, or of the other threads.
    fn pause(&mut self, n: u64) {
        if !self.one_in(n) {
            return;
        }
        match self.below(4) {
            0 => (0..self.below(2000)).for_each(|_| hint::spin_loop()),
            1 => (0..self.below(200)).for_each(|_| thread::yield_now()),
            _ => thread::yield_now(),
        }
    }
}

struct SeedOnFailure(u64);

impl Drop for SeedOnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("chaos failed with TAPLINE_CHAOS_SEED={}", self.0);
        }
    }
}

/// Ends the threads that run until then, also where a producer panics, or the scope would wait for them.
struct SetAtLast<'a>(&'a AtomicBool);

impl Drop for SetAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}
