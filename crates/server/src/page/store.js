// The state of the page, and who is called when it changes. Views talk to each other through it only.
//
//   store.get()           the state, to be read only
//   store.set(patch)      replaces the keys that `patch` has, and calls who is registered for one that changed
//   store.on(keys, fn)    calls fn(state) after a change of one of these keys; several changes of one task are one
//                         call; answers a function that ends it
//
// The keys:
//   range       {since, until}, microseconds since the Unix epoch, or null: live
//   follow      whether the newest event stays in sight
//   filter      {category: [names], type: "page_*, console_error", text, status, target, problems: true|false};
//               empty: everything
//   selection   {kind: "event"|"request"|"navigation"|"problem", seq, run} or null; `run` is that of the item, 0 for
//               the present one; events of an earlier run have their `epoch` instead
//   zone        "local" or "utc"
//   connection  {state: "connecting"|"live"|"waiting"|"failed"|"token"|"file", text}
//   session     the state as GET /telemetry answers it; null: none; undefined: not known yet
//   losses      [{epoch, from, to, count, exact, since, until, why}], by `from`: events that this page can never show; kept
//               over changes of the filter and the range
//   isLossKnown whether the server was asked what was lost before, and answered
//   restarts    how often another epoch came while the page was open
//   epoch       of the server; "" before it is known
//   newest      {seq, ts} of the newest event known, or null
//   oldest      the seq of the oldest event in the server's memory, 0: none
//   extent      {since, until}: what the graph shows, or null: not known yet. Views without a range show this
//   gaps        [{from, to, since, until}]: events that are missing in the extent, as the server counts them
//   counts      the last answer of /telemetry/counts for range and filter, or null: not known
//   types       the names of the known types of events; [] before they are known
//   hasArchive  whether the server reads evicted events from an archive; null: not known yet
//   origin      {kind: "server"}, or {kind: "file", name, har}; `har` is what a HAR says about itself, else null
//
// range, filter, selection and zone are kept in the address, after the `#`. A token never is.

export const NO_FILTER = Object.freeze({ category: [], type: "", text: "", status: "", target: "", problems: false });

const IN_ADDRESS = ["range", "filter", "selection", "zone"];

export function createStore() {
  let state = {
    range: null,
    follow: true,
    filter: NO_FILTER,
    selection: null,
    zone: "local",
    connection: { state: "connecting", text: "connecting" },
    session: undefined,
    losses: [],
    isLossKnown: false,
    restarts: 0,
    epoch: "",
    newest: null,
    oldest: 0,
    extent: null,
    gaps: [],
    counts: null,
    types: [],
    hasArchive: null,
    origin: { kind: "server" },
    ...readAddress(),
  };
  const listeners = new Set();
  let changed = new Set();

  function set(patch) {
    const keys = Object.keys(patch).filter((key) => !isSame(patch[key], state[key]));
    if (keys.length === 0) return;
    state = { ...state, ...patch };
    if (changed.size === 0) queueMicrotask(notify);
    for (const key of keys) changed.add(key);
  }

  function notify() {
    const keys = changed;
    changed = new Set();
    if (IN_ADDRESS.some((key) => keys.has(key))) writeAddress(state);
    for (const listener of [...listeners]) {
      if (!listener.keys.some((key) => keys.has(key))) continue;
      try {
        listener.fn(state);
      } catch (error) {
        console.error(error); // one view's fault is not the others'
      }
    }
  }

  window.addEventListener("hashchange", () => set(readAddress()));

  return {
    get: () => state,
    set,
    on(keys, fn) {
      const listener = { keys, fn };
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

// Small values by their content, so that setting them again is no change.
function isSame(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => isSame(a[key], b[key]));
}

export const isEmpty = (filter) => isSame(filter, NO_FILTER);

// ---- the address ----

function writeAddress({ range, filter, selection, zone }) {
  const parts = new URLSearchParams();
  if (range) {
    parts.set("since", String(range.since));
    parts.set("until", String(range.until));
  }
  if (filter.category.length > 0) parts.set("category", filter.category.join(","));
  for (const name of ["type", "text", "status", "target"]) {
    if (filter[name]) parts.set(name, filter[name]);
  }
  if (filter.problems) parts.set("problems", "true");
  if (selection) {
    const run = selection.epoch ? `-${selection.epoch}` : selection.run ? `.${selection.run}` : "";
    parts.set("select", `${selection.kind}:${selection.seq}${run}`);
  }
  if (zone === "utc") parts.set("zone", "utc");
  const text = String(parts);
  if (location.hash.slice(1) !== text) {
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const text = (name) => parts.get(name) || "";
  const since = Number(text("since"));
  const until = Number(text("until"));
  const hasRange = Number.isSafeInteger(since) && Number.isSafeInteger(until) && 0 < since && since <= until;
  const [, kind, seq, run, epoch] = text("select").match(/^(event|request|navigation|problem):(\d{1,15})(?:\.(\d{1,6})|-([\w]{1,40}))?$/) || [];
  return {
    range: hasRange ? { since, until } : null,
    follow: !hasRange,
    filter: {
      category: text("category").split(",").filter(Boolean),
      type: text("type"),
      text: text("text"),
      status: text("status"),
      target: text("target"),
      problems: text("problems") === "true",
    },
    selection: kind ? { kind, seq: Number(seq), ...(run && { run: Number(run) }), ...(epoch && { epoch }) } : null,
    zone: text("zone") === "utc" ? "utc" : "local",
  };
}
