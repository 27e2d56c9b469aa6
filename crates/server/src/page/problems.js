// The rows of the list when it shows problems only: those that the server has found (`joins.js`), which are few and
// all loaded. They answer the same calls as `rows.js`.

import { matcher } from "./rows.js";
import { short } from "./text.js";

// What category and type a problem's event has, so that the filters apply to problems as well. Lost events and
// restarts match any filter: what was lost may have matched. So does what a program logged, in a category of its choice.
const KINDS = {
  request_failed: ["network", "network_loading_failed"],
  request_blocked: ["network", "network_loading_failed"],
  http_error: ["network", "network_response"],
  proxy_error: ["network", "proxy_error"],
  console_error: ["console", "console_error"],
  exception: ["console", "console_error"],
  page_crashed: ["page", "page_crashed"],
  browser_lost: ["monitor", "monitor_disconnected"],
  collector_failed: ["monitor", "monitor_init_failed"],
  service_crashed: ["system", "service_crashed"],
  out_of_memory: ["system", "system_oom_kill"],
  api_error: ["control", "api_call"],
  captcha_failed: ["captcha", "captcha_solve_result"],
};

export function problemRows({ joins, filter, range, present, onChange }) {
  const match = matcher({ ...filter, status: "" });
  const text = filter.text.toLowerCase();
  let rows = [];

  function read() {
    const problems = range === null ? joins.known("problems") : joins.problems();
    rows = problems.filter(isWanted).map(rowOf);
    onChange();
  }

  function isWanted(problem) {
    const known = KINDS[problem.kind];
    if (known && !match.event({ category: known[0], type: known[1] })) return false;
    if (problem.target_id && !match.target({ data: problem })) return false;
    return text === "" || problem.text.toLowerCase().includes(text);
  }

  const rowOf = (problem) => ({
    kind: "problem",
    epoch: present(),
    seq: problem.seq,
    ts: problem.ts,
    category: (KINDS[problem.kind] || [""])[0],
    type: String(problem.kind),
    what: short(problem.text),
    problem: true,
    target: problem.target_id || "",
  });

  const stop = joins.on(read);
  queueMicrotask(read);
  return {
    total: () => rows.length,
    isOpen: () => joins.status().isRead,
    problem: () => joins.status().error,
    loaded: () => rows.length,
    row: (index) => rows[index],
    key: (index) => (rows[index] ? { epoch: rows[index].epoch, seq: rows[index].seq } : null),
    index({ seq }) {
      const index = rows.findIndex((row) => seq <= row.seq);
      return index < 0 ? rows.length - 1 : index;
    },
    look() {},
    append: () => 0,
    addLoss() {},
    setCount() {},
    close: stop,
  };
}
