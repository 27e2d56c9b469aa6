//! Requests from a gateway to an instance: [`Caller`], and what answers them in the instance.
//!
//! | header of a request | value |
//! |---|---|
//! | `Tapline-Version` | 1. An instance refuses a later one |
//! | `Tapline-Operation` | `get`, `put`, `patch` or `delete`, of `/telemetry` |
//! | `Tapline-Request-Id` | a repeated request with the same id is answered as the first was; absent for `get` |
//!
//! The payload is the body of the call. The answer has in `Tapline-Answer` what it is: `state`, `started`, `cleared`, or
//! `error`; the payload is the state, or the error as HTTP has it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use tapline_api::{ApiError, ApiService, PutAnswer};
use tapline_oapi::{ConfigRequest, ErrorBody, ErrorCode, State, from_json};

use crate::connect::Connection;
use crate::message::{VERSION, VERSION_HEADER};
use crate::name::InstanceName;

const OPERATION: &str = "Tapline-Operation";
const REQUEST_ID: &str = "Tapline-Request-Id";
const ANSWER: &str = "Tapline-Answer";

/// How long an instance may take to say what its state is.
const READ_TIME: Duration = Duration::from_secs(5);

/// How long it may take for a change: a browser may have to be started.
const CHANGE_TIME: Duration = Duration::from_secs(15);

/// So many answers of changes are kept for requests that are repeated.
const KEPT: usize = 256;

/// What is asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
    Patch,
    Delete,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Get, Self::Put, Self::Patch, Self::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What an instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The state, after a change if there was one.
    State(State),
    /// The state of a session that was started.
    Started(State),
    /// The state after a configuration with nothing in it.
    Cleared(State),
}

impl Answer {
    pub(crate) fn state(self) -> State {
        match self {
            Self::State(state) | Self::Started(state) | Self::Cleared(state) => state,
        }
    }
}

/// Asks instances.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Connection);

impl Caller {
    /// Asks once. With the same `id` it can be asked again.
    pub(crate) async fn call(
        &self,
        instance: &InstanceName,
        operation: Operation,
        request: Option<&ConfigRequest>,
        id: &str,
    ) -> Result<Answer, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(VERSION_HEADER, VERSION.to_string());
        headers.insert(OPERATION, operation.as_str());
        if !id.is_empty() {
            headers.insert(REQUEST_ID, id);
        }
        let body =
            request.map(|request| serde_json::to_vec(request).expect("our own types serialize"));
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(body.unwrap_or_default().into())
            .timeout(Some(match operation {
                Operation::Get => READ_TIME,
                _ => CHANGE_TIME,
            }));
        let client = self.0.client();
        let answer = client.send_request(instance.control_subject(), request);
        let answer = answer.await.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => {
                ApiError::NoAnswer(instance.to_string())
            }
            _ => ApiError::Broker(error.into()),
        })?;
        read(&answer).map_err(|error| match error {
            Some(error) => ApiError::OfInstance(error),
            None => ApiError::NoAnswer(instance.to_string()),
        })
    }
}

/// What the answer says. `Err` with the error of the instance, or with none where it cannot be read.
fn read(answer: &Message) -> Result<Answer, Option<ErrorBody>> {
    let headers = answer.headers.as_ref().ok_or(None)?;
    let kind = headers.get(ANSWER).map(|kind| kind.as_str());
    let state = || serde_json::from_slice(&answer.payload).map_err(|_| None);
    match kind {
        Some("state") => state().map(Answer::State),
        Some("started") => state().map(Answer::Started),
        Some("cleared") => state().map(Answer::Cleared),
        Some("error") => Err(serde_json::from_slice(&answer.payload).ok()),
        _ => Err(None),
    }
}

/// Answers what gateways ask of this instance.
pub(crate) struct Responder {
    api: Arc<ApiService>,
    /// The ids of changes, with their answers, the oldest first.
    answered: Mutex<VecDeque<(String, Reply)>>,
    /// Held by a change, so that a request that is repeated meanwhile waits for its answer.
    changing: tokio::sync::Mutex<()>,
}

/// An answer as it is sent.
#[derive(Clone)]
struct Reply {
    kind: &'static str,
    payload: Bytes,
}

impl Responder {
    pub(crate) fn new(api: Arc<ApiService>) -> Self {
        Self {
            api,
            answered: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, connection: &Connection, request: Message) {
        let Some(to) = request.reply.clone() else {
            return;
        };
        let reply = self.reply(&request).await;
        let mut headers = HeaderMap::new();
        headers.insert(VERSION_HEADER, VERSION.to_string());
        headers.insert(ANSWER, reply.kind);
        let sent = connection
            .client()
            .publish_with_headers(to, headers, reply.payload);
        if let Err(error) = sent.await {
            tracing::warn!(%error, "a request of a gateway cannot be answered");
        }
    }

    async fn reply(&self, request: &Message) -> Reply {
        let header = |name: &str| {
            let headers = request.headers.as_ref()?;
            headers.get(name).map(|value| value.as_str())
        };
        let version = header(VERSION_HEADER).and_then(|it| it.parse().ok());
        if version != Some(VERSION) {
            let version = version.unwrap_or(0_u32);
            let message = format!(
                "the gateway speaks version {version}, and this instance version {VERSION}: update the older one"
            );
            return failed(&ErrorBody::new(ErrorCode::BadRequest, message));
        }
        let operation = header(OPERATION);
        let operation = Operation::ALL
            .iter()
            .find(|it| Some(it.as_str()) == operation);
        match operation {
            None => {
                let message = format!("the header {OPERATION} has to be get, put, patch or delete");
                failed(&ErrorBody::new(ErrorCode::BadRequest, message))
            }
            Some(Operation::Get) => self.handle(Operation::Get, &request.payload).await,
            Some(change) => {
                let _turn = self.changing.lock().await;
                let id = header(REQUEST_ID).unwrap_or_default();
                if let Some(reply) = self.known(id) {
                    return reply;
                }
                let reply = self.handle(*change, &request.payload).await;
                self.keep(id, &reply);
                reply
            }
        }
    }

    async fn handle(&self, operation: Operation, body: &[u8]) -> Reply {
        match self.execute(operation, body).await {
            Ok(answer) => {
                let (kind, state) = match answer {
                    Answer::State(state) => ("state", state),
                    Answer::Started(state) => ("started", state),
                    Answer::Cleared(state) => ("cleared", state),
                };
                Reply {
                    kind,
                    payload: json(&state),
                }
            }
            Err(error) => failed(&ErrorBody::from(&error)),
        }
    }

    async fn execute(&self, operation: Operation, body: &[u8]) -> Result<Answer, ApiError> {
        let request = || match body {
            [] => Ok(ConfigRequest::default()),
            body => from_json(body),
        };
        match operation {
            Operation::Get => self.api.state().map(Answer::State),
            Operation::Put => Ok(match self.api.put(&request()?).await? {
                PutAnswer::Started(state) => Answer::Started(state),
                PutAnswer::Replaced(state) => Answer::State(state),
                PutAnswer::Cleared(state) => Answer::Cleared(state),
            }),
            Operation::Patch => self.api.patch(&request()?).await.map(Answer::State),
            Operation::Delete => self.api.delete().await.map(Answer::State),
        }
    }

    fn known(&self, id: &str) -> Option<Reply> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let found = answered.iter().find(|(known, _)| known == id);
        found.map(|(_, reply)| reply.clone())
    }

    fn keep(&self, id: &str, reply: &Reply) {
        if id.is_empty() {
            return;
        }
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() == KEPT {
            answered.pop_front();
        }
        answered.push_back((id.to_owned(), reply.clone()));
    }
}

fn failed(error: &ErrorBody) -> Reply {
    Reply {
        kind: "error",
        payload: json(error),
    }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    let json = serde_json::to_vec(value);
    json.expect("our own types serialize").into()
}
