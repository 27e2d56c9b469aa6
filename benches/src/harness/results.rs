//! What has been measured, as tables and as lines.

use std::fmt::Write as _;

use super::cell::{Cell, Mode, PING_PONG, UNREAD};
use super::fixture;
use super::sample::{Metric, Sample, Unit};
use crate::rival::{CannotDo, Rival};
use crate::rivals::{EmptyLoop, HandOver, Tapline};

pub(super) const HOW_TO_READ: &str = "\
Each figure is the median of the rounds (`max`: of all rounds), with the lowest and the highest round beside the first one.
`per event` is wall time over the events of all producers together; `x tapline` is how many times Tapline's cost that is, with what
the harness costs taken off both. p50 to max are single calls of publish, with two looks at the clock in each; `first` and
`last` is the time from right before a publish until the first and the last reader that it woke has the event. `cpu pub` is CPU
time of the producers' threads per event, `cpu read` that of all others; `delivered` is what all readers together were given
per second; `calls` is how many wakers a publish called.";

/// One rival in one cell.
pub(super) struct Measured {
    pub(super) cell: Cell,
    pub(super) rival: &'static str,
    pub(super) rounds: Vec<Sample>,
}

#[derive(Default)]
pub(super) struct Results {
    measured: Vec<Measured>,
    left_out: Vec<(Cell, &'static str, CannotDo)>,
}

impl Measured {
    pub(super) fn new(cell: &Cell, rival: &'static str) -> Self {
        Self {
            cell: *cell,
            rival,
            rounds: Vec::new(),
        }
    }

    fn each(&self, metric: Metric) -> Vec<f64> {
        let rounds = self.rounds.iter();
        rounds.filter_map(|sample| sample.get(metric)).collect()
    }

    pub(super) fn typical(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Max => self.each(metric).into_iter().reduce(f64::max),
            _ => median(self.each(metric)),
        }
    }

    /// What the rounds are compared by.
    fn first_metric(&self) -> Option<Metric> {
        [Metric::PerEvent, Metric::P50]
            .into_iter()
            .find(|metric| self.typical(*metric).is_some())
    }

    /// How much of the time its producers' threads ran, of which no publish waits. `None` where they would not have a
    /// core each on a machine that has nothing else to do.
    fn share_of_time(&self) -> Option<f64> {
        let Cell {
            mode, producers, ..
        } = self.cell;
        if fixture::cores() < producers + usize::from(mode.has_reading_threads()) {
            return None;
        }
        let per_event = self.typical(Metric::PerEvent)?;
        Some(self.typical(Metric::CpuPublishing)? / (per_event * producers as f64))
    }

    /// A line for each round.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        let Cell {
            mode,
            producers,
            readers,
        } = self.cell;
        for (round, sample) in self.rounds.iter().enumerate() {
            // Writing to a string cannot fail, here and below.
            let _ = write!(
                lines,
                "{}\t{producers}\t{readers}\t{}\t{}",
                mode.name(),
                self.rival,
                round + 1
            );
            for metric in Metric::ALL {
                lines.push('\t');
                if let Some(value) = sample.get(metric) {
                    let _ = write!(lines, "{value:.2}");
                }
            }
            lines.push('\n');
        }
        lines
    }
}

/// What stands in which place of a line: times in nanoseconds, rates per second.
pub(super) fn line_of_names() -> String {
    let metrics = Metric::ALL.map(|metric| metric.name().replace(' ', "-"));
    let cell = ["mode", "producers", "readers", "rival", "round"].map(str::to_owned);
    [&cell[..], &metrics[..]].concat().join("\t")
}

impl Results {
    pub(super) fn extend(&mut self, measured: impl Iterator<Item = Measured>) {
        self.measured.extend(measured);
    }

    pub(super) fn leave_out(&mut self, cell: &Cell, rival: &'static str, reason: CannotDo) {
        self.left_out.push((*cell, rival, reason));
    }

    pub(super) fn of(&self, cell: &Cell) -> impl Iterator<Item = &Measured> {
        let cell = *cell;
        self.measured
            .iter()
            .filter(move |measured| measured.cell == cell)
    }

    pub(super) fn find(&self, cell: Cell, rival: &str) -> Option<&Measured> {
        self.of(&cell).find(|measured| measured.rival == rival)
    }

    /// What the harness itself costs in such a cell: the loop, two looks at the clock, and where events are
    /// kept the reference that is taken and dropped.
    pub(super) fn harness(&self, cell: Cell, metric: Metric) -> f64 {
        let by_itself = match cell.mode {
            // What is measured there has a look at the clock for thousands of events, or is compared as a whole.
            Mode::Harness | Mode::Drain | Mode::Corpus => return 0.0,
            Mode::Filtered => EmptyLoop::NAME,
            _ => HandOver::NAME,
        };
        let cell = Cell {
            mode: Mode::Harness,
            readers: 0,
            ..cell
        };
        self.find(cell, by_itself)
            .and_then(|harness| harness.typical(metric))
            .unwrap_or_default()
    }

    /// How many times as much it costs as `other` in the same cell, round by round, with the harness
    /// taken off. `None` where there is nothing left of one of them.
    pub(super) fn ratio(&self, one: &Measured, other: &Measured, metric: Metric) -> Option<f64> {
        let off = |measured: &Measured| match measured.rival {
            // It is no event that the harness hands over.
            PING_PONG => 0.0,
            _ => self.harness(measured.cell, metric),
        };
        let (off_one, off_other) = (off(one), off(other));
        let each = one.each(metric).into_iter().zip(other.each(metric));
        let ratios = each.map(|(one, other)| (one - off_one, other - off_other));
        median(
            ratios
                .filter(|(one, other)| *one > 0.0 && *other > 0.0)
                .map(|(one, other)| one / other)
                .collect(),
        )
    }

    pub(super) fn table(&self, cell: &Cell) -> String {
        let measured: Vec<&Measured> = self.of(cell).collect();
        let mut text = heading(cell);
        let Some(first) = measured.iter().find_map(|one| one.first_metric()) else {
            text.push_str("  none can\n");
            return text;
        };
        // Not what only the row beside them has, where single calls are measured.
        let has = |metric| {
            let mut with_readers = measured.iter().filter(|one| one.rival != UNREAD);
            with_readers.any(|one| one.typical(metric).is_some())
        };
        let others: Vec<Metric> = Metric::ALL
            .into_iter()
            .filter(|metric| *metric != first && has(*metric))
            .collect();

        let mut head = vec![String::new(), first.name().to_owned(), "rounds".to_owned()];
        head.push("x tapline".to_owned());
        if first == Metric::PerEvent {
            head.push("events".to_owned());
        }
        head.extend(others.iter().map(|metric| metric.name().to_owned()));

        let tapline = measured.iter().find(|one| one.rival == Tapline::NAME);
        let row = |one: &&Measured| {
            let typical = one.typical(first).unwrap_or(f64::NAN);
            let each = one.each(first);
            let lowest = each.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = each.iter().copied().fold(0.0, f64::max);
            let ratio = tapline.and_then(|tapline| self.ratio(one, tapline, first));
            let mut row = vec![
                one.rival.to_owned(),
                show(first.unit(), typical),
                format!("{}-{}", short(lowest), short(highest)),
                ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            ];
            if first == Metric::PerEvent {
                row.push(show(Unit::PerSecond, 1e9 / typical));
            }
            row.extend(others.iter().map(|metric| {
                one.typical(*metric)
                    .map_or(String::new(), |value| show(metric.unit(), value))
            }));
            row
        };
        let rows: Vec<Vec<String>> = [head].into_iter().chain(measured.iter().map(row)).collect();
        text.push_str(&aligned(&rows));
        if let Some(share) = measured.first().and_then(|one| one.share_of_time())
            && share < 0.9
        {
            let _ = writeln!(
                text,
                "  the machine had other things to do: producers ran {:.0} % of the time",
                100.0 * share
            );
        }
        for (_, rival, CannotDo(reason)) in self.left_out.iter().filter(|(of, ..)| of == cell) {
            let _ = writeln!(text, "  {rival} left out: {reason}");
        }
        text
    }
}

fn heading(cell: &Cell) -> String {
    let counted = |number, what| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    format!(
        "{}, {}, {}: {}\n",
        cell.mode.name(),
        counted(cell.producers, "producer"),
        counted(cell.readers, "reader"),
        cell.mode.what()
    )
}

/// The first column to the left, the others to the right.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn show(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanos if value < 10_000.0 => format!("{} ns", short(value)),
        Unit::Nanos if value < 10e6 => format!("{} µs", short(value / 1e3)),
        Unit::Nanos => format!("{} ms", short(value / 1e6)),
        Unit::PerSecond if value < 10e6 => format!("{} k/s", short(value / 1e3)),
        Unit::PerSecond => format!("{} M/s", short(value / 1e6)),
        Unit::Number => short(value),
    }
}

/// Three digits, or all that stand before the point.
pub(super) fn short(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::Tokio;

    const UNREAD: Cell = Cell {
        mode: Mode::Unread,
        producers: 1,
        readers: 0,
    };

    fn measured(cell: &Cell, rival: &'static str, rounds: &[f64]) -> Measured {
        let mut measured = Measured::new(cell, rival);
        for round in rounds {
            let mut sample = Sample::default();
            sample.set(Metric::PerEvent, *round);
            measured.rounds.push(sample);
        }
        measured
    }

    fn results() -> Results {
        let harness = Cell {
            mode: Mode::Harness,
            ..UNREAD
        };
        let mut results = Results::default();
        results.extend(
            [
                measured(&harness, HandOver::NAME, &[10.0, 10.0, 90.0]),
                measured(&UNREAD, Tapline::NAME, &[110.0, 60.0, 30.0]),
                measured(&UNREAD, Tokio::NAME, &[60.0, 35.0, 50.0]),
            ]
            .into_iter(),
        );
        results
    }

    #[test]
    fn a_ratio_is_of_the_same_round_and_without_the_harness() {
        let mut results = results();
        let tapline = results.find(UNREAD, Tapline::NAME).unwrap();
        let tokio = results.find(UNREAD, Tokio::NAME).unwrap();
        // 50 / 100, 25 / 50, 40 / 20
        assert_eq!(results.ratio(tokio, tapline, Metric::PerEvent), Some(0.5));
        assert_eq!(results.ratio(tokio, tapline, Metric::P50), None);
        results.extend([measured(&UNREAD, PING_PONG, &[50.0, 25.0, 40.0])].into_iter());
        let ping_pong = results.find(UNREAD, PING_PONG).unwrap();
        let tapline = results.find(UNREAD, Tapline::NAME).unwrap();
        // 100 / 50, 50 / 25, 20 / 40
        assert_eq!(
            results.ratio(tapline, ping_pong, Metric::PerEvent),
            Some(2.0)
        );
    }

    #[test]
    fn a_table_has_a_row_for_each_rival_and_says_who_is_missing() {
        let mut results = results();
        results.leave_out(&UNREAD, "disruptor", CannotDo("it needs a reader"));
        let table = results.table(&UNREAD);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "unread, 1 producer, 0 readers: no readers");
        assert!(lines[2].starts_with("  tapline"), "{table}");
        assert!(lines[3].contains("50.0 ns  35.0-60.0"), "{table}");
        assert_eq!(lines[4], "  disruptor left out: it needs a reader");
    }

    #[test]
    fn a_line_has_a_place_for_everything_that_can_be_measured() {
        let measured = measured(&UNREAD, Tokio::NAME, &[60.0, 35.25]);
        let places = line_of_names().split('\t').count();
        let lines = measured.lines();
        assert!(lines.lines().all(|line| line.split('\t').count() == places));
        assert!(lines.contains("unread\t1\t0\ttokio\t2\t35.25\t"), "{lines}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn figures_are_short() {
        let check = |unit, value, shown: &str| assert_eq!(show(unit, value), shown);
        check(Unit::Nanos, 0.272, "0.27 ns");
        check(Unit::Nanos, 84.53, "84.5 ns");
        check(Unit::Nanos, 9_302.6, "9303 ns");
        check(Unit::Nanos, 12_345.0, "12.3 µs");
        check(Unit::Nanos, 20e6, "20.0 ms");
        check(Unit::PerSecond, 47.1e6, "47.1 M/s");
        check(Unit::Number, 64.0, "64.0");
    }
}
