//! Times, durations and sizes as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone in which times are shown.
#[derive(Debug, Clone)]
pub(crate) struct Clock(TimeZone);

impl Clock {
    /// UTC, or the zone of the system.
    pub(crate) fn new(utc: bool) -> Self {
        Self(match utc {
            true => TimeZone::UTC,
            false => TimeZone::system(),
        })
    }

    /// `12:09:18.721`, of microseconds since the Unix epoch.
    pub(crate) fn of_day(&self, ts: u64) -> String {
        self.format(ts, "%H:%M:%S%.3f")
            .unwrap_or_else(|| format!("{:12}", "?"))
    }

    /// `2026-11-23 12:09:18`, and the name of the zone.
    pub(crate) fn day_and_time(&self, ts: u64) -> String {
        self.format(ts, "%Y-%m-%d %H:%M:%S %Z")
            .unwrap_or_else(|| "?".to_owned())
    }

    fn format(&self, ts: u64, format: &str) -> Option<String> {
        let time = Timestamp::from_microsecond(i64::try_from(ts).ok()?).ok()?;
        Some(time.to_zoned(self.0.clone()).strftime(format).to_string())
    }
}

/// A duration in milliseconds, in three digits or so: `0.4 ms`, `12 ms`, `1.25 s`, `3 min 20 s`.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        _ if !ms.is_finite() || ms < 0.0 => "?".to_owned(),
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        ..9_995.0 => format!("{:.2} s", ms / 1e3),
        ..59_950.0 => format!("{:.1} s", ms / 1e3),
        ..3_600_000.0 => {
            let seconds = (ms / 1e3).round();
            format!(
                "{:.0} min {:.0} s",
                (seconds / 60.0).floor(),
                seconds % 60.0
            )
        }
        _ => format!("{:.1} h", ms / 3.6e6),
    }
}

/// A size: `512 B`, `12.3 kB`, `4.0 MB`. As browsers show it, a kilobyte has 1,000 bytes.
pub(crate) fn size(bytes: u64) -> String {
    let number = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.1} GB", number / 1e9),
    }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_about_three_digits() {
        for (ms, text) in [
            (0.04, "0.0 ms"),
            (9.94, "9.9 ms"),
            (9.96, "10 ms"),
            (999.4, "999 ms"),
            (999.6, "1.00 s"),
            (9_996.0, "10.0 s"),
            (59_960.0, "1 min 0 s"),
            (200_000.0, "3 min 20 s"),
            (7_200_000.0, "2.0 h"),
            (-1.0, "?"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345), "12.3 kB");
        assert_eq!(size(4_000_000), "4.0 MB");
    }

    #[test]
    fn a_time_of_day_is_shown_in_the_zone() {
        let ts = 1_795_349_358_721_694;
        assert_eq!(Clock::new(true).of_day(ts), "12:09:18.721");
        assert!(Clock::new(true).day_and_time(ts).ends_with("12:09:18 UTC"));
        assert_eq!(Clock::new(true).of_day(u64::MAX).trim(), "?");
    }
}
