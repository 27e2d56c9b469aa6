//! Which instances there are: [`Registry`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tapline_events::Epoch;
use tapline_oapi::InstanceInfo;

use crate::connect::Connection;
use crate::name::InstanceName;
use crate::presence::{Alive, BEAT, CENSUS_SUBJECT};

/// An instance that has said nothing for so long does not run.
const SILENCE: Duration = BEAT.saturating_mul(4);

/// An instance that has said nothing for so long is not listed any more. What it has stored can still be read.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// The instances that have reported. A cheap clone.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<BTreeMap<InstanceName, Report>>>);

/// The last report of an instance. It costs a few hundred bytes, however many clients read from the instance.
struct Report {
    alive: Alive,
    when: Instant,
    events_per_second: f64,
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
            match serde_json::from_slice(&message.payload) {
                Ok(alive) => self.note(name, alive, Instant::now()),
                Err(error) => {
                    tracing::debug!(instance = %name, %error, "what it says is not understood");
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
            Some(before) if before.alive.epoch == alive.epoch => {
                let time = when.duration_since(before.when).as_secs_f64();
                let events = alive.head.saturating_sub(before.alive.head) as f64;
                match time < BEAT.as_secs_f64() / 2.0 {
                    // It was asked in between: too short for a rate.
                    true => before.events_per_second,
                    false => events / time,
                }
            }
            _ => 0.0,
        };
        let report = Report {
            alive,
            when,
            events_per_second,
        };
        all.insert(name, report);
    }

    /// The epoch of an instance that runs.
    pub(crate) fn epoch(&self, name: &InstanceName) -> Option<Epoch> {
        let all = self.reports();
        let report = all.get(name)?;
        report.is_alive().then_some(report.alive.epoch)
    }

    /// All of them, by their names.
    pub(crate) fn list(&self) -> Vec<InstanceInfo> {
        let all = self.reports();
        let instances = all.iter().map(|(name, report)| InstanceInfo {
            name: name.to_string(),
            alive: report.is_alive(),
            seen: report.alive.at,
            epoch: report.alive.epoch,
            head: report.alive.head,
            stored: report.alive.stored,
            events_per_second: match report.is_alive() {
                true => (report.events_per_second * 10.0).round() / 10.0,
                false => 0.0,
            },
            session_id: report
                .alive
                .session
                .session
                .as_ref()
                .map(|it| it.id.clone()),
            version: report.alive.program.clone(),
        });
        instances.collect()
    }

    fn reports(&self) -> MutexGuard<'_, BTreeMap<InstanceName, Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn is_alive(&self) -> bool {
        !self.alive.leaving && self.when.elapsed() < SILENCE
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
            leaving: false,
        }
    }

    #[test]
    fn the_rate_is_that_of_the_time_between_two_signs_of_life() {
        let registry = Registry::default();
        let name = InstanceName::new("a").unwrap();
        let now = Instant::now();
        registry.note(name.clone(), alive(10), now - BEAT);
        assert_eq!(registry.list()[0].events_per_second, 0.0);
        registry.note(name.clone(), alive(110), now);
        assert_eq!(registry.list()[0].events_per_second, 50.0);
        let leaving = Alive {
            leaving: true,
            ..alive(110)
        };
        registry.note(name.clone(), leaving, now);
        let left = &registry.list()[0];
        assert!(!left.alive && left.events_per_second == 0.0);
        assert_eq!(registry.epoch(&name), None);
    }
}
