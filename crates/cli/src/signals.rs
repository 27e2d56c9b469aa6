//! Being asked to stop.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Resolves with the first SIGINT or SIGTERM, for stopping in good order. The second one ends the
/// program at once, with exit code 1, whatever it is busy with. To be called on a runtime.
///
/// # Errors
///
/// Where the system lets us listen to no signal.
pub(crate) fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (tell, told) = oneshot::channel();
    // On a thread of the runtime's: the one that waits for it may be stuck in writing.
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        // Nobody may care, being about to end anyway.
        let _ = tell.send(());
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(1);
    });
    Ok(async {
        let _ = told.await;
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
