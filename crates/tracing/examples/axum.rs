//! A small shop, whose requests and log records are events of a Tapline session.
//!
//! ```sh
//! tapline serve --start
//! cargo run -p tapline-tracing --example axum -- http://127.0.0.1:10001
//! curl http://127.0.0.1:8080/items/7
//! tapline tail
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use tapline_tracing::{HttpOptions, Options, over_http};
use tracing::{Instrument as _, field, info, info_span, warn};
use tracing_subscriber::prelude::*;

/// The routes, with a span around each request.
pub(crate) fn shop() -> Router {
    Router::new()
        .route("/items/{id}", get(item))
        .layer(from_fn(in_a_span))
}

async fn item(Path(id): Path<u32>) -> Result<String, StatusCode> {
    if id == 7 {
        info!(id, in_stock = 3, "found");
        Ok("a lamp\n".to_owned())
    } else {
        warn!(id, "no such item");
        Err(StatusCode::NOT_FOUND)
    }
}

/// The span ends with the answer, and has its status.
async fn in_a_span(request: Request, next: Next) -> Response {
    let span = info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        status = field::Empty
    );
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "http://127.0.0.1:10001".to_owned());
    let options = Options {
        service_name: Some("shop".to_owned()),
        ..Options::default()
    };
    let (events, guard) = over_http(options, HttpOptions::new(url))?;
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer())
        .with(events)
        .init();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    info!(address = %listener.local_addr()?, "listening");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, shop())
        .with_graceful_shutdown(stop)
        .await?;

    // It blocks, for two seconds at most.
    let ended = tokio::task::spawn_blocking(|| guard.shutdown(Duration::from_secs(2)));
    println!("{:?}", ended.await?);
    Ok(())
}
