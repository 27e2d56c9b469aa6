//! The token: a secret that permits everything, and its comparison in constant time.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crypto::hmac;
use http::{HeaderMap, header};

/// A secret that permits everything. Its `Debug` output does not contain the secret.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// 16 bytes of hexadecimal digits hold 64 bits. A shorter secret can be guessed.
    const MIN_BYTES: usize = 16;
    /// Header fields of 16 KiB are common limits; a longer secret is most likely a wrong file.
    const MAX_BYTES: usize = 4096;

    /// Reads a file that contains the token and nothing else. One line break at the end is ignored.
    ///
    /// Logs a warning where every user of the machine can read the file.
    ///
    /// # Errors
    ///
    /// [`TokenError`] where the file cannot be read, or where its content is empty, shorter than 16
    /// bytes, longer than 4 KiB, or not visible ASCII.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let cannot_read = |source| TokenError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(cannot_read)?;
        warn_if_others_can_read(path, &file);
        let mut bytes = Vec::new();
        // One byte above the limit, line break included, so that a longer file is detected.
        file.take(Self::MAX_BYTES as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(cannot_read)?;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Self::new(bytes, || format!("token file {}", path.display()))
    }

    /// Takes the value of an environment variable as it is. `name` is used in errors.
    ///
    /// # Errors
    ///
    /// [`TokenError`] where the value is empty, shorter than 16 bytes, longer than 4 KiB, or not
    /// visible ASCII.
    pub fn from_variable(name: &str, value: &str) -> Result<Self, TokenError> {
        Self::new(value.as_bytes(), || format!("variable {name}"))
    }

    pub(crate) fn new(bytes: &[u8], place: impl FnOnce() -> String) -> Result<Self, TokenError> {
        let text = str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let fault = match (bytes.len(), text) {
            (0, _) => "is empty",
            (..Self::MIN_BYTES, _) => "holds fewer than 16 bytes, which can be guessed",
            (Self::MIN_BYTES..=Self::MAX_BYTES, Some(text)) => return Ok(Self(text.into())),
            (Self::MIN_BYTES..=Self::MAX_BYTES, None) => {
                "holds a space, a line break or another byte that is not visible ASCII"
            }
            _ => "holds more than 4096 bytes",
        };
        Err(TokenError::Unfit {
            place: place(),
            fault,
        })
    }

    /// The secret itself, for a client that sends it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a token cannot be used. The error does not contain the rejected secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The content is not a token.
    #[error(
        "{place} {fault}: a token is 16 to 4096 visible ASCII characters, such as `openssl rand -hex 32` prints"
    )]
    Unfit {
        /// The file or the variable.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Logs a warning about a secret that every user of the machine can read. This is not an error: in a
/// container with one user it is harmless.
#[cfg(unix)]
pub(crate) fn warn_if_others_can_read(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    const READ_BY_OTHERS: u32 = 0o004;
    let readable = file.metadata().is_ok_and(|metadata| {
        metadata.is_file() && metadata.permissions().mode() & READ_BY_OTHERS != 0
    });
    if readable {
        let path = path.display();
        tracing::warn!("{path} can be read by every user of this machine: `chmod 600 {path}`");
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_others_can_read(_: &Path, _: &File) {}

/// A token as an HMAC under a random key of this process.
///
/// The value that a client sends is put under the same key before the comparison. So both sides have
/// the same length, the comparison takes the same time wherever they differ, and neither the bytes of
/// the token nor their number can be measured.
pub(crate) struct SealedToken {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl SealedToken {
    pub(crate) fn new(token: &Token) -> Self {
        let key = random_key();
        let tag = hmac::sign(&key, token.as_bytes());
        Self { key, tag }
    }

    /// Whether `sent` is the token, in a time that depends on the length of `sent` only.
    pub(crate) fn matches(&self, sent: &[u8]) -> bool {
        hmac::verify(&self.key, sent, self.tag.as_ref()).is_ok()
    }
}

/// A key that only this process has.
pub(crate) fn random_key() -> hmac::Key {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("the system's source of randomness answers");
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// The `authorization` header has another form than `Bearer TOKEN`, or it is there twice.
pub(crate) struct NotBearer;

/// The value that follows `Authorization: Bearer`; `None` without the header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, NotBearer> {
    const SCHEME: &[u8] = b"bearer ";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.as_bytes().split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) && values.next().is_none() => {
            Ok(Some(token.trim_ascii()))
        }
        _ => Err(NotBearer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const SECRET: &str = "correct-horse-battery-staple";

    #[test]
    fn a_token_file_may_end_with_one_line_break() {
        let scratch = Scratch::new();
        for (name, ending) in [("bare", ""), ("unix", "\n"), ("dos", "\r\n")] {
            let file = scratch.write(name, format!("{SECRET}{ending}"));
            assert_eq!(Token::read(&file).unwrap().as_bytes(), SECRET.as_bytes());
        }
        let longest = scratch.write("longest", [b"x".repeat(4096), b"\r\n".to_vec()].concat());
        assert_eq!(Token::read(&longest).unwrap().as_bytes().len(), 4096);
    }

    #[test]
    fn an_unfit_token_is_an_error_that_names_the_file_and_the_fix_and_hides_the_secret() {
        let scratch = Scratch::new();
        for (name, bytes, fault) in [
            ("empty", b"".to_vec(), "is empty"),
            ("break", b"\n".to_vec(), "is empty"),
            ("short", b"fifteen-bytes-x\n".to_vec(), "fewer than 16"),
            ("long", b"x".repeat(4097), "more than 4096"),
            ("huge", b"x".repeat(1 << 20), "more than 4096"),
            ("two-lines", b"fifteen-bytes-x\n\n".to_vec(), "a line break"),
            ("space", b"sixteen bytes and more".to_vec(), "a space"),
            ("binary", vec![0xff; 20], "not visible ASCII"),
        ] {
            let file = scratch.write(name, &bytes);
            let error = Token::read(&file).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
            assert!(error.contains(file.to_str().unwrap()), "{error}");
            assert!(error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("fifteen"), "{error}");
        }
        let error = Token::read(Path::new("/nowhere/token")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the token file /nowhere/token"
        );
        let error = Token::from_variable("TAPLINE_TOKEN", "short").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("variable TAPLINE_TOKEN holds fewer")
        );
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let token = Token::from_variable("TAPLINE_TOKEN", SECRET).unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        let error = Token::from_variable("V", "my-secret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("my-secret"));
    }
}
