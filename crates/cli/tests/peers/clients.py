"""Follows a stream with one of the published clients, as its documentation says, and prints what that delivers:
each message as a line of JSON. Arguments: the client's name, and the stream's address."""

import json
import sys
import time
from datetime import timedelta

import httpx
import httpx_sse
import requests
import requests_sse
import sseclient

name, url = sys.argv[1:]
last = ""


def deliver(id, data):
    global last
    last = id or last
    print(json.dumps({"id": id, "data": data}), flush=True)


def with_httpx_sse(headers):
    with httpx.Client(timeout=None) as client:
        with httpx_sse.connect_sse(client, "GET", url, headers=headers) as source:
            for event in source.iter_sse():
                deliver(event.id, event.data)


def with_sseclient(headers):
    with requests.get(url, stream=True, headers={**headers, "Accept": "text/event-stream"}) as response:
        for event in sseclient.SSEClient(response).events():
            deliver(event.id, event.data)


def with_requests_sse():
    # It reconnects by itself.
    with requests_sse.EventSource(url, reconnection_time=timedelta(seconds=0.1), max_connect_retry=20) as source:
        for event in source:
            deliver(event.last_event_id, event.data)


if name == "requests-sse":
    with_requests_sse()
while True:
    headers = {"Last-Event-ID": last} if last else {}
    try:
        {"httpx-sse": with_httpx_sse, "sseclient-py": with_sseclient}[name](headers)
    except (httpx.HTTPError, requests.RequestException):
        pass  # the connection broke
    time.sleep(0.1)  # the pause of a client before it connects again
