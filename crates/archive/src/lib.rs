//! Stores an event stream in compressed files that other tools can read, and reads it back.
//!
//! **What it is.** [`ArchiveSink`] is a sink: it writes the stream to segments, plain `.ndjson.zst` files that
//! `zstdcat`, `jq` and DuckDB open as they are. [`Archive`] is a history: it reads them, while they are being written,
//! too.
//!
//! **What it is not.** It decides nothing about who may read, and serves nothing. With no archive, nothing of this
//! crate touches a disk.
//!
//! **Start at** [`ArchiveSink::open`] for writing, and [`Archive::open`] for reading.
//!
//! The unit of a segment is public, too, for other places that store the stream: see [`block`].
//!
//! **Layer.** 4: it uses the facade (`tapline-api`) and the layers below.

mod archive;
mod sink;
mod recorder;
mod check;
mod compact;
mod options;
mod error;
mod writer;
mod read;
mod store;
mod index;
pub mod block;
mod name;
mod disk;

pub use archive::{Archive, SegmentInfo};
pub use check::{CheckReport, Defect, Finding, Repair, check, repair};
pub use compact::{Compacted, Remove, compact, remove};
pub use disk::{Faults, FileOp};
pub use error::ArchiveError;
pub use options::ArchiveOptions;
pub use recorder::{FlightRecorder, RecorderOptions};
pub use sink::ArchiveSink;
pub use store::ArchiveCounts;

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
