//! The server is stopped, or killed, under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::program::Server;
use crate::wire::{Caller, Follower, in_time};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_stop_is_delivered() {
    stop_under_load(4, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_every_follower_is_notified_and_resumes() {
    kill_under_load(3, 8).await;
}

/// Events in one call.
const BATCH: usize = 20;

fn batch() -> String {
    "{\"type\":\"step\",\"category\":\"control\"}\n".repeat(BATCH)
}

/// A server is stopped while publishers publish: every event that was acknowledged by then is delivered to
/// every follower, and then the notice `bye`.
pub(crate) async fn stop_under_load(publishers: usize, followers: usize) {
    let server = Server::start();
    let mut following = JoinSet::new();
    for n in 0..followers {
        let filter = ["", "&category=control", "&type=step"][n % 3];
        let mut follower = in_time(Follower::open(server.address(), filter, ""))
            .await
            .unwrap();
        following.spawn(async move {
            let mut last = 0;
            loop {
                let frame = follower.expect().await;
                if let Some(seq) = frame.seq() {
                    assert_eq!(seq, last + 1);
                    last = seq;
                } else if frame.name == "bye" {
                    assert_eq!(frame.number("last_seq"), Some(last));
                    assert_eq!(frame.json()["reason"], "shutdown");
                    assert!(frame.retry.is_some(), "when to come back");
                    assert!(in_time(follower.next()).await.is_none());
                    return last;
                } else {
                    assert_ne!(frame.name, "gap", "{}", frame.data);
                }
            }
        });
    }
    let acknowledged = Arc::new(AtomicU64::new(0));
    let is_asked_to_stop = Arc::new(AtomicBool::new(false));
    let mut publishing = JoinSet::new();
    for _ in 0..publishers {
        let mut caller = in_time(Caller::connect(server.address())).await.unwrap();
        let (acknowledged, is_asked_to_stop) = (acknowledged.clone(), is_asked_to_stop.clone());
        publishing.spawn(async move {
            let mut has_ended = false;
            // Up to the end of the server, which is the end of the connection.
            while let Ok(answer) = caller.publish(&batch()).await {
                assert_eq!(answer.offered, BATCH as u64);
                // The session ends before the connections do: from there on nothing is published, and the
                // answers say so.
                assert!(!has_ended || answer.published == 0, "{answer:?}");
                has_ended = answer.published < answer.offered;
                assert!(!has_ended || is_asked_to_stop.load(SeqCst), "{answer:?}");
                acknowledged.fetch_max(answer.last, SeqCst);
            }
        });
    }
    in_time(async {
        while acknowledged.load(SeqCst) < 2000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    is_asked_to_stop.store(true, SeqCst);
    server.running.signal(Signal::TERM);
    let mut lasts = Vec::new();
    while let Some(last) = following.join_next().await {
        lasts.push(last.unwrap());
    }
    in_time(publishing.join_all()).await;
    let acknowledged = acknowledged.load(SeqCst);
    for last in lasts {
        assert!(
            acknowledged <= last,
            "{acknowledged} acknowledged, and {last} was the last"
        );
    }
    assert_eq!(
        tokio::task::spawn_blocking(|| server.running.end().code)
            .await
            .unwrap(),
        Some(0)
    );
}

/// A server is killed while others publish and follow, and started anew at the same address, over and over.
/// Every follower reconnects, receives the notice of another epoch, and gets the events from the first.
pub(crate) async fn kill_under_load(rounds: usize, followers: usize) {
    let mut server = Server::start();
    let address = server.address().to_owned();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut following = JoinSet::new();
    for n in 0..followers {
        let (address, sender) = (address.clone(), sender.clone());
        let filter = ["", "&category=control", "&type=step"][n % 3];
        following.spawn(async move {
            let (mut cursor, mut epochs) = (String::new(), BTreeSet::new());
            while epochs.len() <= rounds {
                let mut follower = Follower::open_again(&address, filter, &cursor).await;
                let Some(hello) = in_time(follower.next()).await else {
                    continue;
                };
                assert_eq!(hello.name, "hello");
                let reason = hello.json()["reason"].clone();
                let expected = if cursor.is_empty() {
                    "fresh"
                } else {
                    "other_epoch"
                };
                assert_eq!(reason, expected, "{}", hello.data);
                let mut last = hello.number("used").unwrap();
                let is_new = epochs.insert(hello.json()["epoch"].to_string());
                assert!(is_new, "back with the one that was killed");
                // The kill ends the connection, and so the stream.
                let mut is_first = true;
                while let Some(frame) = in_time(follower.next()).await {
                    if let Some(seq) = frame.seq() {
                        assert_eq!(seq, last + 1);
                        last = seq;
                        cursor = frame.id;
                        if std::mem::take(&mut is_first) {
                            sender.send(n).unwrap();
                        }
                        if epochs.len() > rounds {
                            break;
                        }
                    } else if frame.name == "gap" {
                        last = frame.number("to").unwrap();
                    }
                }
            }
        });
    }
    let (stop, mut stopped) = oneshot::channel::<()>();
    let publishing = tokio::spawn(async move {
        let mut caller = Caller::connect_again(&address).await;
        while stopped.try_recv().is_err() {
            if caller.publish(&batch()).await.is_err() {
                caller = Caller::connect_again(&address).await;
            }
            tokio::task::yield_now().await;
        }
    });
    for round in 0..=rounds {
        // Every follower has connected to the running server, and received something from it.
        let mut here = BTreeSet::new();
        while here.len() < followers {
            here.insert(in_time(receiver.recv()).await.unwrap());
        }
        if round < rounds {
            server.running.signal(Signal::KILL);
            let listen = server.address().to_owned();
            let next = move || {
                assert_eq!(server.running.end().code, None);
                Server::with(&["serve", "--listen", &listen, "--start"])
            };
            server = tokio::task::spawn_blocking(next).await.unwrap();
        }
    }
    in_time(following.join_all()).await;
    stop.send(()).unwrap();
    in_time(publishing).await.unwrap();
}
