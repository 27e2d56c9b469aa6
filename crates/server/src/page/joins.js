// The requests, navigations, problems and screenshots of the range, as the server joined them: nothing is joined here.
//
// While the page is live and visible, what has changed is read every second. A range in the past is read once. All of it
// is bounded (MOST): of more, the newest are kept, and `isCut` says so.
//
//   joins.requests()     those that overlap the range, by their beginning; likewise navigations() and problems()
//   joins.known(kind)    all that are kept, of whatever range
//   joins.find(kind, seq, run)
//                        one of them, or null
//   joins.screenshots()  [{seq, ts, target, picture}] of the range, by time; `picture` is a small canvas
//   joins.gaps()         [{since, until, count}]: pieces of time of which events are missing
//   joins.window()       {since, until}: the range, and else what the graph shows
//   joins.now()          microseconds since the Unix epoch, by the clock of the events
//   joins.status()       {isRead, isCut, error}: whether all of it was read, whether older items are not kept, and why the last
//                        reading failed
//   joins.on(fn)         fn() after a change, at most once a frame; answers a function that ends it

import { overlaps } from "./axis.js";

const MOST = { requests: 10_000, navigations: 1000, problems: 2000 };
const KINDS = Object.keys(MOST);
const PAGE = 1000;
const POLL_MS = 1000;
// A poll that took long is not repeated at once.
const REST = 3;
// Pictures are large: few are read at once, and only small copies are kept.
const PICTURES_AT_ONCE = 12;
const MAX_PICTURES = 120;
const PICTURE_WIDTH = 112;

export function createJoins({ store, source }) {
  const listeners = new Set();
  // What the stream brings, from `since` on; and a range of the past, where the former does not have it.
  let live = emptySet(0);
  let past = null;
  let pastOf = null; // the range that was asked for, also where the live events have it
  let pictures = new Map();
  let picturesAfter = "";
  let error = "";
  let isChanged = false;
  let generation = 0;
  let clock = { ts: 0, at: 0 };

  // ---- what is asked of it ----

  const window_ = () => {
    const { range, extent } = store.get();
    return range ?? extent ?? { since: 0, until: Number.MAX_SAFE_INTEGER };
  };

  function shownSet() {
    const { range } = store.get();
    return range && past && past.range.since === range.since && past.range.until === range.until ? past : live;
  }

  function of(kind) {
    const set = shownSet();
    const { range, extent } = store.get();
    // Live, everything that was read is shown, however far the graph looks back.
    const axis = range ?? (extent && { since: extent.since, until: Number.MAX_SAFE_INTEGER });
    const items = sorted(set, kind);
    return axis ? items.filter((item) => overlaps(item.ts, endOf(kind, item), axis)) : items;
  }

  function now() {
    const { newest } = store.get();
    if (!newest) return Date.now() * 1000;
    if (source.kind === "file") return newest.ts;
    if (newest.ts > clock.ts) clock = { ts: newest.ts, at: performance.now() };
    return clock.ts + Math.round((performance.now() - clock.at) * 1000);
  }

  function gaps() {
    const { gaps: counted = [], losses } = store.get();
    // What the server has counted as well is there once.
    const isCounted = (loss) => loss.epoch === store.get().epoch && counted.some((gap) => gap.from <= loss.to && loss.from <= gap.to);
    const known = losses.filter((loss) => (Number.isFinite(loss.since) || Number.isFinite(loss.until)) && !isCounted(loss));
    return [
      // Without a time: at the beginning, or at the end, of what was counted.
      ...counted.map((gap) => ({ since: gap.since ?? 0, until: gap.until ?? Number.MAX_SAFE_INTEGER, count: gap.lost ?? gap.to - gap.from + 1 })),
      ...known.map((loss) => ({ since: loss.since ?? 0, until: loss.until ?? loss.since, count: loss.count })),
    ].filter((gap) => gap.since <= gap.until).sort((a, b) => a.since - b.since);
  }

  // ---- reading ----

  // Reads all of a kind after a cursor, newest first, a page at a time: what is looked at first is there first. The cursor of the
  // first page counts.
  async function readAll(set, kind, query, mine) {
    let offset = "";
    let cursor = "";
    for (;;) {
      const page = await source[kind]({ ...query, order: "desc", limit: PAGE, offset });
      if (mine !== generation) return "";
      add(set, kind, page.items);
      if (page.leftOut > 0) set.isCut = true;
      if (!page.isComplete) set.isPartial = true;
      changed();
      cursor ||= page.cursor;
      if (!page.hasMore) return cursor;
      offset = page.nextOffset;
    }
  }

  async function read(set, query, mine) {
    set.isPartial = false;
    await Promise.all(KINDS.map(async (kind) => {
      const after = set.cursors[kind];
      const cursor = await readAll(set, kind, { ...query, after }, mine);
      if (cursor) set.cursors[kind] = cursor;
    }));
    // A server that has much to read answers with what it has so far.
    if (mine === generation) set.isRead = !set.isPartial;
  }

  async function readPictures(query) {
    const page = await source.events({ type: "monitor_screenshot", order: "desc", limit: PICTURES_AT_ONCE, ...query });
    for (const { seq, event } of page.events) {
      const key = `${page.epoch}:${seq}`;
      if (pictures.has(key) || typeof event.data?.png !== "string") continue;
      const picture = await pictureOf(event.data.png).catch(() => null);
      if (picture) pictures.set(key, { seq, ts: event.ts, target: event.data.target_id || "", picture });
    }
    while (pictures.size > MAX_PICTURES) pictures.delete(pictures.keys().next().value);
    if (page.events.length > 0) changed();
    return page;
  }

  async function poll() {
    const mine = generation;
    await read(live, {}, mine);
    if (mine !== generation) return;
    const page = await readPictures(picturesAfter ? { after: picturesAfter } : {});
    if (mine === generation && page.epoch) picturesAfter = `${page.head}-${page.epoch}`;
  }

  // A range that the live events do not have.
  async function readPast() {
    const { range } = store.get();
    past = null;
    pastOf = range;
    if (range === null) return;
    const query = { since: range.since, until: range.until };
    const mine = generation;
    const isCovered = live.isRead && !live.isCut && covers(live, range);
    const set = { ...emptySet(range.since), range };
    const isWanted = () => mine === generation && store.get().range === range;
    if (!isCovered) {
      // Until it is read, nothing is known of this range, whatever is known of others.
      past = set;
      do {
        await read(set, query, mine).catch((failure) => {
          if (isWanted()) pastOf = undefined; // to be asked for again
          throw failure;
        });
        if (!isWanted()) return;
        changed();
      } while (set.isPartial);
    }
    changed();
    await readPictures(query);
  }

  const covers = (set, range) => {
    const first = sorted(set, "requests")[0] ?? sorted(set, "navigations")[0];
    return first !== undefined && first.ts <= range.since;
  };

  // One after the other, for as long as the page is open.
  async function run() {
    let seen = null;
    for (;;) {
      const began = performance.now();
      const { newest, connection } = store.get();
      const key = newest && `${store.get().epoch}:${newest.seq}`;
      const isReady = connection.state === "live" || connection.state === "file";
      if (isReady && (key !== seen || store.get().range !== pastOf) && document.visibilityState === "visible") {
        try {
          await poll();
          // Of an address that has a range.
          if (store.get().range !== pastOf) await readPast();
          error = "";
          const read = Math.min(...KINDS.map((kind) => Number.parseInt(live.cursors[kind], 10) || 0));
          if (source.kind === "file" || newest.seq <= read) seen = key;
        } catch (failure) {
          error = failure.message;
          changed();
        }
      }
      const took = performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, Math.max(POLL_MS - took, REST * took)));
    }
  }

  function restart() {
    generation += 1;
    live = emptySet(0);
    past = null;
    pastOf = null;
    pictures = new Map();
    picturesAfter = "";
    clock = { ts: 0, at: 0 };
    changed();
  }

  function changed() {
    if (isChanged) return;
    isChanged = true;
    setTimeout(() => {
      isChanged = false;
      for (const fn of listeners) fn();
    }, 100);
  }

  store.on(["origin"], restart);
  store.on(["epoch"], () => (live.isRead ? restart() : undefined));
  store.on(["range"], () => {
    changed();
    readPast().catch((failure) => {
      error = failure.message;
      changed();
    });
  });
  store.on(["extent", "gaps", "losses"], changed);
  run();

  return {
    requests: () => of("requests"),
    navigations: () => of("navigations"),
    problems: () => of("problems"),
    known: (kind) => (past ? [...new Map([...live.items[kind], ...past.items[kind]]).values()] : sorted(live, kind)),
    find(kind, seq, run = 0) {
      const key = `${run}:${seq}`;
      return live.items[kind].get(key) ?? past?.items[kind].get(key) ?? null;
    },
    screenshots() {
      const axis = window_();
      return [...pictures.values()].filter((shot) => overlaps(shot.ts, shot.ts, axis)).sort((a, b) => a.ts - b.ts);
    },
    gaps,
    window: window_,
    now,
    status: () => ({ isRead: shownSet().isRead && store.get().range === pastOf, isCut: shownSet().isCut, error }),
    on(fn) {
      listeners.add(fn);
      return () => listeners.delete(fn);
    },
  };
}

// ---- sets of items ----

function emptySet(since) {
  return {
    range: { since, until: null },
    items: { requests: new Map(), navigations: new Map(), problems: new Map() },
    sorted: {},
    cursors: { requests: "", navigations: "", problems: "" },
    isRead: false,
    isPartial: false, // the server has not read all of it yet
    isCut: false,
  };
}

function add(set, kind, items) {
  if (items.length === 0) return;
  const kept = set.items[kind];
  for (const item of items) kept.set(`${item.run ?? 0}:${item.seq}`, item);
  set.sorted[kind] = undefined;
  if (kept.size <= MOST[kind]) return;
  set.isCut = true;
  const surplus = sorted(set, kind).slice(0, kept.size - MOST[kind]);
  for (const item of surplus) kept.delete(`${item.run ?? 0}:${item.seq}`);
  set.sorted[kind] = undefined;
}

function sorted(set, kind) {
  set.sorted[kind] ??= [...set.items[kind].values()].sort((a, b) => a.ts - b.ts || a.seq - b.seq);
  return set.sorted[kind];
}

// When an item ended; null: it lasts.
export function endOf(kind, item) {
  if (kind === "requests") return requestEnd(item);
  if (kind === "navigations") return item.replaced ?? item.crashed ?? null;
  return item.ts;
}

export function requestEnd(request) {
  if (request.end) {
    return request.start_seen && request.duration_ms !== undefined
      ? request.ts + Math.round(request.duration_ms * 1000)
      : Math.max(request.end.ts, request.hop_ts);
  }
  return request.outcome === "unknown" ? request.ts : null;
}

// ---- requests in words ----

// "blocked", "failed", "pending", "open", "unknown" or "answered".
export function fateOf(request) {
  const { failure } = request;
  if (failure && (failure.blocked_reason || failure.cors_error)) return "blocked";
  return request.outcome;
}

// Reasons of the collector that are no fault of the request: what it belonged to was left, closed or lost.
const GIVEN_UP = ["NAVIGATED_AWAY", "TARGET_GONE", "FRAME_GONE", "TARGET_CRASHED", "BROWSER_GONE", "SENT_AGAIN"]
  .map((reason) => `tapline::${reason}`);

// Whether the page or the browser gave it up without a fault.
export function wasGivenUp({ failure }) {
  if (!failure || failure.blocked_reason || failure.cors_error) return false;
  return Boolean(failure.canceled) || GIVEN_UP.includes(failure.error_text);
}

// Whether it is a problem.
export function isBad(request) {
  return (Boolean(request.failure) && !wasGivenUp(request)) || (request.response?.status ?? 0) >= 400;
}

// Whether a request has one of these, joined by commas, as the server understands them: 404, 4xx, an outcome, blocked,
// canceled, error.
export function hasStatus(request, wanted) {
  const names = wanted.split(",").map((name) => name.trim()).filter(Boolean);
  if (names.length === 0) return true;
  const status = String(request.response?.status || "");
  return names.some((name) => {
    if (/^\dxx$/.test(name)) return status.length === 3 && status[0] === name[0];
    if (name === "error") return isBad(request);
    if (name === "canceled") return wasGivenUp(request);
    if (name === "blocked") return fateOf(request) === "blocked";
    return name === status || name === request.outcome;
  });
}

// Whether its address, or that of a hop before it, has a text, which is in lower case.
export function hasText(request, text) {
  return [request, ...(request.redirects ?? [])].some(({ url }) => url.toLowerCase().includes(text));
}

// ---- pictures ----

async function pictureOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { resizeWidth: PICTURE_WIDTH, resizeQuality: "medium" });
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = Math.min(bitmap.height, bitmap.width);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}
