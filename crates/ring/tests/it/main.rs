//! The ring under real threads, and against an oracle.

#![allow(clippy::unwrap_used)] // in a test a panic is an answer

mod oracle;
mod stress;
mod waiting;
mod limits;
mod panics;
mod starting;
