//! The OpenAPI document: what it promises is there, and what is there it tells.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::http::{Connection, get, request};
use crate::server::running;

const COMMITTED: &str = include_str!("../../../oapi/openapi.json");
const ROUTES: &str = include_str!("../../src/route.rs");

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
async fn the_server_tells_the_committed_document() {
    let answer = running().await.call(&get("/openapi.json")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text() == COMMITTED);
}

/// A method that is not in the document is refused, and the refusal tells exactly those that are.
#[tokio::test]
async fn what_the_document_tells_answers_and_nothing_else() {
    let server = running().await;
    for (path, mut methods) in documented() {
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

/// Routes cannot be asked for, so their source is.
#[test]
fn every_route_is_in_the_document() {
    let routes: BTreeSet<_> = ROUTES
        .split_once("fn as_str")
        .unwrap()
        .1
        .split("=> \"/")
        .skip(1)
        .map(|rest| format!("/{}", rest.split('"').next().unwrap()))
        .filter(|path| !path.starts_with("/page."))
        .collect();
    assert!(!routes.is_empty());
    assert_eq!(routes, documented().into_keys().collect());
}
