//! Where the events of a server go besides its streams.

use std::sync::Arc;

use tapline_api::{ApiService, History, MemoryHistory, SinkSwitch, TypePattern};
use tapline_archive::{ArchiveError, ArchiveOptions, ArchiveSink, FlightRecorder, RecorderOptions};

use crate::args::{Archive, Dumps, Otlp};
use crate::failure::Failure;

/// The service with the sinks that the flags ask for. They are on from here on.
pub(crate) async fn add(
    mut api: ApiService,
    archive: Archive,
    otlp: Otlp,
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
