"""Varnish with examples/decision_service/varnish.vcl, a cache that asks before each look-up."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import host, origin_of, program, rendered, started


@contextmanager
def varnish(stage, asked: int):
    """Run Varnish in front of the stage's site; yield the port of HTTP."""
    (plain,) = free_ports(1)
    where, port = origin_of(stage).split(":")
    config = rendered("varnish.vcl", stage.folder, {
        'backend origin { .host = "127.0.0.1"; .port = "8000"; }': f'backend origin {{ .host = "{where}"; .port = "{port}"; }}',
        '.port = "9451"': f'.port = "{asked}"',
    })  # fmt: skip
    work = stage.folder / "varnish"
    work.mkdir(exist_ok=True)
    command = (
        program("varnishd", "apt-get install varnish"), "-F", "-n", work, "-a", f"127.0.0.1:{plain}", "-f", config,
        "-s", "malloc,64m", "-T", "none", "-j", "none",
        "-p", "http_range_support=off",  # the site does no ranges, and Varnish would make them of its answers
    )  # fmt: skip
    with started(stage.folder, *command, ports=(plain,)):
        yield plain, None


class TestVarnish(AdapterContract):
    """Scenarios over HTTP/1.1."""

    random_requests = 600
    cannot = {
        Need.HTTP2: "Varnish has no TLS",
        Need.TRAILERS: "Varnish 7.1 answers 503 to an origin that sends them",
        Need.CLOSE: "Varnish answers every request: a covered one gets an empty 451",
        Need.CUT: "what Varnish has let through is its own until it ends: the service is asked once a request",
        Need.FORWARDED: "Varnish tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, varnish)
