//! Who reads, and changes of what they ask for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tapline_api::{ApiError, ApiService, Enrolled, FilterChange, LiveLedger, Place, ReaderSpec};
use tapline_events::{Filter, TypePattern};
use tapline_oapi::{
    Category, CategorySet, FilterNotice, OnLag, ReaderInfo, ReaderKind, ReaderPatch, ReaderPatched,
    from_json,
};
use tapline_telemetry::Reader;

use crate::{fill_to, query, running, told};

/// How often it was woken.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Calls {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn spec(asked: &str, scope: &str) -> ReaderSpec {
    let filter = |text| query::stream(text).unwrap().filter;
    ReaderSpec {
        kind: ReaderKind::Stream,
        peer: "127.0.0.1:9".to_owned(),
        asked: filter(asked),
        scope: filter(scope),
        notices: true,
        overtaken: OnLag::Head,
    }
}

/// A reader from seq 0 on that is in the list.
fn join(api: &ApiService, asked: &str, scope: &str) -> (Reader, Enrolled) {
    let spec = spec(asked, scope);
    let filter = spec.asked.narrowed(&spec.scope);
    let reader = api.session().new_reader(0).filtered(filter);
    let enrolled = api.enroll(spec, reader.ledger());
    (reader, enrolled)
}

fn only(api: &ApiService) -> ReaderInfo {
    let mut list = api.readers();
    assert_eq!(list.readers.len(), 1);
    list.readers.remove(0)
}

fn patch(json: &str) -> ReaderPatch {
    from_json(json.as_bytes()).unwrap()
}

fn change(enrolled: &Enrolled) -> FilterChange {
    match enrolled.poll_change(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(change) => change,
        Poll::Pending => panic!("there is a change"),
    }
}

fn no_change(enrolled: &Enrolled) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    enrolled.poll_change(&mut cx).is_pending()
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_reader_is_in_the_list_for_as_long_as_it_is_there() {
    let api = running(8);
    assert!(api.readers().readers.is_empty());
    let (_, first) = join(&api, "", "");
    let (_, second) = join(&api, "", "");
    let ids = || {
        let list = api.readers();
        list.readers
            .into_iter()
            .map(|info| info.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(), [first.id(), second.id()]);
    assert_eq!(ids(), ["r1", "r2"]);
    drop(second);
    let (_, third) = join(&api, "", "");
    assert_eq!(ids(), ["r1", "r3"], "an id is not given twice");
    drop((first, third));
    assert!(api.readers().readers.is_empty());
}

#[test]
fn it_says_who_reads_and_how_far_behind() {
    let api = running(8);
    let (mut reader, enrolled) = join(&api, "category=page,console&type=console_*", "");
    fill_to(&api, 20);
    let info = only(&api);
    assert_eq!(
        (info.kind, info.peer.as_str()),
        (ReaderKind::Stream, "127.0.0.1:9")
    );
    assert_eq!((info.notices, info.overtaken), (true, OnLag::Head));
    let asked = CategorySet::of(&[Category::Page, Category::Console]);
    assert_eq!(
        (info.category, info.r#type),
        (Some(asked), vec!["console_*".to_owned()])
    );
    assert_eq!((info.position, info.behind_events), (0, 20));
    assert_eq!(info.behind_bytes, api.session().stream().retained().weight);
    assert!(0.0 <= info.behind_seconds && info.behind_seconds < 60.0);

    while reader.try_next().is_some() {}
    enrolled.place(Place::Own(reader.ledger()));
    let info = only(&api);
    assert_eq!(
        (info.position, info.behind_events, info.behind_bytes),
        (20, 0, 0)
    );
    assert_eq!(info.behind_seconds, 0.0);
    assert_eq!((info.delivered, info.filtered, info.lost), (8, 0, 12));
    assert_eq!(api.readers().head, 20);
}

#[test]
fn who_is_carried_is_where_its_leader_is() {
    let api = running(64);
    let (mut leader, _lead) = join(&api, "", "");
    let mut mate = api.session().new_reader(4);
    let (_, enrolled) = join(&api, "", "");
    fill_to(&api, 4);
    while leader.try_next().is_some() {}
    let since = leader.ledger();
    let live = LiveLedger::new(since);
    let carried = Place::Carried {
        own: mate.ledger(),
        since,
        leader: live.clone(),
    };
    enrolled.place(carried);
    fill_to(&api, 10);
    while leader.try_next().is_some() {}
    live.store(leader.ledger());
    mate.follow(&leader, since);
    let info = api.readers().readers.remove(1);
    assert_eq!(info.id, enrolled.id());
    assert_eq!((info.position, info.delivered), (10, 6));
    assert_eq!(
        (info.position, info.delivered),
        (mate.position(), mate.ledger().delivered)
    );
}

#[test]
fn a_change_is_made_by_the_reader_and_answered() {
    let api = running(64);
    let (mut reader, enrolled) = join(&api, "category=page", "");
    let reader_calls = Arc::new(Calls::default());
    let waker = Waker::from(reader_calls.clone());
    assert!(
        enrolled
            .poll_change(&mut Context::from_waker(&waker))
            .is_pending()
    );

    let asked = patch(r#"{"type":["console_*"],"category":["console"]}"#);
    let mut patching = api.patch_reader(&enrolled.id(), asked).unwrap();
    assert_eq!(reader_calls.count(), 1, "the reader is woken");
    let calls = Arc::new(Calls::default());
    let waker = Waker::from(calls.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut patching).poll(&mut cx).is_pending());

    fill_to(&api, 3);
    assert!(reader.try_next().is_none());
    let change = change(&enrolled);
    reader.refilter(change.filter().clone());
    assert_eq!(only(&api).r#type, [""; 0], "not before it is made");
    let console = Some(CategorySet::of(&[Category::Console]));
    let types = vec!["console_*".to_owned()];
    let notice = FilterNotice {
        category: console,
        r#type: types.clone(),
        after: 3,
    };
    assert_eq!(change.applied(reader.position()), notice);
    assert_eq!(calls.count(), 1, "and so is who asked");
    let Poll::Ready(answer) = Pin::new(&mut patching).poll(&mut cx) else {
        panic!("it was answered")
    };
    let expected = ReaderPatched {
        id: enrolled.id(),
        category: console,
        r#type: types.clone(),
        after: 3,
    };
    assert_eq!(answer.unwrap(), expected);
    let info = only(&api);
    assert_eq!((info.category, info.r#type), (console, types));
    fill_to(&api, 4);
    assert!(reader.try_next().is_some());
}

#[test]
fn changes_build_upon_each_other() {
    let api = running(8);
    let (_, enrolled) = join(&api, "type=a", "");
    let ask = |json| api.patch_reader("r1", patch(json)).unwrap();
    let _all = [
        ask(r#"{"category":["page"]}"#),
        ask(r#"{"type":[]}"#),
        ask(r#"{}"#),
        ask(r#"{"category":[]}"#),
    ];
    let page = CategorySet::of(&[Category::Page]);
    for expected in [
        Filter::new(Some(page), vec![TypePattern::new("a")]),
        Filter::categories(page),
        Filter::categories(page),
        Filter::all(),
    ] {
        let change = change(&enrolled);
        assert_eq!(change.filter(), &expected);
        change.applied(0);
    }
    assert!(no_change(&enrolled));
}

#[test]
fn no_change_goes_beyond_what_a_reader_may_ask_for() {
    let api = running(8);
    let (_, enrolled) = join(
        &api,
        "category=page",
        "category=page,console&type=console_*",
    );
    let _patching = api
        .patch_reader("r1", patch(r#"{"category":[],"type":["*"]}"#))
        .unwrap();
    let change = change(&enrolled);
    let scope = CategorySet::of(&[Category::Page, Category::Console]);
    assert_eq!(change.filter().categories, Some(scope));
    let events = ["console_log", "page_load"].map(|name| {
        let request = from_json(format!(r#"{{"type":"{name}"}}"#).as_bytes()).unwrap();
        api.publish(request).unwrap().unwrap()
    });
    let matches = events.map(|envelope| change.filter().matches(envelope.event()));
    assert_eq!(matches, [true, false]);
    change.applied(0);
    assert_eq!(only(&api).category, Some(scope));
}

#[test]
fn who_is_not_there_is_not_changed() {
    let api = running(8);
    let (_, enrolled) = join(&api, "", "");
    for id in [
        "",
        "r",
        "r0",
        "r2",
        "1",
        "r01",
        "r+1",
        "R1",
        "r1 ",
        "r99999999999999999999",
    ] {
        let error = api.patch_reader(id, ReaderPatch::default()).unwrap_err();
        assert_eq!(told(&error).0, "not_found", "{id}");
    }
    let waits = api.patch_reader("r1", ReaderPatch::default()).unwrap();
    let taken = api.patch_reader("r1", ReaderPatch::default()).unwrap();
    drop(change(&enrolled));
    assert!(
        matches!(now(waits), Some(Err(ApiError::NoSuchReader))),
        "taken, and not made"
    );
    drop(enrolled);
    assert!(
        matches!(now(taken), Some(Err(ApiError::NoSuchReader))),
        "not even taken"
    );
}

#[test]
fn a_change_that_nobody_waits_for_is_not_made() {
    let api = running(8);
    let (_, enrolled) = join(&api, "", "");
    drop(api.patch_reader("r1", patch(r#"{"type":["x"]}"#)).unwrap());
    assert!(no_change(&enrolled));
    assert_eq!(only(&api).r#type, [""; 0]);
}

#[test]
fn only_some_changes_wait() {
    let api = running(8);
    let (_, enrolled) = join(&api, "", "");
    let ask = || api.patch_reader("r1", ReaderPatch::default());
    let mut waiting: Vec<_> = (0..4).map(|_| ask().unwrap()).collect();
    let error = ask().unwrap_err();
    assert_eq!(told(&error).0, "unavailable");
    waiting.pop();
    waiting.push(ask().unwrap());
    assert!(ask().is_err(), "who gave up made room for one");
    change(&enrolled).applied(0);
    assert!(ask().is_ok());
}
