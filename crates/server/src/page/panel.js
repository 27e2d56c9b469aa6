// What is known of the one thing that was chosen: in words first, then its data, then where it came from.
//
// It stays still: nothing in it moves because events arrive. Where what it shows has changed, it offers to read it again.

import { button, copy, make } from "./dom.js";
import { isBad } from "./joins.js";
import { count, dataOf, dateOf, duration, events as number, isProblem, short, size, spread, summaryOf, timeOf } from "./text.js";

// How much JSON is laid out.
const MAX_CHARS = 200_000;
// For how long after its beginning problems of a request or a page are asked for.
const PROBLEMS_US = 30_000_000;
// What happened around it: so far away, and so many.
const AROUND_US = 2_000_000;
const MAX_AROUND = 50;
// Why an answer has no body, by the server's words for it.
const OMITTED = {
  not_text: "Not captured: it is no text.",
  too_large: "Not captured: it is longer than 4 MiB.",
  open: "Not captured: the answer was reported before its end.",
  broken_off: "Not captured: it broke off.",
  not_read: "Not captured: the page did not read it to its end.",
  earlier: "Not captured: it was loaded before the browser was followed.",
  unknown: "Not captured.",
};

export function mount(root, { store, source, joins }) {
  let shown = null; // {selection, updated}
  let attempt = null;
  let picture = "";

  const close = () => store.set({ selection: null });
  const select = (kind, seq, more = {}) => store.set({ selection: { kind, seq, ...more } });

  async function show() {
    const { selection } = store.get();
    if (attempt) attempt.abort();
    attempt = new AbortController();
    if (picture) URL.revokeObjectURL(picture);
    picture = "";
    root.hidden = selection === null;
    if (selection === null) {
      root.replaceChildren();
      return;
    }
    const { signal } = attempt;
    let parts;
    try {
      parts = await describe(selection, signal);
    } catch (error) {
      if (signal.aborted) return;
      parts = [make("p", { class: "sentence" }, `Not loaded: ${error.message}`)];
    }
    if (signal.aborted) return;
    shown = { selection, updated: updatedOf(selection) };
    root.replaceChildren(head(selection), ...parts);
    root.scrollTop = 0;
  }

  const head = (selection) => make("div", { class: "panel-head" },
    make("h2", {}, { event: "Event", request: "Request", navigation: "Navigation", problem: "Problem" }[selection.kind]),
    make("span", { class: "quiet" }, `seq ${count(selection.seq)}`),
    changed,
    button("✕", close, { "aria-label": "Close the details", class: "close" }));

  const changed = button("It has changed: show", show, { hidden: true });

  // ---- what there is to say ----

  async function describe(selection, signal) {
    changed.hidden = true;
    const found = await source.event(selection.seq, selection.epoch, { signal });
    if (selection.kind === "request") return describeRequest(selection, found, signal);
    if (selection.kind === "navigation") return describeNavigation(selection, found, signal);
    if (selection.kind === "problem") return describeProblem(selection, found, signal);
    return describeEvent(selection, found, signal);
  }

  async function describeEvent(selection, found, signal) {
    if (found === null) {
      // A HAR has no events, but knows the requests that they are of.
      const isOf = (it) => [it.seq, it.hop_seq, it.end?.seq].includes(selection.seq);
      const request = store.get().origin.har ? joins.known("requests").find(isOf) : undefined;
      return request ? describeRequest({ ...selection, seq: request.seq }, null, signal) : [gone(selection)];
    }
    const { event } = found.envelope;
    const request = await requestOf(event, found.envelope.seq, signal);
    const problem = isProblem(event) ? await itemOf("problems", found.envelope.seq, event.ts, signal) : null;
    const sentence = request && request.seq !== undefined ? request.sentence : problem ? problem.text : summaryOf(event);
    return [
      make("p", { class: isProblem(event) ? "sentence bad" : "sentence" }, `${sentence || event.type}`),
      request ? requestWords(request) : null,
      request && button("The whole request", () => select("request", request.seq)),
      problem ? followed([problem]) : null,
      image(event),
      copies(found, request),
      around(event, found.envelope.seq),
      section("data", pre(dataOf(found.text) ?? "absent")),
      metadata(found),
    ].filter(Boolean);
  }

  async function describeRequest(selection, found, signal) {
    const request = await source.request(selection.seq, { signal });
    if (request === null) return describeEvent(selection, found, signal);
    const problems = await problemsOf("request", request.seq, request.ts, signal);
    const { response, timing } = request;
    return [
      make("p", { class: isBad(request) ? "sentence bad" : "sentence" }, request.sentence),
      requestWords(request),
      problems === null && section("problems", make("p", { class: "bad" }, "Not loaded.")),
      problems?.length > 0 && followed(problems, [request.seq, request.end?.seq]),
      copies(found, request),
      timing && section("phases", phases(timing, request.duration_ms)),
      request.redirects && section("redirects", list(request.redirects.map((hop) => `${hop.status ?? ""} ${hop.method || ""} ${hop.url} → ${hop.to}`))),
      response && section(`answer ${response.status || ""}`, table(response.headers)),
      response && response.body !== undefined && section("body", pre(response.body, false)),
      response && response.body_omitted !== undefined && section("body", make("p", { class: "quiet" }, OMITTED[response.body_omitted] ?? OMITTED.unknown)),
      section("request headers", table(request.headers)),
      request.post_data !== undefined && section("posted", pre(request.post_data, false)),
      found && around(found.envelope.event, selection.seq),
      found && section("data of its first event", pre(dataOf(found.text) ?? "absent")),
      found && metadata(found),
    ].filter(Boolean);
  }

  async function describeNavigation(selection, found, signal) {
    const navigation = await itemOf("navigations", selection.seq, found && found.envelope.event.ts, signal);
    if (navigation === null) return describeEvent(selection, found, signal);
    const { zone } = store.get();
    const from = navigation.start_ts;
    const until = navigation.replaced ?? navigation.load ?? navigation.ts;
    const milestones = [["began", from], ["document", navigation.ts], ["parsed", navigation.dom_content_loaded],
      ["loaded", navigation.load], ["largest paint", navigation.lcp && navigation.lcp.ts],
      ["network idle", navigation.network_idle], ["settled", navigation.settled], ["crashed", navigation.crashed],
      ["left", navigation.replaced]].filter(([, ts]) => ts);
    const problems = await problemsOf("navigation", navigation.seq, navigation.ts, signal);
    return [
      make("p", { class: "sentence" }, `${navigation.parent_frame_id ? "A frame went" : "The tab went"} to ${navigation.url}`),
      make("dl", {}, milestones.map(([name, ts]) => [make("dt", {}, name),
        make("dd", { title: dateOf(ts, zone) }, ts === from ? timeOf(ts, zone) : `+${duration((ts - from) / 1000)}`)])),
      make("p", {}, store.get().origin.har ? `Layout shift ${Number((navigation.cls || 0).toFixed(3))}.`
        : `Layout shift ${Number((navigation.cls || 0).toFixed(3))} in ${count(navigation.layout_shifts || 0)} shifts.`),
      navigation.lost > 0 && make("p", { class: "bad" }, `At most ${number(navigation.lost)} are missing: what is not here may have happened.`),
      button("Only this navigation", () => store.set({ range: { since: from - 1000, until: Math.max(until, from) + 1000 } })),
      navigation.request !== undefined && button("Its request", () => select("request", navigation.request)),
      problems === null ? section("problems", make("p", { class: "bad" }, "Not loaded."))
        : section(`problems (${problems.length})`, moments(problems, from, "problem")),
      found && section("data", pre(dataOf(found.text) ?? "absent")),
      found && metadata(found),
    ].filter(Boolean);
  }

  async function describeProblem(selection, found, signal) {
    const problem = await itemOf("problems", selection.seq, found && found.envelope.event.ts, signal);
    if (problem === null) return describeEvent(selection, found, signal);
    const request = problem.request === undefined ? null : await source.request(problem.request, { signal }).catch(() => null);
    return [
      make("p", { class: "sentence bad" }, problem.text),
      problem.withdrawn !== undefined && make("p", {}, "It was taken back later."),
      request && make("p", {}, request.sentence),
      request && requestWords(request),
      request && button("The request", () => select("request", problem.request)),
      !request && problem.navigation !== undefined && button("The page", () => select("navigation", problem.navigation)),
      problem.caused_by !== undefined && button("The command that caused it", () => select("event", problem.caused_by)),
      problem.before && section("before it", moments(problem.before, problem.ts)),
      followed([problem]),
      copies(found, request),
      found && around(found.envelope.event, selection.seq),
      found && section("data", pre(dataOf(found.text) ?? "absent")),
      found && metadata(found),
    ].filter(Boolean);
  }

  const gone = ({ seq }) => make("p", { class: "sentence" }, store.get().origin.har
    ? `A HAR has no events: of seq ${count(seq)} nothing else is known.`
    : store.get().origin.kind === "file" ? `The event with seq ${count(seq)} is not in this file.`
    : `The event with seq ${count(seq)} is not retained any more${store.get().hasArchive === false ? ", and the server has no archive" : ""}.`);

  // ---- what belongs to it ----

  // The request that an event is about.
  async function requestOf(event, seq, signal) {
    const id = event.data !== null && typeof event.data === "object" ? event.data.request_id : undefined;
    if (typeof id !== "string" || event.category !== "network") return null;
    const known = joins.known("requests").findLast((request) => request.request_id === id && request.seq <= seq);
    if (known) return known;
    if (event.type !== "network_request") return null;
    return source.request(seq, { signal }).catch(() => null);
  }

  // A problem or a navigation; a fresh page asks for those of that moment.
  async function itemOf(kind, seq, ts, signal) {
    const known = joins.find(kind, seq);
    if (known || !ts) return known || null;
    const { items } = await source[kind]({ since: ts - 1_000_000, until: ts + 1_000_000, limit: 1000 }, { signal }).catch(() => ({ items: [] }));
    return items.find((item) => item.seq === seq) || null;
  }

  // The problems of a request or a navigation; a fresh page asks for those of that time. Null where they cannot be loaded.
  async function problemsOf(kind, seq, ts, signal) {
    const isIts = (problem) => problem[kind] === seq;
    const known = joins.known("problems").filter(isIts);
    if (known.length > 0 || joins.status().isRead) return known;
    const query = { since: ts - 1_000_000, until: ts + PROBLEMS_US, limit: 1000 };
    const answer = await source.problems(query, { signal }).catch(() => null);
    return answer && answer.items.filter(isIts);
  }

  function updatedOf({ kind, seq }) {
    const item = kind === "event" ? null : joins.find(`${kind}s`, seq);
    return item ? item.updated : null;
  }

  function requestWords(request) {
    const who = {
      parser: "the document's markup", script: "a script", preload: "a preload", preflight: "a preflight of CORS",
      SignedExchange: "a signed exchange", other: "",
    }[request.initiator_type] ?? request.initiator_type;
    const place = request.initiator_url === undefined ? "" : request.initiator_line === undefined ? request.initiator_url
      : `line ${request.initiator_line} of ${request.initiator_url}`;
    const words = [
      place ? `Requested by ${place}`
        : who || request.document_url ? `Requested by ${who || "the page"}${request.document_url ? ` of ${request.document_url}` : ""}` : "",
      request.resource_type ? `as ${request.resource_type}` : "",
      request.encoded_bytes !== undefined ? `${size(request.encoded_bytes)} received` : "",
      request.response && request.response.from_cache ? `from the cache (${request.response.from_cache})` : "",
    ].filter(Boolean);
    const { cors_error: cors, blocked_reason: reason } = request.failure ?? {};
    const rule = cors ? ` The browser did not let the page read the answer, by a rule of CORS: ${cors}.`
      : reason ? ` The browser blocked it: ${reason}.` : "";
    return make("p", {}, (words.length > 0 ? `${words.join(", ")}.` : "") + rule,
      request.navigation !== undefined && [" ", button("The page", () => select("navigation", request.navigation))],
      request.caused_by !== undefined && [" ", button("The command that caused it", () => select("event", request.caused_by))]);
  }

  // What the server found after these problems, in the same tab; `but`: their own events.
  function followed(problems, but = []) {
    const from = Math.min(...problems.map(({ ts }) => ts));
    const own = new Set([...but, ...problems.map(({ seq }) => seq)]);
    const after = new Map(problems.flatMap((problem) => problem.after || []).map((moment) => [moment.seq, moment]));
    const items = [...after.values()].filter(({ seq }) => !own.has(seq)).sort((a, b) => a.ts - b.ts);
    const isSettled = problems.every((problem) => problem.is_settled !== false);
    const lost = Math.max(...problems.map((problem) => problem.lost || 0));
    const unseen = [...new Set(problems.flatMap((problem) => problem.not_captured || []))];
    const nothing = store.get().origin.har ? "No other request or page of this HAR, in the same tab, within 2 s. What the console said is not in it."
      : `Nothing ${unseen.length > 0 ? "of what was captured" : "that matters"}, in the same tab, within 2 s.`;
    return section(isSettled ? "what followed" : "what followed so far",
      items.length > 0 ? moments(items, from) : make("p", { class: "quiet" }, nothing),
      unseen.length > 0 && make("p", { class: "bad" }, `Not captured then: ${unseen.join(", ")}.`),
      lost > 0 && make("p", { class: "bad" }, `At most ${count(lost)} events are missing here.`));
  }

  // Rows of {seq, ts, text}, each to be chosen.
  function moments(items, from, kind = "event") {
    return make("ol", { class: "moments" }, items.map((item) => make("li", {},
      button([
        make("span", { class: "quiet" }, `${item.ts < from ? "−" : "+"}${duration(Math.abs(item.ts - from) / 1000)}`),
        make("span", { class: item.isBad ? "bad" : "" }, wordsOf(item)),
      ], () => select(kind, item.seq), { class: item.isThis ? "this" : "", "aria-current": item.isThis || null }))));
  }

  // An address alone does not say what happened there.
  const wordsOf = ({ type, text }) => (type && /^\w+:\S*$/.test(text) ? `${type.replaceAll("_", " ")}  ${text}` : text);

  function around(event, seq) {
    const target = event.data !== null && typeof event.data === "object" && typeof event.data.target_id === "string"
      ? event.data.target_id : "";
    const place = make("div", {});
    const range = { since: event.ts - AROUND_US, until: event.ts + AROUND_US };
    const { epoch } = store.get().selection;
    const cursor = epoch ? `${seq}-${epoch}` : seq;
    const look = async () => {
      place.replaceChildren(make("p", { class: "quiet" }, "…"));
      try {
        const query = { ...range, contains: target, offset: cursor, limit: MAX_AROUND };
        const [before, after] = await Promise.all(["desc", "asc"].map((order) => source.events({ ...query, order })));
        const rowOf = (other) => ({ seq: other.seq, ts: other.event.ts, isThis: other.seq === seq, isBad: isProblem(other.event),
          text: `${other.event.type}  ${short(summaryOf(other.event), 200)}` });
        const items = [...before.events.reverse(), { seq, event }, ...after.events]
          .filter((other) => target === "" || (other.event.data && other.event.data.target_id === target)).map(rowOf);
        const lost = before.lost + after.lost;
        place.replaceChildren(before.hasMore ? make("p", { class: "quiet" }, "… and what was before these") : "",
          moments(items, event.ts),
          after.hasMore ? make("p", { class: "quiet" }, "… and what came after these") : "",
          lost > 0 ? make("p", { class: "bad" }, `At most ${count(lost)} events are missing here.`) : "",
          button("Show these 4 s everywhere", () => store.set({ range })));
        place.querySelector(".this")?.scrollIntoView({ block: "center" });
      } catch (error) {
        place.replaceChildren(make("p", { class: "bad" }, `Not loaded: ${error.message}`));
      }
    };
    const details = make("details", { ontoggle: () => details.open && place.childElementCount === 0 && look() },
      make("summary", {}, `what happened around this${target ? ", in the same tab" : ""} (2 s before and after)`), place);
    return details;
  }

  // ---- copying ----

  function copies(found, request) {
    const offer = (label, text) => button(label, async (click) => {
      const isCopied = await copy(await text());
      click.target.textContent = isCopied ? "Copied" : "Not copied: the browser refuses";
      setTimeout(() => (click.target.textContent = label), 1500);
    });
    return make("p", { class: "actions" },
      found && offer("Copy JSON", () => found.text),
      request ? offer("Copy as curl", async () => curlOf(await source.request(request.seq).catch(() => null) || request))
        : found && source.kind === "server" && offer("Copy as curl", () => `curl ${quoted(source.link("telemetry/events", { offset: found.envelope.seq - 1, limit: 1 }))}`),
      offer("Copy link", () => location.href));
  }

  // ---- pictures ----

  function image(event) {
    const png = event.data && typeof event.data === "object" ? event.data.png : undefined;
    if (typeof png !== "string") return null;
    let bytes;
    try {
      bytes = Uint8Array.from(atob(png), (char) => char.charCodeAt(0));
    } catch {
      return null; // no base64
    }
    picture = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    return make("img", { src: picture, alt: "Screenshot of the page at that moment" });
  }

  function metadata({ envelope, text }) {
    const { event } = envelope;
    const source_ = event.source || {};
    return section("metadata", table({
      seq: String(envelope.seq), time: dateOf(event.ts, store.get().zone), type: event.type, category: event.category,
      source: [source_.kind, source_.event].filter(Boolean).join(" · "), ...source_.metadata, size: size(text.length),
      ...(event.truncated && { truncated: "data was dropped: the event was too large" }),
    }));
  }

  store.on(["selection", "zone"], show);
  store.on(["origin"], show);
  joins.on(() => {
    if (shown && store.get().selection === shown.selection && shown.updated !== null) {
      changed.hidden = updatedOf(shown.selection) === shown.updated;
    }
  });
  show();
}

// ---- parts ----

const section = (title, ...content) => make("section", {}, make("h3", {}, title), ...content.filter(Boolean));
const list = (lines) => make("ol", {}, lines.map((line) => make("li", {}, line)));

function pre(text, isJson = true) {
  const most = text.slice(0, MAX_CHARS);
  const rest = text.length > most.length ? `\n… cut here after ${count(most.length)} of ${count(text.length)} characters` : "";
  return make("pre", { tabindex: "0" }, (isJson ? spread(most) : most) + rest);
}

function table(values) {
  const entries = Object.entries(values || {});
  if (entries.length === 0) return make("p", { class: "quiet" }, "none");
  return make("table", {}, make("tbody", {}, entries.map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value))))));
}

function phases(timing, total) {
  const names = ["blocked", "dns", "connect", "tls", "send", "wait", "receive"];
  const values = Object.fromEntries(names.filter((name) => timing[name] > 0).map((name) => [name, duration(timing[name])]));
  return table({ ...values, ...(total !== undefined && { total: duration(total) }) });
}

// ---- curl ----

// A word for a shell. Between single quotes nothing has a meaning but the quote itself.
export const quoted = (word) => `'${String(word).replaceAll("\0", "").replaceAll("'", "'\\''")}'`;

// The request once more. `-g`: brackets in an address are no patterns; headers are only taken where their names can be
// names, since curl would read a file for one that begins with `@`.
export function curlOf(request) {
  const words = ["curl -g", "--url", quoted(request.url)];
  if (request.method && request.method !== "GET") words.push("-X", quoted(request.method));
  for (const [name, value] of Object.entries(request.headers || {})) {
    if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) words.push("-H", quoted(`${name}: ${String(value).replaceAll("\n", ", ")}`));
  }
  if (request.post_data !== undefined) words.push("--data-raw", quoted(request.post_data));
  return words.join(" ");
}
