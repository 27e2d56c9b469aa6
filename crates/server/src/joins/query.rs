//! What is asked for of joined items: [`JoinQuery`].

use tapline_api::{Cursor, Order, QueryError, StatusPattern, Text, add_values, parse_moment};
use tapline_oapi::joins::{Navigation, Outcome, Problem, ProblemKind, Request};

/// The most items that an answer has.
const MAX_LIMIT: usize = 1000;

/// A part of the time, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Range {
    /// From here on. `None`: from the oldest event in memory on.
    pub(crate) since: Option<u64>,
    /// Up to here. `None`: up to the newest event.
    pub(crate) until: Option<u64>,
}

impl Range {
    /// Whether something that lasted from `began` to `ended` was there in this time.
    fn has(self, began: u64, ended: u64) -> bool {
        self.since.is_none_or(|since| since <= ended)
            && self.until.is_none_or(|until| began <= until)
    }
}

/// A kind of items, as a route has it.
pub(crate) trait Kind: Sized {
    /// The parameters that only this kind has.
    const PARAMETERS: &'static [&'static str];
    /// What these ask for.
    type Asked: Default;

    /// Reads one of [`PARAMETERS`](Self::PARAMETERS).
    fn read(asked: &mut Self::Asked, name: &str, text: &str) -> Result<(), QueryError>;

    /// Whether the item is asked for.
    fn is_asked(&self, asked: &Self::Asked) -> bool;

    /// Whether the item belongs to this time.
    fn is_in(&self, range: Range) -> bool;

    /// The tab, frame or worker that it is of.
    fn target_id(&self) -> Option<&str>;
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub(crate) struct JoinQuery<A> {
    pub(crate) range: Range,
    /// Only items that have changed since everything up to here was read.
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
    /// Only items behind this one.
    pub(crate) offset: Option<Cursor>,
    pub(crate) order: Order,
    target_id: Option<String>,
    pub(crate) asked: A,
}

impl<A: Default> JoinQuery<A> {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range.
    pub(crate) fn from_pairs<'a, K: Kind<Asked = A>>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 7] = [
            "since",
            "until",
            "after",
            "limit",
            "offset",
            "order",
            "target_id",
        ];
        let mut query = Self {
            limit: 100,
            ..Self::default()
        };
        let mut given = Vec::new();
        for (name, text) in pairs {
            let is_list = matches!(name, "status" | "resource_type" | "kind");
            if given.contains(&name) && !is_list {
                return Err(QueryError::new(name, "given twice"));
            }
            given.push(name);
            match name {
                "since" => query.range.since = Some(parse_moment(name, text)?),
                "until" => query.range.until = Some(parse_moment(name, text)?),
                "after" => query.after = Some(cursor(name, text)?),
                "offset" => query.offset = Some(cursor(name, text)?),
                "limit" => match number(text) {
                    Some(limit @ 1..=MAX_LIMIT) => query.limit = limit,
                    _ => {
                        let message = format!("is not a whole number from 1 to {MAX_LIMIT}");
                        return Err(QueryError::new(name, message));
                    }
                },
                "order" => {
                    query.order = match text {
                        "asc" => Order::Asc,
                        "desc" => Order::Desc,
                        _ => return Err(QueryError::new(name, "is neither `asc` nor `desc`")),
                    };
                }
                "target_id" => query.target_id = Some(text.to_owned()),
                _ if K::PARAMETERS.contains(&name) => K::read(&mut query.asked, name, text)?,
                _ => {
                    let known: Vec<_> = KNOWN.iter().chain(K::PARAMETERS).copied().collect();
                    let message = format!("unknown; known are `{}`", known.join("`, `"));
                    return Err(QueryError::new(name, message));
                }
            }
        }
        Ok(query)
    }

    /// Whether the item is asked for, whenever it changed.
    pub(crate) fn matches<K: Kind<Asked = A>>(&self, item: &K) -> bool {
        let is_of_target = match &self.target_id {
            Some(id) => item.target_id() == Some(id),
            None => true,
        };
        is_of_target && item.is_in(self.range) && item.is_asked(&self.asked)
    }
}

fn number(text: &str) -> Option<usize> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

pub(crate) fn cursor(name: &str, text: &str) -> Result<Cursor, QueryError> {
    text.parse()
        .map_err(|error: tapline_oapi::CursorError| QueryError::new(name, error.to_string()))
}

/// Which requests are asked for.
#[derive(Debug, Default)]
pub(crate) struct AskedRequests {
    status: Vec<Status>,
    contains: Option<Text>,
    resource_type: Vec<String>,
    navigation: Option<u64>,
    /// Whether headers and posted data are in the answer.
    pub(crate) headers: bool,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Is(StatusPattern),
    Outcome(Outcome),
    /// The browser refused it by a rule.
    Blocked,
    /// The page gave it up.
    Canceled,
    /// It is a problem.
    Error,
}

impl Status {
    const KNOWN: &'static str = "a status such as `404`, a class such as `4xx`, or one of `pending`, `open`, `answered`, `failed`, `unknown`, `blocked`, `canceled` and `error`";

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pending" => Self::Outcome(Outcome::Pending),
            "open" => Self::Outcome(Outcome::Open),
            "answered" => Self::Outcome(Outcome::Answered),
            "failed" => Self::Outcome(Outcome::Failed),
            "unknown" => Self::Outcome(Outcome::Unknown),
            "blocked" => Self::Blocked,
            "canceled" => Self::Canceled,
            "error" => Self::Error,
            _ => Self::Is(StatusPattern::parse(word)?),
        })
    }

    fn is_of(self, request: &Request) -> bool {
        let is_blocked = request.failure.as_ref().is_some_and(|it| it.is_blocked());
        match self {
            Self::Is(pattern) => (request.status()).is_some_and(|it| pattern.matches(it.into())),
            Self::Outcome(outcome) => request.outcome == outcome,
            Self::Blocked => is_blocked,
            Self::Canceled => request.was_given_up(),
            Self::Error => request.is_problem(),
        }
    }
}

impl Kind for Request {
    const PARAMETERS: &'static [&'static str] = &[
        "status",
        "contains",
        "resource_type",
        "navigation",
        "headers",
    ];
    type Asked = AskedRequests;

    fn read(asked: &mut AskedRequests, name: &str, text: &str) -> Result<(), QueryError> {
        match name {
            "status" => add_values(&mut asked.status, name, text, Status::parse, Status::KNOWN)?,
            "contains" => asked.contains = Some(Text::new(name, text)?),
            "resource_type" => {
                let read = |word: &str| (!word.is_empty()).then(|| word.to_owned());
                let known = "a kind of resource, such as `Script`";
                add_values(&mut asked.resource_type, name, text, read, known)?;
            }
            "navigation" => {
                // As the document has it: a signed number of 64 bits.
                let seq = number(text).and_then(|seq| u64::try_from(seq).ok());
                let seq = seq.filter(|seq| i64::try_from(*seq).is_ok());
                let Some(seq) = seq else {
                    return Err(QueryError::new(name, "is not the seq of a navigation"));
                };
                asked.navigation = Some(seq);
            }
            _ => {
                asked.headers = match text {
                    "true" => true,
                    "false" => false,
                    _ => return Err(QueryError::new(name, "is neither `true` nor `false`")),
                };
            }
        }
        Ok(())
    }

    fn is_asked(&self, asked: &AskedRequests) -> bool {
        let has_status =
            asked.status.is_empty() || asked.status.iter().any(|status| status.is_of(self));
        let is_of_type = asked.resource_type.is_empty()
            || self.resource_type.as_ref().is_some_and(|it| {
                let mut asked = asked.resource_type.iter();
                asked.any(|asked| asked.eq_ignore_ascii_case(it))
            });
        let has_text = asked.contains.as_ref().is_none_or(|text| {
            text.is_in(&self.url) || self.redirects.iter().any(|hop| text.is_in(&hop.url))
        });
        let is_of_page = asked
            .navigation
            .is_none_or(|seq| self.navigation == Some(seq));
        has_status && is_of_type && has_text && is_of_page
    }

    fn is_in(&self, range: Range) -> bool {
        let ended = match self.outcome {
            Outcome::Pending | Outcome::Open => u64::MAX,
            Outcome::Answered | Outcome::Failed | Outcome::Unknown => {
                self.end_ts().unwrap_or(self.hop_ts)
            }
        };
        range.has(self.ts, ended)
    }

    fn target_id(&self) -> Option<&str> {
        self.place.target_id.as_deref()
    }
}

impl Kind for Navigation {
    const PARAMETERS: &'static [&'static str] = &[];
    type Asked = ();

    fn read(_: &mut (), _: &str, _: &str) -> Result<(), QueryError> {
        Ok(())
    }

    fn is_asked(&self, (): &()) -> bool {
        true
    }

    /// A page is there until the next one replaces it; a frame until it has loaded.
    fn is_in(&self, range: Range) -> bool {
        let ended = match self.is_page() {
            true => self.replaced.unwrap_or(u64::MAX),
            false => [self.load, self.network_idle, self.settled]
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(self.ts),
        };
        range.has(self.start_ts, ended)
    }

    fn target_id(&self) -> Option<&str> {
        self.place.target_id.as_deref()
    }
}

impl Kind for Problem {
    const PARAMETERS: &'static [&'static str] = &["kind"];
    type Asked = Vec<ProblemKind>;

    fn read(asked: &mut Vec<ProblemKind>, name: &str, text: &str) -> Result<(), QueryError> {
        let read = |word: &str| {
            ProblemKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == word)
        };
        let known: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let known = format!("one of `{}`", known.join("`, `"));
        add_values(asked, name, text, read, &known)
    }

    fn is_asked(&self, asked: &Vec<ProblemKind>) -> bool {
        asked.is_empty() || asked.contains(&self.kind)
    }

    fn is_in(&self, range: Range) -> bool {
        range.has(self.ts, self.ts)
    }

    fn target_id(&self) -> Option<&str> {
        self.place.target_id.as_deref()
    }
}
