//! Events of a range, joined: [`View`], and the few of them that are kept: [`Views`].
//!
//! To join all events of a range anew for each call would be too much for a page that asks every second what has
//! changed. So a view is kept while it is asked for, and each call reads what was published since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tapline_api::{Backend, Cursor, EncodedEnvelope, Epoch, MAX_LIMIT, Missing, Page, PageQuery};
use tapline_insight::{Finding, Input, Insight, Lost, Options};
use tapline_oapi::Envelope;
use tapline_oapi::joins::At;
// Of tokio, so that a test can move the time on.
use tokio::time::{Instant, sleep};

use crate::answer::Failure;
use crate::app::App;
use crate::joins::query::Range;
use crate::pace::Pace;

/// For how long a view is kept that no client asks for.
const IDLE: Duration = Duration::from_secs(60);

/// How many views are kept. The one that was not asked for longest leaves.
const MAX_VIEWS: usize = 4;

/// For how long a call reads before it answers with what there is.
const TIME: Duration = Duration::from_secs(2);

/// Events so close to a range are read as well, in microseconds: requests end behind it, and problems have what
/// happened around them.
const MARGIN: u64 = 10_000_000;

/// What a view keeps at most: some 60 MB, and 16 MB more where headers are long.
const KEPT: Options = Options {
    requests: 10_000,
    request_bytes: 32 * 1024 * 1024,
    messages: 100,
    navigations: 1_000,
    problems: 2_000,
    contents: false,
};

/// The views of a server.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Vec<Arc<Shared>>>);

/// A view with what is known of it without waiting for it.
#[derive(Debug)]
pub(crate) struct Shared {
    range: Range,
    present: Epoch,
    used: Mutex<Instant>,
    cover: Mutex<Cover>,
    view: tokio::sync::Mutex<View>,
}

/// What a view has all items of.
#[derive(Debug, Clone, Copy, Default)]
struct Cover {
    /// The time from which on every event was read, 0 where none was.
    from: u64,
    /// The last time of what is not kept any more.
    dropped: u64,
}

impl Views {
    /// A view that has what this range asks for: one that is there, or a new one.
    pub(crate) fn of<B: Backend>(app: &Arc<App<B>>, range: Range) -> Arc<Shared> {
        let present = app.backend.epoch();
        let mut views = app.joins.lock();
        views.retain(|view| view.present == present && !view.is_idle());
        let same = views.iter().position(|view| view.range == range);
        let found = same.or_else(|| views.iter().position(|view| view.covers(range)));
        if let Some(at) = found {
            let view = views.remove(at);
            *lock(&view.used) = Instant::now();
            views.push(view.clone());
            return view;
        }
        if views.len() == MAX_VIEWS {
            views.remove(0);
        }
        let view = Arc::new(Shared {
            range,
            present,
            used: Mutex::new(Instant::now()),
            cover: Mutex::default(),
            view: tokio::sync::Mutex::new(View::new(&*app.backend, range)),
        });
        views.push(view.clone());
        if views.len() == 1 {
            let sweeper = app.clone();
            app.host.spawn(async move { sweep(&sweeper).await });
        }
        view
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        lock(&self.0)
    }
}

/// Forgets views that no client asks for, until there are none.
async fn sweep<B: Backend>(app: &App<B>) {
    loop {
        tokio::select! {
            () = sleep(IDLE / 4) => {}
            () = app.stopping.cancelled() => return,
        }
        let mut views = app.joins.lock();
        views.retain(|view| !view.is_idle());
        if views.is_empty() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is_idle(&self) -> bool {
        IDLE <= lock(&self.used).elapsed()
    }

    /// Whether everything that this range asks for is in the view.
    fn covers(&self, range: Range) -> bool {
        let Some(since) = range.since else {
            // What is in memory, and not what an archive has besides.
            return self.range.since.is_none() && self.range.until.is_none();
        };
        let cover = *lock(&self.cover);
        let is_up_to = match (self.range.until, range.until) {
            (None, _) => true,
            (Some(has), Some(asked)) => asked <= has,
            (Some(_), None) => false,
        };
        0 < cover.from && cover.from <= since && cover.dropped < since && is_up_to
    }

    /// Reads what was published since the last call, and hands the view out. One call at a time.
    ///
    /// # Errors
    ///
    /// Where events cannot be read.
    pub(crate) async fn read<B: Backend>(
        &self,
        app: &App<B>,
    ) -> Result<tokio::sync::MutexGuard<'_, View>, Failure> {
        let mut view = self.view.lock().await;
        let read = view.catch_up(app).await;
        *lock(&self.cover) = view.cover;
        *lock(&self.used) = Instant::now();
        read?;
        Ok(view)
    }
}

/// The events of a range, joined.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) insight: Insight,
    pages: PageQuery,
    /// The epochs of the runs that were read, in the order of [`At::run`].
    epochs: Vec<Epoch>,
    /// Up to where events were read.
    position: u64,
    /// Whether they were read up to the head, at the last look.
    pub(crate) is_complete: bool,
    /// How many requests, navigations and problems are not kept any more.
    pub(crate) dropped: Dropped,
    cover: Cover,
}

/// Where the rest of a page begins.
#[derive(Debug, Default)]
struct Left {
    envelopes: usize,
    missing: usize,
}

/// How many items are not kept any more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dropped {
    pub(crate) requests: u64,
    pub(crate) navigations: u64,
    pub(crate) problems: u64,
}

impl View {
    fn new(backend: &impl Backend, range: Range) -> Self {
        // Without a time: from the oldest event in memory on.
        let after = range.since.is_none().then(|| Cursor {
            seq: backend.retained().oldest.saturating_sub(1),
            epoch: Some(backend.epoch()),
        });
        Self {
            insight: Insight::new(KEPT),
            pages: PageQuery {
                limit: MAX_LIMIT,
                after,
                since: range.since.map(|since| since.saturating_sub(MARGIN)),
                until: range.until.map(|until| until.saturating_add(MARGIN)),
                ..PageQuery::default()
            },
            epochs: Vec::new(),
            position: 0,
            is_complete: false,
            dropped: Dropped::default(),
            cover: Cover {
                // Its first event says from when on, where no time does.
                from: range.since.unwrap_or(0),
                dropped: 0,
            },
        }
    }

    /// Up to where events were read: what a client gives as `after` the next time.
    pub(crate) fn cursor(&self, present: Epoch) -> Cursor {
        Cursor {
            seq: self.position,
            epoch: Some(self.epochs.last().copied().unwrap_or(present)),
        }
    }

    /// The cursor of an item, with its epoch where that is not the present one.
    pub(crate) fn offset(&self, item: At, present: Epoch) -> Cursor {
        let run = usize::try_from(item.run).unwrap_or(usize::MAX);
        Cursor {
            seq: item.seq,
            epoch: self.epochs.get(run).copied().filter(|it| *it != present),
        }
    }

    /// Where this cursor is in what was read. `None` where its epoch was not read.
    pub(crate) fn find(&self, cursor: Cursor, present: Epoch) -> Option<At> {
        let epoch = cursor.epoch.unwrap_or(present);
        let seq = cursor.seq;
        let run = self.epochs.iter().rposition(|it| *it == epoch);
        match run {
            Some(run) => Some(At {
                run: run as u64,
                seq,
            }),
            // Nothing of the present epoch was read yet.
            None if epoch == present => Some(At {
                run: self.epochs.len() as u64,
                seq,
            }),
            None => None,
        }
    }

    async fn catch_up<B: Backend>(&mut self, app: &App<B>) -> Result<(), Failure> {
        let began = Instant::now();
        let mut pace = Pace::new();
        loop {
            let page = app.backend.page(&self.pages).await?;
            if self.epochs.last() != Some(&page.epoch) {
                self.epochs.push(page.epoch);
                self.position = 0;
                self.feed(Input::Epoch(page.epoch));
            }
            let mut left = Left::default();
            loop {
                let turn = app.host.turns.take_for_search().await;
                let is_read = self.read_some(&page, &mut left, &pace)?;
                drop(turn);
                if is_read {
                    break;
                }
                pace.rest().await;
            }
            let offset = page.next_offset;
            let end = match offset {
                Some(next) if next.epoch.is_none_or(|it| it == page.epoch) => next.seq,
                Some(_) => self.position,
                None => page.retained.head,
            };
            self.position = self.position.max(end);
            self.pages.offset = Some(offset.unwrap_or(Cursor {
                seq: self.position,
                epoch: Some(page.epoch),
            }));
            self.is_complete = offset.is_none();
            if self.is_complete || TIME <= began.elapsed() {
                return Ok(());
            }
            pace.rest().await;
        }
    }

    /// Reads what is left of a page, until the slice of time is over. Returns whether all of it was read.
    fn read_some<E: EncodedEnvelope>(
        &mut self,
        page: &Page<E>,
        left: &mut Left,
        pace: &Pace,
    ) -> Result<bool, Failure> {
        while let Some(envelope) = page.envelopes.get(left.envelopes) {
            while let Some(gap) = page.missing.get(left.missing)
                && *gap.seqs.start() < envelope.seq()
            {
                self.lose(gap);
                left.missing += 1;
            }
            self.event(envelope)?;
            left.envelopes += 1;
            if pace.is_over() {
                return Ok(false);
            }
        }
        for gap in page.missing.iter().skip(left.missing) {
            self.lose(gap);
        }
        Ok(true)
    }

    fn event(&mut self, encoded: &impl EncodedEnvelope) -> Result<(), Failure> {
        if encoded.seq() <= self.position {
            return Ok(());
        }
        let envelope: Envelope =
            serde_json::from_str(&encoded.json().whole()).map_err(|error| {
                let message = format!("event {} cannot be read", encoded.seq());
                Failure::new(tapline_oapi::ErrorCode::Internal, message)
                    .caused_by(error.to_string())
            })?;
        let from = &mut self.cover.from;
        if *from == 0 {
            // Before the first event of a run there is nothing; otherwise items at its beginning are not whole.
            let margin = if envelope.seq == 1 { 0 } else { MARGIN };
            *from = envelope.event.ts.saturating_add(margin).max(1);
        }
        self.position = envelope.seq;
        self.feed(Input::Event(&envelope));
        Ok(())
    }

    fn lose(&mut self, missing: &Missing) {
        let end = *missing.seqs.end();
        // A call that was given up may have read a part of the page.
        if end <= self.position {
            return;
        }
        self.position = end;
        self.feed(Input::Lost(Lost {
            count: Some(missing.at_most),
            ..Lost::unknown(*missing.seqs.start(), *missing.seqs.end())
        }));
    }

    fn feed(&mut self, input: Input<'_>) {
        let (dropped, last) = (&mut self.dropped, &mut self.cover.dropped);
        self.insight.feed(input, &mut |finding| {
            let (count, ts) = match finding {
                Finding::Request(it) => (&mut dropped.requests, it.end_ts().unwrap_or(it.hop_ts)),
                Finding::Navigation(it) => (&mut dropped.navigations, it.replaced.unwrap_or(it.ts)),
                Finding::Problem(it) => (&mut dropped.problems, it.ts),
            };
            *count += 1;
            *last = (*last).max(ts);
        });
    }
}
