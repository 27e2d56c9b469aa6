//! A position in the stream: [`Cursor`], and the [`Epoch`] in which it is valid.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// The random id of one run of the stream. A restarted server has another epoch, so a cursor from
/// before the restart is recognised.
///
/// Written as 16 hexadecimal digits. Reading takes either case, writing uses lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with these bits. The caller draws them at random; this crate has no randomness.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits that the epoch was made from.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for Epoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        digits(text, 16, 16..=16)
            .map(Self)
            .ok_or_else(|| CursorError::Epoch(shortened(text)))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Epoch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of 16 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Epoch, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Digits)
    }
}

/// A position in the stream: the reader is done with everything up to and including `seq`.
///
/// Written `SEQ` or `SEQ-EPOCH`. With its epoch a cursor is safe to store: a server that has
/// restarted since recognises that the seq is not one of its own, and says so. Without an epoch, a
/// seq from before the restart may name another event.
///
/// ```
/// use tapline_oapi::{Cursor, CursorError, Epoch};
///
/// let cursor: Cursor = "41-00000000c0ffee00".parse()?;
/// assert_eq!(cursor.seq, 41);
/// assert_eq!(cursor.epoch, Some(Epoch::from_bits(0xc0ff_ee00)));
/// assert_eq!(cursor.to_string(), "41-00000000c0ffee00");
/// assert_eq!("41".parse(), Ok(Cursor::from(41)));
/// assert!("41-".parse::<Cursor>().is_err());
/// # Ok::<(), CursorError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last seq that the reader is done with; reading continues after it. 0 is before the first event.
    pub seq: u64,
    /// The epoch that the seq belongs to. `None` where it is not known.
    pub epoch: Option<Epoch>,
}

/// A seq whose epoch is not known.
impl From<u64> for Cursor {
    fn from(seq: u64) -> Self {
        Self { seq, epoch: None }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (seq, epoch) = match text.split_once('-') {
            None => (text, None),
            Some((seq, epoch)) => (seq, Some(epoch)),
        };
        let cursor = || {
            Some(Self {
                seq: digits(seq, 10, 1..=20)?,
                epoch: match epoch {
                    None => None,
                    Some(epoch) => Some(epoch.parse().ok()?),
                },
            })
        };
        cursor().ok_or_else(|| CursorError::Cursor(shortened(text)))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            None => write!(f, "{}", self.seq),
            Some(epoch) => write!(f, "{}-{epoch}", self.seq),
        }
    }
}

/// A text that is not a [`Cursor`], or not an [`Epoch`]. The message names the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not a cursor. Holds the text, shortened.
    #[error("`{0}` is not a cursor; write SEQ or SEQ-EPOCH, such as `41` or `41-00000000c0ffee00`")]
    Cursor(String),
    /// Not an epoch. Holds the text, shortened.
    #[error("`{0}` is not an epoch; write 16 hexadecimal digits, such as `00000000c0ffee00`")]
    Epoch(String),
}

/// As `from_str_radix`, which would also take a sign.
fn digits(text: &str, radix: u32, len: RangeInclusive<usize>) -> Option<u64> {
    if !len.contains(&text.len()) || !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(text, radix).ok()
}

/// The start of what the caller sent, so that an answer does not grow with the request.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
