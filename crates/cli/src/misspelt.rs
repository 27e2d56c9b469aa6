//! Names of types that are likely misspelt: [`notes`].

use tapline_oapi::KnownType;

use crate::line::printable;

/// A note for each name that is no known type, but close to one. It holds all the same, since programs publish types
/// of their own: without the note, who mistyped it would wait for ever, or find nothing.
pub(crate) fn notes(types: &[String]) -> Vec<String> {
    let meant = types
        .iter()
        .filter_map(|name| Some((name, meant(name)?.as_str())));
    meant
        .map(|(name, meant)| {
            let name = printable(name);
            format!("Tapline has no type `{name}`; did you mean `{meant}`?")
        })
        .collect()
}

/// The known type that is one or two slips away: a letter too much, too few, another one, or two in the wrong order.
fn meant(name: &str) -> Option<KnownType> {
    const SLIPS: usize = 2;
    if name.contains('*') || name.parse::<KnownType>().is_ok() {
        return None;
    }
    let slips = |known: &KnownType| strsim::osa_distance(name, known.as_str());
    let nearest = KnownType::ALL.iter().min_by_key(|known| slips(known))?;
    (slips(nearest) <= SLIPS).then_some(*nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_name_is_left_alone() {
        for (name, expected) in [
            ("page_lod", Some(KnownType::PageLoad)),
            ("page_laod", Some(KnownType::PageLoad)),
            ("console_logs", Some(KnownType::ConsoleLog)),
            ("network-response", Some(KnownType::NetworkResponse)),
            ("page_load", None),
            ("page_lod*", None),
            ("checkout_done", None),
            ("log_record", None),
            ("", None),
        ] {
            assert_eq!(meant(name), expected, "{name}");
        }
    }
}
