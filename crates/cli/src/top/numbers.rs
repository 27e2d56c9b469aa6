//! What the server says of itself, at one time.

use serde::Deserialize;
use tapline_client::{Client, Error};
use tapline_oapi::{Category, EventCounts, ReaderList, SinkList, State};

/// The events of so many seconds are counted, second by second.
pub(super) const SECONDS: usize = 30;

/// How many requests in flight are asked for.
pub(super) const MOST_PENDING: usize = 100;

#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) state: Option<State>,
    pub(super) sinks: SinkList,
    pub(super) readers: ReaderList,
    pub(super) counts: EventCounts,
    /// Requests in flight, oldest first.
    pub(super) pending: Vec<Pending>,
    /// When all of this was read, in microseconds since the Unix epoch.
    pub(super) ts: u64,
}

/// A request without an answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Pending {
    pub(super) seq: u64,
    pub(super) ts: u64,
    pub(super) method: String,
    pub(super) url: String,
}

impl Numbers {
    pub(super) async fn read(client: &Client) -> Result<Self, Error> {
        let counts = format!("/telemetry/counts?since={SECONDS}s&until=0s&buckets={SECONDS}");
        let pending = format!("/telemetry/requests?status=pending&limit={MOST_PENDING}");
        let (state, sinks, readers, counts, pending) = tokio::try_join!(
            client.state(),
            client.sinks(),
            client.readers(),
            client.get(&counts),
            client.get(&pending),
        )?;
        let (counts, mut pending) = (
            client.read(&counts)?,
            client.read::<Vec<Pending>>(&pending)?,
        );
        pending.sort_by_key(|it| it.ts);
        Ok(Self {
            state,
            sinks,
            readers,
            counts,
            pending,
            ts: u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0),
        })
    }

    /// The events of a category in each second, oldest first.
    pub(super) fn by_second(&self, category: Category) -> Vec<u64> {
        let buckets = self.counts.buckets.iter();
        buckets
            .map(|it| it.by_category.get(&category).copied().unwrap_or(0))
            .collect()
    }
}
