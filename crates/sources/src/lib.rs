//! Sources of events beside the browser. So far one: [`KernelLog`], which tells of processes that the
//! kernel killed because memory ran out.
//!
//! **What it is.** A pattern as well as a source: [`OomReports`] makes events of lines and is all
//! that has to be right, [`KernelLog`] reads a file by a thread of its own while a session runs.
//!
//! **What it is not.** No watchdog: it kills nothing and starts nothing anew.
//!
//! **Start at** [`KernelLog::new`].
//!
//! **Layer.** Floor 4: above `tapline-api`, whose [`Source`](tapline_api::Source) it implements.

mod kernel_log;
mod oom;

pub use kernel_log::KernelLog;
pub use oom::OomReports;
