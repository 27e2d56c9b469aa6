// Reads a HAR file with another program's code, and prints how many entries it found. Arguments: what reads it (a path to
// npm's har-validator, or to a browser), the file, and a folder for the browser's profile.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [how, what, file, profile] = process.argv.slice(2);
const har = readFileSync(file, "utf8");

if (how === "validator") {
  // Throws what is wrong with the first entries.
  await createRequire(import.meta.url)(what).har(JSON.parse(har)).catch((error) => {
    throw new Error(JSON.stringify(error.errors ?? String(error)).slice(0, 2_000));
  });
  console.log(JSON.parse(har).log.entries.length);
} else {
  console.log(await imported(what, har));
}

// The browser serves its own developer tools; their importer is a module of them.
async function imported(program, har) {
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
    "--remote-allow-origins=*", `--user-data-dir=${profile}`, "about:blank"];
  const browser = spawn(program, flags, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => browser.once("exit", resolve));
  try {
    const address = await new Promise((resolve, reject) => {
      let text = "";
      browser.stderr.on("data", (data) => {
        const found = (text += data).match(/ws:\/\/(127\.0\.0\.1:\d+)\//);
        if (found) resolve(found[1]);
      });
      browser.once("exit", () => reject(new Error(`the browser ended: ${text}`)));
    });
    const targets = await (await fetch(`http://${address}/json/list`)).json();
    const socket = new WebSocket(targets.find((it) => it.type === "page").webSocketDebuggerUrl);
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    let number = 0;
    const call = (method, params) => new Promise((resolve) => {
      const id = ++number;
      socket.addEventListener("message", function take(message) {
        const answer = JSON.parse(message.data);
        if (answer.id !== id) return;
        socket.removeEventListener("message", take);
        resolve(answer);
      });
      socket.send(JSON.stringify({ id, method, params }));
    });
    await call("Page.enable", {});
    const loaded = new Promise((resolve) => socket.addEventListener("message", (message) => {
      if (JSON.parse(message.data).method === "Page.loadEventFired") resolve();
    }));
    await call("Page.navigate", { url: `http://${address}/devtools/devtools_app.html` });
    await loaded;
    const expression = `import("./models/har/har.js").then((har) => {
      const file = new har.HARFormat.HARRoot(JSON.parse(${JSON.stringify(har)}));
      const importer = Object.values(har.Importer).find((it) => typeof it.requestsFromHARLog === "function");
      const requests = importer.requestsFromHARLog(file.log);
      for (const request of requests) {
        if (!request.url() || Number.isNaN(request.duration)) throw new Error("an entry is not whole: " + request.url());
      }
      return requests.length;
    })`;
    const { result } = await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (result.exceptionDetails) throw new Error(JSON.stringify(result.exceptionDetails).slice(0, 2_000));
    return result.result.value;
  } finally {
    browser.kill("SIGKILL");
    await ended;
  }
}
