//! The signals that stop the program.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Resolves with the first SIGINT or SIGTERM, which starts a graceful stop. The second one ends the
/// program immediately, with exit code 1. Must be called on a runtime.
///
/// # Errors
///
/// The system lets the process register no handler of a signal.
pub(crate) fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = oneshot::channel();
    // On a thread of the runtime: the thread that awaits it may be blocked in writing.
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        // The receiver is gone if the program is ending already.
        let _ = sender.send(());
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(1);
    });
    Ok(async {
        let _ = receiver.await;
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
