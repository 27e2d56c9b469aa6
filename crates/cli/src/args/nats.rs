//! The flags of the export to NATS JetStream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tapline_api::History;
use tapline_nats::{InstanceName, NatsOptions, NatsSink, Partitions, SinkOptions};

use crate::failure::Failure;
use crate::units;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Export to NATS JetStream (docs/nats.md)")]
pub(crate) struct Nats {
    /// Store all events in these NATS servers, too, each event once: nats://HOST:PORT or tls://HOST:PORT, those of a
    /// cluster joined by commas. Needs nats-server 2.12 or later with JetStream
    #[arg(long, value_name = "URL")]
    #[arg(env = "TAPLINE_NATS", hide_env_values = true)]
    pub(crate) nats: Option<String>,

    /// The name under which events are stored in NATS: letters, digits, `_` and `-`. Each program that runs needs one
    /// of its own, and keeps it over restarts. By default the name of this host
    #[arg(long, value_name = "NAME", requires = "nats")]
    #[arg(env = "TAPLINE_INSTANCE", hide_env_values = true)]
    pub(crate) instance: Option<InstanceName>,

    #[command(flatten)]
    pub(crate) connection: NatsConnection,

    /// Spread the instances over this many streams. By default as many as there are, and 16 where there are none.
    /// All instances need the same number
    #[arg(long, value_name = "COUNT", requires = "nats", value_parser = partitions)]
    #[arg(env = "TAPLINE_NATS_PARTITIONS", hide_env_values = true)]
    pub(crate) nats_partitions: Option<Partitions>,

    /// Store each stream on this many servers of the cluster. Where the streams exist, it is checked and not changed,
    /// as are the age and the bytes
    #[arg(long, value_name = "COUNT", requires = "nats", value_parser = replicas)]
    #[arg(env = "TAPLINE_NATS_REPLICAS", hide_env_values = true)]
    pub(crate) nats_replicas: Option<usize>,

    /// Delete events in NATS that were stored longer ago than this; 7 days where the streams are created without it
    #[arg(long, value_name = "TIME", requires = "nats", value_parser = units::time)]
    #[arg(env = "TAPLINE_NATS_AGE", hide_env_values = true)]
    pub(crate) nats_age: Option<Duration>,

    /// Use at most this much space for each stream, which the server reserves; the oldest events are deleted first.
    /// 1GiB where the streams are created without it
    #[arg(long, value_name = "BYTES", requires = "nats", value_parser = units::bytes)]
    #[arg(env = "TAPLINE_NATS_BYTES", hide_env_values = true)]
    pub(crate) nats_bytes: Option<usize>,

    /// Let an event wait this long for others to share a message with, from 0ms to 60s. Longer means fewer messages for
    /// the servers, and events that are seen there later
    #[arg(long, value_name = "TIME", requires = "nats", value_parser = linger)]
    #[arg(default_value = "20ms")]
    #[arg(env = "TAPLINE_NATS_LINGER", hide_env_values = true)]
    pub(crate) nats_linger: Duration,
}

/// How to connect to the servers.
#[derive(Debug, clap::Args)]
pub(crate) struct NatsConnection {
    /// Connect with the credentials in this file: a .creds file, or lines `user: …` and `password: …`, `token: …`, or
    /// `nkey: …`. It is read again for each new connection
    #[arg(long, value_name = "FILE", requires = "nats")]
    #[arg(env = "TAPLINE_NATS_CREDS", hide_env_values = true)]
    pub(crate) nats_creds: Option<PathBuf>,

    /// Trust the certificates in this file (PEM) for tls, instead of those that the system trusts
    #[arg(long, value_name = "FILE", requires = "nats")]
    #[arg(env = "TAPLINE_NATS_CA_FILE", hide_env_values = true)]
    pub(crate) nats_ca_file: Option<PathBuf>,

    /// Show the server the certificate in this file (PEM), if it asks for one
    #[arg(long, value_name = "FILE", requires_all = ["nats", "nats_key"])]
    #[arg(env = "TAPLINE_NATS_CERT", hide_env_values = true)]
    pub(crate) nats_cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["nats", "nats_cert"])]
    #[arg(env = "TAPLINE_NATS_KEY", hide_env_values = true)]
    pub(crate) nats_key: Option<PathBuf>,
}

impl NatsConnection {
    pub(crate) fn options(&self, urls: &str) -> Result<NatsOptions, Failure> {
        let options = NatsOptions::new(urls);
        let mut options = options.map_err(|error| Failure::Usage(format!("--nats: {error}")))?;
        options.credentials_file.clone_from(&self.nats_creds);
        options.ca_file.clone_from(&self.nats_ca_file);
        options.client_cert = self.nats_cert.clone().zip(self.nats_key.clone());
        Ok(options)
    }
}

impl Nats {
    /// The servers, and the name under which this program is known there. `None` without servers.
    pub(crate) fn instance(&self) -> Result<Option<(NatsOptions, InstanceName)>, Failure> {
        let Some(urls) = &self.nats else {
            return Ok(None);
        };
        let instance = match &self.instance {
            Some(instance) => instance.clone(),
            None => host_name()?,
        };
        Ok(Some((self.connection.options(urls)?, instance)))
    }

    /// The sink, if there is a server. `archive`: where to read what memory has lost.
    pub(crate) fn sink(
        self,
        archive: Option<Arc<dyn History>>,
    ) -> Result<Option<NatsSink>, Failure> {
        let Some((nats, instance)) = self.instance()? else {
            return Ok(None);
        };
        let mut options = SinkOptions::new(nats, instance);
        options.streams.partitions = self.nats_partitions;
        options.streams.replicas = self.nats_replicas;
        options.streams.max_age = self.nats_age;
        options.streams.max_bytes = self.nats_bytes.map(|it| it as u64);
        options.linger = self.nats_linger;
        Ok(Some(NatsSink::new(options, archive)?))
    }
}

fn host_name() -> Result<InstanceName, Failure> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    InstanceName::new(&name).map_err(|error| {
        Failure::Usage(format!(
            "--nats: the name of this host cannot be that of the instance: {error}; pass --instance NAME"
        ))
    })
}

fn partitions(text: &str) -> Result<Partitions, String> {
    let count = text.parse().ok().and_then(Partitions::new);
    count.ok_or_else(|| format!("it must be a number from 1 to {}", Partitions::MAX))
}

fn linger(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(time) if time <= SinkOptions::MAX_LINGER => Ok(time),
        Ok(_) => Err("it must be from 0ms to 60s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn replicas(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|it| (1..=5).contains(it));
    count.ok_or_else(|| "it must be a number from 1 to 5".to_owned())
}
