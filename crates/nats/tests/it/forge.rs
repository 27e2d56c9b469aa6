//! Blocks that a test stores itself, in an order in which no sink would.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use tapline_archive::block::BlockBuilder;
use tapline_events::Epoch;
use tapline_nats::message::Head;
use tapline_nats::stream_name;
use tapline_oapi::{Category, EventType};

use crate::rig::{Rig, name, options};
use crate::server::Server;

pub(crate) struct Forge {
    jetstream: Context,
    stored: AtomicU64,
}

/// A block of the run with this number, and the last seq of it that was stored before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) run: u64,
    pub(crate) previous: u64,
    pub(crate) seqs: RangeInclusive<u64>,
}

pub(crate) fn block(run: u64, previous: u64, seqs: RangeInclusive<u64>) -> Block {
    Block {
        run,
        previous,
        seqs,
    }
}

pub(crate) fn epoch(run: u64) -> Epoch {
    Epoch::from_bits(run)
}

impl Forge {
    /// With a stream of one partition, as a sink creates it.
    pub(crate) async fn new(server: &Server) -> Self {
        let creator = Rig::new(options(server.options(), "creator"));
        creator.publish_some(1);
        creator.stop().await;
        Self {
            jetstream: server.jetstream().await,
            stored: AtomicU64::new(0),
        }
    }

    pub(crate) async fn stream(&self) -> Stream {
        self.jetstream.get_stream(stream_name(0)).await.unwrap()
    }

    /// Stores it, whatever is stored already, and gives its place. The time of each event is its seq.
    pub(crate) async fn store(&self, instance: &str, block: &Block) -> u64 {
        self.store_at(instance, block, |seq| seq).await
    }

    /// With these times.
    pub(crate) async fn store_at(
        &self,
        instance: &str,
        block: &Block,
        time: impl Fn(u64) -> u64,
    ) -> u64 {
        let mut builder = BlockBuilder::new();
        let event_type = EventType::new("step").unwrap();
        for seq in block.seqs.clone() {
            let (ts, run) = (time(seq), block.run);
            let json = format!(
                r#"{{"seq":{seq},"event":{{"ts":{ts},"type":"step","category":"control","source":{{"kind":"local_process"}},"data":{run}}}}}"#
            );
            builder.push(seq, ts, Category::Control, &event_type, (&*json).into());
        }
        let mut payload = Vec::new();
        let meta = builder.finish(epoch(block.run), block.previous, 0, &mut payload);
        let mut headers = Head::headers(&meta.unwrap(), &name(instance), &[]);
        // The server would take a second one for the first.
        let n = self.stored.fetch_add(1, Ordering::Relaxed);
        headers.insert("Nats-Msg-Id", format!("forged-{n}"));
        let subject = format!("tapline.blocks.0.{instance}");
        let sent = self
            .jetstream
            .publish_with_headers(subject, headers, payload.into());
        sent.await.unwrap().await.unwrap().sequence
    }

    pub(crate) async fn store_all(&self, instance: &str, blocks: &[Block]) {
        for block in blocks {
            self.store(instance, block).await;
        }
    }
}
