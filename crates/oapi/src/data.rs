//! What `data` holds, for each known type: one struct of the type's name, and [`EventData`] over
//! all of them.
//!
//! These are for reading: publishing checks nothing of it, `data` goes through as it is. So they
//! are lenient: an unknown field is passed over, and what the taxonomy does not promise is an
//! `Option`. The [`Context`] is optional as a whole, because a producer that is no browser has
//! none to give. A field that is `None` is left out when written.
//!
//! Times called `cdp_timestamp`, `time`, `render_time` and `load_time`, and `duration` without a
//! unit in its name, are the browser's own: seconds. Coordinates are CSS pixels.

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
            /// Where `data` is not what the type promises.
            pub fn parse(known: KnownType, data: &str) -> Result<Self, serde_json::Error> {
                match known {
                    $(KnownType::$variant => serde_json::from_str(data).map(Self::$variant),)*
                }
            }
        }
    };
}
with_known_types!(event_data);

/// Where in the browser something happened. Its fields stand among those of the event's own
/// `data`; each is there where the producer knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// The DevTools session through which the collector sees the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The tab, frame or worker, as the browser calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// What kind of target.
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

/// What kind of thing within the browser.
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
    /// Any other kind, also one that this version does not know.
    #[serde(other)]
    Other,
}

/// A stack trace, with the names that the DevTools protocol uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackTrace {
    /// What the trace is of, such as `setTimeout` for one that a timer began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The calls, innermost first.
    pub call_frames: Vec<CallFrame>,
    /// The trace of what set this one off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<StackTrace>>,
}

/// One call of a [`StackTrace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFrame {
    /// The function; empty for an anonymous one.
    pub function_name: String,
    /// The script, as the browser calls it.
    pub script_id: String,
    /// Where the script came from.
    pub url: String,
    /// Line within the script, from 0; -1 where there is none.
    pub line_number: i64,
    /// Column within the line, from 0; -1 where there is none.
    pub column_number: i64,
}

/// Declares payloads: `struct Name: Context { what is promised } optional { what may be absent }`. They
/// all derive the same, and what is optional is always left out when there is none.
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
        /// The message: the first argument as text.
        text: String,
    } optional {
        /// All arguments as text.
        args: Vec<String>,
        /// From where it was called.
        stack_trace: StackTrace,
    }

    /// `data` of `console_error`.
    struct ConsoleError: Context {
        /// The message, or the exception as text.
        text: String,
    } optional {
        /// `error` for a console call, absent for an exception.
        level: String,
        /// All arguments of a console call as text.
        args: Vec<String>,
        /// Where an exception was thrown: line within the script, from 0.
        line: i64,
        /// Column within the line, from 0.
        column: i64,
        /// The script that threw.
        source_url: String,
        /// From where it was called or thrown.
        stack_trace: StackTrace,
    }
}

// Network.
payloads! {
    /// `data` of `network_request`. The address is the context's `url`.
    struct NetworkRequest: Context {
        /// Ties a request to its response or failure; a redirect keeps it.
        request_id: String,
        /// The HTTP method.
        method: String,
        /// The document that asks.
        document_url: String,
        /// The request's headers.
        headers: BTreeMap<String, String>,
        /// What made the browser ask: `parser`, `script`, `preload`, `other` …
        initiator_type: String,
    } optional {
        /// What it is for: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
        /// The body.
        post_data: String,
        /// Whether it follows a redirect.
        is_redirect: bool,
        /// The address that redirected here.
        redirect_url: String,
    }

    /// `data` of `network_response`. The address is the context's `url`.
    struct NetworkResponse: Context {
        /// The request that this answers.
        request_id: String,
        /// The request's HTTP method.
        method: String,
        /// The HTTP status.
        status: u16,
        /// The response's headers; several of one name are joined by line breaks.
        headers: BTreeMap<String, String>,
    } optional {
        /// The text beside the status.
        status_text: String,
        /// The media type.
        mime_type: String,
        /// What it is for: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
        /// The body, of text alone, and cut where it is long.
        body: String,
    }

    /// `data` of `network_loading_failed`.
    struct NetworkLoadingFailed: Context {
        /// The request that failed.
        request_id: String,
        /// The browser's name of the failure, such as `net::ERR_ABORTED`.
        error_text: String,
        /// Whether it was cancelled rather than refused.
        canceled: bool,
    } optional {
        /// What it is for: `Document`, `Stylesheet`, `Script`, `Fetch` …
        resource_type: String,
    }

    /// `data` of `network_idle`.
    struct NetworkIdle: Context {}

    /// `data` of `proxy_error`.
    struct ProxyError: Context {
        /// What went wrong, in the proxy's terms made uniform.
        code: String,
        /// The request that the proxy answered.
        request_id: String,
        /// The HTTP status of its answer.
        status: u16,
    } optional {
        /// The request's HTTP method.
        method: String,
        /// The code exactly as the proxy gave it.
        raw_code: String,
        /// What the request was for.
        resource_type: String,
    }
}

// Page.
payloads! {
    /// `data` of `page_navigation`.
    struct PageNavigation {
        /// The new address.
        url: String,
        /// The frame that went there.
        frame_id: String,
        /// The new document.
        loader_id: String,
    } optional {
        /// The frame around it; absent for a top-level navigation.
        parent_frame_id: String,
        /// The DevTools session through which the collector sees the target.
        session_id: String,
        /// The target that the frame belongs to.
        target_id: String,
        /// What kind of target.
        target_type: TargetType,
        /// The number of this navigation, from collectors that tell it.
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
        /// Where it begins.
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

    /// How much of the view moved, and by how far.
    struct LayoutShiftDetails {
        /// The score of this one shift, 0 and up.
        value: f64,
        /// Whether a user's input just before explains it.
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
        /// When it was loaded, in seconds since the Unix epoch; 0 for what is not loaded, as text.
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

    /// `data` of `page_crashed`. Which page, is in the context.
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
        /// The element's text, cut.
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
        /// Where it began, in CSS pixels from the left.
        from_x: f64,
        /// Where it began, in CSS pixels from the top.
        from_y: f64,
        /// Where it came to rest, in CSS pixels from the left.
        to_x: f64,
        /// Where it came to rest, in CSS pixels from the top.
        to_y: f64,
        /// A selector of what was scrolled.
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
    /// The browser was started anew.
    ChromeRestarted,
    /// The connection broke.
    ConnectionLost,
}

/// Why the collector gave the browser up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectFailure {
    /// It tried as often as it may.
    ReconnectExhausted,
}

// APIs and connections.
payloads! {
    /// `data` of `api_call`.
    struct ApiCall {
        /// The call.
        request_id: String,
        /// The operation, as the API's document calls it.
        operation_id: String,
        /// The HTTP status of the answer.
        status: u16,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    }

    /// `data` of `cdp_command`.
    struct CdpCommand {
        /// The command, such as `Page.navigate`.
        method: String,
        /// Those of its arguments that are approved: never typed text, scripts, cookies, headers.
        /// They stand beside `method`.
        #[serde(flatten)]
        arguments: serde_json::Map<String, serde_json::Value>,
    }

    /// `data` of `cdp_connect`: there is none.
    struct CdpConnect {}

    /// `data` of `cdp_disconnect`.
    struct CdpDisconnect {
        /// How long it was connected, in milliseconds.
        duration_ms: u64,
        /// How many messages went either way.
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
        /// The host of the page that asks.
        website_host: String,
        /// The path of the page that asks.
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
        /// The host of the page that asked.
        website_host: String,
        /// The path of the page that asked.
        website_path: String,
        /// The solver's code of what went wrong.
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
    /// Given up, most likely because the page went away.
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
        /// What the memory was bounded by, as the kernel calls it.
        constraint: String,
        /// The machine's memory.
        mem_total_kb: u64,
        /// What of it was free.
        mem_free_kb: u64,
        /// The processes that held most, at most five.
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
        /// When in its life.
        phase: CrashPhase,
    } optional {
        /// The id of its process.
        pid: u64,
    }
}

/// When in a service's life it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashPhase {
    /// Before it was ready.
    Startup,
    /// While it ran.
    Running,
    /// For the last time: it is not started again.
    GaveUp,
}
