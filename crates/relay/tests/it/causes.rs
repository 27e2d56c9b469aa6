//! Events of the browser source that follow from a client's commands, with a real browser that both of them
//! use.

use serde_json::{Value, json};
use tapline_cdp::{CdpSource, SourceOptions};
use tapline_events::Item;
use tapline_oapi::ConfigRequest;
use tapline_telemetry::Reader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::ends::{DEADLINE, Ends, UPGRADE, command, head, serve_page, soon};
use crate::real::Browser;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const PAGE: &str = "<!doctype html><title>A page</title><button style='position:absolute;left:0;top:0;\
    width:200px;height:100px'>Go</button><link rel=icon href=data:,>";

/// A DevTools client of raw frames.
struct Client {
    socket: TcpStream,
    last_id: u64,
}

impl Client {
    async fn open(ends: &Ends) -> Self {
        let relay = ends.address;
        let request = format!("GET /json/version HTTP/1.1\r\nHost: {relay}\r\n\r\n");
        let answer = ends.ask(&request).await;
        let version: Value =
            serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let url = version["webSocketDebuggerUrl"].as_str().unwrap();
        let path = url.strip_prefix(&format!("ws://{relay}")).unwrap();
        let mut socket = ends.client().await;
        let trace =
            format!("Upgrade: websocket\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
        let request = UPGRADE
            .replace("/devtools/browser/1", path)
            .replace("Upgrade: websocket\r\n", &trace);
        socket.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
        Self { socket, last_id: 0 }
    }

    /// Sends a command, and returns its result.
    async fn ask(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.socket
            .write_all(&command(&message.to_string()))
            .await
            .unwrap();
        loop {
            let message = soon(self.message()).await;
            if message["id"] == self.last_id {
                assert!(message["result"].is_object(), "{message}");
                return message["result"].clone();
            }
        }
    }

    /// The next message: one frame, as Chromium sends it.
    async fn message(&mut self) -> Value {
        let first = self.socket.read_u8().await.unwrap();
        assert_eq!(first, 0x81, "a whole text message");
        let length = match self.socket.read_u8().await.unwrap() {
            126 => self.socket.read_u16().await.unwrap().into(),
            127 => self.socket.read_u64().await.unwrap(),
            length => length.into(),
        };
        let mut text = vec![0; length.try_into().unwrap()];
        self.socket.read_exact(&mut text).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// All envelopes up to and including the first that is that.
async fn up_to(reader: Reader, mut is: impl FnMut(&Value) -> bool) -> (Reader, Vec<Value>) {
    let mut reader = reader;
    let mut all = Vec::new();
    loop {
        let (read, item) = tokio::task::spawn_blocking(move || {
            let item = reader.next(Some(DEADLINE));
            (reader, item)
        })
        .await
        .unwrap();
        reader = read;
        let Some(Item::Envelope(envelope)) = item else {
            panic!("{all:#?}")
        };
        let envelope: Value = serde_json::from_str(&envelope.json().whole()).unwrap();
        let is_last = is(&envelope["event"]);
        all.push(envelope);
        if is_last {
            return (reader, all);
        }
    }
}

/// The types of the events that were caused by the only command with this method.
#[track_caller]
fn caused_by(envelopes: &[Value], method: &str) -> Vec<String> {
    let is_it = |it: &&Value| {
        it["event"]["data"]["method"] == method && it["event"]["category"] == "control"
    };
    let seqs: Vec<_> = envelopes
        .iter()
        .filter(is_it)
        .map(|it| it["seq"].to_string())
        .collect();
    let last = seqs
        .last()
        .unwrap_or_else(|| panic!("{method}: {envelopes:#?}"));
    let caused = envelopes.iter().filter(|it| {
        let metadata = &it["event"]["source"]["metadata"];
        let is_caused = metadata["caused_by"] == **last;
        assert!(!is_caused || metadata["trace_id"] == TRACE, "{it}");
        is_caused
    });
    let mut types: Vec<_> = caused
        .map(|it| it["event"]["type"].as_str().unwrap().to_owned())
        .collect();
    types.sort();
    types
}

#[tokio::test(flavor = "multi_thread")]
async fn events_name_the_command_that_they_follow_from() {
    let Some(browser) = Browser::open("causes") else {
        return;
    };
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let serving = tokio::spawn(serve_page(site, PAGE));
    let endpoint = format!("http://{}", browser.address).parse().unwrap();
    let source = CdpSource::new(SourceOptions::new(endpoint), Handle::current());
    let ends = Ends::over(
        |api| api.with_source(source),
        |options| options.upstream.clone_from(&browser.address),
    )
    .await;
    let reader = ends.session.new_reader(0);
    ends.api.put(&ConfigRequest::default()).await.unwrap();
    let (reader, _) = up_to(reader, |event| event["type"] == "page_tab_opened").await;

    // A tab that the client opens, and its document.
    let mut client = Client::open(&ends).await;
    let url = format!("{origin}/opened");
    let opened = client
        .ask(None, "Target.createTarget", json!({"url": url}))
        .await;
    let target = opened["targetId"].as_str().unwrap().to_owned();
    // The answer may be reported after the page is loaded.
    let is_loaded = |path: &str| {
        let url = format!("{origin}/{path}");
        let mut missing = vec!["page_load", "network_response"];
        move |event: &Value| {
            missing.retain(|name| event["type"] != **name || event["data"]["url"] != url);
            missing.is_empty()
        }
    };
    let (reader, events) = up_to(reader, is_loaded("opened")).await;
    let caused = caused_by(&events, "Target.createTarget");
    assert!(
        caused.contains(&"page_tab_opened".to_owned()),
        "{caused:?} {events:#?}"
    );

    let params = json!({"targetId": target, "flatten": true});
    let attached = client.ask(None, "Target.attachToTarget", params).await;
    let session = attached["sessionId"].as_str().unwrap().to_owned();
    let session = Some(&*session);
    let url = format!("{origin}/navigated");
    client
        .ask(session, "Page.navigate", json!({"url": url}))
        .await;
    let (reader, events) = up_to(reader, is_loaded("navigated")).await;
    let expected = [
        "network_request",
        "network_response",
        "page_dom_content_loaded",
        "page_load",
        "page_navigation",
    ];
    let caused = caused_by(&events, "Page.navigate");
    assert_eq!(caused, expected, "{events:#?}");

    // A click, and a key.
    let click = json!({"x": 50, "y": 40, "button": "left", "clickCount": 1});
    for kind in ["mousePressed", "mouseReleased"] {
        let mut params = click.clone();
        params["type"] = kind.into();
        client
            .ask(session, "Input.dispatchMouseEvent", params)
            .await;
    }
    let is_click = |event: &Value| event["type"] == "interaction_click";
    let (reader, events) = up_to(reader, is_click).await;
    assert_eq!(
        caused_by(&events, "Input.dispatchMouseEvent"),
        ["interaction_click"]
    );
    let key =
        json!({"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
    client.ask(session, "Input.dispatchKeyEvent", key).await;
    let is_key = |event: &Value| event["type"] == "interaction_key";
    let (reader, events) = up_to(reader, is_key).await;
    assert_eq!(
        caused_by(&events, "Input.dispatchKeyEvent"),
        ["interaction_key"]
    );

    // The protocol does not say that a script's navigation follows from the script.
    let script = json!({"expression": "location.href = '/by-script'"});
    client.ask(session, "Runtime.evaluate", script).await;
    let (reader, events) = up_to(reader, is_loaded("by-script")).await;
    let is_caused = |it: &&Value| it["event"]["source"]["metadata"]["caused_by"].is_string();
    assert_eq!(events.iter().filter(is_caused).count(), 0, "{events:#?}");

    client.ask(session, "Page.reload", json!({})).await;
    let (_, events) = up_to(reader, is_loaded("by-script")).await;
    assert_eq!(caused_by(&events, "Page.reload"), expected, "{events:#?}");

    drop(client);
    ends.stop().await;
    serving.abort();
}
