// The live page in a real Chromium. Arguments: the case, the browser, the folder of the node modules, the address of the
// server, a folder for pictures, and what else the case needs. Prints "done" after all checks of the case.

import assert from "node:assert";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { SITES } from "./broken_sites.mjs";

const [name, program, modules, given, pictures, ...rest] = process.argv.slice(2);
// A case with a server of its own sets it.
let server = given;
const require = createRequire(join(modules, "beside.js"));
const { chromium } = require("playwright-core");

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };

const browser = await chromium.launch({
  executablePath: program,
  // Nothing but loopback.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});

// ---- helpers ----

// A page of the browser that keeps what went wrong in it, and every address that it asked for.
async function open(address = `${server}/`, { viewport = DESK, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, timezoneId: "UTC", locale: "en-US" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.asked = [];
  page.wrong = [];
  page.on("request", (request) => page.asked.push(request.url()));
  page.on("pageerror", (error) => page.wrong.push(String(error.stack)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) page.wrong.push(message.text());
  });
  page.on("dialog", (dialog) => {
    page.wrong.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(address);
  return page;
}

async function close(page) {
  assert.deepEqual(page.wrong, []);
  const elsewhere = page.asked.filter((url) => !url.startsWith(`${server}/`) && !/^(blob|data):/.test(url));
  assert.deepEqual(elsewhere, [], "a request left the page's origin");
  await page.context().close();
}

const ask = async (path) => {
  const answer = await fetch(`${server}${path}`);
  assert(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer;
};

// All items of one of the joins.
async function joined(kind, query = "") {
  const all = [];
  for (let offset = ""; ;) {
    const answer = await ask(`/telemetry/${kind}?limit=1000${query}${offset}`);
    all.push(...(await answer.json()));
    if (answer.headers.get("x-has-more") !== "true") return all;
    offset = `&offset=${answer.headers.get("x-next-offset")}`;
  }
}

async function publish(events) {
  const lines = events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const answer = await fetch(`${server}/telemetry/events`, {
    method: "POST", headers: { "content-type": "application/x-ndjson" }, body: lines,
  });
  assert(answer.ok, `${answer.status} ${await answer.text()}`);
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { polling: 50 });

const requestRows = (page) => page.locator("#waterfall .body .row");
const requestCount = (page) => page.$eval("#waterfall .grid", (grid) => Number(grid.getAttribute("aria-rowcount")) - 1);
const untilRequests = (page, count) => until(page, (count) =>
  document.querySelector("#waterfall .grid").getAttribute("aria-rowcount") === String(count + 1), count);

// The page, with its requests.
async function openWithRequests(...options) {
  const page = await open(...options);
  await requestRows(page).first().waitFor();
  return page;
}

async function sees(page, text) {
  await page.locator("#list .row", { hasText: text }).first().waitFor();
}

// Scrolls from the top until a row is there.
async function scrollTo(page, scroller, row) {
  for (let top = 0; !(await row.count()); top += 100) {
    const isEnd = await page.$eval(scroller, async (element, top) => {
      element.scrollTop = top;
      for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
      return element.scrollTop < top - 1000;
    }, top);
    assert(!isEnd, `${row} is not in ${scroller}`);
  }
}

// What the details say, somewhere.
const says = (page, text) => page.locator("#panel").getByText(text).first().waitFor();

// Opens a site in a browser that Tapline observes, and the live page beside it. The browser and the server end with it.
async function onSite(name, action) {
  const [tapline, profile] = rest;
  const site = await SITES[name]();
  const observed = spawn(program, ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server",
    "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "pipe"] });
  const devtools = await lineOf(observed.stderr, /DevTools listening on ws:\/\/([^/]+)/);
  const running = spawn(tapline, ["serve", "--listen", "127.0.0.1:0", "--start", "--cdp", `http://${devtools}`, "--log", "error"], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    server = await lineOf(running.stdout, /listening on (\S+)/);
    await untilHas("/telemetry/events?type=page_tab_opened&limit=1");
    await fetch(`http://${devtools}/json/new?${encodeURIComponent(site.url)}`, { method: "PUT" });
    await untilHas("/telemetry/events?type=page_navigation_settled&limit=1");
    for (const [size, options] of [["desk", {}], ["dark", { colorScheme: "dark" }], ["phone", { viewport: PHONE }]]) {
      const page = await openWithRequests(undefined, options);
      if (size === "desk") await hasNoViolations(page, name);
      await action(page, site.url);
      await picture(page, `site-${name}-${size}`, { fullPage: size === "phone" });
      await close(page);
    }
  } finally {
    running.kill();
    const gone = new Promise((resolve) => observed.once("exit", resolve));
    observed.kill();
    await gone;
    site.close();
  }
}

// What a program writes, once it is there.
function lineOf(output, pattern) {
  let text = "";
  return new Promise((resolve, reject) => {
    output.on("data", (data) => {
      text += data;
      const found = text.match(pattern);
      if (found) resolve(found[1]);
    });
    output.on("end", () => reject(new Error(`no ${pattern} in: ${text}`)));
  });
}

// Until the server has an event of these.
async function untilHas(path) {
  const end = Date.now() + 30_000;
  while ((await (await ask(path)).json()).length === 0) {
    assert(Date.now() < end, `nothing at ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function hasNoViolations(page, what) {
  await page.evaluate(readFileSync(join(modules, "axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
  assert.deepEqual(found, [], what);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${what}: it scrolls sideways`);
}

// The file of a picture, for the eyes of people.
const picture = (page, file, options = {}) => page.screenshot({ path: join(pictures, `${file}.png`), animations: "disabled", ...options });

// ---- cases ----

const cases = {
  // What was published before the page was opened, and what is while it is open.
  async opens_at_the_newest() {
    const page = await openWithRequests();
    await sees(page, "the newest of all");
    const last = await page.$eval("#waterfall .body", (body) => [...body.children].map((row) => Number(row.getAttribute("aria-rowindex"))).reduce((a, b) => Math.max(a, b)));
    assert.equal(last, (await requestCount(page)) + 1, "the newest request is in sight");
    await publish([{ type: "later", category: "control", data: { message: "even newer" } }]);
    await sees(page, "even newer");
    // Who scrolls up stays there while events arrive.
    await page.locator("#list .scroller").press("Home");
    await sees(page, "page_tab_opened");
    await publish([{ type: "later", category: "control", data: { message: "the newest by far" } }]);
    await page.locator("#list .jump", { hasText: "1 new" }).waitFor();
    assert.equal(await page.locator("#list .row", { hasText: "the newest by far" }).count(), 0);
    await page.locator("#list .jump").click();
    await sees(page, "the newest by far");
    await close(page);
  },

  async has_no_violations() {
    for (const colorScheme of ["light", "dark"]) {
      for (const [size, viewport] of [["desk", DESK], ["phone", PHONE]]) {
        const what = `${colorScheme}, ${size}`;
        const page = await open(undefined, { viewport, colorScheme });
        await sees(page, "the newest of all");
        await requestRows(page).first().waitFor();
        await hasNoViolations(page, what);
        await requestRows(page).first().click();
        await page.locator("#panel .sentence").waitFor();
        await hasNoViolations(page, `${what}, with the details`);
        await page.locator("#panel .close").click();
        await page.locator("#files button", { hasText: "Export" }).click();
        await page.locator("#files [role=menu]").waitFor();
        await hasNoViolations(page, `${what}, with the menu`);
        await close(page);
      }
    }
  },

  // The keyboard, and an address that shows the same to another person.
  async keys_and_links_choose() {
    const page = await open();
    await sees(page, "the newest of all");
    await page.keyboard.press("k");
    await page.keyboard.press("k");
    await page.keyboard.press("Enter");
    await page.locator("#panel .sentence").waitFor();
    const chosen = await page.locator("#list .row[aria-selected=true] .seq").textContent();
    const link = page.url();
    assert(link.endsWith(`#select=event%3A${chosen}`), link);
    await page.keyboard.press("j");
    await until(page, (before) => ![before, undefined].includes(document.querySelector("#list .row[aria-selected=true] .seq")?.textContent), chosen);
    // It stays in sight when the list gets lower.
    await page.setViewportSize({ ...DESK, height: DESK.height - 150 });
    await until(page, () => {
      const list = document.querySelector("#list .scroller").getBoundingClientRect();
      const row = document.querySelector("#list .row[aria-selected=true]")?.getBoundingClientRect();
      return row && list.top <= row.top && row.bottom <= list.bottom + 1;
    });
    await page.setViewportSize(DESK);
    await page.keyboard.press("Escape");
    await page.locator("#panel").waitFor({ state: "hidden" });
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "search");
    await page.keyboard.type("jkfp?");
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.locator("dialog[open]").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#list .empty", { hasText: "No event matches" }).waitFor();
    // Faster than the search begins: what was typed counts all the same.
    await page.evaluate(() => {
      const search = document.getElementById("search");
      const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
      search.focus();
      search.value = "";
      search.dispatchEvent(new InputEvent("input", { bubbles: true }));
      press("Escape");
      press("p");
    });
    await until(page, () => location.hash === "#problems=true");
    await until(page, () => [...document.querySelectorAll("#list .row")].length > 0 && [...document.querySelectorAll("#list .row")].every((row) => row.classList.contains("problem")));
    await close(page);

    const other = await open(link);
    await other.locator("#panel .sentence").waitFor();
    await other.locator("#list .row[aria-selected=true]", { hasText: chosen }).waitFor();
    assert.equal(await other.locator("#panel .quiet").first().textContent(), `seq ${Number(chosen).toLocaleString("en")}`);
    await close(other);
  },

  // The brush by pointer and by keyboard: every view has the range and nothing else.
  async brush_filters_every_view() {
    const page = await openWithRequests();
    const all = await requestCount(page);
    const box = await page.locator("#graph canvas").boundingBox();
    const range = () => page.evaluate(() => {
      const parts = new URLSearchParams(location.hash.slice(1));
      return { since: Number(parts.get("since")), until: Number(parts.get("until")) };
    });
    await page.mouse.move(box.x + box.width * 0.05, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.2, box.y + 20, { steps: 4 });
    await page.mouse.up();
    await until(page, () => location.hash.includes("since="));

    const check = async () => {
      const { since, until: end } = await range();
      const expected = (await joined("requests")).filter((request) => {
        const ended = request.end ? (request.start_seen && request.duration_ms !== undefined ? request.ts + Math.round(request.duration_ms * 1000) : Math.max(request.end.ts, request.hop_ts)) : Infinity;
        return request.ts <= end && since <= ended;
      });
      assert(0 < expected.length && expected.length < all, `${expected.length} of ${all}`);
      await untilRequests(page, expected.length);
      const time = (ts) => new Date(ts / 1000).toISOString().replace("Z", `${String(ts % 1000).padStart(3, "0")}Z`);
      const { matching } = await (await ask(`/telemetry/counts?buckets=1&since=${time(since)}&until=${time(end)}`)).json();
      await until(page, (count) => document.querySelector("#list .row")?.getAttribute("aria-setsize") === String(count), matching);
      for (const title of await page.$$eval("#list .row .time", (cells) => cells.map((cell) => cell.title))) {
        const ts = Date.parse(title.replace(" ", "T").replace(/ UTC| \+00:00/, "Z")) * 1000;
        assert(since - 1000 <= ts && ts <= end, `${title} is not within the range`);
      }
    };
    await check();
    const before = await range();
    const slider = page.getByRole("slider", { name: "End of the range" });
    await slider.focus();
    await slider.press("PageUp");
    await slider.press("ArrowRight");
    const after = await range();
    assert(before.until < after.until && before.since === after.since);
    await check();
    await slider.press("Escape");
    await until(page, () => !location.hash.includes("since="));
    await untilRequests(page, all);
    await close(page);
  },

  // A page of the band chooses its time and its tab.
  async a_navigation_filters_every_view() {
    const page = await openWithRequests();
    const all = await requestCount(page);
    await page.locator("#band .page").first().click();
    await page.locator("#panel .sentence").waitFor();
    await until(page, (all) => Number(document.querySelector("#waterfall .grid").getAttribute("aria-rowcount")) - 1 < all, all);
    await page.locator("#band .page[aria-pressed=true]").click();
    await untilRequests(page, all);
    await close(page);
  },

  async a_failed_request_explains_itself() {
    const page = await open();
    await page.locator("#waterfall button", { hasText: "Failed" }).click();
    const row = page.locator("#waterfall .row.bad").first();
    await row.click();
    const sentence = await page.locator("#panel .sentence").textContent();
    const failed = (await joined("requests")).map((request) => request.sentence);
    assert(failed.includes(sentence), sentence);
    assert.equal(await row.getAttribute("aria-selected"), "true");
    // The address leads back to it.
    const again = await open(page.url());
    assert.equal(await again.locator("#panel .sentence").textContent(), sentence);
    await close(again);
    await page.locator("#panel .close").click();
    await page.locator("#panel").waitFor({ state: "hidden" });
    await close(page);
  },

  // Rows, their order, and what they say; while events arrive in pieces, and with a filter.
  async shows_what_the_server_joined() {
    const page = await open();
    const events = readFileSync(rest[0], "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
    for (let index = 0; index < events.length; index += 50) {
      await publish(events.slice(index, index + 50));
      // The page reads what has changed, again and again.
      await page.waitForResponse((answer) => answer.url().includes("/telemetry/requests"));
    }
    for (const status of ["", "failed", "4xx"]) {
      await page.evaluate((status) => (location.hash = status && `status=${status}`), status);
      const expected = await joined("requests", status && `&status=${status}`);
      await untilRequests(page, expected.length);
      const shown = await allRows(page);
      expected.sort((a, b) => a.ts - b.ts || a.seq - b.seq);
      assert.deepEqual(shown.map(({ url, method }) => [method, url]), expected.map((it) => [it.method || "?", it.url]), status);
      assert.deepEqual(shown.map(({ title }) => title.split("\n")[0]), expected.map((it) => it.sentence), status);
      for (const [index, { status }] of shown.entries()) {
        const code = expected[index].response?.status;
        if (expected[index].outcome === "answered" && code) assert.equal(status, String(code));
      }
    }
    const pages = (await joined("navigations")).filter((it) => it.parent_frame_id === undefined);
    const labels = await page.$$eval("#band .page", (bars) => bars.map((bar) => bar.getAttribute("aria-label")));
    assert.deepEqual(labels.map((label) => label.split(" at ")[0]).sort(), pages.map((it) => it.url).sort());
    await close(page);
  },

  // Ten thousand requests: few rows are in the document, and each can be reached.
  async ten_thousand_requests_scroll() {
    const events = [];
    const start = 1_795_000_000_000_000;
    for (let n = 0; n < 10_000; n += 1) {
      events.push({ ts: start + n * 1000, type: "network_request", category: "network", data: { request_id: `r${n}`, method: "GET", url: `http://127.0.0.1:1/n/${n}`, document_url: "", headers: {}, initiator_type: "script" } });
    }
    for (let index = 0; index < events.length; index += 1000) await publish(events.slice(index, index + 1000));
    const page = await open();
    await page.waitForFunction(() => document.querySelector("#waterfall .grid").getAttribute("aria-rowcount") === "10001", undefined, { polling: 100, timeout: 60_000 });
    const grid = page.locator("#waterfall .grid");
    await grid.press("Home");
    await page.locator("#waterfall .row[aria-rowindex='2'] .name", { hasText: /^0/ }).waitFor();
    await grid.press("End");
    await page.locator("#waterfall .row[aria-rowindex='10001'] .name", { hasText: "9999" }).waitFor();
    // The frames while it is scrolled from end to end.
    const { worst, most } = await page.evaluate(async () => {
      const grid = document.querySelector("#waterfall .grid");
      let worst = 0;
      let most = 0;
      let last = performance.now();
      for (let step = 0; step <= 120; step += 1) {
        grid.scrollTop = (grid.scrollHeight * step) / 120;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        if (step > 2) worst = Math.max(worst, now - last);
        last = now;
        most = Math.max(most, document.querySelectorAll("#waterfall .body .row").length);
      }
      return { worst, most };
    });
    assert(most <= 60, `${most} rows are in the document`);
    console.error(`the longest frame took ${worst.toFixed(1)} ms`);
    await close(page);
  },

  // Scripts and markup in every text that a page under test can choose.
  async hostile_content_stays_text() {
    const bad = `"><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
    const url = `http://127.0.0.1:1/${bad}`;
    const ts = Date.now() * 1000;
    const context = { session_id: "S", target_id: "T", target_type: "page", nav_seq: 1, frame_id: "T", loader_id: "L", url };
    await publish([
      { ts, type: "page_tab_opened", category: "page", data: { target_id: "T", target_type: "page", url, title: bad } },
      { ts: ts + 1, type: "network_request", category: "network", data: { ...context, request_id: "L", method: bad, document_url: url, headers: { [bad]: bad }, initiator_type: bad, resource_type: bad } },
      { ts: ts + 2, type: "page_navigation", category: "page", data: { ...context } },
      { ts: ts + 3, type: "network_response", category: "network", data: { ...context, request_id: "L", method: "GET", status: 404, status_text: bad, headers: { [bad]: bad }, mime_type: bad, body: bad } },
      { ts: ts + 4, type: "console_error", category: "console", data: { ...context, text: bad, source_url: url } },
      { ts: ts + 5, type: `x_${bad}`.slice(0, 2) + "hostile", category: "control", data: { message: bad } },
    ]);
    const page = await open();
    await requestRows(page).first().click();
    await page.locator("#panel .sentence").waitFor();
    await sees(page, "onerror");
    for (const element of await page.locator("#list .row").all()) {
      await element.click();
      await page.locator("#panel .panel-head").waitFor();
    }
    await page.locator("#band .page").first().click();
    await page.locator("#panel .panel-head").waitFor();
    const made = await page.evaluate(() => document.querySelectorAll("img[src='x'], script:not([src])").length);
    assert.equal(made, 0);
    assert.doesNotMatch(await page.title(), /owned/);
    await close(page);
  },

  // By its chooser and dropped; and back to the server.
  async opens_a_dropped_file() {
    const page = await open();
    await sees(page, "the newest of all");
    const text = readFileSync(rest[0], "utf8");
    const data = await page.evaluateHandle((text) => {
      const data = new DataTransfer();
      data.items.add(new File([text], "dropped.ndjson"));
      return data;
    }, text);
    await page.dispatchEvent("body", "drop", { dataTransfer: data });
    await page.locator("#files", { hasText: "dropped.ndjson" }).waitFor();
    const answer = await fetch(`${server}/telemetry/view`, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: text });
    const bundle = await answer.json();
    await untilRequests(page, bundle.requests.length);
    await until(page, (count) => document.querySelector("#list .row")?.getAttribute("aria-setsize") === String(count), bundle.events.length);
    await page.locator("#waterfall button", { hasText: "Failed" }).click();
    await page.locator("#waterfall .row.bad").first().click();
    await page.locator("#panel .sentence").waitFor();
    await hasNoViolations(page, "with a file");
    await page.locator("#waterfall button", { hasText: "All" }).click();
    await page.locator("#files button", { hasText: "Close file" }).click();
    await sees(page, "the newest of all");
    await page.locator("#files input[type=file]").setInputFiles({ name: "no file of ours", mimeType: "text/plain", buffer: Buffer.from("nothing\n") });
    await page.locator("#files .file-note.bad").waitFor();
    await close(page);
  },

  // Arguments: a HAR. It has requests and pages, and says what it does not have. Closed, everything is as it was before.
  async opens_a_har() {
    const page = await open();
    await sees(page, "the newest of all");
    await page.locator("#filters label[data-category=control]").click();
    await until(page, () => location.hash === "#category=control");
    await page.locator("#files input[type=file]").setInputFiles({ name: "shop.har", mimeType: "application/json", buffer: readFileSync(rest[0]) });
    await page.locator("#files", { hasText: "shop.har" }).waitFor();
    const answer = await fetch(`${server}/telemetry/view`, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: readFileSync(rest[0]) });
    const bundle = await answer.json();
    await untilRequests(page, bundle.requests.length);
    await page.locator("#list .empty", { hasText: "HAR of Tapline: it has requests and pages, and no events" }).waitFor();
    assert.equal(await page.locator("#files button", { hasText: "Export" }).isVisible(), false);
    await page.locator("#band .page").first().waitFor();
    await page.locator("#waterfall button", { hasText: "Failed" }).click();
    await page.locator("#waterfall .row.bad").first().click();
    await page.locator("#panel .sentence").waitFor();
    await page.locator("#panel h3", { hasText: "what followed" }).waitFor();
    await page.locator("#panel h3", { hasText: "request headers" }).waitFor();
    await hasNoViolations(page, "with a HAR");
    await page.locator("#panel .close").click();
    await page.locator("#waterfall button", { hasText: "All" }).click();
    // A problem, and what is around it.
    await page.keyboard.press("p");
    await page.locator("#list .row.problem").first().click();
    await page.locator("#panel .sentence.bad").waitFor();
    await page.locator("#files button", { hasText: "Close file" }).click();
    await until(page, () => location.hash === "#category=control");
    await sees(page, "the newest of all");
    assert.equal(await page.locator("#panel").isVisible(), false);
    await close(page);
  },

  // Arguments: events of a shop. Without some of them there is a gap, in each view.
  async a_gap_is_drawn_in_every_view() {
    const page = await open();
    await sees(page, "the newest of all");
    const lines = readFileSync(rest[0], "utf8").trim().split("\n").map((line, index) => JSON.stringify({ seq: index + 1, event: JSON.parse(line) }));
    const [from, to] = [60, 100];
    const text = lines.filter((_, index) => index + 1 < from || to < index + 1).join("\n");
    await page.locator("#files input[type=file]").setInputFiles({ name: "gap.ndjson", mimeType: "text/plain", buffer: Buffer.from(text) });
    await page.locator("#files", { hasText: "gap.ndjson" }).waitFor();
    const missing = to - from + 1;
    const gap = page.locator("#waterfall .row[data-fate=gap]", { hasText: `at most ${missing} events missing` });
    await page.locator("#waterfall .note", { hasText: "gap:" }).waitFor();
    // The rows in sight are the newest.
    await scrollTo(page, "#waterfall .grid", gap);
    assert.equal(await gap.locator(".start .gap").count(), 1);
    await page.locator("#waterfall .note", { hasText: `gap: at most ${missing} events missing` }).waitFor();
    await page.locator("#band .gap-mark").first().waitFor();
    assert.equal(await page.locator("#band .gap-mark").first().getAttribute("title"), `${missing} events are missing`);
    await until(page, (text) => document.querySelector("#graph canvas").getAttribute("aria-label").includes(text), `at most ${missing} missing`);
    await page.locator("#session .lost", { hasText: `≤ ${missing} lost` }).waitFor();
    await scrollTo(page, "#list .scroller", page.locator("#list .row.loss", { hasText: `at most ${missing} events lost: not in this file` }));
    // It is no request: the keyboard goes beyond it, and it has no details.
    await scrollTo(page, "#waterfall .grid", gap);
    await gap.click();
    assert.equal(await page.locator("#panel").isVisible(), false);
    await page.locator("#waterfall .grid").press("Home");
    const count = await requestCount(page);
    for (let row = 0; row < count; row += 1) await page.locator("#waterfall .grid").press("ArrowDown");
    await page.locator("#panel .sentence").waitFor();
    await close(page);
  },

  // The calls of the page on a file, and those of the server on the same events.
  async a_file_answers_as_the_server_does() {
    const { fileSource } = await import(pathToFileURL(join(rest[1], "file.js")));
    const bundle = await (await fetch(`${server}/telemetry/view`, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: readFileSync(rest[0]) })).json();
    const source = fileSource(bundle);
    const [first, last] = [bundle.events[0].event.ts, bundle.events.at(-1).event.ts];
    const time = (ts) => new Date(ts / 1000).toISOString().replace("Z", `${String(ts % 1000).padStart(3, "0")}Z`);
    const middle = first + Math.floor((last - first) / 2);
    const queries = [{}, { category: ["console"] }, { type: "page_*, network_request" }, { contains: "CHECKOUT" },
      { since: middle }, { until: middle }, { category: ["network", "page"], contains: "index" }];
    const parts = (query) => Object.entries(query).map(([name, value]) =>
      `&${name}=${encodeURIComponent(name === "since" || name === "until" ? time(value) : String(value).replaceAll(" ", ""))}`).join("");
    for (const query of queries) {
      for (const order of ["asc", "desc"]) {
        const mine = [];
        const theirs = [];
        let offset = "";
        do {
          const page = await source.events({ ...query, order, limit: 70, ...(offset && { offset }) });
          mine.push(...page.events.map(({ seq }) => seq));
          offset = page.hasMore ? page.nextOffset : "";
        } while (offset);
        do {
          const answer = await ask(`/telemetry/events?order=${order}&limit=70${parts(query)}${offset && `&offset=${offset}`}`);
          theirs.push(...(await answer.json()).map(({ seq }) => seq));
          offset = answer.headers.get("x-has-more") === "true" ? answer.headers.get("x-next-offset") : "";
        } while (offset);
        assert.deepEqual(mine, theirs, `${order} ${JSON.stringify(query)}`);
      }
      const whole = { since: first, until: last + 1, ...query };
      const mine = await source.counts({ ...whole, buckets: 20 });
      const theirs = await (await ask(`/telemetry/counts?buckets=20${parts(whole)}`)).json();
      for (const field of ["events", "matching", "by_category", "by_type"]) assert.deepEqual(mine[field], theirs[field], `${field} ${JSON.stringify(query)}`);
    }
    // An event that is older than the first of the file is in the file as well.
    const late = fileSource({ events: [20, 10, 15].map((ts, index) => ({ seq: index + 1, event: { ts, type: "x", category: "page" } })) });
    const { since, until, events } = await late.counts({ buckets: 1 });
    assert.deepEqual({ since, until, events }, { since: 10, until: 20, events: 3 });
    for (const status of ["404", "4xx", "failed", "blocked", "pending", "404,failed"]) {
      const mine = (await source.requests({ status })).items.map(({ seq }) => seq);
      const theirs = (await joined("requests", `&status=${status}`)).map(({ seq }) => seq);
      assert.deepEqual(mine, theirs, status);
    }
    for (const kind of ["requests", "navigations", "problems"]) {
      const mine = (await source[kind]({})).items.map(({ seq }) => seq);
      assert.deepEqual(mine, (await joined(kind)).map(({ seq }) => seq), kind);
    }
  },

  // One file, opened from the disk, that asks for nothing.
  async a_standalone_file_needs_no_network() {
    const page = await open(pathToFileURL(rest[0]).href);
    const count = (await joined("requests")).length;
    await untilRequests(page, count);
    await page.locator("#waterfall button", { hasText: "Failed" }).click();
    await page.locator("#waterfall .row.bad").first().click();
    await page.locator("#panel .sentence").waitFor();
    await hasNoViolations(page, "the standalone file");
    assert.deepEqual(page.wrong, []);
    assert.deepEqual(page.asked.filter((url) => !/^(file|blob|data):/.test(url)), []);
    await page.context().close();
  },

  // Each part of the filter says what it hides, and a type that does not exist is no good news.
  async filters_say_what_they_hide() {
    const page = await open();
    await sees(page, "the newest of all");
    // Problems come with a request of their own, after the events.
    await until(page, () => document.title.startsWith("("));
    const { events, by_category: by } = await (await ask("/telemetry/counts?buckets=1")).json();
    const hides = (count) => page.locator("#filters .hides", { hasText: `hides ${count.toLocaleString("en")}` }).first().waitFor();
    await page.locator("#filters label[data-category=console]").click();
    await hides(events - by.console);
    assert.deepEqual([...new Set(await page.locator("#list .row .category").allTextContents())], ["console"]);

    await page.locator("#filters input[list=types]").fill("consle_error");
    await page.locator("#list .empty", { hasText: "no known type" }).waitFor();
    assert.equal(await page.title().then((title) => title.startsWith("(")), true, "the problems are still counted");
    await page.locator("#list .empty button", { hasText: "Did you mean console_error?" }).click();
    await page.locator("#list .row .kind", { hasText: "console_error" }).first().waitFor();
    await page.locator("#filters button", { hasText: "Show all" }).click();

    await page.locator("#search").fill("no event has this");
    await page.locator("#list .empty", { hasText: `It hides ${events.toLocaleString("en")} of ${events.toLocaleString("en")} events` }).waitFor();
    await page.locator("#list .empty button", { hasText: "Show all" }).click();
    await page.locator("#filters select").first().selectOption("404");
    await page.locator("#list .row.problem").first().waitFor();
    await until(page, () => [...document.querySelectorAll("#list .row .what")].every((cell) => cell.textContent.includes("404")));
    // All events are counted, and not those alone that the list has read.
    const of = async (query) => (await (await ask(`/telemetry/counts?buckets=1&${query}`)).json()).matching;
    const says = (hidden) => page.locator("#filters .hides", { hasText: `hides ${hidden.toLocaleString("en")} of ${events.toLocaleString("en")}` }).first().waitFor();
    await says(events - (await of("status=404")));
    await page.locator("#filters select").first().selectOption("");
    const tabs = page.getByRole("combobox", { name: "Tab" });
    await until(page, () => document.querySelectorAll("#filters select")[1].options.length > 1);
    const target = await tabs.evaluate((select) => select.options[1].value);
    await tabs.selectOption(target);
    await says(events - (await of(`target_id=${target}`)));
    await until(page, (count) => document.querySelector("#list .row")?.getAttribute("aria-setsize") === String(count), await of(`target_id=${target}`));
    await page.locator("#filters button", { hasText: "Show all" }).click();
    await page.locator("#problems").check();
    await page.locator("#filters .hides", { hasText: `of ${events.toLocaleString("en")} events` }).waitFor();
    await close(page);
  },

  // From nothing to events: every state says what it is, and is what the server says.
  async a_session_is_started_switched_and_stopped() {
    await fetch(`${server}/telemetry`, { method: "DELETE" });
    const page = await open();
    await page.locator("#list .empty", { hasText: "No session is on" }).waitFor();
    await page.locator("#list button", { hasText: "Start a session" }).click();
    await page.locator("#list .empty", { hasText: "No events yet" }).waitFor();
    const menu = page.locator("#session summary").first();
    await until(page, () => document.querySelector("#session summary").textContent === "session: all categories");
    await menu.click();
    await page.locator("#session .sheet label", { hasText: "console" }).click();
    await page.locator("#session [role=status]", { hasText: "console off: confirmed" }).waitFor();
    const { config } = await (await ask("/telemetry")).json();
    assert.deepEqual([config.browser.console, config.browser.network], [{ enabled: false }, { enabled: true }]);
    await page.locator("#session button", { hasText: "Stop" }).click();
    await until(page, () => document.querySelector("#session summary").textContent === "no session");
    assert.equal((await fetch(`${server}/telemetry`)).status, 404);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#session details[open]").count(), 0);
    // What another client does is shown as well.
    await fetch(`${server}/telemetry`, { method: "PUT" });
    await until(page, () => document.querySelector("#session summary").textContent === "session: all categories");
    await close(page);
  },

  // Arguments: how many events are lost. What was evicted before the page was opened is counted, whatever the filter.
  async losses_are_kept() {
    const lost = Number(rest[0]).toLocaleString("en");
    const page = await open();
    await page.locator("#session .lost", { hasText: `${lost} lost` }).waitFor();
    // A loss is a problem.
    await until(page, () => document.title.startsWith("("));
    await page.locator("#filters label[data-category=console]").click();
    await page.locator("#list .empty").or(page.locator("#list .row.loss")).first().waitFor();
    await page.locator("#filters label[data-category=console]").click();
    await page.locator("#list .scroller").press("Home");
    await page.locator("#list .row.loss", { hasText: `${lost} events lost` }).waitFor();
    assert.equal(await page.locator("#session .lost").textContent(), `${lost} lost`);
    await close(page);
  },

  // Five thousand events a second, for a few seconds: nothing is lost without a word, the place is kept, and the page
  // stays small. How long frames and clicks took is a figure and no check: the machine has other things to do.
  async five_thousand_events_a_second() {
    const page = await open();
    await sees(page, "the newest of all");
    await page.evaluate(() => {
      const times = (globalThis.times = { frames: [], clicks: [] });
      let last = performance.now();
      const frame = (now) => {
        times.frames.push(now - last);
        last = now;
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
      new PerformanceObserver((list) => times.clicks.push(...list.getEntries().filter(({ name }) => name === "click").map(({ duration }) => duration)))
        .observe({ type: "event", durationThreshold: 16 });
    });
    let rate = 0;
    const feed = async (batches) => {
      const begin = performance.now();
      for (let batch = 0; batch < batches; batch += 1) {
        await publish(Array.from({ length: 250 }, (_, index) => ({ type: "load", category: "control", data: { message: `batch ${batch}`, index, rest: "x".repeat(200) } })));
        await new Promise((done) => setTimeout(done, begin + 50 * (batch + 1) - performance.now()));
      }
      rate = Math.round((batches * 250) / ((performance.now() - begin) / 1000));
    };
    let isFed = false;
    const fed = feed(80).then(() => (isFed = true));
    await sees(page, "batch");
    await page.locator("#list .row").nth(5).click();
    await page.locator("#panel .sentence").waitFor();
    const seqs = () => page.$$eval("#list .row .seq", (cells) => cells.map((cell) => cell.textContent));
    const kept = await seqs();
    while (!isFed) {
      await page.locator("#list .row").nth(3).click();
      await page.waitForTimeout(200);
    }
    await fed;
    assert.deepEqual(await seqs(), kept, "the place is kept");
    await page.locator("#list .jump").click();
    await sees(page, "batch 79");
    const head = Number((await ask("/telemetry/events?limit=1")).headers.get("x-head"));
    await until(page, (head) => [...document.querySelectorAll("#list .row .seq")].some((cell) => Number(cell.textContent) === head), head);
    const { frames, clicks, elements, heap } = await page.evaluate(() => ({ ...globalThis.times,
      elements: document.querySelectorAll("*").length, heap: performance.memory.usedJSHeapSize }));
    assert(elements < 1500, `${elements} elements`);
    const sorted = frames.toSorted((a, b) => a - b);
    console.error(`${rate} events/s: ${frames.length} frames, median ${sorted[frames.length >> 1].toFixed(1)} ms, `
      + `${frames.filter((time) => time > 50).length} over 50 ms, longest ${sorted.at(-1).toFixed(0)} ms; clicks at most ${Math.max(0, ...clicks)} ms; `
      + `${elements} elements, ${(heap / 1e6).toFixed(0)} MB`);
    await close(page);
  },

  // Arguments: the program, a folder for the profile of the browser that it observes. A script is missing: which one, what the server said, who wanted it, and what the page did then.
  async explains_a_missing_script() {
    await onSite("missingScript", async (page, site) => {
      await page.locator("#waterfall button", { hasText: "Failed" }).click();
      await until(page, () => document.querySelectorAll("#waterfall .body .row.bad").length === 1);
      const row = page.locator("#waterfall .row.bad");
      assert.equal(await row.locator(".status").textContent(), "404");
      assert.equal(await row.locator(".name b").textContent(), "pricing.js");
      await row.click();
      await says(page, `GET ${site}vendor/pricing.js answered 404 Not Found after`);
      await says(page, "Requested by line 5 of");
      await says(page, "Not captured: the page did not read it to its end.");
      await page.locator("#panel section", { hasText: "what followed" }).getByText("Pricing is not defined").first().waitFor();
    });
  },

  // Arguments: the program, a folder for the profile of the browser that it observes. The request is found by the address that the page asked for, and says where it was sent to.
  async explains_a_login_redirect_that_breaks_cors() {
    await onSite("loginRedirect", async (page, site) => {
      await page.locator("#waterfall button", { hasText: "Failed" }).click();
      await until(page, () => document.querySelectorAll("#waterfall .body .row.bad").length === 1);
      const row = page.locator("#waterfall .row.bad");
      await row.locator(".name b", { hasText: "orders → login" }).waitFor();
      assert.equal(await row.locator(".status").textContent(), "CORS");
      await row.click();
      await says(page, "MissingAllowOriginHeader");
      await says(page, `302 GET ${site}api/orders → http://127.0.0.1:`);
      await says(page, "Requested by line 2 of");
      await page.locator("#panel section", { hasText: "what followed" }).getByText("Failed to fetch").first().waitFor();
    });
  },

  // Arguments: the program, a folder for the profile of the browser that it observes. Nothing failed: the slowest request is the first by its time, and the page says how far it moved.
  async explains_a_slow_third_party_that_moves_the_page() {
    await onSite("slowThirdParty", async (page) => {
      const time = page.locator("#waterfall .head .time button");
      await time.click();
      await time.click();
      const row = page.locator("#waterfall .body .row[aria-rowindex='2']");
      await row.locator(".name b", { hasText: "banner.js" }).waitFor();
      await row.click();
      await says(page, "banner.js answered 200 OK after 1");
      await page.locator("#panel summary", { hasText: "what happened around this" }).click();
      await page.locator("#panel .moments", { hasText: "page_layout_shift" }).waitFor();
      await page.locator("#band .page").last().click();
      await says(page, /Layout shift 0\.\d+ in \d+ shifts?\./);
    });
  },

  async pictures() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open(undefined, { colorScheme });
      await page.locator("#band .page").first().waitFor();
      await page.locator("#band .shot").first().waitFor();
      await page.locator("#waterfall .row.bad").first().waitFor();
      await picture(page, `page-${colorScheme}`);
      const bad = page.locator("#waterfall .row.bad").first();
      await page.locator("#waterfall button", { hasText: "Failed" }).click();
      await bad.click();
      await page.locator("#panel .sentence").waitFor();
      await page.locator("#waterfall button", { hasText: "All" }).click();
      await picture(page, `live-page-${colorScheme}`);
      for (const view of ["graph", "band", "waterfall", "list", "panel"]) await page.locator(`#${view}`).screenshot({ path: join(pictures, `${view}-${colorScheme}.png`) });
      await close(page);
      const phone = await open(undefined, { colorScheme, viewport: PHONE });
      await phone.locator("#waterfall .row").nth(3).waitFor();
      await picture(phone, `live-page-phone-${colorScheme}`, { fullPage: true });
      await close(phone);
    }
  },

  async a_fleet_without_instances_says_how_to_start_one() {
    const page = await open();
    await page.getByText("tapline serve --nats URL --instance NAME").waitFor();
    await untilState(page, "^no instances$");
    await hasNoViolations(page, "no instances");
    await picture(page, "fleet-none");
    await page.getByRole("searchbox").fill("nothing");
    await page.getByText("No instance matches").waitFor();
    await page.reload();
    await page.getByText("No instance matches").waitFor();
    await close(page);
  },

  async a_fleet_is_searched_sorted_and_read_in_parts() {
    for (const [size, options] of [["desk", {}], ["dark", { colorScheme: "dark" }], ["phone", { viewport: PHONE }]]) {
      const page = await open(`${server}/#order=problems`, options);
      await page.getByText(/of 5,00\d$/).waitFor();
      await hasNoViolations(page, `the page of a fleet, ${size}`);
      await picture(page, `fleet-${size}`);
      await close(page);
    }
    const page = await open();
    const range = (text) => page.getByText(text, { exact: true }).waitFor();
    await untilState(page, "^5,001 of 5,001 running");
    await range("1 to 100 of 5,001");
    assert.equal((await instances(page)).length, 100);
    const previous = page.getByRole("button", { name: "Previous" });
    const next = page.getByRole("button", { name: "Next" });
    assert(await previous.isDisabled());

    // Parts.
    await next.click();
    await range("101 to 200 of 5,001");
    assert.deepEqual((await instances(page)).slice(0, 2), ["till-0099", "till-0100"]);
    await previous.click();
    await range("1 to 100 of 5,001");
    assert.deepEqual((await instances(page)).slice(0, 3), ["shop-7", "till-0000", "till-0001"]);
    // It asks for these and no more, again and again.
    const parts = page.asked.filter((url) => url.includes("/instances?"));
    assert(parts.every((url) => url.includes("limit=100")), `${parts}`);

    // Orders.
    const sorted = (name) => page.getByRole("columnheader", { name }).getAttribute("aria-sort");
    assert.equal(await sorted("instance"), "ascending");
    await page.getByRole("button", { name: "problems" }).click();
    await page.getByRole("row", { name: /^till-4998/ }).waitFor();
    assert.deepEqual((await instances(page)).slice(0, 2), ["till-4998", "till-4991"]);
    assert.deepEqual([await sorted("instance"), await sorted("problems")], [null, "descending"]);
    assert.match(await page.getByRole("row", { name: /^till-4991/ }).textContent(), /at least 4,991: GET http/);
    assert.match(await page.getByRole("row", { name: /^till-4998/ }).textContent(), /runs.*4,998: GET http.*network_response, /);

    // A search, which a reload keeps.
    await page.keyboard.press("/");
    await page.keyboard.type("shop");
    await untilState(page, "^1 of 1 that match running");
    await page.reload();
    await untilState(page, "^1 of 1 that match running");
    assert.deepEqual(await instances(page), ["shop-7"]);
    const shop = await page.getByRole("row", { name: /^shop-7/ }).textContent();
    assert.match(shop, /3: the basket is empty/);
    assert.match(shop, /console_error, \d/);
    assert(await page.getByRole("button", { name: "Next" }).isHidden());
    await page.getByRole("searchbox").fill("till-00*,nothing");
    await untilState(page, "^100 of 100 that match");

    // The focus stays where it is while rows change their places.
    await page.getByRole("link", { name: "till-0000" }).focus();
    await page.getByRole("button", { name: "instance" }).evaluate((button) => button.click());
    await until(page, () => document.querySelector("#fleet tbody a").textContent === "till-0000");
    await page.getByRole("button", { name: "problems" }).evaluate((button) => button.click());
    await until(page, () => document.querySelector("#fleet tbody a").textContent === "till-0098");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "till-0000");

    await page.getByRole("searchbox").fill("shop");
    await untilState(page, "^1 of 1 that match running");
    await page.getByRole("link", { name: "shop-7" }).focus();
    // A gateway that does not answer, and then the keyboard opens an instance.
    await page.context().setOffline(true);
    await untilState(page, "The gateway cannot be reached. The list is ");
    assert.equal(await page.locator("#fleet").getAttribute("data-stale"), "true");
    await picture(page, "fleet-stale");
    await page.context().setOffline(false);
    await untilState(page, "^1 of 1 that match running");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${server}/instances/shop-7/`);
    await sees(page, "the basket is empty");
    await page.goBack();
    await untilState(page, "^1 of 1 that match running");
    // A click anywhere in the row, too.
    await page.getByText("console_error, ").click();
    await page.waitForURL(`${server}/instances/shop-7/`);
    await close(page);
  },
};

// The names of the instances on the page of a fleet.
const instances = (page) => page.locator("#fleet tbody td:first-child").allTextContents();
const untilState = (page, pattern) => until(page, (pattern) => new RegExp(pattern).test(document.getElementById("state").textContent), pattern);

// What every row says, by scrolling through all of them.
async function allRows(page) {
  return page.evaluate(async () => {
    const grid = document.querySelector("#waterfall .grid");
    const rows = new Map();
    for (let top = 0; ; top += grid.clientHeight / 2) {
      grid.scrollTop = top;
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      for (const row of document.querySelectorAll("#waterfall .body .row")) {
        const text = (name) => row.querySelector(`.${name}`).textContent;
        rows.set(Number(row.getAttribute("aria-rowindex")), {
          status: text("status"), method: text("method"), url: row.querySelector(".name").title, title: row.querySelector(".start").title,
        });
      }
      if (grid.scrollHeight - grid.clientHeight <= top) break;
    }
    return [...rows.entries()].sort(([a], [b]) => a - b).map(([, row]) => row);
  });
}

try {
  await cases[name]();
  console.log("done");
} finally {
  await browser.close();
}
