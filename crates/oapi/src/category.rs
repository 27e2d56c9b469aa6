//! The kinds of events: [`Category`], and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// The kind of an event. A session enables or disables whole categories.
///
/// Nine are user-facing: a configuration enables and disables them. [`System`](Self::System) and
/// [`Monitor`](Self::Monitor) are always captured, because they explain why other events are missing.
///
/// ```
/// use tapline_oapi::Category;
///
/// assert_eq!("network".parse(), Ok(Category::Network));
/// assert_eq!(Category::Network.to_string(), "network");
/// assert!(!Category::System.is_user_facing());
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(
    feature = "openapi",
    schema(description = "The kind of an event. `system` and `monitor` are always captured.")
)]
#[repr(u8)]
pub enum Category {
    /// What a page writes to its console, and its uncaught exceptions.
    Console,
    /// Requests, responses and failures.
    Network,
    /// Navigation, loading, layout, tabs.
    Page,
    /// What a user (or an agent) does in a page: clicks, keys, scrolling.
    Interaction,
    /// API calls and protocol commands that drive the browser.
    Control,
    /// API calls that manage the machine or the telemetry.
    Platform,
    /// Clients and viewers that connect and disconnect.
    Connection,
    /// Pictures of a page.
    Screenshot,
    /// Captchas that were found and solved.
    Captcha,
    /// Health of the machine and its services. Always captured.
    System,
    /// Health of the collector of browser events. Always captured.
    Monitor,
}

impl Category {
    /// How many categories there are: the length of an array with one entry for each.
    pub const COUNT: usize = 11;

    /// Every category, in the order of [`index`](Self::index).
    pub const ALL: [Self; Self::COUNT] = [
        Self::Console,
        Self::Network,
        Self::Page,
        Self::Interaction,
        Self::Control,
        Self::Platform,
        Self::Connection,
        Self::Screenshot,
        Self::Captcha,
        Self::System,
        Self::Monitor,
    ];

    /// The categories that a configuration enables and disables.
    pub const USER_FACING: [Self; 9] = [
        Self::Console,
        Self::Network,
        Self::Page,
        Self::Interaction,
        Self::Control,
        Self::Platform,
        Self::Connection,
        Self::Screenshot,
        Self::Captcha,
    ];

    /// The index of this category in an array with one entry for each: `0..COUNT`.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Network => "network",
            Self::Page => "page",
            Self::Interaction => "interaction",
            Self::Control => "control",
            Self::Platform => "platform",
            Self::Connection => "connection",
            Self::Screenshot => "screenshot",
            Self::Captcha => "captcha",
            Self::System => "system",
            Self::Monitor => "monitor",
        }
    }

    /// Whether a configuration enables and disables this category. The others are always captured.
    #[must_use]
    pub const fn is_user_facing(self) -> bool {
        !matches!(self, Self::System | Self::Monitor)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(name: &str) -> Result<Self, UnknownCategory> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == name)
            .ok_or_else(|| UnknownCategory(name.to_owned()))
    }
}

/// A name that is not a category. The message lists all categories.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown category `{0}`, expected one of {names}", names = Names)]
pub struct UnknownCategory(
    /// The name that was given.
    pub String,
);

/// Displays the names of all categories, for messages.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, category) in Category::ALL.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}`{category}`")?;
        }
        Ok(())
    }
}

/// A set of categories: two bytes, copied freely, every operation a bit operation.
///
/// On the wire an array of names, in the order of [`Category::ALL`].
///
/// ```
/// use tapline_oapi::{Category, CategorySet};
///
/// const CAPTURED: CategorySet =
///     CategorySet::of(&[Category::Console, Category::Page]).union(CategorySet::ALWAYS);
///
/// assert!(CAPTURED.contains(Category::Monitor));
/// assert_eq!(CAPTURED.len(), 4);
/// assert_eq!(format!("{CAPTURED:?}"), "{Console, Page, System, Monitor}");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CategorySet(u16);

impl CategorySet {
    /// No category.
    pub const EMPTY: Self = Self(0);
    /// All eleven.
    pub const ALL: Self = Self::of(&Category::ALL);
    /// The nine that a configuration enables and disables.
    pub const USER_FACING: Self = Self::of(&Category::USER_FACING);
    /// The two that are always captured.
    pub const ALWAYS: Self = Self::of(&[Category::System, Category::Monitor]);

    /// The set of these categories. A category may be named twice.
    #[must_use]
    pub const fn of(categories: &[Category]) -> Self {
        let mut set = Self::EMPTY;
        let mut n = 0;
        // A `for` loop is not allowed in a const fn.
        while n < categories.len() {
            set = set.with(categories[n]);
            n += 1;
        }
        set
    }

    /// Whether `category` is in the set.
    #[must_use]
    pub const fn contains(self, category: Category) -> bool {
        self.0 & bit(category) != 0
    }

    /// This set and `category`.
    #[must_use]
    pub const fn with(self, category: Category) -> Self {
        Self(self.0 | bit(category))
    }

    /// This set without `category`.
    #[must_use]
    pub const fn without(self, category: Category) -> Self {
        Self(self.0 & !bit(category))
    }

    /// The categories in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The categories in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set has no category.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many categories are in the set: `0..=Category::COUNT`.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The set as bits: bit [`Category::index`] is set if the category is in the set.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set that has these [`bits`](Self::bits). Bits of no category are ignored.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The categories in the set, in the order of [`Category::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Category> + Clone {
        Category::ALL
            .into_iter()
            .filter(move |category| self.contains(*category))
    }
}

const fn bit(category: Category) -> u16 {
    1 << category.index()
}

impl FromIterator<Category> for CategorySet {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        categories.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for CategorySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for CategorySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for CategorySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Category>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
