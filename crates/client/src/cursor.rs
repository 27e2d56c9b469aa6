//! A position in the stream that can be kept, and come back with.

use std::fmt;
use std::str::FromStr;

/// A position in the stream: everything up to `seq` is behind. On the wire `{seq}-{epoch}`, or
/// `{seq}` alone.
///
/// With its epoch a cursor is safe to keep: a server that was restarted since knows that the seq is
/// none of its own, and says so. Without it, a seq of the incarnation before may name another event.
///
/// ```
/// use tapline_client::Cursor;
///
/// let cursor: Cursor = "41-00000000c0ffee00".parse()?;
/// assert_eq!((cursor.seq, cursor.epoch.as_deref()), (41, Some("00000000c0ffee00")));
/// assert_eq!(cursor.to_string(), "41-00000000c0ffee00");
/// assert_eq!("41".parse(), Ok(Cursor::from(41)));
/// # Ok::<(), tapline_client::InvalidCursor>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last seq that is behind; 0 is before the first event.
    pub seq: u64,
    /// The incarnation of the stream that gave it.
    pub epoch: Option<String>,
}

impl From<u64> for Cursor {
    fn from(seq: u64) -> Self {
        Self { seq, epoch: None }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (seq, epoch) = match text.split_once('-') {
            Some((seq, epoch)) => (seq, Some(epoch)),
            None => (text, None),
        };
        // Rust would take "+5" as a number; the server does not.
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let is_epoch = |epoch: &str| {
            !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        match seq.parse() {
            Ok(seq) if is_number && epoch.is_none_or(is_epoch) => Ok(Self {
                seq,
                epoch: epoch.map(str::to_owned),
            }),
            _ => Err(InvalidCursor(text.to_owned())),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.epoch {
            Some(epoch) => write!(f, "{}-{epoch}", self.seq),
            None => write!(f, "{}", self.seq),
        }
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cursor, which looks like `41` or `41-00000000c0ffee00`")]
pub struct InvalidCursor(
    /// The text as it was given.
    pub String,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "-",
            "5-",
            "-9f",
            "+5",
            "5 ",
            "5-a b",
            "5-a\n",
            "99999999999999999999",
            "x",
        ] {
            assert_eq!(
                text.parse::<Cursor>(),
                Err(InvalidCursor(text.to_owned())),
                "{text:?}"
            );
        }
    }
}
