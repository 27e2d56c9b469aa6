// Three sites that are broken, each in another way, on loopback ports of their own: `start()` answers {url, close}. They are not
// those of the demo.

import { createServer } from "node:http";

const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript", json: "application/json" };

// Serves what `answer(path)` says: {status, type, body, headers, after}; `after` are milliseconds.
async function serve(answer) {
  const server = createServer((request, response) => {
    const { status = 200, type = "html", body = "", headers = {}, after = 0 } = answer(new URL(request.url, "http://x").pathname) ?? { status: 404, body: "no such file" };
    setTimeout(() => {
      response.writeHead(status, { "content-type": TYPES[type], "cache-control": "no-store", ...headers });
      response.end(body);
    }, after);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

const together = (first, ...others) => ({ url: `${first.url}/`, close: () => [first, ...others].forEach((it) => it.close()) });

// The page of a shop whose script for prices is not there.
async function missingScript() {
  const page = `<!doctype html>
<title>Prices</title>
<h1>Prices</h1>
<p id="total">…</p>
<script src="/vendor/pricing.js"></script>
<script src="/app.js"></script>`;
  const app = `const total = document.querySelector("#total");

total.textContent = Pricing.total([1, 2, 3]);`;
  return together(await serve((path) => ({ "/": { body: page }, "/app.js": { type: "js", body: app }, "/favicon.ico": { body: "" } })[path]));
}

// Orders of an API whose session is over: it redirects to the login of another origin, which allows none to read it.
async function loginRedirect() {
  const login = await serve((path) => (path === "/login" ? { body: "<h1>Log in</h1>" } : { body: "" }));
  const page = `<!doctype html>
<title>Orders</title>
<h1>Orders</h1>
<ul id="orders"></ul>
<script src="/orders.js"></script>`;
  const script = `async function show() {
  const answer = await fetch("/api/orders");
  document.querySelector("#orders").textContent = await answer.text();
}
show();`;
  return together(await serve((path) => ({
    "/": { body: page },
    "/orders.js": { type: "js", body: script },
    "/api/orders": { status: 302, headers: { location: `${login.url}/login?from=orders` } },
    "/favicon.ico": { body: "" },
  })[path]), login);
}

// A page that an advertisement moves down when it comes at last.
async function slowThirdParty() {
  const script = `const banner = document.createElement("div");
banner.style.height = "240px";
banner.textContent = "Buy now";
document.body.prepend(banner);`;
  const ads = await serve((path) => (path === "/banner.js" ? { type: "js", body: script, after: 1200 } : { body: "" }));
  const page = `<!doctype html>
<title>News</title>
<h1>News</h1>
${"<p>Something happened, and this is a long line about what it was, and who was there when it did.</p>\n".repeat(12)}
<script async src="${ads.url}/banner.js"></script>`;
  return together(await serve((path) => ({ "/": { body: page }, "/favicon.ico": { body: "" } })[path]), ads);
}

export const SITES = { missingScript, loginRedirect, slowThirdParty };
