"""A mitmproxy script: every name under `example` is this machine, as a resolver would say."""

from __future__ import annotations


def server_connect(data) -> None:
    if data.server.address[0].endswith(".example"):
        data.server.address = ("127.0.0.1", data.server.address[1])
