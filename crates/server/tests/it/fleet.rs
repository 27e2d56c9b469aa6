//! Many instances on one listener, as a gateway serves them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tapline_access::AccessConfig;
use tapline_api::{
    ApiError, ApiService, Backend as _, BoxFuture, Epoch, Fleet, FleetItem, FleetQuery,
    FleetReader, InstancePart, InstanceQuery, NotReady,
};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{ConfigRequest, Event, InstanceInfo, KnownType};
use tapline_server::{Options, Shutdown, serve_fleet};
use tapline_telemetry::TelemetrySession;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::http::{Answer, Connection, Request, get, in_time, request};
use crate::reload::Files;
use crate::server::{TOKEN, token};
use crate::sse::Stream;

/// Instances in the process.
#[derive(Default)]
struct Instances {
    of: Mutex<HashMap<String, Running>>,
    opened: AtomicUsize,
    /// What the last stream of many instances was asked for.
    read: Mutex<Option<FleetQuery>>,
}

/// An instance, and whether it is over.
type Running = (Arc<ApiService>, watch::Sender<bool>);

impl Instances {
    /// Starts an instance, anew where there is one of that name.
    async fn start(&self, name: &str) -> Arc<ApiService> {
        let stream = EventStream::new(Retention::default()).unwrap();
        let api = Arc::new(ApiService::new(TelemetrySession::new(stream)));
        api.put(&ConfigRequest::default()).await.unwrap();
        let new = (api.clone(), watch::Sender::new(false));
        let before = self.of.lock().unwrap().insert(name.to_owned(), new);
        if let Some((_, over)) = before {
            over.send_replace(true);
        }
        api
    }
}

impl Fleet for Instances {
    type Backend = ApiService;

    async fn open(&self, name: &str) -> Result<Arc<ApiService>, ApiError> {
        self.opened.fetch_add(1, Relaxed);
        let of = self.of.lock().unwrap();
        let found = of.get(name).map(|(api, _)| api.clone());
        found.ok_or_else(|| ApiError::UnknownInstance(name.to_owned()))
    }

    fn ended(&self, backend: &ApiService) -> impl Future<Output = ()> + Send + 'static {
        let of = self.of.lock().unwrap();
        let found = of.values().find(|(api, _)| std::ptr::eq(&**api, backend));
        let mut over = found.unwrap().1.subscribe();
        async move {
            let _ = over.wait_for(|over| *over).await;
        }
    }

    fn instances(&self, query: &InstanceQuery) -> InstancePart {
        let of = self.of.lock().unwrap();
        let all: Vec<_> = of
            .iter()
            .map(|(name, (api, _))| InstanceInfo {
                name: name.clone(),
                alive: true,
                seen: 1,
                silent_ms: 0,
                epoch: api.epoch(),
                head: api.retained().head,
                stored: 0,
                events_per_second: 0.5,
                last_event: None,
                problems: None,
                session_id: None,
                version: "0".into(),
            })
            .collect();
        query.select(all.iter().map(|it| (it.into(), it)), InstanceInfo::clone)
    }

    async fn read(&self, query: &FleetQuery) -> Result<Box<dyn FleetReader>, ApiError> {
        *self.read.lock().unwrap() = Some(query.clone());
        Ok(Box::new(Quiet))
    }

    fn readiness(&self) -> Result<(), NotReady> {
        match self.of.lock().unwrap().is_empty() {
            true => Err(NotReady("nothing to serve".into())),
            false => Ok(()),
        }
    }
}

/// A stream in which nothing happens.
struct Quiet;

impl FleetReader for Quiet {
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<FleetItem>>> {
        Box::pin(std::future::pending())
    }

    fn cursor(&self) -> String {
        "here".to_owned()
    }

    fn is_evicted(&self) -> bool {
        false
    }
}

struct Gateway {
    addr: SocketAddr,
    instances: Arc<Instances>,
}

impl Gateway {
    async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let instances = Arc::new(Instances::default());
        let never = std::future::pending::<Shutdown>();
        tokio::spawn(serve_fleet(listener, instances.clone(), options, never));
        Self { addr, instances }
    }

    async fn call(&self, request: &Request) -> Answer {
        Connection::open(self.addr).await.call(request).await
    }

    async fn stream(&self, target: &str) -> Stream {
        let connection = Connection::open(self.addr).await;
        Stream::over(connection, &get(target)).await
    }
}

fn guarded() -> Options {
    let access = AccessConfig {
        token: Some(token()),
        ..AccessConfig::default()
    };
    Options {
        access: access.load().unwrap().into(),
        ..Options::default()
    }
}

fn publish(api: &ApiService) {
    let event = Event::known(KnownType::PageLoad, None);
    api.publisher().publish(event).unwrap();
}

#[tokio::test]
async fn each_instance_has_its_routes_under_its_name() {
    let gateway = Gateway::start(Options::default()).await;
    let (a, b) = (
        gateway.instances.start("a").await,
        gateway.instances.start("b").await,
    );
    for _ in 0..3 {
        publish(&a);
    }
    publish(&b);
    for prefix in ["instances", "browsers"] {
        for (name, api) in [("a", &a), ("b", &b)] {
            let state = gateway
                .call(&get(&format!("/{prefix}/{name}/telemetry")))
                .await;
            assert_eq!(state.json()["epoch"], json!(api.epoch().to_string()));
            let target = format!("/{prefix}/{name}/telemetry/events?limit=1&order=desc");
            let page = gateway.call(&get(&target)).await;
            assert_eq!(
                page.header("x-head"),
                Some(&*api.retained().head.to_string())
            );
            assert_eq!(page.json()[0]["seq"], json!(api.retained().head));
        }
    }
    let mut stream = gateway
        .stream("/instances/a/telemetry/stream?after=1&notices=true")
        .await;
    assert_eq!(stream.seqs(2).await, [2, 3]);
    publish(&a);
    assert_eq!(stream.seqs(1).await, [4]);
    // Each knows its own readers.
    let readers = gateway.call(&get("/instances/a/telemetry/readers")).await;
    assert_eq!(readers.json()["readers"].as_array().unwrap().len(), 1);
    let readers = gateway.call(&get("/instances/b/telemetry/readers")).await;
    assert_eq!(readers.json()["readers"].as_array().unwrap().len(), 0);
    // And what changes one changes no other.
    let ended = gateway
        .call(&request("DELETE", "/instances/b/telemetry"))
        .await;
    assert_eq!(ended.status(), 200);
    assert!(a.state().is_ok() && b.state().is_err());
}

#[tokio::test]
async fn what_is_for_no_instance_says_where_it_is() {
    let gateway = Gateway::start(Options::default()).await;
    let not_ready = gateway.call(&get("/readyz")).await;
    assert_eq!(not_ready.status(), 503);
    assert_eq!(not_ready.json()["message"], json!("nothing to serve"));
    gateway.instances.start("a").await;
    assert_eq!(gateway.call(&get("/readyz")).await.status(), 200);
    assert_eq!(gateway.call(&get("/healthz")).await.status(), 200);
    for (target, status, said) in [
        ("/instances/b/telemetry", 404, "no instance `b` is known"),
        ("/instances/b/telemetry/stream", 404, "GET /instances"),
        ("/telemetry", 404, "/instances/NAME/telemetry"),
        ("/telemetry/stream", 404, "/instances/NAME/telemetry/stream"),
        ("/instances/a/healthz", 404, "of the gateway itself"),
        ("/instances/a/metrics", 404, "of the gateway itself"),
        ("/instances/a/nothing", 404, "does not exist"),
        ("/instances/", 404, "does not exist"),
        ("/instances//telemetry", 404, "does not exist"),
    ] {
        let answer = gateway.call(&get(target)).await;
        assert_eq!(answer.status(), status, "{target}: {}", answer.text());
        let message = answer.json()["message"].to_string();
        assert!(message.contains(said), "{target}: {message}");
        assert!(answer.header("x-request-id").is_some());
    }
    let wrong = gateway
        .call(&request("POST", "/instances/a/telemetry"))
        .await;
    assert_eq!(wrong.status(), 405);
    let state = gateway.call(&get("/instances/a/telemetry")).await;
    assert_eq!(state.status(), 200);
    let document = gateway.call(&get("/openapi.json")).await.json();
    assert!(document["paths"]["/instances"]["get"].is_object());
    assert!(document["paths"]["/instances/{instance}/telemetry/stream"].is_object());
    assert!(document["paths"].get("/telemetry/stream").is_none());
    let list = gateway.call(&get("/instances")).await.json();
    assert_eq!(list["instances"][0]["name"], json!("a"));
    let metrics = gateway.call(&get("/metrics")).await;
    assert!(metrics.text().contains("\ntapline_fleet_instances 1\n"));
    assert!(
        metrics
            .text()
            .contains("\ntapline_fleet_instances_open 1\n")
    );
}

#[tokio::test]
async fn instances_are_listed_in_parts() {
    let gateway = Gateway::start(Options::default()).await;
    for name in ["a", "b-1", "b-2", "b-3", "c"] {
        gateway.instances.start(name).await;
    }
    for _ in 0..3 {
        publish(&*gateway.instances.start("b-2").await);
    }
    let first = gateway
        .call(&get("/instances?name=b-*,d&order=lag&limit=2"))
        .await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.header("x-has-more"), Some("true"));
    let list = first.json();
    let names = |list: &serde_json::Value| {
        let all = list["instances"].as_array().unwrap().iter();
        all.map(|it| it["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&list), ["b-2", "b-1"]);
    assert_eq!((&list["total"], &list["alive"]), (&json!(3), &json!(3)));
    assert_eq!(list["not_stored"], json!(1));
    let offset = first.header("x-next-offset").unwrap();
    let rest = format!("/instances?name=b-*,d&order=lag&limit=2&offset={offset}");
    let rest = gateway.call(&get(&rest)).await;
    assert_eq!(names(&rest.json()), ["b-3"]);
    assert_eq!(rest.header("x-has-more"), Some("false"));
    assert_eq!(rest.header("x-next-offset"), None);

    for (query, field) in [
        ("instances=a", "instances"),
        ("alive=1", "alive"),
        ("order=desc", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=1", "limit"),
        ("offset=b", "offset"),
    ] {
        let refused = gateway.call(&get(&format!("/instances?{query}"))).await;
        assert_eq!(refused.status(), 400, "{query}");
        let message = refused.json()["message"].to_string();
        assert!(
            message.contains(&format!("query parameter `{field}`")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn the_pages_need_no_instance() {
    let gateway = Gateway::start(guarded()).await;
    let fleet = gateway.call(&get("/")).await;
    assert!(fleet.text().contains("page/fleet.js"));
    assert_eq!(gateway.call(&get("/page/fleet.js")).await.status(), 200);
    let to = gateway.call(&get("/instances/a")).await;
    assert_eq!((to.status(), to.header("location")), (308, Some("a/")));
    let page = gateway.call(&get("/instances/a/")).await;
    assert!(page.text().contains("page/main.js"));
    let script = gateway.call(&get("/instances/a/page/main.js")).await;
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let document = gateway.call(&get("/instances/a/openapi.json")).await;
    assert_eq!(document.status(), 200);
    assert_eq!(gateway.instances.opened.load(Relaxed), 0);
}

#[tokio::test]
async fn no_caller_opens_an_instance_without_the_token() {
    let gateway = Gateway::start(guarded()).await;
    gateway.instances.start("a").await;
    for target in [
        "/instances",
        "/metrics",
        "/instances/a/telemetry",
        "/instances/a/telemetry/stream",
    ] {
        let answer = gateway.call(&get(target)).await;
        assert_eq!(answer.status(), 401, "{target}");
        let answer = gateway.call(&get(target).token("wrong")).await;
        assert_eq!(answer.status(), 401, "{target}");
    }
    let elsewhere = get("/instances/a/telemetry").header("host", "evil.example");
    let refused = gateway.call(&elsewhere).await;
    assert!([401, 403].contains(&refused.status()));
    assert_eq!(gateway.instances.opened.load(Relaxed), 0);
    let answer = gateway
        .call(&get("/instances/a/telemetry").token(TOKEN))
        .await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn an_instance_token_opens_the_instances_that_it_names() {
    const SHOPS: &str = "secret-of-the-shops";
    let files = Files::new("instance-tokens");
    let file = files.write("tokens", &format!("shop-*,till-1 {SHOPS}\n"));
    let access = AccessConfig {
        token: Some(token()),
        instance_tokens: Some(file),
        ..AccessConfig::default()
    };
    let gateway = Gateway::start(Options {
        access: access.load().unwrap().into(),
        ..Options::default()
    })
    .await;
    for name in ["shop-1", "shop-2", "till-1", "till-12", "other"] {
        publish(&*gateway.instances.start(name).await);
    }
    let call = async |target: &str| gateway.call(&get(target).token(SHOPS)).await;

    for (name, expected) in [
        ("shop-1", 200),
        ("till-1", 200),
        ("till-12", 403),
        ("other", 403),
        // Whether there is one is not said.
        ("shop-3", 404),
        ("another", 403),
    ] {
        for route in ["", "/events", "/stream", "/problems"] {
            let method = if route == "/stream" { "HEAD" } else { "GET" };
            let target = request(method, &format!("/instances/{name}/telemetry{route}"));
            let answer = gateway.call(&target.token(SHOPS)).await;
            assert_eq!(answer.status(), expected, "{name}{route}");
        }
    }
    let refused = call("/browsers/other/telemetry").await;
    assert_eq!(
        refused.json()["message"],
        "the token is for other instances"
    );
    let challenge = refused.header("www-authenticate");
    assert_eq!(challenge, Some(r#"Bearer error="insufficient_scope""#));

    let stop = |name: &str| request("DELETE", &format!("/instances/{name}/telemetry"));
    let refused = gateway.call(&stop("other").token(SHOPS)).await;
    assert_eq!(refused.status(), 403);
    let stopped = gateway.call(&stop("shop-2").token(SHOPS)).await;
    assert_eq!(stopped.status(), 200);

    // What is for no instance has only those.
    let list = call("/instances").await.json();
    let names = list["instances"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop-1", "shop-2", "till-1"]);
    assert_eq!(call("/metrics").await.status(), 403);
    let stream = get("/fleet/stream?instances=*").token(SHOPS);
    Stream::over(Connection::open(gateway.addr).await, &stream).await;
    let asked = gateway.instances.read.lock().unwrap().take().unwrap();
    let has = ["shop-1", "till-1", "till-12", "other"].map(|name| asked.has(name));
    assert_eq!(has, [true, true, false, false]);

    // A ticket that it makes is for one of them.
    let ask = |name: &str| {
        let target = format!("/instances/{name}/telemetry/tickets");
        request("POST", &target).token(SHOPS).json("{}")
    };
    assert_eq!(gateway.call(&ask("other")).await.status(), 403);
    let ask_fleet = |names: &str| {
        let body = format!(r#"{{"instances":["till-1","{names}"]}}"#);
        request("POST", "/fleet/tickets").token(SHOPS).json(body)
    };
    assert_eq!(gateway.call(&ask_fleet("till-*")).await.status(), 403);
    assert_eq!(gateway.call(&ask_fleet("shop-*")).await.status(), 201);
    let made = gateway.call(&ask("till-1")).await.json();
    let ticket = made["ticket"].as_str().unwrap();
    let target = format!("/instances/till-1/telemetry/stream?replay=all&ticket={ticket}");
    assert_eq!(gateway.stream(&target).await.seqs(1).await.len(), 1);
}

#[tokio::test]
async fn a_ticket_is_for_one_instance() {
    let gateway = Gateway::start(guarded()).await;
    for name in ["a", "b"] {
        publish(&*gateway.instances.start(name).await);
    }
    let ask = request("POST", "/instances/a/telemetry/tickets").token(TOKEN);
    let ticket = gateway.call(&ask.json("{}")).await.json()["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let target =
        |name: &str| format!("/instances/{name}/telemetry/stream?replay=all&ticket={ticket}");
    let mut stream = gateway.stream(&target("a")).await;
    assert_eq!(stream.seqs(1).await.len(), 1);
    let refused = gateway.call(&get(&target("b"))).await;
    assert_eq!(refused.status(), 401);
    let message = refused.json()["message"].to_string();
    assert!(message.contains("for another instance"), "{message}");
}

#[tokio::test]
async fn a_ticket_for_several_instances_opens_their_stream_until_it_expires() {
    let gateway = Gateway::start(guarded()).await;
    for name in ["a-1", "b"] {
        publish(&*gateway.instances.start(name).await);
    }
    let ask = |body: &str| request("POST", "/fleet/tickets").token(TOKEN).json(body);
    for (body, expected) in [
        ("{}", "instances"),
        (r#"{"instances":[]}"#, "1 to 100 names"),
        (r#"{"instances":["a,b"]}"#, "a comma"),
        (r#"{"instances":["a"],"after":3}"#, "after"),
        (r#"{"instances":["a"],"expires_in":0}"#, "1 to 3600"),
    ] {
        let refused = gateway.call(&ask(body)).await;
        assert_eq!(refused.status(), 400, "{body}");
        let message = refused.json()["message"].to_string();
        assert!(message.contains(expected), "{message}");
    }
    let made = ask(r#"{"instances":["a-*","c"],"category":["page"],"expires_in":1}"#);
    let made = gateway.call(&made).await;
    assert_eq!(made.status(), 201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let ticket = made["ticket"].as_str().unwrap();

    let target = format!("/fleet/stream?notices=true&ticket={ticket}");
    let mut stream = gateway.stream(&target).await;
    let asked = gateway.instances.read.lock().unwrap().take().unwrap();
    assert_eq!(
        ["a-1", "b", "c"].map(|name| asked.has(name)),
        [true, false, true]
    );
    assert!(asked.filter.categories.is_some());
    let one = |name: &str| format!("/instances/{name}/telemetry/stream?replay=all&ticket={ticket}");
    let mut of_one = gateway.stream(&one("a-1")).await;
    assert_eq!(of_one.seqs(1).await.len(), 1);
    assert_eq!(gateway.call(&get(&one("b"))).await.status(), 401);
    // It opens nothing else.
    let list = gateway
        .call(&get(&format!("/instances?ticket={ticket}")))
        .await;
    assert_eq!(list.status(), 401);

    let rest = stream.rest().await;
    let bye = rest.last().unwrap();
    assert_eq!(
        (bye.name(), bye.json()),
        ("bye", json!({"reason": "expired"}))
    );
}

#[tokio::test]
async fn an_instance_that_was_started_anew_ends_its_streams_behind_their_last_event() {
    let gateway = Gateway::start(Options::default()).await;
    let before = gateway.instances.start("a").await;
    publish(&before);
    let target = "/instances/a/telemetry/stream?replay=all&notices=true";
    let mut stream = gateway.stream(target).await;
    let mut plain = gateway
        .stream("/instances/a/telemetry/stream?replay=all")
        .await;
    assert_eq!(plain.seqs(1).await, [1]);
    assert_eq!(stream.seqs(1).await, [1]);
    let began = Instant::now();
    publish(&before);
    let after = gateway.instances.start("a").await;
    assert_eq!(stream.seqs(1).await, [2]);
    let bye = stream.notice("bye").await;
    assert_eq!(bye, json!({"reason": "restarted", "last_seq": 2}));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(plain.seqs(1).await, [2]);
    in_time(async { while plain.next().await.is_some() {} }).await;
    let cursor = format!("2-{}", before.epoch());
    publish(&after);
    let mut stream = gateway.stream(&format!("{target}&after={cursor}")).await;
    let hello = stream.notice("hello").await;
    assert_eq!(hello["reason"], json!("other_epoch"));
    assert_eq!(hello["epoch"], json!(Epoch::to_string(&after.epoch())));
    assert_eq!(stream.seqs(1).await, [1]);
}
