//! The wire types of Tapline: events, requests, answers, notices and errors, the known event types, and the
//! OpenAPI document generated from them.
//!
//! **What it is not.** It runs nothing: no runtime, no I/O, no randomness. It gives no event its seq, no
//! error its HTTP status, and it makes no decision about a session.
//!
//! **Start at** [`Event`]. A producer publishes one, or sends a [`PublishRequest`]; a reader receives it in
//! an [`Envelope`] with its seq, and stores its position as a [`Cursor`]. [`KnownType`] lists the event types
//! with a meaning, [`data`] their fields, and [`Category`] the units in which they are enabled and disabled.
//!
//! **Layer 0.** It uses no other crate of Tapline, and every other crate may use it. A program that only
//! reads Tapline's JSON needs this crate alone.
//!
//! Three rules hold for all types:
//!
//! - Input from a caller is strict: an unknown field is an error that names it ([`from_json`]). Input from a
//!   server is lenient: an unknown field is ignored. Only the categories are a closed set: a reader must
//!   know all categories of its server.
//! - An empty optional field is omitted.
//! - [`Event::data`] is the producer's JSON text, byte for byte. It is never parsed and formatted again;
//!   [`Event::typed_data`] reads a copy.
//!
//! ```
//! use tapline_oapi::{Envelope, ErrorCode, PublishRequest, from_json};
//!
//! // A reader: the envelope of one event.
//! let envelope: Envelope = serde_json::from_str(
//!     r#"{"seq":7,"event":{"ts":1,"type":"page_load","category":"page","source":{"kind":"cdp"}}}"#,
//! )?;
//! assert_eq!(envelope.seq, 7);
//!
//! // A server: the body of a request. The error names the field.
//! let error = from_json::<PublishRequest>(br#"{"type":"page_load","categroy":"page"}"#).unwrap_err();
//! assert_eq!((error.code, error.field.as_deref()), (ErrorCode::UnknownField, Some("categroy")));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Features
//!
//! `openapi` (off by default) adds the module `openapi` with the OpenAPI document.

// In order: a module uses only those above it.
mod cursor;
mod category;
mod event_type;
mod rest;
pub mod data;

pub mod body;
pub mod joins;

mod error;
mod json;
mod event;
pub mod encode;

mod config;
mod batch;
mod reader;
mod sink;
mod counts;
mod notice;
mod ticket;
mod health;
mod instance;

#[cfg(feature = "openapi")]
pub mod openapi;

pub use batch::{BatchResult, LineError};
pub use category::{Category, CategorySet, UnknownCategory};
pub use config::{
    BrowserConfig, CategoryConfig, CdpControlConfig, ConfigRequest, ControlConfig, ExportConfig,
    NamedDestination, OtlpDestination, OtlpExportConfig, State, StateConfig, StorageConfig,
};
pub use counts::{CountBucket, CountGap, EventCounts};
pub use cursor::{Cursor, CursorError, Epoch};
pub use encode::{
    EnvelopeJson, LargestField, MAX_ENVELOPE_BYTES, encode_envelope, encode_event, encode_head,
    encoded_len_at_most,
};
pub use error::{ErrorBody, ErrorCode};
pub use event::{Envelope, Event, InvalidEvent, PublishRequest, Source, SourceKind};
pub use event_type::{
    EmptyType, EventType, InvalidPattern, KnownType, MAX_PATTERN_BYTES, MAX_PATTERN_STARS,
    UnknownType, check_pattern,
};
pub use health::Health;
pub use instance::{InstanceInfo, InstanceList, InstanceProblems, LastEvent, NewestProblem};
pub use json::{JsonError, from_json, from_json_line};
pub use notice::{
    Beat, Bye, ByeReason, EpochNotice, FilterNotice, Gap, Hello, HelloReason, Notice, SessionNotice,
};
pub use reader::{OnLag, ReaderInfo, ReaderKind, ReaderList, ReaderPatch, ReaderPatched};
pub use sink::{SinkInfo, SinkList, SinkSpans};
pub use ticket::{FleetTicketRequest, Ticket, TicketRequest, check_instance_name};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
