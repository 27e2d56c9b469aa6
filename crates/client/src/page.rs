//! Options and result of a page.

use std::ops::RangeInclusive;

use tapline_oapi::{CategorySet, Cursor, Envelope, Epoch};

/// The order of the events of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PageOrder {
    /// The oldest one first.
    #[default]
    OldestFirst,
    /// The newest one first.
    NewestFirst,
}

/// Which retained events to get. The default asks for the oldest ones.
#[derive(Debug, Clone)]
pub struct PageOptions {
    /// Which events come first, on this page and on those that follow.
    pub order: PageOrder,
    /// At most so many events, from 1 to 1,000.
    pub limit: u64,
    /// Only events after this cursor.
    pub after: Option<Cursor>,
    /// Where the page before ended: [`EventPage::next`]. Everything else as for that page.
    pub offset: Option<Cursor>,
    /// Only events at this time or later: RFC 3339, or a duration ago, such as `5m`.
    pub since: Option<String>,
    /// Only events up to this time, in the same forms.
    pub until: Option<String>,
    /// Only events of these categories. The empty set is no filter.
    pub categories: CategorySet,
    /// Only events of these types; `*` matches any text (`page_*`). An empty list is no filter. With
    /// `categories` as well, an event has to match both.
    pub types: Vec<String>,
    /// Only events whose JSON contains this text, without regard to the case of ASCII letters: at most 200 characters.
    pub contains: Option<String>,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self {
            order: PageOrder::OldestFirst,
            limit: 1000,
            after: None,
            offset: None,
            since: None,
            until: None,
            categories: CategorySet::EMPTY,
            types: Vec::new(),
            contains: None,
        }
    }
}

/// A page of events in the order asked for, all of one epoch.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The events. There may be fewer than asked for, or none, although there are more.
    pub envelopes: Vec<Envelope>,
    /// The `offset` of the next page; `None` after the last one. It has an epoch if that page is of an
    /// earlier run than the present one.
    pub next: Option<Cursor>,
    /// The epoch of these events.
    pub epoch: Epoch,
    /// The newest seq published.
    pub head: u64,
    /// How many events should be on this page and were evicted; the most that it can be, where a filter by
    /// type makes that unknown.
    pub lost: u64,
    /// Where these are missing, in the order of the page. Empty if the server does not say where; a server lists 64 at
    /// most.
    pub gaps: Vec<PageGap>,
}

/// Events that should be on a page and are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageGap {
    /// Their seqs.
    pub seqs: RangeInclusive<u64>,
    /// How many of them were asked for, or the most that it can be.
    pub at_most: u64,
}

/// From a header such as `4-9, 21-40/7`. `None` if it is something else.
pub(crate) fn gaps(header: &str) -> Option<Vec<PageGap>> {
    let gap = |text: &str| {
        let (seqs, count) = match text.split_once('/') {
            Some((seqs, count)) => (seqs, Some(count.parse().ok()?)),
            None => (text, None),
        };
        let (first, last) = seqs.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let all = last.checked_sub(first)?.saturating_add(1);
        Some(PageGap {
            seqs: first..=last,
            at_most: count.unwrap_or(all),
        })
    };
    header.split(", ").map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_where_and_how_many() {
        let gap = |seqs, at_most| PageGap { seqs, at_most };
        assert_eq!(
            gaps("4-9, 21-40/7"),
            Some(vec![gap(4..=9, 6), gap(21..=40, 7)])
        );
        assert_eq!(gaps("3-3"), Some(vec![gap(3..=3, 1)]));
        for wrong in ["", "4", "4-", "9-4", "4-9,", "4-9/x", "-4"] {
            assert_eq!(gaps(wrong), None, "{wrong}");
        }
    }
}
