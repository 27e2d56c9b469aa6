//! Which command caused an event: [`Causes`], between the relay and the browser source.
//!
//! The relay publishes a command and says what may follow from it, an [`Effect`]. The source asks about each
//! event before it is published. Neither needs to know the other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tapline_oapi::{Event, EventType, KnownType, Source};

/// How many effects are expected at the same time. Beyond it, the oldest is given up.
const MAX_EXPECTED: usize = 256;

/// How long a navigation may take until its request is sent, or until its document is loaded after that.
const NAVIGATION: Duration = Duration::from_secs(30);

/// How long the browser may take to open a tab.
const TAB: Duration = Duration::from_secs(10);

/// How long a page may take to handle an input.
const INPUT: Duration = Duration::from_secs(1);

/// A scroll is reported when it has settled.
const SCROLL: Duration = Duration::from_secs(2);

/// What may follow from a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The frame loads a document.
    Navigation {
        /// The target that the command was sent to.
        target: String,
        /// The frame; `None` is the main one.
        frame: Option<String>,
        /// The URL as the browser source's events show it; `None` where the command names none.
        url: Option<String>,
    },
    /// A tab is opened.
    Tab {
        /// The URL that it loads, as the browser source's events show it.
        url: String,
    },
    /// The page is clicked.
    Click {
        /// The target that the command was sent to.
        target: String,
        /// From the left of the view, in CSS pixels.
        x: f64,
        /// From the top of the view, in CSS pixels.
        y: f64,
    },
    /// A key goes down.
    Key {
        /// The target that the command was sent to.
        target: String,
        /// The key, as the DOM names it. It is compared, and not published.
        key: String,
    },
    /// The page is scrolled.
    Scroll {
        /// The target that the command was sent to.
        target: String,
    },
}

/// What the browser has answered to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// The document that a navigation loads.
    Loader(String),
    /// The tab that was opened.
    Target(String),
    /// Nothing follows: an error, or a navigation within the document.
    Nothing,
}

/// A command as a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The seq of its event.
    pub seq: u64,
    /// The trace that its connection belongs to.
    pub trace: Option<Trace>,
}

/// A position in a distributed trace (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
}

impl Trace {
    /// Reads the value of a `traceparent` header. `None` where it is not valid: it is ignored then, as the
    /// recommendation demands.
    ///
    /// ```
    /// use tapline_api::Trace;
    ///
    /// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// assert_eq!(Trace::parse(header).unwrap().span_id, "00f067aa0ba902b7");
    /// assert_eq!(Trace::parse("00-0-0-01"), None);
    /// ```
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let hex = |text: &str, length: usize| {
            let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            text.len() == length && text.bytes().all(digit)
        };
        let mut parts = traceparent.trim_matches([' ', '\t']).split('-');
        let (version, trace_id) = (parts.next()?, parts.next()?);
        let (span_id, flags) = (parts.next()?, parts.next()?);
        // A later version may have more parts.
        let is_whole = parts.next().is_none() || version != "00";
        let is_valid = hex(version, 2) && version != "ff" && hex(flags, 2) && is_whole;
        let is_id = |id: &str, length| hex(id, length) && id.bytes().any(|byte| byte != b'0');
        (is_valid && is_id(trace_id, 32) && is_id(span_id, 16)).then(|| Self {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
        })
    }

    /// Writes it into the metadata of an event's source, over what the producer wrote there.
    pub fn mark(&self, source: &mut Source) {
        let metadata = &mut source.metadata;
        metadata.insert("trace_id".to_owned(), self.trace_id.clone());
        metadata.insert("span_id".to_owned(), self.span_id.clone());
    }
}

/// Commands from which something may follow still. See [`Publisher::causes`](crate::Publisher::causes).
///
/// Bounded: 256 effects, each for a time that depends on its kind (1 s for an input, 30 s for a navigation).
/// A mutex protects it, which is held for some microseconds: for code that publishes commands and events, and
/// not for code that passes bytes on.
#[derive(Debug, Default)]
pub struct Causes {
    expected: Mutex<VecDeque<Expected>>,
    /// How many there are, so that looking costs a load where there are none.
    count: AtomicUsize,
    excluded: RwLock<BTreeSet<String>>,
}

#[derive(Debug)]
struct Expected {
    cause: Cause,
    of: Waiting,
    until: Instant,
}

/// What an event is compared with.
#[derive(Debug)]
enum Waiting {
    Effect(Effect),
    /// A document: its requests, its navigation and its loading.
    Loader(String),
    /// The tab with that id, which loads this URL.
    Target {
        id: String,
        url: String,
    },
}

/// The parts of an event's data that say what it follows from.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parts {
    target_id: Option<String>,
    frame_id: Option<String>,
    loader_id: Option<String>,
    request_id: Option<String>,
    resource_type: Option<String>,
    opener_id: Option<String>,
    url: Option<String>,
    x: Option<f64>,
    y: Option<f64>,
    key: Option<String>,
}

impl Causes {
    /// Expects this to follow from a command that was published.
    pub fn expect(&self, cause: Cause, effect: Effect) {
        let within = match effect {
            Effect::Navigation { .. } => NAVIGATION,
            Effect::Tab { .. } => TAB,
            Effect::Click { .. } | Effect::Key { .. } => INPUT,
            Effect::Scroll { .. } => SCROLL,
        };
        let now = Instant::now();
        let mut expected = self.expected(now);
        if expected.len() == MAX_EXPECTED {
            expected.pop_front();
        }
        expected.push_back(Expected {
            cause,
            of: Waiting::Effect(effect),
            until: now + within,
        });
        self.count.store(expected.len(), Relaxed);
    }

    /// Takes what the browser has answered to the command with that seq.
    pub fn answered(&self, seq: u64, answer: Answered) {
        let mut expected = self.expected(Instant::now());
        let of_it = |it: &&mut Expected| it.cause.seq == seq && it.of.waits_for_an_answer();
        if answer == Answered::Nothing {
            expected.retain(|it| it.cause.seq != seq || !it.of.waits_for_an_answer());
        } else if let Some(found) = expected.iter_mut().find(of_it) {
            match (answer, &found.of) {
                (Answered::Loader(loader), _) => found.of = Waiting::Loader(loader),
                (Answered::Target(id), Waiting::Effect(Effect::Tab { url })) => {
                    let url = url.clone();
                    found.of = Waiting::Target { id, url };
                }
                _ => {}
            }
        }
        self.count.store(expected.len(), Relaxed);
    }

    /// The command that this event follows from, where the protocol gives grounds for it.
    pub fn of(&self, event: &Event) -> Option<Cause> {
        let EventType::Known(known) = event.event_type else {
            return None;
        };
        let may_follow = matches!(
            known,
            KnownType::NetworkRequest
                | KnownType::NetworkResponse
                | KnownType::NetworkResponseEnd
                | KnownType::NetworkLoadingFailed
                | KnownType::PageNavigation
                | KnownType::PageDomContentLoaded
                | KnownType::PageLoad
                | KnownType::PageTabOpened
                | KnownType::InteractionClick
                | KnownType::InteractionKey
                | KnownType::InteractionScrollSettled
        );
        if !may_follow || self.count.load(Relaxed) == 0 {
            return None;
        }
        let parts: Parts = serde_json::from_str(event.data.as_deref()?.get()).ok()?;
        let mut expected = self.expected(Instant::now());
        let at = expected
            .iter()
            .position(|it| it.of.is_cause_of(known, &parts))?;
        let cause = expected[at].cause.clone();
        match expected[at].of.then(parts) {
            Some(next) => {
                expected[at].of = next;
                expected[at].until = Instant::now() + NAVIGATION;
            }
            None => {
                expected.remove(at);
            }
        }
        self.count.store(expected.len(), Relaxed);
        Some(cause)
    }

    /// Marks an event with the seq of the command that it follows from, in the metadata of its source, and with
    /// the trace of that command's connection.
    pub fn mark(&self, event: &mut Event) {
        if let Some(cause) = self.of(event) {
            let metadata = &mut event.source.metadata;
            metadata.insert("caused_by".to_owned(), cause.seq.to_string());
            if let Some(trace) = cause.trace {
                trace.mark(&mut event.source);
            }
        }
    }

    pub(crate) fn excludes(&self, method: &str) -> bool {
        self.excluded().contains(method)
    }

    /// The methods of which no events are published.
    pub(crate) fn excluded(&self) -> RwLockReadGuard<'_, BTreeSet<String>> {
        self.excluded.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn exclude(&self, methods: &[String]) {
        let methods = methods.iter().cloned().collect();
        *self
            .excluded
            .write()
            .unwrap_or_else(PoisonError::into_inner) = methods;
    }

    /// What is expected now.
    fn expected(&self, now: Instant) -> MutexGuard<'_, VecDeque<Expected>> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|it| now < it.until);
        expected
    }
}

impl Waiting {
    fn waits_for_an_answer(&self) -> bool {
        matches!(
            self,
            Self::Effect(Effect::Navigation { .. } | Effect::Tab { .. })
        )
    }

    fn is_cause_of(&self, known: KnownType, event: &Parts) -> bool {
        use KnownType as K;
        let is_of_target = |target: &str| event.target_id.as_deref() == Some(target);
        match self {
            Self::Effect(Effect::Navigation { target, frame, url }) => {
                let begins = match known {
                    K::NetworkRequest => event.resource_type.as_deref() == Some("Document"),
                    K::PageNavigation => true,
                    _ => false,
                };
                // The browser gives a target and its main frame the same id.
                let frame = frame.as_deref().unwrap_or(target);
                begins
                    && is_of_target(target)
                    && event.loader_id.is_some()
                    && event.frame_id.as_deref() == Some(frame)
                    && (url.is_none() || *url == event.url)
            }
            Self::Loader(loader) => {
                let is_of_document = match known {
                    // The browser gives a document and its request the same id.
                    K::NetworkRequest
                    | K::NetworkResponse
                    | K::NetworkResponseEnd
                    | K::NetworkLoadingFailed => event.request_id.as_ref() == Some(loader),
                    K::PageNavigation | K::PageDomContentLoaded | K::PageLoad => true,
                    _ => false,
                };
                is_of_document && event.loader_id.as_ref() == Some(loader)
            }
            // The browser may report the tab before it answers. One that a page has opened has an opener.
            Self::Effect(Effect::Tab { url }) => {
                let opened = event.url.as_deref().unwrap_or_default();
                known == K::PageTabOpened
                    && event.opener_id.is_none()
                    && (["", ":", "about:blank"].contains(&opened) || opened == url)
            }
            Self::Target { id, .. } => known == K::PageTabOpened && is_of_target(id),
            Self::Effect(Effect::Click { target, x, y }) => {
                let is_near = |at: Option<f64>, expected: f64| {
                    at.is_some_and(|at| (at - expected).abs() <= 1.0)
                };
                known == K::InteractionClick
                    && is_of_target(target)
                    && is_near(event.x, *x)
                    && is_near(event.y, *y)
            }
            Self::Effect(Effect::Key { target, key }) => {
                known == K::InteractionKey
                    && is_of_target(target)
                    && event.key.as_ref() == Some(key)
            }
            Self::Effect(Effect::Scroll { target }) => {
                known == K::InteractionScrollSettled && is_of_target(target)
            }
        }
    }

    /// What follows after that event.
    fn then(&self, event: Parts) -> Option<Self> {
        match self {
            Self::Effect(Effect::Navigation { .. }) | Self::Loader(_) => {
                event.loader_id.map(Self::Loader)
            }
            Self::Effect(Effect::Tab { url }) | Self::Target { url, .. } => {
                let is_blank = ["", "about:blank"].contains(&&**url);
                let target = event.target_id.filter(|_| !is_blank)?;
                Some(Self::Effect(Effect::Navigation {
                    target,
                    frame: None,
                    url: Some(url.clone()),
                }))
            }
            Self::Effect(_) => None,
        }
    }
}
