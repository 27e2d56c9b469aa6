//! What the relay costs: round trips and bulk, with it and without it, alternately.
//!
//! `cargo run --release -p tapline-relay --example cost`
//!
//! The browser is a stand-in that answers each message with one of the same length, so that what is
//! measured is the relay and the loopback, and nothing of a browser.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::ApiService;
use tapline_events::{EventStream, Retention};
use tapline_relay::{Relay, RelayOptions};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD: &str =
    "GET /devtools/browser/1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

/// Round trips of each kind.
const ROUNDS: usize = 20_000;

/// Bytes of each bulk, in messages of this many.
const BULK: usize = 1 << 30;
const LARGE: usize = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let browser = TcpListener::bind("127.0.0.1:0").await?;
    let past = browser.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = browser.accept().await {
            tokio::spawn(answer(socket));
        }
    });
    let stream = EventStream::new(Retention::default())?;
    let session = Arc::new(TelemetrySession::new(stream));
    let api = ApiService::new(session.clone());
    let options = RelayOptions::new(past.to_string());
    let relay = Relay::bind("127.0.0.1:0".parse()?, options, api.publisher()).await?;
    let through = relay.local_addr();
    tokio::spawn(async move { relay.run(std::future::pending()).await });

    for captured in [false, true] {
        if captured {
            session.start("cost", TelemetryConfig::default())?;
        }
        println!("{}", if captured { "captured" } else { "not captured" });
        let mut direct = connect(past).await?;
        let mut relayed = connect(through).await?;
        let text = br#"{"id":1,"method":"Input.dispatchMouseEvent","params":{"type":"mouseMoved","x":10,"y":20}}"#;
        let message = frame(text);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(round(&mut direct, &message, text.len()).await?);
            times[1].push(round(&mut relayed, &message, text.len()).await?);
        }
        for (name, times) in ["direct", "relayed"].into_iter().zip(&mut times) {
            times.sort_unstable();
            let at = |per_mille: usize| times[times.len() * per_mille / 1000];
            println!(
                "  {name}: round trip of {} bytes: median {:?}, 99% {:?}",
                text.len(),
                at(500),
                at(990)
            );
        }
        let large = frame(&vec![b'x'; LARGE]);
        for _ in 0..2 {
            for (name, socket) in [("direct", &mut direct), ("relayed", &mut relayed)] {
                let took = bulk(socket, &large).await?;
                let rate = BULK as f64 / took.as_secs_f64() / 1e6;
                println!("  {name}: {rate:.0} MB/s each way, in messages of 1 MiB");
            }
        }
    }
    println!("{} events", session.seq());
    Ok(())
}

async fn connect(address: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(HEAD.as_bytes()).await?;
    socket.read_exact(&mut vec![0; ANSWER.len()]).await?;
    Ok(socket)
}

async fn round(socket: &mut TcpStream, message: &[u8], length: usize) -> std::io::Result<Duration> {
    let mut back = [0; 256];
    let started = Instant::now();
    socket.write_all(message).await?;
    socket.read_exact(&mut back[..length + 2]).await?;
    Ok(started.elapsed())
}

async fn bulk(socket: &mut TcpStream, message: &[u8]) -> std::io::Result<Duration> {
    let (mut reads, mut writes) = socket.split();
    let started = Instant::now();
    let send = async {
        for _ in 0..BULK / LARGE {
            writes.write_all(message).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    let receive = async {
        let mut buffer = vec![0; 256 * 1024];
        let mut left = BULK / LARGE * (LARGE + 10);
        while left > 0 {
            let take = left.min(buffer.len());
            left -= reads.read(&mut buffer[..take]).await?;
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(started.elapsed())
}

/// Masked by zeros: what is measured does not look at it.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Answers each message with one of the same length, as it comes.
async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    // As it comes, or as the relay writes it anew: up to the empty line.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    socket.write_all(ANSWER.as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let mut header = [0; 14];
        socket.read_exact(&mut header[..2]).await?;
        let mut left = match header[1] & 0x7f {
            127 => {
                socket.read_exact(&mut header[2..10]).await?;
                let length = header[2..10].try_into().map_err(std::io::Error::other)?;
                u64::from_be_bytes(length) as usize
            }
            short => short as usize,
        };
        socket.read_exact(&mut header[10..14]).await?;
        if left < 126 {
            let mut small = [0; 2 + 126];
            small[..2].copy_from_slice(&[0x81, header[1] & 0x7f]);
            socket.read_exact(&mut small[2..2 + left]).await?;
            socket.write_all(&small[..2 + left]).await?;
            continue;
        }
        let back = [&[0x81, 127][..], &(left as u64).to_be_bytes()].concat();
        socket.write_all(&back).await?;
        while left > 0 {
            let take = left.min(buffer.len());
            let length = socket.read(&mut buffer[..take]).await?;
            socket.write_all(&buffer[..length]).await?;
            left -= length;
        }
    }
}
