//! Streams that follow the head together: [`Fanout`].
//!
//! Clients that want the same and are at the same position get the same bytes. So one task reads for them:
//! a *group* makes one batch of all that is new and writes it to one socket after the other. A client costs
//! one system call, and no task is woken for it.
//!
//! A stream has one owner at any time. It joins a group when it has caught up, and its own task then only
//! waits. The group gives it back when its socket does not take a batch whole (with the bytes that are
//! left), or when its task asks for it. What it lost and received meanwhile follows from the group's ledger.
//!
//! # Invariants
//!
//! 1. A member was sent exactly what the group's reader has passed: `member.position == group.position`.
//! 2. A stream that joins ahead of the group waits, and the group's next batch ends at its position. A
//!    stream that joins behind the group is given back, and catches up by itself.
//! 3. A member whose socket has not taken all of a batch gets nothing further from the group.
//! 4. However a group's task ends, the group is out of the map, the streams that waited in it are given
//!    back, and its members' tasks are woken with [`GroupFailed`]. The next stream that joins makes a new
//!    group.

use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tapline_api::{Backend, Filter, ReaderLedger, Subscription};
use tapline_oapi::OnLag;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::app::App;
use crate::readers::{ReaderAccount, RegisteredReader, SharedLedger};
use crate::stream::feed::Feed;
use crate::stream::frames::FrameBuffer;

/// The groups.
pub(crate) struct Fanout<S> {
    groups: Mutex<HashMap<Key, Arc<Group<S>>>>,
    /// Streams that want the same are spread over so many groups: as many as there are processors to write
    /// at once.
    shards: u64,
    next_id: AtomicU64,
}

/// What the members of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    filter: Filter,
    notices: bool,
    overtaken: OnLag,
    shard: u64,
}

/// A stream that joins a group.
pub(crate) struct Joining<S> {
    pub(crate) feed: Feed<S>,
    pub(crate) socket: Arc<TcpStream>,
    pub(crate) reader: Arc<RegisteredReader>,
    /// When it was written to last.
    pub(crate) wrote_at: Instant,
    /// When its next beat is due, if it has beats.
    pub(crate) beat_at: Instant,
}

/// A stream that a group has given back to its task.
pub(crate) struct Returned<S> {
    pub(crate) feed: Feed<S>,
    /// What is still to be sent of a batch that the feed has passed.
    pub(crate) rest: Bytes,
    pub(crate) wrote_at: Instant,
    pub(crate) beat_at: Instant,
}

/// The group's task ended while the stream was a member, because of a panic. The stream ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupFailed {
    /// The last seq that was sent to each member. `None` where the task ended in the middle of writing,
    /// so that a member may have received a part of a frame.
    pub(crate) last_seq: Option<u64>,
}

/// A stream in a group, as its task sees it.
pub(crate) struct Membership<S> {
    id: u64,
    group: Arc<Group<S>>,
    returned: oneshot::Receiver<Returned<S>>,
}

impl<S> Default for Fanout<S> {
    fn default() -> Self {
        Self {
            groups: Mutex::default(),
            shards: std::thread::available_parallelism().map_or(1, NonZero::get) as u64,
            next_id: AtomicU64::new(0),
        }
    }
}

impl<S: Subscription> Fanout<S> {
    /// Joins the group of the streams that want the same.
    pub(crate) fn join<B: Backend<Subscription = S>>(
        app: &Arc<App<B>>,
        joining: Joining<S>,
    ) -> Membership<S> {
        let fanout = &app.fanout;
        let id = fanout.next_id.fetch_add(1, Relaxed);
        let key = Key {
            filter: joining.feed.filter().clone(),
            notices: joining.feed.notices(),
            overtaken: joining.feed.overtaken(),
            shard: id % fanout.shards,
        };
        let (back, returned) = oneshot::channel();
        let member = Member {
            id,
            stream: joining,
            since: ReaderLedger::default(),
            back,
        };
        let mut is_new = false;
        let mut groups = fanout.groups();
        let group = groups.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            Arc::new(Group::default())
        });
        let group = group.clone();
        // Under the lock of the map: a group looks into its queue under it before it ends.
        group.queue().joining.push(member);
        drop(groups);
        if is_new {
            app.host.metrics.streams.groups.add(1);
            let open = OpenGroup {
                app: app.clone(),
                key,
                group: group.clone(),
            };
            app.host.spawn(run(open));
        }
        group.notify.notify_one();
        Membership {
            id,
            group,
            returned,
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Key, Arc<Group<S>>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a group that has no member and no stream in its queue out of the map.
    fn close_if_empty(&self, key: &Key, group: &Group<S>) -> bool {
        let mut groups = self.groups();
        let empty = group.queue().joining.is_empty();
        if empty {
            groups.remove(key);
        }
        empty
    }

    /// Takes a group out of the map, whatever is in its queue, which is returned.
    fn remove(&self, key: &Key, group: &Arc<Group<S>>) -> Vec<Member<S>> {
        let mut groups = self.groups();
        if groups
            .get(key)
            .is_some_and(|there| Arc::ptr_eq(there, group))
        {
            groups.remove(key);
        }
        std::mem::take(&mut group.queue().joining)
    }
}

impl<S: Subscription> Membership<S> {
    /// When the group gives the stream back by itself.
    ///
    /// # Errors
    ///
    /// [`GroupFailed`] where the group's task has ended without giving the stream back.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost where the future is dropped before it is ready.
    pub(crate) async fn returned(&mut self) -> Result<Returned<S>, GroupFailed> {
        (&mut self.returned).await.map_err(|_| GroupFailed {
            last_seq: self.group.sent_up_to(),
        })
    }

    /// Asks for the stream.
    ///
    /// # Errors
    ///
    /// As [`returned`](Self::returned).
    pub(crate) async fn leave(mut self) -> Result<Returned<S>, GroupFailed> {
        self.group.queue().leaving.push(self.id);
        self.group.notify.notify_one();
        self.returned().await
    }
}

/// Where streams join and leave.
struct Group<S> {
    queue: Mutex<Queue<S>>,
    notify: Notify,
    /// The last seq that was sent to each member; [`WRITING`](Self::WRITING) while that differs.
    sent: AtomicU64,
}

/// What the group has not come to yet.
struct Queue<S> {
    joining: Vec<Member<S>>,
    leaving: Vec<u64>,
}

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self {
            joining: Vec::new(),
            leaving: Vec::new(),
        }
    }
}

impl<S> Default for Group<S> {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            notify: Notify::new(),
            sent: AtomicU64::new(Self::WRITING),
        }
    }
}

impl<S> Group<S> {
    const WRITING: u64 = u64::MAX;

    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent_up_to(&self) -> Option<u64> {
        Some(self.sent.load(Relaxed)).filter(|seq| *seq != Self::WRITING)
    }
}

struct Member<S> {
    id: u64,
    stream: Joining<S>,
    /// The group's ledger when this stream became a member.
    since: ReaderLedger,
    back: oneshot::Sender<Returned<S>>,
}

/// A group in the map. Dropping it, in whatever way the group's task ends, takes the group out of the map
/// and gives back the streams in its queue.
struct OpenGroup<B: Backend> {
    app: Arc<App<B>>,
    key: Key,
    group: Arc<Group<B::Subscription>>,
}

impl<B: Backend> Drop for OpenGroup<B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the task of a group of streams panicked; its streams end");
        }
        for member in self.app.fanout.remove(&self.key, &self.group) {
            member.give_back(Bytes::new());
        }
        self.app.host.metrics.streams.groups.sub(1);
    }
}

/// A group at work.
struct Work<'a, B: Backend> {
    app: &'a App<B>,
    group: &'a Group<B::Subscription>,
    /// Reads for the members. `None` before the first.
    feed: Option<Feed<B::Subscription>>,
    /// The ledger of `feed`, for the list of readers.
    ledger: SharedLedger,
    members: Vec<Member<B::Subscription>>,
    /// Streams that are ahead of the group.
    waiting: Vec<Member<B::Subscription>>,
    wrote_at: Instant,
    /// When the group looks next whose beat is due.
    beats_at: Instant,
    /// How long it has written since its last rest.
    rest_due: Duration,
}

async fn run<B: Backend>(open: OpenGroup<B>) {
    let OpenGroup { app, key, group } = &open;
    let mut work = Work::new(app, group);
    loop {
        work.update_members();
        if work.members.is_empty() && work.waiting.is_empty() {
            if app.fanout.close_if_empty(key, group) {
                return;
            }
            continue;
        }
        let Some(mut feed) = work.take_feed() else {
            continue;
        };
        work.admit(&feed);
        let sent = work.send_news(&mut feed).await;
        work.beat(&feed);
        work.rest(&mut feed, sent).await;
        work.feed = Some(feed);
    }
}

/// What one round of a group has sent.
enum Sent {
    /// There was nothing new.
    Nothing,
    /// All that there was.
    All { took: Duration },
    /// Some of it: there is more.
    Some,
}

impl<'a, B: Backend> Work<'a, B> {
    fn new(app: &'a App<B>, group: &'a Group<B::Subscription>) -> Self {
        let now = Instant::now();
        Self {
            app,
            group,
            feed: None,
            ledger: SharedLedger::default(),
            members: Vec::new(),
            waiting: Vec::new(),
            wrote_at: now,
            beats_at: now,
            rest_due: Duration::ZERO,
        }
    }

    /// Takes in the streams that have joined, and gives back those that leave.
    fn update_members(&mut self) {
        let Queue { joining, leaving } = std::mem::take(&mut *self.group.queue());
        self.waiting.extend(joining);
        if leaving.is_empty() {
            return;
        }
        let leaves = |member: &mut Member<_>| leaving.contains(&member.id);
        for member in self.waiting.extract_if(.., leaves) {
            member.give_back(Bytes::new());
        }
        let left: Vec<_> = self.members.extract_if(.., leaves).collect();
        if let Some(feed) = &self.feed {
            for member in left {
                self.let_go(member, feed, Bytes::new());
            }
        }
    }

    /// What the group reads with. Without a member that is a new one, at the first position of the
    /// streams that wait.
    fn take_feed(&mut self) -> Option<Feed<B::Subscription>> {
        if !self.members.is_empty() {
            return self.feed.take();
        }
        let first =
            (0..self.waiting.len()).min_by_key(|at| self.waiting[*at].stream.feed.position())?;
        let Some(feed) = self.waiting[first].stream.feed.beside() else {
            // It has lagged meanwhile, and finds that out by itself.
            self.waiting.swap_remove(first).give_back(Bytes::new());
            return None;
        };
        // Not stored into the former one: that is the ledger of another feed.
        self.ledger = SharedLedger::new(feed.ledger());
        self.group.sent.store(feed.position(), Relaxed);
        Some(feed)
    }

    /// Sends the members what is new, up to the first position at which a stream waits.
    async fn send_news(&mut self, feed: &mut Feed<B::Subscription>) -> Sent {
        let position = feed.position();
        let ahead = self
            .waiting
            .iter()
            .map(|member| member.stream.feed.position());
        let up_to = ahead.filter(|there| position < *there).min();
        let mut batch = FrameBuffer::new(true);
        let bytes = self.app.host.options.limits.stream_bytes;
        let turn = self.app.host.turns.take(feed.filter()).await;
        let written = feed.write(&mut batch, up_to.unwrap_or(u64::MAX), bytes);
        drop(turn);
        let ledger = feed.ledger();
        self.ledger.store(ledger);
        if batch.is_empty() {
            self.group.sent.store(ledger.position(), Relaxed);
            return if written.looked_at == 0 {
                Sent::Nothing
            } else {
                Sent::Some
            };
        }
        let start = Instant::now();
        self.wrote_at = start;
        let count = self.members.len() as u64;
        let streams = &self.app.host.metrics.streams;
        streams.deliveries.add(count * written.delivered);
        streams.gaps(count * written.gaps, count * written.lost);
        self.group
            .sent
            .store(Group::<B::Subscription>::WRITING, Relaxed);
        self.write_to_all(feed, &batch.take()).await;
        self.group.sent.store(ledger.position(), Relaxed);
        if up_to == Some(feed.position()) || written.is_full {
            Sent::Some
        } else {
            Sent::All {
                took: start.elapsed(),
            }
        }
    }

    /// Writes a batch to every member. A member that does not take it whole is given back.
    async fn write_to_all(&mut self, feed: &mut Feed<B::Subscription>, batch: &Bytes) {
        /// After how many writes, some microseconds each, other tasks may run.
        const YIELD_AFTER: usize = 64;
        let mut at = 0;
        while at < self.members.len() {
            match self.members[at].write(batch) {
                Ok(()) => at += 1,
                Err(rest) => {
                    let member = self.members.swap_remove(at);
                    self.let_go(member, feed, rest);
                }
            }
            if at % YIELD_AFTER == 0 {
                tokio::task::yield_now().await;
            }
        }
        let count = self.members.len() as u64;
        let streams = &self.app.host.metrics.streams;
        streams.wrote(count, count * batch.len() as u64);
    }

    /// Gives back one that was a member, at the position of `feed`.
    fn let_go(
        &self,
        mut member: Member<B::Subscription>,
        feed: &Feed<B::Subscription>,
        rest: Bytes,
    ) {
        self.app.host.metrics.streams.grouped.sub(1);
        member.stream.feed.follow(feed, member.since);
        member.stream.wrote_at = member.stream.wrote_at.max(self.wrote_at);
        member.give_back(rest);
    }

    /// Makes members of the streams that are where the group is. Those that are behind are given back.
    fn admit(&mut self, feed: &Feed<B::Subscription>) {
        let here = feed.position();
        for at in (0..self.waiting.len()).rev() {
            let there = self.waiting[at].stream.feed.position();
            if here < there {
                continue;
            }
            let mut member = self.waiting.swap_remove(at);
            if !member.stream.feed.is_beside(feed) {
                member.give_back(Bytes::new());
                continue;
            }
            member.since = feed.ledger();
            member.stream.reader.store(ReaderAccount::InGroup {
                own: member.stream.feed.ledger(),
                since: member.since,
                group: self.ledger.clone(),
            });
            self.wrote_at = self.wrote_at.min(member.stream.wrote_at);
            self.beats_at = self.beats_at.min(member.stream.beat_at);
            self.members.push(member);
            self.app.host.metrics.streams.grouped.add(1);
        }
    }

    /// Sends members a sign that their stream is alive, if it is time.
    fn beat(&mut self, feed: &Feed<B::Subscription>) {
        let now = Instant::now();
        let beat = self.app.host.options.beat;
        if now < self.beats_at {
            return;
        }
        if !feed.notices() {
            // After a silence: one comment for all.
            self.beats_at = self.wrote_at + beat;
            if now < self.beats_at {
                return;
            }
            (self.wrote_at, self.beats_at) = (now, now + beat);
            let mut comment = FrameBuffer::new(true);
            comment.comment("keep-alive");
            let comment = comment.take();
            self.write_to_each(feed, |_| Some(comment.clone()));
            return;
        }
        // Each has a moment of its own. The group looks for them a few times in each beat.
        self.beats_at = now + beat / 16;
        let ledger = feed.ledger();
        self.write_to_each(feed, |member| {
            if now < member.stream.beat_at {
                return None;
            }
            member.stream.beat_at = now + beat;
            let own = member.stream.feed.ledger();
            let mut notice = FrameBuffer::new(true);
            feed.write_beat_of(&mut notice, own.advanced_by(member.since, ledger).lost);
            Some(notice.take())
        });
    }

    fn write_to_each(
        &mut self,
        feed: &Feed<B::Subscription>,
        mut bytes: impl FnMut(&mut Member<B::Subscription>) -> Option<Bytes>,
    ) {
        self.group
            .sent
            .store(Group::<B::Subscription>::WRITING, Relaxed);
        for at in (0..self.members.len()).rev() {
            if let Some(bytes) = bytes(&mut self.members[at])
                && let Err(rest) = self.members[at].write(&bytes)
            {
                let member = self.members.swap_remove(at);
                self.let_go(member, feed, rest);
            }
        }
        self.group.sent.store(feed.position(), Relaxed);
    }

    /// Waits for something to do.
    ///
    /// After writing it rests for as long as it has written, up to a bound. What is published meanwhile
    /// goes out together, so a busy processor writes larger batches instead of more of them. Where events
    /// are few, waiting for them is rest enough.
    async fn rest(&mut self, feed: &mut Feed<B::Subscription>, sent: Sent) {
        /// The timer's own resolution: it cannot measure shorter rests.
        const SHORTEST: Duration = Duration::from_millis(1);
        /// What a rest may add to an event's latency.
        const LONGEST: Duration = Duration::from_millis(10);
        match sent {
            Sent::Some => tokio::task::yield_now().await,
            Sent::All { took } => {
                self.rest_due += took;
                if self.rest_due < SHORTEST {
                    tokio::task::yield_now().await;
                } else {
                    sleep(self.rest_due.min(LONGEST)).await;
                    self.rest_due = Duration::ZERO;
                }
            }
            Sent::Nothing => {
                let start = Instant::now();
                tokio::select! {
                    biased;
                    () = self.group.notify.notified() => {}
                    () = poll_fn(|cx| feed.poll_news(cx)) => {}
                    () = sleep_until(self.beats_at), if !self.members.is_empty() => {}
                }
                self.rest_due = self.rest_due.saturating_sub(start.elapsed());
            }
        }
    }
}

/// Members whose group ends get no feed back: dropping their `back` wakes their tasks.
impl<B: Backend> Drop for Work<'_, B> {
    fn drop(&mut self) {
        let members = self.members.len() as u64;
        self.app.host.metrics.streams.grouped.sub(members);
        for member in self.waiting.drain(..) {
            member.give_back(Bytes::new());
        }
    }
}

impl<S: Subscription> Member<S> {
    /// Writes all of these bytes, or returns those that are left.
    fn write(&self, bytes: &Bytes) -> Result<(), Bytes> {
        match self.stream.socket.try_write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(written) => Err(bytes.slice(written..)),
            // Full, or broken: its own task finds out which.
            Err(_) => Err(bytes.clone()),
        }
    }

    fn give_back(self, rest: Bytes) {
        let Joining {
            feed,
            reader,
            wrote_at,
            beat_at,
            ..
        } = self.stream;
        reader.store(ReaderAccount::Own(feed.ledger()));
        // Where its task has ended, the stream has ended with it.
        let _ = self.back.send(Returned {
            feed,
            rest,
            wrote_at,
            beat_at,
        });
    }
}
