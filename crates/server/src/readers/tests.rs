use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use tapline_api::{ApiService, Backend as _, StreamQuery};
use tapline_events::EventStream;
use tapline_oapi::{Category, from_json};
use tapline_telemetry::{Reader, TelemetryConfig, TelemetrySession};

use super::*;

/// A running session that retains so many events, and a list of its readers.
struct Scene {
    session: Arc<TelemetrySession>,
    api: ApiService,
    readers: Readers,
}

fn running(events: usize) -> Scene {
    let retention = tapline_api::Retention {
        events,
        bytes: u64::MAX,
        ..tapline_api::Retention::default()
    };
    let stream = EventStream::new(retention).unwrap();
    let session = Arc::new(TelemetrySession::new(stream));
    session.start("s-1", TelemetryConfig::default()).unwrap();
    let api = ApiService::new(session.clone());
    Scene {
        session,
        api,
        readers: Readers::default(),
    }
}

/// Publishes console lines until the head is there.
fn fill_to(scene: &Scene, head: u64) {
    while scene.api.retained().head < head {
        let request = from_json(br#"{"type":"console_log"}"#).unwrap();
        scene.api.publish(request).unwrap().envelope().unwrap();
    }
}

fn filter(text: &str) -> Filter {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    StreamQuery::from_pairs(pairs).unwrap().filter
}

/// Counts how often it was woken.
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
    ReaderSpec {
        kind: ReaderKind::Stream,
        peer: "127.0.0.1:9".to_owned(),
        asked: filter(asked),
        scope: filter(scope),
        notices: true,
        overtaken: OnLag::Head,
    }
}

/// A reader from seq 0 on, and its entry in the list.
fn join(scene: &Scene, asked: &str, scope: &str) -> (Reader, RegisteredReader) {
    let spec = spec(asked, scope);
    let filter = spec.asked.narrowed(&spec.scope);
    let reader = scene.session.new_reader(0).filtered(filter);
    let registered = scene.readers.register(spec, reader.ledger());
    (reader, registered)
}

fn only(scene: &Scene) -> ReaderInfo {
    let mut list = scene.readers.list(&scene.api);
    assert_eq!(list.readers.len(), 1);
    list.readers.remove(0)
}

fn patch(json: &str) -> ReaderPatch {
    from_json(json.as_bytes()).unwrap()
}

fn change(registered: &RegisteredReader) -> FilterChange {
    match registered.poll_change(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(change) => change,
        Poll::Pending => panic!("there is a change"),
    }
}

fn no_change(registered: &RegisteredReader) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    registered.poll_change(&mut cx).is_pending()
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_reader_is_listed_until_it_is_dropped() {
    let scene = running(8);
    assert!(scene.readers.list(&scene.api).readers.is_empty());
    let (_, first) = join(&scene, "", "");
    let (_, second) = join(&scene, "", "");
    let ids = || {
        let list = scene.readers.list(&scene.api);
        list.readers
            .into_iter()
            .map(|info| info.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(), [first.id(), second.id()]);
    assert_eq!(ids(), ["r1", "r2"]);
    drop(second);
    let (_, third) = join(&scene, "", "");
    assert_eq!(ids(), ["r1", "r3"], "an id is not given twice");
    drop((first, third));
    assert!(scene.readers.list(&scene.api).readers.is_empty());
}

#[test]
fn the_list_shows_the_client_and_how_far_behind_it_is() {
    let scene = running(8);
    let (mut reader, registered) = join(&scene, "category=page,console&type=console_*", "");
    fill_to(&scene, 20);
    let info = only(&scene);
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
    assert_eq!(info.behind_bytes, scene.api.retained().weight);
    assert!(0.0 <= info.behind_seconds && info.behind_seconds < 60.0);

    while reader.try_next().is_some() {}
    registered.store(ReaderAccount::Own(reader.ledger()));
    let info = only(&scene);
    assert_eq!(
        (info.position, info.behind_events, info.behind_bytes),
        (20, 0, 0)
    );
    assert_eq!(info.behind_seconds, 0.0);
    assert_eq!((info.delivered, info.filtered, info.lost), (8, 0, 12));
    assert_eq!(scene.readers.list(&scene.api).head, 20);
}

#[test]
fn a_member_of_a_group_is_where_the_group_is() {
    let scene = running(64);
    let (mut leader, _lead) = join(&scene, "", "");
    let mut member = scene.session.new_reader(4);
    let (_, registered) = join(&scene, "", "");
    fill_to(&scene, 4);
    while leader.try_next().is_some() {}
    let since = leader.ledger();
    let shared = SharedLedger::new(since);
    let in_group = ReaderAccount::InGroup {
        own: member.ledger(),
        since,
        group: shared.clone(),
    };
    registered.store(in_group);
    fill_to(&scene, 10);
    while leader.try_next().is_some() {}
    shared.store(leader.ledger());
    member.follow(&leader, since);
    let info = scene.readers.list(&scene.api).readers.remove(1);
    assert_eq!(info.id, registered.id());
    assert_eq!((info.position, info.delivered), (10, 6));
    assert_eq!(
        (info.position, info.delivered),
        (member.position(), member.ledger().delivered)
    );
}

#[test]
fn a_change_is_made_by_the_reader_and_answered() {
    let scene = running(64);
    let (mut reader, registered) = join(&scene, "category=page", "");
    let reader_calls = Arc::new(Calls::default());
    let waker = Waker::from(reader_calls.clone());
    assert!(
        registered
            .poll_change(&mut Context::from_waker(&waker))
            .is_pending()
    );

    let asked = patch(r#"{"type":["console_*"],"category":["console"]}"#);
    let mut patching = scene.readers.patch(&registered.id(), asked).unwrap();
    assert_eq!(reader_calls.count(), 1, "the reader is woken");
    let calls = Arc::new(Calls::default());
    let waker = Waker::from(calls.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut patching).poll(&mut cx).is_pending());

    fill_to(&scene, 3);
    assert!(reader.try_next().is_none());
    let change = change(&registered);
    reader.refilter(change.filter().clone());
    assert_eq!(only(&scene).r#type, [""; 0], "not before it is made");
    let console = Some(CategorySet::of(&[Category::Console]));
    let types = vec!["console_*".to_owned()];
    let notice = FilterNotice {
        category: console,
        r#type: types.clone(),
        after: 3,
    };
    assert_eq!(change.applied(reader.position()), notice);
    assert_eq!(calls.count(), 1, "and so is the caller");
    let Poll::Ready(answer) = Pin::new(&mut patching).poll(&mut cx) else {
        panic!("it was answered")
    };
    let expected = ReaderPatched {
        id: registered.id(),
        category: console,
        r#type: types.clone(),
        after: 3,
    };
    assert_eq!(answer.unwrap(), expected);
    let info = only(&scene);
    assert_eq!((info.category, info.r#type), (console, types));
    fill_to(&scene, 4);
    assert!(reader.try_next().is_some());
}

#[test]
fn changes_build_upon_each_other() {
    let scene = running(8);
    let (_, registered) = join(&scene, "type=a", "");
    let ask = |json| scene.readers.patch("r1", patch(json)).unwrap();
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
        let change = change(&registered);
        assert_eq!(change.filter(), &expected);
        change.applied(0);
    }
    assert!(no_change(&registered));
}

#[test]
fn a_change_stays_within_the_readers_scope() {
    let scene = running(8);
    let (_, registered) = join(
        &scene,
        "category=page",
        "category=page,console&type=console_*",
    );
    let _patching = scene
        .readers
        .patch("r1", patch(r#"{"category":[],"type":["*"]}"#))
        .unwrap();
    let change = change(&registered);
    let scope = CategorySet::of(&[Category::Page, Category::Console]);
    assert_eq!(change.filter().categories, Some(scope));
    let events = ["console_log", "page_load"].map(|name| {
        let request = from_json(format!(r#"{{"type":"{name}"}}"#).as_bytes()).unwrap();
        let published = scene.api.publish(request).unwrap();
        published.envelope().unwrap()
    });
    let matches = events.map(|envelope| change.filter().matches(envelope.event()));
    assert_eq!(matches, [true, false]);
    change.applied(0);
    assert_eq!(only(&scene).category, Some(scope));
}

#[test]
fn an_unknown_reader_cannot_be_changed() {
    let scene = running(8);
    let (_, registered) = join(&scene, "", "");
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
        let error = scene.readers.patch(id, ReaderPatch::default()).unwrap_err();
        assert_eq!(error, PatchError::NoSuchReader, "{id}");
    }
    let waits = scene.readers.patch("r1", ReaderPatch::default()).unwrap();
    let taken = scene.readers.patch("r1", ReaderPatch::default()).unwrap();
    drop(change(&registered));
    assert!(
        matches!(now(waits), Some(Err(_))),
        "the reader took it, and did not make it"
    );
    drop(registered);
    assert!(
        matches!(now(taken), Some(Err(_))),
        "the reader left before it took it"
    );
}

#[test]
fn a_change_whose_caller_has_left_is_not_made() {
    let scene = running(8);
    let (_, registered) = join(&scene, "", "");
    drop(
        scene
            .readers
            .patch("r1", patch(r#"{"type":["x"]}"#))
            .unwrap(),
    );
    assert!(no_change(&registered));
    assert_eq!(only(&scene).r#type, [""; 0]);
}

#[test]
fn at_most_four_changes_wait() {
    let scene = running(8);
    let (_, registered) = join(&scene, "", "");
    let ask = || scene.readers.patch("r1", ReaderPatch::default());
    let mut waiting: Vec<_> = (0..4).map(|_| ask().unwrap()).collect();
    let error = ask().unwrap_err();
    assert_eq!(error, PatchError::Busy);
    waiting.pop();
    waiting.push(ask().unwrap());
    assert!(ask().is_err(), "a caller that left makes space for one");
    change(&registered).applied(0);
    assert!(ask().is_ok());
}

#[test]
fn a_wait_cannot_be_changed() {
    let scene = running(8);
    let spec = ReaderSpec {
        kind: ReaderKind::Wait,
        ..spec("", "")
    };
    let _wait = scene.readers.register(spec, ReaderLedger::default());
    let error = scene.readers.patch("r1", ReaderPatch::default());
    assert_eq!(error.unwrap_err(), PatchError::IsWait);
}
