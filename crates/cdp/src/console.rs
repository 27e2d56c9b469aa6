//! What pages and workers write to their console, and what they throw and do not catch.

use serde_json::json;
use tapline_oapi::KnownType;
use tapline_oapi::data::{CallFrame, ConsoleError, ConsoleLog, StackTrace};

use crate::outbox::Outbox;
use crate::protocol::{self, ConsoleApiCalled, ExceptionDetails, RemoteObject};
use crate::targets::Target;

/// Calls of a stack trace that are told.
const MAX_FRAMES: usize = 64;

/// Traces of what set a trace off that are told.
const MAX_PARENTS: usize = 8;

/// Names of functions are cut here, in bytes.
const MAX_NAME: usize = 1024;

/// Objects that the console's lines may keep alive in the page, before they are let go. The browser
/// itself keeps that many lines.
const MAX_HELD: u32 = 1000;

pub(crate) fn called(target: &mut Target, call: &ConsoleApiCalled<'_>, out: &mut Outbox) {
    // One limit for all arguments: a line may have any number of them.
    let mut left = out.options.text_limit;
    let mut args = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        let arg = out.text_within(&text_of(arg), left);
        left -= arg.len();
        args.push(arg);
        if left == 0 {
            break;
        }
    }
    let text = args.first().cloned().unwrap_or_default();
    let args = Some(args).filter(|args| !args.is_empty());
    let stack_trace = call.stack_trace.as_ref();
    let stack_trace = stack_trace.map(|trace| trace_of(trace, MAX_PARENTS, out));
    let cause = Some("Runtime.consoleAPICalled");
    if &*call.level == "error" {
        let told = ConsoleError {
            context: target.context(),
            text,
            level: Some(call.level.to_string()),
            args,
            line: None,
            column: None,
            source_url: None,
            stack_trace,
        };
        out.tell(KnownType::ConsoleError, cause, &told);
    } else {
        let told = ConsoleLog {
            context: target.context(),
            level: call.level.to_string(),
            text,
            args,
            stack_trace,
        };
        out.tell(KnownType::ConsoleLog, cause, &told);
    }

    let objects = call.args.iter().filter(|arg| arg.object_id.is_some());
    hold(target, objects.count(), out);
}

pub(crate) fn threw(target: &mut Target, details: &ExceptionDetails<'_>, out: &mut Outbox) {
    let exception = details.exception.as_ref();
    let text = match exception {
        Some(exception) => out.text(&text_of(exception)),
        None => out.text(&details.text),
    };
    let told = ConsoleError {
        context: target.context(),
        text,
        level: None,
        args: None,
        line: details.line_number,
        column: details.column_number,
        source_url: details.url.as_ref().map(|url| out.url(url)),
        stack_trace: details
            .stack_trace
            .as_ref()
            .map(|trace| trace_of(trace, MAX_PARENTS, out)),
    };
    out.tell(
        KnownType::ConsoleError,
        Some("Runtime.exceptionThrown"),
        &told,
    );
    let held = exception.is_some_and(|exception| exception.object_id.is_some());
    hold(target, usize::from(held), out);
}

/// A line or an exception that is not captured: nobody looked how many objects it holds.
pub(crate) fn passed_over(target: &mut Target, out: &mut Outbox) {
    hold(target, 1, out);
}

/// What is told to us by reference, the page keeps for us until we let it go.
fn hold(target: &mut Target, objects: usize, out: &mut Outbox) {
    let objects = u32::try_from(objects).unwrap_or(u32::MAX);
    target.held_objects = target.held_objects.saturating_add(objects);
    if target.held_objects >= MAX_HELD {
        target.held_objects = 0;
        let group = json!({"objectGroup": "console"});
        out.send(Some(&target.session), "Runtime.releaseObjectGroup", &group);
    }
}

/// A value as a console shows it in one line.
fn text_of(value: &RemoteObject<'_>) -> String {
    if &*value.kind == "string"
        && let Some(Ok(text)) = value.value.map(protocol::string)
    {
        return text.0.into_owned();
    }
    if let Some(text) = &value.description {
        return text.to_string();
    }
    if let Some(text) = &value.unserializable_value {
        return text.to_string();
    }
    if let Some(value) = value.value {
        return value.get().to_owned();
    }
    value.subtype.as_ref().unwrap_or(&value.kind).to_string()
}

fn trace_of(trace: &protocol::StackTrace<'_>, parents: usize, out: &Outbox) -> StackTrace {
    let frames = trace.call_frames.iter().take(MAX_FRAMES);
    StackTrace {
        description: trace
            .description
            .as_ref()
            .map(|text| out.text_within(text, MAX_NAME)),
        call_frames: frames
            .map(|frame| CallFrame {
                function_name: out.text_within(&frame.function_name, MAX_NAME),
                script_id: frame.script_id.to_string(),
                url: out.url(&frame.url),
                line_number: frame.line_number,
                column_number: frame.column_number,
            })
            .collect(),
        parent: trace
            .parent
            .as_ref()
            .filter(|_| parents > 0)
            .map(|parent| Box::new(trace_of(parent, parents - 1, out))),
    }
}
