//! A type pattern such as `network_*`, and its filter.
//!
//! The input is the pattern, a line break, and the name to match.

use tapline_events::{Filter, TypePattern};
use tapline_oapi::{Category, CategorySet, Event};

/// A pattern matches the same names as a matcher that tries all possibilities.
pub fn pattern(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    // The time of the reference is the product of both lengths.
    if pattern.len() > 128 || name.len() > 128 {
        return;
    }
    let typed = TypePattern::new(pattern);
    assert_eq!(typed.to_string(), pattern);
    let matches = fits(pattern, name);
    assert_eq!(typed.matches(name), matches, "{pattern:?} on {name:?}");

    let Ok(event) = Event::custom(name, Category::Page, None) else {
        return;
    };
    let in_category = |category| {
        // No type is empty, so the first pattern matches nothing.
        let types = vec![TypePattern::new(""), typed.clone()];
        Filter::new(Some(CategorySet::of(&[category])), types)
    };
    // With both given, both must match.
    for category in Category::ALL {
        assert_eq!(
            in_category(category).matches(&event),
            matches && category == event.category
        );
    }
    let by_type = Filter::types(vec![typed]);
    assert_eq!(by_type.matches(&event), matches);
    assert!(Filter::all().matches(&event));
}

/// Whether `pattern` matches all of `name`, where `*` matches any characters.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    // After each character of the pattern: which prefixes of the name it matches, by their length in characters.
    let name: Vec<char> = name.chars().collect();
    let mut fitting = vec![false; name.len() + 1];
    fitting[0] = true;
    for piece in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        for end in 0..=name.len() {
            next[end] = match piece {
                '*' => fitting[..=end].contains(&true),
                letter => end > 0 && fitting[end - 1] && name[end - 1] == letter,
            };
        }
        fitting = next;
    }
    fitting[name.len()]
}
