//! Where the events of a server go besides its streams.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tapline_api::{ApiService, History, MemoryHistory, SinkSwitch, TypePattern};
use tapline_archive::{ArchiveError, ArchiveOptions, ArchiveSink, FlightRecorder, RecorderOptions};

use tapline_nats::NatsSink;

use crate::args::{Archive, Dumps, Nats, Otlp};
use crate::failure::Failure;

/// How long the program waits for NATS before it serves without it for the present.
const NATS_PATIENCE: Duration = Duration::from_secs(3);

/// The service with the sinks that the flags ask for. They are on from here on.
pub(crate) async fn add(
    mut api: ApiService,
    archive: Archive,
    otlp: Otlp,
    nats: Nats,
    dumps: Dumps,
    memory: MemoryHistory,
) -> Result<ApiService, Failure> {
    if let Some(sink) = otlp.sink()? {
        let (with_sink, task) = api.with_sink(SinkSwitch::Otlp, sink);
        api = with_sink;
        tokio::spawn(task);
    }
    let mut stored: Option<Arc<dyn History>> = None;
    if let Some(dir) = archive.archive {
        let options = ArchiveOptions {
            max_bytes: archive.archive_bytes,
            max_age: archive.archive_age,
            ..ArchiveOptions::new(dir)
        };
        let sink = open("--archive", || ArchiveSink::open(options)).await?;
        let archive = sink.archive();
        stored = Some(Arc::new(archive.clone()));
        let (with_sink, task) = api
            .with_archive(archive)
            .with_sink(SinkSwitch::Storage, sink);
        api = with_sink;
        tokio::spawn(task);
    }
    if let Some(sink) = nats.sink(stored.clone())? {
        prepare(&sink).await?;
        let (with_sink, task) = api.with_sink(SinkSwitch::Always, sink);
        api = with_sink;
        tokio::spawn(task);
    }
    if let Some(dir) = dumps.dump_dir {
        let triggers = dumps.dump_on.iter().map(|it| TypePattern::new(it));
        let options = RecorderOptions {
            before: dumps.dump_before,
            after: dumps.dump_after,
            ..RecorderOptions::new(dir, triggers.collect())
        };
        let recorder = open("--dump-dir", || {
            FlightRecorder::new(options, Arc::new(memory), stored)
        })
        .await?;
        let (with_sink, task) = api.with_sink(SinkSwitch::Always, recorder);
        api = with_sink;
        tokio::spawn(task);
    }
    Ok(api)
}

/// What a later attempt may cure does not keep the program from serving: the sink tries again.
async fn prepare(sink: &NatsSink) -> Result<(), Failure> {
    match tokio::time::timeout(NATS_PATIENCE, sink.prepare()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_temporary() => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, reason, "events wait in memory until NATS can be used");
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            tracing::warn!("NATS does not answer; events wait in memory until it can be used");
        }
    }
    Ok(())
}

/// Opens the directory that this flag names.
async fn open<T: Send + 'static>(
    flag: &'static str,
    open: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened.map_err(|source| Failure::Directory { flag, source }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
