//! Query parameters: from their text to what they mean.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::date;
use jiff::fmt::temporal::Pieces;
use jiff::{Span, SpanRelativeTo, Timestamp};
use tapline_events::{CursorError, Filter, TypePattern};
use tapline_oapi::{Category, CategorySet, Cursor, check_pattern};

/// A query parameter that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("query parameter `{name}`: {message}")]
pub struct QueryError {
    /// Which.
    pub name: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl QueryError {
    /// What is wrong with this parameter, and what would be right.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: shortened(name),
            message: message.into(),
        }
    }

    pub(crate) fn unknown(name: &str, known: &[&str]) -> Self {
        Self::new(name, format!("unknown; known are `{}`", known.join("`, `")))
    }

    pub(crate) fn twice(name: &str) -> Self {
        Self::new(name, "given twice")
    }
}

/// What the caller sent, not longer than a message should be.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Takes the one value that a parameter may have.
pub(crate) fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::twice(name)),
    }
}

pub(crate) fn number(name: &str, text: &str) -> Result<u64, QueryError> {
    // Signed, since that is what the document promises, so that every client can represent it; and the
    // digits are looked at because `parse` alone would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse::<i64>()
    {
        return Ok(number.unsigned_abs());
    }
    Err(QueryError::new(
        name,
        format!(
            "`{}` is not a whole number from 0 to 2^63 - 1",
            shortened(text)
        ),
    ))
}

/// How many items an answer may have: 1 to `most`.
pub(crate) fn limit(name: &str, text: &str, most: u64) -> Result<u64, QueryError> {
    match number(name, text)? {
        limit if 1 <= limit && limit <= most => Ok(limit),
        limit => Err(QueryError::new(
            name,
            format!("{limit} is not from 1 to {most}"),
        )),
    }
}

pub(crate) fn choice<T: Copy>(
    name: &str,
    text: &str,
    choices: &[(&str, T)],
) -> Result<T, QueryError> {
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            QueryError::new(
                name,
                format!(
                    "`{}` is not one of `{}`",
                    shortened(text),
                    words.join("`, `")
                ),
            )
        })
}

pub(crate) fn cursor(name: &str, text: &str) -> Result<Cursor, QueryError> {
    text.parse()
        .map_err(|error: CursorError| QueryError::new(name, error.to_string()))
}

/// Where a page ended: a number, with an epoch where it is not the present one.
pub(crate) fn offset(name: &str, text: &str) -> Result<Cursor, QueryError> {
    match text.contains('-') {
        true => cursor(name, text),
        false => number(name, text).map(Cursor::from),
    }
}

/// RFC 3339, or a duration ago such as `5m`; in microseconds since the Unix epoch. `name` is the parameter or flag, for the
/// message.
///
/// # Errors
///
/// [`QueryError`] where it is neither.
pub fn moment(name: &str, text: &str) -> Result<u64, QueryError> {
    if let Some(at) = rfc_3339(text) {
        return Ok(at);
    }
    if let Some(ago) = duration(text) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        return Ok(now.saturating_sub(ago).as_micros() as u64);
    }
    Err(QueryError::new(
        name,
        format!(
            "`{}` is neither RFC 3339, such as `2026-11-23T08:00:00Z`, nor a duration ago, such as `5m` or `7d`",
            shortened(text)
        ),
    ))
}

/// Up to the end of the year 9999; a moment before 1970 is 0.
fn rfc_3339(text: &str) -> Option<u64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(u64::try_from(at.as_microsecond()).unwrap_or(0));
    }
    // The library's moments end a day before the year does, so that every time zone can show them.
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    if pieces.time_zone_annotation().is_some() {
        return None;
    }
    let civil = pieces.date().to_datetime(pieces.time()?);
    let since = civil.duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    let micros = since.as_micros() - i128::from(offset.seconds()) * 1_000_000;
    Some(u64::try_from(micros).unwrap_or(0))
}

/// With a day of 24 hours. Months and years have no length of their own.
fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
    duration.ok()?.try_into().ok()
}

/// How many values a parameter may have, since each is compared with every event.
const MAX_VALUES: usize = 100;

/// Adds the values of the parameter `name`, joined by commas, to those of the same parameter before it. `known` says what a
/// value may be, for the message.
///
/// # Errors
///
/// [`QueryError`] where `read` does not know a value, or where there are more than 100.
pub fn add_values<T>(
    list: &mut Vec<T>,
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    known: &str,
) -> Result<(), QueryError> {
    for word in text.split(',') {
        let Some(value) = read(word) else {
            let word: String = word.chars().take(64).collect();
            return Err(QueryError::new(name, format!("`{word}` is not {known}")));
        };
        if list.len() == MAX_VALUES {
            return Err(QueryError::new(
                name,
                format!("more than {MAX_VALUES} values"),
            ));
        }
        list.push(value);
    }
    Ok(())
}

/// Adds the values of one `category` or `type` parameter: joined by commas, or one.
pub(crate) fn add_to_filter(filter: &mut Filter, name: &str, text: &str) -> Result<(), QueryError> {
    for word in text.split(',') {
        if name == "category" {
            let category: Category = word.parse().map_err(|_| unknown_category(name, word))?;
            let categories = filter.categories.unwrap_or(CategorySet::EMPTY);
            filter.categories = Some(categories.with(category));
        } else {
            if word.is_empty() {
                return Err(QueryError::new(
                    name,
                    "an event type is empty; separate the types by one comma, as in `page_load,console_*`, or leave the parameter out",
                ));
            }
            if filter.types.len() == MAX_VALUES {
                return Err(QueryError::new(
                    name,
                    format!("more than {MAX_VALUES} types"),
                ));
            }
            check_pattern(word).map_err(|error| QueryError::new(name, error.to_string()))?;
            filter.types.push(TypePattern::new(word));
        }
    }
    Ok(())
}

fn unknown_category(name: &str, word: &str) -> QueryError {
    let known: Vec<_> = Category::ALL
        .iter()
        .map(|category| category.as_str())
        .collect();
    QueryError::new(
        name,
        format!(
            "unknown category `{}`, expected one of `{}`",
            shortened(word),
            known.join("`, `")
        ),
    )
}
