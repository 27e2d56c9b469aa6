// The connection, the session with what it captures, the sinks, and the readers: what the server said last.

import { button, make } from "./dom.js";
import { count, duration, events as number, size, USER_CATEGORIES } from "./text.js";

const POLL_MS = 2000;

export function mount(root, { store, source, live }) {
  // ---- elements ----

  const link = make("p", { class: "link", role: "status" });
  const retry = button("Reconnect", () => live.reopen(), { hidden: true });
  const lost = make("span", { class: "lost" });
  const session = make("summary", {});
  const sinks = make("summary", {});
  const readers = make("summary", {});
  const sessionBody = make("div", { class: "sheet" });
  const sinkBody = make("div", { class: "sheet" });
  const readerBody = make("div", { class: "sheet" });
  const menus = [[session, sessionBody], [sinks, sinkBody], [readers, readerBody]]
    .map(([summary, body]) => make("details", { class: "menu", ontoggle: opened }, summary, body));
  const zone = button("", () => store.set({ zone: store.get().zone === "utc" ? "local" : "utc" }), { title: "Switch the time zone" });
  const token = tokenForm((text) => {
    source.authorize(text);
    store.set({ connection: { state: "connecting", text: "connecting" } });
    live.reopen();
  });
  root.append(link, retry, lost, ...menus, zone, token.form);

  // One menu at a time; a click elsewhere or Esc closes it.
  function opened({ target }) {
    if (!target.open) return;
    for (const menu of menus) if (menu !== target) menu.open = false;
    poll();
  }
  const closeAll = () => menus.forEach((menu) => (menu.open = false));
  document.addEventListener("click", ({ target }) => {
    if (!menus.some((menu) => menu.contains(target))) closeAll();
  });
  // Before the page's own keys: Esc closes one thing at a time.
  document.addEventListener("keydown", (key) => {
    const menu = menus.find((one) => one.open);
    if (key.key !== "Escape" || !menu) return;
    key.stopPropagation();
    closeAll();
    menu.firstChild.focus();
  }, true);

  // ---- connection ----

  function drawConnection({ connection, losses, isLossKnown, zone: now, origin }) {
    const { state, text } = connection;
    link.dataset.state = state;
    link.textContent = state === "token" ? "waiting for a token" : state === "file" ? origin.name || "a file" : text;
    retry.hidden = state !== "waiting" && state !== "failed";
    token.show(state === "token", text);
    const missing = losses.reduce((sum, loss) => sum + loss.count, 0);
    const isExact = losses.every((loss) => loss.exact);
    lost.textContent = `${isExact ? "" : "≤ "}${count(missing)} lost`;
    lost.classList.toggle("bad", missing > 0);
    lost.title = losses.map((loss) => `${number(loss.count)}: seq ${count(loss.from)} to ${count(loss.to)}, ${loss.why}`).join("\n");
    zone.textContent = now === "utc" ? "UTC" : `local time (${offset()})`;
    for (const menu of menus) menu.hidden = origin.kind === "file";
    // Before the server was asked it is not known.
    lost.hidden = state === "connecting" || state === "token" || (missing === 0 && !isLossKnown && state !== "live");
    if (missing === 0 && !isLossKnown) lost.textContent = "? lost";
  }

  // ---- session ----

  const message = make("p", { role: "status" });
  const boxes = new Map(USER_CATEGORIES.map((category) => [category, make("input", { type: "checkbox" })]));

  async function change(what, call) {
    message.className = "quiet";
    message.textContent = `${what} …`;
    try {
      const state = await call();
      store.set({ session: state.session_id ? state : null });
      message.textContent = `${what}: confirmed.`;
    } catch (error) {
      message.className = "bad";
      message.textContent = `${what}: ${error.message}`;
      drawSession(store.get());
    }
  }

  const configOf = (names) => ({ browser: Object.fromEntries(USER_CATEGORIES.map((name) => [name, { enabled: names.has(name) }])) });

  for (const [category, box] of boxes) {
    box.addEventListener("change", () => {
      if (store.get().session === null) return; // applies when it starts
      change(`${category} ${box.checked ? "on" : "off"}`, () => source.patch({ browser: { [category]: { enabled: box.checked } } }));
    });
  }

  const start = button("Start a session", () => change("start", () => {
    const chosen = new Set([...boxes].filter(([, box]) => box.checked).map(([category]) => category));
    return source.put(chosen.size === 0 ? {} : configOf(chosen));
  }));
  const again = button("Start a new one", () => change("start", async () => {
    const { config } = store.get().session;
    await source.stop();
    return source.put(config);
  }));
  const stop = button("Stop", () => change("stop", () => source.stop()));
  const about = make("p", {});
  sessionBody.append(about, make("fieldset", {}, make("legend", {}, "captured"),
    [...boxes].map(([category, box]) => make("label", { "data-category": category }, box, make("span", {}, category)))),
  make("p", { class: "quiet" }, "system and monitor are always captured."),
  make("p", { class: "actions" }, start, again, stop), message);

  const captured = (state) => {
    const browser = (state && state.config && state.config.browser) || {};
    return USER_CATEGORIES.filter((category) => browser[category] && browser[category].enabled);
  };

  let shown;
  function drawSession({ session: state }) {
    if (state === undefined) {
      session.textContent = "session …";
      return;
    }
    const on = captured(state);
    const which = on.length === USER_CATEGORIES.length ? "all categories" : on.join(", ");
    session.textContent = state === null ? "no session" : `session: ${which}`;
    session.classList.toggle("warn", state === null);
    about.textContent = state === null ? "No session is on: nothing is captured."
      : `${state.session_id}, after seq ${count(state.session_start_seq || 0)}, as configured ${new Date(state.applied_at).toLocaleString()}.`;
    if (shown !== state) {
      for (const [category, box] of boxes) box.checked = state === null || on.includes(category);
    }
    shown = state;
    start.hidden = state !== null;
    again.hidden = state === null;
    stop.hidden = state === null;
  }

  // ---- sinks and readers ----

  let timer = 0;
  async function poll() {
    clearTimeout(timer);
    if (source.kind === "server" && !document.hidden && store.get().connection.state === "live") {
      await Promise.all([
        source.sinks().then(drawSinks, (error) => failed(sinks, "sinks ?", sinkBody, error)),
        source.readers().then(drawReaders, (error) => failed(readers, "readers ?", readerBody, error)),
      ]);
    }
    timer = setTimeout(poll, POLL_MS);
  }

  function failed(summary, text, body, error) {
    summary.textContent = text;
    body.replaceChildren(make("p", { class: "bad" }, error.message));
  }

  function drawSinks({ sinks: all }) {
    const bad = all.filter((sink) => sink.last_error || sink.lost > 0 || sink.failed > 0 || sink.rejected > 0);
    const lag = all.reduce((most, sink) => Math.max(most, sink.lag), 0);
    sinks.textContent = all.length === 0 ? "no sinks" : `${all.length} ${all.length === 1 ? "sink" : "sinks"}${lag > 0 ? `, lag ${count(lag)}` : ""}${bad.length > 0 ? ", errors" : ""}`;
    sinks.classList.toggle("bad", bad.length > 0);
    if (!sinkBody.parentElement.open) return;
    sinkBody.replaceChildren(all.length === 0
      ? make("p", { class: "quiet" }, "Events are in this server's memory only. --archive, --otlp-endpoint and others add sinks.")
      : grid(["sink", "on", "lag", "exported", "excluded", "rejected", "failed", "pending", "recovered", "lost", "last error"],
        all.map((sink) => [sink.name, sink.on ? "on" : "off", count(sink.lag), count(sink.exported), count(sink.excluded),
          count(sink.rejected), count(sink.failed), count(sink.pending), count(sink.recovered),
          count(sink.lost), sink.last_error || ""])));
  }

  function drawReaders({ readers: all }) {
    const missing = all.reduce((sum, reader) => sum + (reader.lost || 0), 0);
    readers.textContent = `${all.length} ${all.length === 1 ? "reader" : "readers"}${missing > 0 ? `, ${count(missing)} lost` : ""}`;
    readers.classList.toggle("bad", missing > 0);
    if (!readerBody.parentElement.open) return;
    readerBody.replaceChildren(all.length === 0 ? make("p", { class: "quiet" }, "Nothing reads.")
      : grid(["reader", "kind", "from", "behind", "delivered", "filtered", "lost", "asks for"],
        all.map((reader) => [reader.id, reader.kind, reader.peer,
          `${number(reader.behind_events)}${reader.behind_events > 0 ? `, ${size(reader.behind_bytes)}, ${duration(reader.behind_seconds * 1000)}` : ""}`,
          count(reader.delivered), count(reader.filtered), count(reader.lost || 0),
          [...(reader.category || []), ...(reader.type || [])].join(", ") || "everything"])));
  }

  store.on(["connection", "losses", "isLossKnown", "zone", "origin"], drawConnection);
  store.on(["connection"], ({ connection }) => connection.state === "live" && poll());
  store.on(["session"], drawSession);
  drawConnection(store.get());
  drawSession(store.get());
  sinks.textContent = "sinks …";
  readers.textContent = "readers …";
  poll();
}

function offset() {
  const minutes = -new Date().getTimezoneOffset();
  const hours = Math.floor(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest > 0 ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

function grid(names, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, cell))))));
}

// The token is in memory only, and leaves the form at once.
function tokenForm(connect) {
  const input = make("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const note = make("span", { role: "alert" });
  const form = make("form", { class: "token", hidden: true,
    onsubmit: (submit) => {
      submit.preventDefault();
      const text = input.value;
      input.value = "";
      connect(text);
    } },
  make("label", {}, "This server needs a token ", input), make("button", {}, "Connect"), note);
  return {
    form,
    show(isShown, text) {
      const wasHidden = form.hidden;
      form.hidden = !isShown;
      note.textContent = isShown ? text : "";
      if (isShown && wasHidden) input.focus();
    },
  };
}
