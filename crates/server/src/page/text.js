// What an event says in words: summaries, times, sizes, and JSON laid out. Pure functions.
//
// The pages under test wrote what is shown, so it is hostile: it is long, deep, and full of markup. Everything here
// returns strings of bounded length, which go into `textContent` and nowhere else.

export const CATEGORIES = ["console", "network", "page", "interaction", "control", "platform", "connection",
  "screenshot", "captcha", "system", "monitor"];
// Those that a session may leave out. The others are always captured.
export const USER_CATEGORIES = CATEGORIES.slice(0, 9);

// How long the text of a row is.
const MAX_SUMMARY = 400;
// How far the lines of an event are moved to the right, however deep they are.
const MAX_INDENT = 40;
// How many addresses are remembered for the events that lack them.
const MAX_ADDRESSES = 2000;

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
  log_record: ["level", "target", "message"],
  system_oom_kill: ["process_name", "pid", "rss_kb"],
  service_crashed: ["service_name", "phase", "pid"],
};
// For every other type: the ones of these that it has.
const OTHER_SUMMARY_FIELDS = ["status", "code", "error", "error_text", "message", "text", "reason", "name",
  "method", "step", "url"];
const UNITS = { duration_ms: " ms", reconnect_duration_ms: " ms", rss_kb: " kB" };

// ---- events ----

export function isProblem(event) {
  if (PROBLEM_TYPES.has(event.type)) return true;
  const { status, level } = event.data || {};
  if (event.type === "log_record" && (level === "error" || level === "fatal")) return true;
  return (typeof status === "number" && status >= 400) || status === "failure" || status === "timeout";
}

// `addresses`: what `remember` has collected of the events before.
export function summaryOf(event, addresses = new Map()) {
  const data = event.data;
  const mark = event.truncated ? "(data cut: too large) " : "";
  if (data === null || typeof data !== "object") {
    return mark + (data === undefined || data === null ? "" : short(String(data)));
  }
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

// Keeps the address of each request and each page: the events that report their failure may lack it.
export function remember(event, addresses) {
  const data = event.data;
  if (data === null || typeof data !== "object" || typeof data.url !== "string") return;
  let key;
  if (event.type === "network_request") key = data.request_id;
  else if (event.type === "page_navigation" && !data.parent_frame_id) key = data.target_id;
  if (typeof key !== "string") return;
  addresses.delete(key);
  addresses.set(key, short(data.url));
  // In the order in which they came: the first is the oldest.
  if (addresses.size > MAX_ADDRESSES) addresses.delete(addresses.keys().next().value);
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

export const short = (text, most = MAX_SUMMARY) => (text.length > most ? `${copy(text.slice(0, most))}…` : text);
// A part of a string keeps the whole of it in memory; this does not.
const copy = (text) => new TextDecoder().decode(new TextEncoder().encode(text));

const TOKENS = /"(?:[^"\\]|\\.)*"?|[{[]\s*[}\]]|[{}[\],:]|[^\s"{}[\],:]+/g;

// The text of `data` in the JSON of an envelope, or null: as its producer wrote it.
export function dataOf(envelope) {
  let depth = 0;
  let start = -1;
  let key = "";
  for (const { 0: token, index } of envelope.matchAll(TOKENS)) {
    if (token === "{" || token === "[") depth += 1;
    else if (depth === 2 && start >= 0 && (token === "," || token === "}")) return envelope.slice(start, index);
    else if (token === "}" || token === "]") depth -= 1;
    else if (depth === 2 && token === ":" && key === '"data"' && start < 0) start = index + 1;
    if (depth === 2 && start < 0) key = token;
  }
  return null;
}

// JSON with a line for each value. Works on the text: parsing would round numbers that are too large for
// a double, and the producer's bytes are what counts.
export function spread(text) {
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, MAX_INDENT))}`;
  for (const [token] of text.matchAll(TOKENS)) {
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

// ---- numbers ----

export const count = (number) => number.toLocaleString("en");
export const events = (number) => `${count(number)} ${number === 1 ? "event" : "events"}`;

// Microseconds since the Unix epoch as a time of day. `zone`: "local" or "utc".
export function timeOf(ts, zone = "local") {
  const date = new Date(ts / 1000);
  if (Number.isNaN(date.getTime())) return String(ts);
  if (zone === "utc") return date.toISOString().slice(11, 23);
  const day = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => digits(part, 2)).join(":");
  return `${day}.${digits(date.getMilliseconds(), 3)}`;
}

// The same with its date and its offset from UTC.
export function dateOf(ts, zone = "local") {
  const date = new Date(ts / 1000);
  if (Number.isNaN(date.getTime())) return `${ts} µs since the Unix epoch`;
  if (zone === "utc") return `${date.toISOString().slice(0, 10)} ${timeOf(ts, zone)} UTC`;
  const minutes = -date.getTimezoneOffset();
  const away = Math.abs(minutes);
  const offset = `${minutes < 0 ? "-" : "+"}${digits(Math.floor(away / 60), 2)}:${digits(away % 60, 2)}`;
  return `${date.getFullYear()}-${digits(date.getMonth() + 1, 2)}-${digits(date.getDate(), 2)} ${timeOf(ts)} ${offset}`;
}

const digits = (number, width) => String(number).padStart(width, "0");

// `2.5 s`, `40 ms`, from milliseconds.
export function duration(ms) {
  if (ms < 1) return `${Number(ms.toFixed(2))} ms`;
  if (ms < 1000) return `${Number(ms.toFixed(ms < 10 ? 1 : 0))} ms`;
  if (ms < 120_000) return `${Number((ms / 1000).toFixed(ms < 10_000 ? 2 : 1))} s`;
  return `${Number((ms / 60_000).toFixed(1))} min`;
}

// `1.5 kB`, from bytes.
export function size(bytes) {
  let unit = 0;
  let number = bytes;
  while (number >= 1000 && unit < 4) {
    number /= 1000;
    unit += 1;
  }
  return `${Number(number.toFixed(number < 10 && unit > 0 ? 1 : 0))} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}
