//! The streams: found, checked, or created.
//!
//! # Which there are
//!
//! There are as many streams as partitions, `tapline-0` and so on. Each has in its metadata how many there are and
//! the version of the layout. `tapline-0` is created last, so where it exists, all do. A stream that exists is
//! never changed.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::connect::Connection;
use crate::error::NatsError;
use crate::message::VERSION;
use crate::name::{InstanceName, Partitions, stream_name, stream_subject};
use crate::options::StreamOptions;

/// In the metadata of a stream: how many there are.
const PARTITIONS: &str = "tapline.partitions";

/// In the metadata of a stream: the version of the layout.
const LAYOUT_VERSION: &str = "tapline.version";

/// How long the server recognises a repeated message id. It is short because ids take memory, and because nothing
/// depends on it: each message has the sequence of the one before it as a condition.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(10);

/// An instance without the rights to create streams may lack these, too.
pub(crate) const HINT: &str =
    "JetStream may be switched off there, or these credentials may lack the rights for that";

/// How many partitions there are; `None` where there are no streams.
///
/// # Errors
///
/// [`NatsError`] where the server does not answer, or the streams are not ours.
pub async fn find_partitions(connection: &Connection) -> Result<Option<Partitions>, NatsError> {
    match config(connection, 0).await? {
        Some(config) => partitions_of(&config).map(Some),
        None => Ok(None),
    }
}

/// Checks the streams that this instance needs, and creates all where there are none. A stream that is missing
/// among others is created again as `tapline-0` is.
///
/// # Errors
///
/// [`NatsError`] where the server does not answer, or a stream is not what was asked for.
pub async fn ensure_streams(
    connection: &Connection,
    options: &StreamOptions,
    instance: &InstanceName,
) -> Result<Partitions, NatsError> {
    let Some(first) = config(connection, 0).await? else {
        let partitions = options.partitions.unwrap_or_default();
        for partition in partitions.iter().rev() {
            let config = new_config(partition, partitions, options);
            create(connection, partition, config, options).await?;
        }
        tracing::info!(
            partitions = partitions.count(),
            url = connection.url(),
            "the NATS streams are created"
        );
        return Ok(partitions);
    };
    let partitions = check(&first, 0, options)?;
    let own = partitions.of(instance);
    if own == 0 {
        return Ok(partitions);
    }
    match config(connection, own).await? {
        Some(config) => {
            let found = check(&config, own, options)?;
            same_partitions(&config, found, partitions)?;
        }
        None => {
            let stream = stream_name(own);
            tracing::warn!(stream, "a NATS stream is missing, and is created again");
            let config = Config {
                name: stream,
                subjects: vec![stream_subject(own)],
                ..first
            };
            create(connection, own, config, options).await?;
        }
    }
    Ok(partitions)
}

async fn config(connection: &Connection, partition: u32) -> Result<Option<Config>, NatsError> {
    let name = stream_name(partition);
    match connection.jetstream().get_stream(&name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(ref reason)
                if reason.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => {
                let operation = format!("say whether the stream {name} exists");
                Err(connection.failed(operation, HINT, error))
            }
        },
    }
}

fn new_config(partition: u32, partitions: Partitions, options: &StreamOptions) -> Config {
    let max_bytes = options
        .max_bytes
        .unwrap_or(StreamOptions::DEFAULT_MAX_BYTES);
    let max_age = options.max_age.unwrap_or(StreamOptions::DEFAULT_MAX_AGE);
    Config {
        name: stream_name(partition),
        description: Some("Blocks of events of Tapline".to_owned()),
        subjects: vec![stream_subject(partition)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: options.replicas.unwrap_or(1),
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        max_age,
        duplicate_window: match max_age.is_zero() {
            true => DUPLICATE_WINDOW,
            // The server refuses a longer one.
            false => DUPLICATE_WINDOW.min(max_age),
        },
        allow_direct: true,
        allow_atomic_publish: true,
        metadata: HashMap::from([
            (PARTITIONS.to_owned(), partitions.count().to_string()),
            (LAYOUT_VERSION.to_owned(), VERSION.to_string()),
        ]),
        ..Config::default()
    }
}

/// Another instance may create it at the same time: with the same configuration that is no error.
async fn create(
    connection: &Connection,
    partition: u32,
    config: Config,
    options: &StreamOptions,
) -> Result<(), NatsError> {
    let name = config.name.clone();
    let asked = partitions_of(&config)?;
    let error = match connection.jetstream().create_stream(config).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    if let CreateStreamErrorKind::JetStream(ref reason) = error.kind()
        && reason.error_code() == ErrorCode::STREAM_NAME_EXIST
    {
        let Some(found) = self::config(connection, partition).await? else {
            return Ok(());
        };
        let partitions = check(&found, partition, options)?;
        return same_partitions(&found, partitions, asked);
    }
    let hint = match error.kind() {
        CreateStreamErrorKind::JetStream(ref reason)
            if [
                ErrorCode::STORAGE_RESOURCES_EXCEEDED,
                ErrorCode::INSUFFICIENT_RESOURCES,
                ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
            ]
            .contains(&reason.error_code()) =>
        {
            "it reserves the most bytes of all streams at once: ask for fewer bytes or partitions, or give it more storage"
        }
        _ => HINT,
    };
    Err(connection.failed(format!("create the stream {name}"), hint, error))
}

/// Whether a stream is ours, and has what was asked for.
fn check(
    config: &Config,
    partition: u32,
    options: &StreamOptions,
) -> Result<Partitions, NatsError> {
    let partitions = partitions_of(config)?;
    let subjects = [stream_subject(partition)];
    if config.subjects != subjects {
        return Err(NatsError::Stream {
            stream: config.name.clone(),
            field: "the subjects",
            found: config.subjects.join(","),
            asked: subjects[0].clone(),
        });
    }
    let bytes = |it: i64| match u64::try_from(it) {
        Ok(bytes) => format!("{bytes} bytes"),
        Err(_) => "no limit".to_owned(),
    };
    let age = |it: Duration| match it.is_zero() {
        true => "no limit".to_owned(),
        false => format!("{it:?}"),
    };
    let count = |it: usize| it.to_string();
    let max_bytes = options.max_bytes;
    let max_bytes = max_bytes.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
    let fields = [
        (
            "the number of partitions",
            count(partitions.count() as usize),
            options.partitions.map(|it| count(it.count() as usize)),
        ),
        (
            "the number of replicas",
            count(config.num_replicas),
            options.replicas.map(count),
        ),
        (
            "the most age",
            age(config.max_age),
            options.max_age.map(age),
        ),
        (
            "the most bytes",
            bytes(config.max_bytes),
            max_bytes.map(bytes),
        ),
    ];
    for (field, found, asked) in fields {
        if let Some(asked) = asked.filter(|asked| *asked != found) {
            return Err(NatsError::Stream {
                stream: config.name.clone(),
                field,
                found,
                asked,
            });
        }
    }
    Ok(partitions)
}

fn same_partitions(config: &Config, found: Partitions, asked: Partitions) -> Result<(), NatsError> {
    match found == asked {
        true => Ok(()),
        false => Err(NatsError::Stream {
            stream: config.name.clone(),
            field: "the number of partitions",
            found: found.count().to_string(),
            asked: asked.count().to_string(),
        }),
    }
}

fn partitions_of(config: &Config) -> Result<Partitions, NatsError> {
    let not_ours = |reason: String| NatsError::NotOurs {
        stream: config.name.clone(),
        reason,
    };
    let number = |key: &str| config.metadata.get(key)?.parse::<u32>().ok();
    match number(LAYOUT_VERSION) {
        Some(VERSION) => {}
        Some(later) => {
            return Err(not_ours(format!(
                "it has version {later} of the layout, and this program knows version {VERSION}; update it"
            )));
        }
        None => {
            return Err(not_ours(format!(
                "its metadata has no `{LAYOUT_VERSION}`, so another program has created it; rename or delete it"
            )));
        }
    }
    number(PARTITIONS).and_then(Partitions::new).ok_or_else(|| {
        not_ours(format!(
            "its metadata has no valid `{PARTITIONS}`; restore it, or delete the stream"
        ))
    })
}
