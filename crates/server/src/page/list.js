// The events, oldest first.

import { isProblem, summaryOf, timeOf } from "./text.js";

const MAX_ROWS = 500;

export function mount(root, { store, source, live }) {
  const rows = document.createElement("div");
  root.append(rows);

  const add = (events) => {
    const { zone } = store.get();
    for (const { seq, event } of events.slice(-MAX_ROWS)) {
      const row = document.createElement("div");
      row.classList.toggle("problem", isProblem(event));
      row.textContent = `${timeOf(event.ts, zone)}  ${seq}  ${event.category}  ${event.type}  ${summaryOf(event)}`;
      row.addEventListener("click", () => store.set({ selection: { kind: "event", seq } }));
      rows.append(row);
    }
    while (rows.childElementCount > MAX_ROWS) rows.firstElementChild.remove();
    root.scrollTop = root.scrollHeight;
  };

  live.on(add);
  source.events({ order: "desc", limit: 100 }).then((page) => add(page.events.reverse()), () => {});
}
