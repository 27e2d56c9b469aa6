//! Publishing: one event, or many.

use tapline_oapi::{BatchResult, ErrorBody, Event, LineError, PublishRequest, from_json_line};
use tapline_telemetry::{Envelope, PublishError};

use crate::error::ApiError;
use crate::service::ApiService;

impl ApiService {
    /// Publishes one event; `None` where it was filtered, because its category is not captured or no
    /// session is running.
    ///
    /// # Errors
    ///
    /// [`ApiError::Event`], [`ApiError::ReservedSource`], [`ApiError::EventTooLarge`].
    pub fn publish(&self, request: PublishRequest) -> Result<Option<Envelope>, ApiError> {
        if request.uses_reserved_source() {
            return Err(ApiError::ReservedSource);
        }
        match self.session().publish(Event::try_from(request)?) {
            Ok(envelope) => Ok(Some(envelope)),
            Err(PublishError::TooLarge(field)) => Err(ApiError::EventTooLarge(field)),
            Err(_) => Ok(None),
        }
    }

    /// Publishes NDJSON, one event a line, and adds to `result` what became of each. A bad line is
    /// refused and the others are not; an empty line is passed over.
    ///
    /// `first_line` is the number of the first line, from 1, so that a long body can be published in
    /// pieces. Returns how many lines there were.
    pub fn publish_lines(&self, lines: &[u8], first_line: u64, result: &mut BatchResult) -> u64 {
        let mut line = first_line;
        // A line break ends a line: what follows the last one is a line only if there is something.
        for text in lines
            .strip_suffix(b"\n")
            .unwrap_or(lines)
            .split(|byte| *byte == b'\n')
        {
            if !text.trim_ascii().is_empty() {
                self.publish_line(text, line, result);
            }
            line += 1;
        }
        line - first_line
    }

    fn publish_line(&self, text: &[u8], line: u64, result: &mut BatchResult) {
        let published = from_json_line(text)
            .map_err(ApiError::from)
            .and_then(|r| self.publish(r));
        match published {
            Ok(Some(envelope)) => {
                result.published += 1;
                result.first_seq.get_or_insert(envelope.seq());
                result.last_seq = Some(envelope.seq());
            }
            Ok(None) => result.filtered += 1,
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
}
