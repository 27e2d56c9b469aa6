// A file that was opened, as a source: answers the calls of `api.js` from a bundle in memory.
//
// The bundle is what POST /telemetry/view answers, and what a standalone file has inside:
// {name, events: [envelopes], requests, navigations, problems, tally}. What was made of a HAR has no events, and `har`: what
// that file says about itself.

import { endOf, hasStatus, hasText, requestEnd } from "./joins.js";
import { matcher } from "./rows.js";

const SECOND = 1_000_000;
const UNITS = { ms: 1000, s: SECOND, m: 60 * SECOND, h: 3600 * SECOND, d: 86_400 * SECOND };

export function fileSource(bundle) {
  const events = bundle.events ?? [];
  const kinds = { requests: bundle.requests ?? [], navigations: bundle.navigations ?? [], problems: bundle.problems ?? [] };
  const first = events[0];
  const last = events.at(-1);
  // An event can be older than one before it: a response is reported when its body was read.
  const times = events.map(({ event }) => event.ts);
  const start = first ? times.reduce((a, b) => Math.min(a, b)) : startOfItems(kinds);
  // The clock of a file has stopped.
  const end = last ? { seq: last.seq, ts: times.reduce((a, b) => Math.max(a, b)) } : endOfItems(kinds);
  const now = end?.ts ?? 0;
  // Seqs begin again where the server was restarted; `event` finds the last of a seq, as the server would.
  const bySeq = new Map(events.map((envelope) => [envelope.seq, envelope]));
  const gaps = gapsOf(events);

  const inTime = (ts, { since, until }) => timeOf(since, now, -Infinity) <= ts && ts <= timeOf(until, now, Infinity);

  function matching(query) {
    const { category = [], type = "", contains = "", status = "", target_id: target = "" } = query;
    const match = matcher({ category: [], type: "", text: "", status: String(status), target });
    const categories = listOf(category);
    const types = listOf(type).map(patternOf);
    const text = contains.toLowerCase();
    return ({ event, seq }) => inTime(event.ts, query)
      && (categories.length === 0 || categories.includes(event.category))
      && (types.length === 0 || types.some((pattern) => pattern.test(event.type)))
      && match.status(event)
      && match.target(event)
      && (text === "" || JSON.stringify({ seq, event }).toLowerCase().includes(text));
  }

  function items(kind) {
    return async (query = {}) => {
      if (query.after) return { items: [], hasMore: false, nextOffset: null, cursor: query.after, lost: 0, isComplete: true, leftOut: 0 };
      const { limit = 1000, target_id: target, contains = "", status = "", kind: wanted = "", navigation, resource_type: type } = query;
      const offset = Number(query.offset || 0);
      const [from, to] = [timeOf(query.since, now, -Infinity), timeOf(query.until, now, Infinity)];
      const all = kinds[kind].filter((item) => item.ts <= to && from <= (endOf(kind, item) ?? Infinity)
        && (!target || item.target_id === target)
        && (!wanted || listOf(wanted).includes(item.kind))
        && (!navigation || item.navigation === Number(navigation))
        && (!type || item.resource_type === type)
        && (!contains || hasText(item, contains.toLowerCase()))
        && (!status || hasStatus(item, String(status))));
      if (query.order === "desc") all.reverse();
      const page = all.slice(offset, offset + Number(limit));
      const hasMore = offset + page.length < all.length;
      return { items: page, hasMore, nextOffset: hasMore ? String(offset + page.length) : null, cursor: `${end?.seq ?? 0}-file`, lost: 0, isComplete: true, leftOut: 0 };
    };
  }

  return {
    kind: "file",
    name: bundle.name,
    har: bundle.har ?? null,
    // {seq, ts} of the last that it has, or null.
    end,
    authorize() {},
    async events(query = {}) {
      const { limit = 20, order = "asc" } = query;
      const isDown = order === "desc";
      const cursor = query.offset ?? query.after ?? "";
      const from = String(cursor) === "" ? null : Number.parseInt(cursor, 10);
      let all = events.filter(matching(query));
      if (isDown) all.reverse();
      if (from !== null) all = all.filter(({ seq }) => (isDown && query.offset !== undefined ? seq < from : from < seq));
      const page = all.slice(0, Number(limit));
      const hasMore = page.length < all.length;
      return {
        events: page,
        hasMore,
        nextOffset: hasMore ? `${page.at(-1).seq}-file` : null,
        head: last?.seq ?? 0,
        oldest: first?.seq ?? 0,
        epoch: "file",
        lost: 0,
      };
    },
    async event(seq) {
      const envelope = bySeq.get(seq);
      return envelope ? { envelope, text: JSON.stringify(envelope) } : null;
    },
    requests: items("requests"),
    navigations: items("navigations"),
    problems: items("problems"),
    request: async (seq) => kinds.requests.findLast((item) => item.seq === seq) ?? null,
    counts: async (query = {}) => countsOf(events, gaps, matching(query), query, { since: start ?? 0, until: now }),
    state: async () => null,
    sinks: async () => [],
    readers: async () => [],
    put: readOnly,
    patch: readOnly,
    stop: readOnly,
    types: async () => [...new Set(events.map(({ event }) => event.type))].sort(),
    link: () => null,
    async download(path, query = {}) {
      const lines = events.filter(matching(query)).map((envelope) => `${JSON.stringify(envelope)}\n`);
      return new Blob(lines, { type: "application/x-ndjson" });
    },
    follow: () => ({ reopen() {}, close() {} }),
  };
}

const readOnly = () => Promise.reject(new Error("this is a file: it has no session"));

const listOf = (value) => (Array.isArray(value) ? value : String(value).split(/[\s,]+/)).filter(Boolean);

// `*` matches any text.
const patternOf = (text) => new RegExp(`^${text.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`);

// A time as the server takes it: RFC 3339, or how long ago.
function timeOf(text, now, otherwise) {
  if (text === undefined || text === null || text === "") return otherwise;
  if (typeof text === "number") return text;
  const [, number, unit] = text.match(/^(\d+)(ms|s|m|h|d)$/) ?? [];
  if (unit) return now - Number(number) * UNITS[unit];
  const [, whole, micros = ""] = text.match(/^(.*?\.\d{3})(\d{1,3})?(?=Z|[+-]|$)/) ?? [];
  const ms = Date.parse(whole ? text.replace(/(\.\d{3})\d+/, "$1") : text);
  return Number.isNaN(ms) ? otherwise : ms * 1000 + Number(micros.padEnd(3, "0").slice(0, 3));
}

// Of a file without events.
function startOfItems({ requests, navigations }) {
  const times = [...requests.map(({ ts }) => ts), ...navigations.map(({ start_ts }) => start_ts)];
  return times.length > 0 ? times.reduce((a, b) => Math.min(a, b)) : null;
}

function endOfItems({ requests, navigations }) {
  let end = null;
  for (const { updated: seq, ts } of [
    ...requests.map((it) => ({ updated: it.updated, ts: requestEnd(it) ?? it.ts })),
    ...navigations.map((it) => ({ updated: it.updated, ts: Math.max(it.ts, it.load ?? 0, it.settled ?? 0) })),
  ]) end = { seq: Math.max(seq, end?.seq ?? 0), ts: Math.max(ts, end?.ts ?? 0) };
  return end;
}

// Where seqs are missing within a run: what was lost, or what was left out of the file.
function gapsOf(events) {
  const gaps = [];
  for (let index = 1; index < events.length; index += 1) {
    const [before, after] = [events[index - 1], events[index]];
    if (before.seq + 1 < after.seq) {
      gaps.push({ from: before.seq + 1, to: after.seq - 1, since: before.event.ts, until: after.event.ts });
    }
  }
  return gaps;
}

function countsOf(events, gaps, isMatching, query, all) {
  const since = timeOf(query.since, all.until, all.since);
  const until = Math.max(since + 1, timeOf(query.until, all.until, all.until));
  const many = Math.min(1000, Math.max(1, Number(query.buckets || 100)));
  const length = (until - since) / many;
  const buckets = Array.from({ length: many }, (_, index) => ({ ts: Math.round(since + index * length), by_category: {}, lost: 0 }));
  const answer = { since, until, bucket_us: length, buckets, events: 0, matching: 0, by_type: {}, by_category: {}, gaps: [] };
  for (const envelope of events) {
    const { ts, type, category } = envelope.event;
    if (ts < since || until < ts) continue;
    answer.events += 1;
    answer.by_type[type] = (answer.by_type[type] ?? 0) + 1;
    answer.by_category[category] = (answer.by_category[category] ?? 0) + 1;
    if (!isMatching(envelope)) continue;
    answer.matching += 1;
    const bucket = buckets[Math.min(many - 1, Math.floor((ts - since) / length))].by_category;
    bucket[category] = (bucket[category] ?? 0) + 1;
  }
  answer.gaps = gaps.filter((gap) => gap.since <= until && since <= gap.until);
  return answer;
}
