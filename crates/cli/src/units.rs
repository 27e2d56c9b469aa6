//! Numbers with units, as people write them on flags: `65536`, `64Ki`, `1MiB`, `8MB`.

use std::str::FromStr;

/// A count of things: `65536`, `64Ki` (1,024s), `100k` (1,000s), `1M`, `1Mi`.
pub(crate) fn count(text: &str) -> Result<usize, InvalidNumber> {
    parse(text).ok_or(InvalidNumber::Count)
}

/// A size in bytes: `1048576`, `1MiB`, `64KiB`, `8MB`; the `B` may be left out.
pub(crate) fn bytes(text: &str) -> Result<usize, InvalidNumber> {
    let number = text.strip_suffix('B').unwrap_or(text);
    parse(number).ok_or(InvalidNumber::Bytes)
}

/// What a number should have looked like. Clap shows what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidNumber {
    #[error("expected a number such as 65536, 64Ki or 100k")]
    Count,
    #[error("expected a size such as 65536, 64KiB or 1MiB")]
    Bytes,
}

fn parse(number: &str) -> Option<usize> {
    let digits_end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    let (digits, unit) = number.split_at(digits_end);
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
