"""The address of `/metrics` alone: whoever only opens connections there takes it from nobody."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack

from cdnblock.metrics import Collector, serve_metrics, serving


def test_connections_are_few_and_those_that_ask_nothing_are_closed(monkeypatch):
    """More than there may be are closed at once, the silent ones soon after; whoever asks is answered then."""
    monkeypatch.setattr(serving, "_FIRST_HEAD", 0.5)
    with serve_metrics(("127.0.0.1", 0), Collector(None)) as (host, port), ExitStack() as opened:
        scraper = http.client.HTTPConnection(host, port, timeout=10)
        opened.callback(scraper.close)
        scraper.request("GET", "/metrics")
        assert b"cdnblock_build_info" in scraper.getresponse().read()
        silent = [opened.enter_context(socket.create_connection((host, port), 10)) for _ in range(80)]
        for one in silent[:40]:
            one.sendall(b"GET /metrics HTTP/1.1\r\nHo")
        for one in (silent[79], silent[0], silent[50]):
            assert one.recv(1) == b""
        scraper.request("GET", "/metrics")
        assert scraper.getresponse().status == 200
