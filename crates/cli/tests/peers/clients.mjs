// Follows a stream with one of the published clients, as its documentation says, and prints what that delivers:
// each message as a line of JSON. Arguments: the folder in which the clients are installed, the client's name, and
// the stream's address.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, name, url] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const load = async (package_) => import(pathToFileURL(require.resolve(package_)));
const print = (id, data) => console.log(JSON.stringify({ id, data }));

// What a program does whose client does not reconnect by itself.
async function again(follow) {
  for (let last = ""; ; ) {
    const headers = last ? { "last-event-id": last } : {};
    try {
      const response = await fetch(url, { headers });
      await follow(response, (id, data) => {
        last = id || last;
        print(id, data);
      });
    } catch {
      // The connection broke.
    }
    await new Promise((done) => setTimeout(done, 100));
  }
}

const followers = {
  async eventsource() {
    const { EventSource } = await load("eventsource");
    new EventSource(url).onmessage = ({ lastEventId, data }) => print(lastEventId, data);
  },

  async "eventsource-parser"() {
    const { createParser } = await load("eventsource-parser");
    await again(async (response, message) => {
      const parser = createParser({ onEvent: ({ id, data }) => message(id, data) });
      const decoder = new TextDecoder();
      for await (const chunk of response.body) parser.feed(decoder.decode(chunk, { stream: true }));
    });
  },

  async "@microsoft/fetch-event-source"() {
    // It is made for pages, and asks whether its page is visible.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = require("@microsoft/fetch-event-source/lib/cjs/index.js");
    await fetchEventSource(url, {
      openWhenHidden: true,
      onmessage: ({ id, data }) => print(id, data),
      // Without these it takes the end of an answer for the end of all.
      onclose() { throw new Error("the connection ended"); },
      onerror: () => 100,
    });
  },

  async "launchdarkly-eventsource"() {
    const { EventSource } = require("launchdarkly-eventsource");
    const source = new EventSource(url, { initialRetryDelayMillis: 100 });
    source.onmessage = ({ lastEventId, data }) => print(lastEventId, data);
    source.onerror = () => {};
  },

  async "event-source-polyfill"() {
    const { EventSourcePolyfill } = require("event-source-polyfill");
    // With a header it uses `fetch`, which is here.
    const source = new EventSourcePolyfill(url, { headers: { "x-client": name } });
    source.onmessage = ({ lastEventId, data }) => print(lastEventId, data);
  },

  async "reconnecting-eventsource"() {
    const { EventSource } = await load("eventsource");
    const module_ = require("reconnecting-eventsource");
    const Reconnecting = module_.default ?? module_;
    const source = new Reconnecting(url, { eventSourceClass: EventSource, max_retry_time: 300 });
    source.onmessage = ({ lastEventId, data }) => print(lastEventId, data);
  },
};

// Some let the process end while they wait for their next connection.
setInterval(() => {}, 1000);
await followers[name]();
