// The server, as calls: the only module that knows addresses.
//
// `source` answers the same calls from anywhere: from a server (here), or from a file that was opened (`file.js`).
//   events(query)         {events, hasMore, nextOffset, head, oldest, epoch, lost}; `events` are envelopes
//   event(seq, epoch)     {envelope, text}: one event and its JSON, or null where it is gone
//   requests(query), navigations(query), problems(query)
//                         {items, hasMore, nextOffset, cursor, lost, isComplete, leftOut}: whether all events of the range were
//                         read, and how many of the oldest items are not kept
//   request(seq)          one, with headers and timing
//   counts(query)         as /telemetry/counts
//   state()               as GET /telemetry, null without a session
//   sinks(), readers()    as the server answers them
//   put(config), patch(config), stop()
//                         the state that the server confirmed
//   types()               the names of the known types of events
//   follow(after, handlers)
//                         the stream after that cursor; see below
//   link(path, query)     an address for people: copied, or opened by the browser
//   download(path, query) a Blob
// A query is an object; `since` and `until` are microseconds since the Unix epoch; what is "", null, undefined or [] in it is left out, lists are joined by commas. Every call
// takes {signal} behind it. It throws ApiError, or what fetch throws where there is no answer.

// How long to wait before a broken stream is opened again, in milliseconds.
const RETRY_MS = 1000;
const MAX_RETRY_MS = 15_000;
// A stream has a comment or a beat at least every 15 s: after this long without a byte it is dead.
const SILENCE_MS = 40_000;

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// `onToken(note)`: a token is needed, or the one given was not accepted.
export function serverSource({ onToken }) {
  let token = ""; // in memory only: gone with the page
  let isAsked = false; // for a token

  async function call(path, { method = "GET", query = {}, body, signal } = {}) {
    const used = token;
    const answer = await fetch(address(path, query), {
      method,
      signal,
      cache: "no-store",
      headers: {
        ...(used && { authorization: `Bearer ${used}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (answer.ok) return answer;
    const error = await answer.json().catch(() => ({}));
    const failure = new ApiError(answer.status, error.code || "", error.message || `the server answered ${answer.status}`);
    if (answer.status === 401 || (answer.status === 403 && used)) ask(used);
    throw failure;
  }

  // Several calls may fail for the same reason: one asks.
  function ask(used) {
    if (used !== token || isAsked) return;
    token = "";
    isAsked = true;
    onToken(used ? "The server does not accept this token." : "");
  }

  const json = async (path, options) => (await call(path, options)).json();

  // What headers say of a page, whatever is on it.
  const paging = ({ headers }) => ({
    hasMore: headers.get("x-has-more") === "true",
    nextOffset: headers.get("x-next-offset"),
    head: Number(headers.get("x-head") || 0),
    oldest: Number(headers.get("x-oldest") || 0),
    epoch: headers.get("x-epoch") || "",
    lost: Number(headers.get("x-lost") || 0),
    isComplete: headers.get("x-complete") !== "false",
    leftOut: Number(headers.get("x-left-out") || 0),
  });

  async function items(path, query, options) {
    const answer = await call(path, { query, ...options });
    return { ...paging(answer), cursor: answer.headers.get("x-cursor") || "", items: await answer.json() };
  }

  const orNull = (error) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  };

  return {
    kind: "server",
    authorize(text) {
      token = text;
      isAsked = false;
    },
    async events(query, options) {
      const answer = await call("telemetry/events", { query, ...options });
      return { ...paging(answer), events: await answer.json() };
    },
    async event(seq, epoch, options) {
      const after = epoch ? `${seq - 1}-${epoch}` : seq - 1;
      const answer = await call("telemetry/events", { query: { offset: after, limit: 1 }, ...options });
      const text = (await answer.text()).slice(1, -1);
      if (text === "") return null;
      const envelope = JSON.parse(text);
      return envelope.seq === seq ? { envelope, text } : null;
    },
    requests: (query, options) => items("telemetry/requests", query, options),
    navigations: (query, options) => items("telemetry/navigations", query, options),
    problems: (query, options) => items("telemetry/problems", query, options),
    request: (seq, options) => json(`telemetry/requests/${seq}`, options).catch(orNull),
    counts: (query, options) => json("telemetry/counts", { query, ...options }),
    state: (options) => json("telemetry", options).catch(orNull),
    sinks: (options) => json("telemetry/sinks", options),
    readers: (options) => json("telemetry/readers", options),
    put: (config) => json("telemetry", { method: "PUT", body: config }),
    patch: (config) => json("telemetry", { method: "PATCH", body: config }),
    stop: () => json("telemetry", { method: "DELETE" }),
    async types(options) {
      const document = await json("openapi.json", options);
      return knownTypes(document);
    },
    async view(file) {
      const answer = await fetch("telemetry/view", {
        method: "POST",
        headers: { ...(token && { authorization: `Bearer ${token}` }), "content-type": "application/octet-stream" },
        body: file,
      });
      const answered = await answer.json();
      if (!answer.ok) throw new ApiError(answer.status, answered.code || "", answered.message || "not read");
      const { headers } = answer;
      return { ...answered, unread: Number(headers.get("x-unread") || 0), isCut: headers.get("x-complete") === "false" };
    },
    link: (path, query) => new URL(address(path, query), location.href).href,
    download: async (path, query) => (await call(path, { query })).blob(),
    follow: (after, handlers) => follow(call, after, handlers),
  };
}

// The same calls, of whichever source was given last to `use`.
export function switchable(first) {
  let current = first;
  const use = (next) => {
    current = next;
  };
  return new Proxy({}, { get: (_, name) => (name === "use" ? use : current[name]) });
}

// Relative to the page's own address, so that a prefix in front of the path works.
function address(path, query = {}) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    const text = Array.isArray(value) ? value.join(",") : value === null || value === undefined ? ""
      : typeof value === "number" && (name === "since" || name === "until") ? moment(value) : String(value);
    if (text !== "") parts.set(name, text);
  }
  const text = String(parts);
  return text ? `${path}?${text}` : path;
}

// Microseconds since the Unix epoch, as RFC 3339.
function moment(ts) {
  const whole = Math.floor(ts / 1000);
  const micros = String(Math.floor(ts - whole * 1000)).padStart(3, "0");
  return new Date(whole).toISOString().replace("Z", `${micros}Z`);
}

// Of the schema of what is published: a known type, or any other with a category.
function knownTypes(document) {
  const { type } = document.components?.schemas?.PublishKnown?.properties || {};
  return Array.isArray(type?.enum) ? type.enum : [];
}

// ---- the stream ----

// Follows the stream after a cursor, and resumes where it broke off, until `close()` of the answer is called.
// The handlers, each with plain values:
//   frames([{text, id}])          envelopes as they came, those of one read at once
//   notice(name, value, text)     hello, gap, session, filter, beat, bye
//   connection(state, text)       "live", "waiting" or "failed"
function follow(call, after, handlers) {
  let last = after;
  let closed = false;
  let attempt = null;
  let retry = RETRY_MS;
  let timer = 0;

  async function open() {
    const mine = (attempt = new AbortController());
    const silence = { timer: 0 };
    const alive = () => {
      clearTimeout(silence.timer);
      silence.timer = setTimeout(() => mine.abort(), SILENCE_MS);
    };
    let wait = retry;
    let why = "the connection broke";
    try {
      alive();
      const query = { after: last, notices: "true" };
      const answer = await call("telemetry/stream", { query, signal: mine.signal });
      retry = RETRY_MS;
      wait = retry;
      const parse = sseParser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (closed || mine !== attempt) return;
        if (done) break;
        alive();
        const frames = [];
        for (const message of parse(value)) {
          if (message.retry !== undefined) wait = Math.max(message.retry, 0);
          if (message.id) last = message.id;
          if (message.data === undefined) continue;
          if (message.event === "message") {
            frames.push({ text: message.data, id: message.id });
            continue;
          }
          if (frames.length > 0) handlers.frames(frames.splice(0));
          const notice = parsed(message.data);
          if (notice === null) continue; // a newer server may write it differently
          if (message.event === "bye") why = byeReason(notice.reason);
          handlers.notice(message.event, notice, message.data);
        }
        if (frames.length > 0) handlers.frames(frames);
      }
    } catch (error) {
      if (closed || mine !== attempt) return;
      if (error instanceof ApiError) {
        why = error.message;
        if (error.status === 401 || error.status === 403) return; // a token comes first, then `reopen`
        if (error.status === 400) {
          handlers.connection("failed", why);
          return;
        }
      }
    } finally {
      clearTimeout(silence.timer);
    }
    retry = Math.min(2 * retry, MAX_RETRY_MS);
    handlers.connection("waiting", `${why}; reconnecting`);
    timer = setTimeout(open, wait);
  }

  open();
  return {
    // Now, and not after the wait: with a new token, or because a person asks for it.
    reopen() {
      clearTimeout(timer);
      if (attempt) attempt.abort();
      open();
    },
    close() {
      closed = true;
      clearTimeout(timer);
      if (attempt) attempt.abort();
    },
  };
}

const byeReason = (reason) => ({ shutdown: "the server is stopping", failed: "the server failed" }[reason] || String(reason));

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

// A function that takes the next part of a stream of Server-Sent Events and answers the messages that are complete:
// {event, data, id, retry}; `data` is undefined where there was none.
export function sseParser() {
  let rest = "";
  let message = {};
  return (part) => {
    const messages = [];
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (Object.keys(message).length > 0) messages.push({ event: "message", ...message });
        message = {};
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue; // a comment
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
      if (name === "data") message.data = message.data === undefined ? value : `${message.data}\n${value}`;
      else if (name === "event" || name === "id") message[name] = value;
      else if (name === "retry") message.retry = Number(value);
    }
    return messages;
  };
}
