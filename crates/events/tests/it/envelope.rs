use std::cell::RefCell;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use tapline_events::{EventStream, Item};
use tapline_oapi::{Envelope as Wire, Event, encode::encode_envelope};

use crate::{TestStamp, append, console, stream};

fn parse(json: &str) -> Wire {
    serde_json::from_str(json).unwrap()
}

#[test]
fn it_has_the_next_seq_and_a_time() {
    let micros = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros() as u64
    };
    let stream = stream::<()>(8);
    let before = micros();
    let first = append(&stream, console());
    let second = append(&stream, console().with_ts(17));
    let after = micros();
    assert_eq!((first.seq(), second.seq()), (1, 2));
    assert!(
        before <= first.ts() && first.ts() <= after,
        "set at publish where it is absent"
    );
    assert_eq!(second.ts(), 17, "and kept otherwise");
    assert_eq!(parse(&first.json().whole()).event.ts, first.ts());
    assert_eq!(parse(&second.json().whole()).event.ts, 17);
}

#[test]
fn its_json_has_the_stamp_and_the_event_does_not() {
    let stream = stream::<TestStamp>(8);
    stream
        .transition(|_, _| Ok::<_, ()>(TestStamp(Some("a\"b".into()))))
        .unwrap();
    let mut event = console();
    event
        .source
        .metadata
        .insert("stamp".into(), "the producer's own".into());
    event.source.metadata.insert("zone".into(), "kept".into());
    let event = Arc::new(event);
    let envelope = stream.append(&event, |_| Ok::<_, ()>(())).unwrap();

    let wire = parse(&envelope.json().whole());
    assert_eq!(wire.seq, 1);
    assert_eq!(wire.event.source.metadata["stamp"], "a\"b");
    assert_eq!(wire.event.source.metadata["zone"], "kept");
    assert_eq!(event.source.metadata["stamp"], "the producer's own");
    assert!(
        std::ptr::eq(envelope.event(), &*event),
        "shared, not copied"
    );
}

#[test]
fn its_json_is_made_once_and_shared_by_all() {
    let stream = stream::<()>(64);
    for _ in 0..50 {
        let envelope = append(&stream, console());
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = stream.reader(envelope.seq() - 1);
                thread::spawn(move || match reader.try_next() {
                    Some(Item::Envelope(envelope)) => envelope.json().parts()[0].as_ptr() as usize,
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        let mine = envelope.json().parts()[0].as_ptr() as usize;
        assert!(
            readers
                .into_iter()
                .all(|reader| reader.join().unwrap() == mine)
        );
    }
}

#[test]
fn it_outlives_its_place_in_the_stream() {
    let stream = stream::<()>(1);
    let kept = append(&stream, console().with_ts(5));
    (0..100).for_each(|_| drop(append(&stream, console())));
    assert!(stream.envelope(1).is_none());
    assert_eq!(parse(&kept.json().whole()).seq, 1);
}

/// Every event of a real session keeps its data to the byte, whatever else is added.
#[test]
fn the_recorded_session_comes_through_byte_for_byte() {
    let corpus = include_str!("../../../cli/data/browser-events.ndjson");
    let stream = stream::<TestStamp>(512);
    stream
        .transition(|_, _| Ok::<_, ()>(TestStamp(Some("s".into()))))
        .unwrap();
    for (n, line) in corpus.lines().enumerate() {
        let event: Event = serde_json::from_str(line).unwrap();
        let data = event.data.clone().unwrap();
        let mut expected = Vec::new();
        encode_envelope(
            &mut expected,
            n as u64 + 1,
            event.ts,
            &event,
            Some(("stamp", "s")),
        );
        let envelope = append(&stream, event);
        assert_eq!(envelope.json().whole().as_bytes(), expected);
        assert!(
            envelope
                .json()
                .whole()
                .contains(&format!(r#""data":{}"#, data.get()))
        );
    }
    assert_eq!(stream.head(), 313);
}

/// A thread-local value may be dropped after the buffer in which heads are made. A panic there would abort the process.
#[test]
fn a_thread_that_ends_can_still_ask_for_the_json() {
    struct AtTheEnd(mpsc::Sender<usize>, EventStream);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let envelope = append(&self.1, console());
            let _ = self.0.send(envelope.json().len());
        }
    }
    thread_local! {
        static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }
    let (sender, received) = mpsc::channel();
    let stream = stream::<()>(8);
    thread::spawn(move || {
        AT_THE_END.set(Some(AtTheEnd(sender, stream.clone())));
        // The buffer of the thread is there from here on, and is dropped first.
        append(&stream, console()).json().len()
    })
    .join()
    .unwrap();
    assert!(0 < received.recv().unwrap());
}
