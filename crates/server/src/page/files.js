// Files in and out: opens a dropped one, and exports the range.

import { node } from "./dom.js";

const FORMATS = [
  ["ndjson", "NDJSON", "events, one a line: for tapline and scripts"],
  ["har", "HAR", "requests: for browsers' developer tools"],
  ["trace", "Trace", "one time axis: for Perfetto"],
  ["html", "HTML", "this page with the events, for people without a server"],
];
const EXTENSIONS = { ndjson: "ndjson", har: "har", trace: "trace.json", html: "html" };

export function mount(root, { store, source, open }) {
  const { chooser, button, menu, items, note, chip, leave } = build(root);

  // ---- in ----

  async function show(file) {
    if (!file) return;
    say(`Reading ${file.name} …`);
    try {
      const bundle = await source.view(file);
      open({ ...bundle, name: file.name });
      const { unread = 0, isCut } = bundle;
      say([
        unread > 0 ? `${unread} lines are no events.` : "",
        isCut ? "The rest of the file cannot be read: it is cut, or still being written." : "",
      ].join(" ").trim(), unread > 0 || isCut);
    } catch (failure) {
      say(`${file.name}: ${failure.message}`, true);
    }
  }

  function say(text, isBad = false) {
    note.textContent = text.slice(0, 300);
    note.classList.toggle("bad", isBad);
  }

  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (drag) => hasFiles(drag) && over(1));
  document.addEventListener("dragleave", (drag) => hasFiles(drag) && over(-1));
  document.addEventListener("dragover", (drag) => {
    if (hasFiles(drag)) drag.preventDefault();
  });
  document.addEventListener("drop", (drop) => {
    if (!hasFiles(drop)) return;
    drop.preventDefault();
    over(-depth);
    show(drop.dataTransfer.files[0]);
  });
  chooser.input.addEventListener("change", () => {
    show(chooser.input.files[0]);
    chooser.input.value = "";
  });
  chooser.button.addEventListener("click", () => chooser.input.click());
  leave.addEventListener("click", () => open(null));

  // ---- out ----

  async function save(format) {
    close();
    const { range, origin } = store.get();
    const query = { format: format === "ndjson" && origin.kind === "file" ? "" : format, ...range };
    say(`Exporting ${format} …`);
    try {
      const blob = await source.download("telemetry/export", query);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `tapline-${new Date((range?.since ?? Date.now() * 1000) / 1000).toISOString().slice(0, 19).replaceAll(":", "")}.${EXTENSIONS[format]}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      say("");
    } catch (failure) {
      say(`The export failed: ${failure.message}`, true);
    }
  }

  const isOpen = () => !menu.hidden;
  function close(isFocused = false) {
    menu.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (isFocused) button.focus();
  }
  button.addEventListener("click", () => {
    if (isOpen()) return close();
    menu.hidden = false;
    button.setAttribute("aria-expanded", "true");
    items.find((item) => !item.hidden).focus();
  });
  menu.addEventListener("keydown", (key) => {
    const all = items.filter((item) => !item.hidden);
    const index = all.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[key.key];
    if (key.key === "Escape") close(true);
    else if (key.key === "Tab") return close();
    else if (step) all[(index + step + all.length) % all.length].focus();
    else return;
    key.preventDefault();
    key.stopPropagation();
  });
  document.addEventListener("pointerdown", (down) => {
    if (isOpen() && !root.contains(down.target)) close();
  });
  items.forEach((item, index) => item.addEventListener("click", () => save(FORMATS[index][0])));

  function draw() {
    const { origin, range } = store.get();
    const isFile = origin.kind === "file";
    chip.hidden = !isFile;
    chip.firstElementChild.textContent = isFile ? String(origin.name).slice(0, 60) : "";
    // A standalone file has no server behind it: nothing can be read or made there.
    const isAlone = document.getElementById("bundle") !== null;
    leave.hidden = isAlone;
    chooser.button.hidden = isAlone;
    // A HAR has no events to be exported.
    button.hidden = isFile && origin.har !== null;
    items.forEach((item, index) => {
      item.hidden = isFile && FORMATS[index][0] !== "ndjson";
    });
    button.textContent = range ? "Export range" : "Export";
  }
  store.on(["origin", "range"], draw);
  draw();
}

function build(root) {
  const chip = node("span", "file-chip");
  const leave = node("button", "small", "Close file");
  chip.append(node("b"), leave);
  chip.hidden = true;
  const note = node("span", "file-note");
  note.setAttribute("role", "status");
  const input = node("input");
  input.type = "file";
  input.hidden = true;
  input.setAttribute("aria-label", "File to open");
  const choose = node("button", "small", "Open file");
  choose.title = "An archive segment, a dump, NDJSON, or a HAR; or drop it here";
  const holder = node("div", "menu-holder");
  const button = node("button", "small", "Export");
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  const menu = node("div", "export-menu");
  menu.setAttribute("role", "menu");
  menu.setAttribute("aria-label", "Export");
  menu.hidden = true;
  const items = FORMATS.map(([, name, text]) => {
    const item = node("button");
    item.setAttribute("role", "menuitem");
    item.tabIndex = -1;
    item.append(node("b", "", name), node("span", "", text));
    menu.append(item);
    return item;
  });
  holder.append(button, menu);
  root.append(note, chip, choose, input, holder);
  return { chooser: { input, button: choose }, button, menu, items, note, chip, leave };
}
