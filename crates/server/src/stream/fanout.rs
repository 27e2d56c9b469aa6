//! Streams that follow the head together: [`Fanout`].
//!
//! Peers that want the same and stand at the same place get the same bytes. So they are read for once, by a
//! *group*: one task with one reader makes a piece of all that is new and writes it to one socket after the
//! other. What is paid per peer is a system call, and no task is woken for it.
//!
//! A stream has one owner at any time. It joins a group when it has caught up, and its task then only waits;
//! it is given back when its socket does not take a piece whole (with the bytes that are left), or when its
//! task asks for it. What it lost and got meanwhile is worked out from the group's account.
//!
//! 1. A member has been sent exactly what the group's reader has passed: `member.position == group.position`.
//! 2. Who joins ahead of the group waits, and the group's next piece ends there. Who joins behind it is given
//!    back, and catches up by itself.
//! 3. A member whose socket has not taken all of a piece gets nothing further from the group.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tapline_api::{Enrolled, LiveLedger, Place};
use tapline_events::{Filter, LagPolicy, ReaderLedger};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::serve::App;
use crate::stream::feed::Feed;
use crate::stream::frames::Piece;

/// The groups.
pub(crate) struct Fanout {
    groups: Mutex<HashMap<Key, Arc<Group>>>,
    /// Each member of a set of like streams goes to one of so many groups: as many as there are processors
    /// to write at once.
    shards: u64,
    next_id: AtomicU64,
}

/// What members of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    filter: Filter,
    notices: bool,
    lag_policy: LagPolicy,
    shard: u64,
}

/// A stream that wants to follow with others.
pub(crate) struct Seat {
    pub(crate) feed: Feed,
    pub(crate) socket: Arc<TcpStream>,
    pub(crate) enrolled: Arc<Enrolled>,
    /// When it was written to last.
    pub(crate) wrote_at: Instant,
    /// When its next beat is due, if it has beats.
    pub(crate) beat_at: Instant,
}

/// A stream that is its task's own again.
pub(crate) struct Returned {
    pub(crate) feed: Feed,
    /// What is still to be sent, of a piece that the feed has passed.
    pub(crate) rest: Bytes,
    pub(crate) wrote_at: Instant,
    pub(crate) beat_at: Instant,
}

/// A stream that follows with others, as its task sees it.
pub(crate) struct Membership {
    id: u64,
    group: Arc<Group>,
    returned: oneshot::Receiver<Returned>,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            groups: Mutex::default(),
            shards: std::thread::available_parallelism().map_or(1, NonZero::get) as u64,
            next_id: AtomicU64::new(0),
        }
    }
}

impl Fanout {
    /// Follows with the others that want the same.
    pub(crate) fn join(app: &Arc<App>, seat: Seat) -> Membership {
        let fanout = &app.fanout;
        let id = fanout.next_id.fetch_add(1, Relaxed);
        let key = Key {
            filter: seat.feed.filter().clone(),
            notices: seat.feed.notices(),
            lag_policy: seat.feed.lag_policy(),
            shard: id % fanout.shards,
        };
        let (back, returned) = oneshot::channel();
        let mut groups = fanout.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(key.clone()).or_insert_with(|| {
            let group = Arc::new(Group::default());
            app.spawn(run(app.clone(), key, group.clone()));
            app.metrics.streams.groups.add(1);
            group
        });
        // Under the lock: a group looks here, too, before it ends.
        group.lobby().joining.push(Member {
            id,
            seat,
            since: ReaderLedger::default(),
            back,
        });
        group.knock.notify_one();
        Membership {
            id,
            group: group.clone(),
            returned,
        }
    }

    /// Ends a group that nobody is in and nobody is about to join.
    fn close(&self, key: &Key, group: &Group) -> bool {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = group.lobby().joining.is_empty();
        if empty {
            groups.remove(key);
        }
        empty
    }
}

impl Membership {
    /// When the group gives the stream back by itself.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost where this is given up.
    pub(crate) async fn returned(&mut self) -> Returned {
        match (&mut self.returned).await {
            Ok(returned) => returned,
            // The group is gone because the server is: so will this task be.
            Err(_) => pending().await,
        }
    }

    /// Asks for the stream.
    pub(crate) async fn leave(mut self) -> Returned {
        self.group.lobby().leaving.push(self.id);
        self.group.knock.notify_one();
        self.returned().await
    }
}

/// Where streams come and go.
#[derive(Default)]
struct Group {
    lobby: Mutex<Lobby>,
    knock: Notify,
    /// What became of the seqs that its reader has passed.
    ledger: LiveLedger,
}

#[derive(Default)]
struct Lobby {
    joining: Vec<Member>,
    leaving: Vec<u64>,
}

impl Group {
    fn lobby(&self) -> std::sync::MutexGuard<'_, Lobby> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Member {
    id: u64,
    seat: Seat,
    /// The group's account when this one became a member.
    since: ReaderLedger,
    back: oneshot::Sender<Returned>,
}

/// A group at work.
struct Work<'a> {
    app: &'a App,
    group: &'a Group,
    /// Reads for the members. `None` before the first.
    feed: Option<Feed>,
    members: Vec<Member>,
    /// Those who are ahead of the group.
    waiting: Vec<Member>,
    wrote_at: Instant,
    /// When it is looked next whose beat is due.
    beats_at: Instant,
    /// For how long it has written without a rest.
    rest_due: Duration,
}

async fn run(app: Arc<App>, key: Key, group: Arc<Group>) {
    let mut work = Work::new(&app, &group);
    loop {
        work.open_the_door();
        if work.members.is_empty() && work.waiting.is_empty() {
            if app.fanout.close(&key, &group) {
                app.metrics.streams.groups.sub(1);
                return;
            }
            continue;
        }
        let Some(mut feed) = work.place() else {
            continue;
        };
        work.admit(&feed);
        let sent = work.send_news(&mut feed).await;
        work.beat(&feed);
        work.rest(&mut feed, sent).await;
        work.feed = Some(feed);
    }
}

/// What a turn of a group came to.
enum Sent {
    /// There was nothing new.
    Nothing,
    /// All that there was.
    All { took: Duration },
    /// Some of it: there is more.
    Some,
}

impl<'a> Work<'a> {
    fn new(app: &'a App, group: &'a Group) -> Self {
        let now = Instant::now();
        Self {
            app,
            group,
            feed: None,
            members: Vec::new(),
            waiting: Vec::new(),
            wrote_at: now,
            beats_at: now,
            rest_due: Duration::ZERO,
        }
    }

    /// Lets in who came, and lets go who wants to.
    fn open_the_door(&mut self) {
        let Lobby { joining, leaving } = std::mem::take(&mut *self.group.lobby());
        self.waiting.extend(joining);
        if leaving.is_empty() {
            return;
        }
        let leaves = |member: &mut Member| leaving.contains(&member.id);
        for member in self.waiting.extract_if(.., leaves) {
            member.give_back(Bytes::new());
        }
        let left: Vec<Member> = self.members.extract_if(.., leaves).collect();
        if let Some(feed) = &self.feed {
            for member in left {
                self.let_go(member, feed, Bytes::new());
            }
        }
    }

    /// Where the group reads. With no member that may be chosen anew: at the first of those who wait.
    fn place(&mut self) -> Option<Feed> {
        if !self.members.is_empty() {
            return self.feed.take();
        }
        let first =
            (0..self.waiting.len()).min_by_key(|at| self.waiting[*at].seat.feed.position())?;
        let feed = self.waiting[first].seat.feed.beside();
        if feed.is_none() {
            // Overtaken meanwhile: it finds that out by itself.
            self.waiting.swap_remove(first).give_back(Bytes::new());
        }
        feed
    }

    /// Sends the members what is new, up to where somebody waits.
    async fn send_news(&mut self, feed: &mut Feed) -> Sent {
        let position = feed.position();
        let ahead = self
            .waiting
            .iter()
            .map(|member| member.seat.feed.position());
        let up_to = ahead.filter(|there| position < *there).min();
        let mut piece = Piece::new(true);
        let before = feed.ledger();
        let bytes = self.app.options.limits.stream_bytes;
        let written = feed.write(&mut piece, up_to.unwrap_or(u64::MAX), bytes);
        let ledger = feed.ledger();
        self.group.ledger.store(ledger);
        if piece.is_empty() {
            return if written.looked_at == 0 {
                Sent::Nothing
            } else {
                Sent::Some
            };
        }
        let start = Instant::now();
        self.wrote_at = start;
        let count = self.members.len() as u64;
        let streams = &self.app.metrics.streams;
        streams
            .deliveries
            .add(count * (ledger.delivered - before.delivered));
        streams.gaps(count * written.gaps, count * (ledger.lost - before.lost));
        self.hand_out(feed, &piece.take()).await;
        if up_to == Some(feed.position()) || written.is_full {
            Sent::Some
        } else {
            Sent::All {
                took: start.elapsed(),
            }
        }
    }

    /// Writes a piece to every member. Who does not take it whole is given back.
    async fn hand_out(&mut self, feed: &Feed, piece: &Bytes) {
        /// After how many writes, some microseconds each, others have a turn.
        const TURN: usize = 64;
        let mut at = 0;
        while at < self.members.len() {
            match self.members[at].write(piece) {
                Ok(()) => at += 1,
                Err(rest) => {
                    let member = self.members.swap_remove(at);
                    self.let_go(member, feed, rest);
                }
            }
            if at % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        let count = self.members.len() as u64;
        let streams = &self.app.metrics.streams;
        streams.wrote(count, count * piece.len() as u64);
    }

    /// Gives back one that was a member, at the place to which `feed` has come.
    fn let_go(&self, mut member: Member, feed: &Feed, rest: Bytes) {
        self.app.metrics.streams.grouped.sub(1);
        member.seat.feed.follow(feed, member.since);
        member.seat.wrote_at = member.seat.wrote_at.max(self.wrote_at);
        member.give_back(rest);
    }

    /// Makes members of those who are where the group is. Who is behind goes on alone for a while.
    fn admit(&mut self, feed: &Feed) {
        let here = feed.position();
        for at in (0..self.waiting.len()).rev() {
            let there = self.waiting[at].seat.feed.position();
            if here < there {
                continue;
            }
            let mut member = self.waiting.swap_remove(at);
            if !member.seat.feed.is_beside(feed) {
                member.give_back(Bytes::new());
                continue;
            }
            member.since = feed.ledger();
            member.seat.enrolled.place(Place::Carried {
                own: member.seat.feed.ledger(),
                since: member.since,
                leader: self.group.ledger.clone(),
            });
            self.wrote_at = self.wrote_at.min(member.seat.wrote_at);
            self.beats_at = self.beats_at.min(member.seat.beat_at);
            self.members.push(member);
            self.app.metrics.streams.grouped.add(1);
        }
    }

    /// Tells members that their stream is alive, if it is time.
    fn beat(&mut self, feed: &Feed) {
        let now = Instant::now();
        let beat = self.app.options.beat;
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
            let mut piece = Piece::new(true);
            piece.comment("keep-alive");
            let piece = piece.take();
            self.write_to_each(feed, |_| Some(piece.clone()));
            return;
        }
        // Each has a moment of its own. They are looked for a few times in each beat.
        self.beats_at = now + beat / 16;
        let ledger = feed.ledger();
        self.write_to_each(feed, |member| {
            if now < member.seat.beat_at {
                return None;
            }
            member.seat.beat_at = now + beat;
            let lost = member
                .seat
                .feed
                .ledger()
                .advanced_by(member.since, ledger)
                .lost;
            let mut piece = Piece::new(true);
            feed.write_beat_of(&mut piece, lost);
            Some(piece.take())
        });
    }

    fn write_to_each(&mut self, feed: &Feed, mut piece: impl FnMut(&mut Member) -> Option<Bytes>) {
        for at in (0..self.members.len()).rev() {
            if let Some(piece) = piece(&mut self.members[at])
                && let Err(rest) = self.members[at].write(&piece)
            {
                let member = self.members.swap_remove(at);
                self.let_go(member, feed, rest);
            }
        }
    }

    /// Waits for something to do.
    ///
    /// It rests for as long as it has written, up to a bound: what comes meanwhile goes out together, and a
    /// processor that is busy with writing has more to write at each turn instead of more turns. Where
    /// news are few, the waiting for them is rest enough.
    async fn rest(&mut self, feed: &mut Feed, sent: Sent) {
        /// The timer's own grain: shorter rests than this are not to be had.
        const SHORTEST: Duration = Duration::from_millis(1);
        /// What a rest may add to the time an event takes.
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
                    () = self.group.knock.notified() => {}
                    () = poll_fn(|cx| feed.poll_news(cx)) => {}
                    () = sleep_until(self.beats_at), if !self.members.is_empty() => {}
                }
                self.rest_due = self.rest_due.saturating_sub(start.elapsed());
            }
        }
    }
}

impl Member {
    /// Writes the piece, or says what of it is left.
    fn write(&self, piece: &Bytes) -> Result<(), Bytes> {
        match self.seat.socket.try_write(piece) {
            Ok(written) if written == piece.len() => Ok(()),
            Ok(written) => Err(piece.slice(written..)),
            // Full, or broken: its own task will find out which.
            Err(_) => Err(piece.clone()),
        }
    }

    fn give_back(self, rest: Bytes) {
        let Seat {
            feed,
            enrolled,
            wrote_at,
            beat_at,
            ..
        } = self.seat;
        enrolled.place(Place::Own(feed.ledger()));
        // A task that is gone needs nothing any more.
        let _ = self.back.send(Returned {
            feed,
            rest,
            wrote_at,
            beat_at,
        });
    }
}
