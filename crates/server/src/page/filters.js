// What of the range is shown, and how much each part of the filter hides.

import { button, make } from "./dom.js";
import { CATEGORIES, count, events as number } from "./text.js";
import { isEmpty, NO_FILTER } from "./store.js";

// A text is looked for when no key was pressed for so long.
const TYPING_MS = 250;
// How often a live range is counted again.
const COUNT_MS = 3000;
const STATUSES = [["error", "any failure"], ["failed", "failed"], ["blocked", "blocked"], ...["2xx", "3xx", "4xx", "5xx", "404"].map((it) => [it, it])];

export function mount(root, context) {
  const { store, source, live, joins } = context;

  const set = (patch) => store.set({ filter: { ...store.get().filter, ...patch } });

  // ---- elements ----

  const text = make("input", { type: "search", id: "search", placeholder: "Search in the events  ( / )", maxlength: 200,
    autocomplete: "off", spellcheck: "false", "aria-label": "Search in the events' text" });
  const type = make("input", { type: "search", placeholder: "all types, or page_*, console_error", list: "types",
    autocomplete: "off", spellcheck: "false", "aria-label": "Types" });
  const types = make("datalist", { id: "types" });
  const status = make("select", { "aria-label": "Status" }, make("option", { value: "" }, "any status"),
    STATUSES.map(([value, label]) => make("option", { value }, label)));
  const target = make("select", { "aria-label": "Tab" });
  const problems = make("input", { type: "checkbox", id: "problems" });
  const problemCount = make("b", {}, "");
  const boxes = new Map(CATEGORIES.map((category) => [category,
    make("input", { type: "checkbox", value: category, onchange: chooseCategories })]));
  const chips = CATEGORIES.map((category) => make("label", { "data-category": category }, boxes.get(category),
    make("span", {}, category), make("b", {})));
  const hidden = Object.fromEntries(["text", "category", "type", "status", "target", "problems"].map((name) => [name, make("span", { class: "hides" })]));
  const summary = make("span", { class: "summary", role: "status" });

  const all = button("Show all", () => store.set({ filter: NO_FILTER }), { hidden: true });

  root.append(
    make("div", { class: "line" },
      make("span", { class: "field grow" }, text, hidden.text),
      make("span", { class: "field" }, type, types, hidden.type),
      make("span", { class: "field" }, status, hidden.status),
      make("span", { class: "field" }, target, hidden.target),
      make("label", { class: "problems" }, problems, "problems ", problemCount), hidden.problems, all),
    make("div", { class: "line" },
      make("fieldset", {}, make("legend", { class: "unseen" }, "Categories; none chosen: all"), chips), hidden.category,
      summary));

  // ---- what a person chooses ----

  let typing = 0;
  const typed = () => {
    clearTimeout(typing);
    typing = setTimeout(take, TYPING_MS);
  };
  function take() {
    clearTimeout(typing);
    typing = 0;
    set({ text: text.value, type: typesOf(type.value) });
  }
  for (const field of [text, type]) {
    field.addEventListener("input", typed);
    // What was typed last counts at once: the next key may change another part of the filter.
    field.addEventListener("blur", () => typing !== 0 && take());
  }
  type.addEventListener("change", take);
  status.addEventListener("change", () => set({ status: status.value }));
  target.addEventListener("change", () => set({ target: target.value }));
  problems.addEventListener("change", () => set({ problems: problems.checked }));
  root.addEventListener("submit", (submit) => {
    submit.preventDefault();
    take();
  });

  function chooseCategories() {
    set({ category: CATEGORIES.filter((category) => boxes.get(category).checked) });
  }

  function draw({ filter }) {
    if (document.activeElement !== text) text.value = filter.text;
    if (document.activeElement !== type) type.value = filter.type;
    if (filter.status && ![...status.options].some(({ value }) => value === filter.status)) {
      status.append(make("option", { value: filter.status }, filter.status));
    }
    status.value = filter.status;
    problems.checked = filter.problems;
    for (const [category, box] of boxes) box.checked = filter.category.includes(category);
    drawTargets(filter);
    all.hidden = isEmpty(filter);
  }

  // ---- tabs ----

  const tabs = new Map(); // target_id: what it is called
  function drawTargets(filter = store.get().filter) {
    for (const navigation of joins.known("navigations")) {
      if (navigation.target_id && !navigation.parent_frame_id) remember(navigation.target_id, navigation.url);
    }
    const options = [["", "all tabs"], ...tabs];
    if (filter.target && !tabs.has(filter.target)) options.push([filter.target, filter.target]);
    const now = [...target.options].map(({ value, text: label }) => `${value} ${label}`).join("\n");
    const next = options.map(([value, label]) => `${value} ${label}`).join("\n");
    if (now !== next && document.activeElement !== target) {
      target.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
    }
    target.value = filter.target;
  }

  function remember(id, url) {
    tabs.delete(id);
    tabs.set(id, `tab ${id.slice(0, 4)}  ${url.slice(0, 60)}`);
    if (tabs.size > 50) tabs.delete(tabs.keys().next().value);
  }

  // ---- how many there are, and how many it hides ----

  let timer = 0;
  let attempt = null;

  async function countAll(isChanged) {
    clearTimeout(timer);
    if (attempt) attempt.abort();
    attempt = new AbortController();
    const { signal } = attempt;
    const { filter, range: asked } = store.get();
    const base = { ...(asked || {}), buckets: 1 };
    const server = { category: filter.category, type: filter.type, contains: filter.text, status: filter.status, target_id: filter.target };
    const isFiltered = Object.values(server).some((value) => value.length > 0);
    if (isChanged) summary.textContent = "counting …";
    try {
      const counts = await source.counts({ ...base, ...server }, { signal });
      store.set({ counts: { ...counts, buckets: undefined } });
      drawCounts(counts);
      // What a part hides is what there would be without it.
      const parts = { text: "contains", category: "category", type: "type", status: "status", target: "target_id" };
      for (const [name, parameter] of Object.entries(parts)) {
        const isUsed = server[parameter].length > 0;
        let hides = 0;
        if (isUsed) {
          const others = Object.values(parts).filter((other) => other !== parameter && server[other].length > 0);
          const without = others.length === 0 ? counts.events
            : (await source.counts({ ...base, ...server, [parameter]: "" }, { signal })).matching;
          hides = without - counts.matching;
        }
        hidden[name].textContent = isUsed ? `hides ${count(Math.max(0, hides))} of ${count(counts.events)}` : "";
      }
      summary.textContent = isFiltered ? `${count(counts.matching)} of ${number(counts.events)} match` : number(counts.events);
      if (counts.complete === false) summary.textContent += ", as far as counted";
    } catch (error) {
      if (signal.aborted) return;
      summary.textContent = error.status === 400 ? error.message : "";
    }
    if (store.get().range === null && source.kind === "server") timer = setTimeout(countWhenSeen, COUNT_MS);
  }

  const countWhenSeen = () => (document.hidden ? (timer = setTimeout(countWhenSeen, COUNT_MS)) : countAll(false));

  function drawCounts(counts) {
    for (const [index, category] of CATEGORIES.entries()) {
      const there = counts.by_category[category] || 0;
      chips[index].lastChild.textContent = there > 0 ? count(there) : "";
      chips[index].classList.toggle("none", there === 0);
    }
    const known = new Set([...Object.keys(counts.by_type || {}), ...store.get().types]);
    if (types.childElementCount !== known.size) {
      types.replaceChildren(...[...known].sort().map((name) => make("option", { value: name })));
    }
  }

  function drawProblems() {
    // Losses and restarts count: there may have been anything among what was lost.
    const { losses, restarts, range: asked } = store.get();
    const { isRead, error } = joins.status();
    const found = asked === null ? joins.known("problems") : joins.problems();
    const others = found.filter(({ kind }) => kind !== "events_lost" && kind !== "restart").length;
    const there = Math.max(others + losses.length + restarts, found.length);
    // Before all was read there may be more.
    problemCount.textContent = isRead && !error ? count(there) : `${there > 0 ? count(there) : ""}${error ? "?" : "…"}`;
    problemCount.title = error;
    const { filter, counts } = store.get();
    hidden.problems.textContent = filter.problems && counts ? `shows ${count(found.length)}, of ${number(counts.events)}` : "";
    problemCount.classList.toggle("bad", there > 0);
    const title = there > 0 ? `(${count(there)}) Tapline` : "Tapline";
    if (document.title !== title) document.title = title;
  }

  joins.on(() => {
    drawTargets();
    drawProblems();
  });
  live.on((events) => {
    for (const { event } of events) {
      if (event.type === "page_tab_opened" && event.data && typeof event.data.target_id === "string") {
        remember(event.data.target_id, String(event.data.url));
        drawTargets();
      }
    }
  });
  store.on(["filter"], draw);
  store.on(["filter", "range", "origin"], () => {
    store.set({ counts: null });
    countAll(true);
  });
  store.on(["connection"], ({ connection }) => connection.state === "live" && countAll(false));
  store.on(["losses", "restarts", "range", "filter", "counts"], drawProblems);
  store.on(["types"], () => store.get().counts && drawCounts(store.get().counts));
  draw(store.get());
  drawProblems();
  countAll(true);
}

const typesOf = (text) => text.split(/[\s,]+/).filter(Boolean).join(", ");
