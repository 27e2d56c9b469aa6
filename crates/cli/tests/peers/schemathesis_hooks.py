"""What schemathesis has to be told about this interface."""

import schemathesis

NDJSON = "application/x-ndjson"

# So that a call that waits for an event comes to its end well before the tool's own deadline.
LONGEST_WAIT_MS = 100


@schemathesis.serializer(NDJSON)
def ndjson(_context, text):
    return text.encode()


@schemathesis.hook
def filter_case(_context, case):
    """Whatever is sent as lines is a text, so that there is no wrong type of it to be refused."""
    return case.media_type != NDJSON or isinstance(case.body, str)


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Waits are cut short, where one was asked for that the server would grant."""
    wait = (case.query or {}).get("timeout_ms")
    if isinstance(wait, int) and LONGEST_WAIT_MS < wait:
        case.query["timeout_ms"] = LONGEST_WAIT_MS
