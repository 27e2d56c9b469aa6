// The connection, the session, the sinks and the readers.

import { count } from "./text.js";

export function mount(root, { store, source, live }) {
  const link = document.createElement("p");
  link.id = "link";
  link.setAttribute("role", "status");
  const token = tokenForm((text) => {
    source.authorize(text);
    store.set({ connection: { state: "connecting", text: "connecting" } });
    live.reopen();
  });
  root.append(link, token.form);

  function draw({ connection, session, newest, losses }) {
    link.dataset.state = connection.state;
    const lost = losses.reduce((sum, loss) => sum + loss.count, 0);
    link.textContent = [connection.text, session ? `session ${session.session_id}` : "no session",
      newest ? `head ${count(newest.seq)}` : "", `lost ${count(lost)}`].filter(Boolean).join(" · ");
    token.show(connection.state === "token", connection.text);
  }
  store.on(["connection", "session", "newest", "losses"], draw);
  draw(store.get());
}

function tokenForm(connect) {
  const form = document.createElement("form");
  form.id = "token-form";
  form.hidden = true;
  const label = document.createElement("label");
  label.textContent = "This server needs a token ";
  const input = document.createElement("input");
  input.type = "password";
  input.autocomplete = "off";
  input.spellcheck = false;
  input.required = true;
  label.append(input);
  const button = document.createElement("button");
  button.textContent = "Connect";
  const note = document.createElement("span");
  note.setAttribute("role", "alert");
  form.append(label, button, note);
  form.addEventListener("submit", (submit) => {
    submit.preventDefault();
    const text = input.value;
    input.value = "";
    connect(text);
  });
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
