// How many events there were, over time and by category; and the brush that chooses the range.
//
// A canvas draws the bars, the gaps (hatched) and the problems. The brush is dragged with a pointer: a new range,
// the whole range, or one of its ends; the ends are sliders, for the keyboard and screen readers.

import { placeOf, placeWithin, stepOf, ticksOf, timeAt } from "./axis.js";
import { CATEGORIES, count, duration, events, timeOf } from "./text.js";
import { node } from "./dom.js";

const SECOND = 1_000_000;
const SPANS = [
  ["1 min", 60 * SECOND], ["5 min", 300 * SECOND], ["15 min", 900 * SECOND], ["1 h", 3600 * SECOND],
  ["6 h", 6 * 3600 * SECOND], ["24 h", 24 * 3600 * SECOND], ["all", Infinity],
];
// What is older is shown when it is asked for.
const FIRST_SPAN = 900 * SECOND;
const REFRESH_MS = 1000;
const BAR = 5; // pixels, with the space between two
const MAX_BARS = 400;
const AXIS = 15; // pixels below the bars
const NEAR = 6; // pixels around an end of the range
const DRAG = 4; // pixels: less is a click

export function mount(root, { store, source, joins }) {
  const parts = build(root);
  const { canvas, brush, ends, spans, note, clear, zoom } = parts;
  let span = null; // not chosen yet
  let zoomed = null; // a piece of the past that fills the graph
  let counts = null;
  let draft = null; // the range while it is dragged
  let colors = null;
  let isAsked = false;

  // ---- what is shown ----

  // The extent ends with the next whole bar, so that bars stay where they are while time passes.
  function extentOf(first) {
    const bars = Math.min(MAX_BARS, Math.max(20, Math.floor(canvas.clientWidth / BAR)));
    const now = joins.now();
    let { since, until } = zoomed ?? { since: now - span, until: now };
    if (!zoomed && span === Infinity) since = Math.min(first ?? now - FIRST_SPAN, now - SECOND);
    const bucket = stepOf((until - since) / bars);
    since = Math.floor(since / bucket) * bucket;
    until = (Math.floor(until / bucket) + 1) * bucket;
    return { since, until, buckets: Math.round((until - since) / bucket) };
  }

  let first = null; // the time of the oldest event

  async function refresh() {
    if (isAsked || canvas.clientWidth === 0) return;
    const { connection, filter, newest } = store.get();
    if (!["live", "file"].includes(connection.state) || newest === null) return;
    isAsked = true;
    const origin = store.get().origin;
    try {
      if (span === null) {
        const all = await source.counts({ buckets: 1 });
        first = all.since;
        span = source.kind === "file" || joins.now() - first < FIRST_SPAN ? Infinity : FIRST_SPAN;
      }
      const { since, until, buckets } = extentOf(first);
      const answer = await source.counts({
        since, until, buckets, category: filter.category, type: filter.type, contains: filter.text, status: filter.status, target_id: filter.target,
      });
      if (origin !== store.get().origin) return;
      counts = answer;
      store.set({ extent: { since, until }, gaps: answer.gaps ?? [] });
      note.dataset.error = "";
    } catch (failure) {
      note.dataset.error = failure.message;
    } finally {
      isAsked = false;
      draw();
    }
  }

  // ---- drawing ----

  function draw() {
    const { extent, range, zone } = store.get();
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (width === 0) return;
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    colors ??= readColors(root);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    drawWords();
    if (!extent) return;
    const plot = { width, height: height - AXIS };
    drawTicks(pen, plot, extent, zone, colors);
    if (counts) drawBars(pen, plot, extent, counts, colors);
    drawGaps(pen, plot, extent, joins.gaps(), colors);
    drawProblems(pen, plot, extent, joins.known("problems"), colors);
    drawChosen(pen, plot, extent);
    const now = placeOf(joins.now(), extent);
    if (source.kind !== "file" && 0 < now && now <= 1) {
      pen.fillStyle = colors.good;
      pen.fillRect(Math.round(now * width) - 1, 0, 1.5, plot.height);
    }
    drawBrush(draft ?? range, extent);
  }

  function drawWords() {
    const { range, extent, zone } = store.get();
    const shown = draft ?? range;
    const matching = counts ? counts.matching ?? counts.events : 0;
    if (note.dataset.error) note.textContent = note.dataset.error;
    else if (shown) note.textContent = `${timeOf(shown.since, zone)} – ${timeOf(shown.until, zone)} (${duration((shown.until - shown.since) / 1000)})`;
    else if (counts) note.textContent = counts.events > matching ? `${count(matching)} of ${events(counts.events)}` : events(matching);
    else note.textContent = "";
    clear.hidden = !range;
    clear.textContent = source.kind === "file" ? "All of it" : "Back to now";
    zoom.hidden = !range && !zoomed;
    zoom.textContent = zoomed ? "Zoom out" : "Zoom in";
    const text = counts ? Object.entries(counts.by_category ?? {}).map(([name, many]) => `${name} ${count(many)}`).join(", ") : "";
    const missing = extent ? joins.gaps().filter((gap) => gap.since <= extent.until && extent.since <= gap.until).reduce((sum, gap) => sum + gap.count, 0) : 0;
    const gap = missing > 0 ? `; at most ${count(missing)} missing` : "";
    canvas.setAttribute("aria-label", extent ? `Events from ${timeOf(extent.since, zone)} to ${timeOf(extent.until, zone)}: ${text || "none"}${gap}` : "Events over time");
    spans.value = String(span ?? FIRST_SPAN);
  }

  // What is selected, as a line of its length.
  function drawChosen(pen, plot, extent) {
    const { selection } = store.get();
    const item = selection && selection.kind === "request" ? joins.find("requests", selection.seq, selection.run) : null;
    if (!item) return;
    const left = placeWithin(item.ts, extent) * plot.width;
    const end = item.ts + (item.duration_ms ?? 0) * 1000;
    pen.fillStyle = colors.accent;
    pen.fillRect(left, 0, Math.max(2, placeWithin(end, extent) * plot.width - left), 3);
  }

  function drawBrush(range, extent) {
    const { zone } = store.get();
    const shown = range ?? extent;
    brush.classList.toggle("empty", range === null);
    brush.style.left = `${placeWithin(shown.since, extent) * 100}%`;
    brush.style.right = `${(1 - placeWithin(shown.until, extent)) * 100}%`;
    for (const [end, name] of [[ends[0], "since"], [ends[1], "until"]]) {
      end.setAttribute("aria-valuemin", String(Math.round(extent.since / 1000)));
      end.setAttribute("aria-valuemax", String(Math.round(extent.until / 1000)));
      end.setAttribute("aria-valuenow", String(Math.round(Math.min(extent.until, Math.max(extent.since, shown[name])) / 1000)));
      end.setAttribute("aria-valuetext", timeOf(shown[name], zone));
    }
  }

  // ---- the brush ----

  const choose = (since, until) => {
    const { extent } = store.get();
    const [from, to] = since <= until ? [since, until] : [until, since];
    const range = { since: Math.max(extent.since, from), until: Math.min(extent.until, to) };
    return range.since < range.until ? range : null;
  };

  function startDrag(down) {
    const { extent, range } = store.get();
    if (!extent || down.button !== 0) return;
    const box = canvas.getBoundingClientRect();
    const at = (event) => timeAt((event.clientX - box.left) / box.width, extent);
    const pixels = (ts) => placeOf(ts, extent) * box.width;
    const x = down.clientX - box.left;
    let move = (ts) => choose(at(down), ts);
    if (range) {
      if (Math.abs(x - pixels(range.since)) <= NEAR) move = (ts) => choose(ts, range.until);
      else if (Math.abs(x - pixels(range.until)) <= NEAR) move = (ts) => choose(range.since, ts);
      else if (range.since < at(down) && at(down) < range.until) {
        move = (ts) => choose(range.since + ts - at(down), range.until + ts - at(down));
      }
    }
    let isMoved = false;
    parts.area.setPointerCapture(down.pointerId);
    const onMove = (event) => {
      isMoved ||= Math.abs(event.clientX - down.clientX) >= DRAG;
      if (!isMoved) return;
      draft = move(at(event));
      draw();
    };
    const onEnd = (event) => {
      for (const name of ["pointermove", "pointerup", "pointercancel"]) parts.area.removeEventListener(name, name === "pointermove" ? onMove : onEnd);
      const chosen = draft;
      draft = null;
      if (event.type === "pointercancel") draw();
      else if (isMoved && chosen) setRange(chosen);
      else if (!isMoved) setRange(null);
    };
    parts.area.addEventListener("pointermove", onMove);
    parts.area.addEventListener("pointerup", onEnd);
    parts.area.addEventListener("pointercancel", onEnd);
  }

  function setRange(range) {
    store.set(range ? { range, follow: false } : { range: null, follow: true });
    draw();
  }

  function onKey(key, index) {
    const { extent, range } = store.get();
    if (!extent) return;
    if (key.key === "Escape") {
      if (range) {
        key.stopPropagation();
        setRange(null);
      }
      return;
    }
    const bar = (extent.until - extent.since) / (counts?.buckets?.length || 100);
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[key.key];
    const shown = range ?? extent;
    const value = index === 0 ? shown.since : shown.until;
    let next = null;
    if (step !== undefined) next = value + step * bar * (key.shiftKey ? 10 : 1);
    else if (key.key === "Home") next = extent.since;
    else if (key.key === "End") next = extent.until;
    if (next === null) return;
    key.preventDefault();
    key.stopPropagation();
    // An end stays on its side of the other.
    const changed = index === 0
      ? { since: Math.round(Math.max(extent.since, Math.min(next, shown.until - bar))), until: shown.until }
      : { since: shown.since, until: Math.round(Math.min(extent.until, Math.max(next, shown.since + bar))) };
    setRange(changed);
  }

  parts.area.addEventListener("pointerdown", startDrag);
  ends.forEach((end, index) => end.addEventListener("keydown", (key) => onKey(key, index)));
  clear.addEventListener("click", () => setRange(null));
  zoom.addEventListener("click", () => {
    zoomed = zoomed ? null : store.get().range;
    refresh();
  });
  spans.addEventListener("change", () => {
    span = Number(spans.value);
    zoomed = null;
    refresh();
  });
  store.on(["range", "selection", "zone", "extent", "losses"], draw);
  store.on(["filter", "connection"], refresh);
  store.on(["origin"], () => {
    span = null;
    zoomed = null;
    counts = null;
    store.set({ extent: null, gaps: [] });
    refresh();
  });
  joins.on(draw);
  new ResizeObserver(() => {
    draw();
    refresh();
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colors = null;
    draw();
  });
  let seen = -1;
  setInterval(() => {
    if (document.visibilityState !== "visible" || zoomed) return;
    const seq = store.get().newest?.seq ?? -1;
    // A file does not change.
    if (source.kind === "file" && seq === seen && counts) return;
    seen = seq;
    refresh();
  }, REFRESH_MS);
  draw();
}

// ---- parts ----

function build(root) {
  const bar = node("div", "view-bar");
  const title = node("h2", "", "Timeline");
  const note = node("p", "note");
  note.id = "graph-note";
  const clear = node("button", "small", "Back to now");
  const zoom = node("button", "small", "Zoom in");
  clear.hidden = zoom.hidden = true;
  const label = node("label", "push", "show ");
  const spans = node("select", "small");
  for (const [text, length] of SPANS) {
    const option = node("option", "", text);
    option.value = String(length);
    spans.append(option);
  }
  label.append(spans);
  bar.append(title, note, clear, zoom, label);

  const area = node("div", "graph-area");
  const canvas = node("canvas");
  canvas.setAttribute("role", "img");
  const brush = node("div", "brush empty");
  const ends = ["Beginning of the range", "End of the range"].map((name, index) => {
    const end = node("div", `brush-end ${index === 0 ? "begin" : "end"}`);
    end.tabIndex = 0;
    end.setAttribute("role", "slider");
    end.setAttribute("aria-label", name);
    end.setAttribute("aria-valuemin", "0");
    end.setAttribute("aria-valuemax", "0");
    end.setAttribute("aria-valuenow", "0");
    brush.append(end);
    return end;
  });
  area.append(canvas, brush);
  root.append(bar, area);
  return { area, canvas, brush, ends, spans, note, clear, zoom };
}

// ---- colours, from the style sheet ----

function readColors(root) {
  const style = getComputedStyle(root);
  const value = (name) => style.getPropertyValue(name).trim();
  const probe = document.createElement("i");
  probe.hidden = true;
  root.append(probe);
  const byCategory = {};
  for (const category of CATEGORIES) {
    probe.dataset.category = category;
    byCategory[category] = `oklch(${value("--tint")} 0.13 ${getComputedStyle(probe).getPropertyValue("--hue").trim()})`;
  }
  probe.remove();
  return {
    byCategory, other: value("--quiet"), line: value("--line"), quiet: value("--quiet"), bad: value("--bad"),
    good: value("--good"), accent: value("--accent"), text: value("--text"), gap: value("--gap"), ground: value("--ground"),
    font: `10px ${style.fontFamily}`,
  };
}

// ---- pieces of the drawing ----

function drawTicks(pen, plot, extent, zone, colors) {
  const { step, ticks } = ticksOf(extent, Math.max(2, Math.floor(plot.width / 90)));
  pen.font = colors.font;
  pen.textBaseline = "top";
  pen.fillStyle = colors.line;
  pen.fillRect(0, plot.height - 0.5, plot.width, 1);
  for (const ts of ticks) {
    const x = placeOf(ts, extent) * plot.width;
    pen.fillStyle = colors.line;
    pen.fillRect(Math.round(x), 0, 1, plot.height + 3);
    const text = timeOf(ts, zone).slice(0, step < SECOND ? 12 : step % (60 * SECOND) === 0 ? 5 : 8);
    const width = pen.measureText(text).width;
    if (x + 3 + width > plot.width) continue;
    pen.fillStyle = colors.quiet;
    pen.fillText(text, Math.round(x) + 3, plot.height + 3);
  }
}

function drawBars(pen, plot, extent, counts, colors) {
  const buckets = counts.buckets ?? [];
  const totals = buckets.map((bucket) => Object.values(bucket.by_category).reduce((sum, many) => sum + many, 0));
  const most = Math.max(1, ...totals);
  const top = 4;
  const full = plot.height - top - 7; // the problems are below
  const wide = (counts.bucket_us / (extent.until - extent.since)) * plot.width;
  buckets.forEach((bucket, index) => {
    if (totals[index] === 0) return;
    const left = placeOf(bucket.ts, extent) * plot.width;
    if (left + wide < 0 || plot.width < left) return;
    let bottom = plot.height - 7;
    // However few they are, they are seen.
    const height = Math.max(2, (totals[index] / most) * full);
    for (const category of [...CATEGORIES, ...Object.keys(bucket.by_category).filter((name) => !CATEGORIES.includes(name))]) {
      const part = ((bucket.by_category[category] ?? 0) / totals[index]) * height;
      if (part === 0) continue;
      pen.fillStyle = colors.byCategory[category] ?? colors.other;
      pen.fillRect(left + 0.5, bottom - part, Math.max(1, wide - 1), part);
      bottom -= part;
    }
  });
  const perSecond = most / (counts.bucket_us / SECOND);
  const text = counts.bucket_us >= SECOND ? `${count(Math.round(perSecond * 10) / 10)}/s` : `${count(most)} in ${duration(counts.bucket_us / 1000)}`;
  pen.font = colors.font;
  pen.textBaseline = "top";
  const width = pen.measureText(text).width;
  pen.fillStyle = colors.ground;
  pen.globalAlpha = 0.8;
  pen.fillRect(0, 0, width + 6, 13);
  pen.globalAlpha = 1;
  pen.fillStyle = colors.quiet;
  pen.fillText(text, 3, 2);
}

function drawGaps(pen, plot, extent, gaps, colors) {
  for (const gap of gaps) {
    const left = placeWithin(gap.since, extent) * plot.width;
    const right = placeWithin(gap.until, extent) * plot.width;
    if (gap.until < extent.since || extent.until < gap.since) continue;
    const x = Math.min(left, plot.width - 4);
    const width = Math.max(4, right - left);
    pen.save();
    pen.beginPath();
    pen.rect(x, 0, width, plot.height);
    pen.clip();
    pen.fillStyle = colors.ground;
    pen.globalAlpha = 0.75;
    pen.fillRect(x, 0, width, plot.height);
    pen.globalAlpha = 1;
    pen.strokeStyle = colors.gap;
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (let at = x - plot.height; at < x + width; at += 6) {
      pen.moveTo(at, plot.height);
      pen.lineTo(at + plot.height, 0);
    }
    pen.stroke();
    pen.restore();
  }
}

function drawProblems(pen, plot, extent, problems, colors) {
  pen.fillStyle = colors.bad;
  let last = -10;
  for (const problem of problems) {
    if (problem.withdrawn !== undefined || problem.ts < extent.since || extent.until < problem.ts) continue;
    const x = Math.round(placeOf(problem.ts, extent) * plot.width);
    if (x - last < 3) continue;
    last = x;
    pen.beginPath();
    pen.moveTo(x - 3, plot.height - 0.5);
    pen.lineTo(x + 3, plot.height - 0.5);
    pen.lineTo(x, plot.height - 6.5);
    pen.fill();
  }
}
