//! The example with axum, asked by a client, with a real server for its events.

use std::io::{Read, Write};
use std::net::TcpStream;

use tapline_tracing::{Options, over_http};
use tracing::subscriber::with_default;
use tracing_subscriber::prelude::*;

use crate::over_http::to;
use crate::rig::{DEADLINE, Service, closes};

#[allow(dead_code, reason = "its `main` listens at a fixed address")]
#[path = "../../examples/axum.rs"]
mod shop;

fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_request_is_a_span_with_its_status_and_its_records() {
    let mut service = Service::new(None);
    service.start();
    let server = service.serve();
    let options = Options {
        service_name: Some("shop".to_owned()),
        ..Options::default()
    };
    let (layer, guard) = over_http(options, to(&server)).unwrap();
    // On one thread, so that the subscriber of that thread sees everything.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(layer), || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let asked = tokio::task::spawn_blocking(move || {
                assert!(ask(address, "/items/7").ends_with("a lamp\n"));
                assert!(ask(address, "/items/8?token=hunter2").starts_with("HTTP/1.1 404"));
            });
            let ended = async { asked.await.unwrap() };
            axum::serve(listener, shop::shop())
                .with_graceful_shutdown(ended)
                .await
                .unwrap();
        });
    });
    closes(&guard.shutdown(DEADLINE), 4);

    let events = service.rest();
    let [found, first, missing, second] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(found["data"]["message"], "found");
    assert_eq!(found["data"]["fields"]["in_stock"], 3);
    assert_eq!(missing["data"]["level"], "warn");
    for (record, request, path, status) in [
        (found, first, "/items/7", 200),
        (missing, second, "/items/8", 404),
    ] {
        assert_eq!(request["type"], "span_end");
        let data = &request["data"];
        assert_eq!(
            (&data["name"], &data["service_name"]),
            (&"request".into(), &"shop".into())
        );
        assert_eq!(
            data["fields"],
            serde_json::json!({"method": "GET", "path": path, "status": status})
        );
        assert_eq!(
            record["source"]["metadata"]["span_id"],
            request["source"]["metadata"]["span_id"]
        );
        assert_eq!(record["data"]["spans"][0]["fields"]["path"], path);
    }
    assert_ne!(
        first["source"]["metadata"]["trace_id"],
        second["source"]["metadata"]["trace_id"]
    );
}
