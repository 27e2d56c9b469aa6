//! Turns the kernel's log about a lack of memory into `system_oom_kill`: [`OomReports`].
//!
//! A report is a sequence of lines (`mm/oom_kill.c` in the kernel): the process that asked for memory, how
//! much was free, how much each process holds, and last the process that was killed. The last line
//! makes the event. Fields come from the lines before it; a field without a line is left out.

use tapline_oapi::data::{OomTask, SystemOomKill};

/// How many processes an event lists.
const MAX_TASKS: usize = 5;

/// Reads the lines of a kernel's log, one after the other.
///
/// ```
/// use tapline_sources::OomReports;
///
/// let mut reports = OomReports::new(4);
/// let line = "3,434,19980198529,-;Out of memory: Killed process 6051 (python3) \
///     total-vm:43256kB, anon-rss:32292kB, file-rss:5300kB, shmem-rss:0kB, UID:0";
/// let kill = reports.line(line).unwrap();
/// assert_eq!((kill.pid, kill.rss_kb), (6051, 37_592));
/// ```
#[derive(Debug)]
pub struct OomReports {
    page_kb: u64,
    report: Report,
}

/// What the log said since a process asked for memory.
#[derive(Debug, Default)]
struct Report {
    trigger: Option<String>,
    trigger_pid: Option<u64>,
    constraint: Option<String>,
    mem_total_kb: Option<u64>,
    mem_free_kb: Option<u64>,
    /// Which columns of the list of processes are `rss` and `name`, once that list has begun.
    columns: Option<(usize, usize)>,
    /// The processes that hold most, in descending order.
    tasks: Vec<OomTask>,
}

impl OomReports {
    /// For a kernel whose pages have that many KiB: 4, as a rule.
    #[must_use]
    pub fn new(page_kb: u64) -> Self {
        Self {
            page_kb,
            report: Report::default(),
        }
    }

    /// Reads one line: a record of `/dev/kmsg`, or what `dmesg` and `journalctl -k` make of one.
    /// Returns an event if the line says that a process was killed.
    pub fn line(&mut self, line: &str) -> Option<SystemOomKill> {
        let message = message(line)?;
        if let Some((name, _)) = message.split_once(" invoked oom-killer:") {
            self.report = Report {
                trigger: Some(name.to_owned()),
                ..Report::default()
            };
        } else if let Some((_, killed)) = message.split_once("Killed process ") {
            // A further kill of the same report does not repeat its fields.
            let report = std::mem::take(&mut self.report);
            return killed_process(killed, report);
        } else if self.report.trigger.is_some() {
            self.detail(message);
        }
        None
    }

    /// A line between the first and the last of a report.
    fn detail(&mut self, message: &str) {
        let Self { page_kb, report } = self;
        if let Some(rest) = message.strip_prefix("[  pid  ]") {
            let column = |named: &str| rest.split_whitespace().position(|name| name == named);
            report.columns = column("rss").zip(column("name"));
        } else if let Some((columns, rest)) = report.columns.zip(message.strip_prefix('[')) {
            if let Some(task) = task(rest, columns, *page_kb) {
                let place = report.tasks.partition_point(|it| it.rss_kb >= task.rss_kb);
                report.tasks.insert(place, task);
                report.tasks.truncate(MAX_TASKS);
            }
        } else if let Some(rest) = message.strip_prefix("oom-kill:constraint=CONSTRAINT_") {
            report.constraint = rest.split(',').next().map(str::to_ascii_lowercase);
        } else if let Some(pages) = message.strip_suffix(" pages RAM") {
            report.mem_total_kb = pages.trim().parse().ok().map(|pages: u64| pages * *page_kb);
        } else if let Some(rest) = message.trim_start().strip_prefix("free:") {
            report.mem_free_kb = number(rest).map(|pages| pages * *page_kb);
        } else if report.trigger_pid.is_none() && message.starts_with("CPU: ") {
            report.trigger_pid = message
                .split_once(" PID: ")
                .and_then(|(_, rest)| number(rest));
        }
    }
}

/// The kernel's message without its prefix. `None` if it is not the kernel's: other processes can write
/// to `/dev/kmsg` too, but only the kernel has facility 0.
fn message(line: &str) -> Option<&str> {
    /// The lowest 3 bits are the severity.
    const FACILITY: u64 = !0b111;
    let line = line.trim_end();
    if let Some((head, message)) = line.split_once(';')
        && let Some((priority, _)) = head.split_once(',')
        && let Ok(priority) = priority.parse::<u64>()
    {
        return (priority & FACILITY == 0).then_some(message);
    }
    let message = line.split_once(" kernel: ").map_or(line, |(_, rest)| rest);
    // The time since the start, which has a dot where the id of a process has none.
    let timed = message
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let time = |time: &str| time.contains('.') && time.trim().parse::<f64>().is_ok();
    Some(match timed {
        Some((before, rest)) if time(before) => rest,
        _ => message,
    })
}

/// `PID (NAME) total-vm:…kB, anon-rss:…kB, file-rss:…kB, shmem-rss:…kB, …`
fn killed_process(text: &str, report: Report) -> Option<SystemOomKill> {
    let (pid, rest) = text.split_once(" (")?;
    // A name may have a bracket in it, too.
    let end = rest.rfind(") total-vm:")?;
    let (process_name, sizes) = rest.split_at(end);
    let size = |name: &str| sizes.split_once(name).and_then(|(_, rest)| number(rest));
    // A kernel before 4.8 has no shared part of its own: it is in that of files.
    let rss_kb = size(" anon-rss:")? + size(" file-rss:")? + size(" shmem-rss:").unwrap_or(0);
    Some(SystemOomKill {
        process_name: process_name.to_owned(),
        pid: pid.parse().ok()?,
        rss_kb,
        trigger_process_name: report.trigger,
        trigger_pid: report.trigger_pid,
        constraint: report.constraint,
        mem_total_kb: report.mem_total_kb,
        mem_free_kb: report.mem_free_kb,
        top_tasks: (!report.tasks.is_empty()).then_some(report.tasks),
        ..SystemOomKill::default()
    })
}

/// ` PID] UID TGID … NAME`, in which the columns behind the bracket have names.
fn task(text: &str, (rss, name): (usize, usize), page_kb: u64) -> Option<OomTask> {
    let (pid, rest) = text.split_once(']')?;
    let columns: Vec<_> = rest.split_whitespace().collect();
    let rss: u64 = columns.get(rss)?.parse().ok()?;
    Some(OomTask {
        // A name may have a space in it.
        name: columns.get(name..)?.join(" "),
        pid: pid.trim().parse().ok()?,
        rss_kb: rss * page_kb,
    })
}

/// The number that the text begins with.
fn number(text: &str) -> Option<u64> {
    let end = text
        .find(|digit: char| !digit.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}
