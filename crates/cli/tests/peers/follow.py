"""Follows a browser's telemetry with the published SDK, as its documentation says, and prints each
event as a line of JSON. Arguments: the API's address, the types to ask for, joined by commas, and the
id to go on after; either may be empty."""

import json
import sys

from kernel import Kernel

api, types, after = sys.argv[1:]
asked = {"replay": "all"}
if types:
    asked["type"] = types.split(",")
if after:
    asked["last_event_id"] = after

client = Kernel(api_key="none", base_url=api, max_retries=0)
browser = client.browsers.retrieve("one")
for event in client.browsers.telemetry.stream(browser.session_id, **asked):
    # Its models know the types of one moment, and warn of others.
    print(json.dumps(event.to_dict(mode="json", warnings=False)), flush=True)
