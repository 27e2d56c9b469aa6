//! How long a task works before others run: [`Pace`] and [`Turns`].
//!
//! A worker thread runs one task at a time. A task that reads much and waits for nothing holds its thread, and
//! everything else on that thread waits for it. So such a task yields after a slice of time, however little it
//! has found meanwhile.
//!
//! Yielding alone is not enough where many tasks work: each of them runs once before a request is answered. So
//! work whose cost is up to the caller, a filter with many patterns, is also done in turns: all but one of the
//! processors do it, and the others answer.

use std::num::NonZero;
use std::time::{Duration, Instant};

use tapline_api::{Filter, PageQuery};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a task works before it lets others run.
const SLICE: Duration = Duration::from_micros(500);

/// The time that a task has worked since it last let others run.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Whether it has worked for its slice.
    pub(crate) fn is_over(&self) -> bool {
        SLICE <= self.since.elapsed()
    }

    /// Lets other tasks run if this one has worked for its slice.
    pub(crate) async fn rest(&mut self) {
        if self.is_over() {
            tokio::task::yield_now().await;
            self.since = Instant::now();
        }
    }
}

/// Whether matching an event may cost more than the rest of what is done with it.
pub(crate) fn is_costly(filter: &Filter) -> bool {
    /// Some 10 ns each.
    const SEARCHES: usize = 16;
    SEARCHES < filter.searches()
}

/// The right to do costly work. Each turn is short: the next one waits for it.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Semaphore::new((processors - 1).max(1)))
    }
}

impl Turns {
    /// A turn at matching events with this filter, in the order in which turns were asked for. `None`, at once,
    /// where that is not costly.
    pub(crate) async fn take(&self, filter: &Filter) -> Option<SemaphorePermit<'_>> {
        if !is_costly(filter) {
            return None;
        }
        self.next().await
    }

    /// The same for a page. To look for a text is costly, too.
    pub(crate) async fn take_for_page(&self, query: &PageQuery) -> Option<SemaphorePermit<'_>> {
        match query.search.is_empty() {
            true => self.take(&query.filter).await,
            false => self.take_for_search().await,
        }
    }

    /// A turn at searching JSON.
    pub(crate) async fn take_for_search(&self) -> Option<SemaphorePermit<'_>> {
        self.next().await
    }

    /// A turn at reading the patterns of a query, in the same order. `None`, at once, where it has few.
    ///
    /// To find the known types that fit costs some microseconds for each pattern, and all the streams of a page that
    /// reconnects come at once.
    pub(crate) async fn take_to_read(&self, query: Option<&str>) -> Option<SemaphorePermit<'_>> {
        /// A query may also write them as `%2A`.
        const STARS: [u8; 2] = *b"*%";
        const MANY: usize = 32;
        let is_star = |byte: &u8| STARS.contains(byte);
        let stars = query.unwrap_or_default().bytes().filter(is_star).count();
        if stars <= MANY {
            return None;
        }
        self.next().await
    }

    async fn next(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.acquire().await.ok()
    }
}
