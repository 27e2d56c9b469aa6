//! The stream of many instances is read by places in the streams of the broker. What follows a place may be deleted, and the
//! stream be another one.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tapline_api::{Fleet, FleetEvent, FleetQuery, FleetReader};
use tapline_nats::NatsFleet;
use tokio::time::timeout;

use crate::forge::{Forge, block};
use crate::gateway::{Account, fleet, many};
use crate::rig::PATIENCE;
use crate::server::Server;

/// What is read until the reader cannot continue: instance and seq of events and of what is lost.
async fn to_the_end(reader: &mut dyn FleetReader) -> Vec<(String, u64)> {
    let mut read = Vec::new();
    let reading = async {
        while let Some(items) = reader.next().await {
            for item in items {
                let name = item.instance.to_string();
                match item.what {
                    FleetEvent::Event(envelope) => read.push((name, envelope.seq())),
                    FleetEvent::Lost(lost) => {
                        read.extend((lost.first..=lost.last).map(|seq| (name.clone(), seq)));
                    }
                    FleetEvent::Epoch { .. } => {}
                }
            }
        }
    };
    let ended = timeout(PATIENCE, reading).await;
    assert!(ended.is_ok(), "it does not end: {read:?}");
    read
}

async fn resumed(fleet: &NatsFleet, cursor: &str) -> Box<dyn FleetReader> {
    let query = FleetQuery {
        after: Some(cursor.to_owned()),
        ..FleetQuery::default()
    };
    fleet.read(&query).await.unwrap()
}

#[tokio::test]
async fn a_stream_that_is_made_anew_ends_the_reader_and_is_read_from_its_beginning() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    let fleet = fleet(&server).await;
    let mut reader = fleet
        .read(&many(&[("replay", "all"), ("instances", "shop*")]))
        .await
        .unwrap();
    for n in 1..=5 {
        forge.store("shop", &block(1, n - 1, n..=n)).await;
    }
    let mut account = Account::default();
    account.read(&mut *reader, 5).await;
    let jetstream = server.jetstream().await;
    jetstream.delete_stream("tapline-0").await.unwrap();
    // More is stored in the new one than was in the one before, so its places alone do not show that it is another one.
    let forge = Forge::new(&server).await;
    for n in 1..=30 {
        forge.store("shop-2", &block(2, n - 1, n..=n)).await;
    }
    let read = to_the_end(&mut *reader).await;
    let cursor = reader.cursor();
    let mut reader = resumed(&fleet, &cursor).await;
    assert!(reader.is_evicted(), "{read:?}");
    let mut account = Account::default();
    // With the event of the sink that has made the stream. The consumer of the gateway may notice later than this reader that
    // the stream is another one, and ends it then: a client resumes again.
    while !account.has_read(&mut *reader, 31).await {
        let cursor = reader.cursor();
        reader = resumed(&fleet, &cursor).await;
    }
    assert_eq!(account.events["shop-2"], (1..=30).collect::<Vec<_>>());
    assert!(!resumed(&fleet, &reader.cursor()).await.is_evicted());
}

#[tokio::test]
async fn what_is_deleted_before_a_slow_client_has_it_is_reported() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    let fleet = fleet(&server).await;
    let mut reader = fleet.read(&many(&[])).await.unwrap();
    // More than wait for a client, of an instance that it has not seen before.
    for n in 1..=200 {
        forge.store("shop", &block(1, n - 1, n..=n)).await;
    }
    let stream = forge.stream().await;
    stream.purge().sequence(190).await.unwrap();
    let read = to_the_end(&mut *reader).await;
    let got = read.len() as u64;
    assert!(got < 188, "nothing was deleted before it was read");
    let seqs: Vec<_> = read.iter().map(|it| it.1).collect();
    assert_eq!(seqs, (1..=got).collect::<Vec<_>>());
    let mut reader = resumed(&fleet, &reader.cursor()).await;
    assert!(reader.is_evicted());
    let mut account = Account::default();
    account.read(&mut *reader, 12).await;
    assert_eq!(account.events["shop"], (189..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_no_gateway_has_given_is_refused_or_reported() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    for n in 1..=5 {
        forge.store("shop", &block(1, n - 1, n..=n)).await;
    }
    let fleet = fleet(&server).await;
    for wrong in [
        "",
        "5",
        "5-00000000c0ffee00",
        "_____w",
        "AQ",
        "x".repeat(9000).as_str(),
    ] {
        let refused = fleet.read(&many(&[("after", wrong)])).await.err().unwrap();
        assert_eq!(refused.code().as_str(), "invalid_query", "{wrong}");
    }
    let mut reader = fleet.read(&many(&[("replay", "all")])).await.unwrap();
    let mut account = Account::default();
    account.read(&mut *reader, 6).await;
    let cursor = URL_SAFE_NO_PAD.decode(reader.cursor()).unwrap();
    // Each byte of a true one changed, and numbers as large as there are.
    let mut wrong = Vec::new();
    for at in 0..cursor.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = cursor.clone();
            changed[at] = byte;
            wrong.push(changed.clone());
            changed.truncate(at + 1);
            changed.extend([0xff; 8]);
            changed.extend([0x7f; 4]);
            wrong.push(changed);
        }
    }
    for wrong in wrong {
        let text = URL_SAFE_NO_PAD.encode(&wrong);
        let Ok(mut reader) = fleet.read(&many(&[("after", &text)])).await else {
            continue;
        };
        // Whatever it is a place of, what is stored behind it comes.
        let n = forge.stream().await.cached_info().state.last_sequence;
        // A cursor can say that the first of them was read in part.
        for n in n..n + 2 {
            forge.store("shop", &block(1, n - 1, n..=n)).await;
        }
        let read = timeout(PATIENCE, reader.next()).await;
        assert!(read.is_ok(), "{wrong:?}");
    }
}

#[tokio::test]
async fn without_the_broker_a_reader_is_refused_in_time() {
    let Some(mut server) = Server::start() else {
        return;
    };
    Forge::new(&server).await;
    let mut options = server.options();
    options.request_timeout = Duration::from_millis(300);
    let fleet = NatsFleet::open(&options, tapline_nats::GATEWAY_RETENTION)
        .await
        .unwrap();
    server.kill();
    for _ in 0..2 {
        let begin = Instant::now();
        let refused = timeout(PATIENCE, fleet.read(&many(&[]))).await;
        let refused = refused.expect("it is answered").err().unwrap();
        assert_eq!(refused.code().as_str(), "unavailable");
        let refused = timeout(PATIENCE, fleet.open("creator")).await;
        let refused = refused.expect("it is answered").err().unwrap();
        assert_eq!(refused.code().as_str(), "unavailable");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    server.restart();
    let mut reader = loop {
        if let Ok(reader) = fleet.read(&many(&[("replay", "all")])).await {
            break reader;
        }
    };
    let mut account = Account::default();
    account.read(&mut *reader, 1).await;
}

#[tokio::test]
async fn only_the_blocks_of_a_whole_name_are_read_and_all_of_them() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    for n in 1..=40 {
        forge.store("other", &block(2, n - 1, n..=n)).await;
        if n % 10 == 0 {
            let n = n / 10;
            forge.store("shop", &block(1, n - 1, n..=n)).await;
        }
    }
    let fleet = fleet(&server).await;
    let of_one = |after: Option<&str>| FleetQuery {
        after: after.map(str::to_owned),
        ..many(&[("replay", "all"), ("instances", "shop")])
    };
    let mut reader = fleet.read(&of_one(None)).await.unwrap();
    let mut account = Account::default();
    account.read(&mut *reader, 4).await;
    for n in 5..=8 {
        forge.store("shop", &block(1, n - 1, n..=n)).await;
        forge
            .store("other", &block(2, 35 + n, 36 + n..=36 + n))
            .await;
    }
    account.read(&mut *reader, 8).await;
    assert_eq!(account.events.len(), 1);
    assert_eq!(account.events["shop"], (1..=8).collect::<Vec<_>>());
    assert!(account.lost.is_empty());
    for (n, cursor) in account.cursors.iter().enumerate().take(7) {
        let mut resumed = fleet.read(&of_one(Some(cursor))).await.unwrap();
        assert!(!resumed.is_evicted());
        let mut rest = Account::default();
        rest.read(&mut *resumed, 7 - n as u64).await;
        assert_eq!(rest.events["shop"], (n as u64 + 2..=8).collect::<Vec<_>>());
        assert!(rest.lost.is_empty());
    }
}
