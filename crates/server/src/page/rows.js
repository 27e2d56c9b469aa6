// The rows of the list: which there are, and the few thousand of them that are loaded.
//
// Rows are kept in spans, oldest first. A span is a run of seqs: {epoch, from, to, count, rows}, where `rows` are the
// events in it that match, or null where they are not loaded; then `count` is what is known or estimated of how many
// they are. Scrolling to one loads a page there and splits it. So a million events cost a handful of spans, a row is
// found by its seq, and rows far from what is looked at are dropped and loaded again.
//
// A row is {epoch, seq, ts, category, type, what, problem, target} for an event, or {epoch, seq, to, ts, loss} where
// events are missing.

import { isProblem, remember, summaryOf, count as digits } from "./text.js";

const PAGE = 200;
const MAX_LOADED = 4000;
const MAX_SPAN = 500;
const RETRY_MS = 2000;
const RESTART = "The server was restarted here: seqs begin again.";

// `present()`: the epoch of the server, "" before it is known. `hasArchive()`: whether evicted events are read elsewhere, null before
// it is known.
// `onChange()`: after a page was loaded, or could not be.
export function createRows({ source, filter, range, present, hasArchive, onChange }) {
  let spans = [];
  let isOpen = false;
  let isClosed = false;
  let problem = "";
  let load = null; // {span, abort}
  let newestSeen = null; // {epoch, seq} of the stream before the first page was there
  const addresses = new Map();

  const gone = source.kind === "file" ? "Not in this file: lost, or left out of it" : "Not retained any more: evicted";
  const match = matcher(filter);
  // Without a filter each seq is a row.
  const isExact = !match.isNeeded && range === null;
  const query = {
    ...(range && { since: range.since, until: range.until }),
    category: filter.category,
    type: filter.type,
    contains: filter.text,
    status: filter.status,
    target_id: filter.target,
    limit: PAGE,
  };

  // From the beginning of time: only then do pages reach back to earlier runs, which only an archive has.
  const down = () => ({ ...query, order: "desc", ...(range === null && hasArchive() && { since: 1 }) });

  // ---- reading ----

  async function open() {
    const abort = new AbortController();
    load = { span: null, abort };
    try {
      // Where a range begins: without it places in it would be looked for among all seqs.
      const [page, first] = await Promise.all([
        source.events(down(), { signal: abort.signal }),
        range && source.events({ ...range, order: "asc", limit: 1 }, { signal: abort.signal }),
      ]);
      if (isClosed) return;
      load = null;
      problem = "";
      isOpen = true;
      spans = [];
      const newest = page.events.length > 0 ? page.events[0].seq : 0;
      const next = offsetOf(page, page.epoch);
      const to = range === null && page.events.length > 0 ? Math.max(newest, page.head) : newest || page.head;
      if (to > 0) {
        const from = first && first.events.length > 0 && first.epoch === page.epoch ? Math.min(first.events[0].seq, to) : 1;
        spans.push({ epoch: page.epoch, from, to, count: isExact ? to : Math.max(1, page.events.length), rows: null });
        put(spans[0], page, to, next);
      } else if (next && next.epoch !== page.epoch) {
        addEarlier(next);
      }
      if (newestSeen !== null) extend(newestSeen.epoch, newestSeen.seq);
      onChange();
    } catch (error) {
      failed(error, open);
    }
  }

  // Loads what is missing between two indexes, if anything is; one page at a time, nearest to the newer end first.
  function ensure(first, last) {
    if (!isOpen || isClosed) return;
    let start = 0;
    let wanted = null;
    for (const span of spans) {
      const end = start + span.count;
      if (span.rows === null && start <= last && first < end) wanted = { span, start };
      start = end;
    }
    if (wanted === null) {
      if (load && load.span) stop();
      return;
    }
    if (load) {
      if (load.span === wanted.span && Math.abs(load.last - last) < PAGE) return;
      stop();
    }
    read(wanted.span, first - wanted.start, last - wanted.start, last);
  }

  function stop() {
    if (load) load.abort.abort();
    load = null;
  }

  async function read(span, first, last, at) {
    const abort = new AbortController();
    const mine = (load = { span, last: at, abort });
    const { signal } = abort;
    const isFirst = spans[0] === span;
    try {
      if (span.offset) {
        const page = await source.events({ ...down(), offset: span.offset }, { signal });
        if (isClosed || load !== mine) return;
        takeEarlier(span, page);
      } else if (!isFirst && first < PAGE && last < span.count - PAGE) {
        const page = await source.events({ ...query, order: "asc", offset: cursor(span.epoch, span.from - 1) }, { signal });
        if (isClosed || load !== mine) return;
        putUp(span, page);
      } else {
        const below = last >= span.count - PAGE ? span.to + 1 : Math.min(span.to, seqAt(span, last + PAGE / 2)) + 1;
        const page = await source.events({ ...down(), offset: cursor(span.epoch, below) }, { signal });
        if (isClosed || load !== mine) return;
        put(span, page, below - 1, offsetOf(page, span.epoch));
      }
      load = null;
      problem = "";
      onChange();
    } catch (error) {
      if (load === mine) failed(error, () => onChange());
    }
  }

  function failed(error, again) {
    load = null;
    if (isClosed || error.name === "AbortError") return;
    problem = error.message;
    onChange();
    if (error.status === 400 || error.status === 401 || error.status === 403) return;
    setTimeout(() => {
      if (!isClosed) again();
    }, RETRY_MS);
  }

  const cursor = (epoch, seq) => `${seq}-${epoch}`;

  function offsetOf(page, epoch) {
    if (!page.hasMore || !page.nextOffset) return null;
    const [seq, other] = page.nextOffset.split("-");
    // Without one it is of the present run.
    return { seq: Number(seq), epoch: other || present() || epoch, text: page.nextOffset };
  }

  // ---- what was read becomes spans ----

  // A page downwards from `to`: all that match from there to `next`, or to the beginning.
  function put(span, page, to, next) {
    if (page.events.length > 0 && page.epoch !== span.epoch) {
      // Nothing of this run is left below.
      replace(span, span.from, to, []);
      takeRun(page);
      return;
    }
    const continues = next !== null && next.epoch === span.epoch;
    const from = continues ? Math.max(span.from, Math.min(next.seq, to + 1)) : span.from;
    const rows = rowsOf(page, from, to).reverse();
    replace(span, from, to, rows);
    if (isExact) findHoles(span.epoch, rows, from);
    else if (page.lost > 0) addHole(span.epoch, from, rows.length > 0 ? rows[0].seq - 1 : to);
    if (page.oldest > 1 && page.epoch === span.epoch && span.epoch === present()) forget(page.oldest);
    if (next !== null && !continues) addEarlier(next);
    trim();
  }

  function putUp(span, page) {
    const next = offsetOf(page, span.epoch);
    const continues = next !== null && next.epoch === span.epoch;
    const to = continues ? Math.min(span.to, next.seq) : span.to;
    const rows = page.epoch === span.epoch ? rowsOf(page, span.from, to) : [];
    const { epoch, from } = span;
    replace(span, from, to, rows);
    if (isExact) findHoles(epoch, rows, from);
    else if (page.lost > 0 && rows.length > 0) addHole(epoch, from, rows[0].seq - 1);
    if (page.oldest > 1 && epoch === present()) forget(page.oldest);
    trim();
  }

  // An earlier run of the server, of which only the archive knows.
  function addEarlier(next) {
    if (spans.length > 0 && spans[0].offset) return;
    spans.unshift({ epoch: next.epoch, from: 1, to: Math.max(1, next.seq - 1), count: 1, rows: null, offset: next.text });
  }

  function takeEarlier(span, page) {
    spans.splice(spans.indexOf(span), 1);
    if (page.events.length > 0) takeRun(page);
    else if (page.hasMore && page.nextOffset !== span.offset) addEarlier(offsetOf(page, page.epoch));
    tidy();
  }

  function takeRun(page) {
    const newest = page.events[0].seq;
    const restart = lossSpan(page.epoch, newest + 1, newest + 1, RESTART, false);
    const run = { epoch: page.epoch, from: 1, to: newest, count: isExact ? newest : page.events.length, rows: null };
    spans.unshift(run, restart);
    put(run, page, newest, offsetOf(page, page.epoch));
  }

  function rowsOf(page, from, to) {
    const rows = [];
    for (const { seq, event } of page.events) {
      remember(event, addresses);
      if (seq < from || to < seq) continue;
      rows.push(rowOf(page.epoch, seq, event, addresses));
    }
    return rows;
  }

  // Seqs from..to of a span are known from now on.
  function replace(span, from, to, rows) {
    const index = spans.indexOf(span);
    const parts = [];
    if (span.from < from) parts.push(rest(span, span.from, from - 1));
    parts.push({ epoch: span.epoch, from, to, count: rows.length, rows });
    if (to < span.to) parts.push(rest(span, to + 1, span.to));
    spans.splice(index, 1, ...parts);
    if (!isExact && rows.length > 0) spread(span.epoch);
    tidy();
  }

  const rest = (span, from, to) => {
    const share = (to - from + 1) / (span.to - span.from + 1);
    const count = isExact ? to - from + 1 : Math.max(1, Math.round(span.count * share));
    return { epoch: span.epoch, from, to, count, rows: null };
  };

  // Estimates how many rows the parts have that are not loaded: as many for their seqs as elsewhere, or as were
  // counted.
  let counted = null;
  function spread(epoch) {
    let known = 0;
    let knownSeqs = 0;
    let seqs = 0;
    for (const span of spans) {
      if (span.epoch !== epoch || span.isLoss || span.offset) continue;
      const width = span.to - span.from + 1;
      if (span.rows === null) seqs += width;
      else {
        known += span.count;
        knownSeqs += width;
      }
    }
    if (seqs === 0) return;
    const others = counted === null ? (known / Math.max(1, knownSeqs)) * seqs : Math.max(0, counted - known);
    for (const span of spans) {
      if (span.epoch !== epoch || span.rows !== null || span.offset) continue;
      span.count = Math.max(1, Math.round((others * (span.to - span.from + 1)) / seqs));
    }
  }

  function tidy() {
    const tidied = [];
    for (const span of spans) {
      const before = tidied[tidied.length - 1];
      if (before && joins(before, span)) {
        before.to = span.to;
        if (before.isGone) before.rows = lossSpan(before.epoch, before.from, before.to, gone, true).rows;
        else {
          before.rows = before.rows && before.rows.concat(span.rows);
          before.count += span.count;
        }
      } else tidied.push(span);
    }
    spans = tidied;
  }

  const joins = (a, b) => a.epoch === b.epoch && a.to + 1 === b.from && !a.offset && !b.offset
    && Boolean(a.isLoss) === Boolean(b.isLoss) && Boolean(a.isGone) === Boolean(b.isGone) && (!a.isLoss || a.isGone)
    && (load === null || (a !== load.span && b !== load.span))
    && (a.rows === null) === (b.rows === null)
    && (a.rows === null || a.isGone || a.rows.length + b.rows.length <= MAX_SPAN);

  // ---- what is missing ----

  // Without a filter a seq that is not there is one that was lost.
  function findHoles(epoch, rows, from) {
    let expected = from;
    const holes = [];
    for (const { seq } of rows) {
      if (expected < seq) holes.push([expected, seq - 1]);
      expected = seq + 1;
    }
    for (const [first, last] of holes) addHole(epoch, first, last);
  }

  const addHole = (epoch, from, to) => carve(epoch, from, to, gone, true);

  // A loss that was reported: a row of its own where nothing is known of these seqs, or only that they are gone.
  const addLoss = (loss, text) => carve(loss.epoch, loss.from, loss.to, text, false);

  // What the server has evicted, and does not have in an archive either.
  function forget(oldest) {
    if (hasArchive() === false) carve(present(), 1, oldest - 1, gone, true);
  }

  function carve(epoch, from, to, text, isGone) {
    if (to < from) return;
    spans = spans.flatMap((span) => {
      if (span.epoch !== epoch || span.offset || span.to < from || to < span.from) return [span];
      if (span.isLoss && (isGone || !span.isGone)) return [span];
      if (load && load.span === span) stop();
      const first = Math.max(from, span.from);
      const last = Math.min(to, span.to);
      if (!span.isLoss && span.rows && span.rows.some(({ seq }) => first <= seq && seq <= last)) return [span];
      const parts = [];
      if (span.from < first) parts.push(part(span, span.from, first - 1));
      parts.push(lossSpan(epoch, first, last, text, isGone));
      if (last < span.to) parts.push(part(span, last + 1, span.to));
      return parts;
    });
    tidy();
  }

  function part(span, from, to) {
    if (span.isLoss) return lossSpan(span.epoch, from, to, gone, true);
    if (span.rows === null) return rest(span, from, to);
    const rows = span.rows.filter(({ seq }) => from <= seq && seq <= to);
    return { epoch: span.epoch, from, to, count: rows.length, rows };
  }

  // ---- the stream ----

  // Events of the stream, oldest first. Answers how many of them became rows.
  function append(events) {
    if (range !== null || events.length === 0) return 0;
    if (!isOpen) {
      const { epoch, seq } = events[events.length - 1];
      newestSeen = { epoch, seq };
      return 0;
    }
    let added = 0;
    for (const { epoch, seq, event, text } of events) {
      let last = spans[spans.length - 1];
      if (last === undefined || last.epoch !== epoch) {
        if (last !== undefined) addRestart(epoch);
        last = { epoch, from: seq, to: seq - 1, count: 0, rows: [] };
        spans.push(last);
      }
      if (seq <= last.to) continue;
      if (last.to + 1 < seq) {
        extend(epoch, seq - 1);
        last = spans[spans.length - 1];
      }
      remember(event, addresses);
      if (last.rows === null || last.isLoss || last.rows.length >= MAX_SPAN) {
        last = { epoch, from: seq, to: seq - 1, count: 0, rows: [] };
        spans.push(last);
      }
      last.to = seq;
      if (!match.event(event) || !match.text(text) || !match.status(event) || !match.target(event)) continue;
      last.rows.push(rowOf(epoch, seq, event, addresses));
      last.count += 1;
      added += 1;
    }
    return added;
  }

  function addRestart(epoch) {
    spans.push(lossSpan(epoch, 0, 0, RESTART, false));
  }

  // Events up to this seq exist, and were not handed on.
  function extend(epoch, to) {
    const last = spans[spans.length - 1];
    const from = last && last.epoch === epoch ? last.to + 1 : 1;
    if (to < from) return;
    spans.push({ epoch, from, to, count: isExact ? to - from + 1 : 1, rows: null });
    tidy();
  }

  // ---- memory ----

  // Drops the rows farthest from those that are looked at.
  let looked = [0, 0];
  function trim() {
    let loaded = spans.reduce((sum, span) => sum + (span.rows ? span.rows.length : 0), 0);
    if (loaded <= MAX_LOADED) return;
    const far = [];
    let start = 0;
    for (const span of spans) {
      const end = start + span.count;
      const away = Math.max(start - looked[1], looked[0] - end, 0);
      if (span.rows !== null && !span.isLoss && away > 0) far.push([away, span]);
      start = end;
    }
    far.sort(([a], [b]) => b - a);
    for (const [, span] of far) {
      if (loaded <= MAX_LOADED) break;
      loaded -= span.rows.length;
      if (span.rows.length > 0) span.rows = null;
    }
    tidy();
  }

  // ---- looking at them ----

  function at(index) {
    let start = 0;
    for (const span of spans) {
      if (index < start + span.count) return { span, offset: index - start };
      start += span.count;
    }
    return null;
  }

  const seqAt = (span, offset) => span.from + Math.floor((offset * (span.to - span.from + 1)) / Math.max(1, span.count));

  open();
  return {
    total: () => spans.reduce((sum, span) => sum + span.count, 0),
    isOpen: () => isOpen,
    problem: () => problem,
    // How many rows are loaded, for tests and for the curious.
    loaded: () => spans.reduce((sum, span) => sum + (span.rows ? span.rows.length : 0), 0),
    // Undefined where it is not loaded, or beyond the end.
    row(index) {
      const found = at(index);
      return found && found.span.rows ? found.span.rows[found.offset] : undefined;
    },
    // What keeps its place when rows before it come and go.
    key(index) {
      const found = at(index);
      if (found === null) return null;
      const { span, offset } = found;
      return { epoch: span.epoch, seq: span.rows ? span.rows[offset].seq : seqAt(span, offset) };
    },
    // The first row at or after this seq; -1: not of this list.
    index({ epoch, seq }) {
      const run = epoch || present() || (spans.length > 0 && spans[spans.length - 1].epoch);
      let start = 0;
      for (const span of spans) {
        if (span.epoch === run && seq <= span.to) {
          if (seq <= span.from) return start;
          if (span.rows === null) {
            return start + Math.floor(((seq - span.from) * span.count) / (span.to - span.from + 1));
          }
          const offset = span.rows.findIndex((row) => seq <= row.seq);
          return start + (offset < 0 ? span.rows.length : offset);
        }
        start += span.count;
      }
      return -1;
    },
    look(first, last) {
      looked = [first, last];
      trim();
      ensure(first, last);
    },
    append,
    addLoss,
    // How many events match in all, as the server has counted them.
    setCount(total) {
      if (isExact) return;
      counted = total;
      if (spans.length > 0) spread(spans[spans.length - 1].epoch);
    },
    close() {
      isClosed = true;
      stop();
    },
  };
}

function rowOf(epoch, seq, event, addresses) {
  const data = event.data;
  return {
    epoch,
    seq,
    ts: event.ts,
    category: String(event.category),
    type: String(event.type),
    what: summaryOf(event, addresses),
    problem: isProblem(event),
    target: data !== null && typeof data === "object" && typeof data.target_id === "string" ? data.target_id : "",
  };
}

// One row for seqs that are missing; `isGone`: it is not known since when.
function lossSpan(epoch, from, to, text, isGone) {
  const where = from === to ? `seq ${digits(from)}` : `seq ${digits(from)} to ${digits(to)}`;
  const loss = text === RESTART ? text : `${text} (${where})`;
  return { epoch, from, to, count: 1, isLoss: true, isGone, rows: [{ epoch, seq: from, to, ts: null, loss, problem: true }] };
}

// ---- the filter, for events of the stream and of files, as the server understands it ----

export function matcher(filter) {
  const categories = new Set(filter.category);
  const types = filter.type.split(/[\s,]+/).filter(Boolean).map(pattern);
  const text = filter.text.toLowerCase();
  const isStatus = statusMatcher(filter.status);
  const dataOf = ({ data }) => (data !== null && typeof data === "object" ? data : {});
  return {
    isNeeded: filter.status !== "" || filter.target !== "" || categories.size > 0 || types.length > 0 || text !== "",
    event: ({ category, type }) => (categories.size === 0 || categories.has(category))
      && (types.length === 0 || types.some((one) => one.test(type))),
    // The JSON of an envelope: what is looked for is looked for in its event.
    text: (json) => text === "" || json.toLowerCase().indexOf(text, json.indexOf('"event":') + 8) >= 0,
    status: (event) => filter.status === "" || isStatus(event, dataOf(event)),
    target: (event) => filter.target === "" || dataOf(event).target_id === filter.target,
  };
}

const pattern = (type) => new RegExp(`^${type.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`, "s");

// "404", "4xx", "failed", or several joined by commas.
function statusMatcher(asked) {
  const all = asked.split(",").map((word) => one(word.trim()));
  return (event, data) => all.some((is) => is(event, data));
}

function one(asked) {
  if (/^[1-5]xx$/i.test(asked)) {
    const first = Number(asked[0]);
    return (_, { status }) => typeof status === "number" && Math.floor(status / 100) === first;
  }
  if (/^\d+$/.test(asked)) return (_, { status }) => status === Number(asked);
  if (asked === "error") return (event) => event.category === "network" && isProblem(event);
  if (asked === "blocked") return (_, { blocked_reason, cors_error }) => Boolean(blocked_reason || cors_error);
  if (asked === "failed") return (event) => event.type === "network_loading_failed";
  return (_, { status }) => status === asked;
}
