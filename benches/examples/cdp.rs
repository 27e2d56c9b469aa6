//! Hands the recorded session to a core, as often as the argument says, for a profiler:
//!
//! `valgrind --tool=callgrind target/release/examples/cdp 1`, and the same with 2. The difference is what the session costs.

use tapline_benches::recorded::{connected, replay, session};
use tapline_oapi::CategorySet;

fn main() {
    let times = std::env::args()
        .nth(1)
        .map_or(1, |it| it.parse().expect("a number"));
    let messages = session();
    for _ in 0..times {
        let mut core = connected(CategorySet::ALL, messages[0].at);
        assert!(replay(&mut core, &messages) >= 310);
    }
}
