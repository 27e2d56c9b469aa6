//! What is evicted is freed soon: what waits for it is a small part of the bound by weight, also when
//! everybody has gone quiet.
//!
//! A binary of its own: epochs belong to the process, and another test's thread that is stopped by the
//! system in the middle of a read would keep alive what this one counts.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tapline_ring::{Bounds, Ring};

#[test]
fn memory_stays_within_the_bound_by_weight() {
    const BOUND: u64 = 1 << 20;
    struct Heavy(u64, Arc<AtomicUsize>);
    impl Drop for Heavy {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0 as usize, Ordering::Relaxed);
        }
    }

    let live = Arc::new(AtomicUsize::new(0));
    let bounds = Bounds {
        records: 65_536,
        weight: BOUND,
        weigh: |heavy: &Heavy| heavy.0,
    };
    let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
    let mut most = 0;
    for n in 0..20_000_u64 {
        let weight = [100, 2_000, 50_000, 300_000][n as usize % 4];
        live.fetch_add(weight as usize, Ordering::Relaxed);
        ring.append(Heavy(weight, live.clone()), |_, (), _| Ok::<_, ()>(()))
            .ok()
            .unwrap();
        most = most.max(live.load(Ordering::Relaxed) as u64);
        assert!(ring.retained().weight <= BOUND);
    }
    assert!(
        most < 3 * BOUND,
        "{most} bytes were alive at once, {BOUND} were allowed"
    );
    // Nobody does anything any more, and it is not more than that.
    let quiet = live.load(Ordering::Relaxed) as u64;
    assert!(quiet < 3 * BOUND, "{quiet} bytes stay alive");
}
