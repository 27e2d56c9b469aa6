//! The event, its source, and its two forms on the wire: [`PublishRequest`] to the server, and
//! [`Envelope`] to readers.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::category::Category;
use crate::data::EventData;
use crate::error::{ErrorBody, ErrorCode};
use crate::event_type::{EmptyType, EventType, KnownType};
use crate::json;

/// An event, as a producer emits it.
///
/// Reading is lenient: a reader ignores the fields that a newer server adds. [`PublishRequest`] is the strict form for requests.
///
/// ```
/// use serde_json::value::to_raw_value;
/// use tapline_oapi::{Category, Event, KnownType};
///
/// let data = to_raw_value(&serde_json::json!({"level": "log", "text": "hello"}))?;
/// let event = Event::known(KnownType::ConsoleLog, Some(data));
/// assert_eq!(event.category, Category::Console);
///
/// let custom = Event::custom("checkout_done", Category::Page, None)?.with_ts(1_795_349_358_733_796);
/// assert_eq!(
///     serde_json::to_string(&custom)?,
///     r#"{"ts":1795349358733796,"type":"checkout_done","category":"page","source":{"kind":"local_process"}}"#,
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(description = "What happened, as it was published.")
)]
pub struct Event {
    /// When it happened, in microseconds since the Unix epoch. 0 = not set yet: publishing sets it.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(required, minimum = 0, example = 1_795_349_358_733_796_i64)
    )]
    pub ts: u64,
    /// The name of the event type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, min_length = 1, example = "console_log"))]
    pub event_type: EventType,
    /// The category. A known type always has its own category.
    pub category: Category,
    /// Where the event came from.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub source: Source,
    /// Any JSON, unchanged byte for byte. Absent if the producer sent none; a `null` that the producer
    /// sent is kept.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub data: Option<Box<RawValue>>,
    /// Whether `data` was dropped because the envelope would be over 1,000,000 bytes. Omitted if false.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_false"
    )]
    pub truncated: bool,
}

impl Event {
    /// An event of a known type, in its category, from a local process, without a `ts`.
    #[must_use]
    pub fn known(known: KnownType, data: Option<Box<RawValue>>) -> Self {
        Self {
            ts: 0,
            event_type: EventType::Known(known),
            category: known.category(),
            source: Source::default(),
            data,
            truncated: false,
        }
    }

    /// An event of any type, from a local process, without a `ts`. If `name` is a known type, its own
    /// category is used instead of `category`.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent::EmptyType`] if `name` is empty.
    pub fn custom(
        name: &str,
        category: Category,
        data: Option<Box<RawValue>>,
    ) -> Result<Self, InvalidEvent> {
        let event_type = EventType::new(name)?;
        Ok(Self {
            ts: 0,
            category: event_type.category().unwrap_or(category),
            event_type,
            source: Source::default(),
            data,
            truncated: false,
        })
    }

    /// The same event at `ts` microseconds since the Unix epoch.
    #[must_use]
    pub fn with_ts(mut self, ts: u64) -> Self {
        self.ts = ts;
        self
    }

    /// The same event from `source`.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// A copy for an event that is too large: `data` is `null` and `truncated` is true. Does not copy the
    /// old `data`.
    #[must_use]
    pub fn cut(&self) -> Self {
        Self {
            ts: self.ts,
            event_type: self.event_type.clone(),
            category: self.category,
            source: self.source.clone(),
            data: Some(RawValue::NULL.to_owned()),
            truncated: true,
        }
    }

    /// `data` as the struct of the event's type. `None` for a custom type, if `data` was dropped at the size
    /// limit, and if it is absent and the type has required fields.
    ///
    /// ```
    /// use tapline_oapi::{Event, data::EventData};
    ///
    /// let event: Event = serde_json::from_str(
    ///     r#"{"type":"console_log","category":"console","data":{"level":"log","text":"hello"}}"#,
    /// )?;
    /// let Some(EventData::ConsoleLog(line)) = event.typed_data()? else { panic!() };
    /// assert_eq!(line.text, "hello");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If `data` does not match the type. Publishing does not check `data`, so a reader must handle
    /// this.
    pub fn typed_data(&self) -> Result<Option<EventData>, serde_json::Error> {
        let EventType::Known(known) = self.event_type else {
            return Ok(None);
        };
        let data = self
            .data
            .as_deref()
            .map(RawValue::get)
            .filter(|data| *data != "null");
        match data {
            None if self.truncated => Ok(None),
            // Most types have no required field: absent data is valid for them.
            None => Ok(EventData::parse(known, "{}").ok()),
            Some(data) => EventData::parse(known, data).map(Some),
        }
    }
}

/// Equal if they are the same on the wire; `data` is compared as text.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        fn text(event: &Event) -> Option<&str> {
            event.data.as_deref().map(RawValue::get)
        }

        self.ts == other.ts
            && self.event_type == other.event_type
            && self.category == other.category
            && self.source == other.source
            && text(self) == text(other)
            && self.truncated == other.truncated
    }
}

impl Eq for Event {}

/// Where an event came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Source {
    /// The kind of producer.
    pub kind: SourceKind,
    /// The producer's own name for the event, such as `Runtime.consoleAPICalled`. Omitted if empty.
    #[serde(default, skip_serializing_if = "is_empty")]
    #[cfg_attr(
        feature = "openapi",
        schema(nullable = false, example = "Runtime.consoleAPICalled")
    )]
    pub event: Option<String>,
    /// More about the origin of the event. Publishing adds `telemetry_session_id`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<String, String>,
}

impl Source {
    /// A source of this kind, without a name and metadata.
    #[must_use]
    pub const fn of(kind: SourceKind) -> Self {
        Self {
            kind,
            event: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// The kind of producer that an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A browser, over the Chrome DevTools Protocol.
    Cdp,
    /// The API that drives the sandbox. Reserved: a request over HTTP cannot claim it.
    KernelApi,
    /// A browser extension.
    Extension,
    /// Any process of the machine. The default for an event without a source.
    #[default]
    LocalProcess,
}

impl SourceKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cdp => "cdp",
            Self::KernelApi => "kernel_api",
            Self::Extension => "extension",
            Self::LocalProcess => "local_process",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An event with its sequence number, as readers receive it.
///
/// [`encode_envelope`](crate::encode::encode_envelope) writes the same bytes without owning the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(description = "An event with its sequence number.")
)]
pub struct Envelope {
    /// The number of the event: 1, 2, 3 … over the life of an epoch, without holes.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub seq: u64,
    /// The event as it was published.
    pub event: Event,
}

/// An event that a caller publishes. Strict: an unknown field is an error.
///
/// ```
/// use tapline_oapi::{Category, Event, PublishRequest, from_json};
///
/// // A known type has its own category, which replaces the caller's.
/// let request: PublishRequest = from_json(br#"{"type":"page_load","category":"console"}"#)?;
/// assert_eq!(Event::try_from(request)?.category, Category::Page);
///
/// // For any other type, the category is required.
/// let request: PublishRequest = from_json(br#"{"type":"checkout_done"}"#)?;
/// assert_eq!(Event::try_from(request).unwrap_err().field(), "category");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(description = "An event to publish. A null field counts as absent, except `data`.")
)]
pub struct PublishRequest {
    /// When it happened, in microseconds since the Unix epoch. If absent or 0, the time of publishing.
    #[serde(
        default,
        deserialize_with = "unix_micros",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)
    )]
    pub ts: Option<u64>,
    /// The name of the event type: a known type, or any other name.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub event_type: String,
    /// The category. A known type has its own category, which replaces this one; for any other type it is
    /// required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Where the event came from. If absent, a local process.
    #[serde(
        default,
        deserialize_with = "strict_source",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<PublishSource>))]
    pub source: Option<Source>,
    /// Any JSON, carried unchanged byte for byte.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub data: Option<Box<RawValue>>,
    /// Whether the producer already dropped some of `data`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_false"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>))]
    pub truncated: bool,
}

impl PublishRequest {
    /// The largest `ts` that is accepted, in microseconds: the maximum of a signed 64-bit integer, which
    /// every client can represent. It is in the year 294247.
    pub const MAX_TS: u64 = i64::MAX as u64;

    /// Whether the request claims the source kind [`SourceKind::KernelApi`]. The HTTP operations refuse it
    /// with [`ErrorCode::ReservedSource`]. The conversion into an [`Event`] does not check it, because a
    /// publisher within the process may be that API.
    #[must_use]
    pub fn uses_reserved_source(&self) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| source.kind == SourceKind::KernelApi)
    }
}

impl TryFrom<PublishRequest> for Event {
    type Error = InvalidEvent;

    fn try_from(request: PublishRequest) -> Result<Self, InvalidEvent> {
        let event_type = EventType::new(&request.event_type)?;
        let Some(category) = event_type.category().or(request.category) else {
            return Err(InvalidEvent::MissingCategory {
                event_type: request.event_type,
            });
        };
        Ok(Self {
            ts: request.ts.unwrap_or(0),
            event_type,
            category,
            source: request.source.unwrap_or_default(),
            data: request.data,
            truncated: request.truncated,
        })
    }
}

/// Why a well-formed request is not a valid event. Each message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The type is empty.
    #[error("field `type`: must not be empty")]
    EmptyType,
    /// The type is not known, and the request has no category.
    #[error(
        "field `category`: missing; `{event_type}` is not a known type, so its category is required"
    )]
    MissingCategory {
        /// The type that was given.
        event_type: String,
    },
}

impl InvalidEvent {
    /// The name of the invalid field.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::EmptyType => "type",
            Self::MissingCategory { .. } => "category",
        }
    }

    /// The code of this error on the wire.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::EmptyType => ErrorCode::InvalidField,
            Self::MissingCategory { .. } => ErrorCode::MissingField,
        }
    }
}

impl From<&InvalidEvent> for ErrorBody {
    fn from(error: &InvalidEvent) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<EmptyType> for InvalidEvent {
    fn from(EmptyType: EmptyType) -> Self {
        Self::EmptyType
    }
}

/// Reads a field that is present. Serde reads `null` into an `Option` as `None`, but here `null` is a
/// value of the producer.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// [`Source`] as a caller sends it: strict, while [`Source`] itself is lenient.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(description = "Where an event comes from. A null field counts as absent.")
)]
pub(crate) struct PublishSource {
    /// The kind of producer. `kernel_api` is reserved: claiming it is an error.
    #[cfg_attr(feature = "openapi", schema(schema_with = claimable_kind))]
    kind: SourceKind,
    /// The producer's own name for the event.
    #[serde(default)]
    event: Option<String>,
    /// More about the origin of the event.
    #[serde(default, deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
    metadata: BTreeMap<String, String>,
}

/// The kinds that a caller may claim, for the document.
#[cfg(feature = "openapi")]
fn claimable_kind() -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{ObjectBuilder, Type};

    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The kind of producer."))
        .enum_values(Some(
            [
                SourceKind::Cdp,
                SourceKind::Extension,
                SourceKind::LocalProcess,
            ]
            .map(SourceKind::as_str),
        ))
        .build()
}

/// Reads `null` as if the field were absent, as an `Option` does.
fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn strict_source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Source>, D::Error> {
    let source = json::optional_object::<PublishSource, D>(deserializer)?;
    Ok(source.map(
        |PublishSource {
             kind,
             event,
             metadata,
         }| Source {
            kind,
            event,
            metadata,
        },
    ))
}

fn unix_micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct UnixMicros;

    impl<'de> Visitor<'de> for UnixMicros {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Unix microseconds from 0 to {}", PublishRequest::MAX_TS)
        }

        fn visit_none<E: de::Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Option<u64>, D::Error> {
            deserializer.deserialize_u64(self)
        }

        fn visit_u64<E: de::Error>(self, ts: u64) -> Result<Option<u64>, E> {
            if ts <= PublishRequest::MAX_TS {
                Ok(Some(ts))
            } else {
                Err(E::invalid_value(de::Unexpected::Unsigned(ts), &self))
            }
        }

        fn visit_i64<E: de::Error>(self, ts: i64) -> Result<Option<u64>, E> {
            u64::try_from(ts)
                .map(Some)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(ts), &self))
        }
    }

    deserializer.deserialize_option(UnixMicros)
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}
