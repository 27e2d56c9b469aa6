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
/// Each log statement at that level asks it, whether a session captures or not: a load and two comparisons. `tracing` could cache the
/// answer, and be made to ask again when a session begins. But it then asks the subscriber of the thread that makes it, which
/// is not one that another thread or scope has; and of two threads that do so at once, each can store what was true before the other. Then
/// statements would be silent while a session captures them.
pub struct CaptureFilter {
    pub(crate) gate: Arc<Gate>,
    pub(crate) level: LevelFilter,
}

impl CaptureFilter {
    /// Whether the statement is one that is wanted while a session captures.
    fn can_want(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && !is_ours(metadata.target())
    }
}

impl<S: Subscriber> Filter<S> for CaptureFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.gate.is_open() && self.can_want(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.can_want(metadata) {
            true => Interest::sometimes(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
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
