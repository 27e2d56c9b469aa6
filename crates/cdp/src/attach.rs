//! Attaching to targets, and enabling in each what the captured categories need.

use serde_json::json;
use tapline_oapi::data::{PageTabOpened, TargetType};
use tapline_oapi::{Category, KnownType};

use crate::frames::Frames;
use crate::interaction;
use crate::network;
use crate::outbox::{Outbox, Purpose};
use crate::protocol::AttachedToTarget;
use crate::repeats::Past;
use crate::targets::{Domains, Target, Targets};

/// The longest title that is kept, in bytes.
const MAX_TITLE: usize = 1024;

pub(crate) const AUTO_ATTACH: &str = "Target.setAutoAttach";

/// The arguments of [`AUTO_ATTACH`]. New targets are paused until everything is enabled in them.
pub(crate) fn auto_attach(on: bool) -> serde_json::Value {
    json!({"autoAttach": on, "waitForDebuggerOnStart": on, "flatten": true})
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
        tab,
        frames: Frames::of_target(&info.target_id, past),
        ..Target::new(key, &found.session_id, &info.target_id, kind, parent, url)
    };
    configure(&mut target, past, out);
    targets.insert(target);
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
        let new = target.is_paused;
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
