//! What is aimed at, and how far it is.

use super::cell::{Cell, Mode, UNREAD};
use super::results::{Measured, Results, aligned, show};
use super::sample::{Metric, Unit};
use crate::rival::Rival;
use crate::rivals::{EmptyLoop, GoDesign, Tapline, Tokio};

/// What publishing costs in the Go program itself, at its best: measured on such a machine, not here.
const GO_PROGRAM: f64 = 1_150.0;

struct Aim {
    what: String,
    bound: Bound,
    /// `None` where the run has not measured it.
    value: Option<f64>,
    shown_as: Shown,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

enum Shown {
    Times,
    In(Unit),
}

pub(super) fn table(results: &Results) -> String {
    let mut rows = vec![vec![
        "aim".to_owned(),
        "bound".to_owned(),
        "measured".to_owned(),
        String::new(),
    ]];
    rows.extend(aims(results).into_iter().map(Aim::row));
    format!(
        "The aims, with what the harness costs taken off:\n{}  \
         Allocations (kept: at most 2, filtered: none): cargo test -p tapline-benches --test allocations\n",
        aligned(&rows)
    )
}

fn aims(results: &Results) -> Vec<Aim> {
    let cell = |mode, producers, readers| Cell {
        mode,
        producers,
        readers,
    };
    let unread = |producers| cell(Mode::Unread, producers, 0);
    let tapline = |cell| results.find(cell, Tapline::NAME);
    let mut aims = Vec::new();
    let mut add = |what: String, bound, shown_as, value| {
        aims.push(Aim {
            what,
            bound,
            value,
            shown_as,
        });
    };

    // Of one producer's own call: with two, each has half of the events.
    for producers in [1, 2] {
        let at = cell(Mode::Filtered, producers, 0);
        let own_call = |one: &Measured| Some(one.typical(Metric::PerEvent)? * producers as f64);
        let over_the_loop = || {
            let empty = results.find(at, EmptyLoop::NAME).and_then(own_call)?;
            Some(tapline(at).and_then(own_call)? - empty)
        };
        add(
            format!("filtered, over the empty loop (producers: {producers})"),
            Bound::AtMost(1.0),
            Shown::In(Unit::Nanos),
            over_the_loop(),
        );
    }

    let kept = || {
        let off = results.harness(unread(1), Metric::PerEvent);
        Some(tapline(unread(1))?.typical(Metric::PerEvent)? - off)
    };
    let beside = |at, rival, metric| {
        let rival = results.find(at, rival)?;
        results.ratio(rival, tapline(at)?, metric)
    };
    add(
        "kept, no readers: of tokio's send".to_owned(),
        Bound::AtMost(1.0),
        Shown::Times,
        beside(unread(1), Tokio::NAME, Metric::PerEvent).map(|times| 1.0 / times),
    );
    add(
        "kept: faster than the Go design".to_owned(),
        Bound::AtLeast(5.0),
        Shown::Times,
        beside(unread(1), GoDesign::NAME, Metric::PerEvent),
    );
    add(
        format!("kept: faster than the Go program's own {GO_PROGRAM} ns"),
        Bound::AtLeast(20.0),
        Shown::Times,
        kept().map(|kept| GO_PROGRAM / kept),
    );

    for (readers, at_most) in [(64, 1.3), (1000, 1.5)] {
        let forms = [
            (Mode::Stretch, Metric::PerEvent),
            (Mode::Left, Metric::PerEvent),
            (Mode::Armed, Metric::P50),
            (Mode::OneByOne, Metric::P50),
        ];
        for (mode, metric) in forms {
            let at = cell(mode, 1, readers);
            let of_unread = || results.ratio(tapline(at)?, results.find(at, UNREAD)?, metric);
            add(
                format!("{readers} asleep ({}): of no readers", mode.name()),
                Bound::AtMost(at_most),
                Shown::Times,
                of_unread(),
            );
        }
    }

    let together = || {
        let per_event = |producers| {
            let off = results.harness(unread(producers), Metric::PerEvent);
            Some(tapline(unread(producers))?.typical(Metric::PerEvent)? - off)
        };
        Some(per_event(1)? / per_event(2)?)
    };
    add(
        "2 producers together: of one's throughput".to_owned(),
        Bound::AtLeast(1.0),
        Shown::Times,
        together(),
    );
    add(
        "a full ring drained in batches".to_owned(),
        Bound::AtLeast(50e6),
        Shown::In(Unit::PerSecond),
        tapline(cell(Mode::Drain, 1, 1)).and_then(|drain| drain.typical(Metric::Delivered)),
    );
    let busy = cell(Mode::Busy, 1, 8);
    let delivered = || {
        let of = |measured: &Measured| measured.typical(Metric::Delivered);
        Some(tapline(busy).and_then(of)? / results.find(busy, Tokio::NAME).and_then(of)?)
    };
    add(
        "8 busy readers: given more than tokio's".to_owned(),
        Bound::AtLeast(3.0),
        Shown::Times,
        delivered(),
    );
    add(
        "corpus as JSON, read by 8: faster than the Go design".to_owned(),
        Bound::AtLeast(5.0),
        Shown::Times,
        beside(cell(Mode::Corpus, 1, 8), GoDesign::NAME, Metric::PerEvent),
    );
    aims
}

impl Aim {
    fn row(self) -> Vec<String> {
        let shown = |value| match self.shown_as {
            Shown::Times => format!("{value:.2} x"),
            Shown::In(unit) => show(unit, value),
        };
        let (bound, short_of_it) = match self.bound {
            Bound::AtMost(bound) => (
                format!("<= {}", shown(bound)),
                self.value.map(|v| v / bound),
            ),
            Bound::AtLeast(bound) => (
                format!(">= {}", shown(bound)),
                self.value.map(|v| bound / v),
            ),
        };
        let verdict = match short_of_it {
            None => String::new(),
            Some(times) if times <= 1.0 => "reached".to_owned(),
            Some(times) => format!("{times:.2} x off"),
        };
        let measured = self.value.map_or("not in this run".to_owned(), shown);
        vec![self.what, bound, measured, verdict]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_reached_missed_or_not_measured() {
        let row = |bound, value| {
            let what = String::new();
            let aim = Aim {
                what,
                bound,
                value,
                shown_as: Shown::Times,
            };
            aim.row()[1..].join(" | ")
        };
        let at_most = |value| row(Bound::AtMost(1.5), value);
        assert_eq!(at_most(Some(1.5)), "<= 1.50 x | 1.50 x | reached");
        assert_eq!(at_most(Some(3.0)), "<= 1.50 x | 3.00 x | 2.00 x off");
        assert_eq!(at_most(None), "<= 1.50 x | not in this run | ");
        let at_least = row(Bound::AtLeast(5.0), Some(2.5));
        assert_eq!(at_least, ">= 5.00 x | 2.50 x | 2.00 x off");
    }
}
