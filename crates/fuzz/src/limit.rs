//! Events near the size limit of an envelope.
//!
//! The input is a body as for [`publish`](crate::publish()), except that three bytes that JSON does not allow stand for long
//! texts within a string, which the engine would hardly generate: see [`expanded`]. It is a target of its own because each
//! input takes as long as a hundred others.

/// The rules for any event hold for a large event.
pub fn limit(input: &[u8]) {
    if let Some(body) = expanded(input) {
        crate::publish(&body);
    }
}

/// The body that the input stands for, if it stands for a large body:
///
/// - `\x01` is 250,000 letters;
/// - `\x02` is 100,000 control characters, six bytes each in JSON;
/// - `\x03` fills the body with letters up to 999,700 bytes plus twice the value of the next byte, which stays in the body, so
///   that an envelope can be on either side of the limit.
fn expanded(input: &[u8]) -> Option<Vec<u8>> {
    /// Nothing is expanded beyond it: a larger body tests nothing more.
    const MOST: usize = 1_200_000;
    let short: Vec<u8> = input
        .iter()
        .map(|byte| if (1..=3).contains(byte) { b'x' } else { *byte })
        .collect();
    // If the short form is not JSON, the long form is not JSON either, and would only take longer.
    if short == input || !crate::is_json(&short) {
        return None;
    }
    let mut body = Vec::new();
    let mut bytes = input.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            1..=3 if body.len() > MOST => {}
            1 => body.resize(body.len() + 250_000, b'x'),
            2 => body.extend_from_slice(&br"\u0007".repeat(100_000)),
            3 => {
                // Only read, not taken: it is part of the string.
                let more = bytes
                    .as_slice()
                    .first()
                    .map_or(0, |byte| 2 * usize::from(*byte));
                let left = (999_700 + more).saturating_sub(body.len() + bytes.len());
                body.resize(body.len() + left, b'x');
            }
            other => body.push(*other),
        }
    }
    Some(body)
}
