//! A message: a block of the archive, and headers that say what is in it.
//!
//! | header | value |
//! |---|---|
//! | `Tapline-Version` | 1. A reader refuses a later one |
//! | `Tapline-Epoch` | which run of the stream: 16 hexadecimal digits |
//! | `Tapline-First`, `Tapline-Last` | the first and the last seq; every seq in between is an event or within a gap |
//! | `Tapline-Time` | `OLDEST..NEWEST`, the times of its events in microseconds since the Unix epoch; absent without events |
//! | `Tapline-Categories` | the categories of its events, joined by commas |
//! | `Tapline-Types` | the types of its events, the most frequent first; at the end `*` where there are more than the header has |
//! | `Tapline-Sessions` | which session holds from which seq on: a JSON array of [`SessionChange`] |
//! | `Nats-Msg-Id` | `INSTANCE-EPOCH-FIRST-LAST` |
//!
//! The payload is the block as an archive has it ([`tapline_archive::block`]), so `zstdcat` prints the events of a
//! message. The gaps, and the last seq that was stored before, are in the block's metadata.

use std::fmt::Write;

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use tapline_archive::block::{BadBlock, DecodedBlock, Meta};
use tapline_events::Epoch;
use tapline_oapi::{BrowserConfig, CategorySet, EventType, State, StateConfig};
use tapline_telemetry::SessionState;

use crate::name::InstanceName;

/// The version of the format of messages and of the layout of streams.
pub const VERSION: u32 = 1;

/// The header with the [`VERSION`].
pub const VERSION_HEADER: &str = "Tapline-Version";

const EPOCH: &str = "Tapline-Epoch";
const FIRST: &str = "Tapline-First";
const LAST: &str = "Tapline-Last";
const TIME: &str = "Tapline-Time";
const CATEGORIES: &str = "Tapline-Categories";
const TYPES: &str = "Tapline-Types";
const SESSIONS: &str = "Tapline-Sessions";

/// The most bytes of the header with the types.
const MAX_TYPES_BYTES: usize = 1024;

/// What the headers say: all that is known of a message without its block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Which run of the stream the seqs belong to.
    pub epoch: Epoch,
    /// The first seq.
    pub first: u64,
    /// The last seq.
    pub last: u64,
    /// The oldest and the newest time of its events. `None` without events.
    pub times: Option<(u64, u64)>,
    /// The categories of its events.
    pub categories: CategorySet,
    /// Which session holds from which seq on. The first entry holds at the start of the block, where that is known.
    pub sessions: Vec<SessionChange>,
}

/// The session that holds for the events after a seq, until the next change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionChange {
    /// It holds for the events after this seq, which may be before the block.
    pub after: u64,
    /// `None` where no session runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionInfo>,
}

/// A running session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub id: String,
    /// Its events come after this seq.
    pub start_seq: u64,
    /// When its configuration was applied, in microseconds since the Unix epoch.
    pub applied_at: u64,
    /// The user-facing categories that it captures.
    pub categories: CategorySet,
}

impl SessionChange {
    /// As the stream carries it.
    pub fn of(state: &SessionState) -> Self {
        let session = state.session().map(|session| SessionInfo {
            id: session.id.to_string(),
            start_seq: session.start_seq,
            applied_at: jiff::Timestamp::try_from(session.applied_at)
                .map_or(0, |it| u64::try_from(it.as_microsecond()).unwrap_or(0)),
            categories: state.captured().intersection(CategorySet::USER_FACING),
        });
        Self {
            after: state.since(),
            session,
        }
    }

    /// As the API shows it, with that head.
    pub fn state(&self, epoch: Epoch, head: u64) -> State {
        let session = self.session.as_ref();
        let captured = session.map_or(CategorySet::EMPTY, |it| it.categories);
        State {
            config: StateConfig {
                browser: BrowserConfig::of(captured),
                ..StateConfig::default()
            },
            seq: head,
            applied_at: session.and_then(|it| {
                jiff::Timestamp::from_microsecond(i64::try_from(it.applied_at).ok()?).ok()
            }),
            session_id: session.map(|it| it.id.clone()),
            session_start_seq: session.map(|it| it.start_seq),
            epoch,
        }
    }
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It has none of the headers that it needs, so it is no message of Tapline's, or one that was changed.
    #[error("the message has no header {0}: it was not written by Tapline")]
    NoHeader(&'static str),
    /// A header has a value that is not valid.
    #[error("the header {name} of the message has the value `{value}`, which is not valid")]
    BadHeader {
        /// The header.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A later version of the program has written it.
    #[error(
        "the message has version {0} of the format, and this program reads version {VERSION}; update it"
    )]
    Version(u32),
    /// The payload is not an intact block.
    #[error("the payload of the message is not a block")]
    Block(#[from] BadBlock),
    /// The headers are not those of the block.
    #[error("the header {name} of the message has `{header}`, and its block has `{block}`")]
    Disagreement {
        /// The header.
        name: &'static str,
        /// What it says.
        header: String,
        /// What the block says.
        block: String,
    },
}

impl Head {
    /// Of the headers of a message.
    ///
    /// # Errors
    ///
    /// [`MessageError`] where a header is missing or not valid, or the version is a later one.
    pub fn read(headers: &HeaderMap) -> Result<Self, MessageError> {
        let version = number(headers, VERSION_HEADER)?;
        match u32::try_from(version) {
            Ok(VERSION) => {}
            version => return Err(MessageError::Version(version.unwrap_or(u32::MAX))),
        }
        let head = Self {
            epoch: parsed(headers, EPOCH, |text| text.parse().ok())?,
            first: number(headers, FIRST)?,
            last: number(headers, LAST)?,
            times: match headers.get(TIME) {
                None => None,
                Some(_) => Some(parsed(headers, TIME, |text| {
                    let (oldest, newest) = text.split_once("..")?;
                    Some((oldest.parse().ok()?, newest.parse().ok()?))
                })?),
            },
            categories: match headers.get(CATEGORIES) {
                None => CategorySet::EMPTY,
                Some(_) => parsed(headers, CATEGORIES, |text| {
                    text.split(',').map(|it| it.parse().ok()).collect()
                })?,
            },
            sessions: match headers.get(SESSIONS) {
                None => Vec::new(),
                Some(_) => parsed(headers, SESSIONS, |text| serde_json::from_str(text).ok())?,
            },
        };
        match 0 < head.first && head.first <= head.last {
            true => Ok(head),
            false => Err(MessageError::BadHeader {
                name: FIRST,
                value: head.first.to_string(),
            }),
        }
    }

    /// The headers of a block that this instance has made.
    pub fn headers(meta: &Meta, instance: &InstanceName, sessions: &[SessionChange]) -> HeaderMap {
        let Meta {
            epoch, first, last, ..
        } = meta;
        let mut headers = HeaderMap::new();
        headers.insert(VERSION_HEADER, VERSION.to_string());
        headers.insert(EPOCH, epoch.to_string());
        headers.insert(FIRST, first.to_string());
        headers.insert(LAST, last.to_string());
        if let Some((oldest, newest)) = times(meta) {
            headers.insert(TIME, format!("{oldest}..{newest}"));
            headers.insert(CATEGORIES, joined(meta.categories()));
            headers.insert(TYPES, types(meta));
        }
        if !sessions.is_empty() {
            let sessions = serde_json::to_string(sessions);
            headers.insert(SESSIONS, sessions.expect("it has only texts and numbers"));
        }
        let id = format!("{instance}-{epoch}-{first}-{last}");
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        headers
    }
}

/// Reads a message: what its headers say, and its block.
///
/// # Errors
///
/// [`MessageError`] where it is no message of a version that this program reads, its block is not intact, or the headers
/// and the block disagree.
pub fn decode(headers: &HeaderMap, payload: &[u8]) -> Result<(Head, DecodedBlock), MessageError> {
    let head = Head::read(headers)?;
    let block = DecodedBlock::decode(payload)?;
    let meta = block.meta();
    let agree = |name, header: String, block: String| match header == block {
        true => Ok(()),
        false => Err(MessageError::Disagreement {
            name,
            header,
            block,
        }),
    };
    agree(EPOCH, head.epoch.to_string(), meta.epoch.to_string())?;
    agree(FIRST, head.first.to_string(), meta.first.to_string())?;
    agree(LAST, head.last.to_string(), meta.last.to_string())?;
    let time = |times: Option<(u64, u64)>| match times {
        Some((oldest, newest)) => format!("{oldest}..{newest}"),
        None => "nothing".to_owned(),
    };
    agree(TIME, time(head.times), time(times(meta)))?;
    agree(
        CATEGORIES,
        joined(head.categories),
        joined(meta.categories()),
    )?;
    Ok((head, block))
}

fn times(meta: &Meta) -> Option<(u64, u64)> {
    (meta.oldest_ts <= meta.newest_ts).then_some((meta.oldest_ts, meta.newest_ts))
}

fn joined(categories: CategorySet) -> String {
    let names: Vec<_> = categories.iter().map(|it| it.as_str()).collect();
    names.join(",")
}

/// Only names that need no escape. A name can be any text.
fn types(meta: &Meta) -> String {
    let mut out = String::new();
    let is_plain = |name: &str| {
        let mut bytes = name.bytes();
        bytes.all(|it| it.is_ascii_graphic() && it != b',' && it != b'*')
    };
    let mut is_cut = false;
    for entry in &meta.types {
        let name = entry.event_type.as_ref().map(EventType::as_str);
        match name.filter(|it| is_plain(it) && out.len() + it.len() + 3 <= MAX_TYPES_BYTES) {
            Some(name) if out.is_empty() => out.push_str(name),
            Some(name) => write!(out, ",{name}").expect("a String takes all"),
            None => is_cut = true,
        }
    }
    match (is_cut, out.is_empty()) {
        (false, _) => {}
        (true, true) => out.push('*'),
        (true, false) => out.push_str(",*"),
    }
    out
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, MessageError> {
    parsed(headers, name, |text| text.parse().ok())
}

fn parsed<T>(
    headers: &HeaderMap,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, MessageError> {
    let value = headers.get(name).ok_or(MessageError::NoHeader(name))?;
    parse(value.as_str()).ok_or_else(|| MessageError::BadHeader {
        name,
        value: value.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use tapline_archive::block::BlockBuilder;
    use tapline_oapi::{Category, EnvelopeJson};

    use super::*;

    fn block() -> (Meta, Vec<u8>) {
        let mut builder = BlockBuilder::new();
        let names = ["step", "a,b", "caf\u{e9}\n"];
        for (seq, name) in (3..).zip(names) {
            let event_type = EventType::new(name).unwrap();
            let json = format!(
                r#"{{"seq":{seq},"event":{{"ts":{},"type":{},"category":"control"}}}}"#,
                100 + seq,
                serde_json::to_string(name).unwrap()
            );
            let json: EnvelopeJson<'_> = json.as_str().into();
            builder.push(seq, 100 + seq, Category::Control, &event_type, json);
        }
        builder.push_gap(6..=9);
        let mut payload = Vec::new();
        let meta = builder.finish(Epoch::from_bits(7), 1, 0, &mut payload);
        (meta.unwrap(), payload)
    }

    fn headers(meta: &Meta) -> HeaderMap {
        let change = SessionChange {
            after: 2,
            session: Some(SessionInfo {
                id: "shop\n7".into(),
                start_seq: 2,
                applied_at: 1_700_000_000_000_000,
                categories: CategorySet::of(&[Category::Page]),
            }),
        };
        let ended = SessionChange {
            after: 4,
            session: None,
        };
        Head::headers(meta, &"i-1".parse().unwrap(), &[change, ended])
    }

    #[test]
    fn a_message_gives_back_what_it_was_made_of() {
        let (meta, payload) = block();
        let headers = headers(&meta);
        let id = headers.get("Nats-Msg-Id").unwrap();
        assert_eq!(id.as_str(), "i-1-0000000000000007-3-9");
        assert_eq!(headers.get(TYPES).unwrap().as_str(), "step,*");
        let (head, block) = decode(&headers, &payload).unwrap();
        assert_eq!(
            (head.first, head.last, head.times),
            (3, 9, Some((103, 105)))
        );
        assert_eq!(*block.meta(), meta);
        let [running, ended] = &*head.sessions else {
            panic!("{:?}", head.sessions);
        };
        let state = running.state(head.epoch, 5);
        assert_eq!(state.session_id.as_deref(), Some("shop\n7"));
        assert_eq!(
            state.applied_at.unwrap().to_string(),
            "2023-11-14T22:13:20Z"
        );
        assert_eq!(
            state.config.browser,
            BrowserConfig::of(CategorySet::of(&[Category::Page]))
        );
        assert_eq!(ended.state(head.epoch, 5).session_id, None);
    }

    #[test]
    fn a_message_that_cannot_be_read_says_why() {
        let (meta, payload) = block();
        let good = headers(&meta);
        let check = |name: &'static str, value: &str, expected: &str| {
            let mut headers = good.clone();
            headers.insert(name, value);
            let error = decode(&headers, &payload).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(VERSION_HEADER, "2", "version 2 of the format");
        check(VERSION_HEADER, "one", "`one`, which is not valid");
        check(
            EPOCH,
            "0000000000000008",
            "its block has `0000000000000007`",
        );
        check(LAST, "10", "Tapline-Last of the message has `10`");
        check(FIRST, "0", "Tapline-First");
        check(TIME, "103", "Tapline-Time");
        check(TIME, "103..104", "its block has `103..105`");
        check(CATEGORIES, "page", "its block has `control`");
        check(SESSIONS, "[{]", "Tapline-Sessions");
        assert_eq!(
            decode(&HeaderMap::new(), &payload).unwrap_err(),
            MessageError::NoHeader(VERSION_HEADER)
        );
        let torn = decode(&good, &payload[..payload.len() - 1]).unwrap_err();
        assert_eq!(torn, MessageError::Block(BadBlock::Torn));
    }
}
