//! Console calls of pages and workers, and their uncaught exceptions.

use serde_json::json;
use tapline_oapi::KnownType;
use tapline_oapi::data::{CallFrame, ConsoleError, ConsoleLog, StackTrace};

use crate::outbox::Outbox;
use crate::preview;
use crate::protocol::{
    self, ConsoleApiCalled, ExceptionDetails, ExceptionRevoked, LogEntry, PageText, RemoteObject,
};
use crate::redact::cut;
use crate::targets::Target;

/// How many parents of a stack trace are kept: the traces of what scheduled it.
const MAX_PARENTS: usize = 8;

/// The longest name of a function that is kept, in bytes.
const MAX_NAME: usize = 1024;

/// How many objects the console's lines may keep alive in the page until they are released. The
/// browser itself keeps that many lines.
const MAX_HELD: u32 = 1000;

/// How many rejections are remembered for each target, in case they are handled later.
const MAX_REJECTIONS: usize = 100;

/// How the browser's text of an unhandled rejection begins.
const IN_PROMISE: &str = "Uncaught (in promise)";

/// A console call of this time.
pub(crate) fn called(target: &mut Target, call: &ConsoleApiCalled<'_>, ts: u64, out: &mut Outbox) {
    let args: Vec<String> = texts_of(&call.args.items, out.options.text_limit, out).collect();
    let first = call.args.items.first();
    let is_format = first.is_some_and(|first| &*first.kind == "string");
    let mut text = preview::joined(&args, is_format, out.options.text_limit, out);
    if &*call.level == "assert" {
        // What the browser sends for an assertion without a message.
        let has_message = text != "console.assert";
        let message = if has_message { &*text } else { "" };
        let separator = if has_message { ": " } else { "" };
        text = format!("Assertion failed{separator}{message}");
        text.truncate(cut(&text, out.options.text_limit).len());
    }
    let args = Some(args).filter(|args| !args.is_empty());
    let stack_trace = call.stack_trace.as_ref();
    let stack_trace = stack_trace.map(|trace| trace_of(trace, MAX_PARENTS, out));
    let cause = Some("Runtime.consoleAPICalled");
    if &*call.level == "error" {
        let data = ConsoleError {
            context: target.context_in(call.execution_context_id),
            text,
            level: Some(call.level.to_string()),
            args,
            stack_trace,
            ..ConsoleError::default()
        };
        out.emit_at(ts, KnownType::ConsoleError, cause, &data);
    } else {
        let data = ConsoleLog {
            context: target.context_in(call.execution_context_id),
            level: call.level.to_string(),
            text,
            args,
            stack_trace,
            ..ConsoleLog::default()
        };
        out.emit_at(ts, KnownType::ConsoleLog, cause, &data);
    }

    let items = call.args.items.iter();
    let objects = items.filter(|arg| arg.object_id.is_some()).count();
    hold(target, objects + call.args.skipped, out);
}

/// The text of each value, as far as there is space: `limit` bytes for all of them together.
fn texts_of(
    values: &[RemoteObject<'_>],
    limit: usize,
    out: &Outbox,
) -> impl Iterator<Item = String> {
    let mut left = Some(limit);
    values.iter().map_while(move |value| {
        let limit = left.take()?;
        let text = preview::text_of(value, limit, out);
        left = Some(limit - text.len()).filter(|left| 0 < *left);
        Some(text)
    })
}

/// An exception of this time.
pub(crate) fn threw(
    target: &mut Target,
    details: &ExceptionDetails<'_>,
    ts: u64,
    out: &mut Outbox,
) {
    let exception = details.exception.as_ref();
    let text = match exception {
        Some(exception) => uncaught(&details.text, exception, out),
        None => out.text(&details.text),
    };
    let exception_id = details.exception_id;
    if let Some(id) = exception_id.filter(|_| details.text.starts_with(IN_PROMISE)) {
        if target.rejections.len() == MAX_REJECTIONS {
            target.rejections.pop_front();
        }
        target.rejections.push_back(id);
    }
    let stack_trace = details.stack_trace.as_ref();
    let data = ConsoleError {
        context: target.context_in(details.execution_context_id),
        text,
        level: None,
        args: None,
        line: details.line_number,
        column: details.column_number,
        source_url: details.url.as_ref().map(|url| out.url(url)),
        stack_trace: stack_trace.map(|trace| trace_of(trace, MAX_PARENTS, out)),
        log_source: None,
        exception_id,
    };
    let cause = Some("Runtime.exceptionThrown");
    out.emit_at(ts, KnownType::ConsoleError, cause, &data);
    let held = exception.is_some_and(|exception| exception.object_id.is_some());
    hold(target, usize::from(held), out);
}

/// An exception as the browser writes it: `Uncaught`, and what was thrown.
fn uncaught(text: &PageText<'_>, exception: &RemoteObject<'_>, out: &Outbox) -> String {
    // In a worker, the browser's text may have the message already.
    let prefixes = [IN_PROMISE, "Uncaught"].into_iter();
    let mut begins = prefixes.filter(|prefix| text.starts_with(prefix));
    let prefix = match begins.next() {
        Some(prefix) => prefix.to_owned(),
        None => out.text_within(text, MAX_NAME),
    };
    if prefix.is_empty() {
        return preview::text_of(exception, out.options.text_limit, out);
    }
    let left = out.options.text_limit.saturating_sub(prefix.len() + 1);
    let exception = preview::text_of(exception, left, out);
    let mut text = format!("{prefix} {exception}");
    text.truncate(cut(&text, out.options.text_limit).len());
    text
}

/// A rejection that was emitted is handled now. The browser repeats this, too, so it is emitted only for
/// the last rejections that were not taken back yet.
pub(crate) fn revoked(target: &mut Target, revoked: &ExceptionRevoked<'_>, out: &mut Outbox) {
    let rejections = &mut target.rejections;
    let Some(at) = rejections
        .iter()
        .position(|id| Some(*id) == revoked.exception_id)
    else {
        return;
    };
    rejections.remove(at);
    let data = ConsoleLog {
        context: target.context(),
        level: "revoked".to_owned(),
        text: out.text(&revoked.reason),
        exception_id: revoked.exception_id,
        ..ConsoleLog::default()
    };
    let cause = Some("Runtime.exceptionRevoked");
    out.emit(KnownType::ConsoleLog, cause, &data);
}

/// A line of the browser itself, of this time, such as the reason why it blocked a request.
pub(crate) fn logged(target: &mut Target, entry: &LogEntry<'_>, ts: u64, out: &mut Outbox) {
    let limit = out.options.text_limit;
    let mut texts = vec![out.text(&entry.text)];
    let left = limit.saturating_sub(texts[0].len());
    texts.extend(texts_of(&entry.args.items, left, out));
    let text = preview::joined(&texts, true, limit, out);
    let context = target.page_context();
    let log_source = Some(out.plain_text(&entry.source, MAX_NAME));
    let source_url = entry.url.as_ref().map(|url| out.url(url));
    let stack_trace = entry.stack_trace.as_ref();
    let stack_trace = stack_trace.map(|trace| trace_of(trace, MAX_PARENTS, out));
    let cause = Some("Log.entryAdded");
    if &*entry.level == "error" {
        let data = ConsoleError {
            context,
            text,
            level: Some(entry.level.to_string()),
            args: None,
            line: entry.line_number,
            column: None,
            source_url,
            stack_trace,
            log_source,
            exception_id: None,
        };
        out.emit_at(ts, KnownType::ConsoleError, cause, &data);
    } else {
        let data = ConsoleLog {
            context,
            level: entry.level.to_string(),
            text,
            args: None,
            stack_trace,
            log_source,
            source_url,
            exception_id: None,
        };
        out.emit_at(ts, KnownType::ConsoleLog, cause, &data);
    }
    let items = entry.args.items.iter();
    let objects = items.filter(|arg| arg.object_id.is_some()).count();
    hold(target, objects + entry.args.skipped, out);
}

/// A line or an exception that is a repeat or is not captured. It counts as one object.
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
