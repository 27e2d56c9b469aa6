//! Tokens that open some instances of a fleet: a file of them, and how one is found.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crypto::hmac;
use tapline_oapi::check_instance_name;

use crate::token::{Token, TokenError, random_key, warn_if_others_can_read};

/// The names of instances that a caller may use, in which `*` stands for any characters.
pub type InstanceNames = Arc<[String]>;

/// The tokens that open some instances each.
///
/// They are kept as HMACs under a random key of this process, as the token that opens everything is: what is looked up is
/// a value that no caller can choose, so the time that it takes says nothing about a token.
pub(crate) struct InstanceTokens {
    key: hmac::Key,
    by_tag: HashMap<Box<[u8]>, InstanceNames>,
}

impl InstanceTokens {
    const MAX_BYTES: u64 = 16 * 1024 * 1024;
    const MAX_NAMES: usize = 100;

    /// Reads a file. A line has the names of instances, joined by commas, and after a space the token. Empty lines, and lines
    /// that begin with `#`, are ignored. Logs a warning where every user of the machine can read the file.
    pub(crate) fn read(path: &Path) -> Result<Self, InstanceTokensError> {
        Self::read_with(random_key(), path)
    }

    /// Reads the file again, so that both can be compared.
    pub(crate) fn read_again(&self, path: &Path) -> Result<Self, InstanceTokensError> {
        Self::read_with(self.key.clone(), path)
    }

    fn read_with(key: hmac::Key, path: &Path) -> Result<Self, InstanceTokensError> {
        let cannot_read = |source| InstanceTokensError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(cannot_read)?;
        warn_if_others_can_read(path, &file);
        let mut text = String::new();
        let length = file.take(Self::MAX_BYTES + 1).read_to_string(&mut text);
        if Self::MAX_BYTES < length.map_err(cannot_read)? as u64 {
            return Err(cannot_read(io::ErrorKind::FileTooLarge.into()));
        }
        let mut tokens = Self {
            key,
            by_tag: HashMap::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let place = || format!("{}, line {number}", path.display());
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let unfit = |fault: String| InstanceTokensError::Line {
                place: place(),
                fault,
            };
            let Some((names, token)) = line.split_once(char::is_whitespace) else {
                let fault =
                    "expected names of instances and a token, such as `shop-*,till-1 TOKEN`";
                return Err(unfit(fault.to_owned()));
            };
            let names = parse_names(names).map_err(unfit)?;
            let token = Token::new(token.trim_start().as_bytes(), || place() + ": the token")?;
            let tag = tokens.tag(token.as_bytes());
            if tokens.by_tag.insert(tag, names).is_some() {
                let fault = "the token is in a line before; join the names of both with a comma";
                return Err(unfit(fault.to_owned()));
            }
        }
        Ok(tokens)
    }

    /// Whether the other one, which was [read again](Self::read_again), has the same tokens for the same instances.
    pub(crate) fn is_same(&self, again: &Self) -> bool {
        self.by_tag == again.by_tag
    }

    /// The instances that this token opens; `None` if it is none of these.
    pub(crate) fn find(&self, sent: &[u8]) -> Option<InstanceNames> {
        self.by_tag.get(&self.tag(sent)).cloned()
    }

    fn tag(&self, token: &[u8]) -> Box<[u8]> {
        hmac::sign(&self.key, token).as_ref().into()
    }
}

fn parse_names(text: &str) -> Result<InstanceNames, String> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    if InstanceTokens::MAX_NAMES < names.len() {
        let most = InstanceTokens::MAX_NAMES;
        return Err(format!("more than {most} names for one token"));
    }
    for name in &names {
        check_instance_name(name)?;
    }
    Ok(names.into())
}

/// Why the tokens of instances cannot be used. The error does not contain a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceTokensError {
    /// The file cannot be read.
    #[error("cannot read the file of instance tokens {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A line has another form.
    #[error("{place}: {fault}")]
    Line {
        /// The file and the number of the line.
        place: String,
        /// What is wrong with it.
        fault: String,
    },
    /// What is in the place of a token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no token that opens everything.
    #[error(
        "--instance-tokens: set a token that opens everything, too, with --token-file: without one every caller may do everything"
    )]
    NoToken,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn each_token_opens_the_instances_of_its_line() {
        let scratch = Scratch::new();
        let file = scratch.write(
            "tokens",
            "# a shop\nshop-*,till-1 secret-of-the-shops\n\n  a\tsecret-of-instance-a  \r\n",
        );
        let tokens = InstanceTokens::read(&file).unwrap();
        let find = |token: &str| tokens.find(token.as_bytes()).map(|names| names.join(","));
        assert_eq!(find("secret-of-the-shops").unwrap(), "shop-*,till-1");
        assert_eq!(find("secret-of-instance-a").unwrap(), "a");
        assert_eq!(find("secret-of-instance-b"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn an_error_names_the_line_and_hides_the_token() {
        let scratch = Scratch::new();
        for (text, expected) in [
            (
                "shop-1\n",
                "line 1: expected names of instances and a token",
            ),
            (
                "# x\nshop-1 hunter2\n",
                "line 2: the token holds fewer than 16",
            ),
            (
                "a hunter2hunter2 hunter2\n",
                "line 1: the token holds a space",
            ),
            ("a,,b hunter2hunter2hunter2\n", "line 1: a name is empty"),
            (
                "a hunter2hunter2hunter2\nb hunter2hunter2hunter2\n",
                "line 2: the token is in a line before",
            ),
            (
                &format!("{} hunter2hunter2hunter2\n", vec!["a"; 101].join(",")),
                "line 1: more than 100 names",
            ),
            (
                &format!("{} hunter2hunter2hunter2\n", "*a".repeat(17)),
                "line 1: `*a*a",
            ),
        ] {
            let file = scratch.write("tokens", text);
            let error = InstanceTokens::read(&file).map(drop).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(expected), "{said}");
            assert!(said.contains(file.to_str().unwrap()), "{said}");
            assert!(!format!("{error:?} {said}").contains("hunter2"), "{said}");
        }
        let missing = InstanceTokens::read(Path::new("/nowhere/tokens"));
        assert_eq!(
            missing.map(drop).unwrap_err().to_string(),
            "cannot read the file of instance tokens /nowhere/tokens"
        );
    }
}
