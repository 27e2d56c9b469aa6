//! A part of the list of instances: [`InstanceQuery`] chooses it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use tapline_events::TypePattern;
use tapline_oapi::{InstanceInfo, InstanceList};

use crate::fleet::{add_names, has_name};
use crate::page::MAX_LIMIT;
use crate::query::{self, QueryError};

/// Which instances are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceQuery {
    /// Only those with these names, in which `*` stands for any characters. All, if there is none.
    pub names: Vec<TypePattern>,
    /// Of these only such that each of these lists has a name for: what the caller may use.
    pub permitted: Vec<Vec<TypePattern>>,
    /// Only those that run, or only those that do not.
    pub alive: Option<bool>,
    /// Which come first.
    pub order: InstanceOrder,
    /// At most so many: up to [`MAX_LIMIT`] in a query. With 0 there are totals only.
    pub limit: u64,
    /// Where the part before ended: [`InstancePart::next_offset`].
    pub offset: Option<InstanceOffset>,
}

/// Which instances come first. Those with the same figure are in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InstanceOrder {
    /// By name.
    #[default]
    Name,
    /// The one with the most events a second.
    Rate,
    /// The one with the most problems.
    Problems,
    /// The one with the most events that the broker has not stored.
    Lag,
    /// The one with the newest event, by its time.
    Last,
}

/// Where a part of the list ended: the figure and the name of its last instance. So a later part neither repeats nor leaves
/// out an instance whose figure has not changed meanwhile, whatever others do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceOffset {
    figure: u64,
    name: String,
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct InstancePart {
    /// The instances, and totals of all that match.
    pub list: InstanceList,
    /// The `offset` of the next part, if there is more.
    pub next_offset: Option<InstanceOffset>,
}

/// What an instance is chosen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InstanceSummary<'a> {
    /// Its name, which no other instance has: visible ASCII, since it is in paths and headers.
    pub name: &'a str,
    /// Whether it runs.
    pub alive: bool,
    /// How many events it publishes a second.
    pub events_per_second: f64,
    /// How many problems its run has.
    pub problems: u64,
    /// How many events the broker has not stored.
    pub lag: u64,
    /// The time of its newest event, in microseconds since the Unix epoch; 0 without one.
    pub last: u64,
}

/// All, 100 at a time.
impl Default for InstanceQuery {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            permitted: Vec::new(),
            alive: None,
            order: InstanceOrder::default(),
            limit: 100,
            offset: None,
        }
    }
}

impl InstanceQuery {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 5] = ["name", "alive", "order", "limit", "offset"];
        let mut asked = Self::default();
        let (mut order, mut limit) = (None, None);
        for (name, text) in pairs {
            match name {
                "name" => add_names(&mut asked.names, name, text)?,
                "alive" => {
                    let choices = [("true", true), ("false", false)];
                    query::once(&mut asked.alive, name, query::choice(name, text, &choices)?)?;
                }
                "order" => {
                    let choices = [
                        ("name", InstanceOrder::Name),
                        ("rate", InstanceOrder::Rate),
                        ("problems", InstanceOrder::Problems),
                        ("lag", InstanceOrder::Lag),
                        ("last", InstanceOrder::Last),
                    ];
                    query::once(&mut order, name, query::choice(name, text, &choices)?)?;
                }
                "limit" => query::once(&mut limit, name, query::limit(name, text, MAX_LIMIT)?)?,
                "offset" => {
                    let offset = InstanceOffset::parse(text).ok_or_else(|| {
                        QueryError::new(name, "is not the `X-Next-Offset` of a list of instances")
                    })?;
                    query::once(&mut asked.offset, name, offset)?;
                }
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        asked.order = order.unwrap_or_default();
        asked.limit = limit.unwrap_or(asked.limit);
        Ok(asked)
    }

    /// The part that is asked for, of all instances. Only those in it are described.
    pub fn select<'a, T>(
        &self,
        all: impl IntoIterator<Item = (InstanceSummary<'a>, T)>,
        describe: impl Fn(T) -> InstanceInfo,
    ) -> InstancePart {
        let offset = self.offset.as_ref();
        let offset = offset.map(|it| (Reverse(it.figure), &*it.name));
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut list = InstanceList::default();
        let mut behind_offset = 0;
        let mut chosen = BTreeMap::new();
        for (instance, more) in all {
            if self.alive.is_some_and(|alive| alive != instance.alive)
                || !has_name(&self.names, &self.permitted, instance.name)
            {
                continue;
            }
            list.total += 1;
            list.alive += u64::from(instance.alive);
            list.not_stored = list.not_stored.saturating_add(instance.lag);
            let rank = (Reverse(self.order.figure(&instance)), instance.name);
            if offset.is_some_and(|offset| rank <= offset) {
                continue;
            }
            behind_offset += 1;
            let is_full = limit <= chosen.len();
            if is_full && chosen.last_key_value().is_none_or(|(last, _)| *last < rank) {
                continue;
            }
            chosen.insert(rank, more);
            if is_full {
                chosen.pop_last();
            }
        }
        let last = chosen.last_key_value().filter(|_| limit < behind_offset);
        let next_offset = last.map(|((Reverse(figure), name), _)| InstanceOffset {
            figure: *figure,
            name: (*name).to_owned(),
        });
        list.instances = chosen.into_values().map(describe).collect();
        InstancePart { list, next_offset }
    }
}

impl InstanceOrder {
    /// What is compared before the names: the largest first.
    fn figure(self, instance: &InstanceSummary<'_>) -> u64 {
        match self {
            Self::Name => 0,
            // As it is shown.
            Self::Rate => (instance.events_per_second * 10.0).round() as u64,
            Self::Problems => instance.problems,
            Self::Lag => instance.lag,
            Self::Last => instance.last,
        }
    }
}

impl InstanceOffset {
    fn parse(text: &str) -> Option<Self> {
        let (figure, name) = text.split_once('-')?;
        Some(Self {
            figure: figure.parse().ok()?,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for InstanceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.figure, self.name)
    }
}

impl<'a> From<&'a InstanceInfo> for InstanceSummary<'a> {
    fn from(info: &'a InstanceInfo) -> Self {
        Self {
            name: &info.name,
            alive: info.alive,
            events_per_second: info.events_per_second,
            problems: info.problems.as_ref().map_or(0, |it| it.count),
            lag: info.head.saturating_sub(info.stored),
            last: info.last_event.as_ref().map_or(0, |it| it.ts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with a rate, and whether they run. The lag is the length of the name.
    const ALL: [(&str, f64, bool); 6] = [
        ("a", 0.0, false),
        ("b-1", 2.5, true),
        ("b-2", 7.0, true),
        ("c", 2.5, true),
        ("d-uu", 0.0, false),
        ("e", 0.04, true),
    ];

    fn info(name: &str, events_per_second: f64, alive: bool) -> InstanceInfo {
        InstanceInfo {
            name: name.to_owned(),
            alive,
            seen: 1,
            silent_ms: 0,
            epoch: tapline_oapi::Epoch::from_bits(1),
            head: name.len() as u64,
            stored: 0,
            events_per_second,
            last_event: None,
            problems: None,
            session_id: None,
            version: String::new(),
        }
    }

    fn part(query: &str) -> InstancePart {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = InstanceQuery::from_pairs(pairs).unwrap();
        let all: Vec<_> = ALL
            .map(|(name, rate, alive)| info(name, rate, alive))
            .into();
        query.select(all.iter().map(|it| (it.into(), it)), InstanceInfo::clone)
    }

    fn names(part: &InstancePart) -> Vec<&str> {
        part.list.instances.iter().map(|it| &*it.name).collect()
    }

    #[test]
    fn parts_of_every_size_together_are_the_whole_list() {
        for order in ["name", "rate", "problems", "lag", "last"] {
            let whole = part(&format!("order={order}"));
            assert_eq!((whole.list.total, whole.next_offset.as_ref()), (6, None));
            for limit in 1..=7 {
                let mut read = Vec::new();
                let mut offset = String::new();
                loop {
                    let next = part(&format!("order={order}&limit={limit}{offset}"));
                    assert!(next.list.instances.len() <= limit);
                    assert_eq!(next.list.total, 6);
                    read.extend(next.list.instances);
                    match next.next_offset {
                        Some(next) => offset = format!("&offset={next}"),
                        None => break,
                    }
                }
                assert_eq!(read, whole.list.instances, "{order} by {limit}");
            }
        }
    }

    #[test]
    fn the_largest_figure_comes_first_and_equal_ones_by_name() {
        assert_eq!(
            names(&part("order=name")),
            ["a", "b-1", "b-2", "c", "d-uu", "e"]
        );
        assert_eq!(
            names(&part("order=rate")),
            ["b-2", "b-1", "c", "a", "d-uu", "e"]
        );
        assert_eq!(names(&part("order=lag&limit=3")), ["d-uu", "b-1", "b-2"]);
    }

    #[test]
    fn totals_are_of_all_that_match_and_not_of_the_part() {
        let part = part("name=b*,d-*,nothing&limit=1");
        assert_eq!(names(&part), ["b-1"]);
        let InstanceList {
            total,
            alive,
            not_stored,
            ..
        } = part.list;
        assert_eq!((total, alive, not_stored), (3, 2, 10));
        let query = InstanceQuery {
            limit: 0,
            ..InstanceQuery::default()
        };
        let info = info("a", 1.0, true);
        let none = query.select([(InstanceSummary::from(&info), &info)], InstanceInfo::clone);
        assert_eq!((none.list.total, none.list.instances.len()), (1, 0));
        assert_eq!(none.next_offset, None);
    }

    #[test]
    fn instances_are_chosen_by_whether_they_run() {
        assert_eq!(names(&part("alive=false")), ["a", "d-uu"]);
        assert_eq!(names(&part("alive=true&name=*-*")), ["b-1", "b-2"]);
    }

    #[test]
    fn a_parameter_that_is_wrong_is_named() {
        let cases = [
            (
                "instances",
                "a",
                "query parameter `instances`: unknown; known are `name`, `alive`",
            ),
            (
                "alive",
                "yes",
                "query parameter `alive`: `yes` is not one of `true`, `false`",
            ),
            (
                "order",
                "asc",
                "query parameter `order`: `asc` is not one of `name`, `rate`",
            ),
            (
                "limit",
                "0",
                "query parameter `limit`: 0 is not from 1 to 1000",
            ),
            (
                "limit",
                "1001",
                "query parameter `limit`: 1001 is not from 1 to 1000",
            ),
            (
                "limit",
                "x",
                "query parameter `limit`: `x` is not a whole number",
            ),
            (
                "offset",
                "shop",
                "query parameter `offset`: is not the `X-Next-Offset`",
            ),
        ];
        for (name, text, message) in cases {
            let error = InstanceQuery::from_pairs([(name, text)]).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
        let twice = InstanceQuery::from_pairs([("limit", "1"), ("limit", "1")]).unwrap_err();
        assert_eq!(twice.to_string(), "query parameter `limit`: given twice");
        let names = "a,".repeat(101);
        let many = InstanceQuery::from_pairs([("name", &*names)]).unwrap_err();
        assert_eq!(
            many.to_string(),
            "query parameter `name`: more than 100 names"
        );
    }
}
