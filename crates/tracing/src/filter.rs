//! What the layer is called for: [`CaptureFilter`].

use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use crate::output::Gate;

/// Excludes everything while no session captures the layer's category, what is more verbose than
/// [`Options::level`](crate::Options::level), and Tapline's own log. Other layers of the program are not affected.
///
/// As long as it excludes everything, `tracing` does not call the layer at all; when a session begins, `tracing` is made to ask again.
pub struct CaptureFilter {
    pub(crate) gate: Arc<Gate>,
    pub(crate) level: LevelFilter,
}

impl CaptureFilter {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && !is_ours(metadata.target()) && self.gate.is_open()
    }
}

impl<S: Subscriber> Filter<S> for CaptureFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.gate.is_open() {
            true => self.level,
            false => LevelFilter::OFF,
        })
    }
}

impl std::fmt::Debug for CaptureFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureFilter")
            .field("level", &self.level)
            .field("captures", &self.gate.is_open())
            .finish()
    }
}

/// Whether a record is of Tapline itself. What publishing logs would otherwise be published.
fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name == "tapline" || name.starts_with("tapline_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_tapline_is_known_by_its_first_part() {
        assert!(is_ours("tapline") && is_ours("tapline_server::serve"));
        assert!(!is_ours("taplines") && !is_ours("shop::tapline") && !is_ours(""));
    }
}
