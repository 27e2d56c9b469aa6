// Follows a stream in Node, without packages: resumes after a break, and reports what was lost. Prints a line of JSON for each
// event, with the cursor behind it: store that to resume after a restart of your program.
//
//   node follow.mjs http://127.0.0.1:10001 [CURSOR]         with a token: TAPLINE_TOKEN=… node follow.mjs …

/** The frames of a stream of Server-Sent Events: `{ name, id, data, retry }`. */
export async function* frames(body) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of body) {
    text += decoder.decode(bytes, { stream: true });
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const frame = { name: "message" };
      for (const line of text.slice(0, end).split("\n")) {
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "event") frame.name = value;
        if (field === "id") frame.id = value;
        if (field === "data") frame.data = value; // Tapline writes one line of it
        if (field === "retry") frame.retry = Number(value);
      }
      if (frame.data !== undefined) yield frame;
    }
  }
  // What is left is a frame that broke off. It comes again after the reconnect.
}

/**
 * Yields `{ event, seq, cursor }`, or `{ lost, reason, cursor }`, where `lost` is a number, or undefined if it cannot be known.
 * Ends when the server says that all was delivered, and throws if it refuses the request.
 */
export async function* follow(url, { cursor, token, query = {}, signal } = {}) {
  let pause = 1000;
  for (;;) {
    const address = new URL("/telemetry/stream", url);
    address.search = new URLSearchParams({ ...query, notices: "true" });
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (cursor) headers["last-event-id"] = cursor;
    // A beat comes every 15 seconds: after a longer silence the connection is dead.
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(new Error("45 s of silence")), 45_000);
    try {
      const signals = [silent.signal, ...(signal ? [signal] : [])];
      const response = await fetch(address, { headers, signal: AbortSignal.any(signals) });
      if (!response.ok) {
        const error = await response.json().catch(() => ({ message: "no Tapline server" }));
        // Asking again helps only if the server is busy or failed. A 401 needs another token.
        const isFinal = response.status < 500 && ![408, 429].includes(response.status);
        throw Object.assign(new Error(`${response.status}: ${error.message}`), { isFinal });
      }
      for await (const { name, id, data, retry } of frames(response.body)) {
        timer.refresh();
        const notice = JSON.parse(data);
        if (id) cursor = id;
        if (retry) pause = retry; // The server's own: its clients do not return all at once.
        if (name === "message") yield { event: notice.event, seq: notice.seq, cursor };
        if (name === "gap") yield { lost: notice.matching, reason: "lagged", cursor };
        if (name === "hello" && !["fresh", "resumed"].includes(notice.reason)) {
          yield { lost: notice.lost, reason: notice.reason, cursor };
        }
        if (name === "bye" && notice.reason === "complete") return;
        if (name === "bye" && notice.reason === "expired") {
          throw Object.assign(new Error("the ticket has expired"), { isFinal: true });
        }
      }
    } catch (error) {
      if (error.isFinal || signal?.aborted) throw error;
      console.error(`${error.message}; again in ${pause} ms`);
    } finally {
      clearTimeout(timer);
    }
    await new Promise((resume) => setTimeout(resume, pause));
  }
}

if (process.argv[1] === import.meta.filename) {
  const [url, cursor] = process.argv.slice(2);
  try {
    for await (const item of follow(url, { cursor, token: process.env.TAPLINE_TOKEN })) {
      console.log(JSON.stringify(item));
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
