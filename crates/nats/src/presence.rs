//! What an instance says of itself, and what it answers: [`Presence`].
//!
//! Every two seconds an instance publishes where it is, so that gateways list it. A gateway that starts asks all to say
//! so at once. Nothing of this is stored. Versions understand each other: a field that one does not know is ignored, and those
//! that version 0.1.0 did not have are optional.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tapline_api::{ApiService, Backend as _};
use tapline_events::Epoch;
use tapline_oapi::{InstanceProblems, LastEvent};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::connect::Connection;
use crate::control::Responder;
use crate::error::NatsError;
use crate::message::{SessionChange, VERSION};
use crate::name::InstanceName;
use crate::options::NatsOptions;
use crate::problems::ProblemCounter;
use crate::sink;

/// How often an instance says that it runs.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// Where gateways ask all instances whether they run.
pub(crate) const CENSUS_SUBJECT: &str = "tapline.census";

/// The pause before another attempt to connect.
const PAUSE: Duration = Duration::from_secs(2);

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alive {
    /// Of what it says and understands.
    pub(crate) version: u32,
    /// The version of its program.
    pub(crate) program: String,
    /// When this is said, in microseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) epoch: Epoch,
    pub(crate) head: u64,
    /// The newest seq that the broker has.
    pub(crate) stored: u64,
    /// The session that runs now.
    pub(crate) session: SessionChange,
    /// The newest event of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_event: Option<LastEvent>,
    /// The problems of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problems: Option<InstanceProblems>,
    /// Whether this is the last that it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaving: bool,
}

/// An instance, as gateways see it beside its events: it says that it runs, and answers what they ask.
pub struct Presence {
    options: NatsOptions,
    instance: InstanceName,
    api: Arc<ApiService>,
    problems: ProblemCounter,
}

impl Presence {
    /// Of this service. Where one of its sinks is a [`NatsSink`](crate::NatsSink), it says how far that is.
    pub fn new(options: NatsOptions, instance: InstanceName, api: Arc<ApiService>) -> Self {
        Self {
            options,
            instance,
            api,
            problems: ProblemCounter::new(),
        }
    }

    /// Runs until `stopping` is ready, and says then that the instance leaves. Where the broker cannot be reached it
    /// tries again, for as long as it runs.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the instance says nothing more, and gateways notice after some seconds.
    pub async fn run(self, stopping: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = self.report(stopping) => {}
            () = self.problems.run(&self.api) => {}
        }
    }

    async fn report(&self, stopping: impl Future<Output = ()> + Send) {
        let responder = Arc::new(Responder::new(self.api.clone()));
        let mut stopping = std::pin::pin!(stopping);
        loop {
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = &mut stopping => return,
            };
            match connected {
                Ok(connection) => {
                    let served = tokio::select! {
                        served = self.serve(&connection, &responder) => served,
                        () = &mut stopping => {
                            self.say(&connection, true).await;
                            let _ = connection.client().flush().await;
                            return;
                        }
                    };
                    if let Err(error) = served {
                        tracing::warn!(%error, "NATS: gateways cannot see this instance");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "NATS: gateways cannot see this instance");
                }
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = &mut stopping => return,
            }
        }
    }

    async fn connect(&self) -> Result<Connection, NatsError> {
        Connection::open(&self.options, &format!("tapline {}", self.instance)).await
    }

    async fn serve(
        &self,
        connection: &Connection,
        responder: &Arc<Responder>,
    ) -> Result<(), async_nats::SubscribeError> {
        let client = connection.client();
        let mut requests = client.subscribe(self.instance.control_subject()).await?;
        let mut census = client.subscribe(CENSUS_SUBJECT).await?;
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = requests.next() => {
                    let Some(request) = request else { return Ok(()) };
                    let (responder, connection) = (responder.clone(), connection.clone());
                    tokio::spawn(async move { responder.answer(&connection, request).await });
                }
                asked = census.next() => {
                    if asked.is_none() {
                        return Ok(());
                    }
                    self.say(connection, false).await;
                }
                _ = beat.tick() => self.say(connection, false).await,
            }
        }
    }

    async fn say(&self, connection: &Connection, leaving: bool) {
        let (state, head) = self.api.snapshot();
        let sinks = self.api.sinks();
        let sink = sinks.iter().find(|it| it.name == sink::NAME);
        let alive = Alive {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            at: u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0),
            epoch: self.api.epoch(),
            head,
            stored: sink.map_or(0, |it| it.position),
            session: SessionChange::of(&state),
            last_event: self.api.newest().map(|it| LastEvent {
                seq: it.seq(),
                ts: it.ts(),
                event_type: it.event().event_type.to_string(),
                category: it.event().category.as_str().to_owned(),
            }),
            problems: Some(self.problems.report()),
            leaving,
        };
        let json = serde_json::to_vec(&alive).expect("our own types serialize");
        let said = connection
            .client()
            .publish(self.instance.alive_subject(), json.into());
        if let Err(error) = said.await {
            tracing::debug!(%error, "NATS: a sign of life was not sent");
        }
    }
}
