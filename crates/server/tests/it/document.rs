//! The OpenAPI document and the server agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tapline_oapi::KnownType;

use crate::http::{Connection, get, request};
use crate::server::running;

const COMMITTED: &str = include_str!("../../../oapi/openapi.json");

/// The methods of each path, in capitals.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            (
                path.clone(),
                methods.map(|method| method.to_uppercase()).collect(),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_server_sends_the_committed_document() {
    let answer = running().await.call(&get("/openapi.json")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text() == COMMITTED);
}

/// A method that is not in the document is refused, and the answer lists exactly those that are.
#[tokio::test]
async fn the_server_answers_what_the_document_has_and_nothing_else() {
    for (path, mut methods) in documented() {
        // One that has an event for `wait`, and a session, which a call may end.
        let server = running().await;
        server.publish(KnownType::PageLoad);
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        for method in [
            "GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE",
        ] {
            let mut connection = Connection::open(server.addr).await;
            connection
                .write(&request(method, &path).body("").bytes())
                .await;
            let head = connection.head().await;
            assert_ne!(head.status, 404, "{method} {path}");
            assert_eq!(
                head.status == 405,
                !methods.contains(method),
                "{method} {path}"
            );
            if head.status == 405 {
                let allow: BTreeSet<_> = head
                    .header("allow")
                    .unwrap()
                    .split(',')
                    .map(|method| method.trim().to_owned())
                    .collect();
                assert_eq!(allow, methods, "{path}");
            }
        }
    }
}
