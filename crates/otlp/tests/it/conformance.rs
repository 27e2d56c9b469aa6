//! The facade's own check for sinks.

use std::sync::Arc;

use tapline_api::conformance::{Arrived, SinkTarget, check_sink};
use tapline_otlp::OtlpSink;
use tokio::runtime::Runtime;

use crate::mock::{Mock, Reply};
use crate::rig::options;

struct Target(Mock);

impl SinkTarget for Target {
    type Sink = OtlpSink;

    fn sink(&self) -> OtlpSink {
        OtlpSink::new(options(&self.0.url())).unwrap()
    }

    fn fail_next(&self, attempts: usize) {
        let faults = [
            Reply::status(503),
            Reply::CloseEarly,
            Reply::Raw(b"what?\r\n\r\n".to_vec()),
        ];
        self.0.script(faults.into_iter().cycle().take(attempts));
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.0.arrived()
    }
}

#[test]
fn it_conforms() {
    let runtime = Arc::new(Runtime::new().unwrap());
    let checked = check_sink(
        || Target(Mock::new()),
        |task| {
            runtime.spawn(task);
        },
    );
    checked.unwrap();
}
