//! Clicks, keys and scrolling. A script in each page listens for them. It runs in a world of its own
//! that the page cannot see, and reports through a binding that exists in that world alone.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tapline_oapi::data::{InteractionClick, InteractionKey, InteractionScrollSettled};
use tapline_oapi::{Category, KnownType};

use crate::json::Malformed;
use crate::key::Key;
use crate::outbox::{Click, Outbox, Purpose};
use crate::protocol::{self, BindingCalled, BoxModel, ExecutionContext, FrameOwner, Text};
use crate::targets::{Script, Target, Targets};

/// The script. It reports only what a user does, not events that a page dispatches.
const SCRIPT: &str = include_str!("interaction.js");

/// The world in which the script runs.
const WORLD: &str = "tapline";

/// The binding through which the script reports. The script contains the name.
const BINDING: &str = "__tapline";

/// The browser's event that brings a report of the script.
const CAUSE: Option<&str> = Some("Runtime.bindingCalled");

/// The arguments that add the script to a target. Written once: it is 6 KB, and each target gets it.
static WITH_SCRIPT: LazyLock<Box<RawValue>> = LazyLock::new(|| {
    let arguments = json!({"source": SCRIPT, "worldName": WORLD, "runImmediately": true});
    to_raw_value(&arguments).expect("texts always serialize")
});

/// Stops the script. The script contains the name.
const STOP: &str = "globalThis.__taplineStop?.()";

/// Interactions that are emitted for each second of a target: more than a person makes, even with a
/// key held down.
const MAX_PER_SECOND: u32 = 50;

/// The longest report of the script that is read, in bytes. The script keeps to much less.
const MAX_REPORT: usize = 64 * 1024;

/// The longest text of an interaction that is kept, in bytes. The script keeps to less by itself.
const MAX_TEXT: usize = 512;

pub(crate) fn enable(target: &mut Target, out: &mut Outbox) {
    let key = Some(target.key);
    let session = Some(&*target.session);
    out.call(
        key,
        session,
        "Runtime.addBinding",
        &json!({"name": BINDING, "executionContextName": WORLD}),
        Purpose::Setup,
    );
    if let Script::Requested { wanted } = &mut target.interactions.script {
        *wanted = true;
        return;
    }
    target.interactions.script = Script::Requested { wanted: true };
    out.call(
        key,
        session,
        "Page.addScriptToEvaluateOnNewDocument",
        &*WITH_SCRIPT,
        Purpose::Script,
    );
}

pub(crate) fn disable(target: &mut Target, out: &mut Outbox) {
    let session = &*target.session;
    for world in target.frames.worlds() {
        stop(session, world, out);
    }
    match &mut target.interactions.script {
        Script::Requested { wanted } => *wanted = false,
        script => {
            if let Script::Added(identifier) = std::mem::take(script) {
                remove(session, &identifier, out);
            }
        }
    }
    let params = json!({"name": BINDING});
    out.send(Some(session), "Runtime.removeBinding", &params);
}

/// The script was added with this identifier; without one, adding it failed.
pub(crate) fn added(target: &mut Target, identifier: Option<&str>, out: &mut Outbox) {
    let script = std::mem::take(&mut target.interactions.script);
    let Some(identifier) = identifier else { return };
    if let Script::Requested { wanted: false } = script {
        remove(&target.session, identifier, out);
    } else {
        target.interactions.script = Script::Added(identifier.to_owned());
    }
}

fn remove(session: &str, identifier: &str, out: &mut Outbox) {
    let params = json!({"identifier": identifier});
    let method = "Page.removeScriptToEvaluateOnNewDocument";
    out.send(Some(session), method, &params);
}

/// Has no effect in a world where the script does not run.
fn stop(session: &str, world: i64, out: &mut Outbox) {
    let stop = json!({"expression": STOP, "contextId": world});
    out.send(Some(session), "Runtime.evaluate", &stop);
}

/// Whether the script runs in this context, or will.
pub(crate) fn is_ours(context: &ExecutionContext<'_>) -> bool {
    context.name.is(WORLD)
}

/// A world of ours was created. The script may have been on its way there when it was disabled.
pub(crate) fn world_created(target: &Target, context: &ExecutionContext<'_>, out: &mut Outbox) {
    if !out.captures(Category::Interaction) {
        stop(&target.session, context.id, out);
    }
}

/// A report of the script: `kind`, and the fields of that kind.
#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(default)]
    selector: Text<'a>,
    #[serde(default)]
    tag: Text<'a>,
    text: Option<Text<'a>>,
    #[serde(default)]
    key: Text<'a>,
    #[serde(default)]
    x: f64,
    #[serde(default)]
    y: f64,
    #[serde(default)]
    from_x: f64,
    #[serde(default)]
    from_y: f64,
}

/// The script reports something. A click in a frame is returned, because it has to be located first.
///
/// # Errors
///
/// If the report is not what the script sends.
pub(crate) fn reported(
    target: &mut Target,
    call: &BindingCalled<'_>,
    out: &mut Outbox,
) -> Result<Option<Box<Click>>, Malformed> {
    if &*call.name != BINDING {
        return Ok(None);
    }
    let payload = call.payload.beginning(MAX_REPORT);
    let report: Report<'_> = protocol::read(&payload.text)?;
    let ours = &mut target.interactions;
    let now = out.now.monotonic;
    if ours.emitted == 0 || ours.second.saturating_add(Duration::from_secs(1)) <= now {
        (ours.second, ours.emitted) = (now, 0);
    }
    if ours.emitted == MAX_PER_SECOND {
        return Ok(None);
    }
    ours.emitted += 1;

    let context = target.context_in(call.execution_context_id);
    let selector = out.plain_text(&report.selector, MAX_TEXT);
    let tag = out.plain_text(&report.tag, MAX_TEXT);
    match &*report.kind {
        "click" => {
            let text = report.text.as_deref().filter(|text| !text.is_empty());
            let data = InteractionClick {
                context,
                x: whole(report.x),
                y: whole(report.y),
                selector,
                tag,
                text: text.map(|text| out.plain_text(text, MAX_TEXT)),
                in_frame: None,
            };
            let frame = data.context.frame_id.as_deref();
            let frame = frame.filter(|frame| !target.is_top(frame));
            if let Some(frame) = frame {
                return Ok(Some(Box::new(Click {
                    ts: out.now.wall,
                    frame: frame.into(),
                    at: [report.x, report.y],
                    data,
                })));
            }
            out.emit(KnownType::InteractionClick, CAUSE, &data);
        }
        "key" => {
            let data = InteractionKey {
                context,
                key: out.plain_text(&report.key, MAX_TEXT),
                selector,
                tag,
            };
            out.emit(KnownType::InteractionKey, CAUSE, &data);
        }
        "scroll" => {
            let data = InteractionScrollSettled {
                context,
                from_x: whole(report.from_x),
                from_y: whole(report.from_y),
                to_x: whole(report.x),
                to_y: whole(report.y),
                target_selector: selector,
            };
            out.emit(KnownType::InteractionScrollSettled, CAUSE, &data);
        }
        _ => {}
    }
    Ok(None)
}

// The place of a click in the tab.
//
// The browser knows where the element of a frame is in the viewport of its target, whatever is between:
// other frames, scrolling, transforms. A frame in a process of its own is the main frame of a target; its
// element is in the target through which that one was found. So a click passes one target at a time, until it
// is in that of the tab. The script cannot do it: it sees nothing of a parent of another origin.

/// Takes the click one target further, or emits it. It is in the target of this key.
pub(crate) fn locate(targets: &Targets, key: Key, mut click: Box<Click>, out: &mut Outbox) {
    let target = targets.get(key);
    if target.is_some_and(|target| target.is_top(&click.frame)) {
        [click.data.x, click.data.y] = click.at.map(whole);
        return emit_click(&click, out);
    }
    // The element of a target's main frame is in the target around it.
    let owner = match target {
        Some(target) if target.is_main(&click.frame) => {
            target.parent.and_then(|parent| targets.get(parent))
        }
        target => target,
    };
    let Some(owner) = owner.filter(|owner| owner.has_frames()) else {
        return emit_in_frame(*click, out);
    };
    let params = json!({"frameId": click.frame});
    let (key, session) = (Some(owner.key), Some(&*owner.session));
    let purpose = Purpose::FrameOwner(click);
    out.call(key, session, "DOM.getFrameOwner", &params, purpose);
}

/// The element of the click's frame is known; without it, the click is emitted as it is.
pub(crate) fn found_owner(
    target: Option<&mut Target>,
    click: Box<Click>,
    owner: Option<&FrameOwner>,
    out: &mut Outbox,
) {
    let (Some(target), Some(owner)) = (target, owner) else {
        return emit_in_frame(*click, out);
    };
    let params = json!({"backendNodeId": owner.backend_node_id});
    let (key, session) = (Some(target.key), Some(&*target.session));
    let purpose = Purpose::FrameBox(click);
    out.call(key, session, "DOM.getBoxModel", &params, purpose);
}

/// The place of that element in its target is known.
pub(crate) fn found_box(
    targets: &Targets,
    key: Option<Key>,
    mut click: Box<Click>,
    found: Option<&BoxModel>,
    out: &mut Outbox,
) {
    let target = key.and_then(|key| targets.get(key));
    let (Some(target), Some(found)) = (target, found) else {
        return emit_in_frame(*click, out);
    };
    let Some(at) = found.outside(click.at) else {
        return emit_in_frame(*click, out);
    };
    click.at = at;
    click.frame = target.id.clone();
    locate(targets, target.key, click, out);
}

/// Emits a click with its coordinates in its own frame, and says so.
pub(crate) fn emit_in_frame(mut click: Click, out: &mut Outbox) {
    click.data.in_frame = Some(true);
    emit_click(&click, out);
}

fn emit_click(click: &Click, out: &mut Outbox) {
    let known = KnownType::InteractionClick;
    out.emit_at(click.ts, known, CAUSE, &click.data);
}
/// The nearest whole pixel: the published SDKs read no fractions here.
#[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn whole(pixels: f64) -> i64 {
    pixels.round() as i64
}
