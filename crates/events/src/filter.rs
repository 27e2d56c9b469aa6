//! What a reader asks for: [`Filter`].

use std::fmt;

use tapline_oapi::{Category, CategorySet, Event, EventType, KnownType};

/// Which events a reader asks for. Where both categories and types are given, both must match.
///
/// Equal filters match the same events; filters that match the same events need not be equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// The categories asked for; `None` = all.
    pub categories: Option<CategorySet>,
    /// The types asked for, any of them; empty = all.
    pub types: Vec<TypePattern>,
    /// Of each of these lists one pattern must match, too; none of them is empty. The intersection of two
    /// patterns with stars is not a pattern, so [`Filter::narrowed`] may need several lists.
    further: Vec<Vec<TypePattern>>,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those categories (`None` = all), and of these only those types (empty = all).
    pub fn new(categories: Option<CategorySet>, types: Vec<TypePattern>) -> Self {
        Self {
            categories,
            types,
            further: Vec::new(),
        }
    }

    /// Only those categories.
    pub fn categories(categories: CategorySet) -> Self {
        Self::new(Some(categories), Vec::new())
    }

    /// Only those types; empty = all.
    pub fn types(types: Vec<TypePattern>) -> Self {
        Self::new(None, types)
    }

    /// The events that both ask for.
    ///
    /// Its [`types`](Self::types) are those of this one, or of the other where this one names none:
    /// what was asked for, within what is allowed.
    #[must_use]
    pub fn narrowed(&self, by: &Self) -> Self {
        let mut both = self.clone();
        if let Some(categories) = by.categories {
            let asked = self.categories.unwrap_or(CategorySet::ALL);
            both.categories = Some(asked.intersection(categories));
        }
        for list in by.type_lists() {
            if both.types.is_empty() {
                both.types = list.to_vec();
            } else if both.type_lists().all(|other| other != list) {
                both.further.push(list.to_vec());
            }
        }
        both
    }

    /// The lists of types, as on the wire. One pattern of each must match. No list where types do not matter;
    /// [`types`](Self::types) is the first, and there are more only where the filter was
    /// [narrowed](Self::narrowed).
    pub fn type_lists(&self) -> impl Iterator<Item = &[TypePattern]> {
        [&self.types]
            .into_iter()
            .chain(&self.further)
            .map(Vec::as_slice)
            .filter(|list| !list.is_empty())
    }

    /// Whether the event is asked for.
    #[inline]
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_type(event.category, &event.event_type)
    }

    /// Whether an event of this category and type is asked for.
    #[inline]
    pub fn matches_type(&self, category: Category, event_type: &EventType) -> bool {
        self.categories
            .is_none_or(|categories| categories.contains(category))
            && (self.types.is_empty() || any(&self.types, event_type))
            && (self.further.iter()).all(|list| any(list, event_type))
    }

    /// How many texts are looked for within the name of an event that has no known type: the measure of what
    /// matching costs. Some 10 ns each for a name of usual length. 0 for patterns with one star.
    ///
    /// Events of known types cost a nanosecond for each pattern, whatever it is.
    pub fn searches(&self) -> usize {
        self.type_lists()
            .flatten()
            .map(|pattern| pattern.stars.saturating_sub(1))
            .sum()
    }

    /// Whether the category of an event alone decides if it is asked for.
    pub(crate) fn is_by_category(&self) -> bool {
        self.types.is_empty() && self.further.is_empty()
    }

    /// The categories that a matching event may have.
    pub(crate) fn possible_categories(&self) -> CategorySet {
        let asked = self.categories.unwrap_or(CategorySet::ALL);
        // A list of known types alone: no other type fits, so only their categories can.
        self.type_lists()
            .filter(|list| list.iter().all(TypePattern::is_known))
            .map(|list| {
                let of_types = KnownType::ALL
                    .iter()
                    .filter(|known| any(list, &EventType::Known(**known)));
                of_types.map(|known| known.category()).collect()
            })
            .fold(asked, CategorySet::intersection)
    }
}

/// Whether one of the patterns fits.
#[inline]
fn any(list: &[TypePattern], event_type: &EventType) -> bool {
    match event_type {
        EventType::Known(known) => list.iter().any(|pattern| pattern.known & bit(*known) != 0),
        EventType::Custom(name) => list.iter().any(|pattern| pattern.matches(name)),
    }
}

/// The bit of a known type in a set of them.
fn bit(known: KnownType) -> u64 {
    const { assert!(KnownType::ALL.len() <= 64) };
    1 << known as u32
}

/// The characters of a text as a set of bits. Several characters share a bit.
const fn characters(text: &str) -> u64 {
    let (bytes, mut set, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        set |= 1 << (bytes[at] % 64);
        at += 1;
    }
    set
}

/// The characters of each known type.
static CHARACTERS: [u64; KnownType::ALL.len()] = {
    let (mut all, mut at) = ([0; KnownType::ALL.len()], 0);
    while at < all.len() {
        all[at] = characters(KnownType::ALL[at].as_str());
        at += 1;
    }
    all
};

/// An event type with `*` for any number of any characters: `network_*`, `*_settled`.
///
/// Matching takes a time that grows with the length of the name and of the pattern, not with their product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypePattern {
    text: Box<str>,
    stars: usize,
    /// The known types that fit, found once: most events have one of these.
    known: u64,
}

impl TypePattern {
    /// Every text is a pattern. [`check_pattern`](tapline_oapi::check_pattern) bounds those that callers send.
    pub fn new(pattern: &str) -> Self {
        let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
        let mut new = Self {
            text: pattern.into(),
            stars,
            known: 0,
        };
        new.known = match pattern.parse::<KnownType>() {
            Ok(known) => bit(known),
            Err(_) if stars == 0 => 0,
            Err(_) => new.known_that_fit(),
        };
        new
    }

    /// The known types that fit. Most are ruled out by a character that they do not have.
    fn known_that_fit(&self) -> u64 {
        let wanted = characters(&self.text) & !characters("*");
        (KnownType::ALL.iter().zip(CHARACTERS))
            .filter(|(known, has)| wanted & !has == 0 && self.matches(known.as_str()))
            .map(|(known, _)| bit(*known))
            .sum()
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.text.split_once('*') else {
            return *self.text == *name;
        };
        // The name is at least as long as the pattern without its stars.
        if name.len() < self.text.len() - self.stars {
            return false;
        }
        let Some(mut left) = name.as_bytes().strip_prefix(first.as_bytes()) else {
            return false;
        };
        let mut parts = rest.split('*');
        let Some(last) = parts.next_back() else {
            return true;
        };
        // Each part between two stars goes to its first fit: a later one could not help.
        for part in parts {
            match end_of(part, left) {
                Some(end) => left = &left[end..],
                None => return false,
            }
        }
        left.ends_with(last.as_bytes())
    }

    /// Whether it names one known type, so that no custom type fits.
    fn is_known(&self) -> bool {
        self.stars == 0 && self.known != 0
    }
}

/// Where the first `part` in `name` ends.
fn end_of(part: &str, name: &[u8]) -> Option<usize> {
    /// Above it, looking at every position costs more than preparing a search does. The product of both lengths
    /// is small below it.
    const SHORT: usize = 64;
    let part = part.as_bytes();
    let at = match part {
        [] => 0,
        [byte] => memchr::memchr(*byte, name)?,
        _ if name.len() <= SHORT => name.windows(part.len()).position(|there| there == part)?,
        _ => memchr::memmem::find(name, part)?,
    };
    Some(at + part.len())
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_types_that_fit_are_found_whatever_characters_a_pattern_has() {
        let patterns = KnownType::ALL.iter().flat_map(|known| {
            let name = known.as_str();
            let (head, tail) = name.split_at(name.len() / 2);
            ["*", "j*", "*7", "*é*", "*_*", "*e*o*", "*j*e*"]
                .map(|part| format!("{head}{part}{tail}"))
        });
        for pattern in patterns.chain(["*".into(), "*e*".into(), "*_*".into(), "*j*".into()]) {
            let pattern = TypePattern::new(&pattern);
            for known in KnownType::ALL {
                let is_found = pattern.known & bit(*known) != 0;
                assert_eq!(
                    is_found,
                    pattern.matches(known.as_str()),
                    "{pattern} {known:?}"
                );
            }
        }
    }

    #[test]
    fn star_stands_for_any_run() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("network_*", "network_request", true),
            ("network_*", "network", false),
            ("*_settled", "page_layout_settled", true),
            ("*_settled", "page_settled_x", false),
            ("page_*_settled", "page_layout_settled", true),
            ("page_*_settled", "page_settled", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*", "abc", true),
            ("*b*b*", "abc", false),
            ("a**c", "abc", true),
            ("*é*", "café!", true),
            ("*ab*ab*ab*", "ab_ab_ab", true),
            ("*ab*ab*ab*", "ab_ab_a", false),
            ("*aab*", "aaab", true),
            ("a*b*a", "aba", true),
            ("a*b*a", "aa", false),
            ("***", "", true),
        ] {
            assert_eq!(
                TypePattern::new(pattern).matches(name),
                expected,
                "{pattern} on {name}"
            );
        }
    }

    /// A filter answers for an event of a known type as its patterns do for the name.
    #[test]
    fn known_types_match_as_their_names_do() {
        for pattern in [
            "network_*",
            "*_settled",
            "page_load",
            "*",
            "*o*e*",
            "page_*_settled",
            "x",
            "",
            "network_request*",
            "***",
        ] {
            let pattern = TypePattern::new(pattern);
            let filter = Filter::types(vec![pattern.clone()]);
            for known in KnownType::ALL {
                let name = known.as_str();
                let event = Event::known(*known, None);
                assert_eq!(
                    filter.matches(&event),
                    pattern.matches(name),
                    "{pattern} on {name}"
                );
            }
        }
    }

    #[test]
    fn long_names_match_as_short_ones_do() {
        let long = "x".repeat(1000);
        for (pattern, name) in [
            ("*ab*cd*", format!("{long}ab{long}cd{long}")),
            ("x*ab*b", format!("{long}ab{long}b")),
        ] {
            assert!(TypePattern::new(pattern).matches(&name), "{pattern}");
            let wrong = name.replace('b', "y");
            assert!(!TypePattern::new(pattern).matches(&wrong), "{pattern}");
        }
    }

    #[test]
    fn texts_within_a_name_are_what_costs() {
        let searches = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|text| TypePattern::new(text));
            Filter::types(patterns.collect()).searches()
        };
        assert_eq!(searches(&["page_load", "page_*", "*_load", "*"]), 0);
        assert_eq!(searches(&["*load*", "a*b*c*d"]), 3);
    }
}
