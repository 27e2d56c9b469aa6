//! Pages, frames and workers, and the state of each.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tapline_oapi::data::{Context, PageTabOpened, TargetType};
use tapline_oapi::{Category, CategorySet};

use crate::frames::Frames;
use crate::key::Key;
use crate::outbox::EndedResponse;
use crate::protocol::Frame;

/// The most targets that are followed.
const MAX_TARGETS: usize = 2000;

/// Addresses that are remembered of the first requests of a new tab.
const MAX_SEEN: usize = 500;

/// Pages about failures that are remembered for each target: one for each frame that shows one.
const MAX_ERROR_PAGES: usize = 64;

/// The categories that come from the browser. If none of them is captured, nothing is attached to.
pub(crate) const FROM_BROWSER: CategorySet = CategorySet::of(&[
    Category::Console,
    Category::Network,
    Category::Page,
    Category::Interaction,
    Category::Screenshot,
]);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: Key,
    /// The CDP session by which it is reached.
    pub(crate) session: Box<str>,
    pub(crate) id: Box<str>,
    pub(crate) kind: TargetType,
    /// The target through which it was found; none if the browser itself reported it.
    pub(crate) parent: Option<Key>,
    pub(crate) domains: Domains,
    /// Whether it came into being after we were connected.
    pub(crate) is_new: bool,
    /// The target that opened it.
    pub(crate) opener: Option<Box<str>>,
    /// Whether it is paused until we resume it.
    pub(crate) is_paused: bool,
    /// The tab's event, until it is emitted.
    pub(crate) tab: Option<Box<PageTabOpened>>,

    /// Top-level navigations so far.
    pub(crate) nav_seq: u64,
    /// Without secrets.
    pub(crate) url: String,
    /// The main frame's document, once it is known.
    pub(crate) loader: Option<String>,
    pub(crate) loading: Loading,
    pub(crate) frames: Frames,
    /// Whether a page from the back/forward cache is there, whose navigation is not reported yet.
    pub(crate) is_restoring: bool,
    /// The addresses of the first requests that the browser has reported, while some of those before may
    /// have to be recovered.
    pub(crate) seen_urls: HashSet<String>,
    /// The loaders of documents whose own requests the browser has reported: the present one, and one that is
    /// being loaded.
    pub(crate) seen_documents: [Box<str>; 2],
    /// Events of the document that wait until it is known which document it is.
    pub(crate) held: Vec<Milestone>,
    /// The browser's own pages about failures, by their loaders, the oldest first.
    pub(crate) error_pages: Vec<Box<str>>,
    /// Responses whose bodies are fetched when the page has loaded.
    pub(crate) bodies: Vec<EndedResponse>,
    /// Requests of the present navigation that have not ended.
    pub(crate) in_flight: usize,
    /// Objects that the console's lines keep alive in the page.
    pub(crate) held_objects: u32,
    /// The ids of the last rejections that were emitted as exceptions and may be handled later.
    pub(crate) rejections: VecDeque<u64>,
    pub(crate) interactions: Interactions,
    /// When the last screenshot was requested.
    pub(crate) last_screenshot: Option<Duration>,
}

/// What a document reached, at this time of the browser's monotonic clock in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Milestone {
    Parsed(f64),
    Loaded(f64),
}

/// How far the present navigation has come.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// `page_dom_content_loaded` was emitted.
    pub(crate) is_parsed: bool,
    /// The load event has fired.
    pub(crate) is_loaded: bool,
    /// `page_layout_settled` was emitted.
    pub(crate) is_settled: bool,
}

/// The state of the interaction script in a target.
#[derive(Debug, Default)]
pub(crate) struct Interactions {
    pub(crate) script: Script,
    /// When the present second of the rate limit began.
    pub(crate) second: Duration,
    /// Interactions that were emitted in that second.
    pub(crate) emitted: u32,
}

/// The script that each new document gets.
#[derive(Debug, Default)]
pub(crate) enum Script {
    #[default]
    None,
    /// Requested; its identifier is not known yet.
    Requested { wanted: bool },
    /// Added, with this identifier.
    Added(String),
}

impl Target {
    /// A target in its first state.
    pub(crate) fn new(
        key: Key,
        session: &str,
        id: &str,
        kind: TargetType,
        parent: Option<Key>,
        url: String,
    ) -> Self {
        Self {
            key,
            session: session.into(),
            id: id.into(),
            kind,
            parent,
            domains: Domains::NONE,
            is_new: false,
            opener: None,
            is_paused: false,
            tab: None,
            nav_seq: 0,
            url,
            loader: None,
            loading: Loading::default(),
            frames: Frames::default(),
            is_restoring: false,
            seen_urls: HashSet::new(),
            seen_documents: Default::default(),
            held: Vec::new(),
            error_pages: Vec::new(),
            bodies: Vec::new(),
            in_flight: 0,
            held_objects: 0,
            rejections: VecDeque::new(),
            interactions: Interactions::default(),
            last_screenshot: None,
        }
    }

    /// Whether it shows a document that is still being loaded.
    pub(crate) fn is_loading(&self) -> bool {
        self.has_frames() && self.nav_seq > 0 && !self.loading.is_loaded
    }

    /// Whether it has frames: a tab, or a frame with a process of its own.
    pub(crate) fn has_frames(&self) -> bool {
        self.domains_for(FROM_BROWSER).has(Domains::PAGE)
    }

    /// The context of an event that belongs to no frame in particular.
    pub(crate) fn context(&self) -> Context {
        Context {
            url: Some(self.url.clone()),
            ..self.context_without_url()
        }
    }

    /// The same for an event that has an address of its own, or none.
    pub(crate) fn context_without_url(&self) -> Context {
        Context {
            session_id: Some(self.session.to_string()),
            target_id: Some(self.id.to_string()),
            target_type: Some(self.kind),
            nav_seq: Some(self.nav_seq),
            frame_id: None,
            loader_id: None,
            url: None,
            ..Context::default()
        }
    }

    /// The context of an event that belongs to the main frame's document.
    pub(crate) fn document(&self) -> Context {
        Context {
            frame_id: Some(self.id.to_string()),
            loader_id: self.loader.clone(),
            ..self.context()
        }
    }

    /// The context of an event that happened in a script context: that of its frame, if it has one.
    pub(crate) fn context_in(&self, script_context: Option<i64>) -> Context {
        let Some(place) = self.frames.place(script_context) else {
            return self.context();
        };
        let is_main = self.is_main(place.frame);
        let (loader_id, url) = match place.document {
            Some(document) => {
                let loader = Some(&*document.loader).filter(|it| !it.is_empty());
                (loader.map(str::to_owned), Some(document.url.clone()))
            }
            None if is_main => (self.loader.clone(), Some(self.url.clone())),
            None => (None, None),
        };
        Context {
            session_id: Some(self.session.to_string()),
            target_id: Some(self.id.to_string()),
            target_type: Some(self.kind),
            nav_seq: Some(self.coming_nav_seq()),
            frame_id: Some(place.frame.to_owned()),
            loader_id,
            url,
            ..Context::default()
        }
    }

    /// The context of an event that belongs to the page that is there, even if its navigation is not
    /// reported yet.
    pub(crate) fn page_context(&self) -> Context {
        let mut context = self.context();
        if self.is_restoring {
            context.nav_seq = Some(self.coming_nav_seq());
            if let Some(document) = self.frames.document(&self.id) {
                context.url = Some(document.url.clone());
            }
        }
        context
    }

    /// The number of the navigation to the page that is there.
    fn coming_nav_seq(&self) -> u64 {
        self.nav_seq + u64::from(self.is_restoring)
    }

    /// Whether it is the target's main frame. One with a process of its own has a parent, and is the
    /// main frame of its target.
    pub(crate) fn has_main(&self, frame: &Frame<'_>) -> bool {
        self.is_main(&frame.id) || frame.parent_id.is_none()
    }

    /// The browser has reported a request, or only its response.
    pub(crate) fn saw_request(&mut self, url: Option<&str>) {
        if self.is_new
            && self.seen_urls.len() < MAX_SEEN
            && let Some(url) = url
        {
            self.seen_urls.insert(url.to_owned());
        }
    }

    /// The browser has reported the start of the request of a document.
    pub(crate) fn saw_document(&mut self, loader: &str) {
        if self.is_new && *self.seen_documents[1] != *loader {
            self.seen_documents.swap(0, 1);
            self.seen_documents[1] = loader.into();
        }
    }

    /// Whether the browser has reported the start of the request of the document with this loader. Otherwise requests of that document
    /// may be missing, also where its response was reported: between the two the browser may have been asked to report.
    pub(crate) fn has_seen_document(&self, loader: &str) -> bool {
        self.seen_documents.iter().any(|seen| **seen == *loader)
    }

    /// The browser shows a page of its own, because an address could not be loaded.
    pub(crate) fn shows_error_page(&mut self, loader: &str) {
        if self.error_pages.len() == MAX_ERROR_PAGES {
            self.error_pages.remove(0);
        }
        self.error_pages.push(loader.into());
    }

    /// Whether the document of this loader is the browser's own page about a failure.
    pub(crate) fn is_error_page(&self, loader: &str) -> bool {
        self.error_pages.iter().any(|page| **page == *loader)
    }

    /// Whether the frame is the target's main one. The browser gives both the same id.
    pub(crate) fn is_main(&self, frame: &str) -> bool {
        *self.id == *frame
    }

    /// Whether the frame is the main one of a tab.
    pub(crate) fn is_top(&self, frame: &str) -> bool {
        self.is_main(frame) && self.kind != TargetType::Iframe
    }

    /// The domains that these categories need in such a target.
    pub(crate) fn domains_for(&self, captured: CategorySet) -> Domains {
        let captures = |category| captured.contains(category);
        let any = !captured.intersection(FROM_BROWSER).is_empty();
        let (console, network) = (captures(Category::Console), captures(Category::Network));
        match self.kind {
            TargetType::Page | TargetType::Iframe | TargetType::BackgroundPage => {
                let interaction = captures(Category::Interaction);
                Domains::NONE
                    // The script reports through a binding of the runtime.
                    .with(Domains::RUNTIME, console || interaction)
                    .with(Domains::LOG, console)
                    .with(Domains::NETWORK, network)
                    // The context of every event counts navigations.
                    .with(Domains::PAGE, any)
                    .with(Domains::TIMELINE, captures(Category::Page))
                    .with(Domains::INTERACTION, interaction)
                    .with(Domains::CHILDREN, any)
            }
            TargetType::Worker | TargetType::SharedWorker | TargetType::ServiceWorker => {
                Domains::NONE
                    .with(Domains::RUNTIME, console)
                    .with(Domains::LOG, console)
                    .with(Domains::NETWORK, network)
                    // Only dedicated workers have workers of their own.
                    .with(Domains::CHILDREN, any && self.kind == TargetType::Worker)
            }
            TargetType::Other => Domains::NONE,
        }
    }
}

/// A set of what can be enabled in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Domains(u8);

impl Domains {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const RUNTIME: Self = Self(1);
    pub(crate) const NETWORK: Self = Self(1 << 1);
    pub(crate) const PAGE: Self = Self(1 << 2);
    pub(crate) const TIMELINE: Self = Self(1 << 3);
    /// The script and its binding.
    pub(crate) const INTERACTION: Self = Self(1 << 4);
    /// Attaching to the frames and workers within.
    pub(crate) const CHILDREN: Self = Self(1 << 5);
    pub(crate) const LOG: Self = Self(1 << 6);

    const fn with(self, domain: Self, on: bool) -> Self {
        if on { Self(self.0 | domain.0) } else { self }
    }

    pub(crate) const fn has(self, domain: Self) -> bool {
        self.0 & domain.0 != 0
    }
}

/// All targets that are followed.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// Whether the browser has listed the targets that were there when we connected.
    pub(crate) is_listed: bool,
    /// The ids of those of them that we are not attached to yet.
    pub(crate) found_there: HashSet<Box<str>>,
    last: u64,
    by_session: FxHashMap<Box<str>, Key>,
    all: BTreeMap<Key, Target>,
}

impl Targets {
    /// A key for the next target.
    pub(crate) fn next_key(&mut self) -> Key {
        self.last += 1;
        Key(self.last)
    }

    pub(crate) fn insert(&mut self, target: Target) {
        self.by_session.insert(target.session.clone(), target.key);
        self.all.insert(target.key, target);
    }

    /// Removes the target of this session, and all that were found through it. Returns them, the
    /// innermost last.
    pub(crate) fn remove(&mut self, session: &str) -> Vec<Target> {
        let mut removed = Vec::new();
        let mut keys: Vec<Key> = self.key_of(session).into_iter().collect();
        while let Some(key) = keys.pop() {
            if let Some(target) = self.all.remove(&key) {
                self.by_session.remove(&target.session);
                removed.push(target);
            }
            let within = self.all.values().filter(|it| it.parent == Some(key));
            keys.extend(within.map(|target| target.key));
        }
        removed
    }

    pub(crate) fn clear(&mut self) {
        self.is_listed = false;
        self.found_there.clear();
        self.by_session.clear();
        self.all.clear();
    }

    pub(crate) fn key_of(&self, session: &str) -> Option<Key> {
        self.by_session.get(session).copied()
    }

    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.all.values().any(|target| *target.id == *id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.all.len() == MAX_TARGETS
    }

    pub(crate) fn of(&mut self, session: Option<&str>) -> Option<&mut Target> {
        let key = self.key_of(session?)?;
        self.all.get_mut(&key)
    }

    pub(crate) fn at(&mut self, key: Key) -> Option<&mut Target> {
        self.all.get_mut(&key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Target> {
        self.all.get(&key)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Target> {
        self.all.values_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}
