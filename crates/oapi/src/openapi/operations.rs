//! The operations, declared only for the document: nothing here is ever called.
#![expect(dead_code, reason = "only utoipa's macros read this")]
#![expect(unused_qualifications, reason = "utoipa's code writes full paths")]

use serde_json::json;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::batch::BatchResult;
use crate::category::Category;
use crate::config::{ConfigRequest, State};
use crate::counts::EventCounts;
use crate::error::ErrorBody;
use crate::event::{Envelope, Event, PublishRequest};
use crate::health::Health;
use crate::instance::InstanceList;
use crate::joins::{Navigation, Problem, ProblemKind, RequestDetail, RequestItem};
use crate::reader::{OnLag, ReaderList, ReaderPatch, ReaderPatched};
use crate::sink::SinkList;
use crate::ticket::{FleetTicketRequest, Ticket, TicketRequest};

/// The state of the telemetry
///
/// What is captured, since when, and the head of the stream.
#[utoipa::path(
    get, path = "/telemetry", tag = "telemetry",
    responses(
        (status = 200, description = "The state.", body = State, example = state_example),
        (status = 404, description = "There is no telemetry configuration.", body = ErrorBody,
            example = json!({"code": "not_configured", "message": "telemetry is not configured: `PUT /telemetry` starts a session"})),
    ),
)]
fn get_telemetry() {}

/// Set what is captured
///
/// Starts a session, or replaces the configuration of the running session. Without a body, with `{}`
/// or without `browser`, all user-facing categories are captured. With `browser`, exactly the
/// categories with `enabled: true` are captured; if there is none, the configuration is cleared and the
/// session ends. `system` and `monitor` are always captured.
#[utoipa::path(
    put, path = "/telemetry", tag = "telemetry",
    request_body(content = ConfigRequest, description = "What to capture; optional.",
        examples(
            ("default" = (summary = "All user-facing categories", value = json!({}))),
            ("some" = (summary = "Two categories",
                value = json!({"browser": {"console": {"enabled": true}, "network": {"enabled": true}}}))),
        )),
    responses(
        (status = 200, description = "The configuration was replaced, or cleared.", body = State, example = state_example),
        (status = 201, description = "A session was started.", body = State, example = state_example),
        (status = 500, description = "A source of events could not start; the state is as before.",
            body = ErrorBody,
            example = json!({"code": "source_failed", "message": "the browser cannot be reached"})),
        BadBody,
    ),
)]
fn put_telemetry() {}

/// Change what is captured
///
/// Only categories with an explicit `enabled` change; an empty body changes nothing. If no category
/// is enabled any more, the configuration is cleared and the session ends.
#[utoipa::path(
    patch, path = "/telemetry", tag = "telemetry",
    request_body(content = ConfigRequest, description = "What to change; optional.",
        example = json!({"browser": {"screenshot": {"enabled": false}}})),
    responses(
        (status = 200, description = "The state after the change.", body = State, example = state_example),
        (status = 404, description = "There is no telemetry configuration to change.", body = ErrorBody,
            example = json!({"code": "not_configured", "message": "telemetry is not configured: `PUT /telemetry` starts a session"})),
        BadBody,
    ),
)]
fn patch_telemetry() {}

/// End the session
///
/// The configuration is cleared. Retained events stay, and readers continue.
#[utoipa::path(
    delete, path = "/telemetry", tag = "telemetry",
    responses(
        (status = 200, description = "The state after the session ended.", body = State, example = cleared_state_example),
        (status = 404, description = "No session is running.", body = ErrorBody,
            example = json!({"code": "not_configured", "message": "telemetry is not configured: `PUT /telemetry` starts a session"})),
    ),
)]
fn delete_telemetry() {}

/// Publish
///
/// One event as `application/json`, or many as `application/x-ndjson`, one per line. An invalid line
/// does not affect the valid ones: the answer counts published, filtered and refused lines, and says why
/// lines were refused.
#[utoipa::path(
    post, path = "/telemetry/events", tag = "events",
    request_body(description = "The event, or one event per line.", content(
        (PublishRequest = "application/json", examples(
            ("known" = (summary = "A known type", value = json!({
                "type": "console_log", "source": {"kind": "cdp"}, "data": {"level": "log", "text": "hello"}}))),
            ("custom" = (summary = "Any other type needs its category", value = json!({
                "type": "checkout_done", "category": "page", "data": {"order": 17}}))),
        )),
        (String = "application/x-ndjson", example = json!(
            "{\"type\":\"page_load\"}\n{\"type\":\"checkout_done\",\"category\":\"page\"}\n")),
    )),
    responses(
        (status = 200, description = "The published event, or for many events the counts.",
            body = Published,
            examples(
                ("one" = (summary = "One event", value = json!({"seq": 7, "event": {
                    "ts": 1_795_349_358_733_796_u64, "type": "console_log", "category": "console",
                    "source": {"kind": "cdp", "metadata": {"telemetry_session_id": "s1"}},
                    "data": {"level": "log", "text": "hello"}}}))),
                ("many" = (summary = "Many events", value = json!({
                    "published": 1, "filtered": 0, "refused": 1, "first_seq": 8, "last_seq": 8,
                    "errors": [{"line": 2, "code": "missing_field", "message": "field `type`: missing"}]}))),
            )),
        (status = 204, description = "The event was filtered: its category is not captured, or no session runs.", headers(
            ("X-Not-Captured" = String, description = "Why the event was not captured: `no_session` or `category_disabled`"),
        )),
        BadBody,
    ),
)]
fn publish_events() {}

/// Read a page of events
///
/// Retained events, oldest first unless `order` is `desc`. The headers say how to get the next page, and
/// how many events should be on the page and were evicted before they could be read.
///
/// A server with an archive also has events that are not in memory any more. Those of earlier runs are read where
/// `after` has the epoch of one, or `since` reaches back to it. A page is of one epoch.
#[utoipa::path(
    get, path = "/telemetry/events", tag = "events",
    params(PageQuery),
    responses(
        (status = 200, description = "The page; empty if no event matches.", body = [Envelope], headers(
            ("X-Has-More" = bool, description = "Whether there are more events after this page"),
            ("X-Next-Offset" = String, description = "The `offset` of the next page; absent if there is none. A number, and `{seq}-{epoch}` where the next page is of an earlier epoch"),
            ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
            ("X-Oldest" = u64, description = "The oldest seq still retained in memory, 0 before the first event"),
            ("X-Epoch" = String, description = "The epoch of these events: the random id of a run of the stream"),
            ("X-Lost" = u64, description = "How many events should be on this page and were evicted before they could be read; where a filter makes that unknown, the most that it can be. Newest first, the last page reports all of them"),
            ("X-Gaps" = String, description = "Where these are missing, in the order of the page: `4-9, 21-40/7` says that the seqs 4 to 9 are missing, and of 21 to 40 those that were asked for, at most 7. Absent if nothing is missing; the first 64 gaps if there are more"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn read_events() {}

/// Follow the events live
///
/// Server-Sent Events: `id: {seq}` and `data:` with an envelope, and comments to keep the connection alive.
/// Resume with the `Last-Event-ID` header, as browsers do automatically, or with `lastEventId` in the query, as
/// polyfills do. A comment reports what was evicted in between. A comment is one line, with no blank line
/// behind it.
///
/// With `notices=true` the stream also sends named events about itself: `hello`
/// (schema `Hello`) comes first and says where reading begins, `gap` (`Gap`) reports a loss,
/// `session` (`SessionNotice`) a change of what is captured, `filter` (`FilterNotice`) a change of the
/// reader's filter, `epoch` (`EpochNotice`) that the events of an earlier run end here, `beat` (`Beat`) that the stream is alive, and `bye` (`Bye`) that it ends. Ids are
/// then `{seq}-{epoch}`. All of these but `session` carry an id, too: the position from which a client resumes
/// that has received them.
///
/// The first of these that is present says where reading begins: `Last-Event-ID`, `lastEventId`, `after`,
/// `replay`. Without any of them, reading begins at the start of the current session, or at the head if there is no session.
///
/// A client that cannot send headers passes a ticket or a JWT in the query. It may restrict what is
/// delivered, and the stream ends when it expires.
#[utoipa::path(
    get, path = "/telemetry/stream", tag = "events",
    security((), ("bearer" = []), ("ticket" = []), ("jwt" = [])),
    params(StreamHeaders, StreamQuery),
    extensions(("x-notices" = json!({
        "hello": {"$ref": "#/components/schemas/Hello"},
        "gap": {"$ref": "#/components/schemas/Gap"},
        "session": {"$ref": "#/components/schemas/SessionNotice"},
        "filter": {"$ref": "#/components/schemas/FilterNotice"},
        "epoch": {"$ref": "#/components/schemas/EpochNotice"},
        "beat": {"$ref": "#/components/schemas/Beat"},
        "bye": {"$ref": "#/components/schemas/Bye"},
    }))),
    responses(
        (status = 200, description = "The stream. The schema is that of the `data` of one frame: OpenAPI 3.1 cannot \
            describe a stream of them.",
            content((Envelope = "text/event-stream")),
            headers(
                ("X-SSE-Content-Type" = String, description = "`application/json`: the media type of the `data` of a frame"),
                ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream. Another one than before the connection broke: the server was restarted"),
                ("X-Reader-Id" = String, description = "The id of this reader, to change its filter while it reads"),
            )),
        BadQuery,
    ),
)]
fn stream_events() {}

/// Wait for an event
///
/// Returns the first event after `after` that matches, among the retained events, or as soon as one is
/// published: an event from before the call is not missed. Without `after`, the search begins at the start
/// of the current session, or at the head if there is no session.
#[utoipa::path(
    get, path = "/telemetry/wait", tag = "events",
    params(WaitQuery),
    responses(
        (status = 200, description = "The event.", body = Envelope, headers(
            ("X-Head" = u64, description = "The seq up to which events were checked: the next call can use it as `after` and misses nothing"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
            ("X-Lost" = u64, description = "How many events that may have matched were evicted before they could be checked"),
        )),
        (status = 204, description = "No event matched within the time.", headers(
            ("X-Head" = u64, description = "The seq up to which events were checked: the next call can use it as `after` and misses nothing"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
            ("X-Lost" = u64, description = "How many events that may have matched were evicted before they could be checked"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn wait_for_event() {}

/// List the readers
///
/// All streams and waiting calls: their position, how far behind they are, their filter, and how many
/// events were delivered, filtered and lost.
#[utoipa::path(
    get, path = "/telemetry/readers", tag = "events",
    responses((status = 200, description = "The readers, the oldest first.", body = ReaderList)),
)]
fn list_readers() {}

/// Change the filter of a reader
///
/// The stream stays open and loses nothing. The answer, and a `filter` notice on the stream, name the seq
/// after which the new filter applies.
#[utoipa::path(
    patch, path = "/telemetry/readers/{id}", tag = "events",
    params(("id" = String, Path, description = "The reader's id: `X-Reader-Id` of its stream, or `reader` of its `hello`", example = "r17")),
    request_body(content = ReaderPatch, description = "What to change.",
        example = json!({"category": ["network"], "type": []})),
    responses(
        (status = 200, description = "The new filter of the reader.", body = ReaderPatched,
            example = json!({"id": "r17", "category": ["network"], "after": 42})),
        (status = 404, description = "There is no such reader, or it has disconnected.", body = ErrorBody,
            example = json!({"code": "not_found", "message": "there is no reader with this id; `GET /telemetry/readers` lists the open readers"})),
        (status = 409, description = "The reader is a `wait`, whose filter cannot be changed.", body = ErrorBody,
            example = json!({"code": "conflict", "message": "this reader is a `wait`, whose filter cannot be changed; send another `GET /telemetry/wait`"})),
        BadBody,
    ),
)]
fn patch_reader() {}

/// Export events as a file
///
/// A range of events, written while it is read, up to the newest event of the moment in which it begins: `har`
/// (HAR 1.2, the requests), `html` (a page that shows everything without a server), `ndjson` (the events, one on each line), or `trace` (for Perfetto). With an archive, also what is
/// not in memory any more, and earlier runs where `since` or `after` reaches back to them. A body that breaks off
/// is not whole.
#[utoipa::path(
    get, path = "/telemetry/export", tag = "events",
    params(ExportQuery),
    responses(
        (status = 200, description = "The file.", content(
            (Object = "application/json", example = json!({"log": {"version": "1.2", "entries": []}})),
            (String = "application/x-ndjson"),
            (String = "text/html"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn export_events() {}

/// What to export.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// The format of the file.
    #[param(inline)]
    format: ExportFormat,
    /// Only events after this: `{seq}` or `{seq}-{epoch}`.
    #[param(inline, example = "17")]
    after: Option<Cursor>,
    /// Only events at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only events up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Only events of these categories: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Only events of these types; `*` matches any characters. Repeated, or joined by commas.
    #[param(inline, max_items = 100, example = json!(["network_*"]))]
    r#type: Option<Vec<Types>>,
    /// Only events whose JSON has this text, without regard to the case of ASCII letters.
    #[param(min_length = 1, max_length = 200, example = "pricing.js")]
    contains: Option<String>,
    /// Only events of this tab, frame or worker: those whose `data` has it as `target_id`.
    #[param(min_length = 1, max_length = 200)]
    target_id: Option<String>,
    /// Only events of which one of these is true: their `data` has a `status` such as `404`, or of a class such as `4xx`; `failed` (a
    /// request failed), `blocked` (the browser refused one), or `error` (an event of the network is a problem). Repeated, or
    /// joined by commas.
    #[param(inline, max_items = 100, example = json!(["4xx", "failed"]))]
    status: Option<Vec<EventStatuses>>,
    /// Keep secrets, such as cookies and tokens, in a `har`, `html` or `trace`. Without it they are redacted. `ndjson` has the events as
    /// they are.
    with_secrets: Option<bool>,
}

/// The format of an exported file.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only described")]
enum ExportFormat {
    /// HAR 1.2: the requests.
    Har,
    /// One page that shows the events without a server.
    Html,
    /// The events, one on each line.
    Ndjson,
    /// Chrome's JSON trace format, for Perfetto.
    Trace,
}

/// Count events
///
/// How many events a range has over time, by category and by type, and how many of them match a filter. Without
/// `since` the range begins with the oldest event in memory; with it, an archive is counted as well.
#[utoipa::path(
    get, path = "/telemetry/counts", tag = "events",
    params(CountQuery),
    responses(
        (status = 200, description = "The counts.", body = EventCounts, headers(
            ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
            ("X-Oldest" = u64, description = "The oldest seq still retained in memory, 0 before the first event"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
        )),
        BadQuery,
    ),
)]
fn count_events() {}

/// What to count.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct CountQuery {
    /// Only events at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only events up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Into how many parts of the same length the time is divided.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    buckets: Option<u16>,
    /// Events of these categories match: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Events of these types match; `*` matches any characters. Repeated, or joined by commas.
    #[param(inline, max_items = 100, example = json!(["network_*"]))]
    r#type: Option<Vec<Types>>,
    /// Events whose JSON has this text match, without regard to the case of ASCII letters.
    #[param(min_length = 1, max_length = 200, example = "pricing.js")]
    contains: Option<String>,
    /// Events of this tab, frame or worker match.
    #[param(min_length = 1, max_length = 200)]
    target_id: Option<String>,
    /// Events match of which one of these is true, as for the list of events. Repeated, or joined by commas.
    #[param(inline, max_items = 100, example = json!(["4xx", "failed"]))]
    status: Option<Vec<EventStatuses>>,
}

/// List requests
///
/// Events joined to requests, oldest first: each with its redirects, its answer, its end and the phases of its time. One that has
/// ended is complete; what became of others is in `outcome`.
///
/// A client that follows asks again with the `X-Cursor` of the answer before as `after`, and receives the requests that
/// have changed since, each as a whole.
#[utoipa::path(
    get, path = "/telemetry/requests", tag = "events",
    params(RequestQuery),
    responses(
        (status = 200, description = "The requests.", body = [RequestItem], headers(
            ("X-Has-More" = bool, description = "Whether there are more items after these"),
            ("X-Next-Offset" = String, description = "The `offset` of what follows; absent if there is nothing"),
            ("X-Cursor" = String, description = "Up to where events were read: as `after`, it asks for what has changed since. Of several pages, that of the first one counts"),
            ("X-Complete" = bool, description = "Whether all events of the range were read. If not, ask again with `after`: reading continues"),
            ("X-Left-Out" = u64, description = "How many items of the range, the oldest ones, are not kept any more, because there are too many"),
            ("X-Lost" = u64, description = "How many events of the range at most are missing"),
            ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
            ("X-Oldest" = u64, description = "The oldest seq still retained in memory, 0 before the first event"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn list_requests() {}

/// Get a request
///
/// With its headers, and with the problems that are about it: each has what happened before and after it in the same tab.
#[utoipa::path(
    get, path = "/telemetry/requests/{id}", tag = "events",
    params(("id" = String, Path, description = "The request's `seq`; of an earlier run of the server `{seq}-{epoch}`", example = "17")),
    responses(
        (status = 200, description = "The request.", body = RequestDetail),
        (status = 404, description = "No request begins with this event.", body = ErrorBody,
            example = json!({"code": "not_found", "message": "no request begins with this event; `GET /telemetry/requests` lists the requests with their `seq`"})),
        BadQuery,
    ),
)]
fn get_request() {}

/// List navigations
///
/// Events joined to navigations of pages and frames, oldest first: each with its milestones. As for requests, `after` asks
/// for what has changed.
#[utoipa::path(
    get, path = "/telemetry/navigations", tag = "events",
    params(NavigationQuery),
    responses(
        (status = 200, description = "The navigations.", body = [Navigation], headers(
            ("X-Has-More" = bool, description = "Whether there are more items after these"),
            ("X-Next-Offset" = String, description = "The `offset` of what follows; absent if there is nothing"),
            ("X-Cursor" = String, description = "Up to where events were read: as `after`, it asks for what has changed since. Of several pages, that of the first one counts"),
            ("X-Complete" = bool, description = "Whether all events of the range were read. If not, ask again with `after`: reading continues"),
            ("X-Left-Out" = u64, description = "How many items of the range, the oldest ones, are not kept any more, because there are too many"),
            ("X-Lost" = u64, description = "How many events of the range at most are missing"),
            ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
            ("X-Oldest" = u64, description = "The oldest seq still retained in memory, 0 before the first event"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn list_navigations() {}

/// List problems
///
/// What went wrong, oldest first: requests that failed, errors, crashes, events that are missing, restarts. Each has the request
/// and the page that it is about, the command that caused it, and what happened in the 2 s before and after it. One that
/// turned out to be none is `withdrawn`. As for requests, `after` asks for what has changed.
#[utoipa::path(
    get, path = "/telemetry/problems", tag = "events",
    params(ProblemQuery),
    responses(
        (status = 200, description = "The problems.", body = [Problem], headers(
            ("X-Has-More" = bool, description = "Whether there are more items after these"),
            ("X-Next-Offset" = String, description = "The `offset` of what follows; absent if there is nothing"),
            ("X-Cursor" = String, description = "Up to where events were read: as `after`, it asks for what has changed since. Of several pages, that of the first one counts"),
            ("X-Complete" = bool, description = "Whether all events of the range were read. If not, ask again with `after`: reading continues"),
            ("X-Left-Out" = u64, description = "How many items of the range, the oldest ones, are not kept any more, because there are too many"),
            ("X-Lost" = u64, description = "How many events of the range at most are missing"),
            ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
            ("X-Oldest" = u64, description = "The oldest seq still retained in memory, 0 before the first event"),
            ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
        )),
        OtherEpoch,
        BadQuery,
    ),
)]
fn list_problems() {}

/// Show a file
///
/// Joins the events of a file, and answers everything that the live page shows of it: `events` (envelopes), `requests` with headers,
/// `navigations`, `problems` and a `tally`. Nothing is published or kept. The file is NDJSON, plain or compressed with zstd: a
/// segment of an archive, a dump, or an export. Or it is a HAR, which has requests and pages, and no events: `har` says who made it.
#[utoipa::path(
    post, path = "/telemetry/view", tag = "events",
    params(ViewQuery),
    request_body(description = "The file.", content(
        (String = "application/octet-stream", example = json!("{\"seq\":1,\"event\":{\"ts\":1,\"type\":\"page_load\",\"category\":\"page\"}}\n")),
        (String = "application/x-ndjson", example = json!("{\"seq\":1,\"event\":{\"ts\":1,\"type\":\"page_load\",\"category\":\"page\"}}\n")),
    )),
    responses(
        (status = 200, description = "What there is to see.", body = Object, headers(
            ("X-Unread" = u64, description = "How many lines are no events"),
            ("X-Complete" = bool, description = "Whether the file was read to its end. If not, the rest cannot be decompressed"),
        )),
        (status = 400, description = "The file has no events, or a parameter is wrong.", body = ErrorBody,
            example = json!({"code": "bad_request", "message": "body: line 1 is no event; send NDJSON, plain or compressed with zstd, such as a segment of an archive, or a HAR"})),
        (status = 413, description = "The file is too large.", body = ErrorBody,
            example = json!({"code": "body_too_large", "message": "the body is over 8388608 bytes"})),
    ),
)]
fn view_file() {}

/// How to show a file.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ViewQuery {
    /// The name of the file, for the answer, which has its first 200 characters.
    #[param(example = "segment.ndjson.zst")]
    name: Option<String>,
}

/// Which requests.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct RequestQuery {
    /// Only what was there at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`. Without it, from the oldest event
    /// in memory on.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only what was there up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Only what has changed after this: the `X-Cursor` of an earlier answer.
    #[param(inline, example = "17-5f0c2b9e00c0ffee")]
    after: Option<Cursor>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begin where the page before ended: its `X-Next-Offset`. Everything else as for that page.
    #[param(inline, example = "117")]
    offset: Option<Cursor>,
    /// Oldest first, or newest first.
    #[param(inline)]
    order: Option<Order>,
    /// Only of this tab, frame or worker.
    target_id: Option<String>,
    /// Only requests of which one of these is true: a status such as `404`, a class such as `4xx`, `pending`, `open`,
    /// `answered`, `failed`, `unknown`, `blocked` (the browser refused it), `canceled`, or `error` (it is a problem). Repeated, or
    /// joined by commas.
    #[param(inline, max_items = 100, example = json!(["4xx", "failed"]))]
    status: Option<Vec<Statuses>>,
    /// Only requests whose address has this text, without regard to the case of ASCII letters.
    #[param(min_length = 1, max_length = 200, example = "pricing.js")]
    contains: Option<String>,
    /// Only of these kinds of resources, such as `Script`: repeated, or joined by commas.
    #[param(inline, max_items = 100, example = json!(["Script", "Fetch"]))]
    resource_type: Option<Vec<Types>>,
    /// Only requests of the page with this seq.
    #[param(minimum = 0)]
    navigation: Option<i64>,
    /// Whether the answer has headers.
    #[param(default = false)]
    headers: Option<bool>,
}

/// Which navigations.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct NavigationQuery {
    /// Only what was there at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`. Without it, from the oldest event
    /// in memory on.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only what was there up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Only what has changed after this: the `X-Cursor` of an earlier answer.
    #[param(inline, example = "17-5f0c2b9e00c0ffee")]
    after: Option<Cursor>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begin where the page before ended: its `X-Next-Offset`. Everything else as for that page.
    #[param(inline, example = "117")]
    offset: Option<Cursor>,
    /// Oldest first, or newest first.
    #[param(inline)]
    order: Option<Order>,
    /// Only of this tab, frame or worker.
    target_id: Option<String>,
}

/// Which problems.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ProblemQuery {
    /// Only what was there at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`. Without it, from the oldest event
    /// in memory on.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only what was there up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Only what has changed after this: the `X-Cursor` of an earlier answer.
    #[param(inline, example = "17-5f0c2b9e00c0ffee")]
    after: Option<Cursor>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begin where the page before ended: its `X-Next-Offset`. Everything else as for that page.
    #[param(inline, example = "117")]
    offset: Option<Cursor>,
    /// Oldest first, or newest first.
    #[param(inline)]
    order: Option<Order>,
    /// Only of this tab, frame or worker.
    target_id: Option<String>,
    /// Only of these kinds: repeated, or joined by commas.
    kind: Option<Vec<ProblemKind>>,
}

/// What became of a request, or several such joined by commas.
#[derive(ToSchema)]
#[schema(
    pattern = "^([1-9][0-9][0-9]|[1-9]xx|pending|open|answered|failed|unknown|blocked|canceled|error)(,([1-9][0-9][0-9]|[1-9]xx|pending|open|answered|failed|unknown|blocked|canceled|error))*$"
)]
struct Statuses(String);

/// What an event says about an answer, or several such joined by commas.
#[derive(ToSchema)]
#[schema(
    pattern = "^([1-9][0-9][0-9]|[1-9]xx|failed|blocked|error)(,([1-9][0-9][0-9]|[1-9]xx|failed|blocked|error))*$"
)]
struct EventStatuses(String);

/// List the sinks
///
/// Where events go besides the streams, such as an archive or a collector: how far each is, what became of the
/// events that it has read, and what went wrong last.
#[utoipa::path(
    get, path = "/telemetry/sinks", tag = "events",
    responses((status = 200, description = "The sinks; none where the server has none.", body = SinkList)),
)]
fn list_sinks() {}

/// List the instances
///
/// Those that have reported to a gateway within the last ten minutes, a part of them at a time. An instance reports every two
/// seconds, so the figures are those of the last seconds.
#[utoipa::path(
    get, path = "/instances", tag = "fleet",
    params(InstanceQuery),
    responses(
        (status = 200, description = "A part of the instances; empty if none matches.", body = InstanceList, headers(
            ("X-Has-More" = bool, description = "Whether there are more instances after this part"),
            ("X-Next-Offset" = String, description = "The `offset` of the next part; absent if there is none"),
        )),
        BadQuery,
    ),
)]
fn list_instances() {}

/// Follow many instances
///
/// Server-Sent Events, each an event of one instance. The id of a frame is one cursor for all instances: a client that
/// resumes with it, at this gateway or another, is sent what follows. With `notices=true` the stream also sends `hello`,
/// `gap`, `epoch`, `beat` and `bye`; otherwise losses are comments.
#[utoipa::path(
    get, path = "/fleet/stream", tag = "fleet",
    params(StreamHeaders, FleetQuery),
    security((), ("bearer" = []), ("ticket" = []), ("jwt" = [])),
    responses(
        (status = 200, description = "The stream. The schema is that of the `data` of one frame.",
            content((OfInstance = "text/event-stream"))),
        BadQuery,
    ),
)]
fn stream_fleet() {}

/// Make a ticket for some instances
///
/// It opens `GET /fleet/stream` with the events of these instances, and `GET /instances/{instance}/telemetry/stream` of
/// each.
#[utoipa::path(
    post, path = "/fleet/tickets", tag = "fleet",
    request_body(content = FleetTicketRequest, description = "What the ticket allows.",
        example = json!({"instances": ["shop-*"], "category": ["page"], "expires_in": 60})),
    responses(
        (status = 201, description = "The ticket.", body = Ticket,
            example = json!({"ticket": "c2VjcmV0", "expires_at": "2026-11-22T12:10:18Z"})),
        BadBody,
    ),
)]
fn create_fleet_ticket() {}

/// Make a ticket
///
/// For a client that must not have the token, or cannot send headers: a secret that opens streams for a
/// limited time and for the events that it allows. It is checked when a stream is opened, and the stream
/// ends when the ticket expires.
#[utoipa::path(
    post, path = "/telemetry/tickets", tag = "events",
    request_body(content = TicketRequest, description = "What the ticket allows; optional.",
        example = json!({"category": ["page"], "expires_in": 60})),
    responses(
        (status = 201, description = "The ticket.", body = Ticket,
            example = json!({"ticket": "c2VjcmV0", "expires_at": "2026-11-22T12:10:18Z"})),
        BadBody,
    ),
)]
fn create_ticket() {}

/// Whether the server is alive
///
/// Answers as long as the process does. For a probe that restarts it.
#[utoipa::path(
    get, path = "/healthz", tag = "service", security(()),
    responses((status = 200, description = "It is.", body = Health)),
)]
fn get_health() {}

/// Whether the server takes requests
///
/// For a load balancer: not ready is for a time, and no reason to restart the server.
#[utoipa::path(
    get, path = "/readyz", tag = "service", security(()),
    responses((status = 200, description = "It does.", body = Health)),
)]
fn get_readiness() {}

/// Metrics
///
/// In the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, description = "The metrics.", content((String = "text/plain; version=0.0.4")))),
)]
fn get_metrics() {}

/// The live page
///
/// Shows the events as they come, in a browser.
#[utoipa::path(
    get, path = "/", tag = "service", security(()),
    responses((status = 200, description = "The page.", content((String = "text/html")))),
)]
fn get_page() {}

/// This document
///
/// OpenAPI 3.1. It describes every operation of this server, and the notices of its streams.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", security(()),
    responses((status = 200, description = "The OpenAPI document.", body = Object)),
)]
fn get_openapi() {}

/// Which events, for pages and streams alike.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// How many events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Only events after this, whatever the order: `{seq}` or `{seq}-{epoch}`.
    #[param(inline, example = "17")]
    after: Option<Cursor>,
    /// Begin where the page before ended: its `X-Next-Offset`. Everything else as for that page.
    #[param(inline, example = "117")]
    offset: Option<Cursor>,
    /// Oldest first, or newest first.
    #[param(inline)]
    order: Option<Order>,
    /// Only events at this time or later: RFC 3339, or a duration ago such as `5m` or `7d`.
    #[param(example = "5m")]
    since: Option<String>,
    /// Only events up to this time: RFC 3339, or a duration ago such as `5m`.
    #[param(example = "2026-11-22T12:00:00Z")]
    until: Option<String>,
    /// Only events of these categories: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Only events of these types; `*` matches any characters. Repeated, or joined by commas. With
    /// `category` as well, both must match.
    #[param(inline, max_items = 100, example = json!(["page_*", "network_response"]))]
    r#type: Option<Vec<Types>>,
    /// Only events whose JSON has this text, without regard to the case of ASCII letters.
    #[param(min_length = 1, max_length = 200, example = "pricing.js")]
    contains: Option<String>,
    /// Only events of this tab, frame or worker: those whose `data` has it as `target_id`.
    #[param(min_length = 1, max_length = 200)]
    target_id: Option<String>,
    /// Only events of which one of these is true: their `data` has a `status` such as `404`, or of a class such as `4xx`; `failed` (a
    /// request failed), `blocked` (the browser refused one), or `error` (an event of the network is a problem). Repeated, or
    /// joined by commas.
    #[param(inline, max_items = 100, example = json!(["4xx", "failed"]))]
    status: Option<Vec<EventStatuses>>,
}

/// An event type, or several joined by commas; `*` matches any characters. None of them is empty.
#[derive(ToSchema)]
#[schema(pattern = "^[^,]+(,[^,]+)*$")]
struct Types(String);

/// A position in the stream.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9]{1,19}(-[0-9A-Fa-f]{16})?$")]
struct Cursor(String);

/// The order of a page.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", default = "asc")]
enum Order {
    Asc,
    Desc,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct StreamHeaders {
    /// The id of the last frame that was received: `{seq}` or `{seq}-{epoch}`. Used instead of `after`.
    #[param(rename = "Last-Event-ID", nullable = false, example = "17")]
    last_event_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// The id of the last frame that was received. Used instead of `after`, and the header is used instead of
    /// it: polyfills of `EventSource` send it when they reconnect. The last one, if there are several.
    #[param(rename = "lastEventId", example = "17")]
    last_event_id: Option<String>,
    /// Begin after this: `{seq}` or `{seq}-{epoch}`.
    #[param(example = "17")]
    after: Option<String>,
    /// Begin at the oldest retained event (`all`), or with new events only (`live`).
    #[param(inline)]
    replay: Option<Replay>,
    /// Only events of these categories: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Only events of these types; `*` matches any characters. Repeated, or joined by commas. With
    /// `category` as well, both must match.
    #[param(inline, max_items = 100, example = json!(["page_*", "network_response"]))]
    r#type: Option<Vec<Types>>,
    /// Whether the stream also sends notices.
    #[param(default = false)]
    notices: Option<bool>,
    /// What to do when the reader lagged: continue at the oldest retained event (the default), continue
    /// after the newest event, or end the stream.
    #[param(inline)]
    overtaken: Option<OnLag>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct FleetQuery {
    /// Only instances with these names; `*` matches any characters. Joined by commas. All, if it is absent.
    #[param(example = "shop-*,till-1")]
    instances: Option<String>,
    /// As the header `Last-Event-ID`, which is used instead of it.
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
    /// Begin after this: the id of a frame.
    after: Option<String>,
    /// Begin with everything that is stored (`all`), or with new events only (`live`, the default).
    #[param(inline)]
    replay: Option<Replay>,
    /// Only events of these categories: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Only events of these types; `*` matches any characters. Repeated, or joined by commas. With
    /// `category` as well, both must match.
    #[param(inline, max_items = 100, example = json!(["page_*", "network_response"]))]
    r#type: Option<Vec<Types>>,
    /// Whether the stream also sends notices.
    #[param(default = false)]
    notices: Option<bool>,
}

/// Which instances.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct InstanceQuery {
    /// Only instances with these names; `*` matches any characters. Joined by commas. All, if it is absent.
    #[param(example = "shop-*,till-1")]
    name: Option<String>,
    /// Only instances that run, or only those that do not.
    alive: Option<bool>,
    /// Which come first: by `name`, or those with the most events a second (`rate`), with the most `problems`, with the most events
    /// that are not stored (`lag`), or with the newest event (`last`). Equal ones are in the order of their names.
    #[param(inline)]
    order: Option<InstanceOrder>,
    /// How many instances at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begin where the part before ended: its `X-Next-Offset`. Everything else as for that part.
    #[param(inline, example = "0-shop-17")]
    offset: Option<InstanceOffset>,
}

/// The order of a list of instances.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", default = "name")]
enum InstanceOrder {
    Name,
    Rate,
    Problems,
    Lag,
    Last,
}

/// Where a part of a list of instances ended.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9]{1,20}-.*$")]
struct InstanceOffset(String);

/// An event of an instance.
#[derive(ToSchema)]
struct OfInstance {
    /// The name of the instance.
    instance: String,
    /// The epoch of its seqs.
    epoch: String,
    /// Its sequence number.
    #[schema(minimum = 1)]
    seq: u64,
    event: Event,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Look only after this: `{seq}` or `{seq}-{epoch}`.
    #[param(inline, example = "17")]
    after: Option<Cursor>,
    /// Only events of these categories: repeated, or joined by commas.
    category: Option<Vec<Category>>,
    /// Only events of these types; `*` matches any characters. Repeated, or joined by commas. With
    /// `category` as well, both must match.
    #[param(inline, max_items = 100, example = json!(["page_*", "network_response"]))]
    r#type: Option<Vec<Types>>,
    /// For how many milliseconds to wait. 0 checks only the retained events.
    #[param(minimum = 0, maximum = 300_000, default = 30_000)]
    timeout_ms: Option<u32>,
}

/// Where a stream begins.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Replay {
    All,
    Live,
}

/// The answer to publishing: the envelope of one event, or the counts of many.
#[derive(ToSchema)]
#[serde(untagged)]
enum Published {
    One(Envelope),
    Many(BatchResult),
}

/// The errors of any body.
#[derive(IntoResponses)]
enum BadBody {
    /// The body is not JSON, or not valid for this call.
    #[response(status = 400, example = json!({
        "code": "invalid_field",
        "message": "field `source.kind`: unknown value `x`, expected one of `cdp`, `kernel_api`, `extension`, `local_process`"}))]
    Invalid(ErrorBody),
    /// The body, or the event even without its `data`, is too large.
    #[response(status = 413, example = json!({"code": "body_too_large", "message": "the body is over 8388608 bytes"}))]
    TooLarge(ErrorBody),
    /// The media type of the body is not accepted here.
    #[response(status = 415, example = json!({
        "code": "unsupported_media_type", "message": "expected `application/json`, got `text/plain`"}))]
    MediaType(ErrorBody),
}

/// The cursor is ahead of the stream or of another epoch, most likely because the server was restarted.
#[derive(IntoResponses)]
#[response(status = 409, example = json!({
    "code": "conflict",
    "message": "query parameter `after`: the cursor `99` is ahead of this stream or of another epoch; its head is 2 and its epoch 5f0c2b9e00c0ffee, so read from `after=2-5f0c2b9e00c0ffee` on, or from the beginning with `after=0`"}),
    headers(
        ("X-Head" = u64, description = "The newest seq published, 0 before the first event"),
        ("X-Epoch" = String, description = "The epoch: the random id of this run of the stream"),
    ))]
struct OtherEpoch(ErrorBody);

/// A query parameter is invalid.
#[derive(IntoResponses)]
#[response(status = 400, example = json!({
    "code": "invalid_query", "message": "query `category`: unknown category `newtork`"}))]
struct BadQuery(ErrorBody);

fn state_example() -> serde_json::Value {
    json!({
        "config": {"browser": {
            "console": {"enabled": true}, "network": {"enabled": true}, "page": {"enabled": true},
            "interaction": {"enabled": false}, "control": {"enabled": false}, "platform": {"enabled": false},
            "connection": {"enabled": false}, "screenshot": {"enabled": false}, "captcha": {"enabled": false},
        }},
        "seq": 17,
        "applied_at": "2026-11-22T12:09:18.733796Z",
        "session_id": "s1",
        "session_start_seq": 0,
        "epoch": "5f0c2b9e00c0ffee",
    })
}

fn cleared_state_example() -> serde_json::Value {
    let disabled = json!({"enabled": false});
    json!({
        "config": {"browser": {
            "console": disabled, "network": disabled, "page": disabled, "interaction": disabled,
            "control": disabled, "platform": disabled, "connection": disabled, "screenshot": disabled,
            "captcha": disabled,
        }},
        "seq": 42,
        "epoch": "5f0c2b9e00c0ffee",
    })
}
