// Follows a browser's telemetry with the published SDK, as its documentation says, and prints each
// event as a line of JSON. Arguments: the folder in which the SDK is installed, the API's address,
// the types to ask for, joined by commas, and the id to resume after; either may be empty.

import { createRequire } from "node:module";

const [folder, api, types, after] = process.argv.slice(2);
const { Kernel } = createRequire(`${folder}/`)("@onkernel/sdk");

const asked = { replay: "all" };
if (types) asked.type = types.split(",");
if (after) asked["Last-Event-ID"] = after;

const client = new Kernel({ apiKey: "none", baseURL: api, maxRetries: 0 });
const browser = await client.browsers.retrieve("one");
for await (const event of await client.browsers.telemetry.stream(browser.session_id, asked)) {
  console.log(JSON.stringify(event));
}
