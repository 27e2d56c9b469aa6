// Time axes: which times get a line, and where on the axis a time is. Pure functions.
//
// Times are microseconds since the Unix epoch; an axis is `{since, until}` with since < until.

const MS = 1000;
const SECOND = 1000 * MS;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

// The steps that a person can read.
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500,
  MS, 2 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS,
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY,
];

// The smallest readable step that is at least this long.
export function stepOf(length) {
  return STEPS.find((step) => length <= step) ?? Math.ceil(length / DAY) * DAY;
}

// The times that get a line: at most `most`, on whole steps of the clock.
export function ticksOf(axis, most) {
  const step = stepOf((axis.until - axis.since) / Math.max(1, most));
  const ticks = [];
  for (let ts = Math.ceil(axis.since / step) * step; ts <= axis.until; ts += step) ticks.push(ts);
  return { step, ticks };
}

// Where a time is: 0 is the beginning of the axis, 1 its end.
export function placeOf(ts, axis) {
  return (ts - axis.since) / (axis.until - axis.since);
}

// As `placeOf`, and within the axis.
export function placeWithin(ts, axis) {
  return Math.min(1, Math.max(0, placeOf(ts, axis)));
}

export function timeAt(place, axis) {
  return Math.round(axis.since + place * (axis.until - axis.since));
}

// Whether two pieces of time have a moment in common. An end that is null lasts.
export function overlaps(since, until, axis) {
  return since <= axis.until && (until === null || axis.since <= until);
}

// The same piece, within the other; null if nothing is left.
export function clipped(piece, axis) {
  const since = Math.max(piece.since, axis.since);
  const until = Math.min(piece.until, axis.until);
  return since < until ? { since, until } : null;
}
