// The list of events: the rows in sight, and the row that the keyboard is at.
//
// A row has a fixed height and is found by its seq, so that the place is kept while events come and go. The list draws
// what is in sight, and no more, once a frame. It is its own scrolling: the bar beside it stands for all the rows, and
// no element of a browser is as high as a million of them.

import { createRows } from "./rows.js";
import { problemRows } from "./problems.js";
import { emptyText } from "./empty.js";
import { lossText } from "./live.js";
import { count, dateOf, events as number, timeOf, CATEGORIES } from "./text.js";

const ROW = 22;
// Higher than this no element is: browsers end at 17 to 33 million pixels.
const MAX_HEIGHT = 8_000_000;
// After this long without scrolling the bar is put where the rows are.
const IDLE_MS = 200;
const QUIET_MS = 10_000;

export function mount(root, context) {
  const { store, source, live, joins } = context;
  const parts = build(root);
  const { scroller, layer, space } = parts;

  let rows = null;
  let top = 0; // the first row in sight, with fractions
  let tall = scroller.clientHeight; // pixels of the list that show rows
  let isFollowing = store.get().follow;
  let active = null; // {epoch, seq}: the row of the keyboard
  let fresh = 0; // rows that came since it follows no more
  let expected = 0; // where the bar was put by the list itself
  let idle = 0;
  let isPlanned = false;
  let isFirst = true; // nothing of the rows was seen
  let anchor = null; // {key, part}: what is at the top, whatever comes and goes before it
  let drawn = new Map(); // key of a row: its element
  const spare = [];

  // ---- what it lists ----

  function open(place) {
    if (rows) rows.close();
    isFirst = true;
    anchor = place;
    const { filter, range, follow } = store.get();
    const options = {
      source,
      joins,
      filter,
      range,
      present: () => store.get().epoch,
      hasArchive: () => store.get().hasArchive,
      onChange: changed,
    };
    rows = filter.problems ? problemRows(options) : createRows(options);
    isFollowing = range === null && follow;
    fresh = 0;
    top = 0;
    plan();
  }

  function changed() {
    if (rows.isOpen() && isFirst) {
      isFirst = false;
      const { losses, range, selection } = store.get();
      if (range === null) for (const loss of losses) rows.addLoss(loss, lossText(loss));
      if (selection !== null) show(selection);
      else if (anchor === null && range === null) moveTo(Infinity);
    }
    plan();
  }

  function append(events) {
    const { filter } = store.get();
    if (filter.problems) return;
    const added = rows.append(events);
    if (!isFollowing) fresh += added;
    if (added > 0 || isFollowing) plan();
  }

  // ---- where it is ----

  const inSight = () => Math.max(1, tall / ROW);
  const last = () => Math.max(0, rows.total() - inSight());

  function remember() {
    const key = rows.key(Math.floor(top));
    anchor = key && { key, part: top - Math.floor(top) };
  }

  function scrolled() {
    const { scrollTop } = scroller;
    if (Math.abs(scrollTop - expected) < 1) return;
    const most = scroller.scrollHeight - scroller.clientHeight;
    const moved = scrollTop - expected;
    const isScaled = rows.total() * ROW > MAX_HEIGHT;
    if (!isScaled) top = scrollTop / ROW;
    else if (scrollTop <= 0) top = 0;
    else if (scrollTop >= most - 1) top = last();
    else if (Math.abs(moved) < 2 * scroller.clientHeight) top += moved / ROW;
    else top = (scrollTop / most) * last();
    top = Math.min(Math.max(0, top), last());
    expected = scrollTop;
    remember();
    follow(store.get().range === null && top >= last() - 0.5);
    clearTimeout(idle);
    idle = setTimeout(() => {
      idle = 0;
      plan();
    }, IDLE_MS);
    plan();
  }

  function follow(isOn) {
    if (isOn === isFollowing) return;
    isFollowing = isOn;
    if (isOn) fresh = 0;
    store.set({ follow: isOn });
  }

  function moveTo(index) {
    top = Math.min(Math.max(0, index), last());
    remember();
    plan();
  }

  // Brings the selection into sight.
  function show(selection) {
    if (selection === null || !rows.isOpen()) return;
    const index = rows.index({ epoch: selection.epoch, seq: selection.seq });
    if (index < 0) return;
    active = rows.key(index);
    if (index >= Math.ceil(top) && index < Math.floor(top + inSight())) {
      plan();
      return;
    }
    follow(false);
    moveTo(index - inSight() / 3);
  }

  // The row of the keyboard stays in sight when the list gets lower.
  function resized() {
    const was = inSight();
    tall = scroller.clientHeight;
    const index = active ? rows.index(active) : -1;
    const isSeen = (count) => index + 0.5 < top + count;
    if (!isFollowing && isSeen(was) && !isSeen(inSight())) moveTo(index + 1 - Math.floor(inSight()));
    else plan();
  }

  // ---- drawing ----

  function plan() {
    if (isPlanned) return;
    isPlanned = true;
    if (document.hidden) setTimeout(draw, QUIET_MS / 20);
    else requestAnimationFrame(draw);
  }

  function draw() {
    isPlanned = false;
    const total = rows.total();
    if (isFollowing) top = last();
    else if (anchor) {
      const index = rows.index(anchor.key);
      if (index >= 0) top = Math.min(index + anchor.part, last());
    }
    const first = Math.floor(top);
    const end = Math.min(total, Math.ceil(top + inSight()) + 1);
    rows.look(first, end);
    if (rows.total() !== total) return void plan(); // losses were found

    const height = Math.min(total * ROW, MAX_HEIGHT);
    if (space.style.height !== `${height}px`) space.style.height = `${height}px`;
    if (idle === 0) {
      const most = Math.max(0, height - scroller.clientHeight);
      const wanted = total * ROW > MAX_HEIGHT ? (top / Math.max(1, last())) * most : top * ROW;
      if (Math.abs(scroller.scrollTop - wanted) >= 1) scroller.scrollTop = wanted;
      expected = scroller.scrollTop;
    }
    drawRows(first, end, total);
    drawState(total);
  }

  function drawRows(first, end, total) {
    const { selection, zone } = store.get();
    const next = new Map();
    const missing = [];
    for (let index = first; index < end; index += 1) {
      const row = rows.row(index);
      const key = row ? `${row.epoch}-${row.seq}-${row.loss ? "loss" : row.kind || ""}` : `at ${index}`;
      const element = drawn.get(key);
      if (element) drawn.delete(key);
      next.set(key, element);
      missing.push([key, row, index]);
    }
    for (const element of drawn.values()) {
      element.remove();
      spare.push(element);
    }
    for (const [key, row, index] of missing) {
      let element = next.get(key);
      if (!element) {
        element = spare.pop() || rowElement();
        fill(element, row, zone);
        next.set(key, element);
      } else if (element.zone !== zone) fill(element, row, zone);
      element.style.transform = `translateY(${Math.round((index - top) * ROW)}px)`;
      element.row = row;
      const isActive = row !== undefined && active !== null && row.seq === active.seq && row.epoch === active.epoch;
      const isSelected = row !== undefined && selection !== null && row.seq === selection.seq
        && (selection.epoch || store.get().epoch) === row.epoch;
      element.classList.toggle("active", isActive);
      element.setAttribute("aria-selected", String(isSelected));
      element.setAttribute("aria-posinset", String(index + 1));
      element.setAttribute("aria-setsize", String(total));
      element.id = isActive ? "active-row" : "";
      if (!isActive) element.removeAttribute("id");
    }
    // In their order, for who reads them in that of the document.
    let place = layer.firstElementChild;
    for (const element of next.values()) {
      if (element === place) place = place.nextElementSibling;
      else layer.insertBefore(element, place);
    }
    drawn = next;
    if (layer.querySelector("#active-row")) scroller.setAttribute("aria-activedescendant", "active-row");
    else scroller.removeAttribute("aria-activedescendant");
    spare.length = Math.min(spare.length, 100);
  }

  function drawState(total) {
    const state = store.get();
    const { jump, empty, emptyWords, emptyActions, zone } = parts;
    jump.hidden = isFollowing || state.range !== null || (fresh === 0 && top >= last() - 0.5);
    jump.textContent = fresh > 0 ? `${count(fresh)} new ↓` : "Newest ↓";
    zone.textContent = state.zone === "utc" ? "time (UTC)" : "time";
    const isEmpty = total === 0 && (rows.isOpen() || rows.problem() !== "");
    empty.hidden = !isEmpty && rows.problem() === "";
    scroller.hidden = isEmpty;
    if (empty.hidden) return;
    const { text, actions } = rows.problem() !== ""
      ? { text: `Not loaded: ${rows.problem()}`, actions: [] }
      : emptyText(state, context);
    if (emptyWords.textContent === text) return;
    emptyWords.textContent = text;
    emptyActions.replaceChildren(...actions.map(([label, act]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", act);
      return button;
    }));
  }

  // ---- choosing ----

  function choose(row) {
    if (!row || row.loss) return;
    follow(false);
    remember();
    active = { epoch: row.epoch, seq: row.seq };
    const isPresent = row.epoch === store.get().epoch;
    store.set({ selection: { kind: row.kind || "event", seq: row.seq, ...(!isPresent && { epoch: row.epoch }) } });
    plan();
  }

  // The row of the keyboard, `by` rows further.
  function step(by) {
    const total = rows.total();
    if (total === 0) return;
    if (by === Infinity && store.get().range === null) follow(true);
    const at = active ? rows.index(active) : -1;
    const from = at >= 0 ? at : by > 0 ? Math.ceil(top) - 1 : Math.floor(top + inSight());
    const to = Math.min(Math.max(0, from + by), total - 1);
    const row = rows.row(to);
    active = rows.key(to);
    if (to < Math.ceil(top)) {
      follow(false);
      moveTo(to);
    } else if (!isFollowing && to + 1 > Math.floor(top + inSight())) {
      moveTo(to + 1 - Math.floor(inSight()));
    } else if (to < total - 1 && by < 0) follow(false);
    if (store.get().selection !== null && row) choose(row);
    remember();
    plan();
  }

  scroller.addEventListener("scroll", scrolled, { passive: true });
  layer.addEventListener("click", (click) => {
    const element = click.target.closest(".row");
    if (element) choose(element.row);
  });
  scroller.addEventListener("keydown", (key) => {
    const page = Math.max(1, Math.floor(inSight()) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (key.ctrlKey || key.metaKey || key.altKey) return;
    if (Object.hasOwn(steps, key.key)) step(steps[key.key]);
    else if (key.key === "Enter" || key.key === " ") choose(active && rows.row(rows.index(active)));
    else return;
    key.preventDefault();
  });
  parts.jump.addEventListener("click", () => follow(true));
  new ResizeObserver(resized).observe(scroller);

  // The keyboard of the page (`keys.js`) asks by events of this element.
  root.addEventListener("step", ({ detail }) => step(detail));
  root.addEventListener("choose", () => choose(active && rows.row(rows.index(active))));

  live.on(append);
  // Another filter shows the same time, where it can.
  store.on(["filter"], () => open(anchor));
  store.on(["range", "origin"], () => open(null));
  store.on(["follow"], (state) => {
    isFollowing = state.range === null && state.follow;
    if (isFollowing) fresh = 0;
    else remember();
    plan();
  });
  store.on(["selection"], ({ selection }) => show(selection));
  store.on(["losses"], ({ losses, range }) => {
    if (range === null) for (const loss of losses) rows.addLoss(loss, lossText(loss));
    plan();
  });
  store.on(["counts"], ({ counts }) => {
    if (counts && !store.get().filter.problems) rows.setCount(counts.matching);
    plan();
  });
  store.on(["connection"], ({ connection }) => {
    // A token was given, or the server is there again.
    if (connection.state === "live" && !rows.isOpen()) open(anchor);
  });
  store.on(["zone", "session", "connection"], plan);
  announce(store, parts.status);
  open(null);
}

// What a screen reader says, at most every ten seconds: not each event.
function announce(store, status) {
  let said = null;
  setInterval(() => {
    const { newest, losses, follow } = store.get();
    const now = { seq: newest ? newest.seq : 0, lost: losses.reduce((sum, loss) => sum + loss.count, 0) };
    if (said === null || now.seq < said.seq) said = now;
    const more = now.seq - said.seq;
    const lost = now.lost - said.lost;
    if (lost > 0) status.textContent = `${number(lost)} lost.`;
    else if (more > 0 && !follow) status.textContent = `${number(more)} more.`;
    said = now;
  }, QUIET_MS);
}

// ---- elements ----

function build(root) {
  const make = (tag, name, parent) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    parent.append(element);
    return element;
  };
  const head = make("div", "head", root);
  head.setAttribute("aria-hidden", "true");
  const zone = make("span", "time", head);
  make("span", "seq", head).textContent = "seq";
  make("span", "category", head).textContent = "category";
  make("span", "kind", head).textContent = "type";
  make("span", "what", head).textContent = "what";
  const scroller = make("div", "scroller", root);
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "listbox");
  scroller.setAttribute("aria-label", "Events");
  // As high as all the rows; the layer with those in sight stays in sight.
  const space = make("div", "space", scroller);
  space.setAttribute("role", "presentation");
  const layer = make("div", "layer", space);
  layer.setAttribute("role", "presentation");
  const empty = make("div", "empty", root);
  empty.hidden = true;
  const emptyWords = make("p", "", empty);
  emptyWords.setAttribute("role", "status");
  const emptyActions = make("p", "actions", empty);
  const jump = make("button", "jump", root);
  jump.type = "button";
  jump.hidden = true;
  const status = make("p", "unseen", root);
  status.setAttribute("role", "status");
  return { scroller, layer, space, empty, emptyWords, emptyActions, jump, zone, status };
}

function rowElement() {
  const element = document.createElement("div");
  element.setAttribute("role", "option");
  for (const name of ["time", "seq", "category", "kind", "what"]) {
    const cell = document.createElement("span");
    cell.className = name;
    element.append(cell);
  }
  return element;
}

function fill(element, row, zone) {
  const [time, seq, category, kind, what] = element.children;
  element.zone = zone;
  element.className = "row";
  delete element.dataset.category;
  for (const cell of element.children) cell.textContent = "";
  time.removeAttribute("title");
  if (row === undefined) {
    element.classList.add("unloaded");
    what.textContent = "…";
    return;
  }
  element.classList.toggle("problem", row.problem);
  if (row.ts !== null) {
    time.textContent = timeOf(row.ts, zone);
    time.title = dateOf(row.ts, zone);
  }
  if (row.loss) {
    element.classList.add("loss");
    what.textContent = row.loss;
    return;
  }
  seq.textContent = String(row.seq);
  category.textContent = row.category;
  kind.textContent = row.type;
  what.textContent = row.what;
  // A known category picks the colour; any other has none.
  if (CATEGORIES.includes(row.category)) element.dataset.category = row.category;
}
