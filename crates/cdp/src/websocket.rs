//! WebSockets of pages and workers, from the request that opens one to its end.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tapline_oapi::KnownType;
use tapline_oapi::data::{
    Context, NetworkLoadingFailed, NetworkRequest, NetworkResponse, NetworkWebsocketClosed,
    NetworkWebsocketMessage,
};

use crate::key::Key;
use crate::network::{Closed, MAX_WORDS, headers};
use crate::outbox::Outbox;
use crate::phases::Clocks;
use crate::protocol::{WebSocketCreated, WebSocketEnded, WebSocketFrame, WebSocketHandshake};
use crate::targets::Target;

/// The most open WebSockets. Further ones are not followed.
const MAX_OPEN: usize = 10_000;

const RESOURCE_TYPE: &str = "WebSocket";

/// A WebSocket that is being opened or is open. Its texts are without secrets.
#[derive(Debug)]
struct Socket {
    key: Key,
    context: Context,
    initiator_type: String,
    initiator_url: Option<String>,
    initiator_line: Option<u64>,
    document_url: String,
    clocks: Clocks,
    /// Whether its request was emitted.
    has_start: bool,
    is_open: bool,
    /// Why it failed, if the browser said so. Its end follows.
    error_text: Option<String>,
    sent: Traffic,
    received: Traffic,
}

#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    messages: u64,
    bytes: u64,
}

/// The direction of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// All WebSockets that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: HashMap<Box<str>, Socket>,
}

impl Sockets {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn created(
        &mut self,
        target: &Target,
        created: &WebSocketCreated<'_>,
        out: &Outbox,
    ) {
        if self.open.len() == MAX_OPEN {
            return;
        }
        let document = target.document();
        let initiator = created.initiator.place();
        let socket = Socket {
            initiator_url: initiator.map(|(url, _)| out.url(url)),
            initiator_line: initiator.and_then(|(_, line)| line),
            key: target.key,
            initiator_type: created.initiator.kind.to_string(),
            document_url: document.url.clone().unwrap_or_default(),
            context: Context {
                url: Some(out.url(&created.url)),
                ..document
            },
            clocks: Clocks::default(),
            has_start: false,
            is_open: false,
            error_text: None,
            sent: Traffic::default(),
            received: Traffic::default(),
        };
        self.open.insert((*created.request_id).into(), socket);
    }

    /// The browser sends the request of the handshake.
    pub(crate) fn requested(&mut self, sent: &WebSocketHandshake<'_>, out: &mut Outbox) {
        if let Some(socket) = self.open.get_mut(&*sent.request_id) {
            socket.clocks = Clocks::begun(sent.timestamp, out.now.monotonic);
            let headers = headers(&sent.request.headers, out);
            emit_start(&sent.request_id, socket, headers, out);
        }
    }

    /// The server has answered the handshake.
    pub(crate) fn answered(&mut self, received: &WebSocketHandshake<'_>, out: &mut Outbox) {
        let Some(socket) = self.open.get_mut(&*received.request_id) else {
            return;
        };
        let Some(response) = &received.response else {
            return;
        };
        socket.is_open = response.status == 101;
        let data = NetworkResponse {
            context: socket.context.clone(),
            request_id: received.request_id.to_string(),
            method: "GET".to_owned(),
            status: response.status,
            headers: headers(&response.headers, out),
            status_text: Some(out.text_within(&response.status_text, MAX_WORDS)),
            resource_type: Some(RESOURCE_TYPE.to_owned()),
            duration_ms: socket.clocks.duration(received.timestamp),
            ..NetworkResponse::default()
        };
        let cause = Some("Network.webSocketHandshakeResponseReceived");
        out.emit(KnownType::NetworkResponse, cause, &data);
    }

    /// A message. Only its length is of interest, unless messages are to be emitted.
    pub(crate) fn message(
        &mut self,
        direction: Direction,
        frame: &WebSocketFrame<'_>,
        out: &mut Outbox,
    ) {
        const BINARY: u8 = 2;
        let Some(socket) = self.open.get_mut(&*frame.request_id) else {
            return;
        };
        let payload = &frame.response.payload_data;
        let bytes = if frame.response.opcode == BINARY {
            payload.base64_len()
        } else {
            payload.decoded_len()
        };
        let traffic = match direction {
            Direction::Sent => &mut socket.sent,
            Direction::Received => &mut socket.received,
        };
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
        if !out.options.websocket_messages {
            return;
        }
        let (direction, cause) = match direction {
            Direction::Sent => ("sent", "Network.webSocketFrameSent"),
            Direction::Received => ("received", "Network.webSocketFrameReceived"),
        };
        let data = NetworkWebsocketMessage {
            context: socket.context.clone(),
            request_id: frame.request_id.to_string(),
            direction: direction.to_owned(),
            bytes: bytes as u64,
            text: (frame.response.opcode != BINARY).then(|| out.text(payload)),
        };
        out.emit(KnownType::NetworkWebsocketMessage, Some(cause), &data);
    }

    /// The connection broke, or could not be made.
    pub(crate) fn failed(&mut self, ended: &WebSocketEnded<'_>, out: &Outbox) {
        if let Some(socket) = self.open.get_mut(&*ended.request_id)
            && let Some(error) = &ended.error_message
        {
            socket.error_text = Some(out.text_within(error, MAX_WORDS));
        }
    }

    pub(crate) fn closed(&mut self, ended: &WebSocketEnded<'_>, out: &mut Outbox) {
        if let Some(socket) = self.open.remove(&*ended.request_id) {
            let cause = Some("Network.webSocketClosed");
            emit_end(&ended.request_id, socket, ended.timestamp, cause, out);
        }
    }

    /// Gives up all WebSockets of the target.
    pub(crate) fn close_all(&mut self, key: Key, why: Closed, out: &mut Outbox) {
        // In the order of their ids: that of a map changes from run to run.
        let of_target = self.open.extract_if(|_, socket| socket.key == key);
        let of_target: BTreeMap<_, _> = of_target.collect();
        for (id, mut socket) in of_target {
            let now: Duration = out.now.monotonic;
            let timestamp = socket.clocks.at(now);
            socket.error_text = Some(why.as_str().to_owned());
            emit_end(&id, socket, timestamp, None, out);
        }
    }

    /// Forgets all WebSockets without an event: they are not captured any more.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

/// Emits the request, unless that was done.
fn emit_start(id: &str, socket: &mut Socket, headers: BTreeMap<String, String>, out: &mut Outbox) {
    if std::mem::replace(&mut socket.has_start, true) {
        return;
    }
    let data = NetworkRequest {
        context: socket.context.clone(),
        request_id: id.to_owned(),
        method: "GET".to_owned(),
        document_url: socket.document_url.clone(),
        headers,
        initiator_type: socket.initiator_type.clone(),
        initiator_url: socket.initiator_url.clone(),
        initiator_line: socket.initiator_line,
        resource_type: Some(RESOURCE_TYPE.to_owned()),
        ..NetworkRequest::default()
    };
    let cause = Some("Network.webSocketWillSendHandshakeRequest");
    out.emit(KnownType::NetworkRequest, cause, &data);
}

fn emit_end(
    id: &str,
    mut socket: Socket,
    timestamp: f64,
    cause: Option<&'static str>,
    out: &mut Outbox,
) {
    // Without a connection there is no handshake either.
    emit_start(id, &mut socket, BTreeMap::new(), out);
    let duration_ms = socket.clocks.duration(timestamp);
    if !socket.is_open {
        let error_text = socket
            .error_text
            .unwrap_or_else(|| Closed::NO_REASON.to_owned());
        let data = NetworkLoadingFailed {
            context: socket.context,
            request_id: id.to_owned(),
            status: refused_with(&error_text),
            error_text,
            resource_type: Some(RESOURCE_TYPE.to_owned()),
            duration_ms,
            ..NetworkLoadingFailed::default()
        };
        out.emit(KnownType::NetworkLoadingFailed, cause, &data);
        return;
    }
    let data = NetworkWebsocketClosed {
        context: socket.context,
        request_id: id.to_owned(),
        duration_ms: duration_ms.unwrap_or_default(),
        messages_sent: socket.sent.messages,
        messages_received: socket.received.messages,
        bytes_sent: socket.sent.bytes,
        bytes_received: socket.received.bytes,
        error_text: socket.error_text,
        ..NetworkWebsocketClosed::default()
    };
    out.emit(KnownType::NetworkWebsocketClosed, cause, &data);
}

/// The status with which the server refused the handshake. The browser reports it in a text only.
fn refused_with(error_text: &str) -> Option<u32> {
    let (_, status) = error_text.rsplit_once("Unexpected response code: ")?;
    status.parse().ok()
}
