//! What an answer of the endpoint means, by the rules of OTLP over HTTP.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

use crate::pause::retry_after;
use crate::send::BodyFault;

/// The longest part of a message of the endpoint that is shown, in characters.
const MAX_SHOWN: usize = 300;

/// The status and the headers, and the body, where it came whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, BodyFault>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The request is accepted, but for so many of its records. It is not sent again, whatever the warning is.
    Accepted {
        rejected: u64,
        warning: Option<Warning>,
    },
    /// Fewer records at once may be accepted.
    TooLarge(Refusal),
    /// The same request may be accepted later.
    Retry {
        after: Option<Duration>,
        refusal: Refusal,
    },
    /// Other headers may be accepted.
    Unauthorized(Refusal),
    /// It is not accepted, and never will be.
    Rejected(Refusal),
}

/// What was not right with a request that was accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Warning {
    #[error("the endpoint rejected {rejected} of {records} records: {message}")]
    Partial {
        rejected: u64,
        records: usize,
        message: String,
    },
    #[error("the endpoint accepted the records and warns: {0}")]
    Message(String),
    #[error("the endpoint answered {0}, which is a success, but with a body that is not of OTLP")]
    Garbage(StatusCode),
    #[error("the endpoint answered {status}, which is a success, but {fault}")]
    BadBody {
        status: StatusCode,
        fault: BodyFault,
    },
}

/// An answer that is not a success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the endpoint answered {status}{message}")]
    Status { status: StatusCode, message: String },
    #[error(
        "the endpoint answered {status}, a redirect to {location}; redirects are not followed, so configure the URL itself"
    )]
    Redirect {
        status: StatusCode,
        location: String,
    },
}

/// `google.rpc.Status`, which the body of an error is by the specification.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Answer {
    /// What it means for a request with so many records.
    pub(crate) fn verdict(self, records: usize) -> Verdict {
        if self.status.is_success() {
            return self.success(records);
        }
        let after = retry_after(&self.headers, SystemTime::now());
        let status = self.status;
        let refusal = self.refusal();
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooLarge(refusal),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Verdict::Retry { after, refusal },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Verdict::Unauthorized(refusal),
            _ => Verdict::Rejected(refusal),
        }
    }

    fn success(self, records: usize) -> Verdict {
        let accepted = |warning| Verdict::Accepted {
            rejected: 0,
            warning,
        };
        let status = self.status;
        let body = match self.body {
            Ok(body) => body,
            Err(fault) => return accepted(Some(Warning::BadBody { status, fault })),
        };
        let Ok(response) = ExportLogsServiceResponse::decode(body) else {
            return accepted(Some(Warning::Garbage(status)));
        };
        let Some(partial) = response.partial_success else {
            return accepted(None);
        };
        // A collector cannot reject more than it got, and a number below 0 means nothing.
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0);
        let rejected = rejected.min(records as u64);
        let message = shown(&partial.error_message);
        let warning = match (rejected, message.is_empty()) {
            (0, true) => None,
            (0, false) => Some(Warning::Message(message)),
            _ => Some(Warning::Partial {
                rejected,
                records,
                message,
            }),
        };
        Verdict::Accepted { rejected, warning }
    }

    fn refusal(self) -> Refusal {
        let status = self.status;
        if status.is_redirection() {
            let location = self.headers.get(LOCATION);
            let location = location.map_or_else(
                || "nowhere".to_owned(),
                |it| {
                    let text = String::from_utf8_lossy(it.as_bytes());
                    // What follows may contain a secret.
                    shown(text.split('?').next().unwrap_or_default())
                },
            );
            return Refusal::Redirect { status, location };
        }
        let message = match &self.body {
            Ok(body) => self.message(body),
            Err(fault) => format!(", but {fault}"),
        };
        Refusal::Status { status, message }
    }

    /// The message in the body of an error. Proxies send text instead of the specified message.
    fn message(&self, body: &Bytes) -> String {
        let kind = self.headers.get(CONTENT_TYPE).map(|it| it.as_bytes());
        let is_protobuf = kind.is_some_and(|it| it.starts_with(b"application/x-protobuf"));
        let message = match (is_protobuf, Status::decode(&**body)) {
            (true, Ok(status)) => shown(&status.message),
            (true, Err(_)) => String::new(),
            _ => shown(&String::from_utf8_lossy(body)),
        };
        match message.is_empty() {
            true => String::new(),
            false => format!(": {message}"),
        }
    }
}

/// The first part of a text of the endpoint, in one line, and without characters that a terminal would obey.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (n, c) in text.trim().chars().enumerate() {
        if n == MAX_SHOWN {
            shown.push('…');
            break;
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown
}
