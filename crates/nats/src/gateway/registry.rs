//! Which instances there are: [`Registry`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tapline_api::{InstancePart, InstanceQuery, InstanceSummary};
use tapline_events::Epoch;
use tapline_oapi::InstanceInfo;

use crate::connect::Connection;
use crate::name::InstanceName;
use crate::presence::{Alive, BEAT, CENSUS_SUBJECT};

/// An instance that has said nothing for so long does not run.
const SILENCE: Duration = BEAT.saturating_mul(4);

/// An instance that has said nothing for so long is not listed any more. What it has stored can still be read.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// The largest report that is taken, in bytes: it bounds what an instance can make a gateway keep. Usual ones have 700.
const MAX_REPORT: usize = 8 * 1024;

/// The instances that have reported. A cheap clone.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<Reports>>);

/// In boxes, since some nodes of the tree are half empty.
type Reports = BTreeMap<InstanceName, Box<Report>>;

/// What is kept of an instance. It costs a few hundred bytes, however many clients read from the instance.
struct Report {
    /// As of the last report, with the rate between the last two.
    info: InstanceInfo,
    when: Instant,
    leaving: bool,
}

impl Registry {
    /// Listens, for as long as the returned task runs, and asks all instances to say where they are.
    pub(crate) async fn listen(
        &self,
        connection: &Connection,
    ) -> Result<tokio::task::JoinHandle<()>, async_nats::Error> {
        let client = connection.client();
        let said = client.subscribe("tapline.alive.*").await?;
        client.publish(CENSUS_SUBJECT, Default::default()).await?;
        client.flush().await?;
        Ok(tokio::spawn(self.clone().receive(said)))
    }

    async fn receive(self, mut said: Subscriber) {
        let mut swept = Instant::now();
        while let Some(message) = said.next().await {
            let Ok(name) = InstanceName::of_subject(&message.subject) else {
                continue;
            };
            if MAX_REPORT < message.payload.len() {
                tracing::debug!(instance = %name, "its report is too large");
                continue;
            }
            match serde_json::from_slice(&message.payload) {
                Ok(alive) => self.note(name, alive, Instant::now()),
                Err(error) => {
                    tracing::debug!(instance = %name, %error, "its report is not understood");
                }
            }
            if FORGOTTEN / 10 < swept.elapsed() {
                swept = Instant::now();
                self.reports()
                    .retain(|_, report| report.when.elapsed() < FORGOTTEN);
            }
        }
    }

    fn note(&self, name: InstanceName, alive: Alive, when: Instant) {
        let mut all = self.reports();
        let before = all.get(&name);
        let events_per_second = match before {
            Some(before) if before.info.epoch == alive.epoch => {
                let time = when.duration_since(before.when).as_secs_f64();
                let events = alive.head.saturating_sub(before.info.head) as f64;
                match time < BEAT.as_secs_f64() / 2.0 {
                    // It was asked in between: too short for a rate.
                    true => before.info.events_per_second,
                    false => (events / time * 10.0).round() / 10.0,
                }
            }
            _ => 0.0,
        };
        let report = Report::new(&name, alive, when, events_per_second);
        all.insert(name, Box::new(report));
    }

    /// The epoch of an instance that runs.
    pub(crate) fn epoch(&self, name: &InstanceName) -> Option<Epoch> {
        let all = self.reports();
        let report = all.get(name)?;
        report.is_alive(Instant::now()).then_some(report.info.epoch)
    }

    /// Those that are asked for.
    pub(crate) fn list(&self, query: &InstanceQuery) -> InstancePart {
        let all = self.reports();
        // Read once: to look at the clock takes longer than all else that is done with an instance.
        let now = Instant::now();
        let all = all.values().map(|report| (report.summary(now), report));
        query.select(all, |report| report.describe(now))
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// Of the report that has come now, which says that the instance runs unless it leaves.
    fn new(name: &InstanceName, alive: Alive, when: Instant, events_per_second: f64) -> Self {
        Self {
            leaving: alive.leaving,
            when,
            info: InstanceInfo {
                name: name.to_string(),
                alive: true,
                seen: alive.at,
                silent_ms: 0,
                epoch: alive.epoch,
                head: alive.head,
                stored: alive.stored,
                events_per_second,
                last_event: alive.last_event,
                problems: alive.problems,
                session_id: alive.session.session.map(|it| it.id),
                version: alive.program,
            },
        }
    }

    fn is_alive(&self, now: Instant) -> bool {
        !self.leaving && now.duration_since(self.when) < SILENCE
    }

    /// One that does not run publishes nothing.
    fn events_per_second(&self, now: Instant) -> f64 {
        match self.is_alive(now) {
            true => self.info.events_per_second,
            false => 0.0,
        }
    }

    fn summary(&self, now: Instant) -> InstanceSummary<'_> {
        InstanceSummary {
            alive: self.is_alive(now),
            events_per_second: self.events_per_second(now),
            ..InstanceSummary::from(&self.info)
        }
    }

    fn describe(&self, now: Instant) -> InstanceInfo {
        InstanceInfo {
            alive: self.is_alive(now),
            silent_ms: now.duration_since(self.when).as_millis() as u64,
            events_per_second: self.events_per_second(now),
            ..self.info.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SessionChange;

    fn alive(head: u64) -> Alive {
        Alive {
            version: 1,
            program: "0.1.0".into(),
            at: 7,
            epoch: Epoch::from_bits(1),
            head,
            stored: head,
            session: SessionChange {
                after: 0,
                session: None,
            },
            last_event: None,
            problems: None,
            leaving: false,
        }
    }

    fn listed(registry: &Registry) -> Vec<InstanceInfo> {
        registry.list(&InstanceQuery::default()).list.instances
    }

    #[test]
    fn the_rate_is_that_of_the_time_between_two_signs_of_life() {
        let registry = Registry::default();
        let name = InstanceName::new("a").unwrap();
        let now = Instant::now();
        registry.note(name.clone(), alive(10), now - BEAT);
        assert_eq!(listed(&registry)[0].events_per_second, 0.0);
        registry.note(name.clone(), alive(110), now);
        assert_eq!(listed(&registry)[0].events_per_second, 50.0);
        let leaving = Alive {
            leaving: true,
            ..alive(110)
        };
        registry.note(name.clone(), leaving, now);
        let left = &listed(&registry)[0];
        assert!(!left.alive && left.events_per_second == 0.0);
        assert_eq!(registry.epoch(&name), None);
    }
}
