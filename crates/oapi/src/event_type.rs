//! Event types: the [`KnownType`]s, each with its category, and any other name.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::category::Category;

/// The table of known types: variant, name on the wire, category, meaning. [`KnownType`] and
/// [`EventData`](crate::data::EventData) are both generated from it.
macro_rules! with_known_types {
    ($make:ident) => {
        $make! {
            ConsoleLog "console_log" Console "A page wrote to its console, at any level except error.";
            ConsoleError "console_error" Console "A page wrote an error to its console, or has an uncaught exception.";
            NetworkRequest "network_request" Network "A request was sent.";
            NetworkResponse "network_response" Network "A response has ended, or lasts already for some seconds.";
            NetworkResponseEnd "network_response_end" Network "A response that was reported while it lasted has ended.";
            NetworkWebsocketMessage "network_websocket_message" Network "A message of a WebSocket, where the collector is configured to report them.";
            NetworkWebsocketClosed "network_websocket_closed" Network "A WebSocket was closed, or its connection broke.";
            NetworkLoadingFailed "network_loading_failed" Network "A request failed before it was answered, or the body of its answer broke off.";
            NetworkIdle "network_idle" Network "No request was in flight for 500 ms.";
            PageNavigation "page_navigation" Page "A frame navigated to another document.";
            PageDomContentLoaded "page_dom_content_loaded" Page "The document was parsed.";
            PageLoad "page_load" Page "The document and its resources were loaded.";
            PageTabOpened "page_tab_opened" Page "A tab or popup opened.";
            PageLayoutShift "page_layout_shift" Page "A visible element moved without user input.";
            PageLcp "page_lcp" Page "The largest contentful paint so far.";
            PageLayoutSettled "page_layout_settled" Page "No layout shift for one second after load.";
            PageNavigationSettled "page_navigation_settled" Page "A navigation's document was parsed and its layout settled.";
            PageCrashed "page_crashed" Page "The page's process crashed.";
            InteractionClick "interaction_click" Interaction "A click.";
            InteractionKey "interaction_key" Interaction "A key press.";
            InteractionScrollSettled "interaction_scroll_settled" Interaction "A scroll ended.";
            MonitorScreenshot "monitor_screenshot" Screenshot "A picture of the page.";
            MonitorDisconnected "monitor_disconnected" Monitor "The collector lost the browser.";
            MonitorReconnected "monitor_reconnected" Monitor "The collector reconnected to the browser.";
            MonitorReconnectFailed "monitor_reconnect_failed" Monitor "The collector stopped trying to reconnect.";
            MonitorInitFailed "monitor_init_failed" Monitor "The collector could not start.";
            ProxyError "proxy_error" Network "An egress proxy answered with its error page.";
            ApiCall "api_call" Control "A call of an API that drives the browser.";
            PlatformApiCall "platform_api_call" Platform "A call of an API that manages the machine or the telemetry.";
            CdpCommand "cdp_command" Control "A client sent a command through the DevTools relay.";
            CdpConnect "cdp_connect" Connection "A client connected to the browser.";
            CdpDisconnect "cdp_disconnect" Connection "A client of the browser disconnected.";
            LiveViewConnect "live_view_connect" Connection "A viewer connected.";
            LiveViewDisconnect "live_view_disconnect" Connection "A viewer disconnected.";
            CaptchaSolveStarted "captcha_solve_started" Captcha "Solving a captcha started.";
            CaptchaChallengeResult "captcha_challenge_result" Captcha "One challenge of a captcha ended.";
            CaptchaSolveResult "captcha_solve_result" Captcha "Solving a captcha ended.";
            SystemOomKill "system_oom_kill" System "The kernel killed a process because memory ran out.";
            ServiceCrashed "service_crashed" System "A service of the machine crashed.";
        }
    };
}
pub(crate) use with_known_types;

macro_rules! known_type {
    ($($variant:ident $name:literal $category:ident $doc:literal;)*) => {
        /// An event type that Tapline knows. It has a fixed category, and its `data` has known fields (see
        /// [`data`](crate::data)).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum KnownType {
            $(#[doc = concat!("`", $name, "`: ", $doc)] $variant,)*
        }

        impl KnownType {
            /// Every known type, in the order of the taxonomy.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The category of every event of this type, also if its publisher names another one.
            #[must_use]
            pub const fn category(self) -> Category {
                match self { $(Self::$variant => Category::$category,)* }
            }

            /// What an event of this type reports, in one sentence.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }

        /// As `FromStr`, but without an error value: the name may be a valid custom type.
        fn known(name: &str) -> Option<KnownType> {
            match name {
                $($name => Some(KnownType::$variant),)*
                _ => None,
            }
        }
    };
}
with_known_types!(known_type);

impl FromStr for KnownType {
    type Err = UnknownType;

    fn from_str(name: &str) -> Result<Self, UnknownType> {
        known(name).ok_or_else(|| UnknownType(name.to_owned()))
    }
}

impl fmt::Display for KnownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is not a known type. It may be a valid custom type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a known event type")]
pub struct UnknownType(
    /// The name that was given.
    pub String,
);

/// The name of an event type: a known type, or any other non-empty name.
///
/// A known name is always [`Known`](Self::Known), so that equal names are equal values: use
/// [`EventType::new`] instead of `Custom`.
///
/// ```
/// use tapline_oapi::{Category, EventType, KnownType};
///
/// let known = EventType::new("page_load")?;
/// assert_eq!(known, EventType::Known(KnownType::PageLoad));
/// assert_eq!(known.category(), Some(Category::Page));
///
/// let custom = EventType::new("checkout_done")?;
/// assert_eq!(custom.category(), None);
/// # Ok::<(), tapline_oapi::EmptyType>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A type that Tapline knows.
    Known(KnownType),
    /// Any other name. Not empty, and not the name of a known type.
    Custom(Box<str>),
}

impl EventType {
    /// The type of this name.
    ///
    /// # Errors
    ///
    /// [`EmptyType`] if `name` is empty. Any other name is valid.
    pub fn new(name: &str) -> Result<Self, EmptyType> {
        match known(name) {
            Some(known) => Ok(Self::Known(known)),
            None if name.is_empty() => Err(EmptyType),
            None => Ok(Self::Custom(name.into())),
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(known) => known.as_str(),
            Self::Custom(name) => name,
        }
    }

    /// The category of a known type; `None` for a custom type.
    #[must_use]
    pub const fn category(&self) -> Option<Category> {
        match self {
            Self::Known(known) => Some(known.category()),
            Self::Custom(_) => None,
        }
    }
}

impl From<KnownType> for EventType {
    fn from(known: KnownType) -> Self {
        Self::Known(known)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = EventType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a non-empty string")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<EventType, E> {
                EventType::new(name).map_err(E::custom)
            }
        }

        // A visitor instead of `String`, so that a known name is read without an allocation.
        deserializer.deserialize_str(Name)
    }
}

/// Checks a pattern of event types, in which `*` stands for any characters.
///
/// A filter tries its patterns on every event, so what one pattern can cost is bounded: by its length, and by how
/// many `*` it has.
///
/// # Errors
///
/// [`InvalidPattern`] if `pattern` is empty, has more than [`MAX_PATTERN_BYTES`] bytes, or more than
/// [`MAX_PATTERN_STARS`] times `*`.
///
/// ```
/// use tapline_oapi::{InvalidPattern, check_pattern};
///
/// assert_eq!(check_pattern("network_*"), Ok(()));
/// assert_eq!(check_pattern(&"*a".repeat(17)), Err(InvalidPattern::TooManyStars));
/// ```
pub fn check_pattern(pattern: &str) -> Result<(), InvalidPattern> {
    if pattern.is_empty() {
        return Err(InvalidPattern::Empty);
    }
    if MAX_PATTERN_BYTES < pattern.len() {
        return Err(InvalidPattern::TooLong);
    }
    if MAX_PATTERN_STARS < pattern.bytes().filter(|byte| *byte == b'*').count() {
        return Err(InvalidPattern::TooManyStars);
    }
    Ok(())
}

/// The most bytes of a pattern of event types.
pub const MAX_PATTERN_BYTES: usize = 256;

/// How often `*` may be in a pattern of event types.
pub const MAX_PATTERN_STARS: usize = 16;

/// Why a text is not accepted as a pattern of event types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is empty.
    #[error("an event type must not be empty")]
    Empty,
    /// It has more than [`MAX_PATTERN_BYTES`] bytes.
    #[error(
        "a pattern has more than {MAX_PATTERN_BYTES} bytes; send a shorter one, such as the beginning and `*`"
    )]
    TooLong,
    /// It has more than [`MAX_PATTERN_STARS`] times `*`.
    #[error("a pattern has more than {MAX_PATTERN_STARS} `*`; send one with fewer")]
    TooManyStars,
}

/// An event type must have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event type must not be empty")]
pub struct EmptyType;
