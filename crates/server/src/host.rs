//! What all that is served on one listener shares: its limits, its counters and its tasks.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tapline_oapi::ErrorCode;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Failure;
use crate::export::MAX_EXPORTS;
use crate::metrics::{CloseReason, Metrics, RefusalReason};
use crate::pace::Turns;
use crate::serve::{Limits, Options};

/// What every connection works with, whatever it asks for.
pub(crate) struct Host {
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    /// Who may match events with a costly filter.
    pub(crate) turns: Turns,
    /// So many exports may begin.
    pub(crate) exports: Arc<Semaphore>,
    /// How many streams there are.
    pub(crate) streams: AtomicUsize,
    /// How many of them there were when the server began to stop.
    pub(crate) streams_at_stop: AtomicUsize,
    connections: Mutex<ConnectionCounts>,
    /// How many connections are being refused with an answer.
    refusing: AtomicUsize,
    /// Cancelled when the server is to stop.
    pub(crate) stopping: CancellationToken,
    /// Set before `stopping` is cancelled: a look at it costs no lock.
    is_stopping: AtomicBool,
    tasks: TaskTracker,
    /// To abort the tasks that have not ended in time.
    handles: Mutex<Handles>,
}

/// How many connections there are.
#[derive(Default)]
struct ConnectionCounts {
    all: usize,
    /// Without the addresses that have none.
    of_address: HashMap<IpAddr, usize>,
}

/// The handles of all tasks that run, and of some that have ended.
struct Handles {
    all: Vec<AbortHandle>,
    /// At this number of handles, those of ended tasks are removed: each costs a check or two.
    sweep_at: usize,
}

const SWEEP_AT: usize = 64;

impl Default for Handles {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            sweep_at: SWEEP_AT,
        }
    }
}

impl Host {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            metrics: Metrics::new(),
            turns: Turns::default(),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            streams: AtomicUsize::new(0),
            streams_at_stop: AtomicUsize::new(0),
            connections: Mutex::default(),
            refusing: AtomicUsize::new(0),
            stopping: CancellationToken::new(),
            is_stopping: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            handles: Mutex::default(),
        })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// Ends every connection and every stream, at the deadline by force.
    pub(crate) async fn stop(&self, deadline: Instant) {
        self.is_stopping.store(true, Relaxed);
        self.streams_at_stop
            .store(self.streams.load(Relaxed), Relaxed);
        self.stopping.cancel();
        self.tasks.close();
        if timeout_at(deadline.into(), self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.tasks.len(),
                "some connections did not end before the deadline"
            );
            self.abort_all();
        }
    }

    /// Runs a task that ends when the server does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task).abort_handle();
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.all.push(handle);
        if handles.sweep_at <= handles.all.len() {
            handles.all.retain(|handle| !handle.is_finished());
            handles.sweep_at = 2 * handles.all.len().max(SWEEP_AT);
        }
    }

    fn abort_all(&self) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in &handles.all {
            handle.abort();
        }
    }
}

/// One of the connections that are refused with an answer at a time: refusing should cost less than serving. Given back
/// when it is dropped.
pub(crate) struct RefusalPermit(Arc<Host>);

impl RefusalPermit {
    pub(crate) fn acquire(host: &Arc<Host>) -> Option<Self> {
        const MOST: usize = 64;
        let permit = Self(host.clone());
        (host.refusing.fetch_add(1, Relaxed) < MOST).then_some(permit)
    }
}

impl Drop for RefusalPermit {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Relaxed);
    }
}

/// One of the connections that there may be at once. Given back when it is dropped.
pub(crate) struct ConnectionPermit {
    host: Arc<Host>,
    address: IpAddr,
    /// Why the connection is closed.
    pub(crate) reason: CloseReason,
}

impl ConnectionPermit {
    pub(crate) fn acquire(
        host: &Arc<Host>,
        address: IpAddr,
    ) -> Result<Self, (RefusalReason, Failure)> {
        /// When a client may try again, in seconds.
        const RETRY_AFTER: u32 = 2;
        let Limits {
            connections,
            connections_per_address,
            ..
        } = host.options.limits;
        let mut counts = host
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if counts.all >= connections {
            let failure = Failure::new(
                ErrorCode::Unavailable,
                format!("this server has {connections} connections open, its limit"),
            );
            return Err((RefusalReason::Connections, failure.retry_after(RETRY_AFTER)));
        }
        let here = counts.of_address.get(&address).copied().unwrap_or(0);
        if here >= connections_per_address {
            let failure = Failure::new(
                ErrorCode::TooManyRequests,
                format!(
                    "this server has {connections_per_address} connections open from your address, its limit"
                ),
            );
            return Err((RefusalReason::Address, failure.retry_after(RETRY_AFTER)));
        }
        counts.all += 1;
        counts.of_address.insert(address, here + 1);
        host.metrics.connections.accepted();
        Ok(Self {
            host: host.clone(),
            address,
            reason: CloseReason::Done,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(address = %self.address, "the task of a connection panicked; it is closed");
            self.reason = CloseReason::Failed;
        }
        self.host.metrics.connections.closed(self.reason);
        let counts = &self.host.connections;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(here) = counts.of_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.of_address.remove(&self.address);
            }
        }
    }
}
