//! The typed `data` of each known event type: one struct with the type's name, and [`EventData`], an enum
//! over all of them.
//!
//! These types are for reading. Publishing does not check `data` and carries it unchanged, so the types
//! are lenient: an unknown field is ignored, and a field that the taxonomy does not require is an
//! `Option`. All fields of [`Context`] are optional, because only a browser has them. A field that is
//! `None` is omitted when written.
//!
//! Times called `cdp_timestamp`, `time`, `render_time` and `load_time`, and `duration` without a
//! unit in its name, are in seconds, as the browser gives them. Coordinates are CSS pixels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event_type::{KnownType, with_known_types};

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

/// Where in the browser something happened. Its fields are among the other fields of `data`; each is
/// present if the producer knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// The collector's DevTools session for the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The browser's id of the tab, frame or worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// The kind of target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<TargetType>,
    /// Counts the top-level navigations of the target, from 0: events of one page share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nav_seq: Option<u64>,
    /// The frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_id: Option<String>,
    /// The document within the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader_id: Option<String>,
    /// The address: of the request for network events, of the page for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The kind of a target in the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Any other kind, including kinds that this version does not know.
    #[serde(other)]
    Other,
}

/// A stack trace, with the names that the DevTools protocol uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackTrace {
    /// What the trace belongs to, such as `setTimeout` for one that a timer started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The calls, innermost first.
    pub call_frames: Vec<CallFrame>,
    /// The trace of the code that scheduled this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<StackTrace>>,
}

/// One call of a [`StackTrace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFrame {
    /// The function; empty for an anonymous one.
    pub function_name: String,
    /// The browser's id of the script.
    pub script_id: String,
    /// Where the script came from.
    pub url: String,
    /// Line in the script, from 0; -1 if there is none.
    pub line_number: i64,
    /// Column in the line, from 0; -1 if there is none.
    pub column_number: i64,
}

/// Declares payloads: `struct Name: Context { required fields } optional { fields that may be absent }`. All
/// of them derive the same traits, and an absent optional field is omitted when written.
macro_rules! payloads {
    ($(
        $(#[$meta:meta])*
        struct $name:ident $(: $context:ident)? {
            $($(#[$promised_meta:meta])* $promised:ident: $promised_type:ty,)*
        }
        $(optional {
            $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty,)*
        })?
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $(
                /// Where in the browser it happened.
                #[serde(flatten)]
                pub context: $context,
            )?
            $($(#[$promised_meta])* pub $promised: $promised_type,)*
            $($(
                $(#[$optional_meta])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$optional_type>,
            )*)?
        }
    )* };
}

// Console.
payloads! {
    /// `data` of `console_log`.
    struct ConsoleLog: Context {
        /// The browser's name of the call: `log`, `info`, `warning`, `debug`, `table`, `assert` …
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
    struct ConsoleError: Context {
        /// The message, or the exception as text. That of an unhandled rejection begins with
        /// `Uncaught (in promise)`.
        text: String,
    } optional {
        /// `error` for a console call or a line of the browser itself, absent for an exception.
        level: String,
        /// Each argument of a console call as text.
        args: Vec<String>,
        /// Where an exception was thrown: line within the script, from 0.
        line: i64,
        /// Column within the line, from 0.
        column: i64,
        /// The script that threw.
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
    struct NetworkRequest: Context {
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
    }

    /// `data` of `network_response`. The address is the context's `url`.
    struct NetworkResponse: Context {
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
    struct NetworkResponseEnd: Context {
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

    /// `data` of `network_websocket_closed`. Its opening is a `network_request` with the resource type
    /// `WebSocket` and a `network_response` with status 101.
    struct NetworkWebsocketClosed: Context {
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
    struct NetworkLoadingFailed: Context {
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
    struct NetworkIdle: Context {}

    /// `data` of `proxy_error`.
    struct ProxyError: Context {
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
    struct PageNavigation {
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
    struct PageDomContentLoaded: Context {
        /// When, on the browser's monotonic clock, in seconds.
        cdp_timestamp: f64,
    }

    /// `data` of `page_load`.
    struct PageLoad: Context {
        /// When, on the browser's monotonic clock, in seconds.
        cdp_timestamp: f64,
    }

    /// `data` of `page_tab_opened`.
    struct PageTabOpened {
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
    struct PageLayoutShift: Context {
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
    struct PageLcp: Context {
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
    struct PageLayoutSettled: Context {}

    /// `data` of `page_navigation_settled`.
    struct PageNavigationSettled: Context {}

    /// `data` of `page_crashed`. The context names the page.
    struct PageCrashed: Context {}
}

// Interaction.
payloads! {
    /// `data` of `interaction_click`.
    struct InteractionClick: Context {
        /// From the left of the view, in CSS pixels.
        x: f64,
        /// From the top of the view, in CSS pixels.
        y: f64,
        /// A selector of the element.
        selector: String,
        /// The element's tag.
        tag: String,
    } optional {
        /// The start of the element's text.
        text: String,
    }

    /// `data` of `interaction_key`.
    struct InteractionKey: Context {
        /// The key, as the DOM names it.
        key: String,
        /// A selector of the element that has the focus.
        selector: String,
        /// That element's tag.
        tag: String,
    }

    /// `data` of `interaction_scroll_settled`.
    struct InteractionScrollSettled: Context {
        /// The start, in CSS pixels from the left.
        from_x: f64,
        /// The start, in CSS pixels from the top.
        from_y: f64,
        /// The end, in CSS pixels from the left.
        to_x: f64,
        /// The end, in CSS pixels from the top.
        to_y: f64,
        /// A selector of the scrolled element.
        target_selector: String,
    }
}

// Screenshots, and the collector itself.
payloads! {
    /// `data` of `monitor_screenshot`.
    struct MonitorScreenshot: Context {
        /// The picture as PNG, in base64.
        png: String,
    }

    /// `data` of `monitor_disconnected`.
    struct MonitorDisconnected {
        /// Why.
        reason: DisconnectReason,
    }

    /// `data` of `monitor_reconnected`.
    struct MonitorReconnected {
        /// How long the collector was without a browser, in milliseconds.
        reconnect_duration_ms: u64,
    }

    /// `data` of `monitor_reconnect_failed`.
    struct MonitorReconnectFailed {
        /// Why.
        reason: ReconnectFailure,
    }

    /// `data` of `monitor_init_failed`.
    struct MonitorInitFailed {
        /// The step that failed.
        step: String,
    }
}

/// Why the collector lost the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// The browser was restarted.
    ChromeRestarted,
    /// The connection broke.
    ConnectionLost,
}

/// Why the collector stopped trying to reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectFailure {
    /// All attempts failed.
    ReconnectExhausted,
}

// APIs and connections.
payloads! {
    /// `data` of `api_call`.
    struct ApiCall {
        /// The id of the call.
        request_id: String,
        /// The operation's id in the API's document.
        operation_id: String,
        /// The HTTP status of the answer.
        status: u32,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    }

    /// `data` of `cdp_command`.
    struct CdpCommand {
        /// The command, such as `Page.navigate`.
        method: String,
        /// The arguments on the allow-list: never typed text, scripts, cookies or headers. They are
        /// fields beside `method`.
        #[serde(flatten)]
        arguments: serde_json::Map<String, serde_json::Value>,
    }

    /// `data` of `cdp_connect`: there is none.
    struct CdpConnect {}

    /// `data` of `cdp_disconnect`.
    struct CdpDisconnect {
        /// How long it was connected, in milliseconds.
        duration_ms: u64,
        /// How many messages were sent in both directions.
        message_count: u64,
        /// Why it ended.
        reason: String,
    }

    /// `data` of `live_view_connect`.
    struct LiveViewConnect {
        /// The viewer's session.
        session_id: String,
    }

    /// `data` of `live_view_disconnect`.
    struct LiveViewDisconnect {
        /// The viewer's session.
        session_id: String,
        /// How long it lasted, in milliseconds.
        duration_ms: u64,
    }
}

/// `data` of `platform_api_call`: the same as of `api_call`.
pub type PlatformApiCall = ApiCall;

// Captchas.
payloads! {
    /// `data` of `captcha_solve_started`.
    struct CaptchaSolveStarted {
        /// What kind of captcha.
        captcha_type: String,
    } optional {
        /// The solver's task.
        task_id: String,
        /// The challenge.
        challenge_id: String,
        /// The host of the page with the captcha.
        website_host: String,
        /// The path of the page with the captcha.
        website_path: String,
    }

    /// `data` of `captcha_challenge_result`.
    struct CaptchaChallengeResult {
        /// The challenge.
        challenge_id: String,
        /// How it ended.
        status: String,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    }

    /// `data` of `captcha_solve_result`.
    struct CaptchaSolveResult {
        /// What kind of captcha.
        captcha_type: String,
        /// How it ended.
        status: CaptchaStatus,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    } optional {
        /// The solver's task.
        task_id: String,
        /// The host of the page with the captcha.
        website_host: String,
        /// The path of the page with the captcha.
        website_path: String,
        /// The solver's error code.
        error_code: String,
    }
}

/// How solving a captcha ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptchaStatus {
    /// Solved.
    Success,
    /// Not solved.
    Failure,
    /// Not solved in time.
    Timeout,
    /// Abandoned, usually because the page was closed or navigated.
    Abandoned,
}

// The machine.
payloads! {
    /// `data` of `system_oom_kill`. Sizes are in KiB.
    struct SystemOomKill {
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
        process_name: String,
        /// Its id.
        pid: u64,
        /// The memory it held.
        rss_kb: u64,
    }

    /// `data` of `service_crashed`.
    struct ServiceCrashed {
        /// The service.
        service_name: String,
        /// When it crashed.
        phase: CrashPhase,
    } optional {
        /// The id of its process.
        pid: u64,
    }
}

/// When a service crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashPhase {
    /// Before it was ready.
    Startup,
    /// While it ran.
    Running,
    /// It crashed again and is not restarted.
    GaveUp,
}
