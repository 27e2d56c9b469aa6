//! Where a reader has got to, in a form that survives it: [`Cursor`].

use std::fmt;
use std::str::FromStr;

/// The random id of one incarnation of a stream. A restart has another one, so a cursor from before
/// it is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// A new one, from the system's randomness.
    ///
    /// # Panics
    ///
    /// Where the system has no randomness to give; nothing can be promised to a reader then.
    pub(crate) fn random() -> Self {
        Self(getrandom::u64().expect("the system's source of randomness answers"))
    }
}

/// Sixteen hexadecimal digits.
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

/// The last seq that somebody has, and of which incarnation of the stream where they know.
///
/// Written `{seq}` or `{seq}-{epoch}`.
///
/// ```
/// use tapline_events::Cursor;
///
/// let cursor: Cursor = "12-00000000c0ffee00".parse()?;
/// assert_eq!(cursor.seq, 12);
/// assert_eq!(cursor.to_string(), "12-00000000c0ffee00");
/// assert!("12-".parse::<Cursor>().is_err());
/// # Ok::<(), tapline_events::CursorError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Reading goes on with the one after it.
    pub seq: u64,
    /// Which stream the seq belongs to; unknown where it was not told.
    pub epoch: Option<Epoch>,
}

/// What was given is neither `{seq}` nor `{seq}-{epoch}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is a seq such as `42`, or a seq and an epoch such as `42-00000000c0ffee00`")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (seq, epoch) = match text.split_once('-') {
            None => (text, None),
            Some((seq, epoch)) => (seq, Some(epoch.parse()?)),
        };
        Ok(Self {
            seq: digits(seq, 10, 1..=20)?,
            epoch,
        })
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

impl FromStr for Epoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        digits(text, 16, 16..=16).map(Self)
    }
}

/// As `from_str_radix`, which would also take a sign.
fn digits(
    text: &str,
    radix: u32,
    len: std::ops::RangeInclusive<usize>,
) -> Result<u64, CursorError> {
    if !len.contains(&text.len()) || !text.chars().all(|c| c.is_digit(radix)) {
        return Err(CursorError);
    }
    u64::from_str_radix(text, radix).map_err(|_| CursorError)
}
