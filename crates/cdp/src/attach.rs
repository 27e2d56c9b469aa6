//! Attaching to targets, and enabling in each what the captured categories need.

use std::time::Duration;

use serde_json::json;
use tapline_oapi::data::{PageTabOpened, TargetType};
use tapline_oapi::{Category, KnownType};

use crate::frames::Frames;
use crate::interaction;
use crate::network;
use crate::outbox::{Outbox, Purpose};
use crate::protocol::{AttachedToTarget, TargetInfo};
use crate::repeats::Past;
use crate::targets::{Domains, Target, Targets};
use crate::timers::Wait;

/// The longest title that is kept, in bytes.
const MAX_TITLE: usize = 1024;

/// Makes the browser report all its present and future targets.
pub(crate) const DISCOVER: &str = "Target.setDiscoverTargets";

const AUTO_ATTACH: &str = "Target.setAutoAttach";

/// What is found paused when we connect is resumed after this time: longer than a client needs that sets up
/// a new tab.
const LEFT_PAUSED_AFTER: Duration = Duration::from_secs(3);

/// The arguments of [`AUTO_ATTACH`] for a page or a worker. New frames and workers are paused for us until
/// everything is enabled in them. The browser pauses them for each client by itself.
fn auto_attach(on: bool) -> serde_json::Value {
    json!({"autoAttach": on, "waitForDebuggerOnStart": on, "flatten": true})
}

/// The browser reports a target: attaches to those that are found nowhere else. Frames and dedicated workers
/// are found through their pages.
///
/// We do not let the browser attach us to tabs by itself. It would pause every popup, whether we ask for it
/// or not, and the first client that resumes one resumes it for all: we would let a popup run that another
/// client has not set up.
pub(crate) fn created(targets: &mut Targets, info: &TargetInfo<'_>, out: &mut Outbox) {
    let is_ours = matches!(
        &*info.kind,
        "page" | "background_page" | "service_worker" | "shared_worker"
    );
    if is_ours && !targets.has_id(&info.target_id) && !targets.is_full() {
        // Its session is reported only after the browser has listed all targets.
        if !targets.is_listed {
            targets.found_there.insert((&*info.target_id).into());
        }
        let params = json!({"targetId": &*info.target_id, "flatten": true});
        out.send(None, "Target.attachToTarget", &params);
    }
}

/// A target may be paused for a client that is gone.
pub(crate) fn left_paused(target: &Target, out: &mut Outbox) {
    resume(&target.session, out);
}

/// The browser attached us to a target. It was found through `session`, or by the browser itself.
pub(crate) fn attached(
    targets: &mut Targets,
    session: Option<&str>,
    found: &AttachedToTarget<'_>,
    past: &mut Past,
    out: &mut Outbox,
) {
    let info = &found.target_info;
    if targets.key_of(&found.session_id).is_some() {
        return;
    }
    // The browser and each of its pages report the same worker; it is followed once.
    if targets.has_id(&info.target_id) || targets.is_full() {
        if found.waiting_for_debugger {
            resume(&found.session_id, out);
        }
        let params = json!({"sessionId": &*found.session_id});
        out.send(session, "Target.detachFromTarget", &params);
        return;
    }

    let kind = match &*info.kind {
        "page" => TargetType::Page,
        "iframe" => TargetType::Iframe,
        "worker" => TargetType::Worker,
        "background_page" => TargetType::BackgroundPage,
        "service_worker" => TargetType::ServiceWorker,
        "shared_worker" => TargetType::SharedWorker,
        _ => TargetType::Other,
    };
    let was_there = targets.found_there.remove(&*info.target_id) || !targets.is_listed;
    let key = targets.next_key();
    let parent = session.and_then(|session| targets.key_of(session));
    let url = out.url(&info.url);
    let tab = (kind == TargetType::Page).then(|| {
        Box::new(PageTabOpened {
            target_id: info.target_id.to_string(),
            target_type: kind,
            url: url.clone(),
            title: Some(out.text_within(&info.title, MAX_TITLE)),
            opener_id: info.opener_id.as_deref().map(str::to_owned),
            ..Default::default()
        })
    });
    let mut target = Target {
        is_paused: found.waiting_for_debugger,
        // Frames and workers are paused for us when they come into being.
        is_new: match parent {
            Some(_) => found.waiting_for_debugger,
            None => !was_there || found.waiting_for_debugger,
        },
        opener: info.opener_id.as_deref().map(Into::into),
        tab,
        frames: Frames::of_target(&info.target_id, past),
        ..Target::new(key, &found.session_id, &info.target_id, kind, parent, url)
    };
    // A popup that is paused has no address yet. One that came into being before us may be paused for a
    // client that is gone; all others are resumed by the client that paused them.
    let may_be_left = kind == TargetType::Page && !target.is_new;
    if may_be_left && (info.url.is_empty() || info.url.is("about:blank")) {
        let at = out.now.monotonic.saturating_add(LEFT_PAUSED_AFTER);
        out.timers.set(key, Wait::Resume, at);
    }
    configure(&mut target, past, out);
    targets.insert(target);
}

/// Detaches from all targets that the browser itself reported, and so from all that were found through them.
pub(crate) fn detach(targets: &mut Targets, out: &mut Outbox) {
    for target in targets.all().filter(|target| target.parent.is_none()) {
        let params = json!({"sessionId": &*target.session});
        out.send(None, "Target.detachFromTarget", &params);
    }
}

/// Enables and disables in the target what follows from the captured categories.
pub(crate) fn configure(target: &mut Target, past: &mut Past, out: &mut Outbox) {
    let wanted = target.domains_for(out.captured);
    let enabled = target.domains;
    let on = |domain| wanted.has(domain) && !enabled.has(domain);
    let off = |domain| enabled.has(domain) && !wanted.has(domain);
    let key = Some(target.key);
    let session = Some(&*target.session);
    let set_up = |out: &mut Outbox, method, params| {
        out.call(key, session, method, &params, Purpose::Setup);
    };

    if on(Domains::NETWORK) {
        let params = network::enable(out);
        set_up(out, "Network.enable", params);
    }
    // Before the runtime and the log, so that it is known which documents wrote their stored entries.
    if on(Domains::PAGE) {
        set_up(out, "Page.enable", json!({}));
        let new = target.is_new;
        let purpose = Purpose::Frames { new };
        out.call(key, session, "Page.getFrameTree", &json!({}), purpose);
    }
    if on(Domains::RUNTIME) {
        set_up(out, "Runtime.enable", json!({}));
    }
    if on(Domains::LOG) {
        set_up(out, "Log.enable", json!({}));
    }
    if on(Domains::TIMELINE) {
        let types = json!({"eventTypes": ["layout-shift", "largest-contentful-paint"]});
        set_up(out, "PerformanceTimeline.enable", types);
    }
    if on(Domains::CHILDREN) {
        set_up(out, AUTO_ATTACH, auto_attach(true));
    }
    if on(Domains::INTERACTION) {
        interaction::enable(target, out);
    }

    // In the opposite order, so that nothing is disabled while another domain needs it.
    if off(Domains::INTERACTION) {
        interaction::disable(target, out);
    }
    let session = Some(&*target.session);
    if off(Domains::CHILDREN) {
        out.send(session, AUTO_ATTACH, &auto_attach(false));
    }
    if off(Domains::TIMELINE) {
        // There is no `disable`.
        let none = json!({"eventTypes": []});
        out.send(session, "PerformanceTimeline.enable", &none);
    }
    if off(Domains::LOG) {
        out.send(session, "Log.disable", &json!({}));
    }
    if off(Domains::RUNTIME) {
        out.send(session, "Runtime.disable", &json!({}));
        // The browser reports them again when the runtime is enabled.
        target.frames.cleared(past);
    }
    if off(Domains::PAGE) {
        // What it does from here on is not seen, so the document that is found next is not its first.
        target.is_new = false;
        out.send(session, "Page.disable", &json!({}));
    }
    if off(Domains::NETWORK) {
        out.send(session, "Network.disable", &json!({}));
    }
    target.domains = wanted;
    if target.is_paused {
        target.is_paused = false;
        resume(&target.session, out);
    }

    if out.captures(Category::Page)
        && let Some(tab) = target.tab.take()
    {
        let cause = Some("Target.attachedToTarget");
        out.emit(KnownType::PageTabOpened, cause, &*tab);
    }
}

fn resume(session: &str, out: &mut Outbox) {
    let method = "Runtime.runIfWaitingForDebugger";
    out.send(Some(session), method, &json!({}));
}
