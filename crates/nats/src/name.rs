//! What things are called in NATS: instances, subjects and streams.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// The name of one program that stores its stream: 1 to 64 letters, digits, `_` and `-`, so that it is a token of a
/// subject, and a part of a URL's path.
///
/// ```
/// use tapline_nats::InstanceName;
///
/// let name: InstanceName = "shop-7".parse()?;
/// assert_eq!(name.as_str(), "shop-7");
/// let error = "shop.7".parse::<InstanceName>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the instance name `shop.7` has the character '.'; use 1 to 64 letters (A-Z, a-z), digits, `_` and `-`"
/// );
/// # Ok::<(), tapline_nats::InstanceNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName(Box<str>);

/// Why a text is no [`InstanceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceNameError {
    /// There is none.
    #[error("the instance name is empty; {ALLOWED}")]
    Empty,
    /// It has too many characters.
    #[error("the instance name `{0}` has more than {max} characters; {ALLOWED}", max = InstanceName::MAX_LEN)]
    TooLong(String),
    /// It has a character that is not allowed.
    #[error("the instance name `{name}` has the character {character:?}; {ALLOWED}")]
    Character {
        /// The whole text.
        name: String,
        /// The first such character.
        character: char,
    },
}

const ALLOWED: &str = "use 1 to 64 letters (A-Z, a-z), digits, `_` and `-`";

impl InstanceName {
    /// The most characters of a name.
    pub const MAX_LEN: usize = 64;

    /// Checks the name.
    ///
    /// # Errors
    ///
    /// [`InstanceNameError`] where it has another character, too many or none.
    pub fn new(name: &str) -> Result<Self, InstanceNameError> {
        let is_allowed = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
        if name.is_empty() {
            return Err(InstanceNameError::Empty);
        }
        if let Some(character) = name.chars().find(|it| !is_allowed(*it)) {
            let name = name.to_owned();
            return Err(InstanceNameError::Character { name, character });
        }
        match name.len() <= Self::MAX_LEN {
            true => Ok(Self(name.into())),
            false => Err(InstanceNameError::TooLong(name.to_owned())),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its blocks are published.
    pub fn blocks_subject(&self, partitions: Partitions) -> String {
        format!("tapline.blocks.{}.{self}", partitions.of(self))
    }

    /// Where requests to it are sent.
    pub fn control_subject(&self) -> String {
        format!("tapline.control.{self}")
    }

    /// Where it says that it runs.
    pub fn alive_subject(&self) -> String {
        format!("tapline.alive.{self}")
    }

    /// Of the last token of a subject, such as that of a block.
    ///
    /// # Errors
    ///
    /// Where it is no name.
    pub fn of_subject(subject: &str) -> Result<Self, InstanceNameError> {
        Self::new(subject.rsplit('.').next().unwrap_or_default())
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceName {
    type Err = InstanceNameError;

    fn from_str(name: &str) -> Result<Self, InstanceNameError> {
        Self::new(name)
    }
}

/// Over how many streams the instances are spread: 1 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partitions(NonZeroU32);

impl Partitions {
    /// How many there are unless another number is asked for.
    pub const DEFAULT: Self = Self(NonZeroU32::new(16).expect("it is not zero"));

    /// The most there can be.
    pub const MAX: u32 = 256;

    /// So many; `None` where that is 0 or above [`MAX`](Self::MAX).
    pub fn new(count: u32) -> Option<Self> {
        NonZeroU32::new(count)
            .filter(|it| it.get() <= Self::MAX)
            .map(Self)
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.get()
    }

    /// The partition of an instance: the 32-bit FNV-1a hash of its name, modulo the number of partitions. It is what
    /// the server's subject mapping `{{partition(n,1)}}` computes.
    pub fn of(self, instance: &InstanceName) -> u32 {
        let hash = instance.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        hash % self.0
    }

    /// All partitions.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> + Clone {
        0..self.count()
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The name of the stream of a partition.
pub fn stream_name(partition: u32) -> String {
    format!("tapline-{partition}")
}

/// The subjects of the stream of a partition.
pub fn stream_subject(partition: u32) -> String {
    format!("tapline.blocks.{partition}.*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_of_a_subject() {
        let check = |name: &str, expected: Result<(), &str>| {
            let found = InstanceName::new(name).map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(found), Ok(())) => assert_eq!(found.as_str(), name),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{name}: {found:?}"),
            }
        };
        check("a", Ok(()));
        check("Shop_7-eu", Ok(()));
        check(&"a".repeat(64), Ok(()));
        check(&"a".repeat(65), Err("more than 64 characters"));
        check("", Err("is empty"));
        check("a b", Err("the character ' '"));
        check("a.b", Err("the character '.'"));
        check("a>", Err("the character '>'"));
        check("caf\u{e9}", Err("the character '\u{e9}'"));
        check("a/b", Err("the character '/'"));
    }

    #[test]
    fn subjects_have_the_partition_and_the_name() {
        let name = InstanceName::new("shop-7").unwrap();
        let one = Partitions::new(1).unwrap();
        assert_eq!(name.blocks_subject(one), "tapline.blocks.0.shop-7");
        assert_eq!(name.control_subject(), "tapline.control.shop-7");
        assert_eq!(name.alive_subject(), "tapline.alive.shop-7");
        let subject = name.blocks_subject(Partitions::DEFAULT);
        assert_eq!(InstanceName::of_subject(&subject), Ok(name));
        assert_eq!(Partitions::new(0), None);
        assert_eq!(Partitions::new(257), None);
    }

    #[test]
    fn instances_are_spread_evenly() {
        let mut counts = [0_u32; 16];
        for n in 0..16_000 {
            let name = InstanceName::new(&format!("browser-{n}")).unwrap();
            counts[Partitions::DEFAULT.of(&name) as usize] += 1;
        }
        assert!(
            counts.iter().all(|it| (800..1200).contains(it)),
            "{counts:?}"
        );
    }
}
