//! Names on the wire, and sets of categories.

use std::fmt::Display;

use proptest::prelude::*;
use serde::Serialize;
use tapline_oapi::{Category, CategorySet, ErrorCode, EventType, KnownType, SourceKind};

/// Serde, `Display` and `FromStr` must use one name.
fn one_name<T: Serialize + Display>(value: T, name: &str) {
    assert_eq!(serde_json::to_value(&value).unwrap(), name);
    assert_eq!(value.to_string(), name);
}

#[test]
fn serde_and_display_use_the_same_names() {
    for category in Category::ALL {
        one_name(category, category.as_str());
        assert_eq!(category.as_str().parse(), Ok(category));
    }
    for code in ErrorCode::ALL {
        one_name(code, code.as_str());
    }
    for kind in [
        SourceKind::Cdp,
        SourceKind::KernelApi,
        SourceKind::Extension,
        SourceKind::LocalProcess,
    ] {
        one_name(kind, kind.as_str());
    }
    for &known in KnownType::ALL {
        one_name(EventType::Known(known), known.as_str());
        assert_eq!(known.as_str().parse(), Ok(known));
        assert_eq!(EventType::new(known.as_str()), Ok(EventType::Known(known)));
    }
}

#[test]
fn categories_are_numbered_in_their_order() {
    for (n, category) in Category::ALL.into_iter().enumerate() {
        assert_eq!(category.index(), n);
    }
    assert_eq!(Category::ALL.len(), Category::COUNT);
}

#[test]
fn the_error_for_an_unknown_category_lists_all_categories() {
    let message = "newtork".parse::<Category>().unwrap_err().to_string();
    assert!(
        message.starts_with("unknown category `newtork`, expected one of `console`, `network`"),
        "{message}"
    );
    for category in Category::ALL {
        assert!(message.contains(&format!("`{category}`")), "{message}");
    }
}

#[test]
fn some_types_have_another_category_than_their_name_suggests() {
    for (name, category) in [
        ("monitor_screenshot", Category::Screenshot),
        ("proxy_error", Category::Network),
        ("api_call", Category::Control),
        ("cdp_command", Category::Control),
        ("cdp_connect", Category::Connection),
        ("service_crashed", Category::System),
    ] {
        assert_eq!(
            EventType::new(name).unwrap().category(),
            Some(category),
            "{name}"
        );
    }
}

#[test]
fn a_set_is_written_as_names() {
    let set = CategorySet::of(&[Category::Monitor, Category::Console]);
    assert_eq!(
        serde_json::to_string(&set).unwrap(),
        r#"["console","monitor"]"#
    );
    assert_eq!(
        serde_json::from_str::<CategorySet>(r#"["monitor","console","console"]"#).unwrap(),
        set
    );
    assert!(serde_json::from_str::<CategorySet>(r#"["consol"]"#).is_err());
}

#[test]
fn the_constant_sets() {
    assert_eq!(CategorySet::default(), CategorySet::EMPTY);
    assert_eq!(
        CategorySet::USER_FACING.union(CategorySet::ALWAYS),
        CategorySet::ALL
    );
    assert!(
        CategorySet::USER_FACING
            .intersection(CategorySet::ALWAYS)
            .is_empty()
    );
    assert!(
        CategorySet::USER_FACING
            .iter()
            .all(Category::is_user_facing)
    );
    assert_eq!(CategorySet::from_bits(u16::MAX), CategorySet::ALL);
}

proptest! {
    /// Every operation of the set, compared with the same operation on plain lists.
    #[test]
    fn set_operations_match_those_of_lists(a in 0u16..1 << Category::COUNT, b in 0u16..1 << Category::COUNT, n in 0..Category::COUNT) {
        let (a, b, one) = (CategorySet::from_bits(a), CategorySet::from_bits(b), Category::ALL[n]);
        let those = |keep: &dyn Fn(Category) -> bool| -> CategorySet {
            Category::ALL.into_iter().filter(|category| keep(*category)).collect()
        };
        prop_assert_eq!(a.union(b), those(&|c| a.contains(c) || b.contains(c)));
        prop_assert_eq!(a.intersection(b), those(&|c| a.contains(c) && b.contains(c)));
        prop_assert_eq!(a.with(one), those(&|c| a.contains(c) || c == one));
        prop_assert_eq!(a.without(one), those(&|c| a.contains(c) && c != one));
        prop_assert_eq!(a.iter().count(), a.len());
        prop_assert_eq!(CategorySet::from_bits(a.bits()), a);
        prop_assert_eq!(a.iter().collect::<CategorySet>(), a);
    }
}
