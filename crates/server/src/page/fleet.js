// The page of a gateway: its instances, a part of them at a time, as `GET /instances` has them. A row opens the page of its
// instance.

import { button, make } from "./dom.js";
import { count, events } from "./text.js";

const POLL_MS = 2000;
// A gateway that has not answered for so long is one that cannot be reached.
const PATIENCE_MS = 10_000;
// After the last key of a search.
const TYPING_MS = 250;
// How many rows there are. Only these are asked for again.
const PART = 100;
// An instance of which so many events are not stored is behind.
const LATE = 10_000;

// `order` is what the server calls the order that a click on the head of the column chooses. What is `wide` is left out where
// there is little space.
const COLUMNS = [
  { title: "instance", order: "name" },
  { title: "state" },
  { title: "events a second", order: "rate", name: "number wide" },
  { title: "not stored", order: "lag", name: "number wide" },
  { title: "problems", order: "problems", name: "problems" },
  { title: "last event", order: "last", name: "last" },
  { title: "session", name: "wide" },
];
const ORDERS = COLUMNS.flatMap(({ order }) => order || []);
const STATES = [["", "all"], ["true", "running"], ["false", "silent"]];

const state = document.getElementById("state");
const main = document.getElementById("fleet");
const search = make("input", { type: "search", placeholder: "name, such as shop or till-*", "aria-label": "Search by name", autocomplete: "off", spellcheck: "false" });
const alive = make("select", { "aria-label": "Which instances" }, STATES.map(([value, label]) => make("option", { value }, label)));
const token = make("input", { type: "password", placeholder: "token", "aria-label": "Token", autocomplete: "off", hidden: true });
const enter = button("Use token", () => poll(), { hidden: true });
const heads = COLUMNS.map(({ title, order, name }) => make("th", { scope: "col", class: name },
  order ? button(title, () => choose({ order }), { "data-order": order }) : title));
const body = make("tbody");
const table = make("table", { hidden: true }, make("thead", {}, make("tr", {}, heads)), body);
const empty = make("p", { class: "empty" }, "Loading …");
const range = make("span", { class: "note" });
const back = button("Previous", () => turn(-1));
const next = button("Next", () => turn(1));
const pager = make("nav", { class: "view-bar", "aria-label": "Parts of the list", hidden: true }, back, next, range);
document.getElementById("search").append(search, alive, token, enter);
main.append(table, empty, pager);

// What is asked for. It is in the address, so that a reload and the way back from an instance find it again.
let query = { name: "", order: "name", alive: "", ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
if (!ORDERS.includes(query.order)) query.order = "name";
if (!STATES.some(([value]) => value === query.alive)) query.alive = "";
// The offset of each part up to the one that is shown; the first part has none.
let offsets = [""];
let nextOffset = "";
let asked = 0;
let isAsking = false;
let answeredAt = 0;
const rows = new Map();

search.value = query.name;
alive.value = query.alive;
let typing = 0;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => choose({ name: search.value.trim() }), TYPING_MS);
});
alive.addEventListener("change", () => choose({ alive: alive.value }));
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  choose({ name: search.value.trim() });
});
document.addEventListener("keydown", (key) => {
  if (key.key !== "/" || key.ctrlKey || key.metaKey || key.altKey || key.target.matches("input, select")) return;
  key.preventDefault();
  search.focus();
  search.select();
});

function choose(changes) {
  clearTimeout(typing);
  query = { ...query, ...changes };
  const kept = Object.entries(query).filter(([name, value]) => value !== "" && !(name === "order" && value === "name"));
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  offsets = [""];
  poll();
}

function turn(by) {
  offsets = by < 0 ? offsets.slice(0, -1) : [...offsets, nextOffset];
  main.scrollTop = 0;
  poll();
}

// Text without a star is looked for anywhere in the name.
const pattern = (text) => (text === "" || /[*,]/.test(text) ? text : `*${text}*`);

async function poll() {
  const mine = ++asked;
  isAsking = true;
  try {
    const parameters = { name: pattern(query.name), order: query.order, alive: query.alive, offset: offsets.at(-1), limit: PART };
    const given = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
    const headers = token.value ? { authorization: `Bearer ${token.value}` } : {};
    const answer = await fetch(`instances?${given}`, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const list = await answer.json();
    if (mine !== asked) return;
    const needsToken = answer.status === 401;
    token.hidden = enter.hidden = !needsToken && !token.value;
    if (!answer.ok) throw new Error(needsToken ? "This gateway needs its token." : `The gateway answers ${answer.status}: ${list.message}`);
    // All instances of this part are gone.
    if (list.instances.length === 0 && offsets.length > 1) {
      offsets = [""];
      poll();
      return;
    }
    answeredAt = Date.now();
    nextOffset = answer.headers.get("x-next-offset") || "";
    draw(list);
  } catch (error) {
    if (mine === asked) fail(error);
  } finally {
    if (mine === asked) isAsking = false;
  }
}

function fail(error) {
  const isReached = !["TypeError", "TimeoutError", "AbortError", "SyntaxError"].includes(error.name);
  const reason = isReached ? error.message : "The gateway cannot be reached.";
  say("failed", answeredAt ? `${reason} The list is ${ago(Date.now() - answeredAt)} old.` : reason);
  main.dataset.stale = String(answeredAt > 0);
  if (!answeredAt) empty.textContent = "";
}

function say(kind, text) {
  state.dataset.state = kind;
  if (state.textContent !== text) state.textContent = text;
}

function draw(list) {
  const { instances, total } = list;
  const isChosen = query.name !== "" || query.alive !== "";
  const first = (offsets.length - 1) * PART + 1;
  say("live", total === 0 ? "no instances" : `${count(list.alive)} of ${count(total)} ${isChosen ? "that match " : ""}running`
    + (list.not_stored > 0 ? `, ${events(list.not_stored)} not stored` : ""));
  main.dataset.stale = "false";
  heads.forEach((head, n) => {
    if (COLUMNS[n].order !== query.order) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", query.order === "name" ? "ascending" : "descending");
  });
  table.hidden = instances.length === 0;
  empty.hidden = instances.length > 0;
  empty.textContent = isChosen
    ? "No instance matches."
    : "No instance has reported in the last ten minutes. Start one with: tapline serve --nats URL --instance NAME";
  pager.hidden = total <= PART;
  range.textContent = `${count(first)} to ${count(first + instances.length - 1)} of ${count(total)}`;
  back.disabled = offsets.length === 1;
  next.disabled = nextOffset === "";

  const names = new Set(instances.map(({ name }) => name));
  for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
  const shown = instances.map((one) => update(rows.get(one.name) || add(one.name), one));
  if (shown.length === body.children.length && shown.every((row, n) => row === body.children[n])) return;
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  body.replaceChildren(...shown);
  // An element that is moved loses the focus.
  if (focused?.isConnected) focused.focus({ preventScroll: true });
}

function add(name) {
  const link = make("a", { href: `instances/${encodeURIComponent(name)}/` }, name);
  const cells = COLUMNS.map((column, n) => make("td", { class: column.name }, n === 0 && link));
  const row = make("tr", {
    onclick(event) {
      if (event.target !== link && getSelection().isCollapsed) link.click();
    },
  }, cells);
  rows.set(name, row);
  return row;
}

// Writes what has changed: a text that is selected stays selected.
function update(row, one) {
  const [, runs, rate, lag, problems, last, session] = row.children;
  const behind = Math.max(0, one.head - one.stored);
  const silent = one.silent_ms + Date.now() - answeredAt;
  // The clock of the instance may differ from this one: its last report is at the same time in both.
  const since = (micros) => ago(silent + (one.seen - micros) / 1000);
  row.dataset.alive = String(one.alive);
  write(runs, one.alive ? "runs" : `silent for ${ago(silent)}`);
  runs.title = `last report ${ago(silent)} ago, version ${one.version}`;
  write(rate, one.events_per_second.toFixed(0 < one.events_per_second && one.events_per_second < 10 ? 1 : 0));
  rate.title = `${events(one.head)} in all`;
  write(lag, count(behind));
  lag.classList.toggle("late", LATE <= behind);
  drawProblems(problems, one.problems, since);
  write(last, one.last_event ? `${one.last_event.type}, ${since(one.last_event.ts)} ago` : "none");
  write(session, one.session_id || "none");
  return row;
}

function drawProblems(cell, problems, since) {
  cell.classList.toggle("bad", problems?.count > 0);
  if (!problems) {
    write(cell, "not reported");
    return;
  }
  const { not_read: unread, newest } = problems;
  const most = unread > 0 ? `at least ${count(problems.count)}` : count(problems.count);
  write(cell, newest ? `${most}: ${newest.text}` : most);
  cell.title = [
    newest && `${newest.kind}, ${since(newest.ts)} ago: ${newest.text}`,
    unread > 0 && `${events(unread)} were not searched for problems`,
  ].filter(Boolean).join("\n");
}

function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

// A time in the largest unit that fits. What is ahead is now.
function ago(millis) {
  const seconds = Math.max(0, millis / 1000);
  const [unit, length] = [["d", 86_400], ["h", 3600], ["min", 60]].find(([, length]) => length <= seconds) || ["s", 1];
  return `${count(Math.floor(seconds / length))} ${unit}`;
}

const refresh = () => isAsking || document.hidden || poll();
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, POLL_MS);
poll();
