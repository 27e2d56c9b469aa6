//! What is used beside the joined types of `tapline-oapi`.

use tapline_oapi::Envelope;
use tapline_oapi::body::{MAX_CAPTURED, is_text};
use tapline_oapi::data::NetworkResponse;
use tapline_oapi::joins::{BodyOmitted, Failure, Place, Request};

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

/// Why the body of the answer was not captured, if the answer may have one. Only what the events say is claimed.
pub(crate) fn body_omitted(request: &Request) -> Option<BodyOmitted> {
    let response = request.response.as_ref()?;
    let has_none = request.method == "HEAD"
        || request.resource_type.as_deref() == Some("WebSocket")
        || matches!(response.status, 100..200 | 204 | 205 | 304)
        || response.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("content-length") && value.trim() == "0"
        });
    if has_none || response.body.is_some() {
        return None;
    }
    let mime_type = response.mime_type.as_deref().unwrap_or_default();
    Some(if !mime_type.is_empty() && !is_text(mime_type) {
        BodyOmitted::NotText
    } else if request.failure.is_some() {
        BodyOmitted::BrokenOff
    } else if response.canceled {
        BodyOmitted::NotRead
    } else if u64::from(MAX_CAPTURED) < request.encoded_bytes.unwrap_or(0) {
        BodyOmitted::TooLarge
    } else {
        // What is known of the answer itself.
        response.body_omitted.unwrap_or(BodyOmitted::Unknown)
    })
}

/// What the event of an answer without a body says about the reason.
pub(crate) fn why_without_body(envelope: &Envelope, data: &NetworkResponse) -> Option<BodyOmitted> {
    if data.body.is_some() {
        return None;
    }
    match envelope.event.source.event.as_deref() {
        _ if data.open == Some(true) => Some(BodyOmitted::Open),
        // The answer came, and the browser reports that its body did not.
        Some("Network.loadingFailed") => Some(BodyOmitted::NotRead),
        // It is from the page's own timeline.
        Some("Runtime.evaluate") => Some(BodyOmitted::Earlier),
        _ => None,
    }
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
