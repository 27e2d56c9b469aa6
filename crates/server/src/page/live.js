// The stream of events as it comes: keeps what the store knows of it, and hands events on, those of a frame at once.
//
// It follows everything, whatever the filter: so a filter never changes what is counted as lost, and how many events
// it hides is known at once.
//
//   live.on(fn)   fn([{seq, epoch, event, text}]) with new events, oldest first; `text` is the JSON of the envelope
//   live.start()  reads from the source that there is now
//   live.reopen() at once, for example with a token

import { events as number } from "./text.js";

// Events that wait for a frame. A page in the background has none: it lets go of the oldest, which are read again
// when they are looked at.
const MAX_WAITING = 5000;
// A page in the background draws nothing, and keeps up all the same.
const HIDDEN_MS = 500;

export function createLive({ store, source }) {
  const listeners = new Set();
  let stream = null;
  let waiting = [];
  let isPlanned = false;
  let newest = null;
  let epoch = ""; // of the events that come

  async function start() {
    if (stream) stream.close();
    stream = null;
    waiting = [];
    if (source.kind === "file") return startFile();
    store.set({ connection: { state: "connecting", text: "connecting" } });
    try {
      const [page, session] = await Promise.all([source.events({ order: "desc", limit: 1 }), source.state()]);
      newest = page.events.length > 0 ? { seq: page.events[0].seq, ts: page.events[0].event.ts } : null;
      epoch = page.epoch;
      store.set({ newest, oldest: page.oldest, epoch, session });
      askForLosses(page);
      source.sinks().then(({ sinks }) => store.set({ hasArchive: sinks.some(({ name }) => name === "archive") }), () => {});
      source.types().then((types) => store.set({ types }), () => {});
      follow(`${page.head}-${page.epoch}`);
    } catch (error) {
      if (error.status === 401 || error.status === 403) return; // until `reopen`
      store.set({ connection: { state: "waiting", text: `${error.message}; trying again` } });
      setTimeout(start, 3000);
    }
  }

  async function startFile() {
    const page = await source.events({ order: "desc", limit: 1 });
    const { har, end } = source;
    epoch = page.epoch;
    store.set({
      newest: end,
      oldest: page.oldest,
      epoch,
      session: null,
      connection: { state: "file", text: "a file" },
    });
    askForLosses(page);
    // Of a HAR only the numbers are known.
    if (har && har.lost > 0) addLoss({ epoch, from: 1, to: 0, count: har.lost, exact: false, since: null, until: null, why: "missing when the file was made" });
    if (har) store.set({ restarts: har.restarts });
  }

  // What this page can never show, since it was gone before.
  async function askForLosses({ oldest }) {
    const first = await source.events({ after: `0-${epoch}`, limit: 1 }).catch(() => null);
    const counts = first && await source.counts({ buckets: 1 }).catch(() => null);
    if (first === null || counts === null) {
      store.set({ isLossKnown: false });
      return;
    }
    if (first.lost > 0) {
      const to = first.events.length > 0 ? first.events[0].seq - 1 : Math.max(oldest - 1, first.lost);
      addLoss({ epoch, from: 1, to, count: first.lost, exact: true, since: null,
        until: first.events.length > 0 ? first.events[0].event.ts : null, why: "evicted before this page was opened" });
    }
    const isFile = source.kind === "file";
    for (const gap of counts.gaps ?? []) {
      const all = gap.to - gap.from + 1;
      addLoss({ epoch, from: gap.from, to: gap.to, count: gap.lost ?? all, exact: !isFile && gap.lost === all, since: gap.since,
        until: gap.until, why: isFile ? "not in this file: lost, or left out of it" : "missing in the archive" });
    }
    store.set({ isLossKnown: counts.complete !== false });
  }

  function follow(after) {
    stream = source.follow(after, {
      connection: (state, text) => store.set({ connection: { state, text } }),
      frames: read,
      notice,
    });
  }

  function read(frames) {
    for (const { text } of frames) {
      let envelope;
      try {
        envelope = JSON.parse(text);
      } catch {
        continue; // no server of ours writes it
      }
      waiting.push({ seq: envelope.seq, epoch, event: envelope.event, text });
    }
    if (waiting.length > 2 * MAX_WAITING) waiting.splice(0, waiting.length - MAX_WAITING);
    plan();
  }

  function plan() {
    if (isPlanned || waiting.length === 0) return;
    isPlanned = true;
    if (document.hidden) setTimeout(hand, HIDDEN_MS);
    else requestAnimationFrame(hand);
  }

  function hand() {
    isPlanned = false;
    if (waiting.length === 0) return;
    const events = waiting;
    waiting = [];
    const last = events[events.length - 1];
    newest = { seq: last.seq, ts: last.event.ts };
    store.set({ newest });
    for (const listener of listeners) listener(events);
  }

  // ---- notices ----

  function notice(name, value) {
    if (name === "hello") readHello(value);
    else if (name === "gap") readGap(value);
    else if (name === "session") readSession(value);
    else if (name === "epoch") enter(value.epoch);
    else if (name === "bye" && value.reason === "expired") stream.reopen();
  }

  function readHello(hello) {
    if (epoch && epoch !== hello.epoch) {
      enter(hello.epoch);
    } else if (hello.reason === "evicted") {
      const from = (hello.asked ? Number.parseInt(hello.asked, 10) : 0) + 1;
      addLoss(loss(from, hello.used, hello.lost, hello.used - from + 1, "evicted while this page was not connected"));
    }
    epoch = hello.epoch;
    store.set({ epoch, oldest: hello.oldest, connection: { state: "live", text: "connected" } });
  }

  // Another run of the server: its seqs begin again.
  function enter(next) {
    if (waiting.length > 0) hand();
    epoch = next;
    newest = null;
    store.set({ epoch, restarts: store.get().restarts + 1, newest });
  }

  const readGap = (gap) => addLoss(loss(gap.from, gap.to, gap.matching, gap.count, "evicted before they were read"));

  const loss = (from, to, exact, most, why) => {
    const isExact = exact !== undefined && exact !== null;
    return { epoch, from, to, count: isExact ? exact : most, exact: isExact, since: newest && newest.ts, until: null, why };
  };

  function addLoss(loss) {
    const { losses } = store.get();
    if (losses.some((known) => known.epoch === loss.epoch && known.from <= loss.from && loss.to <= known.to)) return;
    store.set({ losses: [...losses, loss].sort((a, b) => a.from - b.from) });
  }

  function readSession(session) {
    const { seq, after, ...state } = session;
    store.set({ session: session.session_id ? { ...state, seq } : null });
  }

  return {
    on(fn) {
      listeners.add(fn);
      return () => listeners.delete(fn);
    },
    start,
    reopen: () => (stream ? stream.reopen() : start()),
  };
}

export const lossText = ({ count, exact, why }) => `${exact ? "" : "at most "}${number(count)} lost: ${why}`;
