//! Where the values come from, and how they are read: flags, and files that can be read again.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::instance_tokens::{InstanceTokens, InstanceTokensError};
use crate::origin::{Entry, OriginError, Origins};
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::token::{Token, TokenError};

/// Where the token, the allow-lists and the certificate come from.
///
/// The default is a server for loopback: no token, no page of another origin, no TLS.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// What a caller must send. `None` lets every caller pass.
    pub token: Option<TokenSource>,
    /// A file with further tokens, which open some instances of a fleet each. A line is `shop-*,till-1 TOKEN`: names, in
    /// which `*` stands for any characters, at most 100, and the token; empty lines and lines that begin with `#` are
    /// ignored. At most 16 MiB. Needs `token`.
    pub instance_tokens: Option<PathBuf>,
    /// The origins whose pages may call, such as `https://app.example`. `*` allows every origin and
    /// needs a token.
    pub allow_origins: Vec<String>,
    /// The host names that are answered without a token, besides `localhost` and loopback addresses.
    pub hosts: Vec<String>,
    /// A file with more of both: a line is `origin https://app.example` or `host tapline.internal`; empty
    /// lines and lines that begin with `#` are ignored. At most 1 MiB.
    pub allow_file: Option<PathBuf>,
    /// The certificate and the key. `None` means no TLS.
    pub tls: Option<TlsFiles>,
}

/// Where a token comes from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// A file with the token and nothing else; it is read again by [`Access::reload`](crate::Access::reload).
    File(PathBuf),
    /// The token itself; it never changes.
    Fixed(Token),
}

impl AccessConfig {
    pub(crate) fn read_token(&self) -> Result<Option<Token>, TokenError> {
        Ok(match &self.token {
            None => None,
            Some(TokenSource::Fixed(token)) => Some(token.clone()),
            Some(TokenSource::File(path)) => Some(Token::read(path)?),
        })
    }

    pub(crate) fn read_instance_tokens(
        &self,
    ) -> Result<Option<InstanceTokens>, InstanceTokensError> {
        match (&self.instance_tokens, &self.token) {
            (None, _) => Ok(None),
            (Some(_), None) => Err(InstanceTokensError::NoToken),
            (Some(path), Some(_)) => InstanceTokens::read(path).map(Some),
        }
    }

    pub(crate) fn read_origins(&self) -> Result<Origins, AllowListError> {
        let of_flag = |flag: &str, values: &[String]| -> Vec<Entry> {
            let entry = |value: &String| Entry {
                place: flag.to_owned(),
                value: value.clone(),
            };
            values.iter().map(entry).collect()
        };
        let mut origins = of_flag("--allow-origin", &self.allow_origins);
        let mut hosts = of_flag("--host", &self.hosts);
        if let Some(path) = &self.allow_file {
            read_allow_file(path, &mut origins, &mut hosts)?;
        }
        Ok(Origins::new(origins, hosts, self.token.is_some())?)
    }

    pub(crate) fn read_tls(&self) -> Result<Option<Tls>, TlsError> {
        self.tls.as_ref().map(TlsFiles::load).transpose()
    }

    /// Every file, with what shows a change of it.
    pub(crate) fn stamps(&self) -> Vec<Option<Stamp>> {
        let token = match &self.token {
            Some(TokenSource::File(path)) => Some(path),
            _ => None,
        };
        let tls = self.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        let files = token.into_iter().chain(&self.instance_tokens);
        let files = files.chain(&self.allow_file).chain(tls);
        files.map(|path| Stamp::of(path)).collect()
    }
}

/// The length and the time of change of a file: another stamp is another content. A symbolic link is
/// followed, so that exchanging the link is a change, too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            },
        })
    }
}

/// Why a value cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The tokens of instances.
    #[error(transparent)]
    InstanceTokens(#[from] InstanceTokensError),
    /// An allow-list.
    #[error(transparent)]
    AllowList(#[from] AllowListError),
    /// The certificate or the key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why the allow-lists cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// The file cannot be read.
    #[error("cannot read the allow file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A line of the file has another form.
    #[error(
        "{place}: expected `origin https://app.example`, `host tapline.internal`, or a comment that begins with `#`"
    )]
    Line {
        /// The file and the number of the line.
        place: String,
    },
    /// An entry is malformed, or not permitted.
    #[error(transparent)]
    Entry(#[from] OriginError),
}

fn read_allow_file(
    path: &Path,
    origins: &mut Vec<Entry>,
    hosts: &mut Vec<Entry>,
) -> Result<(), AllowListError> {
    const MAX_BYTES: u64 = 1024 * 1024;
    let cannot_read = |source| AllowListError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(cannot_read)?;
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    if MAX_BYTES < length.map_err(cannot_read)? as u64 {
        return Err(cannot_read(io::ErrorKind::FileTooLarge.into()));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}, line {number}:", path.display());
        let (list, value) = match line.split_once(char::is_whitespace) {
            Some(("origin", value)) => (&mut *origins, value),
            Some(("host", value)) => (&mut *hosts, value),
            _ => {
                let place = place.trim_end_matches(':').to_owned();
                return Err(AllowListError::Line { place });
            }
        };
        let value = value.trim().to_owned();
        list.push(Entry { place, value });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_allow_file_adds_to_the_flags() {
        let scratch = Scratch::new();
        let file = scratch.write(
            "allow",
            "# who may call\n\norigin https://b.example\n  host   b.internal \r\n",
        );
        let from_file = AccessConfig {
            allow_origins: vec!["https://a.example".to_owned()],
            hosts: vec!["a.internal".to_owned()],
            allow_file: Some(file),
            ..AccessConfig::default()
        };
        let from_flags = AccessConfig {
            allow_origins: vec![
                "https://a.example".to_owned(),
                "https://b.example".to_owned(),
            ],
            hosts: vec!["a.internal".to_owned(), "b.internal".to_owned()],
            ..AccessConfig::default()
        };
        assert_eq!(
            from_file.read_origins().unwrap(),
            from_flags.read_origins().unwrap()
        );
    }

    #[test]
    fn an_error_in_the_allow_file_names_the_file_and_the_line() {
        let scratch = Scratch::new();
        for (text, expected) in [
            (
                "origin a.example\n",
                "line 1: a.example: expected an origin",
            ),
            ("\nhost x:1\n", "line 2: x:1: expected a name"),
            ("origin *\n", "line 1: *: every page"),
            ("https://a.example\n", "line 1: expected `origin "),
            ("hosts a\n", "line 1: expected `origin "),
            ("origin\n", "line 1: expected `origin "),
        ] {
            let file = scratch.write("allow", text);
            let config = AccessConfig {
                allow_file: Some(file.clone()),
                ..AccessConfig::default()
            };
            let error = config.read_origins().unwrap_err().to_string();
            let expected = format!("{}, {expected}", file.display());
            assert!(error.starts_with(&expected), "{error}");
        }
        for path in [
            scratch.directory.join("nowhere"),
            scratch.write("binary", [0xff]),
            scratch.write("large", vec![b'\n'; 1024 * 1024 + 1]),
        ] {
            let config = AccessConfig {
                allow_file: Some(path.clone()),
                ..AccessConfig::default()
            };
            let error = config.read_origins().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("cannot read the allow file {}", path.display())
            );
        }
    }
}
