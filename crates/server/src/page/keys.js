// The keyboard, and what it can do: `?`.

import { button, make } from "./dom.js";

const HELP = [
  ["/", "search in the events"],
  ["j, k", "the next, the previous event"],
  ["Enter", "show the details of the event"],
  ["Esc", "leave the field; close the details; go back from a range to now"],
  ["f", "follow the newest event, or stay here"],
  ["p", "problems only, or everything"],
  ["u", "times in UTC, or local"],
  ["?", "this help"],
];

export function mount(root, { store }) {
  const dialog = make("dialog", { "aria-labelledby": "keys-title" },
    make("h2", { id: "keys-title" }, "Keys"),
    make("table", {}, make("tbody", {}, HELP.map(([key, what]) =>
      make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, what))))),
    make("p", { class: "quiet" }, "In the list also the arrows, Page Up and Down, Home and End. On the graph a drag chooses a range."),
    button("Close", () => dialog.close()));
  root.append(button("?", () => dialog.showModal(), { class: "help", "aria-label": "Keys", title: "Keys ( ? )" }), dialog);

  const list = document.getElementById("list");
  const step = (by) => list.dispatchEvent(new CustomEvent("step", { detail: by }));
  const acts = {
    "/": () => {
      const search = document.getElementById("search");
      search.focus();
      search.select();
    },
    j: () => step(1),
    k: () => step(-1),
    Enter: () => list.dispatchEvent(new CustomEvent("choose")),
    Escape: escape,
    f: () => store.set(store.get().range ? { range: null, follow: true } : { follow: !store.get().follow }),
    p: () => store.set({ filter: { ...store.get().filter, problems: !store.get().filter.problems } }),
    u: () => store.set({ zone: store.get().zone === "utc" ? "local" : "utc" }),
    "?": () => dialog.showModal(),
  };

  function escape() {
    const { selection, range } = store.get();
    if (selection !== null) store.set({ selection: null });
    else if (range !== null) store.set({ range: null, follow: true });
  }

  document.addEventListener("keydown", (key) => {
    if (key.defaultPrevented || key.ctrlKey || key.metaKey || key.altKey || dialog.open) return;
    const { target } = key;
    if (target.matches("input:not([type=checkbox]), select, textarea")) {
      // What is typed is typed; Esc leaves the field.
      if (key.key === "Escape") target.blur();
      return;
    }
    // Enter on a button is that button's.
    if (key.key === "Enter" && target.closest("button, summary, a, [role=option], [role=button]")) return;
    if (!Object.hasOwn(acts, key.key)) return;
    key.preventDefault();
    acts[key.key]();
  });
}
