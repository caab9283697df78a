"""nginx with examples/decision_service/nginx.conf, a cache that asks before each look-up."""

from __future__ import annotations

import getpass
import sys
from contextlib import contextmanager
from pathlib import Path

from cdnblock.testing import AdapterContract, Need

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from peers import host, origin_of, program, rendered, started


@contextmanager
def nginx(stage, asked: int | str):
    """Run nginx in front of the stage's site; yield the ports of HTTP and of TLS. `asked` is a port or `unix:/path`."""
    plain, tls = free_ports(2)
    spool = stage.folder / "nginx"
    spool.mkdir(exist_ok=True)
    config = rendered("nginx.conf", stage.folder, {
        "127.0.0.1:8000": origin_of(stage), "127.0.0.1:9451": asked if isinstance(asked, str) else f"127.0.0.1:{asked}",
        "127.0.0.1:8080": f"127.0.0.1:{plain}", "127.0.0.1:8443": f"127.0.0.1:{tls}",
        "user www-data;": f"user {getpass.getuser()};", "worker_processes auto;": "worker_processes 1;",
        "/etc/ssl/edge.pem": str(stage.certificate), "/run/nginx-cdnblock.pid": str(spool / "pid"),
        "/var/log/nginx/cdnblock.log": str(spool / "error.log"), "/var/cache/nginx/": f"{spool}/",
    })  # fmt: skip
    command = (
        program("nginx", "apt-get install nginx"),
        "-e",
        spool / "start.log",
        "-g",
        "daemon off;",
        "-c",
        config,
    )
    with started(stage.folder, *command, ports=(plain, tls)):
        yield plain, tls


class TestNginx(AdapterContract):
    """Scenarios over HTTP/1.1 and HTTP/2."""

    cannot = {
        Need.CUT: "what nginx has let through is its own until it ends: auth_request is asked once a request",
        Need.CONNECT: "nginx answers CONNECT with 405 before it asks",
        Need.FORWARDED: "nginx tells the client in X-Forwarded-For, its own peer included",
        Need.REWRITE: "the example passes the host on as it is",
    }

    def serve(self, stage):
        """Run both."""
        return host(stage, nginx)
