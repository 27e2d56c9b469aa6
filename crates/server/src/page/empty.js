// Why the list is empty, and what to do about it.

import { NO_FILTER, isEmpty } from "./store.js";
import { count, events as number } from "./text.js";

// {text, actions: [[label, function]]}
export function emptyText(state, { store, source, joins }) {
  const { filter, range, session, counts, losses, newest, origin } = state;
  const showAll = ["Show all events", () => store.set({ filter: NO_FILTER })];
  const goLive = ["Back to now", () => store.set({ range: null, follow: true })];
  const start = ["Start a session", () => source.put({}).then((session) => store.set({ session }), () => {})];

  if (origin.har && !filter.problems) return { text: harText(origin.har), actions: [] };
  if (filter.problems) {
    const { isCut } = joins.status();
    const lost = losses.reduce((sum, loss) => sum + loss.count, 0);
    const doubt = lost > 0 ? ` ${number(lost)} were lost: there may have been problems among them.` : "";
    const others = isEmpty({ ...filter, problems: false }) ? "No problem was found" : "No problem matches this filter";
    if (origin.har) return { text: `${others} among the requests and pages of this HAR. It has no events: what the console said is not known.${doubt}`, actions: [showAll] };
    const unseen = notCaptured(session);
    const blind = session === null && origin.kind === "server" ? " No session is on: what happens now is not seen."
      : unseen.length > 0 ? ` Not captured: ${unseen.join(", ")}.` : "";
    const of = counts ? ` in ${number(counts.events)}` : "";
    const old = isCut ? " Older problems are not kept: a shorter range has them." : "";
    return { text: `${others}${of}.${doubt}${blind}${old}`, actions: [showAll, ...(range ? [goLive] : [])] };
  }
  if (!isEmpty(filter)) {
    const unknown = unknownTypes(filter, state);
    const why = unknown.length > 0
      ? `${unknown.map((type) => `“${type}”`).join(", ")}: no known type, and no event has it.`
      : "No event matches this filter.";
    const hidden = counts ? ` It hides ${count(counts.events - counts.matching)} of ${number(counts.events)}.` : "";
    return { text: why + hidden, actions: [...suggestions(unknown, state, store), showAll, ...(range ? [goLive] : [])] };
  }
  if (range) return { text: "No events in this range.", actions: [goLive] };
  if (origin.kind === "file") return { text: "There are no events in this file.", actions: [] };
  if (session === undefined) return { text: "…", actions: [] };
  if (session === null) {
    return { text: "No session is on: nothing is captured, so there is nothing to see.", actions: [start] };
  }
  return { text: newest ? "…" : "No events yet. The first one appears here at once.", actions: [] };
}

// The categories with most of the problems that the session leaves out.
function notCaptured(session) {
  const browser = session?.config?.browser;
  return browser ? ["console", "network", "page"].filter((category) => !browser[category]?.enabled) : [];
}

// What a HAR does not say.
function harText({ creator, is_ours: isOurs, sanitized }) {
  return [
    `This file is a HAR of ${isOurs ? "Tapline" : creator.slice(0, 100) || "an unknown program"}: it has requests and pages, and no events.`,
    "What the console said, exceptions, clicks and screenshots are not in it.",
    sanitized ? "Secrets were removed from it." : "",
  ].filter(Boolean).join(" ");
}

// Types of the filter that are not known, and that no event has either.
function unknownTypes(filter, { types, counts }) {
  if (!types || types.length === 0) return [];
  const seen = counts ? Object.keys(counts.by_type || {}) : [];
  return filter.type.split(/[\s,]+/).filter((type) => type && !type.includes("*") && !types.includes(type) && !seen.includes(type));
}

function suggestions(unknown, { types, filter }, store) {
  return unknown.slice(0, 3).flatMap((type) => {
    const near = types.map((known) => [distance(type, known), known]).sort(([a], [b]) => a - b)[0];
    if (!near || near[0] > 3) return [];
    const fixed = filter.type.split(/[\s,]+/).map((part) => (part === type ? near[1] : part)).join(", ");
    return [[`Did you mean ${near[1]}?`, () => store.set({ filter: { ...filter, type: fixed } })]];
  });
}

// How many characters differ, as Levenshtein counts them.
function distance(a, b) {
  if (Math.abs(a.length - b.length) > 3) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
