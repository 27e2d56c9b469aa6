//! One instance as a gateway serves it: [`Instance`].
//!
//! A ring with its newest events, which is fed from the broker, and behind it what the broker has stored. So streams
//! cost what they cost in the instance itself, and a client sees no difference.
//!
//! # Generations
//!
//! A ring has events of one epoch without a hole. Where the instance has another epoch, or events of it are missing,
//! this instance is over: its streams end behind the last event, and clients resume at the next one, which reads what
//! they have not had from the broker and says what is missing.

use std::time::{Duration, UNIX_EPOCH};

use tapline_api::{
    ApiError, ApiService, Backend, BackendMetrics, Behind, Epoch, HistoryError, Opened, Page,
    PageQuery, Published, PutAnswer, Retained, Retention, SessionSubscription, SharedEnvelope,
    StreamQuery, Trace,
};
use tapline_archive::block::{DecodedBlock, Meta};
use tapline_events::{Cursor, EventStream, Filter};
use tapline_oapi::data::PlatformApiCall;
use tapline_oapi::{
    BatchResult, Category, ConfigRequest, Envelope, LineError, PublishRequest, State,
};
use tapline_telemetry::{Session, SessionState, TelemetryConfig, TelemetrySession};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::control::{Answer, Caller, Operation};
use crate::error::with_sources;
use crate::gateway::broker;
use crate::gateway::follow::{News, Watch};
use crate::gateway::history::{Blocks, Stored};
use crate::message::{Head, SessionChange};
use crate::name::InstanceName;

/// How often the broker is asked for blocks that it has and that were not delivered, and after which pause.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A cursor ahead of the newest event is waited for so long, and looked at so often.
const LAG: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// An instance. Dropped, it is watched no more.
pub struct Instance {
    name: InstanceName,
    api: ApiService,
    caller: Caller,
    blocks: Blocks,
    is_over: watch::Receiver<bool>,
    feed: JoinHandle<()>,
}

/// How far the ring is.
#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: Epoch,
    seq: u64,
    /// The place of the last block in the stream of the partition; 0 before the first.
    at: u64,
}

/// Why a ring cannot be continued.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Over {
    #[error("the instance has another epoch")]
    Epoch,
    #[error("events after seq {after} are missing")]
    Missing { after: u64 },
    #[error("the block at {at} cannot be read")]
    Unreadable { at: u64 },
    #[error("the stream of the broker begins anew")]
    Stream,
}

impl Instance {
    /// Begins with the newest blocks of the run that began last, or before the first where there is none; `epoch` is what
    /// the instance says of itself then.
    pub(crate) async fn new(
        name: InstanceName,
        retention: Retention,
        blocks: Blocks,
        last: Option<&Stored>,
        epoch: Epoch,
        watch: Watch,
        caller: Caller,
    ) -> Result<Self, ApiError> {
        let (ring, position) = begin(retention, &blocks, last, epoch).await?;
        blocks.serve(position.epoch);
        let session = TelemetrySession::new(ring.clone());
        let api = ApiService::new(session).with_archive(blocks.clone());
        let (over, is_over) = watch::channel(false);
        let feed = Feed {
            name: name.clone(),
            ring,
            blocks: blocks.clone(),
            position,
            earlier: Vec::new(),
        };
        let feed = tokio::spawn(async move {
            let reason = feed.run(watch).await;
            tracing::info!(%reason, "an instance is opened anew");
            over.send_replace(true);
        });
        Ok(Self {
            name,
            api,
            caller,
            blocks,
            is_over,
            feed,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// Ready once it is over, or dropped.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut is_over = self.is_over.clone();
        async move {
            let _ = is_over.wait_for(|it| *it).await;
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

/// A ring with as many of the newest events as it holds, without a gap, and nothing where there is no block.
async fn begin(
    retention: Retention,
    blocks: &Blocks,
    last: Option<&Stored>,
    epoch: Epoch,
) -> Result<(EventStream<SessionState>, Position), ApiError> {
    let Some(last) = last else {
        let position = Position {
            epoch,
            seq: 0,
            at: 0,
        };
        return Ok((resume(retention, epoch, 1)?, position));
    };
    let head = last.head.clone();
    let head = head.map_err(|error| ApiError::Broker(error.into()))?;
    let first = head.last.saturating_sub(capacity(retention, last));
    let mut next = blocks
        .first_behind(head.epoch, first, last.at)
        .await
        .map_err(broker)?;
    let mut begun: Option<(EventStream<SessionState>, Position)> = None;
    // Runs that have stored something within this one.
    let mut others = Vec::new();
    while let Some(stored) = next
        && stored.at <= last.at
    {
        if let Ok(other) = &stored.head
            && other.epoch != head.epoch
        {
            blocks.note(&stored, other);
            if !others.contains(&other.epoch) {
                others.push(other.epoch);
                let is_earlier = blocks.began_before(&stored, other, head.epoch).await;
                if !is_earlier.map_err(broker)?
                    && let Some(later) = blocks.newest().await.map_err(broker)?
                    && later.head.as_ref().is_ok_and(|it| it.epoch != head.epoch)
                {
                    return Box::pin(begin(retention, blocks, Some(&later), epoch)).await;
                }
            }
            next = blocks.next(stored.at + 1).await.map_err(broker)?;
            continue;
        }
        let continued = match (&mut begun, stored.head.as_ref(), stored.decode()) {
            (Some((ring, position)), Ok(head), Ok(block)) => {
                let is_next = head.first <= position.seq + 1;
                let continued = is_next && append(ring, position, head, &block).is_ok();
                position.at = stored.at;
                continued
            }
            _ => false,
        };
        if !continued {
            begun = Some(begin_in(retention, &stored)?);
        }
        next = blocks.next(stored.at + 1).await.map_err(broker)?;
    }
    match begun {
        Some(begun) => Ok(begun),
        // Deleted meanwhile.
        None => begin_in(retention, last),
    }
}

fn resume(
    retention: Retention,
    epoch: Epoch,
    next: u64,
) -> Result<EventStream<SessionState>, ApiError> {
    let stream = EventStream::resume(retention, epoch, next);
    stream.map_err(|error| ApiError::Broker(error.into()))
}

/// About how many events like those of this block are kept.
fn capacity(retention: Retention, stored: &Stored) -> u64 {
    let events = retention.events as u64;
    match Meta::read(&stored.message.payload) {
        Ok(meta) if 0 < meta.count => {
            let bytes = u64::from(meta.raw_len) / meta.count;
            events.min(retention.bytes / bytes.max(1))
        }
        _ => 0,
    }
}

/// A ring with the events of this block that follow its last gap.
fn begin_in(
    retention: Retention,
    stored: &Stored,
) -> Result<(EventStream<SessionState>, Position), ApiError> {
    let head = stored.head.clone();
    let head = head.map_err(|error| ApiError::Broker(error.into()))?;
    let mut position = Position {
        epoch: head.epoch,
        seq: head.last,
        at: stored.at,
    };
    let block = match stored.decode() {
        Ok(block) => block,
        Err(error) => {
            tracing::warn!(at = stored.at, %error, "a block cannot be read");
            return Ok((resume(retention, head.epoch, head.last + 1)?, position));
        }
    };
    let gap = block.meta().gaps.last();
    let after = gap.map_or(head.first - 1, |gap| *gap.end());
    let ring = resume(retention, head.epoch, after + 1)?;
    position.seq = after;
    // There is no gap behind it.
    let _ = append(&ring, &mut position, &head, &block);
    Ok((ring, position))
}

/// Appends what the block has behind the position.
fn append(
    ring: &EventStream<SessionState>,
    position: &mut Position,
    head: &Head,
    block: &DecodedBlock,
) -> Result<(), Over> {
    let mut changes = head.sessions.iter().peekable();
    let end = block
        .meta()
        .gaps
        .iter()
        .find(|gap| position.seq < *gap.end());
    let last = end.map_or(head.last, |gap| *gap.start() - 1);
    let missing = Over::Missing { after: last };
    let all = Filter::all();
    for envelope in block.events(position.seq + 1..=last, &all) {
        let seq = envelope.seq();
        if seq != position.seq + 1 {
            return Err(Over::Missing {
                after: position.seq,
            });
        }
        while let Some(change) = changes.next_if(|it| it.after < seq) {
            change_session(ring, change);
        }
        let json = envelope.json().whole();
        let Ok(Envelope { event, .. }) = serde_json::from_str(&json) else {
            return Err(Over::Unreadable { at: position.at });
        };
        if ring.append(event, |_| Ok::<_, ()>(())).is_err() {
            return Err(Over::Unreadable { at: position.at });
        }
        position.seq = seq;
    }
    match end {
        Some(_) => Err(missing),
        None if position.seq < head.last => Err(missing),
        None => {
            for change in changes.filter(|it| it.after <= position.seq) {
                change_session(ring, change);
            }
            Ok(())
        }
    }
}

/// Puts the state in force that the instance was in, unless it is.
fn change_session(ring: &EventStream<SessionState>, change: &SessionChange) {
    let session = change.session.as_ref().map(|info| Session {
        id: info.id.as_str().into(),
        config: TelemetryConfig {
            categories: info.categories,
        },
        applied_at: UNIX_EPOCH + Duration::from_micros(info.applied_at),
        start_seq: info.start_seq,
    });
    let next = SessionState::repeated(session, change.after);
    let is_same =
        ring.state(|state, _| state.since() == next.since() && state.session() == next.session());
    if !is_same {
        let _ = ring.transition(|_, _| Ok::<_, ()>(next.clone()));
    }
}

/// What keeps the ring up to date.
struct Feed {
    name: InstanceName,
    ring: EventStream<SessionState>,
    blocks: Blocks,
    position: Position,
    /// Runs that have begun before this one. What they still store is in the history only.
    earlier: Vec<Epoch>,
}

impl Feed {
    /// Until the ring cannot be continued.
    async fn run(mut self, mut watch: Watch) -> Over {
        loop {
            let taken = match watch.next().await {
                News::Block(stored) => self.take(stored).await,
                News::More => self.catch_up(u64::MAX).await,
                News::Ended => Err(Over::Stream),
            };
            if let Err(over) = taken {
                return over;
            }
        }
    }

    /// Takes a block, after those between the position and it.
    async fn take(&mut self, stored: Stored) -> Result<(), Over> {
        let Some((head, block)) = self.read(&stored).await? else {
            self.position.at = self.position.at.max(stored.at);
            return Ok(());
        };
        if self.position.seq + 1 < head.first {
            self.catch_up(stored.at).await?;
        }
        self.apply(&stored, &head, &block)
    }

    /// The block, unless it has nothing new.
    async fn read(&mut self, stored: &Stored) -> Result<Option<(Head, DecodedBlock)>, Over> {
        if stored.at <= self.position.at {
            return Ok(None);
        }
        let name = self.name.clone();
        let unreadable = |error: &dyn std::error::Error| {
            let (instance, at) = (&name, stored.at);
            let error = with_sources(error);
            tracing::warn!(%instance, at, error, "a block cannot be read");
            Over::Unreadable { at }
        };
        let head = stored.head.clone().map_err(|error| unreadable(&error))?;
        if head.epoch != self.position.epoch {
            return match self.is_earlier(stored, &head).await {
                true => Ok(None),
                false => Err(Over::Epoch),
            };
        }
        if head.last <= self.position.seq {
            return Ok(None);
        }
        let block = stored.decode().map_err(|error| unreadable(&error))?;
        Ok(Some((head, block)))
    }

    /// Whether the run of that block has begun before this one.
    async fn is_earlier(&mut self, stored: &Stored, head: &Head) -> bool {
        let (epoch, present) = (head.epoch, self.position.epoch);
        if self.earlier.contains(&epoch) {
            self.blocks.note(stored, head);
            return true;
        }
        let is_earlier = self.blocks.began_before(stored, head, present).await;
        let is_earlier = is_earlier.unwrap_or_else(|error| {
            self.report(&error);
            false
        });
        if is_earlier {
            let instance = &self.name;
            tracing::warn!(
                %instance, %epoch,
                "a run stores events when the next one has begun: two programs may have this name"
            );
            self.earlier.push(epoch);
        }
        is_earlier
    }

    fn apply(&mut self, stored: &Stored, head: &Head, block: &DecodedBlock) -> Result<(), Over> {
        if self.position.seq + 1 < head.first {
            return Err(Over::Missing {
                after: self.position.seq,
            });
        }
        append(&self.ring, &mut self.position, head, block)?;
        self.position.at = stored.at;
        Ok(())
    }

    /// Reads from the stream what is stored behind the position and before that place.
    async fn catch_up(&mut self, before: u64) -> Result<(), Over> {
        let mut attempt = 0;
        loop {
            match self.blocks.next(self.position.at + 1).await {
                Ok(Some(stored)) if stored.at < before => {
                    if let Some((head, block)) = self.read(&stored).await? {
                        self.apply(&stored, &head, &block)?;
                    }
                    self.position.at = stored.at;
                }
                Ok(_) => return Ok(()),
                Err(error) => {
                    attempt += 1;
                    self.report(&error);
                    if attempt == ATTEMPTS {
                        return Err(Over::Missing {
                            after: self.position.seq,
                        });
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn report(&self, error: &HistoryError) {
        let instance = &self.name;
        let error = with_sources(error);
        tracing::warn!(%instance, error, "stored blocks cannot be read");
    }
}

impl Backend for Instance {
    type Envelope = SharedEnvelope;
    type Subscription = SessionSubscription;

    fn epoch(&self) -> Epoch {
        Backend::epoch(&self.api)
    }

    fn retained(&self) -> Retained {
        Backend::retained(&self.api)
    }

    fn behind(&self, position: u64) -> Behind {
        Backend::behind(&self.api, position)
    }

    async fn state(&self) -> Result<State, ApiError> {
        self.call(Operation::Get, None, "").await.map(Answer::state)
    }

    async fn put(&self, request: &ConfigRequest, id: &str) -> Result<PutAnswer, ApiError> {
        let answer = self.call(Operation::Put, Some(request), id).await?;
        Ok(match answer {
            Answer::Started(state) => PutAnswer::Started(state),
            Answer::Cleared(state) => PutAnswer::Cleared(state),
            Answer::State(state) => PutAnswer::Replaced(state),
        })
    }

    async fn patch(&self, request: &ConfigRequest, id: &str) -> Result<State, ApiError> {
        let answer = self.call(Operation::Patch, Some(request), id).await;
        answer.map(Answer::state)
    }

    async fn delete(&self, id: &str) -> Result<State, ApiError> {
        self.call(Operation::Delete, None, id)
            .await
            .map(Answer::state)
    }

    async fn publish(&self, _: PublishRequest) -> Result<Published<SharedEnvelope>, ApiError> {
        Err(ApiError::OnlyAtInstance(self.name.to_string()))
    }

    async fn publish_lines(
        &self,
        lines: &[u8],
        first_line: u64,
        _: Option<&Trace>,
        result: &mut BatchResult,
    ) -> u64 {
        let error = ApiError::OnlyAtInstance(self.name.to_string());
        let lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
        result.refused += lines.len() as u64;
        if result.errors.is_empty() && !lines.is_empty() {
            result.errors.push(LineError {
                line: first_line,
                code: error.code(),
                message: error.to_string(),
            });
        }
        lines.len() as u64
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, ApiError> {
        self.reached(query.after).await?;
        let page = Backend::page(&self.api, query).await;
        page.map_err(|error| match error {
            ApiError::History(error) => broker(error),
            other => other,
        })
    }

    async fn subscribe(
        &self,
        query: &StreamQuery,
    ) -> Result<Opened<SessionSubscription>, ApiError> {
        let cursor = query.after.as_deref().and_then(|it| it.parse().ok());
        self.reached(cursor).await?;
        Backend::subscribe(&self.api, query).await
    }

    /// Calls of a gateway are no events of the instance.
    fn captures(&self, _: Category) -> bool {
        false
    }

    fn publish_call(&self, _: &PlatformApiCall, _: Option<&Trace>) {}

    fn metrics(&self) -> BackendMetrics {
        self.api.metrics()
    }
}

impl Instance {
    /// Waits for the event at the cursor: another gateway, or the instance itself, may have given it to the client before
    /// the broker has delivered it here.
    ///
    /// # Errors
    ///
    /// [`ApiError::Broker`] where the broker cannot be reached, so that the client asks another gateway.
    /// [`ApiError::LaterRun`] where the cursor is of a run that follows this one: asked again, the fleet opens that one.
    async fn reached(&self, cursor: Option<Cursor>) -> Result<(), ApiError> {
        let Some(Cursor { seq, epoch }) = cursor else {
            return Ok(());
        };
        let other = epoch.filter(|it| *it != Backend::epoch(self));
        if let Some(epoch) = other
            && !self.is_followed_by(epoch).await.map_err(broker)?
        {
            return Ok(());
        }
        let is_ahead = || other.is_some() || Backend::retained(self).head < seq;
        let deadline = Instant::now() + LAG;
        while is_ahead() && Instant::now() < deadline && !self.is_over() {
            sleep(LOOK).await;
        }
        let connection = &self.caller.0;
        match other {
            Some(_) => Err(ApiError::LaterRun(self.name.to_string())),
            None if is_ahead() && !connection.is_connected() => {
                Err(ApiError::Broker(connection.unreachable().into()))
            }
            None => Ok(()),
        }
    }

    /// Whether the newest block is of that run, and it began after the one in memory.
    async fn is_followed_by(&self, epoch: Epoch) -> Result<bool, HistoryError> {
        let Some(newest) = self.blocks.last().await? else {
            return Ok(false);
        };
        match &newest.head {
            Ok(head) if head.epoch == epoch => {
                let present = Backend::epoch(self);
                let is_earlier = self.blocks.began_before(&newest, head, present);
                Ok(!is_earlier.await?)
            }
            _ => Ok(false),
        }
    }

    async fn call(
        &self,
        operation: Operation,
        request: Option<&ConfigRequest>,
        id: &str,
    ) -> Result<Answer, ApiError> {
        self.caller.call(&self.name, operation, request, id).await
    }
}
