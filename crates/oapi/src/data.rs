//! The typed `data` of each known event type: one struct with the type's name, and [`EventData`], an enum
//! over all of them.
//!
//! **Made by a producer**, a payload is written field by field; a field that is `None` is omitted.
//!
//! **Read**, it is lenient, because publishing does not check `data` and carries it unchanged. Only a field
//! that every producer sends is required: a missing one is an error, and so is a text where a number
//! belongs. Any other field may be absent or null, and is `None` or its default then. Nothing is lost:
//! what no field holds (a key that this version does not know, the name of an unknown kind) is in the payload's
//! [`Rest`], and is written back.
//!
//! Times called `cdp_timestamp`, `time`, `render_time` and `load_time`, and `duration` without a
//! unit in its name, are in seconds, as the browser gives them. Coordinates are CSS pixels.

use std::collections::BTreeMap;

use serde::de::{Error as _, IntoDeserializer as _, MapAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Error, Map, Value};

use crate::event_type::{KnownType, with_known_types};
pub use crate::rest::Rest;
use crate::rest::{
    Base, Held, Payload, Read, Reading, Text, of_field, read_list, read_nested, read_payload,
};

macro_rules! event_data {
    ($($variant:ident $name:literal $category:ident $doc:literal;)*) => {
        /// The `data` of a known event, to match on. See
        /// [`Event::typed_data`](crate::Event::typed_data).
        ///
        /// Serializes as the `data` alone.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum EventData {
            $(#[doc = $doc] $variant($variant),)*
        }

        impl EventData {
            /// The type of the events that have such data.
            #[must_use]
            pub const fn known_type(&self) -> KnownType {
                match self { $(Self::$variant(_) => KnownType::$variant,)* }
            }

            /// Reads the JSON text of an event of type `known`.
            ///
            /// # Errors
            ///
            /// If `data` does not match the type.
            pub fn parse(known: KnownType, data: &str) -> Result<Self, serde_json::Error> {
                match known {
                    $(KnownType::$variant => serde_json::from_str(data).map(Self::$variant),)*
                }
            }
        }
    };
}
with_known_types!(event_data);

/// Declares structs that are read and written by the rules above:
/// `struct Name(base) { fields } required { … } optional { … }`.
///
/// The fields in the first braces are always written, and have their default where they were absent. With a
/// base (a [`Context`] or only a [`Rest`]), the struct keeps what its fields cannot hold; without one, the
/// payload that it is a part of does.
macro_rules! payloads {
    ($(
        $(#[$meta:meta])*
        struct $name:ident $(($base:ident: $base_type:ident))? {
            $($(#[$written_meta:meta])* $written:ident: $written_type:ty,)*
        }
        $(required {
            $($(#[$required_meta:meta])* $required:ident: $required_type:ty,)*
        })?
        $(optional {
            $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty,)*
        })?
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name {
            $(#[doc = concat!("What it has in common with other payloads: see [`", stringify!($base_type), "`].")]
            pub $base: $base_type,)?
            $($(#[$written_meta])* pub $written: $written_type,)*
            $($($(#[$required_meta])* pub $required: $required_type,)*)?
            $($($(#[$optional_meta])* pub $optional: Option<$optional_type>,)*)?
        }

        impl $name {
            #[allow(unused_variables, reason = "some have no fields")]
            fn write_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(Base::write(&self.$base, map)?;)?
                $(map.serialize_entry(const { wire_name(stringify!($written)) }, &self.$written)?;)*
                $($(map.serialize_entry(const { wire_name(stringify!($required)) }, &self.$required)?;)*)?
                $($(if let Some(value) = &self.$optional {
                    map.serialize_entry(const { wire_name(stringify!($optional)) }, value)?;
                })*)?
                Ok(())
            }

            fn written(&self) -> Result<Map<String, Value>, Error> {
                let mut map = serde_json::value::Serializer.serialize_map(None)?;
                self.write_fields(&mut map)?;
                match SerializeMap::end(map)? {
                    Value::Object(object) => Ok(object),
                    _ => Err(Error::custom("a map is written as an object")),
                }
            }

            fn rest(&self) -> Option<&Rest> {
                let rest = None;
                $(let rest = rest.or(Some(Base::rest(&self.$base)));)?
                rest.filter(|rest: &&Rest| !rest.is_empty())
            }
        }

        impl Payload for $name {
            #[allow(unused_variables, reason = "some have no fields")]
            fn take<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
                reading: &mut Reading,
            ) -> Result<bool, A::Error> {
                $(if key == const { wire_name(stringify!($written)) } {
                    let field = reading.field(const { wire_name(stringify!($written)) }, map)?;
                    self.$written = field.unwrap_or_default();
                    return Ok(true);
                })*
                $($(if key == const { wire_name(stringify!($required)) } {
                    let field = reading.field(const { wire_name(stringify!($required)) }, map)?;
                    self.$required = field.unwrap_or_default();
                    return Ok(true);
                })*)?
                $($(if key == const { wire_name(stringify!($optional)) } {
                    self.$optional = reading.field(const { wire_name(stringify!($optional)) }, map)?;
                    return Ok(true);
                })*)?
                $(if self.$base.take(key, map, reading)? {
                    return Ok(true);
                })?
                Ok(false)
            }

            #[allow(unused_variables, reason = "some have no fields")]
            fn finish(&self, reading: &mut Reading) -> Result<(), Error> {
                $(Payload::finish(&self.$base, reading)?;)?
                $(reading.always(const { wire_name(stringify!($written)) }, &self.$written)?;)*
                $($(reading.required(const { wire_name(stringify!($required)) })?;)*)?
                Ok(())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[allow(unused_mut, unused_variables, reason = "some have no base")]
                let (mut payload, difference) = read_payload::<Self, D>(deserializer)?;
                $(*Base::rest_mut(&mut payload.$base) = difference.into();)?
                Ok(payload)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Some(rest) = self.rest() else {
                    let mut map = serializer.serialize_map(None)?;
                    self.write_fields(&mut map)?;
                    return map.end();
                };
                let mut written = self.written().map_err(serde::ser::Error::custom)?;
                rest.apply(&mut written);
                written.serialize(serializer)
            }
        }

        /// Within another payload. That one keeps what the fields do not hold.
        impl Read for $name {
            fn read<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Held<Self>>, D::Error> {
                read_nested(deserializer)
            }
        }
    )* };
}

/// The name of a field on the wire. A stack trace keeps the names of the DevTools protocol.
const fn wire_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        b"call_frames" => "callFrames",
        b"function_name" => "functionName",
        b"script_id" => "scriptId",
        b"line_number" => "lineNumber",
        b"column_number" => "columnNumber",
        _ => field,
    }
}

/// Declares kinds that have a name on the wire. One that this version does not know is `Other`, with its name.
macro_rules! kinds {
    ($(
        $(#[$meta:meta])*
        enum $name:ident { $($(#[$kind_meta:meta])* $kind:ident $wire:literal,)* }
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$kind_meta])* $kind,)*
            /// A kind that this version does not know, by its name.
            Other(String),
        }

        impl $name {
            /// The name on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$kind => $wire,)*
                    Self::Other(name) => name,
                }
            }
        }

        /// A kind without a name: of an event that does not say it.
        impl Default for $name {
            fn default() -> Self {
                Self::Other(String::new())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                match &*name {
                    $($wire => Self::$kind,)*
                    _ => Self::Other(name),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }

        impl Read for $name {
            fn read<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Held<Self>>, D::Error> {
                let name = Option::<String>::deserialize(deserializer)?;
                Ok(name.map(|name| Held::all(name.into())))
            }
        }
    )* };
}

// What payloads have in common.
payloads! {
    /// Where in the browser something happened. Its fields are among the other fields of `data`; each is
    /// present if the producer knows it.
    struct Context(rest: Rest) {} optional {
        /// The collector's DevTools session for the target.
        session_id: String,
        /// The browser's id of the tab, frame or worker.
        target_id: String,
        /// The kind of target.
        target_type: TargetType,
        /// Counts the top-level navigations of the target, from 0: events of one page share it.
        nav_seq: u64,
        /// The frame.
        frame_id: String,
        /// The document within the frame.
        loader_id: String,
        /// The address: of the request for network events, of the page for others.
        url: String,
    }

    /// A stack trace, with the names that the DevTools protocol uses: `callFrames`, `functionName` …
    struct StackTrace {
        /// The calls, innermost first.
        call_frames: Vec<CallFrame>,
    } optional {
        /// What the trace belongs to, such as `setTimeout` for one that a timer started.
        description: String,
        /// The trace of the code that scheduled this one.
        parent: Box<StackTrace>,
    }

    /// One call of a [`StackTrace`].
    struct CallFrame {
        /// The function; empty for an anonymous one.
        function_name: String,
        /// The browser's id of the script.
        script_id: String,
        /// Where the script came from.
        url: String,
        /// Line in the script, from 0; -1 if there is none.
        line_number: i64,
        /// Column in the line, from 0; -1 if there is none.
        column_number: i64,
    }
}

impl Base for Context {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.write_fields(map)
    }

    fn rest(&self) -> &Rest {
        &self.rest
    }

    fn rest_mut(&mut self) -> &mut Rest {
        &mut self.rest
    }
}

/// The kind of a target in the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetType {
    /// A tab or popup.
    Page,
    /// A frame with a process of its own.
    Iframe,
    /// A dedicated worker.
    Worker,
    /// An extension's background page.
    BackgroundPage,
    /// A service worker.
    ServiceWorker,
    /// A shared worker.
    SharedWorker,
    /// Any other kind. One that this version does not know is in the [`Rest`], by its name.
    #[default]
    #[serde(other)]
    Other,
}

impl Read for TargetType {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        let Some(Text(name)) = Option::deserialize(deserializer)? else {
            return Ok(None);
        };
        let kind = Self::deserialize(name.as_ref().into_deserializer())?;
        let held = match kind == Self::Other && name != "other" {
            true => Held::like(kind, name.as_ref().into()).map_err(D::Error::custom)?,
            false => Held::all(kind),
        };
        Ok(Some(held))
    }
}

impl Read for Vec<CallFrame> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        read_list(deserializer, |_, _| {})
    }
}

/// Version 0.1 called the name `process_name`, as it is called elsewhere in that event.
impl Read for Vec<OomTask> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Held<Self>>, D::Error> {
        read_list(deserializer, |task: &mut OomTask, beyond| {
            if let Some(name) = beyond.renamed("process_name", "name") {
                task.name = name;
            }
        })
    }
}

// Console.
payloads! {
    /// `data` of `console_log`.
    struct ConsoleLog(context: Context) {
        /// The browser's name of the call: `log`, `info`, `warning`, `debug`, `table`, `assert` …; `revoked` for a
        /// rejection that was handled later; of the browser itself also `verbose`.
        level: String,
        /// The message: all arguments as a console shows them, with format specifiers applied.
        text: String,
    } optional {
        /// Each argument as text.
        args: Vec<String>,
        /// The stack of the call.
        stack_trace: StackTrace,
        /// For a line of the browser itself: the part of the browser that wrote it, such as `security`,
        /// `network`, `deprecation` or `intervention`.
        log_source: String,
        /// For a line of the browser itself: the address that it is about.
        source_url: String,
        /// The `exception_id` of a [`ConsoleError`] that this line takes back: the rejection was handled
        /// later.
        exception_id: u64,
    }

    /// `data` of `console_error`.
    struct ConsoleError(context: Context) {
        /// The message, or the exception as text. That of an unhandled rejection begins with
        /// `Uncaught (in promise)`.
        text: String,
    } optional {
        /// `error` for a console call or a line of the browser itself, absent for an exception.
        level: String,
        /// Each argument of a console call as text.
        args: Vec<String>,
        /// Where an exception was thrown, or what a line of the browser itself is about: line within
        /// `source_url`, from 0.
        line: i64,
        /// Column within the line, from 0.
        column: i64,
        /// The script that threw, or the address that a line of the browser itself is about.
        source_url: String,
        /// The stack of the call or of the exception.
        stack_trace: StackTrace,
        /// For a line of the browser itself: the part of the browser that wrote it, such as `security` or
        /// `network`.
        log_source: String,
        /// The browser's number of the exception within its target.
        exception_id: u64,
    }
}

// Network.
payloads! {
    /// `data` of `network_request`. The address is the context's `url`.
    struct NetworkRequest(context: Context) {
        /// The id that a request shares with its response or failure; a redirect keeps it.
        request_id: String,
        /// The HTTP method.
        method: String,
        /// The document that sent the request.
        document_url: String,
        /// The request's headers.
        headers: BTreeMap<String, String>,
        /// What caused the request: `parser`, `script`, `preload`, `other` …
        initiator_type: String,
    } optional {
        /// The kind of resource: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
        /// The body; truncated if it is long.
        post_data: String,
        /// The length of the body in bytes, if it is longer than `post_data`, or if it is not known as
        /// text and its length is.
        post_data_bytes: u64,
        /// `true` if the request has a body that is not in `post_data`.
        post_data_omitted: bool,
        /// Whether it follows a redirect.
        is_redirect: bool,
        /// The address that redirected here.
        redirect_url: String,
        /// The HTTP status of that redirect.
        redirect_status: u32,
        /// The file that caused it: the document whose markup names it, or the script that asked for it.
        initiator_url: String,
        /// The line in that file, from 1.
        initiator_line: u64,
    }

    /// `data` of `network_response`. The address is the context's `url`.
    struct NetworkResponse(context: Context) {
        /// The id of the request.
        request_id: String,
        /// The request's HTTP method.
        method: String,
        /// The HTTP status; 0 if the answer has none, such as one of a `data:` URL.
        status: u32,
        /// The response's headers; several of one name are joined by line breaks.
        headers: BTreeMap<String, String>,
    } optional {
        /// The text after the status.
        status_text: String,
        /// The media type.
        mime_type: String,
        /// The kind of resource: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
        /// The body, if it is text; truncated if it is long.
        body: String,
        /// The length of the whole body in bytes, if `body` was truncated.
        body_bytes: u64,
        /// The protocol, as the browser names it: `http/1.1`, `h2`, `h3` …
        protocol: String,
        /// The IP address of the server, or of the proxy.
        remote_ip: String,
        /// The cache that answered: `memory`, `disk`, `prefetch` or `service_worker`. Absent if the
        /// network answered.
        from_cache: String,
        /// Bytes that came over the network, headers included.
        encoded_bytes: u64,
        /// From the request to the end of the response, in milliseconds; for one that is `open`, so far.
        duration_ms: f64,
        /// The phases of the request.
        timing: NetworkTiming,
        /// `true` if the page or the browser stopped reading the body before its end.
        canceled: bool,
        /// `true` if the response lasts: this event was emitted before its end, and a
        /// [`NetworkResponseEnd`] follows.
        open: bool,
    }

    /// The phases of a request, each in milliseconds. A phase that did not take place is absent: a
    /// connection that is used again needs no `connect`.
    struct NetworkTiming {} optional {
        /// In a queue of the browser, or waiting for a connection.
        blocked: f64,
        /// Finding the address of the server.
        dns: f64,
        /// Connecting, TLS included.
        connect: f64,
        /// The part of `connect` that is TLS.
        tls: f64,
        /// Sending the request.
        send: f64,
        /// From the end of sending to the first byte of the answer.
        wait: f64,
        /// From the first byte of the answer to its end; for one that is `open`, so far.
        receive: f64,
    }

    /// `data` of `network_response_end`: the end of a response that was emitted with `open: true`.
    struct NetworkResponseEnd(context: Context) {
        /// The id of the request.
        request_id: String,
        /// From the request to the end, in milliseconds.
        duration_ms: f64,
    } optional {
        /// Bytes that came over the network, headers included.
        encoded_bytes: u64,
        /// Why the body broke off, if it did: the browser's name for the failure.
        error_text: String,
    }

    /// `data` of `network_websocket_message`. The address is that of the request.
    struct NetworkWebsocketMessage(context: Context) {
        /// The id of the request that opened the WebSocket.
        request_id: String,
        /// Who sent it: `sent` by the page, or `received` by it.
        direction: String,
        /// Its length in bytes.
        bytes: u64,
    } optional {
        /// The message, if it is text; truncated if it is long.
        text: String,
    }

    /// `data` of `network_websocket_closed`. Its opening is a `network_request` with the resource type
    /// `WebSocket` and a `network_response` with status 101.
    struct NetworkWebsocketClosed(context: Context) {
        /// The id of the request that opened it.
        request_id: String,
        /// From the request to the end, in milliseconds.
        duration_ms: f64,
        /// Messages that the page sent.
        messages_sent: u64,
        /// Messages that the page received.
        messages_received: u64,
        /// Bytes of the messages that the page sent.
        bytes_sent: u64,
        /// Bytes of the messages that the page received.
        bytes_received: u64,
    } optional {
        /// The code of the close frame that came first (RFC 6455, section 7.4).
        code: u32,
        /// The reason in that close frame.
        reason: String,
        /// Why the connection broke, if it did.
        error_text: String,
    }

    /// `data` of `network_loading_failed`.
    struct NetworkLoadingFailed(context: Context) {
        /// The request that failed.
        request_id: String,
        /// The browser's name for the failure, such as `net::ERR_ABORTED`. Never empty.
        error_text: String,
        /// Whether the request was cancelled.
        canceled: bool,
    } optional {
        /// The kind of resource: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
        /// The HTTP status, if an answer was received before its body broke off.
        status: u32,
        /// The headers of that answer.
        headers: BTreeMap<String, String>,
        /// The media type of that answer.
        mime_type: String,
        /// Why the browser refused the request: `csp`, `mixed-content`, `origin` … (`Network.BlockedReason`).
        blocked_reason: String,
        /// The CORS rule that the answer broke, such as `MissingAllowOriginHeader` (`Network.CorsError`).
        cors_error: String,
        /// From the request to the failure, in milliseconds.
        duration_ms: f64,
    }

    /// `data` of `network_idle`.
    struct NetworkIdle(context: Context) {}

    /// `data` of `proxy_error`.
    struct ProxyError(context: Context) {} required {
        /// The error, as a uniform code for all proxies.
        code: String,
        /// The request that the proxy answered.
        request_id: String,
        /// The HTTP status of its answer.
        status: u32,
    } optional {
        /// The request's HTTP method.
        method: String,
        /// The code as the proxy sent it.
        raw_code: String,
        /// The kind of resource.
        resource_type: String,
    }
}

// Page.
payloads! {
    /// `data` of `page_navigation`.
    struct PageNavigation(rest: Rest) {
        /// The new address.
        url: String,
        /// The frame that navigated.
        frame_id: String,
        /// The new document.
        loader_id: String,
    } optional {
        /// The parent frame; absent for a top-level navigation.
        parent_frame_id: String,
        /// The collector's DevTools session for the target.
        session_id: String,
        /// The target that the frame belongs to.
        target_id: String,
        /// The kind of target.
        target_type: TargetType,
        /// The number of this navigation; some collectors omit it.
        nav_seq: u64,
    }

    /// `data` of `page_dom_content_loaded`.
    struct PageDomContentLoaded(context: Context) {
        /// When, on the browser's monotonic clock, in seconds.
        cdp_timestamp: f64,
    }

    /// `data` of `page_load`.
    struct PageLoad(context: Context) {
        /// When, on the browser's monotonic clock, in seconds.
        cdp_timestamp: f64,
    }

    /// `data` of `page_tab_opened`.
    struct PageTabOpened(rest: Rest) {
        /// The new tab.
        target_id: String,
        /// What kind of target: a page.
        target_type: TargetType,
        /// The address that it opened with.
        url: String,
    } optional {
        /// Its title at that time.
        title: String,
        /// The target that opened it.
        opener_id: String,
    }

    /// `data` of `page_layout_shift`.
    struct PageLayoutShift(context: Context) {
        /// The frame in which something moved.
        source_frame_id: String,
        /// When, in seconds since the Unix epoch.
        time: f64,
        /// How long, in seconds; 0 for what has no duration.
        duration: f64,
        /// How much.
        layout_shift_details: LayoutShiftDetails,
    }

    /// How much of the view moved, and how far.
    struct LayoutShiftDetails {
        /// The score of this one shift, 0 and up.
        value: f64,
        /// Whether the user's input just before caused it.
        had_recent_input: bool,
    }

    /// `data` of `page_lcp`.
    struct PageLcp(context: Context) {
        /// The frame in which it was painted.
        source_frame_id: String,
        /// When, in seconds since the Unix epoch.
        time: f64,
        /// What was painted.
        lcp_details: LcpDetails,
    } optional {
        /// How long, in seconds.
        duration: f64,
    }

    /// The largest contentful paint.
    struct LcpDetails {
        /// When it was painted, in seconds since the Unix epoch.
        render_time: f64,
        /// When it was loaded, in seconds since the Unix epoch; 0 for content that is not loaded, such as text.
        load_time: f64,
        /// Its area in square pixels.
        size: f64,
    } optional {
        /// The element's `id`.
        element_id: String,
        /// The picture's address.
        url: String,
        /// The node, as the browser numbers it.
        node_id: i64,
    }

    /// `data` of `page_layout_settled`.
    struct PageLayoutSettled(context: Context) {}

    /// `data` of `page_navigation_settled`.
    struct PageNavigationSettled(context: Context) {}

    /// `data` of `page_crashed`. The context names the page.
    struct PageCrashed(context: Context) {}
}

// Interaction.
payloads! {
    /// `data` of `interaction_click`.
    struct InteractionClick(context: Context) {
        /// From the left of the tab's viewport, in CSS pixels.
        x: i64,
        /// From the top of the tab's viewport, in CSS pixels.
        y: i64,
        /// A selector of the element.
        selector: String,
        /// The element's tag.
        tag: String,
    } optional {
        /// The start of the element's text.
        text: String,
        /// `true` if `x` and `y` are in the viewport of the frame (`frame_id`), because it is not known
        /// where in the tab the frame was.
        in_frame: bool,
    }

    /// `data` of `interaction_key`.
    struct InteractionKey(context: Context) {
        /// The key, as the DOM names it.
        key: String,
        /// A selector of the element that has the focus.
        selector: String,
        /// That element's tag.
        tag: String,
    }

    /// `data` of `interaction_scroll_settled`.
    struct InteractionScrollSettled(context: Context) {
        /// The start, in CSS pixels from the left.
        from_x: i64,
        /// The start, in CSS pixels from the top.
        from_y: i64,
        /// The end, in CSS pixels from the left.
        to_x: i64,
        /// The end, in CSS pixels from the top.
        to_y: i64,
        /// A selector of the scrolled element.
        target_selector: String,
    }
}

// Screenshots, and the collector itself.
payloads! {
    /// `data` of `monitor_screenshot`.
    struct MonitorScreenshot(context: Context) {
        /// The picture as PNG, in base64.
        png: String,
    }

    /// `data` of `monitor_disconnected`.
    struct MonitorDisconnected(rest: Rest) {
        /// Why.
        reason: DisconnectReason,
    }

    /// `data` of `monitor_reconnected`.
    struct MonitorReconnected(rest: Rest) {
        /// How long the collector was without a browser, in milliseconds.
        reconnect_duration_ms: u64,
    }

    /// `data` of `monitor_reconnect_failed`.
    struct MonitorReconnectFailed(rest: Rest) {
        /// Why.
        reason: ReconnectFailure,
    }

    /// `data` of `monitor_init_failed`.
    struct MonitorInitFailed(rest: Rest) {
        /// The step that failed.
        step: String,
    }
}

kinds! {
    /// Why the collector lost the browser.
    enum DisconnectReason {
        /// The browser was restarted.
        ChromeRestarted "chrome_restarted",
        /// The connection broke.
        ConnectionLost "connection_lost",
    }

    /// Why the collector stopped trying to reconnect.
    enum ReconnectFailure {
        /// All attempts failed.
        ReconnectExhausted "reconnect_exhausted",
    }
}

// APIs and connections.
payloads! {
    /// `data` of `api_call`.
    struct ApiCall(rest: Rest) {} required {
        /// The id of the call.
        request_id: String,
        /// The operation's id in the API's document.
        operation_id: String,
        /// The HTTP status of the answer.
        status: u32,
        /// How long it took, in milliseconds.
        duration_ms: f64,
    } optional {
        /// The code that the call had the browser run, cut where it is long.
        code: String,
    }

    /// `data` of `cdp_connect`.
    struct CdpConnect(rest: Rest) {} optional {
        /// The connection, as in the events of its commands and of its end.
        connection_id: String,
    }

    /// `data` of `cdp_disconnect`.
    struct CdpDisconnect(rest: Rest) {} required {
        /// How long it was connected, in milliseconds.
        duration_ms: f64,
        /// How many messages were sent in both directions.
        message_count: u64,
        /// Why it ended: `client_close`, `upstream_changed`, `upstream_error` or `context_cancelled`.
        reason: String,
    } optional {
        /// The connection, as in the events of its beginning and of its commands.
        connection_id: String,
        /// Which side ended it, and how; more exact than `reason`.
        detail: String,
        /// How many commands have no event because the configuration excludes their method.
        telemetry_excluded: u64,
        /// How many messages of the client were not read, because too many were waiting, or because they
        /// could not be read: at least as many as commands that have no event.
        telemetry_dropped: u64,
    }

    /// `data` of `live_view_connect`.
    struct LiveViewConnect(rest: Rest) {} required {
        /// The viewer's session.
        session_id: String,
    }

    /// `data` of `live_view_disconnect`.
    struct LiveViewDisconnect(rest: Rest) {} required {
        /// The viewer's session.
        session_id: String,
        /// How long it lasted, in milliseconds.
        duration_ms: f64,
    }
}

/// `data` of `cdp_command`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CdpCommand {
    /// The command, such as `Page.navigate`.
    pub method: String,
    /// The connection that it came on, as in the events of its beginning and of its end.
    pub connection_id: Option<String>,
    /// The DevTools session that it was sent in; absent for one to the browser or to a page's own connection.
    pub session_id: Option<String>,
    /// The target of that session or connection, where it is known.
    pub target_id: Option<String>,
    /// The client's number of the command.
    pub command_id: Option<i64>,
    /// The approved arguments, in snake_case: never typed text, scripts, cookies or headers. They are fields
    /// beside the others.
    pub arguments: Map<String, Value>,
}

impl Serialize for CdpCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("method", &self.method)?;
        for (name, value) in self.ids() {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(id) = self.command_id {
            map.serialize_entry("command_id", &id)?;
        }
        for (name, value) in &self.arguments {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for CdpCommand {
    /// A field that is null or of another kind is among the arguments.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut arguments = Map::<String, Value>::deserialize(deserializer)?;
        let method = match arguments.remove("method") {
            None | Some(Value::Null) => Err(Error::custom("missing")),
            Some(method) => String::deserialize(method),
        };
        let method = method.map_err(|error| D::Error::custom(of_field("method", &error)))?;
        let mut id = |name| match arguments.get_mut(name) {
            Some(Value::String(id)) => {
                let id = std::mem::take(id);
                arguments.remove(name);
                Some(id)
            }
            _ => None,
        };
        let (connection_id, session_id, target_id) =
            (id("connection_id"), id("session_id"), id("target_id"));
        let command_id = arguments.get("command_id").and_then(Value::as_i64);
        if command_id.is_some() {
            arguments.remove("command_id");
        }
        Ok(Self {
            method,
            connection_id,
            session_id,
            target_id,
            command_id,
            arguments,
        })
    }
}

impl CdpCommand {
    fn ids(&self) -> [(&'static str, Option<&String>); 3] {
        [
            ("connection_id", self.connection_id.as_ref()),
            ("session_id", self.session_id.as_ref()),
            ("target_id", self.target_id.as_ref()),
        ]
    }
}

/// `data` of `platform_api_call`: the same as of `api_call`.
pub type PlatformApiCall = ApiCall;

// Captchas.
payloads! {
    /// `data` of `captcha_solve_started`.
    struct CaptchaSolveStarted(rest: Rest) {} required {
        /// What kind of captcha.
        captcha_type: String,
    } optional {
        /// The product that the challenge belongs to.
        captcha_provider: String,
        /// The solver's task.
        task_id: String,
        /// What the task produces: a token, an image challenge …
        task_kind: String,
        /// The challenge.
        challenge_id: String,
        /// Whether the challenge is about images or a video.
        media: String,
        /// The host of the page with the captcha.
        website_host: String,
        /// The path of the page with the captcha.
        website_path: String,
    }

    /// `data` of `captcha_challenge_result`.
    struct CaptchaChallengeResult(rest: Rest) {} required {
        /// How it ended.
        status: ChallengeStatus,
        /// How long it took, in milliseconds.
        duration_ms: f64,
    } optional {
        /// The challenge; absent where the result is inferred.
        challenge_id: String,
        /// What kind of captcha.
        captcha_type: String,
        /// The product that the challenge belongs to.
        captcha_provider: String,
        /// `true` if it follows from a task of the solver, without a look at the page.
        inferred: bool,
        /// The solver's task that an inferred result follows from.
        task_id: String,
        /// The host of the page with the captcha.
        website_host: String,
        /// The path of the page with the captcha.
        website_path: String,
    }

    /// `data` of `captcha_solve_result`.
    struct CaptchaSolveResult(rest: Rest) {} required {
        /// What kind of captcha.
        captcha_type: String,
        /// How it ended.
        status: CaptchaStatus,
        /// How long it took, in milliseconds.
        duration_ms: f64,
    } optional {
        /// The product that the challenge belongs to.
        captcha_provider: String,
        /// The solver's task.
        task_id: String,
        /// What the task produces: a token, an image challenge …
        task_kind: String,
        /// The challenge.
        challenge_id: String,
        /// Whether the challenge is about images or a video.
        media: String,
        /// The host of the page with the captcha.
        website_host: String,
        /// The path of the page with the captcha.
        website_path: String,
        /// The solver's error code.
        error_code: String,
    }
}

kinds! {
    /// How solving a captcha ended.
    enum CaptchaStatus {
        /// Solved.
        Success "success",
        /// Not solved.
        Failure "failure",
        /// Not solved in time.
        Timeout "timeout",
        /// Abandoned, usually because the page was closed or navigated.
        Abandoned "abandoned",
    }

    /// How a challenge ended, whatever was tried.
    enum ChallengeStatus {
        /// The challenge is gone after a solution.
        Solved "solved",
        /// The challenge remained after all attempts.
        Failure "failure",
        /// The challenge remained for too long.
        Timeout "timeout",
        /// It is not known how it ended, usually because the page was closed or navigated.
        Abandoned "abandoned",
    }
}

// The machine.
payloads! {
    /// `data` of `system_oom_kill`. Sizes are in KiB.
    struct SystemOomKill(rest: Rest) {} required {
        /// The process that was killed.
        process_name: String,
        /// Its id.
        pid: u64,
        /// The memory it held.
        rss_kb: u64,
    } optional {
        /// The process that asked for memory.
        trigger_process_name: String,
        /// Its id.
        trigger_pid: u64,
        /// The kernel's name for the limit that was reached.
        constraint: String,
        /// The machine's memory.
        mem_total_kb: u64,
        /// The free memory of the machine.
        mem_free_kb: u64,
        /// The processes with the most memory, five at most.
        top_tasks: Vec<OomTask>,
    }

    /// A process as the kernel listed it when memory ran out.
    struct OomTask {
        /// The process.
        name: String,
        /// Its id.
        pid: u64,
        /// The memory it held.
        rss_kb: u64,
    }

    /// `data` of `service_crashed`.
    struct ServiceCrashed(rest: Rest) {} required {
        /// The service.
        service_name: String,
        /// When it crashed.
        phase: CrashPhase,
    } optional {
        /// The id of its process.
        pid: u64,
    }
}

kinds! {
    /// When a service crashed.
    enum CrashPhase {
        /// Before it was ready.
        Startup "startup",
        /// While it ran.
        Running "running",
        /// It crashed again and is not restarted.
        GaveUp "gave_up",
    }
}
