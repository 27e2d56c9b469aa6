//! The page that the browser of `tapline demo` visits, on loopback.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAGE: &str = include_str!("../data/demo.html");

/// The largest request that is read, and for how long.
const MAX_REQUEST: usize = 16 * 1024;
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Serves it until the runtime ends; returns its address.
pub(crate) async fn serve() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // An error means that the client has disconnected.
                let _ = tokio::time::timeout(READ_WITHIN, answer(stream)).await;
            });
        }
    });
    Ok(url)
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 || MAX_REQUEST < request.len() {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(['?', ' ']).nth(1).unwrap_or_default();
    let (status, headers, body) = match path {
        "/" => ("200 OK", "content-type: text/html", PAGE),
        "/basket" => (
            "200 OK",
            "content-type: application/json",
            r#"{"items":3,"total":12.5}"#,
        ),
        "/old-basket" => ("302 Found", "location: /basket", ""),
        _ => ("404 Not Found", "content-type: text/plain", "no such page"),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {length}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
