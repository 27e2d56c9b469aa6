//! A run in some thirty lines of tab-separated values: `cargo xtask machines` makes a page of those that are kept.

use super::aims::{Aim, Aims};
use super::machine::Machine;
use super::primitives::{Primitive, Primitives, Spread};

/// What stands in which place. Times are in nanoseconds; a place without a meaning, or without a figure, is empty.
const NAMES: [&str; 12] = [
    "kind",
    "name",
    "value",
    "unit",
    "lowest",
    "highest",
    "beside",
    "times",
    "at-most",
    "primitive",
    "in-primitives",
    "verdict",
];

/// A fact of the machine is a value alone, a primitive has the spread of its rounds, and an aim its ratios.
pub(super) fn lines(machine: &Machine, primitives: &Primitives, aims: &Aims) -> String {
    let facts = machine
        .facts()
        .map(|(name, value)| line(&["machine", name, value]));
    let costs = primitives.all().map(of_primitive);
    let aims = aims.iter().map(of_aim);
    let names = line(&NAMES);
    [names]
        .into_iter()
        .chain(facts)
        .chain(costs)
        .chain(aims)
        .collect()
}

fn of_primitive((primitive, spread): (Primitive, Spread)) -> String {
    let [median, lowest, highest] = [spread.median, spread.lowest, spread.highest].map(figure);
    line(&[
        "primitive",
        primitive.name(),
        &median,
        "ns",
        &lowest,
        &highest,
    ])
}

fn of_aim(aim: &Aim) -> String {
    let [value, times, in_primitives] = [aim.value, aim.times, aim.in_primitives]
        .map(|number| number.map_or(String::new(), figure));
    let verdict = match aim.is_reached() {
        None => "",
        Some(true) => "reached",
        Some(false) => "missed",
    };
    line(&[
        "aim",
        &aim.what,
        &value,
        "ns",
        "",
        "",
        aim.beside,
        &times,
        &aim.limit(),
        aim.primitive.name(),
        &in_primitives,
        verdict,
    ])
}

fn figure(number: f64) -> String {
    format!("{number:.3}")
}

/// As many places as there are names.
fn line(places: &[&str]) -> String {
    let empty = vec![""; NAMES.len() - places.len()];
    [places, &empty].concat().join("\t") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::aims::tests::kept_publish;

    #[test]
    fn each_line_has_a_place_for_each_name() {
        let primitives = Primitives::of(&[(Primitive::PingPong, 52.25)]);
        let lines = lines(&Machine::of_zen(4), &primitives, &kept_publish());
        let places = |line: &str| line.split('\t').count();
        assert!(
            lines.lines().all(|line| places(line) == NAMES.len()),
            "{lines}"
        );
        for line in [
            "machine\tname\tZen 4\t",
            "primitive\tping-pong\t52.250\tns\t52.250\t52.250\t",
            "aim\tkept publish, no readers\t36.000\tns\t\t\ttokio\t1.800\t1.25 x\tcompare-exchange\t4.500\tmissed\n",
            "aim\tdrain in batches\t\tns\t\t\ttokio\t\t0.50 x\tcompare-exchange\t\t\n",
        ] {
            assert!(lines.contains(line), "{line}\n{lines}");
        }
    }
}
