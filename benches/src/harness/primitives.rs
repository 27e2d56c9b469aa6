//! What the machine itself takes for the operations that everything here is made of. A figure of an event says something
//! about another machine only beside these.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::parent_id;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::{self, nanos, timed};
use super::fixture::{Apart, LineUp, cores, join};
use super::results::{aligned, median, show};
use super::sample::Unit;

/// For each primitive, in each of the rounds.
const SLICE: Duration = Duration::from_millis(5);

const ROUNDS: usize = 5;

/// How many repetitions there are between two looks at the clock: it is not in the figures.
const CHUNK: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    LoadStore,
    CompareExchange,
    Contended,
    PingPong,
    Memory,
    Allocation,
    Clock,
    SystemCall,
    Send,
    Unpark,
    WakeUp,
}

impl Primitive {
    const ALL: [Self; 11] = [
        Self::LoadStore,
        Self::CompareExchange,
        Self::Contended,
        Self::PingPong,
        Self::Memory,
        Self::Allocation,
        Self::Clock,
        Self::SystemCall,
        Self::Send,
        Self::Unpark,
        Self::WakeUp,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LoadStore => "load and store",
            Self::CompareExchange => "compare-exchange",
            Self::Contended => "contended compare-exchange",
            Self::PingPong => "ping-pong",
            Self::Memory => "memory load",
            Self::Allocation => "allocation",
            Self::Clock => "clock",
            Self::SystemCall => "system call",
            Self::Send => "loopback send",
            Self::Unpark => "unpark",
            Self::WakeUp => "wake-up",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::LoadStore => "a relaxed load, and a store of one more, in the first cache",
            Self::CompareExchange => {
                "the same by a compare-exchange, which is a locked instruction"
            }
            Self::Contended => "two threads, as fast as they can; for each that succeeds",
            Self::PingPong => "a cache line from one core to another, one way",
            Self::Memory => "a load from beyond every cache, of which the next one's address comes",
            Self::Allocation => "128 bytes allocated and freed by the program's allocator",
            Self::Clock => "one look at the clock",
            Self::SystemCall => "the cheapest: getppid",
            Self::Send => "105 bytes by TCP to a socket of this process that no thread waits at",
            Self::Unpark => "the call that wakes a parked thread",
            Self::WakeUp => "from right before that call until the thread runs",
        }
    }
}

/// Nanoseconds in each round. None of what the machine cannot do.
pub(super) struct Primitives(Vec<(Primitive, Vec<f64>)>);

/// Of the rounds.
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Primitives {
    /// All of them, round by round.
    pub(super) fn measure() -> Self {
        let all = Primitive::ALL.map(|primitive| (primitive, Vec::new()));
        let mut primitives = Self(all.into());
        let chain = Chain::new();
        for _ in 0..ROUNDS {
            primitives.add(Primitive::LoadStore, load_store());
            primitives.add(Primitive::CompareExchange, compare_exchange());
            if cores() > 1 {
                primitives.add(Primitive::Contended, contended());
                primitives.add(Primitive::PingPong, ping_pong(SLICE));
                let (unpark, wake_up) = wake_ups();
                primitives.add(Primitive::Unpark, unpark);
                primitives.add(Primitive::WakeUp, wake_up);
            }
            primitives.add(Primitive::Memory, chain.follow());
            primitives.add(Primitive::Allocation, allocation());
            primitives.add(Primitive::Clock, repeat(|| _ = black_box(Instant::now())));
            primitives.add(Primitive::SystemCall, repeat(|| _ = black_box(parent_id())));
            if let Ok(send) = loopback_send() {
                primitives.add(Primitive::Send, send);
            }
        }
        primitives
    }

    fn add(&mut self, primitive: Primitive, round: f64) {
        self.0[primitive as usize].1.push(round);
    }

    pub(super) fn typical(&self, primitive: Primitive) -> Option<f64> {
        median(self.0[primitive as usize].1.clone())
    }

    /// Those that were measured.
    pub(super) fn all(&self) -> impl Iterator<Item = (Primitive, Spread)> {
        self.0.iter().filter_map(|(primitive, rounds)| {
            let spread = Spread {
                median: median(rounds.clone())?,
                lowest: rounds.iter().copied().fold(f64::INFINITY, f64::min),
                highest: rounds.iter().copied().fold(0.0, f64::max),
            };
            Some((*primitive, spread))
        })
    }

    pub(super) fn table(&self) -> String {
        let head = ["", "median", "lowest", "highest"]
            .map(str::to_owned)
            .to_vec();
        let rows = self.all().map(|(primitive, spread)| {
            let figures = [spread.median, spread.lowest, spread.highest];
            let mut row = vec![format!("{}: {}", primitive.name(), primitive.what())];
            row.extend(figures.map(|figure| show(Unit::Nanos, figure)));
            row
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        format!(
            "What it takes for the primitives that publishing and reading are made of:\n{}",
            aligned(&rows)
        )
    }

    #[cfg(test)]
    pub(super) fn of(known: &[(Primitive, f64)]) -> Self {
        let mut primitives = Self(
            Primitive::ALL
                .map(|primitive| (primitive, Vec::new()))
                .into(),
        );
        for (primitive, nanos) in known {
            primitives.add(*primitive, *nanos);
        }
        primitives
    }
}

/// Nanoseconds for one repetition: the median of the chunks, so that a moment in which something else has the core does not
/// count.
fn repeat(mut work: impl FnMut()) -> f64 {
    let chunk = || {
        (0..CHUNK).for_each(|_| work());
        CHUNK
    };
    chunks(SLICE, chunk)
}

/// The same, where a chunk says how much it has done.
fn chunks(time: Duration, mut chunk: impl FnMut() -> u64) -> f64 {
    let mut each = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < time {
        let done = chunk();
        let now = Instant::now();
        each.push(nanos(now - last) / done as f64);
        last = now;
    }
    median(each).expect("there is time for one")
}

fn load_store() -> f64 {
    let line = Apart(AtomicU64::new(0));
    let Apart(line) = black_box(&line);
    repeat(|| line.store(line.load(Relaxed) + 1, Relaxed))
}

fn compare_exchange() -> f64 {
    let line = Apart(AtomicU64::new(0));
    let Apart(line) = black_box(&line);
    repeat(|| _ = black_box(one_more(line)))
}

fn one_more(line: &AtomicU64) -> bool {
    let seen = line.load(Relaxed);
    line.compare_exchange(seen, seen + 1, AcqRel, Relaxed)
        .is_ok()
}

/// As with the producers of a cell: wall time over what both have done.
fn contended() -> f64 {
    let Apart(line) = &Apart(AtomicU64::new(0));
    let chunk = || (0..CHUNK).filter(|_| one_more(line)).count() as u64;
    let [one, other] = on_two_threads(|_| chunks(SLICE, chunk));
    1.0 / (1.0 / one + 1.0 / other)
}

/// Two threads that take turns in adding one: nanoseconds for each turn.
pub(super) fn ping_pong(time: Duration) -> f64 {
    const TURNS: u64 = 256;
    const THE_END: u64 = u64::MAX;
    let Apart(line) = &Apart(AtomicU64::new(0));
    let take_turns = |first| {
        let mut turn = first;
        let mut take_one = || {
            let found = wait_for(line, |value| value == turn || value == THE_END);
            if found != THE_END {
                line.store(turn + 1, Release);
            }
            turn += 2;
            found != THE_END
        };
        if first > 0 {
            while take_one() {}
            return 0.0;
        }
        let chunk = || {
            (0..TURNS / 2).for_each(|_| _ = take_one());
            TURNS
        };
        let took = chunks(time, chunk);
        line.store(THE_END, Release);
        took
    };
    let [took, _] = on_two_threads(take_turns);
    took
}

/// The same work at the same time: the number is 0 on one of them, and 1 on the other.
fn on_two_threads<T: Send>(work: impl Fn(u64) -> T + Sync) -> [T; 2] {
    let line_up = LineUp::of(2);
    let work = |number| {
        line_up.wait();
        work(number)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| work(1));
        [work(0), join(other)]
    })
}

/// Without a pause instruction, which would be in the figure. With the answer.
fn wait_for(value: &AtomicU64, is_it: impl Fn(u64) -> bool) -> u64 {
    const PATIENCE: Duration = Duration::from_secs(20);
    let begin = Instant::now();
    loop {
        for _ in 0..CHUNK {
            let value = value.load(Acquire);
            if is_it(value) {
                return value;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "the other thread does nothing");
        // It may be waiting for this core.
        thread::yield_now();
    }
}

/// Lines of the cache, each of which says which one comes next, in no order: more than the largest caches hold.
struct Chain(Vec<Link>);

#[repr(align(64))]
struct Link {
    next: u32,
}

impl Chain {
    fn new() -> Self {
        const BYTES: usize = 128 << 20;
        let links = (BYTES / size_of::<Link>()) as u32;
        let mut order: Vec<u32> = (0..links).collect();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for end in (1..links as usize).rev() {
            // Xorshift: no two runs need another order.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(end, (random % (end as u64 + 1)) as usize);
        }
        let mut chain: Vec<Link> = (0..links).map(|_| Link { next: 0 }).collect();
        for (from, to) in order.iter().zip(order.iter().cycle().skip(1)) {
            chain[*from as usize].next = *to;
        }
        Self(chain)
    }

    fn follow(&self) -> f64 {
        let mut at = 0;
        let took = repeat(|| at = self.0[at as usize].next);
        black_box(at);
        took
    }
}

fn allocation() -> f64 {
    const BYTES: usize = 128;
    repeat(|| drop(black_box(Vec::<u8>::with_capacity(black_box(BYTES)))))
}

fn loopback_send() -> io::Result<f64> {
    const BURST: usize = 16;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    sender.set_nodelay(true)?;
    let (mut receiver, _) = listener.accept()?;
    let bytes = [b'.'; 105];
    let mut received = [0; BURST * 105];
    let mut took = Duration::ZERO;
    let mut sent = 0;
    while took < SLICE {
        let begin = Instant::now();
        for _ in 0..BURST {
            sender.write_all(&bytes)?;
        }
        took += begin.elapsed();
        receiver.read_exact(&mut received)?;
        sent += BURST;
    }
    Ok(nanos(took) / sent as f64)
}

/// What the call takes, and how long it is until the thread runs: medians of one round.
fn wake_ups() -> (f64, f64) {
    const WAKE_UPS: usize = 60;
    /// How long the thread has to park once it has answered.
    const PARKS_IN: Duration = Duration::from_micros(20);
    const NOTHING: u64 = 0;
    const THE_END: u64 = u64::MAX;
    let zero = Instant::now();
    let now = || zero.elapsed().as_nanos() as u64;
    let called = AtomicU64::new(NOTHING);
    let ran = AtomicU64::new(NOTHING);
    let (calls, until_it_runs): (Vec<f64>, Vec<f64>) = thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            loop {
                match called.swap(NOTHING, Acquire) {
                    NOTHING => thread::park(),
                    THE_END => return,
                    _ => ran.store(now(), Release),
                }
            }
        });
        let thread = sleeper.thread();
        let wake_ups = (0..WAKE_UPS).map(|_| {
            clock::spin(PARKS_IN);
            let begin = now();
            called.store(begin, Release);
            let call = timed(|| thread.unpark());
            let runs = wait_for(&ran, |ran| begin <= ran && ran != NOTHING);
            (nanos(call), (runs - begin) as f64)
        });
        let wake_ups = wake_ups.collect();
        called.store(THE_END, Release);
        thread.unpark();
        wake_ups
    });
    let typical = |values| median(values).expect("there was a wake-up");
    (typical(calls), typical(until_it_runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_primitive_is_measured_in_every_round() {
        let primitives = Primitives::measure();
        for (primitive, rounds) in &primitives.0 {
            assert_eq!(rounds.len(), ROUNDS, "{primitive:?}");
            assert!(rounds.iter().all(|nanos| *nanos > 0.0), "{primitive:?}");
        }
        let table = primitives.table();
        let rows = 2 + Primitive::ALL.len();
        assert_eq!(table.lines().count(), rows, "{table}");
    }

    #[test]
    fn the_chain_has_every_line_once() {
        let Chain(links) = Chain::new();
        let mut at = 0;
        let steps = (1..).find(|_| {
            at = links[at as usize].next;
            at == 0
        });
        assert_eq!(steps, Some(links.len()));
    }
}
