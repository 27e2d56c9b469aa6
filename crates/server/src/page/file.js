// Answers the calls of `api.js` from a bundle in memory.
export function fileSource(bundle) {
  return { kind: "file", name: bundle.name };
}
