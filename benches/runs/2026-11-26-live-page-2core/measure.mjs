// Measures the live page in a Chromium: opening on retained events, frames and clicks under load, memory, bytes.
//
//   node measure.mjs TAPLINE NODE_MODULES [CASE …]
//
// TAPLINE is the program, NODE_MODULES has playwright-core (crates/cli/tests/peers/install.sh). The cases: bytes, opening,
// load, blank (the same load, and a page that shows nothing), memory. Each starts a server of its own. Prints a line of JSON for each.

import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const [tapline, modules, ...chosen] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "beside.js"))("playwright-core");
const PAGE = join(dirname(fileURLToPath(import.meta.url)), "../../../crates/server/src/page");

const RATE = Number(process.env.RATE || 5000); // events a second
const SECONDS = Number(process.env.SECONDS || 30);
const ROUNDS = Number(process.env.ROUNDS || 7);
const MANY = Number(process.env.MANY || 1_000_000);

// ---- events: what a busy browser does. Of ten, five are of requests, three of the console, one of pages or clicks. ----

let made = 0;
function event(ts) {
  const n = (made += 1);
  const context = { session_id: "S", target_id: `T${n % 3}`, target_type: "page", nav_seq: 1, frame_id: `T${n % 3}`, loader_id: "L", url: "http://127.0.0.1:8000/shop/index.html" };
  const id = Math.floor(n / 10) * 3 + (n % 3);
  const kind = n % 10;
  if (kind < 3) return { ts, type: "network_request", category: "network", data: { ...context, request_id: `r${Math.floor(n / 10)}.${kind}`, method: "GET", url: `http://127.0.0.1:8000/shop/assets/${id}.js?v=12`, document_url: context.url, headers: { accept: "*/*", "user-agent": "Mozilla/5.0 (X11; Linux x86_64)" }, initiator_type: "script", resource_type: "Script" } };
  if (kind < 6) return { ts, type: "network_response", category: "network", data: { ...context, request_id: `r${Math.floor(n / 10)}.${kind - 3}`, method: "GET", status: n % 100 === 3 ? 404 : 200, status_text: "OK", headers: { "content-type": "text/javascript", "cache-control": "no-store" }, mime_type: "text/javascript", encoded_bytes: 1200 + (n % 900), duration_ms: 12.5, timing: { blocked: 1, dns: 0.2, connect: 0.5, send: 0.2, wait: 8, receive: 2.6 } } };
  if (kind < 8) return { ts, type: "console_log", category: "console", data: { ...context, level: "log", text: `rendered basket ${n} with 3 items in 2.4 ms`, args: [`rendered basket ${n}`] } };
  if (kind === 8) return n % 200 === 8 ? { ts, type: "console_error", category: "console", data: { ...context, text: `Uncaught TypeError: price is not a function (basket ${n})` } } : { ts, type: "console_log", category: "console", data: { ...context, level: "info", text: `tick ${n}` } };
  return { ts, type: "interaction_click", category: "interaction", data: { ...context, x: 10, y: 20, selector: "#buy", tag: "BUTTON" } };
}

const now = () => Date.now() * 1000;
const batch = (count) => Array.from({ length: count }, () => JSON.stringify(event(now()))).join("\n") + "\n";

async function publish(url, count) {
  const answer = await fetch(`${url}/telemetry/events`, { method: "POST", headers: { "content-type": "application/x-ndjson" }, body: batch(count) });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  await answer.arrayBuffer();
}

// ---- a server and a page ----

async function server(...args) {
  const running = spawn(tapline, ["serve", "--listen", "127.0.0.1:0", "--start", "--log", "error", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise((resolve) => running.stdout.on("data", (data) => resolve(String(data).match(/listening on (\S+)/)[1])));
  return { url, stop: () => new Promise((resolve) => running.once("exit", resolve) && running.kill()) };
}

async function withPage(action) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--enable-precise-memory-info"] });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    return await action(page);
  } finally {
    await browser.close();
  }
}

// Publishes RATE events a second until `stop`, which gives how many they were.
function steadily(url) {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  let sent = 0;
  let isOver = false;
  const all = (async () => {
    while (!isOver) {
      const due = Math.floor(seconds() * RATE) - sent;
      if (due >= 250) {
        await publish(url, due);
        sent += due;
      } else await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  return {
    seconds,
    async stop() {
      isOver = true;
      await all;
      return Math.round(sent / seconds());
    },
  };
}

// In the page: how long each frame took.
function countFrames() {
  globalThis.frames = [];
  let last = performance.now();
  const frame = (at) => {
    globalThis.frames.push(at - last);
    last = at;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

const ofFrames = (frames) => ({
  frames: frames.length,
  frame_ms: { median: round(quantile(frames, 0.5)), p99: round(quantile(frames, 0.99)), worst: round(Math.max(...frames)) },
  frames_over_50_ms: frames.filter((ms) => ms > 50).length,
});

const quantile = (values, part) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];
const round = (value) => Math.round(value * 10) / 10;
const say = (name, values) => console.log(JSON.stringify({ case: name, ...values }));

async function heap(page) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.collectGarbage");
  const { metrics } = await cdp.send("Performance.getMetrics").catch(() => ({ metrics: [] }));
  await cdp.detach();
  return { heap_mb: round((await page.evaluate(() => performance.memory.usedJSHeapSize)) / 1e6), nodes: await page.evaluate(() => document.querySelectorAll("*").length), metrics: metrics.length };
}

// ---- cases ----

const cases = {
  async bytes() {
    const files = readdirSync(PAGE).map((name) => [name, readFileSync(join(PAGE, name))]);
    say("bytes", { files: files.length, bytes: files.reduce((sum, [, data]) => sum + data.length, 0), gzip: files.reduce((sum, [, data]) => sum + gzipSync(data).length, 0) });
  },

  // From the navigation to the newest event in the list.
  async opening() {
    const { url, stop } = await server();
    for (let n = 0; n < 50; n += 1) await publish(url, 1000);
    const times = [];
    const settled = [];
    await withPage(async (page) => {
      for (let n = 0; n <= ROUNDS; n += 1) {
        await page.goto("about:blank");
        await page.addInitScript(() => {
          const look = () => {
            const rows = document.querySelectorAll("#list .row .seq");
            if ([...rows].some((cell) => Number(cell.textContent.replaceAll(",", "")) >= 50_000)) globalThis.shownAt ??= performance.now();
            if (document.querySelectorAll("#waterfall .body .row").length > 3) globalThis.joinedAt ??= performance.now();
            if (!globalThis.shownAt || !globalThis.joinedAt) requestAnimationFrame(look);
          };
          requestAnimationFrame(look);
        });
        await page.goto(`${url}/`);
        await page.waitForFunction(() => globalThis.shownAt && globalThis.joinedAt, undefined, { timeout: 60_000 });
        if (n === 0) continue; // the browser's own first steps
        times.push(await page.evaluate(() => globalThis.shownAt));
        settled.push(await page.evaluate(() => globalThis.joinedAt));
      }
    });
    await stop();
    say("opening", { events: 50_000, rounds: times.length, newest_ms: { median: round(quantile(times, 0.5)), worst: round(Math.max(...times)) }, first_requests_ms: { median: round(quantile(settled, 0.5)), worst: round(Math.max(...settled)) } });
  },

  // Frames and clicks while events arrive.
  async load() {
    const { url, stop } = await server();
    await publish(url, 1000);
    await withPage(async (page) => {
      await page.goto(`${url}/`);
      await page.locator("#list .row").first().waitFor();
      await page.evaluate(countFrames);
      await page.evaluate(() => {
        globalThis.long = [];
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) globalThis.long.push({ ms: entry.duration, blocking: entry.blockingDuration, scripts: entry.scripts.map((it) => `${it.sourceURL.split("/").pop()}:${it.sourceFunctionName} ${Math.round(it.duration)}`) });
        }).observe({ type: "long-animation-frame" });
        globalThis.clicks = [];
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) if (entry.name === "click") globalThis.clicks.push(entry.duration);
        }).observe({ type: "event", durationThreshold: 16 });
      });
      const sending = steadily(url);
      const answered = [];
      while (sending.seconds() < SECONDS) {
        await page.waitForTimeout(700);
        // A click on a row in sight, until what is chosen is drawn as such.
        answered.push(await page.evaluate(() => new Promise((resolve) => {
          const rows = [...document.querySelectorAll("#list .row")];
          const row = rows[Math.floor(rows.length / 2)];
          const at = performance.now();
          row.click();
          const look = () => (document.querySelector("#list .row[aria-selected=true]") ? resolve(performance.now() - at) : requestAnimationFrame(look));
          requestAnimationFrame(look);
        })));
        await page.evaluate(() => document.querySelector("#list .jump:not([hidden])")?.click());
      }
      const rate = await sending.stop();
      const { frames, long, clicks } = await page.evaluate(() => ({ frames: globalThis.frames.slice(2), long: globalThis.long, clicks: globalThis.clicks }));
      const lost = await page.locator("#session .lost").textContent().catch(() => "");
      say("load", {
        events_per_second: rate, seconds: SECONDS, ...ofFrames(frames), long_frames: long.length, worst_long: long.sort((a, b) => b.ms - a.ms).slice(0, 3),
        click_ms: { median: round(quantile(answered, 0.5)), worst: round(Math.max(...answered)) }, slow_clicks: clicks.length, lost: lost.trim(), ...(await heap(page)),
      });
    });
    await stop();
  },

  // What the machine itself makes of frames under that load: the page is blank and reads nothing.
  async blank() {
    const { url, stop } = await server();
    await withPage(async (page) => {
      await page.goto(`${url}/healthz`);
      await page.evaluate(countFrames);
      const sending = steadily(url);
      await page.waitForTimeout(SECONDS * 1000);
      const rate = await sending.stop();
      say("blank", { events_per_second: rate, seconds: SECONDS, ...ofFrames(await page.evaluate(() => globalThis.frames.slice(2))) });
    });
    await stop();
  },

  // An hour's worth of events, as fast as they go.
  async memory() {
    const { url, stop } = await server();
    await publish(url, 1000);
    await withPage(async (page) => {
      await page.goto(`${url}/`);
      await page.locator("#list .row").first().waitFor();
      await page.waitForTimeout(3000);
      const before = await heap(page);
      const at = performance.now();
      const steps = [];
      for (let sent = 0; sent < MANY; sent += 1000) {
        await publish(url, 1000);
        if ((sent + 1000) % (MANY / 4) === 0) steps.push((await heap(page)).heap_mb);
      }
      const seconds = (performance.now() - at) / 1000;
      await page.waitForTimeout(4000);
      say("memory", { events: MANY, seconds: round(seconds), before, quarters_mb: steps, after: await heap(page), lost: (await page.locator("#session .lost").textContent().catch(() => "")).trim() });
    });
    await stop();
  },
};

for (const name of chosen.length > 0 ? chosen : Object.keys(cases)) await cases[name]();
