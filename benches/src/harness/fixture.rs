//! A rival in a cell, ready to be given slices of time.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use tapline_oapi::Event;

use super::cell::{Cell, Events, Mode};
use super::clock::{self, nanos, timed};
use super::histogram::Histogram;
use super::primitives;
use super::readers::{Arrivals, Followers, Sleepers};
use super::sample::{Metric, Sample};
use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, ReadsJson, Rival, Wanted};
use crate::{BATCH, RETAINED};

pub(super) trait Fixture {
    /// Measures for about that long. Between slices it does nothing.
    fn slice(&mut self, time: Duration) -> Sample;
}

/// What opening a rival for a cell gives.
pub(super) type Ready = Result<Box<dyn Fixture>, CannotDo>;

pub(super) fn open<R: Rival>(cell: &Cell, events: Events) -> Ready {
    let filling = events.make();
    let opened = R::open(&Wanted {
        producers: cell.producers,
        readers: cell.readers,
        asleep: cell.mode.asleep(),
        filling: &filling,
    })?;
    Ok(match cell.mode {
        Mode::Drain => Box::new(Drain::new(opened, filling)),
        Mode::OneByOne => Box::new(OneByOne::new(opened, filling)),
        Mode::Armed => Box::new(Armed::new(opened, filling)),
        Mode::Busy => Box::new(Flow::new(opened, events, |readers| {
            Readers::Busy(readers.into_iter().map(Apart).collect())
        })),
        Mode::Stretch => Box::new(Flow::new(opened, events, |readers| {
            Readers::Following(Followers::new(readers, None))
        })),
        Mode::Left => Box::new(Flow::new(opened, events, |readers| {
            let mut sleepers = Sleepers::new(readers);
            sleepers.fall_asleep();
            Readers::Left { _asleep: sleepers }
        })),
        Mode::Harness | Mode::Filtered | Mode::Unread | Mode::Corpus => {
            Box::new(Flow::new(opened, events, |_| Readers::None))
        }
    })
}

/// As [`open`], and without readers, however many the cell asks for.
pub(super) fn open_unread<R: Rival>(cell: &Cell, events: Events) -> Ready {
    let unread = Cell {
        mode: Mode::Unread,
        readers: 0,
        ..*cell
    };
    open::<R>(&unread, events)
}

/// For [`Mode::Corpus`].
pub(super) fn open_for_json<R: Rival<Reader: ReadsJson>>(cell: &Cell, _: Events) -> Ready {
    let filling = Events::Corpus.make();
    let opened = R::open(&Wanted {
        producers: cell.producers,
        readers: cell.readers,
        asleep: false,
        filling: &filling,
    })?;
    Ok(Box::new(Json::new(opened, filling)))
}

/// What two producers that take turns cannot fall below: a cache line that moves for each event, measured in the same minutes.
pub(super) fn open_ping_pong(cell: &Cell, _: Events) -> Ready {
    match cell.producers {
        2 => Ok(Box::new(PingPong)),
        _ => Err(CannotDo("it is between two threads")),
    }
}

struct PingPong;

impl Fixture for PingPong {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut sample = Sample::default();
        sample.set(Metric::PerEvent, primitives::ping_pong(time / 2));
        sample
    }
}

/// Events to publish, over and over.
struct Supply {
    events: Vec<Arc<Event>>,
    next: usize,
}

impl Supply {
    fn of(events: Vec<Arc<Event>>) -> Self {
        Self { events, next: 0 }
    }

    #[inline]
    fn next(&mut self) -> &Arc<Event> {
        self.take(1).next().expect("one was asked for")
    }

    #[inline]
    fn take(&mut self, events: u64) -> impl Iterator<Item = &Arc<Event>> {
        let (all, next) = (&self.events, &mut self.next);
        (0..events).map(move |_| {
            let event = &all[*next];
            *next += 1;
            if *next == all.len() {
                *next = 0;
            }
            hint::black_box(event)
        })
    }
}

/// Producers that publish without a pause, and what the readers do meanwhile. Half of a slice is
/// measured as a whole, and in the other half each call.
struct Flow<P, R> {
    producers: Vec<Apart<(P, Supply)>>,
    readers: Readers<R>,
    /// How many events are published between two looks at the clock.
    chunk: u64,
    /// Has been measured before.
    is_warm: bool,
}

enum Readers<R> {
    None,
    /// On threads for the length of a measurement.
    Busy(Vec<Apart<R>>),
    Following(Followers),
    /// Held, and nothing else.
    Left {
        _asleep: Sleepers,
    },
}

/// Not in one cache line with its neighbour, which another thread writes to. Lines are fetched in pairs.
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// What one producer did.
struct Published {
    events: u64,
    took: Duration,
    cpu: Duration,
}

impl<P: Producer, R: Reader> Flow<P, R> {
    fn new<N>(opened: Opened<N>, events: Events, readers: impl FnOnce(Vec<R>) -> Readers<R>) -> Self
    where
        N: Rival<Producer = P, Reader = R>,
    {
        let supplied = |producer| Apart((producer, Supply::of(events.make())));
        Self {
            producers: opened.producers.into_iter().map(supplied).collect(),
            readers: readers(opened.readers),
            chunk: 16,
            is_warm: false,
        }
    }

    /// Caches; before the first slice also memory that has just been given to the process; and how many events make
    /// a chunk.
    fn warm_up(&mut self, slice: Duration) {
        const CACHES: Duration = Duration::from_millis(10);
        /// Long beside a look at the clock, and short beside a slice.
        const CHUNK: Duration = Duration::from_micros(20);
        let time = if self.is_warm { CACHES } else { slice / 2 };
        self.is_warm = true;
        let chunk = self.chunk;
        let (published, _) =
            self.publish(&|producer, supply| publish_for(producer, supply, time, chunk));
        let one = &published[0];
        let in_a_chunk = one.events as f64 / one.took.as_secs_f64() * CHUNK.as_secs_f64();
        self.chunk = (in_a_chunk as u64).clamp(1, 4096);
    }

    fn throughput(&mut self, time: Duration, sample: &mut Sample) {
        let chunk = self.chunk;
        let process_before = clock::of_process();
        let (published, delivered) =
            self.publish(&|producer, supply| publish_for(producer, supply, time, chunk));
        let cpu_of_all = clock::of_process().saturating_sub(process_before);
        let rate = |one: &Published| one.events as f64 / one.took.as_secs_f64();
        let events = published.iter().map(|one| one.events).sum::<u64>() as f64;
        let cpu: Duration = published.iter().map(|one| one.cpu).sum();
        sample.set(
            Metric::PerEvent,
            1e9 / published.iter().map(rate).sum::<f64>(),
        );
        sample.set(Metric::CpuPublishing, nanos(cpu) / events);
        sample.set(Metric::Delivered, delivered);
        if delivered.is_some() {
            let reading = cpu_of_all.saturating_sub(cpu);
            sample.set(Metric::CpuReading, nanos(reading) / events);
        }
    }

    fn latency(&mut self, time: Duration, sample: &mut Sample) {
        let (calls, _) = self.publish(&|producer, supply| time_calls_for(producer, supply, time));
        let mut all = Histogram::new();
        calls.iter().for_each(|calls| all.merge(calls));
        sample.set_latency(&all);
    }

    /// Lets all producers work at the same time. With what they did, how many events a second the readers were
    /// given, where there are any that read.
    fn publish<T: Send>(
        &mut self,
        work: &(impl Fn(&mut P, &mut Supply) -> T + Sync),
    ) -> (Vec<T>, Option<f64>) {
        let line_up = LineUp::of(self.producers.len());
        let threads = cores().saturating_sub(self.producers.len()).max(1);
        let delivered_before = match &self.readers {
            Readers::Following(followers) => followers.delivered(),
            _ => 0,
        };
        let published = AtomicBool::new(false);
        let begin = Instant::now();
        let (done, mut delivered) = thread::scope(|scope| {
            let reading: Vec<_> = match &mut self.readers {
                Readers::Busy(readers) => groups(readers, threads)
                    .map(|group| scope.spawn(|| read_until(&published, group)))
                    .collect(),
                _ => Vec::new(),
            };
            // Also where a producer panics: the scope waits for the readers.
            let published = SetWhenDropped(&published);
            let line_up = &line_up;
            let produce = move |Apart((producer, supply)): &mut Apart<(P, Supply)>| {
                line_up.wait();
                work(producer, supply)
            };
            let mut producers = self.producers.iter_mut();
            let mine = producers.next().expect("there is a producer");
            let others: Vec<_> = producers
                .map(|other| scope.spawn(move || produce(other)))
                .collect();
            let mut done = vec![produce(mine)];
            done.extend(others.into_iter().map(join));
            drop(published);
            let delivered: u64 = reading.into_iter().map(join).sum();
            (done, delivered)
        });
        let took = begin.elapsed().as_secs_f64();
        if let Readers::Following(followers) = &self.readers {
            delivered = followers.delivered() - delivered_before;
        }
        let reads = matches!(self.readers, Readers::Busy(_) | Readers::Following(_));
        (done, reads.then_some(delivered as f64 / took))
    }
}

impl<P: Producer, R: Reader> Fixture for Flow<P, R> {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut sample = Sample::default();
        if let Readers::Following(followers) = &self.readers {
            followers.resume();
        }
        self.warm_up(time);
        self.throughput(time / 2, &mut sample);
        self.latency(time / 2, &mut sample);
        if let Readers::Following(followers) = &self.readers {
            followers.pause();
        }
        sample
    }
}

fn publish_for(
    producer: &mut impl Producer,
    supply: &mut Supply,
    time: Duration,
    chunk: u64,
) -> Published {
    let cpu_before = clock::of_thread();
    let begin = Instant::now();
    let mut events = 0;
    let took = loop {
        producer.publish_all(supply.take(chunk));
        events += chunk;
        let took = begin.elapsed();
        if time <= took {
            break took;
        }
    };
    Published {
        events,
        took,
        cpu: clock::of_thread().saturating_sub(cpu_before),
    }
}

fn time_calls_for(producer: &mut impl Producer, supply: &mut Supply, time: Duration) -> Histogram {
    let mut calls = Histogram::new();
    let begin = Instant::now();
    loop {
        for _ in 0..16 {
            let event = supply.next();
            calls.record(timed(|| producer.publish(event)));
        }
        if time <= begin.elapsed() {
            return calls;
        }
    }
}

fn read_until<R: Reader>(published: &AtomicBool, readers: &mut [Apart<R>]) -> u64 {
    let mut delivered = 0;
    while !published.load(Relaxed) {
        for Apart(reader) in readers.iter_mut() {
            delivered += reader.read().delivered;
        }
    }
    delivered
}

/// At most so many groups of about the same size.
fn groups<R>(readers: &mut [R], groups: usize) -> impl Iterator<Item = &mut [R]> {
    let size = readers.len().div_ceil(groups);
    readers.chunks_mut(size.max(1))
}

/// Passes a panic on.
pub(super) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// One publish at a time, when all readers sleep.
struct OneByOne<P> {
    producer: P,
    supply: Supply,
    followers: Followers,
    arrivals: Arc<Arrivals>,
    published: u64,
}

impl<P: Producer> OneByOne<P> {
    fn new<N: Rival<Producer = P>>(opened: Opened<N>, events: Vec<Arc<Event>>) -> Self {
        let arrivals = Arrivals::of(opened.readers.len());
        Self {
            producer: only(opened.producers),
            supply: Supply::of(events),
            followers: Followers::new(opened.readers, Some(&arrivals)),
            arrivals,
            published: 0,
        }
    }
}

impl<P: Producer> Fixture for OneByOne<P> {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut calls = Histogram::new();
        let mut first = Histogram::new();
        let mut last = Histogram::new();
        let mut events = 0_u64;
        let others = || clock::of_process().saturating_sub(clock::of_thread());
        let cpu_before = others();
        let begin = Instant::now();
        while events == 0 || begin.elapsed() < time {
            self.followers.settle(self.published);
            let event = self.supply.next();
            self.arrivals.begin();
            let took = timed(|| self.producer.publish(event));
            self.published += 1;
            events += 1;
            let (to_first, to_last) = self.arrivals.wait();
            calls.record(took);
            first.record(to_first);
            last.record(to_last);
        }
        self.followers.settle(self.published);
        let cpu = others().saturating_sub(cpu_before);

        let mut sample = Sample::default();
        sample.set_latency(&calls);
        sample.set(Metric::FirstP50, first.quantile(0.5));
        sample.set(Metric::FirstP99, first.quantile(0.99));
        if self.followers.len() > 1 {
            sample.set(Metric::LastP50, last.quantile(0.5));
            sample.set(Metric::LastP99, last.quantile(0.99));
        }
        sample.set(Metric::CpuReading, nanos(cpu) / events as f64);
        sample
    }
}

/// One publish at a time, when all readers have fallen asleep on this thread.
struct Armed<P> {
    producer: P,
    supply: Supply,
    sleepers: Sleepers,
}

impl<P: Producer> Armed<P> {
    fn new<N: Rival<Producer = P>>(opened: Opened<N>, events: Vec<Arc<Event>>) -> Self {
        Self {
            producer: only(opened.producers),
            supply: Supply::of(events),
            sleepers: Sleepers::new(opened.readers),
        }
    }
}

impl<P: Producer> Fixture for Armed<P> {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut calls = Histogram::new();
        let mut called = 0;
        let mut events = 0_u64;
        let begin = Instant::now();
        while events == 0 || begin.elapsed() < time {
            self.sleepers.fall_asleep();
            let event = self.supply.next();
            let before = self.sleepers.calls();
            calls.record(timed(|| self.producer.publish(event)));
            called += self.sleepers.calls() - before;
            events += 1;
        }
        let mut sample = Sample::default();
        sample.set_latency(&calls);
        sample.set(Metric::Calls, called as f64 / events as f64);
        sample
    }
}

/// Fills a ring that has been read, and drains it.
struct Drain<P, R> {
    producer: P,
    supply: Supply,
    reader: R,
}

impl<P: Producer, R: Reader> Drain<P, R> {
    fn new<N>(opened: Opened<N>, events: Vec<Arc<Event>>) -> Self
    where
        N: Rival<Producer = P, Reader = R>,
    {
        Self {
            producer: only(opened.producers),
            supply: Supply::of(events),
            reader: only(opened.readers),
        }
    }
}

impl<P: Producer, R: Reader> Fixture for Drain<P, R> {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut events = 0;
        let mut took = Duration::ZERO;
        let begin = Instant::now();
        while events == 0 || begin.elapsed() < time {
            for _ in 0..RETAINED {
                self.producer.publish(self.supply.next());
            }
            took += timed(|| {
                loop {
                    let passed = self.reader.read();
                    if passed == Passed::default() {
                        break;
                    }
                    events += passed.delivered;
                }
            });
        }
        let mut sample = Sample::default();
        sample.set(Metric::PerEvent, nanos(took) / events as f64);
        sample.set(Metric::Delivered, events as f64 / took.as_secs_f64());
        sample
    }
}

/// Publishes a batch, and lets each reader ask for its JSON.
struct Json<P, R> {
    producer: P,
    supply: Supply,
    readers: Vec<R>,
}

impl<P: Producer, R: ReadsJson> Json<P, R> {
    fn new<N>(opened: Opened<N>, events: Vec<Arc<Event>>) -> Self
    where
        N: Rival<Producer = P, Reader = R>,
    {
        let mut json = Self {
            producer: only(opened.producers),
            supply: Supply::of(events),
            readers: opened.readers,
        };
        // From now on, what is evicted has JSON that is freed with it.
        for _ in 0..RETAINED / BATCH {
            json.batch();
        }
        json
    }

    fn batch(&mut self) -> u64 {
        for _ in 0..BATCH {
            self.producer.publish(self.supply.next());
        }
        let mut delivered = 0;
        for reader in &mut self.readers {
            delivered += reader.read_json().delivered;
        }
        delivered
    }
}

impl<P: Producer, R: ReadsJson> Fixture for Json<P, R> {
    fn slice(&mut self, time: Duration) -> Sample {
        let mut events = 0;
        let mut delivered = 0;
        let begin = Instant::now();
        let took = loop {
            delivered += self.batch();
            events += BATCH as u64;
            let took = begin.elapsed();
            if time <= took {
                break took;
            }
        };
        assert_eq!(
            delivered,
            events * self.readers.len() as u64,
            "no reader lags"
        );
        let mut sample = Sample::default();
        sample.set(Metric::PerEvent, nanos(took) / events as f64);
        sample.set(Metric::Delivered, delivered as f64 / took.as_secs_f64());
        sample
    }
}

/// Cells for one producer, or one reader, have one.
fn only<T>(of: Vec<T>) -> T {
    let mut of = of.into_iter();
    match (of.next(), of.next()) {
        (Some(one), None) => one,
        _ => panic!("the cell is for one of them"),
    }
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Threads begin at the same moment.
pub(super) struct LineUp(AtomicUsize);

impl LineUp {
    pub(super) fn of(threads: usize) -> Self {
        Self(AtomicUsize::new(threads))
    }

    pub(super) fn wait(&self) {
        const PATIENCE: Duration = Duration::from_secs(20);
        self.0.fetch_sub(1, AcqRel);
        let begin = Instant::now();
        while self.0.load(Acquire) > 0 {
            assert!(begin.elapsed() < PATIENCE, "a thread has not started");
            // The other may be waiting for this core.
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::Tapline;

    /// What a slice of Tapline measures in such a cell.
    #[track_caller]
    fn check(mode: Mode, producers: usize, readers: usize, expected: &[Metric]) {
        let cell = Cell {
            mode,
            producers,
            readers,
        };
        let open = match mode {
            Mode::Corpus => open_for_json::<Tapline>,
            _ => open::<Tapline>,
        };
        let Ok(mut fixture) = open(&cell, Events::Small) else {
            panic!("Tapline can do it")
        };
        // Twice, as with every round: what was paused resumes.
        for _ in 0..2 {
            let sample = fixture.slice(Duration::from_millis(2));
            let measured = Metric::ALL
                .into_iter()
                .filter(|metric| sample.get(*metric).is_some());
            assert_eq!(measured.collect::<Vec<_>>(), expected, "{cell:?}");
        }
    }

    const CALLS: [Metric; 4] = [Metric::P50, Metric::P99, Metric::P999, Metric::Max];

    #[test]
    fn a_flow_measures_all_events_and_each_call() {
        let flow = [&[Metric::PerEvent, Metric::CpuPublishing], &CALLS[..]].concat();
        check(Mode::Unread, 1, 0, &flow);
        check(Mode::Unread, 2, 0, &flow);
        check(Mode::Left, 1, 3, &flow);
    }

    #[test]
    fn with_readers_a_flow_measures_their_part_too() {
        let all = [
            Metric::PerEvent,
            Metric::Delivered,
            Metric::CpuPublishing,
            Metric::CpuReading,
        ];
        let flow = [&all, &CALLS[..]].concat();
        check(Mode::Busy, 2, 3, &flow);
        check(Mode::Stretch, 1, 3, &flow);
    }

    #[test]
    fn single_calls_are_measured_with_what_they_wake() {
        let calls = [&CALLS[..], &[Metric::Calls]].concat();
        check(Mode::Armed, 1, 3, &calls);
        let wakes = [
            Metric::FirstP50,
            Metric::FirstP99,
            Metric::LastP50,
            Metric::LastP99,
        ];
        let one_by_one = [&[Metric::CpuReading], &CALLS[..], &wakes].concat();
        check(Mode::OneByOne, 1, 3, &one_by_one);
    }

    #[test]
    fn reading_is_measured_by_event_and_by_second() {
        let reading = [Metric::PerEvent, Metric::Delivered];
        check(Mode::Drain, 1, 1, &reading);
        check(Mode::Corpus, 1, 8, &reading);
    }
}
