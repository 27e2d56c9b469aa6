//! Replacing the access rules while the program runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tapline_access::Access;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// How often the files are looked at: one `stat` for each.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads the token, the certificate and its key, and the allow-lists again on SIGHUP, and within
/// [`LOOK_EVERY`] of a change of one of their files. A file that cannot be used is logged, and the value
/// before stays. To be called on a runtime.
///
/// # Errors
///
/// Where the system does not let the program receive SIGHUP.
pub(crate) fn start(access: Arc<Access>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let signalled = tokio::select! {
                _ = hangup.recv() => true,
                () = sleep(LOOK_EVERY) => false,
            };
            let access = access.clone();
            let reloaded = tokio::task::spawn_blocking(move || {
                if signalled {
                    access.reload()
                } else {
                    access.reload_if_changed()
                }
            });
            for reload in reloaded.await.unwrap_or_default() {
                reload.log();
            }
        }
    });
    Ok(())
}
