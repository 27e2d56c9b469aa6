//! A future with a deadline, without an async runtime.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use futures_timer::Delay;

/// What the future gives; `None` where it is not ready at the deadline.
pub(crate) async fn before<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        // Made only for a future that has to wait.
        let timer = timer.get_or_insert_with(|| {
            Box::pin(Delay::new(
                deadline.saturating_duration_since(Instant::now()),
            ))
        });
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
