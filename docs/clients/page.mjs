// Follows a stream in a page, with a ticket. `EventSource` cannot send a token, so the page asks its own server for a ticket, which is valid for
// minutes and for reading only.

/**
 * Calls `on.event(event, seq)`, `on.lost(count, reason)` (the count is undefined if it cannot be known) and `on.failed(error)`. `newTicket` is
 * your function that gets a ticket from your server. Returns a function that ends it.
 */
export function follow(url, newTicket, on) {
  let stream;
  let cursor;
  let timer;
  let ended = false;

  async function open() {
    const address = new URL("/telemetry/stream", url);
    address.searchParams.set("notices", "true");
    try {
      address.searchParams.set("ticket", await newTicket());
    } catch (error) {
      on.failed(error);
      return again();
    }
    if (ended) return;
    // A new EventSource has no Last-Event-ID, so the cursor goes into the query.
    if (cursor) address.searchParams.set("lastEventId", cursor);
    stream = new EventSource(address);
    const listen = (name, handle) =>
      stream.addEventListener(name, ({ data, lastEventId }) => {
        cursor = lastEventId || cursor;
        handle(JSON.parse(data));
      });
    listen("message", ({ event, seq }) => on.event(event, seq));
    listen("gap", ({ matching }) => on.lost(matching, "lagged"));
    listen("hello", ({ reason, lost }) => {
      if (!["fresh", "resumed"].includes(reason)) on.lost(lost, reason);
    });
    listen("beat", () => {}); // For its cursor.
    listen("bye", ({ reason }) => {
      // The browser would reconnect with the old ticket.
      if (reason === "expired") reopen();
      if (reason === "complete") end();
    });
    stream.onerror = () => {
      // After a break the browser reconnects by itself. It gives up after an answer such as 401: the ticket has expired meanwhile.
      if (stream.readyState === EventSource.CLOSED) again();
    };
  }

  function reopen() {
    stream.close();
    open();
  }

  function again() {
    if (!ended) timer = setTimeout(open, 1000 + Math.random() * 1000);
  }

  function end() {
    ended = true;
    clearTimeout(timer);
    stream?.close();
  }

  open();
  return end;
}
