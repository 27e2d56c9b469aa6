//! Another client of the browser's DevTools: drives it, as a user's automation would.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::DEADLINE;

pub(crate) struct Control {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
    /// What was emitted meanwhile.
    pub(crate) events: Vec<Value>,
}

impl Control {
    /// Waits for the browser to be there.
    pub(crate) async fn open(port: u16) -> Self {
        let opened = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(control) = Self::try_open(port).await {
                    return control;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        opened.await.expect("the browser should have come")
    }

    async fn try_open(port: u16) -> Option<Self> {
        let version = crate::site::get(port, "/json/version").await?;
        let version: Value = serde_json::from_str(&version).ok()?;
        let url = version["webSocketDebuggerUrl"].as_str()?;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        Some(Self {
            socket,
            last_id: 0,
            events: Vec::new(),
        })
    }

    /// The browser's answer: a result, or an error.
    pub(crate) async fn ask(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
        let answered = tokio::time::timeout(DEADLINE, async {
            loop {
                let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else {
                    continue;
                };
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["id"] == id {
                    return message;
                }
                self.events.push(message);
            }
        });
        answered
            .await
            .unwrap_or_else(|_| panic!("no answer to {method}"))
    }

    /// Reads all that comes, and drops it, until the browser is gone.
    #[allow(dead_code, reason = "for the example that measures")]
    pub(crate) async fn drop_events(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The id of a new tab.
    pub(crate) async fn open_tab(&mut self, url: &str) -> String {
        let opened = self
            .ask(None, "Target.createTarget", json!({"url": url}))
            .await;
        opened["result"]["targetId"].as_str().unwrap().to_owned()
    }

    /// A session with a tab.
    pub(crate) async fn attach(&mut self, target: &str) -> String {
        let params = json!({"targetId": target, "flatten": true});
        let attached = self.ask(None, "Target.attachToTarget", params).await;
        attached["result"]["sessionId"].as_str().unwrap().to_owned()
    }

    /// What the expression is in the page, once it has settled.
    pub(crate) async fn evaluate(&mut self, session: &str, expression: &str) -> Value {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let answer = self.ask(Some(session), "Runtime.evaluate", params).await;
        answer["result"]["result"]["value"].clone()
    }

    /// All pages that the browser has.
    pub(crate) async fn pages(&mut self) -> Vec<Value> {
        let targets = self.ask(None, "Target.getTargets", json!({})).await;
        let mut targets = targets["result"]["targetInfos"].as_array().unwrap().clone();
        targets.retain(|target| target["type"] == "page");
        targets
    }
}
