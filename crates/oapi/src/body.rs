//! Which bodies are captured from a browser, for the source that captures them and for what says why one is missing.

/// The largest response whose body is captured from a browser, in bytes on the network. To cut a body, the browser
/// has to send all of it.
pub const MAX_CAPTURED: u32 = 4 * 1024 * 1024;

/// Whether a body of this media type is text. No other body is captured from a browser.
#[must_use]
pub fn is_text(mime_type: &str) -> bool {
    let essence = mime_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/ld+json"
                | "application/xml"
                | "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/graphql"
                | "application/x-ndjson"
                | "application/yaml"
                | "application/x-www-form-urlencoded"
        )
}
