"""One running proxy for most tests: it is slow to start, and one process can serve every mode at once."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("mitmproxy", reason="the adapter's host, an extra of this package, is not installed")

sys.path.insert(0, str(Path(__file__).parent))

from free_ports import free_ports
from mitmproxy_clients import query
from mitmproxy_origins import DnsUpstream, LoopThread, Origin, start_http1, start_http2, start_http3
from mitmproxy_process import Proxy, launch, wait_for, wait_for_dns, write_certificate, write_countries, write_order


@dataclass
class Edge:
    """The proxy under test with its ports, its orders and what is behind it."""

    proxy: Proxy
    orders: Path
    http: int  # reverse proxy on plain TCP and on TLS, to `origin`
    https: int  # reverse proxy on TLS and QUIC, to `http2_origin`
    tcp: int  # bytes on, whatever they are, to `origin`
    regular: int  # forward proxy
    dns: int  # DNS forwarder, to `upstream`
    resolver: int  # resolver of its own
    origin: Origin
    http2_origin: Origin
    upstream: DnsUpstream
    quiet: socket.socket  # a DNS client that has asked once, and has been quiet since (time.monotonic)
    quiet_since: float


@pytest.fixture(scope="session")
def loop_thread():
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def origin(loop_thread):
    origin = Origin()
    server = loop_thread.run(start_http1(origin))
    yield origin
    loop_thread.loop.call_soon_threadsafe(server.close)


@pytest.fixture(scope="session")
def http2_origin(loop_thread, tmp_path_factory):
    certificate = tmp_path_factory.mktemp("certificate") / "origin.pem"
    write_certificate(certificate)
    origin = Origin()
    tcp = loop_thread.run(start_http2(origin, certificate))
    udp = loop_thread.run(start_http3(origin, certificate))
    yield origin
    loop_thread.loop.call_soon_threadsafe(tcp.close)
    loop_thread.loop.call_soon_threadsafe(udp.close)


@pytest.fixture(scope="session")
def upstream():
    upstream = DnsUpstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def countries(tmp_path_factory):
    path = tmp_path_factory.mktemp("geo") / "countries.mmdb"
    write_countries(path)
    return path


@pytest.fixture(scope="session")
def edge(tmp_path_factory, origin, http2_origin, upstream, countries):
    folder = tmp_path_factory.mktemp("edge")
    orders = folder / "orders"
    orders.mkdir()
    write_order(orders, "terminate", ["blocked.example", "bücher.example"], {"proxy": "terminate", "dns": "refuse"})
    write_order(orders, "close", ["closed.example"], {"proxy": "close", "dns": "nxdomain"})
    write_order(orders, "cache", ["cached.example"], {"cdn": "disable", "dns": "nodata"})
    write_order(orders, "both", ["both.example"], {"cdn": "disable", "proxy": "terminate"})
    write_order(orders, "everywhere", ["world.example"], {"proxy": "terminate"}, territory="world")
    http, https, tcp, regular, dns, resolver = free_ports(6)
    proxy = launch(
        folder, "-q", "--orders", str(orders), "--geo", str(countries), "--trusted-proxies", "127.0.0.1",
        "--set", "cdnblock_operator_url=https://edge.example/legal", "--set", "cdnblock_contact=legal@edge.example",
        "--set", "ssl_insecure=true", "-s", str(Path(__file__).with_name("rude_neighbour.py")),
        "--mode", f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{http}",
        "--mode", f"reverse:https://127.0.0.1:{http2_origin.port}@127.0.0.1:{https}",
        "--mode", f"reverse:tcp://127.0.0.1:{origin.port}@127.0.0.1:{tcp}",
        "--mode", f"regular@127.0.0.1:{regular}",
        "--mode", f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:{dns}",
        "--mode", f"dns@127.0.0.1:{resolver}",
    )  # fmt: skip
    try:
        wait_for(proxy, http, https, tcp, regular, dns, resolver)
        wait_for_dns(proxy, dns, resolver)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as quiet:
            quiet.settimeout(3)
            quiet.connect(("127.0.0.1", dns))
            quiet.send(query("other.example").to_wire())
            assert quiet.recv(65535)
            yield Edge(
                proxy, orders, http, https, tcp, regular, dns, resolver, origin, http2_origin, upstream,
                quiet, time.monotonic(),
            )  # fmt: skip
        # Looked at before it is stopped: at its end mitmproxy itself complains of connections that are still open.
        assert not any(word in proxy.said for word in ("Traceback", "crashed", "Addon error")), proxy.said
    finally:
        proxy.stop()


@dataclass
class Unforwarded:
    """A DNS forwarder that trusts nobody, with orders for the whole world: the client is always the peer."""

    port: int


@pytest.fixture(scope="session")
def unforwarded(tmp_path_factory, upstream, countries):
    folder = tmp_path_factory.mktemp("unforwarded")
    orders = folder / "orders"
    orders.mkdir()
    for name, variant in (("world.example", "refuse"), ("gone.example", "nxdomain"), ("empty.example", "nodata")):
        write_order(orders, name, [name], {"dns": variant}, territory="world")
    write_order(orders, "french", ["french.example"], {"dns": "refuse"})
    (port,) = free_ports(1)
    proxy = launch(
        folder, "-q", "--orders", str(orders), "--geo", str(countries),
        "--mode", f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:{port}",
    )  # fmt: skip
    try:
        wait_for(proxy, port)
        wait_for_dns(proxy, port)
        yield Unforwarded(port)
    finally:
        proxy.stop()
