"""What schemathesis has to be told about this interface."""

import json
import os
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import schemathesis

NDJSON = "application/x-ndjson"

# So that a call that waits for an event comes to its end well before the tool's own deadline.
LONGEST_WAIT_MS = 100

# The server refuses a head of more than 32 KiB with 431 before it looks at it. That is right, and the tool does not expect it.
LONGEST_QUERY = 24 * 1024


@schemathesis.serializer(NDJSON)
def ndjson(_context, text):
    return text.encode()


@schemathesis.hook
def filter_case(_context, case):
    """Whatever is sent as lines is a text, so that there is no wrong type of it to be refused; and queries fit into a head."""
    if LONGEST_QUERY < len(urlencode(case.query or {}, doseq=True)):
        return False
    return case.media_type != NDJSON or isinstance(case.body, str)


@schemathesis.hook
def map_path_parameters(_context, path_parameters):
    """Every other reader that is named is the one that there is."""
    name = (path_parameters or {}).get("id")
    if isinstance(name, str) and len(name) % 2 == 0:
        path_parameters["id"] = "r1"
    return path_parameters


def published_request():
    """The seq of a new request; None while the network is not captured."""
    data = {"request_id": "1", "url": "http://h/", "method": "GET", "headers": {}, "document_url": "", "initiator_type": ""}
    body = json.dumps({"type": "network_request", "data": data}).encode()
    sent = Request(os.environ["TAPLINE_URL"] + "/telemetry/events", body, {"content-type": "application/json"})
    with urlopen(sent) as answer:
        text = answer.read()
    return json.loads(text)["seq"] if text else None


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Every other request that is named is one that there is. Waits are cut short, where one was asked for that the server
    would grant, or none was named."""
    if case.path == "/telemetry/requests/{id}" and case.method == "GET":
        name = (case.path_parameters or {}).get("id")
        seq = published_request() if isinstance(name, str) and len(name) % 2 == 0 else None
        if seq is not None:
            case.path_parameters = {"id": str(seq)}
    if case.path != "/telemetry/wait":
        return
    wait = (case.query or {}).get("timeout_ms", LONGEST_WAIT_MS + 1)
    # A number, or the text of one.
    if str(wait).isdecimal() and LONGEST_WAIT_MS < int(wait):
        case.query = {**(case.query or {}), "timeout_ms": LONGEST_WAIT_MS}
