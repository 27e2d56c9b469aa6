//! What is aimed at, and how far it is: beside a rival, and in primitives of the machine.

use super::cell::{Cell, Mode, PING_PONG, UNREAD};
use super::machine::Machine;
use super::primitives::{Primitive, Primitives};
use super::results::{Results, aligned, short, show};
use super::sample::{Metric, Unit};
use crate::rival::Rival;
use crate::rivals::{EmptyLoop, GoDesign, Tapline, TaplineBatch, Tokio};

/// What one of the aims is about. Times are without what the harness costs.
pub(super) struct Aim {
    pub(super) what: String,
    /// Nanoseconds. `None` where the run has not measured it, as with the ratios.
    pub(super) value: Option<f64>,
    pub(super) beside: &'static str,
    /// How many times what is beside it.
    pub(super) times: Option<f64>,
    pub(super) limit: Limit,
    pub(super) primitive: Primitive,
    /// How many of them.
    pub(super) in_primitives: Option<f64>,
}

/// What is not to be exceeded.
pub(super) enum Limit {
    Nanos(f64),
    /// Of what is beside it.
    Times(f64),
    /// The one or the other: so many times what is beside it, so many primitives.
    TimesOrPrimitives(f64, f64),
}

pub(super) struct Aims(Vec<Aim>);

impl Aims {
    pub(super) fn of(machine: &Machine, primitives: &Primitives, results: &Results) -> Self {
        let cell = |mode, producers, readers| Cell {
            mode,
            producers,
            readers,
        };
        let tapline = |at| results.find(at, Tapline::NAME);
        let nanos = |at, metric| Some(tapline(at)?.typical(metric)? - results.harness(at, metric));
        let times = |at, metric, rival| {
            let rival = results.find(at, rival)?;
            results.ratio(tapline(at)?, rival, metric)
        };
        let aim = |what: &str, value: Option<f64>, (beside, times), limit, primitive| Aim {
            what: what.to_owned(),
            value,
            beside,
            times,
            limit,
            primitive,
            in_primitives: primitives
                .typical(primitive)
                .and_then(|one| Some(value? / one)),
        };
        // The usual one: what Tapline takes in a cell, and a rival there.
        let beside = |what: &str, at, metric, rival, at_most, primitive| {
            let beside = (rival, times(at, metric, rival));
            aim(
                what,
                nanos(at, metric),
                beside,
                Limit::Times(at_most),
                primitive,
            )
        };

        let [alone, both] = [1, 2].map(|producers| cell(Mode::Unread, producers, 0));
        // Beside its own single publish.
        let in_batch = || {
            let batch = results.find(alone, TaplineBatch::NAME)?;
            let nanos = batch.typical(Metric::PerEvent)? - results.harness(alone, Metric::PerEvent);
            Some((
                nanos,
                results.ratio(batch, tapline(alone)?, Metric::PerEvent)?,
            ))
        };
        let (nanos_in_batch, of_single) = in_batch().unzip();
        let batch = aim(
            "kept publish in a batch of 1,000",
            nanos_in_batch,
            ("a single one", of_single),
            Limit::Times(0.6),
            Primitive::CompareExchange,
        );

        // Of one producer's own call: with two, each has half of the events.
        let filtered = |producers| {
            let at = cell(Mode::Filtered, producers, 0);
            let own_call = |rival| {
                let per_event = results.find(at, rival)?.typical(Metric::PerEvent)?;
                Some(per_event * producers as f64)
            };
            let over_the_loop = || Some(own_call(Tapline::NAME)? - own_call(EmptyLoop::NAME)?);
            let rival = (GoDesign::NAME, times(at, Metric::PerEvent, GoDesign::NAME));
            let at_most = if machine.zen() == Some(5) { 1.0 } else { 1.5 };
            aim(
                &format!("filtered publish over the empty loop, producers: {producers}"),
                over_the_loop(),
                rival,
                Limit::Nanos(at_most),
                Primitive::LoadStore,
            )
        };
        let together = || {
            let [one, two] = [alone, both].map(|at| nanos(at, Metric::PerEvent));
            let of_one = ("one producer", two.zip(one).map(|(two, one)| two / one));
            Aim {
                // Of the same rounds: it changes with where the cores of a virtual machine are.
                in_primitives: times(both, Metric::PerEvent, PING_PONG),
                ..aim(
                    "kept publish by 2 producers, per event of both",
                    two,
                    of_one,
                    // Where they take turns, a line moves for each event: 80 % of that throughput.
                    Limit::TimesOrPrimitives(1.0, 1.25),
                    Primitive::PingPong,
                )
            }
        };
        let following = |readers| {
            beside(
                &format!("kept publish, {readers} sleepers that are woken and follow"),
                cell(Mode::Stretch, 1, readers),
                Metric::PerEvent,
                UNREAD,
                1.5,
                Primitive::PingPong,
            )
        };
        let asleep = cell(Mode::OneByOne, 1, 1000);
        Self(vec![
            beside(
                "kept publish, no readers",
                alone,
                Metric::PerEvent,
                Tokio::NAME,
                1.25,
                Primitive::CompareExchange,
            ),
            batch,
            filtered(1),
            filtered(2),
            together(),
            beside(
                "drain in batches",
                cell(Mode::Drain, 1, 1),
                Metric::PerEvent,
                Tokio::NAME,
                0.5,
                Primitive::CompareExchange,
            ),
            following(64),
            following(1000),
            beside(
                "one publish that finds 1000 asleep: the call",
                asleep,
                Metric::P50,
                Tokio::NAME,
                0.25,
                Primitive::Unpark,
            ),
            beside(
                "the same: until the last reader has it",
                asleep,
                Metric::LastP50,
                Tokio::NAME,
                1.0,
                Primitive::WakeUp,
            ),
            beside(
                "corpus encoded once, read by 8",
                cell(Mode::Corpus, 1, 8),
                Metric::PerEvent,
                GoDesign::NAME,
                0.5,
                Primitive::Memory,
            ),
        ])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Aim> {
        self.0.iter()
    }

    pub(super) fn table(&self) -> String {
        let head = [
            "aim",
            "measured",
            "beside",
            "",
            "at most",
            "in primitives",
            "",
        ];
        let head = head.map(str::to_owned).to_vec();
        let rows: Vec<_> = [head]
            .into_iter()
            .chain(self.iter().map(Aim::row))
            .collect();
        format!(
            "The aims, with what the harness costs taken off:\n{}  \
             Measured elsewhere: allocations (kept: at most 2, filtered: none) by cargo test -p tapline-benches --test allocations;\n  \
             the hello for a filtered cursor 10 million events back in benches/runs/2026-11-27-category-log-2core\n",
            aligned(&rows)
        )
    }
}

impl Aim {
    /// How many times the limit; of two, of the one that is nearer.
    fn of_limit(&self) -> Option<f64> {
        match self.limit {
            Limit::Nanos(nanos) => Some(self.value? / nanos),
            Limit::Times(times) => Some(self.times? / times),
            Limit::TimesOrPrimitives(times, primitives) => {
                let by_times = self.times? / times;
                let by_primitives = self.in_primitives.map(|number| number / primitives);
                Some(by_primitives.map_or(by_times, |other| other.min(by_times)))
            }
        }
    }

    /// `None` where it was not measured.
    pub(super) fn is_reached(&self) -> Option<bool> {
        self.of_limit().map(|of_limit| of_limit <= 1.0)
    }

    pub(super) fn limit(&self) -> String {
        match self.limit {
            Limit::Nanos(nanos) => show(Unit::Nanos, nanos),
            Limit::Times(times) => format!("{} x", short(times)),
            Limit::TimesOrPrimitives(times, primitives) => format!(
                "{} x, or {} {}",
                short(times),
                short(primitives),
                self.primitive.name()
            ),
        }
    }

    fn row(&self) -> Vec<String> {
        let number = |number: Option<f64>, unit: &str| {
            number.map_or(String::new(), |number| format!("{} {unit}", short(number)))
        };
        let verdict = match self.of_limit() {
            None => String::new(),
            Some(of_limit) if of_limit <= 1.0 => "reached".to_owned(),
            Some(of_limit) => format!("missed, {} x off", short(of_limit)),
        };
        vec![
            self.what.clone(),
            self.value.map_or("not in this run".to_owned(), |value| {
                show(Unit::Nanos, value)
            }),
            self.beside.to_owned(),
            number(self.times, "x"),
            self.limit(),
            number(self.in_primitives, self.primitive.name()),
            verdict,
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::harness::results::Measured;
    use crate::harness::sample::Sample;

    /// Tapline at 36 ns beside tokio's 20, and nothing else; a compare-exchange takes 8.
    pub(in crate::harness) fn kept_publish() -> Aims {
        let measured = |rival, nanos| {
            let cell = Cell {
                mode: Mode::Unread,
                producers: 1,
                readers: 0,
            };
            let mut measured = Measured::new(&cell, rival);
            let mut sample = Sample::default();
            sample.set(Metric::PerEvent, nanos);
            measured.rounds.push(sample);
            measured
        };
        let mut results = Results::default();
        results.extend([measured(Tapline::NAME, 36.0), measured(Tokio::NAME, 20.0)].into_iter());
        let primitives = Primitives::of(&[(Primitive::CompareExchange, 8.0)]);
        Aims::of(&Machine::of_zen(4), &primitives, &results)
    }

    #[test]
    fn an_aim_is_shown_beside_a_rival_and_in_primitives() {
        let table = kept_publish().table();
        let row = |what| {
            let line = table.lines().find(|line| line.contains(what)).unwrap();
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            row("kept publish, no readers"),
            [
                "kept publish, no readers",
                "36.0 ns",
                "tokio",
                "1.80 x",
                "1.25 x",
                "4.50 compare-exchange",
                "missed, 1.44 x off"
            ]
        );
        assert_eq!(
            row("drain"),
            ["drain in batches", "not in this run", "tokio", "0.50 x"]
        );
    }

    #[test]
    fn the_limit_of_a_filtered_publish_is_that_of_the_machine() {
        let at_most = |zen| {
            let aims = Aims::of(
                &Machine::of_zen(zen),
                &Primitives::of(&[]),
                &Results::default(),
            );
            let filtered = aims.iter().find(|aim| aim.what.contains("filtered"));
            filtered.unwrap().limit()
        };
        assert_eq!(
            (at_most(5), at_most(4)),
            ("1.00 ns".to_owned(), "1.50 ns".to_owned())
        );
    }

    #[test]
    fn an_aim_is_reached_up_to_its_limit_and_by_the_nearer_of_two() {
        let check = |limit, expected| {
            let aim = Aim {
                what: String::new(),
                value: Some(30.0),
                beside: "one producer",
                times: Some(1.5),
                limit,
                primitive: Primitive::PingPong,
                in_primitives: Some(0.5),
            };
            assert_eq!(aim.is_reached(), expected, "{}", aim.limit());
        };
        check(Limit::Nanos(30.0), Some(true));
        check(Limit::Nanos(29.0), Some(false));
        check(Limit::Times(1.5), Some(true));
        check(Limit::Times(1.0), Some(false));
        check(Limit::TimesOrPrimitives(1.0, 0.5), Some(true));
        check(Limit::TimesOrPrimitives(1.0, 0.4), Some(false));
        let not_measured = kept_publish();
        assert_eq!(not_measured.iter().last().unwrap().is_reached(), None);
    }
}
