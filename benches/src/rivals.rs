//! The field: Tapline, its bare ring, and those that it is measured against.
//!
//! They do not all do the same, and that has to be kept in mind with each figure:
//!
//! | | stamps, filters, counts by category | a slow reader | a reader gets | wakes readers |
//! |---|---|---|---|---|
//! | `tapline` | yes | lags, losses by category | an envelope with seq and JSON | yes |
//! | `tapline-batch` | yes, in batches of 1,000 | lags, losses by category | an envelope with seq and JSON | yes |
//! | `ring` | no | lags, lost seqs | a record with its seq | yes |
//! | `tokio` | no | lags, number lost | the event | yes |
//! | `async-broadcast` | no | lags, number lost | the event | yes |
//! | `disruptor` | no | **stops the producers** | the event, with nothing counted | no: it spins or naps |
//! | `mutex-ring` | no | lags, number lost | the event | yes |
//! | `go-design` | stamps and filters | lags, number lost | an envelope with seq and JSON | yes |

mod async_broadcast;
mod disruptor;
mod go_design;
mod mutex_ring;
mod nothing;
mod ring;
mod tapline;
mod tokio;

pub(crate) use async_broadcast::AsyncBroadcast;
pub(crate) use disruptor::Disruptor;
pub(crate) use go_design::{GoDesign, GoDesignFiltered};
pub(crate) use mutex_ring::MutexRing;
pub(crate) use nothing::{EmptyLoop, HandOver};
pub(crate) use ring::BareRing;
pub(crate) use tapline::{Tapline, TaplineBatch, TaplineFiltered};
pub(crate) use tokio::Tokio;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::rival::{Opened, Passed, Producer, Reader, ReadsJson, Rival, Wanted};
    use crate::{BATCH, RETAINED, TS, small};

    fn open<R: Rival>(readers: usize, asleep: bool) -> Opened<R> {
        let filling = [Arc::new(small().with_ts(TS))];
        let wanted = Wanted {
            producers: 2,
            readers,
            asleep,
            filling: &filling,
        };
        match R::open(&wanted) {
            Ok(opened) => {
                assert_eq!(opened.producers.len(), 2);
                assert_eq!(opened.readers.len(), readers);
                opened
            }
            Err(reason) => panic!("{}: {reason:?}", R::NAME),
        }
    }

    /// What each measurement takes for granted.
    fn check<R: Rival>() {
        reads_what_was_published_since_it_was_opened::<R>();
        reports_what_a_reader_lost::<R>();
        sleeps_until_something_is_published::<R>();
    }

    fn reads_what_was_published_since_it_was_opened<R: Rival>() {
        let event = Arc::new(small().with_ts(TS));
        let mut opened = open::<R>(2, false);
        for reader in &mut opened.readers {
            assert_eq!(reader.read(), Passed::default(), "{}", R::NAME);
        }
        for producer in &mut opened.producers {
            for _ in 0..BATCH {
                producer.publish(&event);
            }
        }
        let batch = Passed {
            delivered: BATCH as u64,
            lost: 0,
        };
        for reader in &mut opened.readers {
            let read = [reader.read(), reader.read(), reader.read()];
            assert_eq!(read, [batch, batch, Passed::default()], "{}", R::NAME);
        }
    }

    fn reports_what_a_reader_lost<R: Rival>() {
        const TOO_MANY: usize = 10;
        let event = Arc::new(small().with_ts(TS));
        let mut opened = open::<R>(1, false);
        for _ in 0..RETAINED + TOO_MANY {
            opened.producers[0].publish(&event);
        }
        let mut all = Passed::default();
        loop {
            let passed = opened.readers[0].read();
            if passed == Passed::default() {
                break;
            }
            all += passed;
        }
        let lost = TOO_MANY as u64;
        let delivered = RETAINED as u64;
        assert_eq!(all, Passed { delivered, lost }, "{}", R::NAME);
    }

    fn sleeps_until_something_is_published<R: Rival>() {
        /// Only a failure waits so long.
        const PATIENCE: Duration = Duration::from_secs(20);

        #[derive(Default)]
        struct Calls(AtomicU64);

        impl Wake for Calls {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }

        let event = Arc::new(small().with_ts(TS));
        let mut opened = open::<R>(1, true);
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(calls.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            let mut next = pin!(opened.readers[0].next());
            assert!(next.as_mut().poll(&mut cx).is_pending(), "{}", R::NAME);
            // Asked again without having been called: it still has to be called.
            assert!(next.as_mut().poll(&mut cx).is_pending(), "{}", R::NAME);
            let before = calls.0.load(Relaxed);
            opened.producers[0].publish(&event);
            // Some have a thread of their own for that.
            let begin = Instant::now();
            while before == calls.0.load(Relaxed) {
                assert!(begin.elapsed() < PATIENCE, "{} calls it", R::NAME);
                thread::yield_now();
            }
            assert_eq!(next.poll(&mut cx), Poll::Ready(Passed::ONE), "{}", R::NAME);
        }
    }

    #[test]
    fn tapline_does_what_is_measured() {
        check::<Tapline>();
    }

    #[test]
    fn a_batch_of_tapline_does_what_is_measured() {
        check::<TaplineBatch>();
        let event = Arc::new(small().with_ts(TS));
        let mut opened = open::<TaplineBatch>(1, false);
        opened.producers[0].publish_all(std::iter::repeat_n(&event, BATCH));
        let passed = opened.readers[0].read();
        assert_eq!(passed.delivered, BATCH as u64);
    }

    #[test]
    fn the_bare_ring_does_what_is_measured() {
        check::<BareRing>();
    }

    #[test]
    fn tokio_does_what_is_measured() {
        check::<Tokio>();
    }

    #[test]
    fn async_broadcast_does_what_is_measured() {
        check::<AsyncBroadcast>();
    }

    #[test]
    fn the_mutex_ring_does_what_is_measured() {
        check::<MutexRing>();
    }

    #[test]
    fn the_go_design_does_what_is_measured() {
        check::<GoDesign>();
    }

    /// It neither sleeps nor loses; see there.
    #[test]
    fn the_disruptor_does_what_is_measured_of_it() {
        reads_what_was_published_since_it_was_opened::<Disruptor>();
    }

    #[test]
    fn both_that_have_json_give_each_event_as_json() {
        fn check<R: Rival<Reader: ReadsJson>>() {
            let event = Arc::new(small().with_ts(TS));
            let mut opened = open::<R>(1, false);
            opened.producers[0].publish(&event);
            assert_eq!(opened.readers[0].read_json(), Passed::ONE, "{}", R::NAME);
        }
        check::<Tapline>();
        check::<GoDesign>();
    }

    #[test]
    fn what_is_filtered_does_not_reach_a_reader() {
        fn check<R: Rival>() {
            let event = Arc::new(small().with_ts(TS));
            let mut opened = open::<R>(1, false);
            opened.producers[0].publish(&event);
            assert_eq!(opened.readers[0].read(), Passed::default(), "{}", R::NAME);
        }
        check::<TaplineFiltered>();
        check::<GoDesignFiltered>();
    }
}
