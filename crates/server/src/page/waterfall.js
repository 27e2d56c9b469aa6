// The requests of the range as rows, each with its phases on a time axis.
//
// Only the rows in sight are in the document: ten thousand scroll as well as ten. They are keyed by seq, so that a row
// stays where it is while others come and go. The axis spans the rows in sight, in steps; sorted by anything but the
// beginning, each row begins at the left, so that durations can be compared. Where events are missing there is a row for the gap.

import { overlaps, placeOf, placeWithin, stepOf, ticksOf } from "./axis.js";
import { fateOf, hasStatus, hasText, isBad, requestEnd } from "./joins.js";
import { count, duration, events, size, timeOf } from "./text.js";
import { node } from "./dom.js";

const ROW = 22; // pixels, as in the style sheet
const SPARE = 6; // rows above and below those in sight
const DRAW_PENDING_MS = 250;

// In the order in which they happen. `connect` has `tls` within it.
const PHASES = ["blocked", "dns", "connect", "tls", "send", "wait", "receive"];
const PHASE_NAMES = {
  blocked: "in a queue", dns: "DNS", connect: "connecting", tls: "TLS", send: "sending", wait: "waiting for the server", receive: "receiving",
};

const COLUMNS = [
  { id: "status", name: "Status", key: (it) => statusText(it), compare: (a, b) => statusOrder(a) - statusOrder(b) },
  { id: "method", name: "Method", key: (it) => it.method },
  { id: "name", name: "Name", key: (it) => it.url },
  { id: "type", name: "Type", key: (it) => it.resource_type ?? "" },
  { id: "size", name: "Size", compare: (a, b) => (a.encoded_bytes ?? -1) - (b.encoded_bytes ?? -1) },
  { id: "time", name: "Time", compare: (a, b) => lasted(a) - lasted(b) || 0 },
  { id: "start", name: "Start", compare: (a, b) => a.ts - b.ts || a.seq - b.seq },
];

// One that is open lasts longest; of one whose end is unknown nothing is known.
const lasted = (it) => it.duration_ms ?? (["pending", "open"].includes(it.outcome) ? Number.MAX_VALUE : -1);

const QUICK = [["", "All"], ["error", "Failed"], ["blocked", "Blocked"]];

export function mount(root, { store, joins }) {
  const parts = build(root);
  const { grid, body, note, heads, axisCell, quick, empty } = parts;
  let sort = { column: "start", isDown: false };
  let rows = []; // what is shown, in order
  let all = 0; // how many requests there are, with those that the filter hides
  let requestCount = 0; // how many of the rows are requests
  let isAtEnd = true; // the newest stay in sight
  const shown = new Map(); // key -> element
  let isPlanned = false;

  const keyOf = (row) => (row.isGap ? `gap ${row.ts}` : `${row.run ?? 0}:${row.seq}`);

  // ---- which rows ----

  function recompute() {
    const { filter } = store.get();
    const before = anchor();
    const requests = joins.requests();
    all = requests.length;
    const text = filter.text.toLowerCase();
    rows = requests.filter((it) =>
      hasStatus(it, filter.status)
      && (!filter.target || it.target_id === filter.target)
      && (!filter.problems || isBad(it))
      && (!text || hasText(it, text)));
    if (sort.column !== "start" || sort.isDown) {
      const { compare, key } = COLUMNS.find((column) => column.id === sort.column);
      const order = compare ?? ((a, b) => (key(a) < key(b) ? -1 : key(b) < key(a) ? 1 : 0));
      // toSorted is stable: equal ones stay by their beginning.
      rows = rows.toSorted((a, b) => (sort.isDown ? order(b, a) : order(a, b)));
    }
    requestCount = rows.length;
    if (sort.column === "start") rows = withGaps(rows);
    body.style.height = `${rows.length * ROW}px`;
    grid.setAttribute("aria-rowcount", String(rows.length + 1));
    keepPlace(before);
    drawWords(requests);
    plan();
  }

  // A gap has its place by where it begins.
  function withGaps(requests) {
    const axis = joins.window();
    const gaps = joins.gaps().filter((gap) => overlaps(gap.since, gap.until, axis)).map(({ since, until, count: many }) => ({
      isGap: true, ts: Math.max(since, axis.since), until: Math.min(until, joins.now()), many, updated: until,
    }));
    if (gaps.length === 0) return requests;
    return [...requests, ...gaps].sort((a, b) => (sort.isDown ? b.ts - a.ts : a.ts - b.ts));
  }

  // The first row in sight, and how far it is scrolled.
  function anchor() {
    const index = Math.floor(grid.scrollTop / ROW);
    const row = rows[index];
    return row && { key: keyOf(row), index, rest: grid.scrollTop - index * ROW };
  }

  function keepPlace(before) {
    const follows = isAtEnd && store.get().range === null && sort.column === "start";
    if (follows) {
      grid.scrollTop = sort.isDown ? 0 : rows.length * ROW;
    } else if (before && !(rows[before.index] && keyOf(rows[before.index]) === before.key)) {
      const index = rows.findIndex((it) => keyOf(it) === before.key);
      if (index >= 0) grid.scrollTop = index * ROW + before.rest;
    }
  }

  // ---- drawing ----

  function plan() {
    if (isPlanned) return;
    isPlanned = true;
    requestAnimationFrame(() => {
      isPlanned = false;
      draw();
    });
  }

  function draw() {
    const { selection } = store.get();
    const chosen = chosenKey(selection);
    const first = Math.max(0, Math.floor(grid.scrollTop / ROW) - SPARE);
    const last = Math.min(rows.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + SPARE);
    const inSight = rows.slice(Math.floor(grid.scrollTop / ROW), Math.ceil((grid.scrollTop + grid.clientHeight - ROW) / ROW));
    const axis = axisOf(inSight.length > 0 ? inSight : rows.slice(first, last));
    const free = new Map(shown);
    const wanted = rows.slice(first, last);
    for (const request of wanted) free.delete(keyOf(request));
    const spare = [...free];
    wanted.forEach((request, offset) => {
      const key = keyOf(request);
      let row = shown.get(key);
      if (!row) {
        const [oldKey, reused] = spare.pop() ?? [null, null];
        if (oldKey) shown.delete(oldKey);
        row = reused ?? newRow();
        if (!reused) body.append(row.element);
        shown.set(key, row);
      }
      fill(row, request, first + offset, axis, key === chosen);
    });
    for (const [key, row] of spare) {
      row.element.remove();
      shown.delete(key);
    }
    drawAxis(axis);
    grid.setAttribute("aria-activedescendant", shown.has(chosen) ? shown.get(chosen).element.id : "");
    if (!shown.has(chosen)) grid.removeAttribute("aria-activedescendant");
  }

  // From the first beginning to the last end of the rows in sight, on whole steps.
  function axisOf(rows) {
    const now = joins.now();
    const isByStart = sort.column === "start";
    let since = Infinity;
    let until = -Infinity;
    for (const it of rows) {
      const end = it.isGap ? Math.max(it.until, it.ts) : requestEnd(it) ?? Math.max(now, it.ts);
      since = Math.min(since, isByStart ? it.ts : 0);
      until = Math.max(until, isByStart ? end : end - it.ts);
    }
    if (!(since < until)) {
      if (since === Infinity) return { since: 0, until: 1, isByStart };
      until = since + 1000;
    }
    const step = stepOf((until - since) / 8);
    return { since: isByStart ? Math.floor(since / step) * step : 0, until: Math.ceil(until / step) * step, isByStart };
  }

  function newRow() {
    const element = document.createElement("div");
    element.className = "row";
    element.id = `request-row-${(newRow.count = (newRow.count ?? 0) + 1)}`;
    element.setAttribute("role", "row");
    const cells = {};
    for (const { id } of COLUMNS) {
      const cell = document.createElement("span");
      cell.className = `cell ${id}`;
      cell.setAttribute("role", "gridcell");
      cells[id] = cell;
      element.append(cell);
    }
    const file = document.createElement("b");
    const path = document.createElement("i");
    cells.name.append(file, path);
    element.addEventListener("click", () => element.request && select(element.request));
    return { element, cells, file, path, drawn: "" };
  }

  function fill(row, request, index, axis, isChosen) {
    const { element, cells } = row;
    if (request.isGap) return fillGap(row, request, index, axis);
    const end = requestEnd(request);
    const state = `${keyOf(request)} ${request.updated} ${index} ${axis.since} ${axis.until} ${axis.isByStart} ${isChosen} ${end ?? joins.now()}`;
    if (row.drawn === state) return;
    row.drawn = state;
    const fate = fateOf(request);
    element.request = request;
    element.style.transform = `translateY(${index * ROW}px)`;
    element.setAttribute("aria-rowindex", String(index + 2));
    element.setAttribute("aria-selected", String(isChosen));
    element.classList.toggle("bad", isBad(request));
    element.classList.toggle("odd", index % 2 === 1);
    element.dataset.fate = fate;
    const name = nameOf(request);
    cells.status.textContent = statusText(request);
    cells.status.title = request.response?.status_text ?? request.failure?.error_text ?? "";
    cells.method.textContent = request.method || "?";
    row.file.textContent = name.file;
    row.path.textContent = name.rest;
    cells.name.title = request.url;
    cells.type.textContent = (request.resource_type ?? "").toLowerCase();
    cells.size.textContent = request.response?.from_cache ? "cache" : request.encoded_bytes === undefined ? "" : size(request.encoded_bytes);
    cells.time.textContent = fate === "pending" || fate === "open" ? duration((joins.now() - request.ts) / 1000) : request.duration_ms === undefined ? "" : duration(request.duration_ms);
    drawPhases(cells.start, request, axis, end);
  }

  function fillGap(row, gap, index, axis) {
    const { element, cells } = row;
    row.drawn = "";
    element.request = null;
    element.style.transform = `translateY(${index * ROW}px)`;
    element.setAttribute("aria-rowindex", String(index + 2));
    element.setAttribute("aria-selected", "false");
    element.classList.remove("bad");
    element.classList.toggle("odd", index % 2 === 1);
    element.dataset.fate = "gap";
    for (const cell of Object.values(cells)) {
      if (cell !== cells.name && cell !== cells.start) cell.textContent = "";
      cell.title = "";
    }
    row.file.textContent = `gap: at most ${events(gap.many)} missing`;
    row.path.textContent = "requests and answers may be among them";
    const left = placeWithin(gap.ts, axis) * 100;
    const piece = node("s", "gap");
    piece.style.left = `${left.toFixed(3)}%`;
    piece.style.width = `${(placeWithin(gap.until, axis) * 100 - left).toFixed(3)}%`;
    cells.start.replaceChildren(piece);
  }

  function drawPhases(cell, request, axis, end) {
    const pieces = piecesOf(request, end ?? Math.max(joins.now(), request.ts));
    const shift = axis.isByStart ? 0 : -request.ts;
    while (cell.childElementCount > pieces.length) cell.lastElementChild.remove();
    while (cell.childElementCount < pieces.length) cell.append(document.createElement("s"));
    pieces.forEach(({ phase, since, until }, index) => {
      const piece = cell.children[index];
      piece.className = phase;
      const left = placeOf(since + shift, axis) * 100;
      piece.style.left = `${left.toFixed(3)}%`;
      piece.style.width = `${Math.max(0, placeOf(until + shift, axis) * 100 - left).toFixed(3)}%`;
    });
    cell.title = describe(request, pieces);
  }

  function drawAxis(axis) {
    const { zone } = store.get();
    if (rows.length === 0) return axisCell.replaceChildren();
    const most = Math.max(1, Math.floor(axisCell.clientWidth / 80));
    const { step, ticks } = ticksOf(axis, most);
    axisCell.replaceChildren(...ticks.filter((ts) => { // beside the column's name, and whole
      const place = placeOf(ts, axis);
      return place * axisCell.clientWidth > 44 && place < 0.9;
    }).map((ts) => {
      const tick = document.createElement("span");
      tick.style.left = `${placeOf(ts, axis) * 100}%`;
      tick.textContent = axis.isByStart ? timeOf(ts, zone).slice(0, step < 1_000_000 ? 12 : 8) : duration(ts / 1000);
      return tick;
    }));
    grid.style.setProperty("--tick", `${((step / (axis.until - axis.since)) * 100).toFixed(3)}%`);
    grid.style.setProperty("--tick-first", `${(placeOf(ticks[0] ?? axis.since, axis) * 100).toFixed(3)}%`);
  }

  function drawWords(requests) {
    const bad = requests.filter(isBad).length;
    const bytes = rows.reduce((sum, it) => sum + (it.encoded_bytes ?? 0), 0);
    const { isCut, isRead, error } = joins.status();
    const hidden = all - requestCount;
    note.textContent = [
      hidden > 0 ? `${count(requestCount)} of ${count(all)}` : isRead || all > 0 ? count(all) : "",
      // Before all is read, none has failed as far as is known.
      isRead || bad > 0 ? `${count(bad)} failed` : "",
      isRead || error ? "" : "reading …",
      bytes > 0 ? size(bytes) : "",
      isCut ? "only the newest; choose a shorter range for the others" : "",
      missing(),
      error,
    ].filter(Boolean).join(" · ");
    empty.hidden = rows.length > 0;
    const { filter } = store.get();
    empty.textContent = hidden > 0 ? `The filter hides all ${count(all)} requests.`
      : !isRead ? "Reading …"
      : "No requests here.";
    for (const button of quick) button.setAttribute("aria-pressed", String(filter.status === button.value));
  }

  // Gaps in the range: requests may be missing, or their ends.
  function missing() {
    const axis = joins.window();
    const lost = joins.gaps().filter((gap) => gap.since <= axis.until && axis.since <= gap.until);
    const many = lost.reduce((sum, gap) => sum + gap.count, 0);
    return many > 0 ? `gap: at most ${events(many)} missing` : "";
  }

  // ---- the selection ----

  function chosenKey(selection) {
    if (!selection) return null;
    if (selection.kind === "request") return `${selection.run ?? 0}:${selection.seq}`;
    if (selection.kind === "problem") {
      const problem = joins.find("problems", selection.seq, selection.run);
      return problem?.request === undefined ? null : `${problem.run ?? 0}:${problem.request}`;
    }
    if (selection.kind !== "event" || selection.epoch) return null;
    const { seq } = selection;
    const request = rows.find((it) => !it.isGap && (it.run ?? 0) === (selection.run ?? 0) && (it.seq === seq || it.hop_seq === seq || it.end?.seq === seq));
    return request ? keyOf(request) : null;
  }

  function select(request) {
    store.set({ selection: { kind: "request", seq: request.seq, ...(request.run && { run: request.run }) } });
  }

  function reveal() {
    const chosen = chosenKey(store.get().selection);
    const index = chosen === null ? -1 : rows.findIndex((it) => keyOf(it) === chosen);
    if (index >= 0) {
      const top = index * ROW;
      const height = grid.clientHeight - parts.head.offsetHeight;
      if (top < grid.scrollTop || top + ROW > grid.scrollTop + height) grid.scrollTop = Math.max(0, top - height / 2);
    }
    plan();
  }

  function onKey(key) {
    if (key.ctrlKey || key.metaKey || key.altKey || rows.length === 0) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[key.key];
    if (step === undefined) return;
    key.preventDefault();
    key.stopPropagation();
    const chosen = chosenKey(store.get().selection);
    const index = rows.findIndex((it) => keyOf(it) === chosen);
    const from = index >= 0 ? index : Math.floor(grid.scrollTop / ROW) - Math.sign(step);
    let to = Math.min(rows.length - 1, Math.max(0, from + step));
    // Beyond a gap, which cannot be chosen.
    while (rows[to]?.isGap) to += Math.sign(step);
    if (rows[to]) select(rows[to]);
  }

  grid.addEventListener("scroll", () => {
    const rest = grid.scrollHeight - grid.clientHeight - grid.scrollTop;
    isAtEnd = sort.isDown ? grid.scrollTop < ROW : rest < ROW;
    plan();
  }, { passive: true });
  grid.addEventListener("keydown", onKey);
  for (const [column, head] of heads) {
    head.button.addEventListener("click", () => {
      sort = { column, isDown: sort.column === column && !sort.isDown };
      for (const [id, { cell }] of heads) {
        cell.setAttribute("aria-sort", id !== sort.column ? "none" : sort.isDown ? "descending" : "ascending");
      }
      grid.scrollTop = 0;
      isAtEnd = false;
      recompute();
    });
  }
  for (const button of quick) {
    button.addEventListener("click", () => {
      const { filter } = store.get();
      store.set({ filter: { ...filter, status: filter.status === button.value ? "" : button.value } });
    });
  }
  joins.on(recompute);
  store.on(["filter"], recompute);
  store.on(["range"], ({ range }) => {
    recompute();
    // A piece of the past is read from its beginning.
    if (range) grid.scrollTop = 0;
    else grid.scrollTop = rows.length * ROW;
  });
  store.on(["zone"], () => {
    for (const row of shown.values()) row.drawn = "";
    plan();
  });
  store.on(["selection"], reveal);
  new ResizeObserver(() => {
    keepPlace(anchor());
    plan();
  }).observe(grid);
  // Those that have no end yet grow.
  setInterval(() => {
    if (document.visibilityState !== "visible") return;
    const isGrowing = [...shown.values()].some((row) => ["pending", "open"].includes(row.element.dataset.fate));
    if (isGrowing) plan();
  }, DRAW_PENDING_MS);
  recompute();
}

// ---- parts ----

function build(root) {
  const bar = node("div", "view-bar");
  const title = node("h2", "", "Requests");
  title.id = "waterfall-title";
  const note = node("p", "note");
  const group = node("div", "choice push");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Which requests");
  const quick = QUICK.map(([value, text]) => {
    const button = node("button", "", text);
    button.value = value;
    button.setAttribute("aria-pressed", "false");
    group.append(button);
    return button;
  });
  bar.append(title, note, group);

  const grid = node("div", "grid");
  grid.tabIndex = 0;
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-labelledby", "waterfall-title");
  grid.setAttribute("aria-colcount", String(COLUMNS.length));
  const headGroup = node("div", "head-group");
  headGroup.setAttribute("role", "rowgroup");
  const head = node("div", "row head");
  head.setAttribute("role", "row");
  head.setAttribute("aria-rowindex", "1");
  const heads = new Map();
  const axisCell = node("span", "axis");
  axisCell.setAttribute("aria-hidden", "true");
  for (const { id, name } of COLUMNS) {
    const cell = node("span", `cell ${id}`);
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-sort", id === "start" ? "ascending" : "none");
    const button = node("button", "", name);
    button.tabIndex = -1;
    cell.append(button);
    if (id === "start") cell.append(axisCell);
    head.append(cell);
    heads.set(id, { cell, button });
  }
  headGroup.append(head);
  const body = node("div", "body");
  body.setAttribute("role", "rowgroup");
  const empty = node("p", "empty");
  grid.append(headGroup, body);
  root.append(bar, grid, empty);
  return { grid, head, body, note, heads, axisCell, quick, empty };
}

// ---- a request in words ----

export function statusText(request) {
  const fate = fateOf(request);
  const status = request.response?.status;
  if (request.failure?.cors_error) return "CORS";
  if (fate === "blocked") return "blocked";
  if (fate === "failed") return request.failure?.canceled ? "canceled" : status ? `${status} !` : "failed";
  if (fate === "pending") return "…";
  if (fate === "unknown") return status ? `${status} ?` : "?";
  return status ? String(status) : "ok";
}

// Failures first, then by status.
function statusOrder(request) {
  const order = { blocked: 0, failed: 1, unknown: 2, pending: 3 }[fateOf(request)];
  return order ?? 10 + (request.response?.status ?? 0);
}

// Where it began and where it ended, if it was redirected.
function nameOf({ url, request_id, redirects }) {
  const last = partsOf(url, request_id);
  if (!redirects) return last;
  return { file: `${partsOf(redirects[0].url, "?").file} → ${last.file}`, rest: last.rest };
}

function partsOf(url, request_id) {
  let address;
  try {
    address = new URL(url);
  } catch {
    return { file: url || request_id, rest: "" };
  }
  if (!address.host) return { file: url.slice(0, 100), rest: "" };
  const parts = address.pathname.split("/");
  const last = parts.pop() || (parts.length > 1 ? `${parts.pop()}/` : "/");
  return { file: (last + address.search).slice(0, 300), rest: `${address.host}${parts.join("/")}` };
}

// [{phase, since, until}]: hops that were redirected, then the phases of the last one; without timing, one piece.
function piecesOf(request, end) {
  const pieces = [];
  const { timing } = request;
  const begin = request.hop_ts ?? request.ts;
  if (request.ts < begin) pieces.push({ phase: "redirect", since: request.ts, until: begin });
  const isOpen = !request.end;
  if (timing && !isOpen) {
    let at = begin;
    for (const phase of PHASES) {
      let ms = timing[phase] ?? 0;
      if (phase === "connect") ms = Math.max(0, ms - (timing.tls ?? 0));
      if (ms <= 0) continue;
      pieces.push({ phase, since: at, until: at + ms * 1000 });
      at += ms * 1000;
    }
    if (at < end - 1000) pieces.push({ phase: "receive", since: at, until: end });
  } else {
    pieces.push({ phase: isOpen && request.outcome !== "unknown" ? "growing" : fateOf(request) === "answered" ? "whole" : "broken", since: begin, until: end });
  }
  return pieces;
}

function describe(request, pieces) {
  const phases = pieces.filter(({ phase }) => PHASE_NAMES[phase]).map(({ phase, since, until }) => `${PHASE_NAMES[phase]} ${duration((until - since) / 1000)}`);
  return [request.sentence ?? "", ...phases].filter(Boolean).join("\n");
}
