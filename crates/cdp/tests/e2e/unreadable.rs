//! A browser that sends what cannot be read.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tapline_api::{ApiService, Backend};
use tapline_cdp::{CdpSource, SourceOptions};
use tapline_events::{EventStream, Retention};
use tapline_oapi::ConfigRequest;
use tapline_telemetry::TelemetrySession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::DEADLINE;

/// Says where its DevTools are, and sends two messages that cannot be read to each client.
async fn broken_browser(listener: TcpListener) {
    let address = listener.local_addr().unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = [0; 64];
        let read = stream.peek(&mut head).await.unwrap();
        if head[..read].starts_with(b"GET /json/version") {
            let body =
                json!({"webSocketDebuggerUrl": format!("ws://{address}/devtools/browser/1")});
            let answer = crate::site::ok("application/json", &body.to_string());
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        tokio::spawn(async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            for message in ["{", r#"{"method":"Target.attachedToTarget","params":7}"#] {
                socket.send(Message::text(message)).await.unwrap();
            }
            while let Some(Ok(_)) = socket.next().await {}
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_read_are_counted_over_all_sessions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(broken_browser(listener));
    let options = SourceOptions::new(endpoint.parse().unwrap());
    let source = CdpSource::new(options, Handle::current());
    let session = TelemetrySession::new(EventStream::new(Retention::default()).unwrap());
    let api = ApiService::new(session).with_source(source);
    let unreadable = || {
        let sources = api.metrics().sources;
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].0, "browser");
        sources[0].1.unreadable
    };
    assert_eq!(unreadable(), 0);
    for expected in [2, 4] {
        api.put(&ConfigRequest::default()).await.unwrap();
        let counted = tokio::time::timeout(DEADLINE, async {
            while unreadable() < expected {
                tokio::task::yield_now().await;
            }
        });
        counted.await.unwrap();
        api.delete().await.unwrap();
        assert_eq!(unreadable(), expected);
    }
}
