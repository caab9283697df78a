"""HAProxy with examples/decision_service/haproxy.cfg."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import host, origin_of, program, rendered, started


@contextmanager
def haproxy(stage, asked: int):
    """Run HAProxy in front of the stage's site; yield the ports of HTTP and of TLS."""
    plain, tls = free_ports(2)
    config = rendered("haproxy.cfg", stage.folder, {
        "origin1 127.0.0.1:8000": f"origin1 {origin_of(stage)}", "decide 127.0.0.1:9451": f"decide 127.0.0.1:{asked}",
        "bind 127.0.0.1:8080": f"bind 127.0.0.1:{plain}", "bind 127.0.0.1:8443": f"bind 127.0.0.1:{tls}",
        "timeout server 60s": "timeout server 3s", "/etc/ssl/edge.pem": str(stage.certificate),
    })  # fmt: skip
    with started(stage.folder, program("haproxy", "apt-get install haproxy"), "-db", "-f", config, ports=(plain, tls)):
        yield plain, tls


class TestHaproxy(AdapterContract):
    """Scenarios over HTTP/1.1 and HTTP/2."""

    random_requests = 600
    cannot = {
        Need.ABSOLUTE_FORM: "HAProxy answers 400 where target and Host differ",
        Need.CACHE: "a verdict cannot reach HAProxy's cache: nothing is left of the first try when the second one comes",
        Need.CDN: "a verdict cannot reach HAProxy's response rules: nothing is left of the first try by then",
        Need.CUT: "what HAProxy has let through is its own until it ends: the service is asked once a request",
        Need.FORWARDED: "HAProxy tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
        Need.UPLOAD: "HAProxy tries again only what fits in a buffer",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, haproxy, dialect="haproxy@")
