//! Console calls of pages and workers, and their uncaught exceptions.

use serde_json::json;
use tapline_oapi::KnownType;
use tapline_oapi::data::{CallFrame, ConsoleError, ConsoleLog, StackTrace};

use crate::outbox::Outbox;
use crate::protocol::{
    self, Beginning, ConsoleApiCalled, ExceptionDetails, PageText, RemoteObject,
};
use crate::redact::MARGIN;
use crate::targets::Target;

/// How many parents of a stack trace are kept: the traces of what scheduled it.
const MAX_PARENTS: usize = 8;

/// The longest name of a function that is kept, in bytes.
const MAX_NAME: usize = 1024;

/// How many objects the console's lines may keep alive in the page until they are released. The
/// browser itself keeps that many lines.
const MAX_HELD: u32 = 1000;

pub(crate) fn called(target: &mut Target, call: &ConsoleApiCalled<'_>, out: &mut Outbox) {
    // One limit for all arguments together.
    let mut left = out.options.text_limit;
    let mut args = Vec::with_capacity(call.args.items.len());
    for arg in &call.args.items {
        let arg = text_of(arg, left, out);
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
        let data = ConsoleError {
            context: target.context(),
            text,
            level: Some(call.level.to_string()),
            args,
            line: None,
            column: None,
            source_url: None,
            stack_trace,
            log_source: None,
            exception_id: None,
        };
        out.emit(KnownType::ConsoleError, cause, &data);
    } else {
        let data = ConsoleLog {
            context: target.context(),
            level: call.level.to_string(),
            text,
            args,
            stack_trace,
            log_source: None,
            source_url: None,
            exception_id: None,
        };
        out.emit(KnownType::ConsoleLog, cause, &data);
    }

    let items = call.args.items.iter();
    let objects = items.filter(|arg| arg.object_id.is_some()).count();
    hold(target, objects + call.args.skipped, out);
}

pub(crate) fn threw(target: &mut Target, details: &ExceptionDetails<'_>, out: &mut Outbox) {
    let exception = details.exception.as_ref();
    let text = match exception {
        Some(exception) => text_of(exception, out.options.text_limit, out),
        None => out.text(&details.text),
    };
    let stack_trace = details.stack_trace.as_ref();
    let data = ConsoleError {
        context: target.context(),
        text,
        level: None,
        args: None,
        line: details.line_number,
        column: details.column_number,
        source_url: details.url.as_ref().map(|url| out.url(url)),
        stack_trace: stack_trace.map(|trace| trace_of(trace, MAX_PARENTS, out)),
        log_source: None,
        exception_id: None,
    };
    let cause = Some("Runtime.exceptionThrown");
    out.emit(KnownType::ConsoleError, cause, &data);
    let held = exception.is_some_and(|exception| exception.object_id.is_some());
    hold(target, usize::from(held), out);
}

/// A line or an exception that is not captured. It is not read, so it counts as one object.
pub(crate) fn ignored(target: &mut Target, out: &mut Outbox) {
    hold(target, 1, out);
}

/// The page keeps what is reported to us by reference alive until we release it.
fn hold(target: &mut Target, objects: usize, out: &mut Outbox) {
    let objects = u32::try_from(objects).unwrap_or(u32::MAX);
    target.held_objects = target.held_objects.saturating_add(objects);
    if target.held_objects >= MAX_HELD {
        target.held_objects = 0;
        let group = json!({"objectGroup": "console"});
        out.send(Some(&target.session), "Runtime.releaseObjectGroup", &group);
    }
}

/// A value as a console shows it in one line: without secrets, and no longer than `limit` bytes.
fn text_of(value: &RemoteObject<'_>, limit: usize, out: &Outbox) -> String {
    let string = value
        .value
        .filter(|_| &*value.kind == "string")
        .and_then(PageText::of);
    let text = string
        .as_ref()
        .or(value.description.as_ref())
        .or(value.unserializable_value.as_ref());
    if let Some(text) = text {
        return out.text_within(text, limit);
    }
    if let Some(json) = value.value {
        let json = Beginning::of(json.get(), limit.saturating_add(MARGIN));
        return out.redacted(&json, limit);
    }
    let kind = value.subtype.as_ref().unwrap_or(&value.kind);
    out.plain_text(kind, limit)
}

fn trace_of(trace: &protocol::StackTrace<'_>, parents: usize, out: &Outbox) -> StackTrace {
    let frame_of = |frame: &protocol::CallFrame<'_>| CallFrame {
        function_name: out.text_within(&frame.function_name, MAX_NAME),
        script_id: frame.script_id.to_string(),
        url: out.url(&frame.url),
        line_number: frame.line_number,
        column_number: frame.column_number,
    };
    let description = trace.description.as_ref();
    let parent = trace.parent.as_ref().filter(|_| parents > 0);
    StackTrace {
        description: description.map(|text| out.text_within(text, MAX_NAME)),
        call_frames: trace.call_frames.items.iter().map(frame_of).collect(),
        parent: parent.map(|parent| Box::new(trace_of(parent, parents - 1, out))),
    }
}
