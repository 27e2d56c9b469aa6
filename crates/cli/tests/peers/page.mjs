// Runs the functions of the live page with which it reads an event. Argument: the module that has them.

import assert from "node:assert";
import { pathToFileURL } from "node:url";

const { summaryOf, spread } = await import(pathToFileURL(process.argv[2]));

for (const depth of [10, 5_000, 400_000]) {
  const list = "[".repeat(depth) + "]".repeat(depth);
  const object = '{"a":'.repeat(depth) + "1" + "}".repeat(depth);
  for (const data of [list, object, `{"text":${list},"source_url":"x"}`, `{"request_id":${object}}`]) {
    for (const type of ["deep", "console_error", "network_request"]) {
      const text = `{"seq":1,"event":{"ts":1,"type":"${type}","category":"page","data":${data}}}`;
      const what = summaryOf(JSON.parse(text).event);
      assert(what.length <= 401, `${type}: ${what.length}`);
      const shown = spread(text.slice(0, 20_000));
      assert(shown.length < 2_000_000, `${type}: ${shown.length}`);
    }
  }
}

// Short ones are shown as they are.
for (const [data, what] of [
  ['{"a":[1,null,{"b":"c"},[],{}],"d":true}', '{"a":[1,null,{"b":"c"},[],{}],"d":true}'],
  ["[1,[2]]", "[1,[2]]"],
  [`{"a":"${"x".repeat(500)}"}`, '{"a":"(500 characters)"}'],
  ['{"__proto__":1,"\\"":2}', '{"__proto__":1,"\\"":2}'],
]) {
  assert.strictEqual(summaryOf({ type: "mine", data: JSON.parse(data) }), what);
}
console.log("done");
