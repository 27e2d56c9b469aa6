// What the tabs showed: a lane for each, with its pages, how far they came, and screenshots of them.
//
// The axis is the range, and without one what the graph shows.

import { overlaps, placeOf, placeWithin } from "./axis.js";
import { duration, timeOf } from "./text.js";

const MAX_LANES = 12;
const MAX_PAGES = 60; // in a lane
const THUMB = 52; // pixels between two pictures
const ACCURATE = 1_000_000; // a page that was replaced or has settled is shown with this much after it

const MILESTONES = [
  ["dom_content_loaded", "DOM", "parsed"], ["load", "load", "loaded"], ["network_idle", "idle", "network idle"],
  ["settled", "settled", "settled"], ["crashed", "crashed", "crashed"],
];

export function mount(root, { store, joins }) {
  const lanes = new Map(); // target -> its elements
  root.hidden = true;
  let isPlanned = false;

  const plan = () => {
    if (isPlanned) return;
    isPlanned = true;
    requestAnimationFrame(() => {
      isPlanned = false;
      draw();
    });
  };

  function draw() {
    const axis = joins.window();
    if (axis.until === Number.MAX_SAFE_INTEGER) return;
    const pages = joins.navigations().filter((it) => it.parent_frame_id === undefined && overlaps(it.start_ts, endOf(it), axis));
    const shots = joins.screenshots();
    const targets = [...new Set([...pages.map((it) => it.target_id ?? ""), ...shots.map((it) => it.target)])];
    const names = targets.slice(-MAX_LANES);
    for (const [target, lane] of lanes) {
      if (names.includes(target)) continue;
      lane.element.remove();
      lanes.delete(target);
    }
    for (const [index, target] of names.entries()) {
      const number = targets.length - names.length + index + 1;
      const lane = lanes.get(target) ?? newLane(target);
      if (root.children[index] !== lane.element) root.insertBefore(lane.element, root.children[index] ?? null);
      drawLane(lane, target, number, pages.filter((it) => (it.target_id ?? "") === target), shots.filter((it) => it.target === target), axis);
    }
    root.hidden = names.length === 0;
  }

  // A page that nothing replaced lasts.
  const endOf = (page) => page.replaced ?? page.crashed ?? null;

  function newLane(target) {
    const element = node("div", "lane");
    const label = node("button", "lane-name");
    label.type = "button";
    label.addEventListener("click", () => {
      const { filter } = store.get();
      store.set({ filter: { ...filter, target: filter.target === target ? "" : target } });
    });
    const track = node("div", "track");
    const pages = node("div", "pages");
    const film = node("div", "film");
    track.append(pages, film);
    element.append(label, track);
    const lane = { element, label, track, pages, film, byPage: new Map(), byShot: new Map() };
    lanes.set(target, lane);
    return lane;
  }

  function drawLane(lane, target, number, pages, shots, axis) {
    const { filter, selection } = store.get();
    const last = pages.at(-1);
    const name = `${lanes.size > 1 ? `Tab ${number} · ` : ""}${last ? hostOf(last.url) : target.slice(0, 8) || "unknown tab"}`;
    lane.label.textContent = name;
    lane.label.title = `${last ? last.url : ""}\ntab ${target}\nClick: only this tab`;
    lane.label.setAttribute("aria-label", `Only tab ${name}`);
    lane.label.setAttribute("aria-pressed", String(filter.target === target && target !== ""));
    lane.label.disabled = target === "";
    lane.element.classList.toggle("faded", filter.target !== "" && filter.target !== target);
    drawPages(lane, pages.slice(-MAX_PAGES), axis, selection);
    drawShots(lane, shots, axis, selection);
    drawMarks(lane, target, axis);
  }

  function drawPages(lane, pages, axis, selection) {
    const seen = new Set();
    for (const page of pages) {
      const key = `${page.run ?? 0}:${page.seq}`;
      seen.add(key);
      const bar = lane.byPage.get(key) ?? newPage(lane, key);
      bar.page = page;
      const end = endOf(page) ?? Math.max(joins.now(), page.start_ts);
      const left = placeWithin(page.start_ts, axis);
      const right = placeWithin(end, axis);
      bar.element.style.left = `${left * 100}%`;
      bar.element.style.width = `${Math.max(0.1, (right - left) * 100)}%`;
      bar.name.textContent = pathOf(page.url);
      bar.element.classList.toggle("crashed", page.crashed !== undefined);
      bar.element.setAttribute("aria-label", sentenceOf(page, store.get().zone));
      bar.element.title = sentenceOf(page, store.get().zone).replaceAll("; ", "\n");
      const isChosen = selection?.kind === "navigation" && selection.seq === page.seq;
      bar.element.setAttribute("aria-pressed", String(isChosen));
      const reached = milestonesOf(page).filter(({ ts }) => overlaps(ts, ts, axis));
      // Within the bar, which is clipped to the axis.
      bar.marks.replaceChildren(...reached.map(({ ts, id, text }) => {
        const mark = node("i", `mark ${id}`);
        mark.style.left = `${right > left ? ((placeOf(ts, axis) - left) / (right - left)) * 100 : 0}%`;
        mark.title = text;
        return mark;
      }));
    }
    dropOthers(lane.byPage, seen);
  }

  function newPage(lane, key) {
    const element = node("button", "page");
    element.type = "button";
    const name = node("span", "page-name");
    const marks = node("span", "marks");
    element.append(marks, name);
    const bar = { element, name, marks, page: null };
    element.addEventListener("click", () => choose(bar.page));
    lane.pages.append(element);
    lane.byPage.set(key, bar);
    return bar;
  }

  // The page, its time and its tab: everything else is hidden. Again: everything is back.
  function choose(page) {
    const { selection, filter } = store.get();
    if (selection?.kind === "navigation" && selection.seq === page.seq) {
      store.set({ selection: null, range: null, follow: true, filter: { ...filter, target: "" } });
      return;
    }
    const reached = Math.max(page.ts, ...milestonesOf(page).map(({ ts }) => ts));
    // The next page of the tab begins with the request of its document, before it replaces this one.
    const next = joins.navigations().find((it) => it.target_id === page.target_id && it.ts === page.replaced);
    const until = (next ? next.start_ts - 2000 : endOf(page)) ?? Math.max(reached + ACCURATE, Math.min(joins.now(), reached + 30 * ACCURATE));
    store.set({
      selection: { kind: "navigation", seq: page.seq, ...(page.run && { run: page.run }) },
      range: { since: page.start_ts - 1000, until: until + 1000 },
      follow: false,
      filter: { ...filter, target: lanes.size > 1 ? page.target_id ?? "" : filter.target },
    });
  }

  // One of those that would cover each other: the last, which shows how it ended.
  function drawShots(lane, shots, axis, selection) {
    const width = lane.track.clientWidth || 600;
    const bySlot = new Map();
    for (const shot of shots) bySlot.set(Math.floor((placeOf(shot.ts, axis) * width) / THUMB), shot);
    const seen = new Set();
    for (const [, shot] of bySlot) {
      const key = String(shot.seq);
      seen.add(key);
      let thumb = lane.byShot.get(key);
      if (!thumb) {
        const element = node("button", "shot");
        element.type = "button";
        element.append(shot.picture);
        element.addEventListener("click", () => store.set({ selection: { kind: "event", seq: shot.seq } }));
        lane.film.append(element);
        thumb = { element };
        lane.byShot.set(key, thumb);
      }
      const text = `Screenshot at ${timeOf(shot.ts, store.get().zone)}`;
      thumb.element.title = text;
      thumb.element.setAttribute("aria-label", text);
      thumb.element.setAttribute("aria-pressed", String(selection?.kind === "event" && selection.seq === shot.seq));
      thumb.element.style.left = `${Math.min(placeOf(shot.ts, axis) * width, width - THUMB)}px`;
    }
    dropOthers(lane.byShot, seen);
    lane.film.hidden = bySlot.size === 0;
  }

  // Problems of the tab, and gaps.
  function drawMarks(lane, target, axis) {
    const problems = joins.problems().filter((it) => it.target_id === target && it.withdrawn === undefined && overlaps(it.ts, it.ts, axis));
    const marks = problems.slice(-200).map((problem) => {
      const mark = node("i", "problem-mark");
      mark.style.left = `${placeOf(problem.ts, axis) * 100}%`;
      mark.title = problem.text.slice(0, 300);
      return mark;
    });
    const gaps = joins.gaps().filter((gap) => overlaps(gap.since, gap.until, axis)).map((gap) => {
      const mark = node("i", "gap-mark");
      const left = placeWithin(gap.since, axis) * 100;
      mark.style.left = `${left}%`;
      mark.style.width = `${placeWithin(gap.until, axis) * 100 - left}%`;
      mark.title = `${gap.count} events are missing`;
      return mark;
    });
    lane.overlay?.remove();
    lane.overlay = node("div", "overlay");
    lane.overlay.append(...gaps, ...marks);
    lane.track.append(lane.overlay);
  }

  joins.on(plan);
  store.on(["range", "extent", "selection", "filter", "zone"], plan);
  new ResizeObserver(plan).observe(root);
}

function dropOthers(elements, seen) {
  for (const [key, { element }] of elements) {
    if (seen.has(key)) continue;
    element.remove();
    elements.delete(key);
  }
}

function node(tag, name) {
  const it = document.createElement(tag);
  it.className = name;
  return it;
}

// ---- a page in words ----

function milestonesOf(page) {
  const reached = MILESTONES.filter(([id]) => page[id] !== undefined).map(([id, , words]) => ({ id, ts: page[id], text: `${words} after ${since(page, page[id])}` }));
  if (page.lcp) reached.push({ id: "lcp", ts: page.lcp.ts, text: `largest paint after ${since(page, page.lcp.ts)}` });
  return reached.sort((a, b) => a.ts - b.ts);
}

const since = (page, ts) => duration(Math.max(0, ts - page.start_ts) / 1000);

function sentenceOf(page, zone) {
  const parts = [`${page.url.slice(0, 300)} at ${timeOf(page.start_ts, zone)}`, ...milestonesOf(page).map(({ text }) => text)];
  if (page.cls > 0) parts.push(`layout shift ${page.cls.toFixed(3)} in ${page.layout_shifts} shifts`);
  if (page.lost) parts.push(`at most ${page.lost} events missing`);
  return parts.join("; ");
}

const parsed = (url) => (URL.canParse(url) ? new URL(url) : null);
const hostOf = (url) => parsed(url)?.host || url.slice(0, 60) || "about:blank";
const pathOf = (url) => {
  const address = parsed(url);
  return (address?.host ? address.pathname + address.search : url).slice(0, 120);
};
