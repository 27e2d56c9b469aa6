// The page of a gateway: its instances, as `GET /instances` has them. A name opens the page of that instance.

import { button, make } from "./dom.js";
import { count, duration, events as number } from "./text.js";

const POLL_MS = 2000;
// So many rows are drawn; a search finds the others.
const MAX_ROWS = 500;
// An instance whose newest event is this far from stored is shown as late, in events.
const LATE = 10_000;

const COLUMNS = ["instance", "", "events a second", "events", "not stored", "session", "last report", "version"];
const NUMBERS = new Set([2, 3, 4]);

const state = document.getElementById("state");
const form = document.getElementById("search");
const search = make("input", { type: "search", placeholder: "name", "aria-label": "Search by name", autocomplete: "off" });
const token = make("input", { type: "password", placeholder: "token", "aria-label": "Token", autocomplete: "off", hidden: true });
const enter = button("Use token", () => poll(), { hidden: true });
const body = make("tbody");
const head = make("tr", {}, COLUMNS.map((title, n) => make("th", { scope: "col", class: NUMBERS.has(n) ? "number" : null }, title)));
form.append(search, token, enter);
document.getElementById("fleet").append(make("table", {}, make("thead", {}, head), body));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  poll();
});
search.addEventListener("input", draw);

let instances = [];
let isAsking = false;

async function poll() {
  if (isAsking) return;
  isAsking = true;
  try {
    const headers = token.value ? { authorization: `Bearer ${token.value}` } : {};
    const answer = await fetch("instances", { headers, cache: "no-store" });
    const needsToken = answer.status === 401;
    token.hidden = enter.hidden = !needsToken && !token.value;
    if (!answer.ok) throw new Error(needsToken ? "this gateway needs its token" : `the gateway answered ${answer.status}`);
    ({ instances } = await answer.json());
    draw();
  } catch (error) {
    state.textContent = error.message;
    state.dataset.state = "failed";
  } finally {
    isAsking = false;
  }
}

function draw() {
  const asked = search.value.trim().toLowerCase();
  const found = instances.filter(({ name }) => name.toLowerCase().includes(asked));
  const alive = instances.filter((one) => one.alive).length;
  const hidden = found.length - MAX_ROWS;
  state.dataset.state = "live";
  state.textContent = `${count(alive)} of ${count(instances.length)} running`
    + (asked ? `, ${count(found.length)} found` : "")
    + (hidden > 0 ? `, the first ${count(MAX_ROWS)} shown` : "");
  body.replaceChildren(...found.slice(0, MAX_ROWS).map(row));
}

function row(one) {
  const behind = Math.max(0, one.head - one.stored);
  const cells = [
    make("a", { href: `instances/${encodeURIComponent(one.name)}/` }, one.name),
    one.alive ? "runs" : "silent",
    one.events_per_second.toFixed(one.events_per_second < 10 ? 1 : 0),
    count(one.head),
    count(behind),
    one.session_id || "none",
    `${duration(Math.max(0, Date.now() - one.seen / 1000))} ago`,
    one.version,
  ];
  const title = one.alive ? null : `stored up to seq ${count(one.stored)}: ${number(one.stored)}`;
  return make("tr", { "data-alive": String(one.alive), title }, cells.map((cell, n) => make("td", {
    class: [NUMBERS.has(n) && "number", n === 4 && behind > LATE && "late"].filter(Boolean).join(" ") || null,
  }, cell)));
}

poll();
setInterval(poll, POLL_MS);
