// Asks `tapline mcp` what went wrong, with the client of npm @modelcontextprotocol/sdk, and prints what it got as one JSON
// object. Arguments: the folder of the modules; then `stdio`, the program and its arguments; or `http`, the address and
// the token.

import { pathToFileURL } from "node:url";

const [modules, how, ...rest] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/client/${path}.js`));
const { Client } = await sdk("index");

const client = new Client({ name: "test", version: "0" });
if (how === "stdio") {
  const { StdioClientTransport } = await sdk("stdio");
  const [command, ...args] = rest;
  await client.connect(new StdioClientTransport({ command, args }));
} else {
  const { StreamableHTTPClientTransport } = await sdk("streamableHttp");
  const [url, token] = rest;
  const requestInit = { headers: { authorization: `Bearer ${token}` } };
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
}

const { tools } = await client.listTools();
const why = await client.callTool({ name: "why", arguments: { max_bytes: 2000 } });
const wrong = await client.callTool({ name: "why", arguments: { max_bytes: 1 } });
console.log(JSON.stringify({
  name: client.getServerVersion().name,
  tools: tools.map((tool) => tool.name),
  why: why.content[0].text,
  wrong: wrong.isError,
}));
await client.close();
