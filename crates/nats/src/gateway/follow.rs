//! New blocks of the instances of a partition, from one consumer: [`Follower`].
//!
//! However many instances are watched and however many clients read from them, the server has one consumer for a gateway
//! and partition. It delivers the blocks of the instances that are watched, in their order, and is made anew, behind
//! the last block that was delivered, when others are.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_util::StreamExt;
use tapline_api::ApiError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::connect::Connection;
use crate::error::{ClientError, with_sources};
use crate::gateway::history::Stored;
use crate::name::{InstanceName, Partitions, stream_name, stream_subject};

/// So many blocks of an instance are kept for it. It looks in the stream for those that come on top.
const QUEUE: usize = 64;

/// With more instances than this, the consumer takes the blocks of all: the server looks through the list for each.
const MAX_SUBJECTS: usize = 64;

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// How often the server says that the consumer is there, while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// For how long the server is asked for messages at a time.
const PULL: Duration = Duration::from_secs(30);

/// So many bytes are on their way at a time, and half as much again: more than the largest message has, and with 16
/// partitions less than the 64 MiB behind which a server closes a connection as too slow.
const PULL_BYTES: usize = 2 * 1024 * 1024;

/// The server forgets a consumer that has asked for nothing for so long.
const ABANDONED: Duration = Duration::from_secs(60);

/// The blocks of one partition. It ends when it is dropped.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    connection: Connection,
    partitions: Partitions,
    partition: u32,
    watched: Mutex<Watched>,
    /// All blocks of the partition, while there are readers of them. Another one when the stream begins anew.
    all: Mutex<broadcast::Sender<(InstanceName, Stored)>>,
    /// How often `watched` has changed.
    changed: watch::Sender<u64>,
    /// Up to which of these changes the consumer is as asked for.
    applied: watch::Sender<u64>,
}

#[derive(Default)]
struct Watched {
    of: HashMap<InstanceName, Sending>,
    changes: u64,
}

/// The other end of a [`Watch`].
struct Sending {
    blocks: mpsc::Sender<Stored>,
    has_more: Weak<AtomicBool>,
}

/// The new blocks of an instance. Dropped, it is watched no more.
pub(crate) struct Watch {
    blocks: mpsc::Receiver<Stored>,
    has_more: Arc<AtomicBool>,
    instance: InstanceName,
    shared: Arc<Shared>,
}

/// The place behind the last block that was delivered.
#[derive(Clone, Copy)]
struct Next {
    /// When the stream was created: another one may have its name by now.
    of: DateTime,
    at: u64,
}

/// What comes of an instance.
#[derive(Debug)]
pub(crate) enum News {
    Block(Stored),
    /// Further blocks are in the stream, which were not delivered here.
    More,
    /// The stream was deleted, or lost what it had: places in it begin anew.
    Ended,
}

impl Follower {
    pub(crate) fn new(connection: Connection, partitions: Partitions, partition: u32) -> Self {
        let shared = Arc::new(Shared {
            connection,
            partitions,
            partition,
            watched: Mutex::default(),
            all: Mutex::new(broadcast::Sender::new(QUEUE)),
            changed: watch::Sender::new(0),
            applied: watch::Sender::new(0),
        });
        let task = tokio::spawn(shared.clone().run());
        Self { shared, task }
    }

    /// Watches an instance. Once this returns, every block that is stored from then on is delivered.
    ///
    /// # Errors
    ///
    /// [`ApiError::Broker`] where that takes longer than a request may.
    pub(crate) async fn watch(&self, instance: &InstanceName) -> Result<Watch, ApiError> {
        let (sender, blocks) = mpsc::channel(QUEUE);
        let has_more = Arc::new(AtomicBool::new(false));
        let sending = Sending {
            blocks: sender,
            has_more: Arc::downgrade(&has_more),
        };
        let change = self.shared.change(|watched| {
            watched.of.insert(instance.clone(), sending);
        });
        let watch = Watch {
            blocks,
            has_more,
            instance: instance.clone(),
            shared: self.shared.clone(),
        };
        self.applied(change).await?;
        Ok(watch)
    }

    /// The blocks of all instances of the partition that are stored once this returns. A receiver that is slow misses
    /// some, and it is closed where the stream was deleted, or lost what it had: places in it begin anew.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch).
    pub(crate) async fn all(
        &self,
    ) -> Result<broadcast::Receiver<(InstanceName, Stored)>, ApiError> {
        let blocks = self.shared.all().subscribe();
        let change = self.shared.change(|_| {});
        self.applied(change).await?;
        Ok(blocks)
    }

    async fn applied(&self, change: u64) -> Result<(), ApiError> {
        let mut applied = self.shared.applied.subscribe();
        let applied = applied.wait_for(|applied| change <= *applied);
        match timeout(self.shared.connection.request_timeout(), applied).await {
            // Its sender is in what this holds.
            Ok(_) => Ok(()),
            Err(late) => Err(ApiError::Broker(late.into())),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// What comes next.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost where it is dropped.
    pub(crate) async fn next(&mut self) -> News {
        match self.blocks.try_recv() {
            Ok(block) => News::Block(block),
            Err(mpsc::error::TryRecvError::Disconnected) => News::Ended,
            Err(mpsc::error::TryRecvError::Empty) if self.has_more.swap(false, Acquire) => {
                News::More
            }
            Err(mpsc::error::TryRecvError::Empty) => match self.blocks.recv().await {
                Some(block) => News::Block(block),
                None => News::Ended,
            },
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.change(|watched| {
            // Another one may watch the same by now.
            let is_own = watched
                .of
                .get(&self.instance)
                .is_some_and(|it| std::ptr::eq(it.has_more.as_ptr(), Arc::as_ptr(&self.has_more)));
            if is_own {
                watched.of.remove(&self.instance);
            }
        });
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> MutexGuard<'_, broadcast::Sender<(InstanceName, Stored)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, and gives its number.
    fn change(&self, change: impl FnOnce(&mut Watched)) -> u64 {
        let mut watched = self.watched();
        change(&mut watched);
        watched.changes += 1;
        let number = watched.changes;
        self.changed.send_replace(number);
        number
    }

    async fn run(self: Arc<Self>) {
        // Once one was.
        let mut next = None;
        loop {
            if let Err(error) = self.deliver(&mut next).await {
                let stream = stream_name(self.partition);
                let error = with_sources(&*error);
                tracing::warn!(stream, error, "new blocks cannot be read; trying again");
                self.connection.connected().await;
                sleep(PAUSE).await;
            }
        }
    }

    /// Of which blocks are to be delivered, in order.
    fn subjects(&self) -> Vec<String> {
        let watched = self.watched();
        if 0 < self.all().receiver_count() || MAX_SUBJECTS < watched.of.len() {
            return vec![stream_subject(self.partition)];
        }
        let names = watched.of.keys();
        let mut subjects: Vec<_> = names.map(|it| it.blocks_subject(self.partitions)).collect();
        subjects.sort_unstable();
        subjects
    }

    /// Delivers blocks until others are to be delivered.
    async fn deliver(&self, next: &mut Option<Next>) -> Result<(), ClientError> {
        let mut changed = self.changed.subscribe();
        let number = *changed.borrow_and_update();
        let subjects = self.subjects();
        if subjects.is_empty() {
            self.applied.send_replace(number);
            // No instance wants what comes meanwhile.
            *next = None;
            changed.changed().await?;
            return Ok(());
        }
        let mut stream = self
            .connection
            .jetstream()
            .get_stream(stream_name(self.partition))
            .await?;
        let info = stream.info().await?;
        let (of, end) = (info.created, info.state.last_sequence + 1);
        let start = match *next {
            Some(next) if next.of == of && next.at <= end => next.at,
            None => end,
            Some(_) => {
                // All that is known of places in it is of another stream.
                self.watched().of.clear();
                *self.all() = broadcast::Sender::new(QUEUE);
                *next = None;
                return Ok(());
            }
        };
        let mut consumer = stream
            .create_consumer(pull::Config {
                filter_subjects: subjects.clone(),
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: start,
                },
                ack_policy: AckPolicy::None,
                max_deliver: 1,
                inactive_threshold: ABANDONED,
                memory_storage: true,
                num_replicas: 1,
                ..pull::Config::default()
            })
            .await?;
        let name = consumer.cached_info().name.clone();
        let messages = consumer.stream().heartbeat(HEARTBEAT).expires(PULL);
        let messages = messages.max_bytes_per_batch(PULL_BYTES);
        let mut messages = messages.messages().await?;
        *next = Some(Next { of, at: start });
        self.applied.send_replace(number);
        let mut delivered = 0;
        let result = loop {
            let message = tokio::select! {
                seen = changed.changed() => {
                    // Before the look at what is watched: a change after it is seen next.
                    let number = *changed.borrow_and_update();
                    match seen {
                        Ok(()) if self.subjects() == subjects => {
                            self.applied.send_replace(number);
                            continue;
                        }
                        Ok(()) => break Ok(()),
                        Err(error) => break Err(error.into()),
                    }
                }
                // The server may have forgotten the consumer, and the stream.
                () = self.connection.disconnected() => break Err("the connection is broken".into()),
                message = messages.next() => message,
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => break Err(error.into()),
                None => break Err("the consumer has ended".into()),
            };
            let info = message.info()?;
            let at = info.stream_sequence;
            if info.consumer_sequence != delivered + 1 {
                break Err("a message was lost on its way".into());
            }
            delivered = info.consumer_sequence;
            *next = Some(Next { of, at: at + 1 });
            self.pass_on(at, message.message);
        };
        drop(messages);
        if result.is_ok() {
            // What is delivered next need not begin at the last block of these instances: that may be long ago, and the
            // others have stored much since.
            let end = stream.info().await?.state.last_sequence + 1;
            let consumer = consumer.info().await?;
            if consumer.num_pending == 0 && consumer.delivered.consumer_sequence == delivered {
                *next = Some(Next { of, at: end });
            }
            // It would end by itself after a while.
            let _ = stream.delete_consumer(&name).await;
        }
        result
    }

    fn pass_on(&self, at: u64, message: async_nats::Message) {
        let Ok(instance) = InstanceName::of_subject(&message.subject) else {
            return;
        };
        let stored = Stored::new(at, message.headers.unwrap_or_default(), message.payload);
        // An error says that there is no reader of all.
        let _ = self.all().send((instance.clone(), stored.clone()));
        let mut watched = self.watched();
        let Some(sending) = watched.of.get(&instance) else {
            return;
        };
        match sending.blocks.try_send(stored) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                if let Some(has_more) = sending.has_more.upgrade() {
                    has_more.store(true, Release);
                }
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                watched.of.remove(&instance);
            }
        }
    }
}
