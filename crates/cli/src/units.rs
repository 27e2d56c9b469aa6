//! Numbers with units, as people write them on flags: `65536`, `64Ki`, `1MiB`, `8MB`, `15s`.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A count of things: `65536`, `64Ki` (1,024s), `100k` (1,000s), `1M`, `1Mi`.
pub(crate) fn count(text: &str) -> Result<usize, InvalidNumber> {
    parse(text).ok_or(InvalidNumber::Count)
}

/// A size in bytes: `1048576`, `1MiB`, `64KiB`, `8MB`; the `B` may be left out.
pub(crate) fn bytes(text: &str) -> Result<usize, InvalidNumber> {
    let number = text.strip_suffix('B').unwrap_or(text);
    parse(number).ok_or(InvalidNumber::Bytes)
}

/// A time: `250ms`, `15s`, `2m` or `2min`, `1h`, `7d`, up to a year. A bare number would be a guess.
pub(crate) fn time(text: &str) -> Result<Duration, InvalidNumber> {
    /// Longer is for ever, and the clock's own arithmetic ends somewhere.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let (digits, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(InvalidNumber::Time),
    };
    u64::from_str(digits)
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .filter(|time| *time <= LONGEST)
        .ok_or(InvalidNumber::Time)
}

/// An address to listen on: `127.0.0.1:10001`, `[::1]:0`, or `localhost:10001` and `:10001` for 127.0.0.1. Other names
/// are not looked up: what they stand for may change, and with it who can connect.
pub(crate) fn address(text: &str) -> Result<SocketAddr, InvalidAddress> {
    let port = text
        .strip_prefix("localhost:")
        .or_else(|| text.strip_prefix(':'));
    match port.map(str::parse) {
        Some(Ok(port)) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Some(Err(_)) => Err(InvalidAddress),
        None => text.parse().map_err(|_| InvalidAddress),
    }
}

/// What an address should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address and a port such as 127.0.0.1:10001, [::1]:10001, localhost:10001 or :10001"
)]
pub(crate) struct InvalidAddress;

/// What a number should have looked like. Clap shows what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidNumber {
    #[error("expected a number such as 65536, 64Ki or 100k")]
    Count,
    #[error("expected a size such as 65536, 64KiB or 1MiB")]
    Bytes,
    #[error("expected a time such as 250ms, 15s, 2m, 1h or 7d, at most a year")]
    Time,
}

fn parse(number: &str) -> Option<usize> {
    let (digits, unit) = split(number);
    let factor: usize = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    usize::from_str(digits).ok()?.checked_mul(factor)
}

/// The digits, and what follows them.
fn split(number: &str) -> (&str, &str) {
    let digits_end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number.split_at(digits_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        for (text, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:10001", "127.0.0.1:10001"),
            (":0", "127.0.0.1:0"),
        ] {
            assert_eq!(address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            ":",
            "localhost",
            "localhost:",
            "10001",
            ":65536",
            "h:1",
            "127.0.0.1",
        ] {
            assert_eq!(address(text), Err(InvalidAddress), "{text}");
        }
    }

    #[test]
    fn counts() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("65536", Ok(65_536)),
            ("64Ki", Ok(65_536)),
            ("100k", Ok(100_000)),
            ("2M", Ok(2_000_000)),
            ("", Err(InvalidNumber::Count)),
            ("k", Err(InvalidNumber::Count)),
            ("-1", Err(InvalidNumber::Count)),
            ("1.5k", Err(InvalidNumber::Count)),
            ("64KiB", Err(InvalidNumber::Count)),
            ("99999999999999999999", Err(InvalidNumber::Count)),
            ("99999999999G", Err(InvalidNumber::Count)),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4096", Ok(4096)),
            ("4096B", Ok(4096)),
            ("64MiB", Ok(64 << 20)),
            ("64Mi", Ok(64 << 20)),
            ("1GB", Ok(1_000_000_000)),
            ("B", Err(InvalidNumber::Bytes)),
            ("1TB", Err(InvalidNumber::Bytes)),
            ("1 MiB", Err(InvalidNumber::Bytes)),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("0s", Ok(Duration::ZERO)),
            ("250ms", Ok(Duration::from_millis(250))),
            ("15s", Ok(Duration::from_secs(15))),
            ("2m", Ok(Duration::from_secs(120))),
            ("2min", Ok(Duration::from_secs(120))),
            ("8760h", Ok(Duration::from_secs(31_536_000))),
            ("8761h", Err(InvalidNumber::Time)),
            ("15", Err(InvalidNumber::Time)),
            ("s", Err(InvalidNumber::Time)),
            ("1.5s", Err(InvalidNumber::Time)),
            ("-1s", Err(InvalidNumber::Time)),
            ("15 s", Err(InvalidNumber::Time)),
            ("18446744073709551615h", Err(InvalidNumber::Time)),
        ] {
            assert_eq!(time(text), expected, "{text:?}");
        }
    }
}
