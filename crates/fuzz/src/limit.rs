//! Events about as large as an envelope may be.
//!
//! The input is a body as [`publish`](crate::publish()) takes it, except that three bytes which JSON cannot have stand, in a
//! string, for what the engine would take for ever to write: see [`spelt_out`]. It has a target of its own because each of
//! these inputs takes as long as a hundred others.

/// What holds of any event holds of a large one.
pub fn limit(input: &[u8]) {
    if let Some(body) = spelt_out(input) {
        crate::publish(&body);
    }
}

/// The body that the input stands for, if it stands for a large one:
///
/// - `\x01` is 250,000 letters;
/// - `\x02` is 100,000 control characters, six bytes each in JSON;
/// - `\x03` fills up with letters to 999,700 bytes and twice the number of the byte behind it, which stays where it is, so
///   that an envelope can come out on either side of the limit.
fn spelt_out(input: &[u8]) -> Option<Vec<u8>> {
    /// Beyond it nothing more is spelt out: more than the limit is more than the limit.
    const MOST: usize = 1_200_000;
    let short: Vec<u8> = input
        .iter()
        .map(|byte| if (1..=3).contains(byte) { b'x' } else { *byte })
        .collect();
    // What is no JSON when it is short is none when it is long, and would only take longer.
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
                // Only looked at: it is a part of the string.
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
