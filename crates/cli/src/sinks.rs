//! Where the events of a server go besides its streams.

use tapline_api::{ApiService, SinkSwitch};
use tapline_archive::{ArchiveOptions, ArchiveSink};

use crate::args::{Archive, Otlp};
use crate::failure::Failure;

/// The service with the sinks that the flags ask for. They are on from here on.
pub(crate) async fn add(
    mut api: ApiService,
    archive: Archive,
    otlp: Otlp,
) -> Result<ApiService, Failure> {
    if let Some(sink) = otlp.sink()? {
        let (with_sink, task) = api.with_sink(SinkSwitch::Otlp, sink);
        api = with_sink;
        tokio::spawn(task);
    }
    if let Some(dir) = archive.archive {
        let options = ArchiveOptions {
            max_bytes: archive.archive_bytes,
            max_age: archive.archive_age,
            ..ArchiveOptions::new(dir)
        };
        let open = tokio::task::spawn_blocking(|| ArchiveSink::open(options));
        let sink = match open.await {
            Ok(opened) => opened.map_err(Failure::Archive)?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let archive = sink.archive();
        let (with_sink, task) = api
            .with_archive(archive)
            .with_sink(SinkSwitch::Storage, sink);
        api = with_sink;
        tokio::spawn(task);
    }
    Ok(api)
}
