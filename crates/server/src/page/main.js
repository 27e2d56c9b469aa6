// The live page: one EventSource, and a table of what it delivered.
//
// The pages under test wrote what is shown, so it is hostile: it goes into `textContent` and nowhere else.
// Memory is bounded: MAX_ROWS events, and as many problems, each of MAX_CHARS.
"use strict";

const MAX_ROWS = 2000;
const MAX_CHARS = 20000;
// How long the text of a row is.
const MAX_SUMMARY = 400;
// How far the lines of an event are moved to the right, however deep they are.
const MAX_INDENT = 40;
// How often new rows are drawn: a burst costs one layout.
const DRAW_MS = 100;
// While more rows arrive than a person can read, for example from a long history, they are drawn less often:
// laying out thousands of rows ten times a second would take longer than reading the stream.
const MANY_ROWS = 200;
const DRAW_MANY_MS = 1000;
// How long to wait after an answer that EventSource takes for final. It reopens broken connections by itself.
const RETRY_MS = 3000;
const TICKET_SECONDS = 300;

const CATEGORIES = ["console", "network", "page", "interaction", "control", "platform", "connection",
  "screenshot", "captcha", "system", "monitor"];

const PROBLEM_TYPES = new Set(["console_error", "network_loading_failed", "page_crashed", "proxy_error",
  "service_crashed", "system_oom_kill", "monitor_disconnected", "monitor_reconnect_failed",
  "monitor_init_failed"]);

// The most useful fields of `data` for each type, in the order in which they are shown.
const SUMMARY_FIELDS = {
  console_log: ["level", "text"],
  console_error: ["text", "source_url"],
  network_request: ["method", "url"],
  network_response: ["status", "method", "url"],
  network_response_end: ["url", "error_text"],
  network_websocket_message: ["direction", "url", "text", "bytes"],
  network_websocket_closed: ["code", "url", "error_text"],
  network_loading_failed: ["error_text", "blocked_reason", "cors_error", "url"],
  proxy_error: ["status", "code", "method", "url"],
  page_tab_opened: ["url", "title"],
  interaction_click: ["tag", "selector", "text"],
  interaction_key: ["key", "selector"],
  interaction_scroll_settled: ["target_selector", "to_x", "to_y"],
  api_call: ["status", "operation_id", "duration_ms", "request_id"],
  platform_api_call: ["status", "operation_id", "duration_ms", "request_id"],
  cdp_disconnect: ["reason", "duration_ms", "message_count"],
  captcha_solve_result: ["status", "captcha_type", "website_host", "error_code"],
  system_oom_kill: ["process_name", "pid", "rss_kb"],
  service_crashed: ["service_name", "phase", "pid"],
};
// For every other type: the ones of these that it has.
const OTHER_SUMMARY_FIELDS = ["status", "code", "error", "error_text", "message", "text", "reason", "name",
  "method", "step", "url"];
const UNITS = { duration_ms: " ms", reconnect_duration_ms: " ms", rss_kb: " kB" };

const element = (id) => document.getElementById(id);

// ---- what is known ----

const state = {
  source: null,
  retry: 0,
  token: "", // in memory only: gone with the page
  lastId: "",
  epoch: "",
  head: 0,
  position: 0,
  lag: null, // as the last beat had it
  lost: 0,
  lostExactly: true,
  problems: 0,
  paused: false,
  missedWhilePaused: 0,
  shownSession: "", // the session notice that was shown last
};

// Newest last. Problems have a list of their own: on a busy stream they would be pushed out of the
// other by what is no problem.
const all = [];
const problems = [];
let undrawn = [];
// The address of each request and each page: the events that report their failure may lack it.
const addresses = new Map();
let drawTimer = 0;
let drawnLast = 0;

const shownList = () => (element("problems").checked ? problems : all);

function keep(list, entry) {
  list.push(entry);
  // Not one by one: moving 2,000 entries for each would be most of the work.
  if (list.length > 2 * MAX_ROWS) list.splice(0, list.length - MAX_ROWS);
}

function add(entry) {
  keep(all, entry);
  if (entry.problem) keep(problems, entry);
  if (entry.problem && entry.envelope) state.problems += 1;
  if (state.paused) {
    state.missedWhilePaused += 1;
  } else if (entry.problem || shownList() === all) {
    undrawn.push(entry);
    if (undrawn.length > 2 * MAX_ROWS) undrawn.splice(0, undrawn.length - MAX_ROWS);
  }
  drawSoon();
}

// ---- reading ----

function readEnvelope(text, id) {
  let envelope;
  try {
    envelope = JSON.parse(text);
  } catch {
    addNotice("bad", `A frame that is not JSON came with the id ${id || "(none)"}.`);
    return;
  }
  state.lastId = id || state.lastId;
  state.position = Math.max(state.position, envelope.seq);
  state.head = Math.max(state.head, envelope.seq);
  const event = envelope.event;
  add({
    envelope: { seq: envelope.seq, ts: event.ts, category: event.category, type: event.type },
    what: summaryOf(event),
    problem: isProblem(event),
    text: bounded(text),
    cut: text.length > MAX_CHARS,
  });
}

function isProblem(event) {
  if (PROBLEM_TYPES.has(event.type)) return true;
  const status = event.data && event.data.status;
  return (typeof status === "number" && status >= 400) || status === "failure" || status === "timeout";
}

function summaryOf(event) {
  const data = event.data;
  const mark = event.truncated ? "(data cut: too large) " : "";
  if (data === null || typeof data !== "object") {
    return mark + (data === undefined || data === null ? "" : short(String(data)));
  }
  remember(event.type, data);
  const value = (field) => (field === "url"
    ? data.url || addresses.get(data.request_id || data.target_id)
    : data[field]);
  const fields = Object.hasOwn(SUMMARY_FIELDS, event.type) ? SUMMARY_FIELDS[event.type] : OTHER_SUMMARY_FIELDS;
  const parts = fields
    .filter((field) => ["string", "number", "boolean"].includes(typeof value(field)) && value(field) !== "")
    // A stack begins with it, as a rule.
    .filter((field) => field !== "source_url" || typeof data.text !== "string" || !data.text.includes(data.source_url))
    .map((field) => String(value(field)) + (UNITS[field] || ""));
  return mark + short(parts.length > 0 ? parts.join("  ") : plain(data));
}

function remember(type, data) {
  let key;
  if (type === "network_request") key = data.request_id;
  else if (type === "page_navigation" && !data.parent_frame_id) key = data.target_id;
  if (!key || typeof data.url !== "string") return;
  addresses.delete(key);
  addresses.set(key, short(data.url));
  // In the order in which they came: the first is the oldest.
  if (addresses.size > MAX_ROWS) addresses.delete(addresses.keys().next().value);
}

// For a type without a list of fields: all fields except the browser context, or the target if there is
// nothing else.
function plain(data) {
  if (Array.isArray(data)) return beginningOf(data);
  const context = ["session_id", "target_id", "target_type", "frame_id", "loader_id", "nav_seq"];
  const rest = Object.entries(data).filter(([field]) => !context.includes(field));
  if (rest.length > 0) return beginningOf(Object.fromEntries(rest));
  return typeof data.target_id === "string" ? `target ${data.target_id}` : "";
}

// The beginning of the JSON of a value, a little more than a row shows. JSON.stringify would need the stack for
// as many levels as the producer has nested; here each level is a character of what is written, at least.
function beginningOf(value) {
  let out = "";
  const write = (part) => {
    if (part === null || typeof part !== "object") {
      // A picture in base64 is of no use in a row.
      const isLong = typeof part === "string" && part.length > MAX_SUMMARY;
      out += JSON.stringify(isLong ? `(${part.length.toLocaleString("en")} characters)` : part);
      return;
    }
    const isList = Array.isArray(part);
    out += isList ? "[" : "{";
    let separator = "";
    for (const key of Object.keys(part)) {
      if (out.length > MAX_SUMMARY) return;
      out += isList ? separator : `${separator}${JSON.stringify(key)}:`;
      write(part[key]);
      separator = ",";
    }
    out += isList ? "]" : "}";
  };
  write(value);
  return out;
}

const short = (text) => (text.length > MAX_SUMMARY ? `${copy(text.slice(0, MAX_SUMMARY))}…` : text);
const bounded = (text) => (text.length > MAX_CHARS ? copy(text.slice(0, MAX_CHARS)) : text);
// A part of a string keeps the whole of it in memory; this does not.
const copy = (text) => new TextDecoder().decode(new TextEncoder().encode(text));

function addNotice(kind, what, text = "") {
  add({ notice: kind, what, text, problem: kind === "bad", cut: false });
}

// Calls `read` with the JSON of each notice of that name.
function onNotice(source, name, read) {
  source.addEventListener(name, (message) => {
    if (source !== state.source) return;
    let notice;
    try {
      notice = JSON.parse(message.data);
    } catch {
      return; // a newer server may write it differently
    }
    read(notice, message.data);
    drawSoon();
  });
}

function readHello(hello, text) {
  if (state.epoch && state.epoch !== hello.epoch) {
    addNotice("bad", "The server was restarted: seqs start again, and its earlier events are gone.", text);
    state.position = 0;
  } else if (hello.reason === "evicted") {
    const from = hello.asked ? Number.parseInt(hello.asked, 10) : 0;
    const range = `seq ${from + 1} to ${hello.used}`;
    addLoss(hello.lost, hello.used - from, `${range}, while this page was not connected`, text);
  } else if (hello.reason === "ahead" || hello.reason === "invalid") {
    addNotice("bad", `The server cannot resume after ${hello.asked}: reading begins at the oldest event.`, text);
  }
  state.epoch = hello.epoch;
  state.head = hello.head;
  state.position = hello.used;
  state.lag = null;
  linked("live", "connected");
}

function readGap(gap, text) {
  const counts = Object.entries(gap.by_category || {});
  const most = counts.reduce((sum, [, count]) => sum + count, 0) || gap.count;
  const by = counts.map(([category, count]) => `${category} ${count}`).join(", ");
  addLoss(gap.matching, most, `seq ${gap.from} to ${gap.to}, ${gap.count} in all${by ? `: ${by}` : ""}`, text);
  state.position = Math.max(state.position, gap.to);
}

function addLoss(exact, most, where, text) {
  const known = exact !== undefined && exact !== null;
  state.lost += known ? exact : most;
  state.lostExactly = state.lostExactly && known;
  const events = (count) => `${count.toLocaleString("en")} ${count === 1 ? "event" : "events"}`;
  addNotice("bad", `${known ? "" : "At most "}${events(known ? exact : most)} lost (${where}): evicted before they were read.`, text);
}

function readSession(session, text) {
  const browser = (session.config && session.config.browser) || {};
  const on = CATEGORIES.filter((category) => browser[category] && browser[category].enabled);
  element("session").textContent = session.session_id || "none";
  element("captured").textContent = !session.session_id ? "nothing" : on.length === 9 ? "all" : on.join(", ");
  state.head = Math.max(state.head, session.seq || 0);
  const shown = [session.session_id, session.applied_at, session.epoch].join(" ");
  if (shown === state.shownSession) return;
  state.shownSession = shown;
  addNotice("calm", session.session_id
    ? `Session ${session.session_id} after seq ${session.after}, capturing ${on.length === 9 ? "all categories" : on.join(", ")}`
    : "No session runs: nothing is captured. PUT /telemetry starts one.", text);
}

function readBeat(beat) {
  state.head = beat.head;
  state.position = beat.position;
  state.lag = beat.lag;
}

function readBye(bye) {
  if (bye.reason === "expired") {
    connect(); // with another ticket
    return;
  }
  const why = { shutdown: "the server is stopping", failed: "the server failed" }[bye.reason] || bye.reason;
  addNotice("calm", `The stream ended at seq ${bye.last_seq}: ${why}.`);
  linked("waiting", `${why}; reconnecting`);
}

// ---- connecting ----

// Relative to the page's own address, so that a prefix in front of the path works.
function address() {
  const query = new URLSearchParams(state.lastId ? { after: state.lastId } : { replay: "all" });
  query.set("notices", "true");
  const filter = readForm();
  if (filter.category) query.set("category", filter.category);
  if (filter.type) query.set("type", filter.type);
  return query;
}

async function connect() {
  disconnect();
  const query = address();
  if (state.token) {
    const attempt = (state.attempt = {});
    const ticket = await fetchTicket();
    if (attempt !== state.attempt) return; // another attempt has begun since
    if (!ticket) return;
    query.set("ticket", ticket);
  }
  const source = new EventSource(`telemetry/stream?${query}`);
  state.source = source;
  source.onmessage = (message) => {
    if (source === state.source) readEnvelope(message.data, message.lastEventId);
  };
  onNotice(source, "hello", readHello);
  onNotice(source, "gap", readGap);
  onNotice(source, "session", readSession);
  onNotice(source, "beat", readBeat);
  onNotice(source, "bye", readBye);
  onNotice(source, "filter", (_, text) => addNotice("calm", "The server changed what this stream is filtered by.", text));
  source.onerror = () => {
    if (source !== state.source) return;
    if (source.readyState === EventSource.CLOSED) {
      whyClosed();
    } else if (element("link").dataset.state === "live") {
      linked("waiting", "reconnecting");
    }
  };
}

function disconnect() {
  clearTimeout(state.retry);
  state.attempt = null;
  if (state.source) state.source.close();
  state.source = null;
}

// EventSource does not report the answer's status: this sends a request that ends, to see it.
async function whyClosed() {
  disconnect();
  linked("waiting", "reconnecting");
  const attempt = (state.attempt = {});
  let status = 0;
  try {
    const probe = address();
    const answer = await fetch(`telemetry/events?limit=1&${new URLSearchParams([...probe].filter(([name]) => name === "category" || name === "type"))}`);
    status = answer.status;
    if (status === 400) {
      const error = await answer.json();
      if (attempt !== state.attempt) return;
      linked("failed", error.message); // the filter is invalid: a retry would fail, too
      return;
    }
  } catch {
    // no answer at all
  }
  if (attempt !== state.attempt) return;
  if (status === 401 && !state.token) {
    askForToken("");
    return;
  }
  state.retry = setTimeout(connect, RETRY_MS);
}

async function fetchTicket() {
  try {
    const answer = await fetch("telemetry/tickets", {
      method: "POST",
      headers: { authorization: `Bearer ${state.token}`, "content-type": "application/json" },
      body: JSON.stringify({ expires_in: TICKET_SECONDS }),
    });
    if (answer.ok) return (await answer.json()).ticket;
    if (answer.status === 401 || answer.status === 403) {
      state.token = "";
      askForToken("The server does not accept this token.");
      return null;
    }
  } catch {
    // no answer at all
  }
  linked("waiting", "reconnecting");
  state.retry = setTimeout(connect, RETRY_MS);
  return null;
}

function askForToken(note) {
  linked("failed", "waiting for a token");
  element("token-note").textContent = note;
  element("token-form").hidden = false;
  element("token").focus();
}

function linked(kind, text) {
  element("link").dataset.state = kind;
  element("link-text").textContent = text;
}

// ---- drawing ----

function drawSoon() {
  if (!drawTimer) drawTimer = setTimeout(draw, drawnLast > MANY_ROWS ? DRAW_MANY_MS : DRAW_MS);
}

function draw() {
  drawTimer = 0;
  const rows = element("rows");
  const fresh = undrawn.slice(-MAX_ROWS);
  undrawn = [];
  drawnLast = fresh.length;
  const piece = document.createDocumentFragment();
  for (const entry of fresh.reverse()) piece.append(rowOf(entry));
  rows.prepend(piece);
  trim(rows);
  drawStatus();
}

function redraw() {
  element("rows").replaceChildren();
  undrawn = shownList().slice(-MAX_ROWS);
  draw();
}

function trim(rows) {
  let surplus = rows.querySelectorAll("tr:not(.detail)").length - MAX_ROWS;
  while (surplus > 0) {
    if (!rows.lastElementChild.classList.contains("detail")) surplus -= 1;
    rows.lastElementChild.remove();
  }
}

function drawStatus() {
  const number = (count) => count.toLocaleString("en");
  element("head").textContent = number(state.head);
  element("position").textContent = number(state.position);
  // Only the beat reports how many events the filter holds back.
  const { category, type } = readForm();
  const lag = category || type ? state.lag : Math.max(0, state.head - state.position);
  element("lag").textContent = lag === null ? "–" : number(lag);
  element("lost").textContent = (state.lostExactly ? "" : "≤ ") + number(state.lost);
  element("lost-cell").classList.toggle("bad", state.lost > 0);
  element("problem-count").textContent = number(state.problems);
  element("problem-count").classList.toggle("bad", state.problems > 0);
  element("pause").textContent = !state.paused ? "Pause"
    : state.missedWhilePaused > 0 ? `Resume (+${number(state.missedWhilePaused)})` : "Resume";
  element("empty").hidden = element("rows").childElementCount > 0;
  element("empty").textContent = element("problems").checked
    ? "No problems yet."
    : "No events yet. New events appear here at once.";
  document.title = state.problems > 0 ? `(${number(state.problems)}) Tapline` : "Tapline";
}

function rowOf(entry) {
  const row = document.createElement("tr");
  row.classList.toggle("problem", entry.problem);
  if (entry.notice) {
    row.classList.add("notice", entry.notice);
    const cell = cellOf("notice-text", entry.what);
    cell.colSpan = 5;
    row.append(cell);
  } else {
    const { seq, ts, category, type } = entry.envelope;
    const [short, whole] = timeOf(ts);
    const time = cellOf("time", short);
    time.title = whole;
    row.append(time, cellOf("seq", String(seq)), cellOf("category", category), cellOf("kind", type),
      cellOf("what", entry.what));
    // A known category picks the colour; any other has none.
    if (CATEGORIES.includes(category)) row.dataset.category = category;
  }
  if (entry.text) {
    row.tabIndex = 0;
    row.setAttribute("aria-expanded", "false");
    row.addEventListener("click", () => {
      if (String(getSelection()) === "") toggle(row, entry);
    });
    row.addEventListener("keydown", (key) => {
      if (key.key !== "Enter" && key.key !== " ") return;
      key.preventDefault();
      toggle(row, entry);
    });
  }
  return row;
}

function cellOf(name, text) {
  const cell = document.createElement("td");
  cell.className = name;
  cell.textContent = text;
  return cell;
}

// Microseconds since the Unix epoch, as a time of day and whole.
function timeOf(ts) {
  const date = new Date(ts / 1000);
  if (Number.isNaN(date.getTime())) return [String(ts), "microseconds since the Unix epoch"];
  const two = (part) => String(part).padStart(2, "0");
  const day = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return [`${day}.${String(date.getMilliseconds()).padStart(3, "0")}`, date.toISOString()];
}

function toggle(row, entry) {
  const below = row.nextElementSibling;
  if (below && below.classList.contains("detail")) {
    below.remove();
    row.setAttribute("aria-expanded", "false");
    return;
  }
  const detail = document.createElement("tr");
  detail.className = "detail";
  const cell = document.createElement("td");
  cell.colSpan = 5;
  const json = document.createElement("pre");
  json.textContent = spread(entry.text);
  if (entry.cut) {
    json.textContent += `\n… cut here after ${MAX_CHARS} characters; all of it: GET /telemetry/events?after=${entry.envelope.seq - 1}&limit=1`;
  }
  cell.append(json);
  detail.append(cell);
  row.after(detail);
  row.setAttribute("aria-expanded", "true");
}

// JSON with a line for each value. Works on the text: parsing would round numbers that are too large for
// a double, and the producer's bytes are what counts.
function spread(text) {
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, MAX_INDENT))}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"?|[{[]\s*[}\]]|[{}[\],:]|[^\s"{}[\],:]+/g)) {
    if (token === "{" || token === "[") {
      depth += 1;
      out += token + line();
    } else if (token === "}" || token === "]") {
      depth = Math.max(0, depth - 1);
      out += line() + token;
    } else if (token === ",") {
      out += token + line();
    } else {
      out += token === ":" ? ": " : token;
    }
  }
  return out;
}

// ---- the form ----

function buildForm() {
  for (const category of CATEGORIES) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.name = "category";
    box.value = category;
    label.dataset.category = category;
    label.append(box, category);
    element("categories").append(label);
  }
}

const boxes = () => [...document.querySelectorAll("#categories input")];

function readForm() {
  return {
    category: boxes().filter((box) => box.checked).map((box) => box.value).join(","),
    type: element("type").value.split(/[\s,]+/).filter(Boolean).join(","),
    problems: element("problems").checked ? "true" : "",
  };
}

// The address bar holds the form, so that a view can be shared. Never the token.
function writeHash() {
  const parts = Object.entries(readForm()).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
}

function readHash() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const chosen = (asked.get("category") || "").split(",");
  for (const box of boxes()) box.checked = chosen.includes(box.value);
  element("type").value = asked.get("type") || "";
  element("problems").checked = asked.get("problems") === "true";
}

function clear() {
  all.length = 0;
  problems.length = 0;
  state.problems = 0;
  state.missedWhilePaused = 0;
  redraw();
}

// After a change of the filter: starts from the oldest event again.
function restart() {
  Object.assign(state, { lastId: "", lost: 0, lostExactly: true, shownSession: "" });
  linked("connecting", "connecting");
  clear();
  connect();
}

function start() {
  buildForm();
  readHash();
  element("filter-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    element("type").blur(); // which fires `change`
  });
  for (const input of [...boxes(), element("type")]) {
    input.addEventListener("change", () => {
      writeHash();
      restart();
    });
  }
  element("problems").addEventListener("change", () => {
    writeHash();
    redraw();
  });
  window.addEventListener("hashchange", () => {
    readHash();
    restart();
  });
  element("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    state.missedWhilePaused = 0;
    element("pause").setAttribute("aria-pressed", String(state.paused));
    if (state.paused) drawStatus();
    else redraw();
  });
  element("clear").addEventListener("click", clear);
  element("token-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    state.token = element("token").value;
    element("token").value = "";
    element("token-form").hidden = true;
    connect();
  });
  connect();
}

start();
