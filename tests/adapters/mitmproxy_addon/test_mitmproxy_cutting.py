"""What runs when an order takes effect ends at once; what the order does not cover goes on."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from mitmproxy_clients import FRANCE, GERMANY, Http2, Raw, http3, request, via
from mitmproxy_process import soon, until, write_order

WEBSOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
_numbers = itertools.count()


@pytest.fixture
def host():
    """A host that no other test uses."""
    return f"cut{next(_numbers)}.example"


def block(edge, host: str, **keys: str) -> None:
    write_order(edge.orders, f"order-{host}", [host], {"proxy": "terminate"}, **keys)


def start(port: int, host: str, target: str, *, client: str = FRANCE, headers: str = "", sni: str | None = None) -> Raw:
    """Begin something that goes on for long, and see that it does."""
    raw = Raw(port, sni=sni)
    raw.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{via(client)}{headers}\r\n".encode())
    assert raw.head().status in (101, 200)
    assert raw.is_alive(0.05)
    return raw


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/live", ""), ("/events", ""), ("/download", ""), ("/ws", WEBSOCKET), ("/lines", "")],
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_file_that_appears_cuts(edge, host, target, headers, tls):
    """Streams of any type, downloads and WebSockets end within a second of the order; another host's go on."""
    sni = host if tls else None
    with (
        start(edge.http, host, target, headers=headers, sni=sni) as covered,
        start(edge.http, f"not{host}", target, headers=headers, sni=sni) as other,
        start(edge.http, host, target, headers=headers, sni=sni, client=GERMANY) as abroad,
    ):
        block(edge, host)
        assert covered.seconds_to_end() < 1
        assert other.is_alive(0.2)
        assert abroad.is_alive(0.2)


def test_an_order_that_begins_cuts(edge, host):
    """The instant in the file cuts too, without any file changing: within a tenth of a second."""
    block(edge, host, **{"from": soon(0.7)})
    with start(edge.http, host, "/live") as covered, start(edge.http, host, "/live", client=GERMANY) as abroad:
        assert 0.1 < covered.seconds_to_end() < 2
        assert abroad.is_alive(0.2)
    with Raw(edge.http) as raw:
        raw.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
        assert raw.answer().status == 451


def test_a_window_that_opens_cuts(edge, host):
    """So does a live match that begins."""
    block(edge, host, windows=f'[{{from: "{soon(0.7)}", until: "{soon(100)}"}}]')
    with start(edge.http, host, "/live") as covered:
        assert 0.1 < covered.seconds_to_end() < 2


@pytest.mark.parametrize("upstream_version", ["1.1", "2"])
def test_http2_loses_one_stream(edge, host, upstream_version):
    """Only the covered stream is reset; others of the connection go on, even over the same HTTP/2 origin."""
    port, origin = (edge.http, edge.origin) if upstream_version == "1.1" else (edge.https, edge.http2_origin)
    with Http2(port, sni="other.example") as client:
        covered, other = client.open(host, "/live"), client.open("other.example", "/live")
        abroad = client.open(host, "/live", client=GERMANY)
        client.pump(until=lambda: covered.body and other.body and abroad.body)
        assert covered.body
        block(edge, host)
        began = time.monotonic()
        client.pump(until=lambda: covered.over)
        assert covered.reset is not None
        assert time.monotonic() - began < 1
        lengths = len(other.body), len(abroad.body)
        client.pump(0.3)
        assert (len(other.body) > lengths[0], len(abroad.body) > lengths[1]) == (True, True)
        assert (other.over, abroad.over, client.closed) == (False, False, False)
        assert client.get("other.example").status == 200
        assert client.get(host).status == 451
    assert len(origin.of(host)) == 2


def test_http3_loses_one_stream(edge, host):
    """The same over QUIC, to the client and to the origin."""

    async def scenario(client) -> None:
        covered, other = client.open(host, "/live"), client.open("other.example", "/live")
        await client.until(lambda: covered.body and other.body)
        assert covered.body
        block(edge, host)
        await client.until(lambda: covered.over, 1)
        assert covered.reset is not None
        length = len(other.body)
        await client.until(lambda: len(other.body) > length + 40, 2)
        assert (len(other.body) > length + 40, other.over) == (True, False)
        assert (await client.get(host)).status == 451

    http3(edge.https, "other.example", scenario)
    stopped = edge.http2_origin.last_sent[host]
    time.sleep(0.2)
    assert edge.http2_origin.last_sent[host] == stopped


def test_a_download_that_is_still_collected_ends(edge, host):
    """A page of which the client has nothing yet, because mitmproxy collects it first, is not delivered."""
    with Raw(edge.http) as raw:
        raw.send(f"GET /page HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
        assert until(lambda: edge.origin.of(host))
        block(edge, host)
        assert raw.head().status == 0


def test_a_request_that_waits_for_its_origin_ends(edge, host):
    """An origin that takes its time (long polling) does not keep a request alive; the client gets no error page."""
    with Raw(edge.http) as raw, Http2(edge.http, sni="x.example") as client:
        raw.send(f"GET /slow HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
        stream = client.open(host, "/slow")
        assert until(lambda: len(edge.origin.of(host)) == 2)
        block(edge, host)
        assert raw.seconds_to_end() < 1
        assert raw.buffer == b""
        client.pump(until=lambda: stream.over)
        assert (stream.status, stream.reset is not None) == (0, True)


def test_an_upload_in_progress_ends(edge, host):
    """An upload that was let through is not carried to its end."""
    with Raw(edge.http) as raw:
        raw.send(
            f"POST / HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}Content-Length: 300000\r\n\r\n".encode() + b"x" * 1000
        )
        time.sleep(0.2)
        block(edge, host)
        assert raw.seconds_to_end() < 1
    assert edge.origin.of(host) == []


def test_tunnels_end(edge, host):
    """CONNECT tunnels to a covered host end, whatever runs inside; those to others go on."""
    with Raw(edge.regular) as covered, Raw(edge.regular) as other, Raw(edge.regular) as inside:
        for raw, name in ((covered, host), (other, "other.example"), (inside, "other.example")):
            target = f"{name}:{edge.origin.port}"
            raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via(FRANCE)}\r\n".encode())
            assert raw.head().status == 200
        for raw, name in ((covered, "other.example"), (other, "other.example"), (inside, host)):
            raw.send(f"GET /live HTTP/1.1\r\nHost: {name}\r\n{via(FRANCE)}\r\n".encode())
            assert raw.head().status == 200
            assert raw.is_alive(0.05)
        block(edge, host)
        assert covered.seconds_to_end() < 1
        assert inside.seconds_to_end() < 1
        assert other.is_alive(0.3)


def test_inside_a_tunnel_one_stream_is_lost(edge, host):
    """In a tunnel to an innocent host too, only the stream for the covered one is reset."""
    target = f"other.example:{edge.http2_origin.port}"
    with Raw(edge.regular) as tunnel:
        tunnel.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert tunnel.head().status == 200
        with Http2(0, sni="other.example", through=tunnel) as client:
            covered, other = client.open(host, "/live"), client.open("other.example", "/live")
            client.pump(until=lambda: covered.body and other.body)
            block(edge, host)
            client.pump(1, until=lambda: covered.over)
            assert covered.reset is not None
            length = len(other.body)
            client.pump(0.3)
            assert (len(other.body) > length, other.over, client.closed) == (True, False, False)


def test_twenty_at_once(edge, host):
    """All streams of a covered host end together."""
    streams = [start(edge.http, host, "/live") for _ in range(20)]
    block(edge, host)
    times: list[float] = []
    threads = [threading.Thread(target=lambda raw=raw: times.append(raw.seconds_to_end())) for raw in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for raw in streams:
        raw.sock.close()
    assert len(times) == 20
    assert max(times) < 1.5


def test_an_order_for_caching_cuts_nothing(edge, host):
    """Measure cdn and measure dns alone leave running streams alone; the next response is marked."""
    with start(edge.http, host, "/live") as raw:
        write_order(edge.orders, f"order-{host}", [host], {"cdn": "disable", "dns": "refuse"})
        assert raw.is_alive(0.6)
    with Raw(edge.http) as raw:
        raw.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
        assert raw.answer().fields("cache-control") == ["no-store"]


def test_caching_is_off_for_a_response_that_was_awaited(edge, host):
    """A response that arrives after the order is marked, though its request came before it."""
    with Raw(edge.http) as raw:
        raw.send(f"GET /late HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
        assert until(lambda: edge.origin.of(host))
        write_order(edge.orders, f"order-{host}", [host], {"cdn": "disable"})
        assert raw.answer().fields("cache-control") == ["no-store"]


def test_a_broken_file_changes_nothing(edge, host):
    """A file that becomes invalid keeps its last good version in force: refusals go on, streams of others too."""
    block(edge, host)
    with start(edge.http, "other.example", "/live") as other:
        assert until(lambda: request(edge.http, host).status == 451)
        (edge.orders / f"order-{host}.yaml").write_text("cdnblock: [", encoding="utf-8")
        time.sleep(0.3)
        assert request(edge.http, host).status == 451
        assert other.is_alive(0.1)
        block(edge, host)
