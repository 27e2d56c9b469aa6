//! Pages, frames and workers: which there are, and what is switched on in each.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use tapline_oapi::data::{Context, PageTabOpened, TargetType};
use tapline_oapi::{Category, CategorySet, KnownType};

use crate::interaction::{self, Interactions};
use crate::network;
use crate::outbox::{Outbox, What};
use crate::page::Loading;
use crate::protocol::AttachedToTarget;
use crate::screenshot::Pictures;

/// More targets than that are let be: they are resumed, and not looked at.
const MAX_TARGETS: usize = 2000;

/// Titles are cut here, in bytes.
const MAX_TITLE: usize = 1024;

/// What comes from the browser. Where nothing of it is captured, the browser is left alone.
pub(crate) const SEEN: CategorySet = CategorySet::of(&[
    Category::Console,
    Category::Network,
    Category::Page,
    Category::Interaction,
    Category::Screenshot,
]);

/// A target's number. None is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: Key,
    pub(crate) session: Box<str>,
    pub(crate) id: Box<str>,
    pub(crate) kind: TargetType,
    /// The target through which it was found; none for what the browser itself told of.
    parent: Option<Key>,
    parts: Parts,
    /// Whether it waits for us before it does anything.
    waits: bool,
    /// The tab to tell of, until it is told.
    tab: Option<Box<PageTabOpened>>,

    pub(crate) nav_seq: u64,
    /// Without secrets.
    pub(crate) url: String,
    /// The main frame's document, once it is known.
    pub(crate) loader: Option<String>,
    pub(crate) loading: Loading,
    /// Requests of the present navigation without an end.
    pub(crate) in_flight: usize,
    /// Objects that the console's lines keep alive in the page.
    pub(crate) held_objects: u32,
    pub(crate) interactions: Interactions,
    pub(crate) pictures: Pictures,
}

impl Target {
    /// Whether it has frames: a tab, or a frame with a process of its own.
    pub(crate) fn has_frames(&self) -> bool {
        self.parts_when(SEEN).has(Parts::PAGE)
    }

    /// Where something happened that belongs to no frame in particular.
    pub(crate) fn context(&self) -> Context {
        Context {
            session_id: Some(self.session.to_string()),
            target_id: Some(self.id.to_string()),
            target_type: Some(self.kind),
            nav_seq: Some(self.nav_seq),
            frame_id: None,
            loader_id: None,
            url: Some(self.url.clone()),
        }
    }

    /// Where something happened that belongs to the main frame's document.
    pub(crate) fn document(&self) -> Context {
        Context {
            frame_id: Some(self.id.to_string()),
            loader_id: self.loader.clone(),
            ..self.context()
        }
    }

    /// Whether the frame is the target's main one. The browser gives both the same name.
    pub(crate) fn is_main(&self, frame: &str) -> bool {
        *self.id == *frame
    }

    fn parts_when(&self, captured: CategorySet) -> Parts {
        let captures = |category| captured.contains(category);
        let any = !captured.intersection(SEEN).is_empty();
        let (console, network) = (captures(Category::Console), captures(Category::Network));
        match self.kind {
            TargetType::Page | TargetType::Iframe | TargetType::BackgroundPage => {
                let interaction = captures(Category::Interaction);
                Parts::NONE
                    // The script tells through a binding of the runtime.
                    .with(Parts::RUNTIME, console || interaction)
                    .with(Parts::NETWORK, network)
                    // Navigations are counted for every event's context.
                    .with(Parts::PAGE, any)
                    .with(Parts::TIMELINE, captures(Category::Page))
                    .with(Parts::INTERACTION, interaction)
                    .with(Parts::CHILDREN, any)
            }
            TargetType::Worker | TargetType::SharedWorker | TargetType::ServiceWorker => {
                Parts::NONE
                    .with(Parts::RUNTIME, console)
                    .with(Parts::NETWORK, network)
                    // Only dedicated workers have workers of their own.
                    .with(Parts::CHILDREN, any && self.kind == TargetType::Worker)
            }
            TargetType::Other => Parts::NONE,
        }
    }

    /// Switches on and off whatever follows from what is captured.
    pub(crate) fn configure(&mut self, out: &mut Outbox) {
        let wanted = self.parts_when(out.captured);
        let on = |part| wanted.has(part) && !self.parts.has(part);
        let off = |part| self.parts.has(part) && !wanted.has(part);
        let session = Some(&*self.session);
        let set_up = |out: &mut Outbox, method, params| {
            out.ask(Some(self.key), session, method, &params, What::Setup);
        };

        if on(Parts::RUNTIME) {
            set_up(out, "Runtime.enable", json!({}));
        }
        if on(Parts::NETWORK) {
            let params = network::enable(out);
            set_up(out, "Network.enable", params);
        }
        if on(Parts::PAGE) {
            set_up(out, "Page.enable", json!({}));
            let frames = What::Frames { new: self.waits };
            out.ask(
                Some(self.key),
                session,
                "Page.getFrameTree",
                &json!({}),
                frames,
            );
        }
        if on(Parts::TIMELINE) {
            let types = json!({"eventTypes": ["layout-shift", "largest-contentful-paint"]});
            set_up(out, "PerformanceTimeline.enable", types);
        }
        if on(Parts::CHILDREN) {
            set_up(out, AUTO_ATTACH, auto_attach(true));
        }
        if on(Parts::INTERACTION) {
            interaction::switch_on(self.key, &self.session, &mut self.interactions, out);
        }

        // In the opposite order, so that nothing is switched off under something that needs it.
        if off(Parts::INTERACTION) {
            interaction::switch_off(&self.session, &mut self.interactions, out);
        }
        if off(Parts::CHILDREN) {
            out.send(session, AUTO_ATTACH, &auto_attach(false));
        }
        if off(Parts::TIMELINE) {
            // There is no `disable`.
            out.send(
                session,
                "PerformanceTimeline.enable",
                &json!({"eventTypes": []}),
            );
        }
        if off(Parts::PAGE) {
            out.send(session, "Page.disable", &json!({}));
        }
        if off(Parts::NETWORK) {
            out.send(session, "Network.disable", &json!({}));
        }
        if off(Parts::RUNTIME) {
            out.send(session, "Runtime.disable", &json!({}));
            // Told of again when it is switched on.
            interaction::worlds_cleared(&mut self.interactions);
        }
        self.parts = wanted;
        if self.waits {
            self.waits = false;
            out.send(session, "Runtime.runIfWaitingForDebugger", &json!({}));
        }

        if out.captures(Category::Page)
            && let Some(tab) = self.tab.take()
        {
            let cause = Some("Target.attachedToTarget");
            out.tell(KnownType::PageTabOpened, cause, &*tab);
        }
    }
}

pub(crate) const AUTO_ATTACH: &str = "Target.setAutoAttach";

/// The arguments of [`AUTO_ATTACH`]. What is new waits until everything is switched on in it.
pub(crate) fn auto_attach(on: bool) -> serde_json::Value {
    json!({"autoAttach": on, "waitForDebuggerOnStart": on, "flatten": true})
}

/// What can be switched on in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts(u8);

impl Parts {
    const NONE: Self = Self(0);
    const RUNTIME: Self = Self(1);
    const NETWORK: Self = Self(1 << 1);
    const PAGE: Self = Self(1 << 2);
    const TIMELINE: Self = Self(1 << 3);
    const INTERACTION: Self = Self(1 << 4);
    /// Attaching to the frames and workers within.
    const CHILDREN: Self = Self(1 << 5);

    const fn with(self, part: Self, on: bool) -> Self {
        if on { Self(self.0 | part.0) } else { self }
    }

    const fn has(self, part: Self) -> bool {
        self.0 & part.0 != 0
    }
}

/// Every target that the browser told of.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    last: u64,
    by_session: HashMap<Box<str>, Key>,
    all: BTreeMap<Key, Target>,
}

impl Targets {
    /// A target was found, through `session` or through the browser itself.
    pub(crate) fn attached(
        &mut self,
        session: Option<&str>,
        found: &AttachedToTarget<'_>,
        out: &mut Outbox,
    ) {
        let info = &found.target_info;
        if self.by_session.contains_key(&*found.session_id) {
            return;
        }
        // A worker is told of by the browser and by each of its pages; what it says counts once.
        let known = self
            .all
            .values()
            .any(|target| *target.id == *info.target_id);
        if known || self.all.len() == MAX_TARGETS {
            if found.waiting_for_debugger {
                let waiting = Some(&*found.session_id);
                out.send(waiting, "Runtime.runIfWaitingForDebugger", &json!({}));
            }
            let params = json!({"sessionId": &*found.session_id});
            out.send(session, "Target.detachFromTarget", &params);
            return;
        }

        self.last += 1;
        let key = Key(self.last);
        let kind = match &*info.kind {
            "page" => TargetType::Page,
            "iframe" => TargetType::Iframe,
            "worker" => TargetType::Worker,
            "background_page" => TargetType::BackgroundPage,
            "service_worker" => TargetType::ServiceWorker,
            "shared_worker" => TargetType::SharedWorker,
            _ => TargetType::Other,
        };
        let url = out.url(&info.url);
        let tab = (kind == TargetType::Page).then(|| {
            Box::new(PageTabOpened {
                target_id: info.target_id.to_string(),
                target_type: kind,
                url: url.clone(),
                title: Some(out.text_within(&info.title, MAX_TITLE)),
                opener_id: info.opener_id.as_deref().map(str::to_owned),
            })
        });
        let mut target = Target {
            key,
            session: (*found.session_id).into(),
            id: (*info.target_id).into(),
            kind,
            parent: session.and_then(|session| self.by_session.get(session).copied()),
            parts: Parts::NONE,
            waits: found.waiting_for_debugger,
            tab,
            nav_seq: 0,
            url,
            loader: None,
            loading: Loading::default(),
            in_flight: 0,
            held_objects: 0,
            interactions: Interactions::default(),
            pictures: Pictures::default(),
        };
        target.configure(out);
        self.by_session.insert(target.session.clone(), key);
        self.all.insert(key, target);
    }

    /// The target of this session is gone, and with it those that were found through it: all that
    /// are, the innermost last.
    pub(crate) fn detached(&mut self, session: &str) -> Vec<Target> {
        let mut gone = Vec::new();
        let mut keys: Vec<Key> = self.by_session.get(session).copied().into_iter().collect();
        while let Some(key) = keys.pop() {
            if let Some(target) = self.all.remove(&key) {
                self.by_session.remove(&target.session);
                gone.push(target);
            }
            let within = self.all.values().filter(|it| it.parent == Some(key));
            keys.extend(within.map(|target| target.key));
        }
        gone
    }

    pub(crate) fn of(&mut self, session: Option<&str>) -> Option<&mut Target> {
        let key = self.by_session.get(session?)?;
        self.all.get_mut(key)
    }

    pub(crate) fn at(&mut self, key: Key) -> Option<&mut Target> {
        self.all.get_mut(&key)
    }

    pub(crate) fn parent(&self, key: Key) -> Option<Key> {
        self.all.get(&key)?.parent
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Target> {
        self.all.values_mut()
    }

    pub(crate) fn clear(&mut self) {
        self.by_session.clear();
        self.all.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}
