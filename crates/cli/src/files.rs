//! Files: new ones for their owner alone, and how many may be open, which bounds how many connections there can be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tapline_server::Limits;

/// Files that are open besides the connections: the standard streams, the listener, those of the
/// runtime, and connections that are being refused because of the limit.
const OTHERS: usize = 128;

/// Creates a file that only its owner may read: it may hold secrets. An existing file is never overwritten.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Raises how many files this process may have open as far as the system allows, and lowers `limits` to
/// what fits.
pub(crate) fn fit_limits(limits: &mut Limits) {
    let files = raise();
    if let Some(connections) = bound(limits, files) {
        tracing::warn!(
            "only {files} files may be open here (`ulimit -Hn`): \
             --max-connections is {connections}, --max-streams is {}",
            limits.streams
        );
    }
}

/// Raises the soft limit to the hard one, and returns the new limit.
fn raise() -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(error) => {
            tracing::debug!(%error, "cannot raise how many files may be open");
            before
        }
    };
    now.current
        .map_or(usize::MAX, |files| files.try_into().unwrap_or(usize::MAX))
}

/// Lowers the limits where they do not fit, and then returns the new limit of connections.
fn bound(limits: &mut Limits, files: usize) -> Option<usize> {
    /// Where connections are few, one of this many is reserved for requests that are no streams. By
    /// default it is one of forty.
    const LEFT_TO_OTHERS: usize = 32;
    let most = files.saturating_sub(OTHERS).max(1);
    if limits.connections <= most {
        return None;
    }
    limits.connections = most;
    limits.connections_per_address = limits.connections_per_address.min(most);
    let streams = most - most.div_ceil(LEFT_TO_OTHERS);
    limits.streams = limits.streams.min(streams.max(1));
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_to_what_fits() {
        let check = |files, expected: Option<usize>, streams, per_address| {
            let mut limits = Limits::default();
            assert_eq!(bound(&mut limits, files), expected, "{files}");
            assert_eq!(limits.connections, expected.unwrap_or(16_384));
            assert_eq!(limits.streams, streams, "{files}");
            assert_eq!(limits.connections_per_address, per_address, "{files}");
        };
        check(usize::MAX, None, 16_000, 16_384);
        check(16_384 + OTHERS, None, 16_000, 16_384);
        check(1024, Some(896), 868, 896);
        check(16_383 + OTHERS, Some(16_383), 15_871, 16_383);
        check(0, Some(1), 1, 1);
    }

    #[test]
    fn what_was_asked_for_and_fits_stays() {
        let mut limits = Limits {
            connections: 2000,
            connections_per_address: 10,
            streams: 5,
            ..Limits::default()
        };
        assert_eq!(bound(&mut limits, 1024), Some(896));
        assert_eq!((limits.connections_per_address, limits.streams), (10, 5));
    }
}
