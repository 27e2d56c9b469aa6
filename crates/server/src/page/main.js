// Builds the page: the store, where events come from, and the views, each in its element.

import { serverSource, switchable } from "./api.js";
import { createStore, NO_FILTER } from "./store.js";
import { createLive } from "./live.js";
import { createJoins } from "./joins.js";
import { fileSource } from "./file.js";
import * as session from "./session.js";
import * as filters from "./filters.js";
import * as graph from "./graph.js";
import * as band from "./band.js";
import * as waterfall from "./waterfall.js";
import * as list from "./list.js";
import * as panel from "./panel.js";
import * as files from "./files.js";
import * as keys from "./keys.js";

const VIEWS = { session, filters, graph, band, waterfall, list, panel, files, keys };

function start() {
  const store = createStore();
  // A standalone file brings its events along.
  const bundle = document.getElementById("bundle");
  const first = bundle ? fileSource(JSON.parse(bundle.textContent))
    : serverSource({ onToken: (note) => store.set({ connection: { state: "token", text: note } }) });
  if (bundle) store.set({ origin: originOf(first) });
  const source = switchable(first);
  const live = createLive({ store, source });
  const joins = createJoins({ store, source });

  // Shows a file: what POST /telemetry/view answered. `null`: what was there first, as it was.
  let before = null;
  function open(opened) {
    const next = opened ? fileSource(opened) : first;
    const { range, follow, filter, selection } = store.get();
    if (opened) before ??= { range, follow, filter, selection };
    source.use(next);
    store.set({
      origin: originOf(next),
      losses: [],
      isLossKnown: false,
      restarts: 0,
      counts: null,
      ...(opened ? { range: null, follow: true, filter: NO_FILTER, selection: null } : before),
    });
    if (!opened) before = null;
    live.start();
  }

  const context = { store, source, joins, live, open };
  for (const [id, view] of Object.entries(VIEWS)) view.mount(document.getElementById(id), context);
  live.start();
}

const originOf = ({ kind, name, har }) => (kind === "file" ? { kind, name, har } : { kind });

start();
