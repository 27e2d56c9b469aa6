//! How the core is configured: [`Options`].

use tapline_oapi::CategorySet;

use crate::redact::SharedRedaction;

/// How the core is configured.
#[derive(Debug, Clone)]
pub struct Options {
    /// The categories that are captured at first.
    pub captured: CategorySet,
    /// Which secrets are removed from events. The rules can be replaced at any time.
    pub redaction: SharedRedaction,
    /// The longest text that is kept, in bytes: a body, posted data, all arguments of a console
    /// call together. A longer one is cut, never within a character.
    pub text_limit: usize,
    /// Whether the messages of WebSockets are emitted, each as an event of its own. Off by default: they
    /// often are most of what a page receives, and contain what its user writes and reads.
    pub websocket_messages: bool,
}

impl Default for Options {
    /// Everything captured, the default redaction, texts cut at 64 KiB.
    fn default() -> Self {
        Self {
            captured: CategorySet::ALL,
            redaction: SharedRedaction::default(),
            // Twice that (the text of a console line repeats its first argument) and everything else
            // stay far below the 1,000,000 bytes of an envelope.
            text_limit: 64 * 1024,
            websocket_messages: false,
        }
    }
}
