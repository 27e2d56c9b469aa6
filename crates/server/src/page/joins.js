// Requests, navigations and problems of the range, as the server joined them.
export function createJoins() {
  return { requests: () => [], navigations: () => [], problems: () => [], on: () => () => {} };
}
