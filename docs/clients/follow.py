"""Follows a stream with Python's standard library: resumes after a break, and reports what was lost.

Prints a line of JSON for each event, with the cursor behind it: store that to resume after a restart of your program.

    python3 follow.py http://127.0.0.1:10001 [CURSOR]      with a token: TAPLINE_TOKEN=… python3 follow.py …
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


class Refused(Exception):
    """The server refuses the request: asking again does not help. A 401 needs another token."""


def frames(response):
    """The frames of a stream of Server-Sent Events, each as a dict of its fields."""
    frame = {}
    for line in response:
        line = line.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(":")
            frame[name] = value.removeprefix(" ")  # Tapline writes one line of data
        else:
            if "data" in frame:
                yield frame
            frame = {}
    # What is left is a frame that broke off. It comes again after the reconnect.


def follow(url, cursor=None, token=None, **query):
    """Yields {"event", "seq", "cursor"}, or {"lost", "reason", "cursor"}, where `lost` is None if it cannot be known.

    Ends when the server says that all was delivered.
    """
    query = urllib.parse.urlencode({**query, "notices": "true"}, doseq=True)
    pause = 1.0
    while True:
        request = urllib.request.Request(f"{url}/telemetry/stream?{query}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if cursor:
            request.add_header("Last-Event-ID", cursor)
        try:
            # A busy or a quiet stream has a beat every 15 seconds: a longer silence is a broken connection.
            with urllib.request.urlopen(request, timeout=45) as response:
                for frame in frames(response):
                    name, data = frame.get("event", "message"), json.loads(frame["data"])
                    cursor = frame.get("id", cursor)
                    if "retry" in frame:  # The server's own: its clients do not return all at once.
                        pause = int(frame["retry"]) / 1000
                    if name == "message":
                        yield {"event": data["event"], "seq": data["seq"], "cursor": cursor}
                    elif name == "gap":
                        yield {"lost": data.get("matching"), "reason": "lagged", "cursor": cursor}
                    elif name == "hello" and data["reason"] not in ("fresh", "resumed"):
                        yield {"lost": data.get("lost"), "reason": data["reason"], "cursor": cursor}
                    elif name == "bye" and data["reason"] == "complete":
                        return
                    elif name == "bye" and data["reason"] == "expired":
                        raise Refused("the ticket has expired")
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                try:
                    message = json.load(error)["message"]
                except (ValueError, KeyError, TypeError):
                    message = "no Tapline server"
                raise Refused(f"{error.code}: {message}") from None
            print(f"{error}; again in {pause} s", file=sys.stderr)
        except (OSError, http.client.HTTPException) as error:
            print(f"{error}; again in {pause} s", file=sys.stderr)
        time.sleep(pause)


if __name__ == "__main__":
    try:
        for item in follow(*sys.argv[1:], token=os.environ.get("TAPLINE_TOKEN")):
            print(json.dumps(item), flush=True)
    except Refused as refused:
        sys.exit(str(refused))
