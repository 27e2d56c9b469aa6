//! What a reader asks for: [`Filter`].

use std::fmt;

use tapline_oapi::{CategorySet, Event, KnownType};

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
        self.categories
            .is_none_or(|categories| categories.contains(event.category))
            && (self.types.is_empty() || any(&self.types, event.event_type.as_str()))
            && (self.further.iter()).all(|list| any(list, event.event_type.as_str()))
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
                    .filter(|known| any(list, known.as_str()));
                of_types.map(|known| known.category()).collect()
            })
            .fold(asked, CategorySet::intersection)
    }
}

/// Whether one of the patterns fits.
#[inline]
fn any(list: &[TypePattern], name: &str) -> bool {
    list.iter().any(|pattern| pattern.matches(name))
}

/// An event type with `*` for any number of any characters: `network_*`, `*_settled`.
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
