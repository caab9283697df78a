"""A mitmproxy script with two innocent-looking habits, and a resolver that finds every `example` on this machine."""

from __future__ import annotations

from mitmproxy import http


def requestheaders(flow: http.HTTPFlow) -> None:
    if "x-stream" in flow.request.headers:
        flow.request.stream = True


def request(flow: http.HTTPFlow) -> None:
    if "x-answer" in flow.request.headers:
        flow.response = http.Response.make(200, b"from another addon")


def server_connect(data) -> None:
    if data.server.address[0].endswith(".example"):
        data.server.address = ("127.0.0.1", data.server.address[1])
