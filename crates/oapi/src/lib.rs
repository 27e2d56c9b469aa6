//! The wire types of Tapline: what is published, what readers get, what operations ask and answer,
//! which event types are known, and the OpenAPI document made from all of it.
//!
//! **What it is not.** It runs nothing: no runtime, no I/O, no ring. It gives no event its seq and
//! no error its HTTP status. It decides nothing about a session; it only says how one is configured.
//!
//! **Start at** [`Event`]. A producer makes one and publishes it, or sends a [`PublishRequest`]; a
//! reader gets it back in an [`Envelope`], with the seq it was given. [`KnownType`] is the list of
//! types that come with a meaning, [`data`] their fields, [`Category`] the unit in which they are
//! switched on and off.
//!
//! **Floor 0.** It uses no crate of Tapline's, and every other one may use it. A client needs this
//! crate alone.
//!
//! Three rules hold for every type here:
//!
//! - What is read from a caller is strict: an unknown field is an error that names it
//!   ([`from_json`]). What is read from a server is lenient: an unknown field is passed over. Only
//!   the categories are a closed set: a reader has to know all that its server knows.
//! - An optional field that is empty is left out.
//! - [`Event::data`] is the producer's JSON text, byte for byte. Nothing here parses and reformats
//!   it; [`Event::typed_data`] reads a copy.

// In order: a module uses only those above it.
mod cursor;
mod category;
mod event_type;
pub mod data;

mod error;
mod json;
mod event;
pub mod encode;

mod config;
mod batch;
mod reader;
mod notice;
mod ticket;
mod health;

#[cfg(feature = "openapi")]
pub mod openapi;

pub use batch::{BatchResult, LineError};
pub use category::{Category, CategorySet, UnknownCategory};
pub use config::{BrowserConfig, CategoryConfig, ConfigRequest, State, StateConfig};
pub use cursor::{Cursor, CursorError, Epoch};
pub use encode::{MAX_ENVELOPE_BYTES, encode_envelope, encode_event, encoded_len_at_most};
pub use error::{ErrorBody, ErrorCode};
pub use event::{Envelope, Event, InvalidEvent, PublishRequest, Source, SourceKind};
pub use event_type::{EmptyType, EventType, KnownType, UnknownType};
pub use health::Health;
pub use json::{JsonError, from_json, from_json_line};
pub use notice::{
    Beat, Bye, ByeReason, FilterNotice, Gap, Hello, HelloReason, Notice, SessionNotice,
};
pub use reader::{OnLag, ReaderInfo, ReaderKind, ReaderList, ReaderPatch, ReaderPatched};
pub use ticket::{Ticket, TicketRequest};
