//! The facade's own check for sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tapline_api::Filter;
use tapline_api::conformance::{Arrived, SinkTarget, check_sink};
use tapline_nats::message::decode;
use tapline_nats::{InstanceName, NatsSink};
use tokio::runtime::Runtime;

use crate::proxy::Proxy;
use crate::rig::options;
use crate::server::Server;

struct Target {
    runtime: Arc<Runtime>,
    server: Arc<Server>,
    proxy: Proxy,
    instance: InstanceName,
}

impl SinkTarget for Target {
    type Sink = NatsSink;

    fn sink(&self) -> NatsSink {
        let options = options(self.proxy.options(), self.instance.as_str());
        NatsSink::new(options, None).unwrap()
    }

    fn fail_next(&self, attempts: usize) {
        self.proxy.refuse(attempts);
    }

    fn arrived(&self) -> Vec<Arrived> {
        let stored = self.runtime.block_on(self.server.stored(&self.instance, 1));
        let mut arrived = Vec::new();
        for (_, headers, payload) in stored {
            let (_, block) = decode(&headers, &payload).unwrap();
            let gaps = block.meta().gaps.iter();
            let gaps = gaps.map(|gap| (*gap.start(), *gap.end()));
            let all = Filter::all();
            let events = block.events(1..=u64::MAX, &all);
            let events = events.map(|event| (event.seq(), event.seq()));
            let mut items: Vec<_> = gaps
                .map(|it| (it, true))
                .chain(events.map(|it| (it, false)))
                .collect();
            items.sort_unstable();
            arrived.extend(
                items
                    .into_iter()
                    .map(|((first, last), is_gap)| match is_gap {
                        true => Arrived::Gap { first, last },
                        false => Arrived::Event(first),
                    }),
            );
        }
        arrived
    }
}

#[test]
fn it_conforms() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let runtime = Arc::new(Runtime::new().unwrap());
    // The check asks for the cursor on this thread.
    let _entered = runtime.enter();
    let count = AtomicU32::new(0);
    let checked = check_sink(
        || Target {
            runtime: runtime.clone(),
            server: server.clone(),
            proxy: runtime.block_on(Proxy::new(server.port)),
            instance: format!("target-{}", count.fetch_add(1, Ordering::Relaxed))
                .parse()
                .unwrap(),
        },
        |task| {
            runtime.spawn(task);
        },
    );
    checked.unwrap();
}
