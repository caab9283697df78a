"""A front with all its doors before an unbound that has answers, for the tests of DNS over HTTPS and over TLS."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns_peers
from dns_orders import write_order
from free_ports import free_ports

TTLS = """\
  local-zone: "open.example." transparent
  local-data: "www.open.example. 300 A 192.0.2.81"
  local-data: "mixed.open.example. 900 A 192.0.2.82"
  local-data: "mixed.open.example. 900 A 192.0.2.83"
  local-data: "zero.open.example. 0 A 192.0.2.84"
  local-data: "www.french.example. 300 A 192.0.2.66"
"""


@dataclass(frozen=True)
class Doors:
    """The ports of a running front, its upstream, and the files of its certificate."""

    front: dns_peers.Daemon
    upstream: dns_peers.Daemon
    tls: int
    https: int
    http: int
    certificate: Path
    key: Path


@contextlib.contextmanager
def open_doors(folder: Path, geo: Path, *options: str, path: Iterable[Path] = ()) -> Iterator[Doors]:
    """Start it; proxies on 127.0.0.1 are believed about their clients. What is in `path` is imported first."""
    orders = folder / "orders"
    orders.mkdir()
    write_order(orders, "refused.example")
    write_order(orders, "gone.example", "nxdomain")
    write_order(orders, "french.example", territory="[FR]")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    dns_peers.write_certificate(certificate, key)
    tls, https, http = free_ports(3)
    with dns_peers.unbound(folder / "unbound", server=TTLS) as upstream, dns_peers.front(
        folder / "front", orders, [upstream.port], "--geo", str(geo), "--trusted-proxies", "127.0.0.1",
        "--certificate", str(certificate), "--key", str(key), "--listen-tls", f"127.0.0.1:{tls}",
        "--listen-https", f"127.0.0.1:{https}", "--listen-http", f"127.0.0.1:{http}", *options, path=path,
    ) as front:  # fmt: skip
        yield Doors(front, upstream, tls, https, http, certificate, key)
        assert front.process.poll() is None, front.said
        assert "Traceback" not in front.said, front.said


def fetched(url: str) -> str:
    """Return what is there, as soon as somebody listens: workers answer before all of the front has started."""
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
