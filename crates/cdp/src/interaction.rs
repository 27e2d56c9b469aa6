//! What a user, or an agent in the place of one, does in a page: a script listens there, in a world
//! of its own that the page cannot look into, and tells through a binding that exists in that world
//! alone.

use serde::Deserialize;
use serde_json::json;
use tapline_oapi::data::{InteractionClick, InteractionKey, InteractionScrollSettled};
use tapline_oapi::{Category, KnownType};

use crate::outbox::{Outbox, SECOND, What};
use crate::protocol::{self, ExecutionContext, Text};
use crate::targets::{Key, Target};

/// What listens in the page. It tells only what a user does, not what a page pretends.
const SCRIPT: &str = include_str!("interaction.js");

/// The world in which the script runs.
const WORLD: &str = "tapline";

/// Through which the script tells. The script knows the name.
const BINDING: &str = "__tapline";

/// Makes the script stop listening. The script knows the name.
const STOP: &str = "globalThis.__taplineStop?.()";

/// Interactions that are told for each second of a target: more than a person makes, even with a
/// key held down.
const MAX_PER_SECOND: u32 = 50;

/// Worlds remembered for each target, one for each frame.
const MAX_WORLDS: usize = 1000;

/// What the script tells is cut here, in bytes; it keeps to less by itself.
const MAX_TEXT: usize = 512;

/// What there is of ours in a target.
#[derive(Debug, Default)]
pub(crate) struct Interactions {
    script: Script,
    /// The execution contexts in which the script runs.
    worlds: Vec<i64>,
    second: u64,
    told: u32,
}

/// Where the script is that each new document gets.
#[derive(Debug, Default)]
enum Script {
    #[default]
    None,
    /// Asked for, and not answered: its name is not known yet.
    Asked { wanted: bool },
    /// There, under this name.
    Added(String),
}

pub(crate) fn switch_on(key: Key, session: &str, ours: &mut Interactions, out: &mut Outbox) {
    let session = Some(session);
    out.ask(
        Some(key),
        session,
        "Runtime.addBinding",
        &json!({"name": BINDING, "executionContextName": WORLD}),
        What::Setup,
    );
    if let Script::Asked { wanted } = &mut ours.script {
        *wanted = true;
        return;
    }
    ours.script = Script::Asked { wanted: true };
    out.ask(
        Some(key),
        session,
        "Page.addScriptToEvaluateOnNewDocument",
        &json!({"source": SCRIPT, "worldName": WORLD, "runImmediately": true}),
        What::Script,
    );
}

pub(crate) fn switch_off(session: &str, ours: &mut Interactions, out: &mut Outbox) {
    for world in &ours.worlds {
        stop(session, *world, out);
    }
    match &mut ours.script {
        Script::Asked { wanted } => *wanted = false,
        script => {
            if let Script::Added(identifier) = std::mem::take(script) {
                remove(session, &identifier, out);
            }
        }
    }
    out.send(
        Some(session),
        "Runtime.removeBinding",
        &json!({"name": BINDING}),
    );
}

/// The script is there, under this name; or it is not, and there is none.
pub(crate) fn added(target: &mut Target, identifier: Option<&str>, out: &mut Outbox) {
    let script = std::mem::take(&mut target.interactions.script);
    let Some(identifier) = identifier else { return };
    if let Script::Asked { wanted: false } = script {
        remove(&target.session, identifier, out);
    } else {
        target.interactions.script = Script::Added(identifier.to_owned());
    }
}

fn remove(session: &str, identifier: &str, out: &mut Outbox) {
    let params = json!({"identifier": identifier});
    out.send(
        Some(session),
        "Page.removeScriptToEvaluateOnNewDocument",
        &params,
    );
}

/// Without effect where the script is not.
fn stop(session: &str, world: i64, out: &mut Outbox) {
    let stop = json!({"expression": STOP, "contextId": world});
    out.send(Some(session), "Runtime.evaluate", &stop);
}

/// A world began; perhaps one of ours.
pub(crate) fn world_created(target: &mut Target, context: &ExecutionContext<'_>, out: &mut Outbox) {
    if &*context.name != WORLD {
        return;
    }
    let worlds = &mut target.interactions.worlds;
    if worlds.len() < MAX_WORLDS && !worlds.contains(&context.id) {
        worlds.push(context.id);
    }
    // The script was on its way there when it was switched off.
    if !out.captures(Category::Interaction) {
        stop(&target.session, context.id, out);
    }
}

pub(crate) fn world_destroyed(target: &mut Target, id: i64) {
    target.interactions.worlds.retain(|world| *world != id);
}

/// All worlds are gone, or are not told of any more.
pub(crate) fn worlds_cleared(ours: &mut Interactions) {
    ours.worlds.clear();
}

/// What the script tells: `kind`, and what belongs to it.
#[derive(Deserialize)]
struct Payload<'a> {
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

/// The script tells something. An error where it is not what it should be.
pub(crate) fn told(
    target: &mut Target,
    call: &protocol::BindingCalled<'_>,
    out: &mut Outbox,
) -> Result<(), serde_json::Error> {
    if &*call.name != BINDING {
        return Ok(());
    }
    let payload: Payload<'_> = protocol::read(&call.payload)?;
    let ours = &mut target.interactions;
    let second = out.now / SECOND;
    if ours.second != second {
        (ours.second, ours.told) = (second, 0);
    }
    if ours.told == MAX_PER_SECOND {
        return Ok(());
    }
    ours.told += 1;

    let context = target.context();
    let cause = Some("Runtime.bindingCalled");
    let selector = out.text_within(&payload.selector, MAX_TEXT);
    let tag = out.text_within(&payload.tag, MAX_TEXT);
    match &*payload.kind {
        "click" => {
            let text = payload.text.as_deref().filter(|text| !text.is_empty());
            let told = InteractionClick {
                context,
                x: payload.x,
                y: payload.y,
                selector,
                tag,
                text: text.map(|text| out.text_within(text, MAX_TEXT)),
            };
            out.tell(KnownType::InteractionClick, cause, &told);
        }
        "key" => {
            let told = InteractionKey {
                context,
                key: out.text_within(&payload.key, MAX_TEXT),
                selector,
                tag,
            };
            out.tell(KnownType::InteractionKey, cause, &told);
        }
        "scroll" => {
            let told = InteractionScrollSettled {
                context,
                from_x: payload.from_x,
                from_y: payload.from_y,
                to_x: payload.x,
                to_y: payload.y,
                target_selector: selector,
            };
            out.tell(KnownType::InteractionScrollSettled, cause, &told);
        }
        _ => {}
    }
    Ok(())
}
