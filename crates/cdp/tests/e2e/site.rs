//! The pages that the browser visits, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The round trip to a distant server, for pages that request it.
const LATENCY: Duration = Duration::from_millis(40);

/// A server of pages, and one that says back over a WebSocket what it is emitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    echo: SocketAddr,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Self {
            address: pages.local_addr().unwrap(),
            echo: sockets.local_addr().unwrap(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = pages.accept().await {
                tokio::spawn(answer(stream, site));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = sockets.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        site
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn echo(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn answer(mut stream: TcpStream, site: Site) {
    let mut request = Vec::new();
    // With what was posted, or the browser would be cut off while it sends it.
    let head = loop {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(head) = whole(&request) {
            break head;
        }
    };
    let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if target.contains("latency") {
        tokio::time::sleep(LATENCY).await;
    }
    let html = |page: &str| {
        let page = page.replace("ECHO", &site.echo.to_string());
        let page = page.replace("SITE", &site.address.to_string());
        ok("text/html", &page)
    };
    let text = match path {
        "/everything" => html(include_str!("pages/everything.html")),
        "/frame" => html("<script>console.log('in a frame')</script>"),
        "/count" => html(include_str!("pages/count.html")),
        "/flood" => html(include_str!("pages/flood.html")),
        "/tabs" => html(include_str!("pages/tabs.html")),
        "/tab" => html("<script>console.log('tab ' + location.search)</script>"),
        "/form" => html(include_str!("pages/form.html")),
        "/outer" => html(include_str!("pages/outer.html")),
        "/middle" => html(include_str!("pages/middle.html")),
        "/inner" => html(include_str!("pages/inner.html")),
        "/policy" => html(include_str!("pages/policy.html")),
        // May be stored in the back/forward cache.
        "/visited" => {
            html(include_str!("pages/visited.html")).replace("cache-control: no-store\r\n", "")
        }
        "/first" => html(&format!(
            "<title>first</title><script src='/first.js?{query}'></script>"
        )),
        "/first.js" => ok(
            "text/javascript",
            &format!("fetch('/data.json?{query}').then((it) => it.text())"),
        ),
        "/answers" => html(include_str!("pages/answers.html")),
        "/bodies" => html(include_str!("pages/bodies.html")),
        "/sockets" => html(include_str!("pages/sockets.html")),
        "/shop" => html(&format!(
            "<iframe src='http://localhost:{}/bank'></iframe>",
            site.address.port()
        )),
        "/bank" => html("<script>console.log('bank is there')</script>"),
        // Less than it promises.
        "/cut" => ok("text/plain", &"x".repeat(999)).replace("xx", "x"),
        // Ends when its reader goes away.
        "/endless" => return chunks(stream, u32::MAX).await,
        "/lasting" => return chunks(stream, 40).await,
        "/download" => ok("application/octet-stream", "downloaded").replacen(
            "\r\n",
            "\r\ncontent-disposition: attachment; filename=x.bin\r\n",
            1,
        ),
        "/contents" => html(include_str!("pages/contents.html")),
        "/utf8" => match target.contains("events") {
            true => ok("text/event-stream", "data: Grüße 你好\n\n"),
            false => ok("text/plain", "data: Grüße 你好\n\n"),
        },
        "/latin1" => {
            let mut answer = ok("text/plain; charset=iso-8859-1", "Gr__e").into_bytes();
            let end = answer.len() - 3;
            answer[end..][..2].copy_from_slice(b"\xFC\xDF");
            let _ = stream.write_all(&answer).await;
            return;
        }
        "/kept" => ok("text/plain", "kept").replace("no-store", "max-age=3600"),
        "/load" => html(include_str!("pages/load.html")),
        // Has the page that it leads to rendered ahead of time.
        "/ahead" => html(include_str!("pages/ahead.html")),
        "/blank" => html("<title>blank</title>"),
        "/worker.js" => ok("text/javascript", include_str!("pages/worker.js")),
        "/data.json" => ok("application/json", r#"{"shop":"open"}"#),
        "/redirect" => "HTTP/1.1 302 Found\r\nlocation: /data.json\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
            .to_owned(),
        "/login" => ok("application/json", "{}").replacen(
            "\r\n",
            "\r\nset-cookie: session=COOKIE-SECRET; path=/\r\n",
            1,
        ),
        // Never answered: until the page gives it up.
        "/slow" => {
            let _ = stream.read_u8().await;
            return;
        }
        _ if path.starts_with("/answer/") => {
            let status = &path["/answer/".len()..];
            let length = match (status, head.starts_with("HEAD ")) {
                ("204", _) => "",
                (_, true) => "content-length: 5\r\n",
                (_, false) => "content-length: 0\r\n",
            };
            format!("HTTP/1.1 {status} As asked\r\n{length}connection: close\r\n\r\n")
        }
        _ => "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\n\
             content-length: 4\r\nconnection: close\r\n\r\nnone"
            .to_owned(),
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A text of so many chunks, one each 100 ms.
async fn chunks(mut stream: TcpStream, n: u32) {
    let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n"
        .to_owned();
    for _ in 0..n {
        text.push_str("6\r\ntoken\n\r\n");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        text.clear();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
}

/// The head, once all of the body is there.
fn whole(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines().map(str::to_ascii_lowercase);
    let length = lines.find_map(|it| it.strip_prefix("content-length:")?.trim().parse().ok());
    (length.unwrap_or(0) <= body.len()).then(|| head.to_owned())
}

pub(crate) fn ok(content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The body of an answer from loopback; none where there is none.
pub(crate) async fn get(port: u16, path: &str) -> Option<String> {
    ask(port, "GET", path).await
}

/// The same for any method.
pub(crate) async fn ask(port: u16, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
        if let Some(head) = whole(&answer) {
            let text = String::from_utf8_lossy(&answer);
            return Some(text[head.len() + 4..].to_owned());
        }
    }
}
