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
  const server = serverSource({ onToken: (note) => store.set({ connection: { state: "token", text: note } }) });
  const source = switchable(server);
  const live = createLive({ store, source });
  const joins = createJoins({ store, source });

  // Shows a file: what POST /telemetry/view answered. `null`: the server again.
  function open(bundle) {
    source.use(bundle ? fileSource(bundle) : server);
    store.set({
      origin: bundle ? { kind: "file", name: bundle.name } : { kind: "server" },
      losses: [],
      counts: null,
      ...(bundle && { range: null, filter: NO_FILTER, selection: null }),
    });
    live.start();
  }

  const context = { store, source, joins, live, open };
  for (const [id, view] of Object.entries(VIEWS)) view.mount(document.getElementById(id), context);
  // A standalone file brings its events along.
  const bundle = document.getElementById("bundle");
  if (bundle) open(JSON.parse(bundle.textContent));
  else live.start();
}

start();
