//! What a reader asks for: [`Filter`].

use std::fmt;

use tapline_oapi::{CategorySet, Event, KnownType};

/// Which events a reader asks for. Where both categories and types are given, both must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The categories asked for; `None` = all.
    pub categories: Option<CategorySet>,
    /// The types asked for, any of them; empty = all.
    pub types: Vec<TypePattern>,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those categories.
    pub fn categories(categories: CategorySet) -> Self {
        Self {
            categories: Some(categories),
            types: Vec::new(),
        }
    }

    /// Whether the event is asked for.
    #[inline]
    pub fn matches(&self, event: &Event) -> bool {
        self.categories
            .is_none_or(|categories| categories.contains(event.category))
            && (self.types.is_empty()
                || self
                    .types
                    .iter()
                    .any(|pattern| pattern.matches(event.event_type.as_str())))
    }

    /// Whether the category of an event alone tells if it is asked for.
    pub(crate) fn is_by_category(&self) -> bool {
        self.types.is_empty()
    }

    /// The categories that an event may have which is asked for.
    pub(crate) fn possible_categories(&self) -> CategorySet {
        let asked = self.categories.unwrap_or(CategorySet::ALL);
        if self.types.is_empty() || !self.types.iter().all(TypePattern::is_known) {
            return asked;
        }
        let of_types = KnownType::ALL
            .iter()
            .filter(|known| {
                self.types
                    .iter()
                    .any(|pattern| pattern.matches(known.as_str()))
            })
            .map(|known| known.category());
        asked.intersection(of_types.collect())
    }
}

/// An event type with `*` for any run of characters, none included: `network_*`, `*_settled`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypePattern(Box<str>);

impl TypePattern {
    /// Every text is a pattern.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return *self.0 == *name;
        };
        let Some(mut left) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts = rest.split('*');
        let Some(last) = parts.next_back() else {
            return true;
        };
        // Each part between two stars goes to its first fit: a later one could not help.
        for part in parts {
            match left.find(part) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(last)
    }

    /// Whether it names one known type, so that no custom type fits.
    fn is_known(&self) -> bool {
        self.0.parse::<KnownType>().is_ok()
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(
                TypePattern::new(pattern).matches(name),
                expected,
                "{pattern} on {name}"
            );
        }
    }
}
