//! Publishing: one event, or many.

use tapline_oapi::{BatchResult, ErrorBody, Event, LineError, PublishRequest, from_json_line};
use tapline_telemetry::{Batch, Envelope, PublishError};

use crate::causes::Trace;
use crate::error::ApiError;
use crate::service::ApiService;

/// What became of an event.
#[derive(Debug)]
pub enum Published<E = Envelope> {
    /// It has a seq.
    Captured(E),
    /// It has none, for that reason.
    NotCaptured(NotCaptured),
}

/// Why an event was not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCaptured {
    /// No session is running.
    NoSession,
    /// The session does not capture its category.
    CategoryDisabled,
}

impl<E> Published<E> {
    /// The envelope; `None` where the event was not captured.
    pub fn envelope(self) -> Option<E> {
        match self {
            Self::Captured(envelope) => Some(envelope),
            Self::NotCaptured(_) => None,
        }
    }
}

impl NotCaptured {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::CategoryDisabled => "category_disabled",
        }
    }
}

impl ApiService {
    /// Publishes one event, if a session is running and captures its category.
    ///
    /// # Errors
    ///
    /// [`ApiError::Event`], [`ApiError::ReservedSource`], [`ApiError::EventTooLarge`].
    pub fn publish(&self, request: PublishRequest) -> Result<Published, ApiError> {
        outcome(self.session().publish(event_of(request)?))
    }

    /// Publishes NDJSON, one event a line, and adds to `result` what became of each. A bad line is
    /// refused and the others are not; an empty line is passed over.
    ///
    /// The lines are one [`Batch`]: readers that sleep are called after every 64 events of it, and at its end.
    ///
    /// `first_line` is the number of the first line, from 1, so that a long body can be published in
    /// pieces. `trace` is the trace that the events follow from. Returns how many lines there were.
    pub fn publish_lines(
        &self,
        lines: &[u8],
        first_line: u64,
        trace: Option<&Trace>,
        result: &mut BatchResult,
    ) -> u64 {
        let mut batch = self.session().batch();
        let mut line = first_line;
        // A line break ends a line: what follows the last one is a line only if there is something.
        for text in lines
            .strip_suffix(b"\n")
            .unwrap_or(lines)
            .split(|byte| *byte == b'\n')
        {
            if !text.trim_ascii().is_empty() {
                publish_line(&mut batch, text, line, trace, result);
            }
            line += 1;
        }
        line - first_line
    }
}

fn publish_line(
    batch: &mut Batch<'_>,
    text: &[u8],
    line: u64,
    trace: Option<&Trace>,
    result: &mut BatchResult,
) {
    let event =
        from_json_line(text)
            .map_err(ApiError::from)
            .and_then(|mut request: PublishRequest| {
                if let Some(trace) = trace {
                    trace.mark(request.source.get_or_insert_default());
                }
                event_of(request)
            });
    match event.and_then(|event| outcome(batch.publish(event))) {
        Ok(Published::Captured(envelope)) => {
            result.published += 1;
            result.first_seq.get_or_insert(envelope.seq());
            result.last_seq = Some(envelope.seq());
        }
        Ok(Published::NotCaptured(_)) => result.filtered += 1,
        Err(error) => {
            result.refused += 1;
            if result.errors.len() < BatchResult::MAX_ERRORS {
                let ErrorBody { code, message, .. } = ErrorBody::from(&error);
                result.errors.push(LineError {
                    line,
                    code,
                    message,
                });
            }
        }
    }
}

fn event_of(request: PublishRequest) -> Result<Event, ApiError> {
    if request.uses_reserved_source() {
        return Err(ApiError::ReservedSource);
    }
    Ok(Event::try_from(request)?)
}

fn outcome<E>(published: Result<E, PublishError>) -> Result<Published<E>, ApiError> {
    match published {
        Ok(envelope) => Ok(Published::Captured(envelope)),
        Err(PublishError::TooLarge(field)) => Err(ApiError::EventTooLarge(field)),
        Err(PublishError::Inactive) => Ok(Published::NotCaptured(NotCaptured::NoSession)),
        Err(_) => Ok(Published::NotCaptured(NotCaptured::CategoryDisabled)),
    }
}
