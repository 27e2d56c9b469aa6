//! What is used beside the joined types of `tapline-oapi`.

use tapline_oapi::Envelope;
use tapline_oapi::joins::{Failure, Place};

/// The same place, with ids cut where no browser would make them so long.
pub(crate) fn shortened(mut place: Place) -> Place {
    const MOST: usize = 256;
    for id in [
        &mut place.session_id,
        &mut place.target_id,
        &mut place.frame_id,
        &mut place.loader_id,
    ] {
        if let Some(text) = id.as_mut().filter(|text| MOST < text.len()) {
            *text = text.chars().take(MOST).collect();
        }
    }
    place
}

/// Whether the collector gave the request up, so that its true end may still be reported.
pub(crate) fn may_be_corrected(failure: &Failure) -> bool {
    failure.error_text.starts_with("tapline::")
}

/// The seq of the command that caused an event, if it is known.
pub(crate) fn caused_by(envelope: &Envelope) -> Option<u64> {
    envelope
        .event
        .source
        .metadata
        .get("caused_by")?
        .parse()
        .ok()
}

/// Milliseconds as whole microseconds. Nothing negative.
pub(crate) fn micros(ms: f64) -> u64 {
    // A float that does not fit saturates.
    (ms * 1000.0).round().max(0.0) as u64
}
