//! A proxy in front of the server, which loses what the test asks it to lose, and [one](distant) that only delays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tapline_nats::NatsOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    faults: Arc<Faults>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Faults {
    /// Connections are closed, and no new one lasts.
    is_cut: watch::Sender<bool>,
    /// What the server sends is dropped from the next block on that is published.
    loses_acks: AtomicBool,
    /// So many blocks are not passed on: the connection is closed instead.
    refuses: AtomicUsize,
    published: AtomicUsize,
    /// Blocks are not passed on before their turn, which they get in the order of arrival.
    holds: AtomicBool,
    held: AtomicUsize,
    turns: Turns,
}

struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Proxy {
    pub(crate) async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::<Faults>::default();
        let accepting = {
            let faults = faults.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(pass(client, server, faults.clone()));
                }
            })
        };
        Self {
            port,
            faults,
            accepting,
        }
    }

    pub(crate) fn options(&self) -> NatsOptions {
        NatsOptions::new(&format!("nats://127.0.0.1:{}", self.port)).unwrap()
    }

    /// No connection gets through until [`mend`](Self::mend).
    pub(crate) fn cut(&self) {
        self.faults.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.faults.loses_acks.store(false, Ordering::SeqCst);
        self.faults.is_cut.send_replace(false);
    }

    /// Blocks reach the server, and its answers are lost.
    pub(crate) fn lose_acks(&self) {
        self.faults.loses_acks.store(true, Ordering::SeqCst);
    }

    pub(crate) fn refuse(&self, blocks: usize) {
        self.faults.refuses.store(blocks, Ordering::SeqCst);
    }

    /// Holds each block back until it is [let through](Self::let_one_through), whatever the client does meanwhile.
    pub(crate) fn hold(&self, holds: bool) {
        self.faults.holds.store(holds, Ordering::SeqCst);
    }

    pub(crate) fn held(&self) -> usize {
        self.faults.held.load(Ordering::SeqCst)
    }

    pub(crate) fn let_one_through(&self) {
        self.faults.turns.0.add_permits(1);
    }

    /// How many times something was published over it.
    pub(crate) fn published(&self) -> usize {
        self.faults.published.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: u16, faults: Arc<Faults>) {
    let mut is_cut = faults.is_cut.subscribe();
    if *is_cut.borrow() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let loses = AtomicBool::new(false);
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &buffer[..len];
            if has_block(bytes) {
                faults.published.fetch_add(1, Ordering::SeqCst);
                let refuses = &faults.refuses;
                let less = refuses
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
                if less.is_ok() {
                    return;
                }
                if faults.holds.load(Ordering::SeqCst) {
                    faults.held.fetch_add(1, Ordering::SeqCst);
                    faults.turns.0.acquire().await.unwrap().forget();
                }
                loses.fetch_or(faults.loses_acks.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            if to_server.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from_server.read(&mut buffer).await {
            let is_lost = loses.load(Ordering::SeqCst);
            if !is_lost && to_client.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = is_cut.wait_for(|it| *it) => {}
    }
}

fn has_block(bytes: &[u8]) -> bool {
    let subject = b"HPUB tapline.blocks.";
    bytes.windows(subject.len()).any(|it| it == subject)
}

/// A server from and to which each byte takes that long.
pub(crate) async fn distant(server: u16, delay: Duration) -> NatsOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                continue;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            later(from_client, to_server, delay);
            later(from_server, to_client, delay);
        }
    });
    NatsOptions::new(&format!("nats://127.0.0.1:{port}")).unwrap()
}

fn later(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (arrived, mut under_way) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let _ = arrived.send((Instant::now() + delay, buffer[..len].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
