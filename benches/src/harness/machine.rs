//! The machine that the figures are of.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::clock;
use super::fixture::cores;
use super::results::aligned;

/// What is known of the machine, as far as the system shows it.
pub(super) struct Machine {
    /// Which Zen it is, where it is one of AMD's.
    zen: Option<u32>,
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// Keeps all cores busy for a moment, to see whether something else does.
    pub(super) fn look() -> Self {
        let idle = free_share();
        let cpu_info = read("/proc/cpuinfo");
        let of_cpu = |key| field(&cpu_info, key);
        let number = |key| of_cpu(key)?.parse().ok();
        let zen = match (of_cpu("vendor_id"), number("cpu family"), number("model")) {
            (Some("AuthenticAMD"), Some(family), Some(model)) => zen(family, model),
            _ => None,
        };
        let brand = of_cpu("model name").unwrap_or(UNKNOWN);
        let family = of_cpu("cpu family").unwrap_or("?");
        let model = of_cpu("model").unwrap_or("?");
        let name = zen.map_or(brand.to_owned(), |zen| format!("Zen {zen}"));
        let stepping = of_cpu("stepping").unwrap_or("?");
        let is_virtual = of_cpu("flags")
            .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        let load = read("/proc/loadavg");
        let load = load.split_whitespace().next().unwrap_or(UNKNOWN);
        let or_unknown = |text: String| match text.trim() {
            "" => UNKNOWN.to_owned(),
            text => text.to_owned(),
        };
        let facts = vec![
            ("name", format!("{name} (family {family} model {model})")),
            (
                "processor",
                format!("{brand}, family {family}, model {model}, stepping {stepping}"),
            ),
            (
                "cores",
                format!(
                    "{}{}",
                    cores(),
                    if is_virtual {
                        " of a virtual machine"
                    } else {
                        ""
                    }
                ),
            ),
            (
                "governor",
                or_unknown(read(
                    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                )),
            ),
            ("kernel", or_unknown(kernel())),
            ("compiler", or_unknown(compiler())),
            (
                "other load",
                format!(
                    "a loop on each core ran {:.1} % of the time at least; load average {load}",
                    100.0 * idle
                ),
            ),
        ];
        Self { zen, facts }
    }

    pub(super) fn zen(&self) -> Option<u32> {
        self.zen
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.facts.iter().map(|(key, value)| (*key, value.as_str()))
    }

    pub(super) fn table(&self) -> String {
        let row = |(key, value): (&str, &str)| vec![format!("{key}: {value}")];
        let rows: Vec<_> = self.facts().map(row).collect();
        format!("The machine:\n{}", aligned(&rows))
    }

    #[cfg(test)]
    pub(super) fn of_zen(zen: u32) -> Self {
        let facts = vec![("name", format!("Zen {zen}"))];
        Self {
            zen: Some(zen),
            facts,
        }
    }
}

const UNKNOWN: &str = "unknown";

/// Empty where there is no such file, as on another system than Linux.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line `key : value`, the first of that key.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.trim() == key)?;
    Some(value.trim())
}

/// Which Zen an AMD family and model are, as Linux has it (`arch/x86/kernel/cpu/amd.c`): in a virtual machine the name of
/// the processor is no more than "AMD EPYC".
fn zen(family: u32, model: u32) -> Option<u32> {
    match (family, model) {
        (25, 0x10..=0x1f | 0x60..=0xaf) => Some(4),
        (25, _) => Some(3),
        (26, 0x00..=0x2f | 0x40..=0x4f | 0x60..=0x7f) => Some(5),
        _ => None,
    }
}

/// Its version, without what a distribution appends.
fn kernel() -> String {
    let release = read("/proc/sys/kernel/osrelease");
    release.split('-').next().unwrap_or_default().to_owned()
}

/// That of the path: the one that has built this, where `cargo bench` runs it.
fn compiler() -> String {
    let answer = Command::new("rustc").arg("--version").output();
    answer.map_or(String::new(), |answer| {
        String::from_utf8_lossy(&answer.stdout).into_owned()
    })
}

/// How much of the time a loop on each core runs, on the core where that is least.
fn free_share() -> f64 {
    const TIME: Duration = Duration::from_millis(30);
    let share = || {
        let cpu_before = clock::of_thread();
        let begin = Instant::now();
        clock::spin(TIME);
        let cpu = clock::of_thread().saturating_sub(cpu_before);
        cpu.as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    let shares: Vec<f64> = thread::scope(|scope| {
        let loops: Vec<_> = (0..cores()).map(|_| scope.spawn(share)).collect();
        let joined = loops.into_iter().map(|one| one.join());
        joined.map(|share| share.unwrap_or_default()).collect()
    });
    shares.into_iter().fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: AMD EPYC\n\nmodel\t\t: 18\n";
        assert_eq!(field(text, "model"), Some("17"));
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn amd_cores_are_named_by_family_and_model() {
        assert_eq!(zen(25, 1), Some(3));
        assert_eq!(zen(25, 17), Some(4));
        assert_eq!(zen(26, 2), Some(5));
        assert_eq!(zen(6, 143), None);
    }

    #[test]
    fn this_machine_has_a_name_and_cores() {
        let machine = Machine::look();
        let fact = |key| machine.facts().find(|(name, _)| *name == key).unwrap().1;
        assert!(fact("name").contains("(family "), "{}", fact("name"));
        assert!(fact("cores").starts_with(&cores().to_string()));
        assert!(
            fact("compiler").starts_with("rustc "),
            "{}",
            fact("compiler")
        );
    }
}
