//! What two filters have in common.

use proptest::prelude::*;
use tapline_events::{Filter, TypePattern};
use tapline_oapi::{Category, CategorySet};

use crate::event;

fn patterns(texts: &[&str]) -> Vec<TypePattern> {
    texts.iter().map(|text| TypePattern::new(text)).collect()
}

fn filter() -> impl Strategy<Value = Filter> {
    let types = prop::sample::subsequence(vec!["page_*", "*_settled", "page_load", "*", "x"], 0..4);
    let categories = prop::option::of(any::<u16>().prop_map(CategorySet::from_bits));
    (categories, types).prop_map(|(categories, types)| Filter::new(categories, patterns(&types)))
}

proptest! {
    #[test]
    fn what_is_narrowed_matches_what_all_of_them_match(
        filters in prop::collection::vec(filter(), 1..4),
        category in prop::sample::select(Category::ALL.to_vec()),
    ) {
        let (first, others) = filters.split_first().unwrap();
        let both = others.iter().fold(first.clone(), |both, by| both.narrowed(by));
        for name in ["page_load", "page_layout_settled", "it_settled", "x", "y"] {
            let event = event(name, category);
            let all = filters.iter().all(|filter| filter.matches(&event));
            prop_assert_eq!(both.matches(&event), all, "{} {:?}", name, both);
        }
        prop_assert_eq!(&both.narrowed(&both), &both);
        prop_assert_eq!(&both.narrowed(&Filter::all()), &both);
        prop_assert_eq!(&Filter::all().narrowed(&both), &both);
    }
}

#[test]
fn it_shows_what_was_asked_for_first() {
    let asked = Filter::types(patterns(&["page_*"]));
    let allowed = Filter::new(
        Some(CategorySet::of(&[Category::Page])),
        patterns(&["*_settled", "page_load"]),
    );
    let both = asked.narrowed(&allowed);
    let lists: Vec<Vec<String>> = both
        .type_lists()
        .map(|list| list.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(lists, [vec!["page_*"], vec!["*_settled", "page_load"]]);
    assert_eq!(both.categories, allowed.categories);
    assert_eq!(Filter::all().narrowed(&allowed), allowed);
    assert_eq!(Filter::all().type_lists().count(), 0);
}
