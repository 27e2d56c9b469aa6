// Runs the rows of the live page's list against a server in memory. Argument: the module that has them.

import assert from "node:assert";
import { pathToFileURL } from "node:url";

const { createRows } = await import(pathToFileURL(process.argv[2]));
const NO_FILTER = { category: [], type: "", text: "", status: "", target: "", problems: false };

const until = async (is, what) => {
  for (let turn = 0; turn < 1000; turn += 1) {
    if (is()) return;
    await new Promise((done) => setImmediate(done));
  }
  assert.fail(`${what} did not happen`);
};

// Pages as the server makes them: of one run, newest or oldest first, behind an `offset` without it.
function server(runs, { oldest = 1 } = {}) {
  const asked = [];
  return {
    asked,
    async events({ order, offset, limit, category, since, status, target_id }) {
      asked.push({ order, offset });
      const present = runs[runs.length - 1];
      const [text, epoch] = offset ? offset.split("-") : [null, present.epoch];
      let run = runs.find((one) => one.epoch === epoch);
      const isWanted = ({ event }) => (category.length === 0 || category.includes(event.category))
        && (!status || `${event.data.status}`[0] === status[0]) && (!target_id || event.data.target_id === target_id);
      const of = (one, bound) => one.events.filter(({ seq }) => (one === present ? oldest <= seq : true)
        && (bound === null || (order === "desc" ? seq < bound : bound < seq))).filter(isWanted);
      let found = of(run, text === null ? null : Number(text));
      if (order === "desc" && found.length === 0 && since && run !== runs[0]) {
        run = runs[runs.indexOf(run) - 1];
        found = of(run, null);
      }
      if (order === "desc") found.reverse();
      const events = found.slice(0, limit);
      const before = runs[runs.indexOf(run) - 1];
      const more = found.length > limit ? `${events[events.length - 1].seq}-${run.epoch}`
        : order === "desc" && since && before ? `${before.events.length + 1}-${before.epoch}` : null;
      return { events, hasMore: more !== null, nextOffset: more, head: present.events.length, oldest, epoch: run.epoch, lost: 0 };
    },
  };
}

const event = (seq, category = seq % 10 === 0 ? "console" : "network") => ({ seq, event: { ts: seq * 1000, type: "x", category, data: { n: seq } } });
const run = (epoch, length) => ({ epoch, events: Array.from({ length }, (_, index) => event(index + 1)) });
const live = (epoch, from, to) => Array.from({ length: to - from + 1 }, (_, index) => {
  const envelope = event(from + index);
  return { ...envelope, epoch, text: JSON.stringify(envelope) };
});

function open(source, filter = {}, options = {}) {
  return createRows({ source, filter: { ...NO_FILTER, ...filter }, range: null, present: () => "b", hasArchive: () => false,
    onChange() {}, ...options });
}

// Looks at these rows until they are loaded.
async function look(rows, first, count) {
  const indexes = () => Array.from({ length: count }, (_, index) => first() + index);
  await until(() => {
    rows.look(first(), first() + count);
    return indexes().every((index) => rows.row(index));
  }, `rows ${first()} to ${first() + count}`);
  return indexes().map((index) => rows.row(index));
}

// A million events cost one page to open, and one for each place that is looked at.
{
  const source = server([run("b", 1_000_000)]);
  const rows = open(source);
  await until(rows.isOpen, "the first page");
  assert.strictEqual(rows.total(), 1_000_000);
  assert.strictEqual(source.asked.length, 1);
  assert.strictEqual(rows.row(999_999).seq, 1_000_000);
  for (const place of [0, 499_990, 250_000, 999_000]) {
    const seen = await look(rows, () => place, 30);
    assert.deepStrictEqual(seen.map(({ seq }) => seq), Array.from({ length: 30 }, (_, index) => place + index + 1));
  }
  assert(source.asked.length <= 9, `${source.asked.length} pages`);
  assert.strictEqual(rows.index({ epoch: "b", seq: 777_777 }), 777_776);
  assert.strictEqual(rows.total(), 1_000_000);
}

// Memory is bounded however far one scrolls, and what was dropped is loaded again.
{
  const rows = open(server([run("b", 50_000)]));
  await until(rows.isOpen, "the first page");
  for (let place = 49_900; place > 0; place -= 150) await look(rows, () => place, 30);
  assert(rows.loaded() <= 4600, `${rows.loaded()} rows`);
  assert.strictEqual((await look(rows, () => 49_000, 1))[0].seq, 49_001);
  assert.strictEqual(rows.total(), 50_000);
}

// Events of the stream go behind the others; what the stream left out is loaded.
{
  const runs = [run("b", 100)];
  const rows = open(server(runs));
  assert.strictEqual(rows.append(live("b", 101, 103)), 0, "before the first page");
  await until(rows.isOpen, "the first page");
  runs[0].events = run("b", 130).events;
  assert.strictEqual(rows.append(live("b", 90, 103)), 0, "those are unloaded, or there already");
  assert.strictEqual(rows.append(live("b", 120, 130)), 11);
  assert.strictEqual(rows.total(), 130);
  const seen = await look(rows, () => 95, 35);
  assert.deepStrictEqual(seen.map(({ seq }) => seq), Array.from({ length: 35 }, (_, index) => index + 96));
}

// What is missing is one row, which names the seqs: evicted, or reported by the stream.
{
  const rows = open(server([run("b", 1000)], { oldest: 501 }));
  await until(rows.isOpen, "the first page");
  await look(rows, () => Math.max(0, rows.index({ epoch: "b", seq: 520 }) - 25), 20);
  assert.strictEqual(rows.total(), 501);
  assert.match(rows.row(0).loss, /evicted.*seq 1 to 500/);
  rows.addLoss({ epoch: "b", from: 1, to: 237 }, "237 events lost");
  assert.deepStrictEqual([rows.row(0).loss, rows.row(1).loss].map((text) => text.match(/seq.*/)[0]), ["seq 1 to 237)", "seq 238 to 500)"]);
  rows.addLoss({ epoch: "b", from: 1001, to: 1004 }, "4 events lost");
  rows.append(live("b", 1005, 1005));
  rows.addLoss({ epoch: "b", from: 1001, to: 1004 }, "4 events lost");
  assert.match(rows.row(rows.total() - 2).loss, /^4 events lost .seq 1,001 to 1,004/);
  assert.strictEqual(rows.row(rows.total() - 1).seq, 1005);
}

// With a filter a place is estimated until it is loaded; then it is exact.
{
  const rows = open(server([run("b", 20_000)]), { category: ["console"] });
  await until(rows.isOpen, "the first page");
  rows.setCount(2000);
  assert(Math.abs(rows.total() - 2000) < 20, `${rows.total()} rows`);
  for (let place = 1990; place >= 0; place -= 100) await look(rows, () => Math.min(place, rows.total() - 10), 10);
  await look(rows, () => 0, 10);
  assert.strictEqual(rows.total(), 2000);
  assert.strictEqual(rows.row(0).seq, 10);
  assert.strictEqual(rows.append(live("b", 20_001, 20_020)), 2);
  assert.strictEqual(rows.row(rows.total() - 1).seq, 20_020);
}

// A status and a tab are looked for by the server, and in what arrives.
{
  const runs = [run("b", 3000)];
  const made = ({ seq, event: one }) => Object.assign(one.data, { status: seq % 100 === 0 ? 404 : 200, target_id: seq % 200 ? "A" : "B" });
  runs[0].events.forEach(made);
  const rows = open(server(runs), { status: "4xx", target: "B" });
  await until(rows.isOpen, "the first page");
  await look(rows, () => 0, 10);
  await look(rows, () => rows.total() - 1, 1);
  assert.strictEqual(rows.total(), 15);
  assert.strictEqual(rows.row(0).seq, 200);
  const arrived = live("b", 3001, 3400);
  arrived.forEach(made);
  assert.strictEqual(rows.append(arrived), 2);
  assert.strictEqual(rows.row(rows.total() - 1).seq, 3400);
}

// Earlier runs follow where there is an archive, behind a row that says so; and a restart is one, too.
{
  const rows = open(server([run("a", 300), run("b", 50)]), {}, { hasArchive: () => true });
  await until(rows.isOpen, "the first page");
  await look(rows, () => 0, 1);
  await until(() => {
    rows.look(0, 30);
    return rows.total() === 351;
  }, "the earlier run");
  assert.match(rows.row(300).loss, /restarted/);
  assert.deepStrictEqual([rows.row(299), rows.row(301)].map(({ epoch, seq }) => [epoch, seq]), [["a", 300], ["b", 1]]);
  assert.strictEqual(rows.index({ epoch: "a", seq: 300 }), 299);
  rows.append(live("c", 1, 2));
  assert.match(rows.row(351).loss, /restarted/);
  assert.deepStrictEqual([rows.row(353).epoch, rows.row(353).seq], ["c", 2]);
}

// A page that cannot be read is asked for again, and says why.
{
  const source = server([run("b", 10)]);
  const { events } = source;
  source.events = () => Promise.reject(Object.assign(new Error("not there"), { status: 400 }));
  const rows = open(source);
  await until(() => rows.problem() === "not there", "the reason");
  source.events = events;
  assert.strictEqual(rows.isOpen(), false);
  rows.close();
}
console.log("done");
process.exit(0);
