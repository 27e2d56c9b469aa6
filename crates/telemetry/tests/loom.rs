//! The session under every interleaving of small scenarios: `cargo xtask loom` runs them.
//!
//! Each ends with the same question: is there *one order* of all calls, true to the order in which each
//! thread made its own, in which a session on one thread gives the same answers? Seqs, ids, heads and
//! the reasons of refusals are all part of the answers. So whatever holds for calls one after the
//! other holds for calls at the same time, and a transition is one moment for all threads.
//!
//! "Before" is what a thread knows to be before: what it did itself, and what it learned from a thread that
//! it joins or receives from. There is no other clock in the memory model.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom's threads run on one thread, and so are its rings"
)]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;
use tapline_events::{Counts, EventStream, Item, Retention};
use tapline_oapi::Category::{Console, Page, System};
use tapline_oapi::{Category, CategorySet, Event};
use tapline_telemetry::{
    Inactive, PublishError, Reader, SessionLedger, SessionState, TelemetryConfig, TelemetrySession,
};

use self::Call::{Look, Publish, Start, Stop, Update};

/// An id of one letter.
type Id = char;

#[derive(Debug, Clone, Copy)]
enum Call {
    Start(Id, &'static [Category]),
    Update(&'static [Category]),
    Stop,
    Publish(Category),
    Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Of a transition: the head at that moment.
    Changed(u64),
    NoSession,
    Published(u64, Id),
    Refused(PublishError),
    /// The running session, since when its configuration holds, and the head.
    Seen(Option<Id>, u64, u64),
}

fn config(categories: &[Category]) -> TelemetryConfig {
    TelemetryConfig {
        categories: CategorySet::of(categories),
    }
}

fn event(category: Category) -> Event {
    Event::custom("x", category, None).unwrap().with_ts(1)
}

/// A batch of two beside a stop: what has a seq was published before it.
#[test]
fn a_batch_beside_a_stop() {
    loom::model(|| {
        let session = session(8);
        session.start("a", config(&[Page])).unwrap();
        let publisher = {
            let session = session.clone();
            thread::spawn(move || {
                let mut batch = session.batch();
                [Page, Page].map(|page| batch.publish(event(page)).map(|it| it.seq()).ok())
            })
        };
        let head = session.stop();
        let published = publisher.join().unwrap();
        let expected = match head {
            0 => [None, None],
            1 => [Some(1), None],
            _ => [Some(1), Some(2)],
        };
        assert_eq!(published, expected, "the head at the stop was {head}");
    });
}

fn id_in(state: &SessionState) -> Option<Id> {
    let session = state.session()?;
    Some(session.id.chars().next().unwrap())
}

fn make(session: &TelemetrySession, call: Call) -> Answer {
    match call {
        Start(id, categories) => {
            Answer::Changed(session.start(&id.to_string(), config(categories)).unwrap())
        }
        Update(categories) => match session.update_config(config(categories)) {
            Ok(head) => Answer::Changed(head),
            Err(Inactive) => Answer::NoSession,
        },
        Stop => Answer::Changed(session.stop()),
        Publish(category) => match session.publish(event(category)) {
            Ok(envelope) => Answer::Published(envelope.seq(), id_in(envelope.stamp()).unwrap()),
            Err(refused) => Answer::Refused(refused),
        },
        Look => {
            let (state, head) = session.snapshot();
            Answer::Seen(id_in(&state), state.since(), head)
        }
    }
}

/// A session on one thread: what each call does and answers.
#[derive(Debug, Clone, Default)]
struct Alone {
    session: Option<(Id, CategorySet)>,
    since: u64,
    head: u64,
    ledger: [[u64; Category::COUNT]; 3],
}

impl Alone {
    fn make(&mut self, call: Call) -> Answer {
        let captured = |asked| CategorySet::of(asked).union(CategorySet::ALWAYS);
        match call {
            Start(id, asked) => self.transition(Some((id, captured(asked)))),
            Update(asked) => match self.session {
                Some((id, _)) => self.transition(Some((id, captured(asked)))),
                None => Answer::NoSession,
            },
            Stop => self.transition(None),
            Publish(category) => {
                let [published, inactive, disabled] = &mut self.ledger;
                let (entry, answer) = match self.session {
                    None => (inactive, Answer::Refused(PublishError::Inactive)),
                    Some((id, captured)) if captured.contains(category) => {
                        self.head += 1;
                        (published, Answer::Published(self.head, id))
                    }
                    Some(_) => {
                        let refused = PublishError::CategoryDisabled(category);
                        (disabled, Answer::Refused(refused))
                    }
                };
                entry[category.index()] += 1;
                answer
            }
            Look => Answer::Seen(self.session.map(|(id, _)| id), self.since, self.head),
        }
    }

    fn transition(&mut self, session: Option<(Id, CategorySet)>) -> Answer {
        self.session = session;
        self.since = self.head;
        Answer::Changed(self.head)
    }

    fn entries(&self) -> [Counts; 3] {
        self.ledger.map(Counts::from)
    }
}

fn entries(ledger: &SessionLedger) -> [Counts; 3] {
    let filtered = &ledger.filtered;
    [
        ledger.published,
        filtered.inactive,
        filtered.category_disabled,
    ]
}

/// One call of a thread's, and what was known before it.
#[derive(Debug, Clone, Copy)]
struct Made {
    call: Call,
    answer: Answer,
    /// It comes after so many calls of the thread with that number.
    after: (usize, usize),
}

impl Made {
    fn now(session: &TelemetrySession, call: Call) -> Self {
        Self::having_received(session, call, (0, 0))
    }

    fn having_received(session: &TelemetrySession, call: Call, after: (usize, usize)) -> Self {
        let answer = make(session, call);
        Self {
            call,
            answer,
            after,
        }
    }
}

/// The calls that each thread has made, in its order.
type History = Vec<Vec<Made>>;

/// Whether some order of the calls that are not `done` explains the answers, and leaves what `end` saw.
fn explained(
    alone: &Alone,
    history: &History,
    done: &mut [usize],
    end: &impl Fn(Alone) -> bool,
) -> bool {
    let mut all_done = true;
    for thread in 0..history.len() {
        let Some(next) = history[thread].get(done[thread]) else {
            continue;
        };
        all_done = false;
        let (seen_thread, calls) = next.after;
        let mut then = alone.clone();
        if done[seen_thread] < calls || then.make(next.call) != next.answer {
            continue;
        }
        done[thread] += 1;
        let explained = explained(&then, history, done, end);
        done[thread] -= 1;
        if explained {
            return true;
        }
    }
    all_done && end(alone.clone())
}

/// A stream so small that transitions and evictions meet in its slots.
fn session(events: usize) -> Arc<TelemetrySession> {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        // Models make each pointer to a chunk: the fewest.
        category_log: 0,
    };
    Arc::new(TelemetrySession::new(EventStream::new(retention).unwrap()))
}

/// A session on which some calls have been made, and what they leave.
struct Scenario {
    session: Arc<TelemetrySession>,
    alone: Alone,
}

impl Scenario {
    fn after(events: usize, first: &[Call]) -> Self {
        let (session, mut alone) = (session(events), Alone::default());
        for call in first {
            assert_eq!(make(&session, *call), alone.make(*call));
        }
        Self { session, alone }
    }

    /// Holds the history against the session alone; what it leaves and the ledger, too.
    fn check(self, history: &History) {
        let (left, ledger) = (make(&self.session, Look), self.session.ledger());
        let end =
            |mut alone: Alone| alone.make(Look) == left && alone.entries() == entries(&ledger);
        assert!(
            explained(&self.alone, history, &mut vec![0; history.len()], &end),
            "no order of these calls explains their answers, and that they left {left:?}: {history:#?}"
        );
    }
}

fn make_all(session: &TelemetrySession, calls: &[Call]) -> Vec<Made> {
    calls.iter().map(|call| Made::now(session, *call)).collect()
}

/// After `first`, each of `threads` makes its calls, in every interleaving; `also` sees what they made.
fn interleave<const N: usize>(
    first: &'static [Call],
    threads: [&'static [Call]; N],
    also: impl Fn([&[Made]; N]) + Sync + Send + 'static,
) {
    let also = Arc::new(also);
    for order in orders::<N>() {
        let also = also.clone();
        model(N, move || {
            let scenario = Scenario::after(2, first);
            let session = scenario.session.clone();
            let history = on_threads(order, move |thread| make_all(&session, threads[thread]));
            also(std::array::from_fn(|thread| &*history[thread]));
            scenario.check(&history);
        });
    }
}

/// As loom's own, but with two preemptions at most where there are more than two threads: the ring's own
/// takes part as well, and one more makes minutes of seconds.
fn model(threads: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    if threads > 2 {
        model.preemption_bound = Some(model.preemption_bound.map_or(2, |bound| bound.min(2)));
    }
    model.check(scenario);
}

/// Runs the threads with those numbers, the first of them on this one, and waits for all.
fn on_threads<const N: usize>(
    order: [usize; N],
    run: impl Fn(usize) -> Vec<Made> + Clone + 'static,
) -> History {
    let (mine, others) = order.split_first().unwrap();
    let spawn = |&thread: &usize| {
        let run = run.clone();
        (thread, thread::spawn(move || run(thread)))
    };
    let others: Vec<_> = others.iter().map(spawn).collect();
    let mut history = vec![Vec::new(); N];
    history[*mine] = run(*mine);
    for (thread, other) in others {
        history[thread] = other.join().unwrap();
    }
    history
}

/// Orders of the threads, so that of each two either comes first in one of them.
///
/// Loom begins with one order, and finds out from there where another one makes a difference. But of
/// each atomic it remembers the last access alone: a thread's own load, right before its store, hides
/// that another thread was there earlier. In some order that thread comes later.
fn orders<const N: usize>() -> [[usize; N]; N] {
    std::array::from_fn(|first| std::array::from_fn(|thread| (first + thread) % N))
}

/// The events that were published, each with its seq and the id that it carries.
fn published(made: &[Made]) -> impl Iterator<Item = (u64, Id)> {
    made.iter().filter_map(|made| match made.answer {
        Answer::Published(seq, id) => Some((seq, id)),
        _ => None,
    })
}

/// The head at which the first of the calls has changed the state.
fn changed_at(made: &[Made]) -> u64 {
    match made[0].answer {
        Answer::Changed(head) => head,
        other => panic!("not a transition: {other:?}"),
    }
}

/// Before it a refusal says "inactive", after it "category disabled", and never the other way round.
#[test]
fn start_beside_a_publisher_is_one_moment() {
    interleave(
        &[],
        [
            &[Start('a', &[Page])],
            &[Publish(Console), Publish(Page), Publish(Console)],
        ],
        |[controller, publisher]| {
            let start = changed_at(controller);
            assert!(published(publisher).all(|(seq, id)| start < seq && id == 'a'));
        },
    );
}

#[test]
fn stop_beside_a_publisher_is_one_moment_and_no_seq_comes_after_it() {
    interleave(
        &[Start('a', &[Page])],
        [&[Stop], &[Publish(Page), Publish(Console), Publish(Page)]],
        |[controller, publisher]| {
            let end = changed_at(controller);
            assert!(published(publisher).all(|(seq, _)| seq <= end));
        },
    );
}

#[test]
fn what_an_update_switches_off_gets_no_seq_after_it() {
    interleave(
        &[Start('a', &[Page, Console])],
        [
            &[Update(&[Page])],
            &[Publish(Console), Publish(Console), Publish(Page)],
        ],
        |[controller, publisher]| {
            let off = changed_at(controller);
            assert!(published(&publisher[..2]).all(|(seq, _)| seq <= off));
            assert_eq!(published(&publisher[2..]).count(), 1, "`page` stays on");
        },
    );
}

#[test]
fn what_an_update_switches_on_is_published_from_one_moment_on() {
    interleave(
        &[Start('a', &[Page])],
        [
            &[Update(&[Page, Console])],
            &[Publish(Console), Publish(Page), Publish(Console)],
        ],
        |[controller, publisher]| {
            let on = changed_at(controller);
            let console = [publisher[0], publisher[2]];
            assert!(published(&console).all(|(seq, _)| on < seq));
        },
    );
}

#[test]
fn nothing_falls_between_a_session_and_the_one_that_replaces_it() {
    interleave(
        &[Start('a', &[Page])],
        [
            &[Start('b', &[Page, Console])],
            &[Publish(Page), Publish(System), Publish(Page)],
        ],
        |[controller, publisher]| {
            let start = changed_at(controller);
            assert_eq!(published(publisher).count(), 3, "captured at every moment");
            for (seq, id) in published(publisher) {
                assert_eq!(id, if seq <= start { 'a' } else { 'b' }, "seq {seq}");
            }
        },
    );
}

#[test]
fn a_session_that_comes_and_goes_is_two_moments() {
    interleave(
        &[],
        [
            &[Start('a', &[Page]), Stop],
            &[Publish(Console), Publish(Page), Look],
        ],
        |_| {},
    );
}

#[test]
fn one_session_after_the_other_with_none_in_between_is_three_moments() {
    interleave(
        &[Start('a', &[Page])],
        [
            &[Stop, Start('b', &[Console])],
            &[Publish(Page), Publish(Console), Publish(Page)],
        ],
        |_| {},
    );
}

#[test]
fn two_publishers_see_a_start_at_the_same_moment() {
    interleave(
        &[Start('a', &[Page])],
        [&[Start('b', &[Page])], &[Publish(Page)], &[Publish(Page)]],
        |[controller, one, other]| {
            let start = changed_at(controller);
            for (seq, id) in published(one).chain(published(other)) {
                assert_eq!(id, if seq <= start { 'a' } else { 'b' }, "seq {seq}");
            }
        },
    );
}

#[test]
fn two_starts_take_turns_and_the_last_one_holds() {
    interleave(
        &[],
        [
            &[Start('a', &[Page])],
            &[Start('b', &[Console])],
            &[Publish(Page), Publish(Console)],
        ],
        |_| {},
    );
}

#[test]
fn a_stop_beside_a_start_leaves_one_of_the_two() {
    interleave(
        &[Start('a', &[Page])],
        [
            &[Stop],
            &[Start('b', &[Console])],
            &[Publish(Page), Publish(Console)],
        ],
        |_| {},
    );
}

/// An update that finds no session leaves everything as it was, also for producers that publish meanwhile.
#[test]
fn an_update_beside_a_start_or_a_stop_finds_a_session_or_none() {
    for (first, other) in [
        (&[][..], &[Start('b', &[Console])][..]),
        (&[Start('a', &[Page])], &[Stop]),
    ] {
        interleave(
            first,
            [
                &[Update(&[Page])],
                other,
                &[Publish(Console), Publish(Page)],
            ],
            |_| {},
        );
    }
}

/// A thread that knows that a call has returned finds what it left.
#[test]
fn a_transition_that_has_returned_holds_for_each_thread_that_knows_of_it() {
    let cases: [(&[Call], Call, Call); 4] = [
        (&[], Start('a', &[Page]), Publish(Page)),
        (&[Start('a', &[Page])], Stop, Publish(Page)),
        (&[Start('a', &[Page])], Update(&[Console]), Publish(Page)),
        (&[Start('a', &[Page])], Update(&[Console]), Publish(Console)),
    ];
    let cases = cases
        .into_iter()
        .flat_map(|case| orders::<2>().into_iter().map(move |order| (case, order)));
    for ((first, change, publish), order) in cases {
        model(2, move || {
            let scenario = Scenario::after(2, first);
            let session = scenario.session.clone();
            let returned = Arc::new(AtomicBool::new(false));
            let history = on_threads(order, move |thread| match thread {
                0 => {
                    let made = Made::now(&session, change);
                    returned.store(true, Release);
                    vec![made]
                }
                _ => {
                    let early = Made::now(&session, publish);
                    let received = (0, usize::from(returned.load(Acquire)));
                    vec![early, Made::having_received(&session, publish, received)]
                }
            });
            scenario.check(&history);
        });
    }
}

/// A reader that looks on while one session replaces another gets every event once, in the order of
/// seqs, each with the id of the window that its seq lies in.
#[test]
fn a_reader_sees_ids_in_the_order_of_the_windows() {
    fn read(reader: &mut Reader, seen: &mut Vec<(u64, Id)>) {
        reader.read(usize::MAX, |item| {
            match item {
                Item::Envelope(envelope) => {
                    seen.push((envelope.seq(), id_in(envelope.stamp()).unwrap()));
                }
                Item::Lost(lost) => panic!("everything is retained: {lost:?}"),
            }
            ControlFlow::Continue(())
        });
    }

    for order in orders::<3>() {
        model(3, move || {
            let scenario = Scenario::after(4, &[Start('a', &[Page])]);
            let session = scenario.session.clone();
            let reader = Rc::new(RefCell::new((session.new_reader(0), Vec::new())));
            let looks_on = reader.clone();
            let history = on_threads(order, move |thread| match thread {
                0 => make_all(&session, &[Start('b', &[Page])]),
                1 => make_all(&session, &[Publish(Page), Publish(Page)]),
                _ => {
                    let (reader, seen) = &mut *looks_on.borrow_mut();
                    (0..2).for_each(|_| read(reader, seen));
                    Vec::new()
                }
            });
            let (mut reader, mut seen) = Rc::into_inner(reader).unwrap().into_inner();
            read(&mut reader, &mut seen);
            let start = changed_at(&history[0]);
            let expected = [1, 2].map(|seq| (seq, if seq <= start { 'a' } else { 'b' }));
            assert_eq!(seen, expected);
            assert_eq!(seen, published(&history[1]).collect::<Vec<_>>());
            scenario.check(&history);
        });
    }
}
