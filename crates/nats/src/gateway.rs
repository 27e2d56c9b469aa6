//! Many instances, served from what the broker has of them: [`NatsFleet`].
//!
//! A gateway keeps nothing that another could not make again: instances report that they run, and their events are
//! read from the broker. So there can be any number of gateways, and a client that resumes at another one gets what
//! follows.

mod all;
mod follow;
mod history;
mod instance;
mod registry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tapline_api::{
    ApiError, Fleet, FleetQuery, FleetReader, HistoryError, InstancePart, InstanceQuery, NotReady,
    Retention,
};
use tokio::task::JoinHandle;

use crate::connect::Connection;
use crate::control::Caller;
use crate::error::NatsError;
use crate::name::{InstanceName, Partitions};
use crate::options::NatsOptions;
use crate::streams::find_partitions;
use all::AllReader;
use follow::Follower;
use history::Blocks;
pub use instance::Instance;
use registry::Registry;

/// What a gateway keeps in memory of each instance that is read from: 8,192 events, 16 MiB, and a category log of
/// 65,536. What is older is read from the broker.
pub const GATEWAY_RETENTION: Retention = Retention {
    events: 8192,
    bytes: 16 * 1024 * 1024,
    category_log: 65_536,
};

/// The instances that send their events to a broker.
pub struct NatsFleet {
    connection: Connection,
    partitions: Partitions,
    retention: Retention,
    registry: Registry,
    /// Those that are read from, and were lately. Each is opened by one call at a time.
    instances: Mutex<HashMap<InstanceName, Arc<Place>>>,
    /// One for each partition that an instance was opened of.
    followers: Mutex<HashMap<u32, Arc<Follower>>>,
    listening: JoinHandle<()>,
}

/// Where an instance is while it is open.
type Place = tokio::sync::Mutex<Weak<Instance>>;

impl NatsFleet {
    /// Connects. `retention` is what is kept in memory of each instance that is read from.
    ///
    /// # Errors
    ///
    /// [`NatsError`] where the server cannot be used, or no instance has created the streams yet.
    pub async fn open(options: &NatsOptions, retention: Retention) -> Result<Self, NatsError> {
        let connection = Connection::open(options, "tapline gateway").await?;
        let partitions =
            find_partitions(&connection)
                .await?
                .ok_or_else(|| NatsError::NoStreams {
                    url: connection.url().to_owned(),
                })?;
        let registry = Registry::default();
        let listening = registry.listen(&connection).await;
        let listening = listening.map_err(|source| NatsError::Unreachable {
            url: connection.url().to_owned(),
            source,
        })?;
        Ok(Self {
            connection,
            partitions,
            retention,
            registry,
            instances: Mutex::default(),
            followers: Mutex::default(),
            listening,
        })
    }

    fn place(&self, name: &InstanceName) -> Arc<Place> {
        let mut places = lock(&self.instances);
        if let Some(place) = places.get(name) {
            return place.clone();
        }
        // Those that no client reads from, and no call is about to.
        places.retain(|_, place| {
            1 < Arc::strong_count(place) || place.try_lock().is_ok_and(|it| 0 < it.strong_count())
        });
        places.entry(name.clone()).or_default().clone()
    }

    fn follower(&self, partition: u32) -> Arc<Follower> {
        let mut followers = lock(&self.followers);
        let follower = followers.entry(partition).or_insert_with(|| {
            let connection = self.connection.clone();
            Arc::new(Follower::new(connection, self.partitions, partition))
        });
        follower.clone()
    }

    async fn begin(&self, name: &InstanceName) -> Result<Instance, ApiError> {
        let blocks = Blocks::new(&self.connection, self.partitions, name)
            .await
            .map_err(broker)?;
        // Cheap, and most names that are wrong are found here.
        let epoch = self.registry.epoch(name);
        if epoch.is_none() && blocks.last().await.map_err(broker)?.is_none() {
            return Err(ApiError::UnknownInstance(name.to_string()));
        }
        // Everything that is stored from here on is delivered; what was stored before is read.
        let watch = self.follower(self.partitions.of(name)).watch(name).await?;
        let last = blocks.newest().await.map_err(broker)?;
        let epoch = match &last {
            Some(_) => epoch.unwrap_or(tapline_api::Epoch::from_bits(0)),
            None => epoch.ok_or_else(|| ApiError::UnknownInstance(name.to_string()))?,
        };
        let caller = Caller(self.connection.clone());
        Instance::new(
            name.clone(),
            self.retention,
            blocks,
            last.as_ref(),
            epoch,
            watch,
            caller,
        )
        .await
    }
}

impl Drop for NatsFleet {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Fleet for NatsFleet {
    type Backend = Instance;

    async fn open(&self, name: &str) -> Result<Arc<Instance>, ApiError> {
        let unknown = || ApiError::UnknownInstance(name.chars().take(64).collect());
        let name = InstanceName::new(name).map_err(|_| unknown())?;
        let place = self.place(&name);
        let mut place = place.lock().await;
        if let Some(instance) = place.upgrade()
            && !instance.is_over()
        {
            return Ok(instance);
        }
        let instance = Arc::new(self.begin(&name).await?);
        *place = Arc::downgrade(&instance);
        Ok(instance)
    }

    fn ended(&self, backend: &Instance) -> impl Future<Output = ()> + Send + 'static {
        backend.ended()
    }

    fn instances(&self, query: &InstanceQuery) -> InstancePart {
        self.registry.list(query)
    }

    async fn read(&self, query: &FleetQuery) -> Result<Box<dyn FleetReader>, ApiError> {
        let follower = |partition| self.follower(partition);
        let reader = AllReader::open(&self.connection, self.partitions, follower, query).await?;
        Ok(Box::new(reader))
    }

    fn readiness(&self) -> Result<(), NotReady> {
        match self.connection.is_connected() {
            true => Ok(()),
            false => Err(NotReady(self.connection.unreachable())),
        }
    }
}

fn broker(error: HistoryError) -> ApiError {
    ApiError::Broker(error.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
