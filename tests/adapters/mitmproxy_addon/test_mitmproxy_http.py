"""HTTP/1.1 through a real mitmdump: which requests are refused, how, and that their origin never hears of them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time

import pytest
from mitmproxy_clients import FRANCE, GERMANY, REUNION, Http2, Raw, request, via


@pytest.mark.parametrize(
    ("host", "client", "status"),
    [
        ("blocked.example", FRANCE, 451),
        ("www.blocked.example", FRANCE, 451),
        ("WWW.Blocked.Example", FRANCE, 451),
        ("blocked.example.", FRANCE, 451),
        ("blocked.example:8080", FRANCE, 451),
        ("BLOCKED.example.:80", FRANCE, 451),
        ("xn--bcher-kva.example", FRANCE, 451),
        ("bücher.example", FRANCE, 451),
        ("blocked%2eexample", FRANCE, 451),
        ("both.example", FRANCE, 451),
        ("notblocked.example", FRANCE, 200),
        ("blocked.example.org", FRANCE, 200),
        ("other.example", FRANCE, 200),
        ("203.0.113.9", FRANCE, 200),
        ("[2001:db8::1]:80", FRANCE, 200),
        ("blocked.example", GERMANY, 200),
        ("blocked.example", REUNION, 200),
        ("blocked.example", "10.0.0.1", 200),
        ("blocked.example", "::ffff:203.0.113.7", 451),
        ("blocked.example", "2002:cb00:7107::1", 451),
    ],
)
def test_host_and_client_decide(edge, host, client, status):
    """Every spelling of a covered host is refused in the territory, and only there; near misses pass."""
    before, connections = len(edge.origin.seen), edge.origin.connections
    assert request(edge.http, host, client=client).status == status
    assert len(edge.origin.seen) - before == (status == 200)
    assert edge.origin.connections - connections == (status == 200)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"])
def test_every_method_is_refused(edge, method):
    """451 for whatever method; HEAD has no body and says how long that of GET is."""
    answer = request(edge.http, "blocked.example", method=method)
    assert (answer.status, answer.reason) == (451, "Unavailable For Legal Reasons")
    assert int(answer.field("content-length")) > 100
    assert (answer.body == b"") == (method == "HEAD")


def test_refusal_explains_itself(edge):
    """The notice names law and order, is in the client's language and type, and is not cacheable."""
    answer = request(
        edge.http, "blocked.example", headers="Accept: application/json\r\nAccept-Language: en;q=0.5, fr\r\n"
    )
    assert answer.field("content-type") == "application/problem+json"
    assert answer.field("content-language") == "fr"
    assert answer.field("link") == '<https://edge.example/legal>; rel="blocked-by"'
    assert answer.fields("cache-control") == ["no-store"]
    assert answer.fields("cdn-cache-control") == ["no-store"]
    assert "Code du sport" in json.dumps(json.loads(answer.body), ensure_ascii=False)
    english = request(edge.http, "blocked.example", headers="Accept: text/html\r\nAccept-Language: en\r\n")
    assert english.field("content-type").startswith("text/html")
    assert english.field("content-language") == "en"


def test_a_refused_connection_is_kept_alive(edge):
    """Each request decides, not the connection: refused, passed, refused on one connection."""
    with Raw(edge.http) as raw:
        statuses = []
        for host in ("blocked.example", "other.example", "blocked.example"):
            raw.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
            statuses.append(raw.answer().status)
    assert statuses == [451, 200, 451]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: other.example\r\nHost: blocked.example\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: other.example\r\nhost: other.example\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@blocked.example\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: blocked.example, other.example\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a..b\r\n", 400),
        ("GET http://other.example/ HTTP/1.1\r\n", 400),
        ("GET http://blocked.example/ HTTP/1.1\r\nHost: other.example\r\n", 451),
        ("GET http://BLOCKED.example.:80/x HTTP/1.1\r\nHost: other.example\r\n", 451),
        ("GET http://other.example/ HTTP/1.1\r\nHost: blocked.example\r\n", 451),
        ("GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n", 200),
        ("GET / HTTP/1.0\r\nHost: blocked.example\r\n", 451),
        ("GET / HTTP/1.0\r\n", 200),
    ],
)
def test_every_name_of_a_request_counts(edge, head, status):
    """Host and the authority of the target are both asked for (mitmproxy passes both on); bad ones are 400."""
    before = len(edge.origin.seen)
    with Raw(edge.http) as raw:
        raw.send(f"{head}{via(FRANCE)}\r\n".encode())
        assert raw.answer().status == status
    assert len(edge.origin.seen) - before == (status == 200)


def test_forged_client_address_changes_nothing(edge):
    """What the client itself puts into X-Forwarded-For stands left of what the trusted proxy says, and is ignored."""
    assert request(edge.http, "blocked.example", client=f"{GERMANY}, {FRANCE}").status == 451
    assert request(edge.http, "blocked.example", client=f"{FRANCE}, {GERMANY}").status == 200


def test_close_sends_nothing(edge):
    """Variant close: the connection ends without a byte, and the origin hears nothing."""
    connections = edge.origin.connections
    assert request(edge.http, "closed.example").status == 0
    assert request(edge.http, "closed.example", sni="closed.example").status == 0
    assert request(edge.http, "closed.example", client=GERMANY).status == 200
    assert edge.origin.connections == connections + 1


@pytest.mark.parametrize("size", [100_000, 1_000_000])
@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_uploads_are_refused(edge, size, expect):
    """A body does not help: 451 after it, and not one byte of it at the origin."""
    before = len(edge.origin.seen)
    with Raw(edge.http) as raw:
        raw.send(
            f"POST /in HTTP/1.1\r\nHost: blocked.example\r\n{via(FRANCE)}{expect}Content-Length: {size}\r\n\r\n".encode()
        )
        if expect:
            assert raw.head().status == 100
        raw.send(b"x" * size)
        assert raw.answer().status == 451
        raw.send(f"GET / HTTP/1.1\r\nHost: other.example\r\n{via(FRANCE)}\r\n".encode())
        assert raw.answer().status == 200
    assert len(edge.origin.seen) == before + 1


@pytest.mark.parametrize("tls", [False, True])
def test_closing_during_an_upload_ends_the_socket(edge, tls):
    """mitmproxy issue #8045: on Python 3.12 and later the socket would stay, and the client hang for ever."""
    for _ in range(6):
        with Raw(edge.http, sni="closed.example" if tls else None, timeout=2) as raw:
            head = f"POST / HTTP/1.1\r\nHost: closed.example\r\n{via(FRANCE)}Content-Length: 3000000\r\n\r\n"
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                raw.send(head.encode() + b"x" * 3_000_000)
            assert raw.seconds_to_end() < 1


def test_allowed_upload_reaches_the_origin(edge):
    """What is not covered passes whole."""
    body = bytes(range(256)) * 2000
    assert request(edge.http, "upload.example", method="POST", body=body).status == 200
    assert edge.origin.of("upload.example")[-1].body == body


def test_caching_is_switched_off_for_the_territory(edge):
    """Measure cdn: the content flows, marked so that no cache keeps it; elsewhere it stays as the origin sent it."""
    inside = request(edge.http, "cached.example")
    assert (inside.status, inside.body) == (200, b"hello")
    assert inside.fields("cache-control") == ["no-store"]
    assert inside.fields("cdn-cache-control") == ["no-store"]
    assert [inside.field(name) for name in ("expires", "age", "surrogate-key")] == [None, None, None]
    assert inside.field("etag") == '"v1"'
    outside = request(edge.http, "cached.example", client=GERMANY)
    assert outside.fields("cache-control") == ["public, max-age=600"]
    assert (outside.field("age"), outside.field("surrogate-key")) == ("5", "a b")


def test_validators_of_the_client_pass(edge):
    """Under measure cdn a client's own conditional request stays conditional: no cache of ours added it."""
    request(edge.http, "cached.example", headers='If-None-Match: "v1"\r\n')
    assert edge.origin.of("cached.example")[-1].headers["if-none-match"] == '"v1"'


def test_upgrade_to_websocket_is_a_request_too(edge):
    """A WebSocket handshake is refused like anything else."""
    head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    before = len(edge.origin.seen)
    assert request(edge.http, "blocked.example", target="/ws", headers=head).status == 451
    assert len(edge.origin.seen) == before
    assert request(edge.http, "other.example", target="/ws", headers=head).status == 101


def test_event_streams_are_passed_on_as_they_come(edge):
    """mitmproxy would collect an endless body for ever; whatever its type it arrives at once, pages stay whole."""
    for target in ("/events", "/live", "/download", "/lines"):
        with Raw(edge.http) as raw:
            began = time.monotonic()
            raw.send(f"GET {target} HTTP/1.1\r\nHost: other.example\r\n{via(FRANCE)}\r\n".encode())
            assert raw.head().status == 200
            assert raw.is_alive(0.1)
            assert time.monotonic() - began < 1, target
    with Raw(edge.http) as raw:
        raw.send(f"GET /page HTTP/1.1\r\nHost: other.example\r\n{via(FRANCE)}\r\n".encode())
        raw.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            raw.head()


def test_tls_server_name_does_not_decide(edge):
    """One connection may carry other hosts than its SNI names: each request decides."""
    assert request(edge.http, "other.example", sni="blocked.example").status == 200
    assert request(edge.http, "blocked.example", sni="other.example").status == 451


def test_a_request_that_names_nothing_means_the_server_name(edge):
    """HTTP/1.0 needs no Host; over TLS there is still one name, that of the handshake."""
    for sni, status in (("blocked.example", 451), ("other.example", 200)):
        with Raw(edge.http, sni=sni) as raw:
            raw.send(f"GET / HTTP/1.0\r\n{via(FRANCE)}\r\n".encode())
            assert raw.answer().status == status


# Forward proxy


def test_forward_proxy_decides_by_the_target(edge):
    """A forward proxy goes where the target says, so the target counts, and Host too."""
    port = edge.origin.port
    assert request(edge.regular, "other.example", target=f"http://blocked.example:{port}/").status == 451
    assert request(edge.regular, "blocked.example", target=f"http://other.example:{port}/").status == 451
    assert request(edge.regular, f"other.example:{port}", target=f"http://other.example:{port}/").status == 200
    assert request(edge.regular, f"[::1]:{port}", target=f"http://[::1]:{port}/").status in (200, 502)


def test_connect_is_refused_by_its_answer(edge):
    """CONNECT to a covered host gets the 451 itself; close ends the connection; another host gets its tunnel."""
    connections = edge.origin.connections
    target = f"blocked.example:{edge.origin.port}"
    refused = request(edge.regular, target, method="CONNECT", target=target)
    assert (refused.status, refused.reason) == (451, "Unavailable For Legal Reasons")
    target = f"closed.example:{edge.origin.port}"
    assert request(edge.regular, target, method="CONNECT", target=target).status == 0
    assert edge.origin.connections == connections
    target = f"other.example:{edge.origin.port}"
    assert request(edge.regular, target, method="CONNECT", target=target).status == 200


def test_requests_inside_a_tunnel_decide_again(edge):
    """A tunnel to an innocent host does not carry requests for a covered one."""
    target = f"other.example:{edge.origin.port}"
    with Raw(edge.regular) as raw:
        raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via(FRANCE)}\r\n".encode())
        assert raw.head().status == 200
        statuses = []
        for host in ("other.example", "blocked.example"):
            raw.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{via(FRANCE)}\r\n".encode())
            statuses.append(raw.answer().status)
    assert statuses == [200, 451]


def test_other_addons_cannot_undo_a_refusal(edge):
    """An addon that answers everything, or streams every upload, changes neither the 451 nor what the origin gets."""
    before, connections = len(edge.origin.seen), edge.origin.connections
    assert request(edge.http, "other.example", headers="X-Answer: 1\r\n").body == b"from another addon"
    assert request(edge.http, "blocked.example", headers="X-Answer: 1\r\n").status == 451
    for headers in ("X-Stream: 1\r\n", "X-Stream: 1\r\nX-Answer: 1\r\n"):
        answer = request(edge.http, "blocked.example", method="POST", headers=headers, body=b"x" * 300_000)
        assert answer.status == 451
    assert (len(edge.origin.seen), edge.origin.connections) == (before, connections)
    answer = request(edge.http, "other.example", method="POST", headers="X-Stream: 1\r\n", body=b"x" * 300_000)
    assert answer.status == 200


# Bytes


def test_bytes_are_decided_by_the_server_name(edge):
    """Where all that is seen is TLS, its server name is the host that is meant; without one bytes pass."""
    connections = edge.origin.connections
    with Raw(edge.tcp, sni="www.world.example") as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.head().status == 0
    assert edge.origin.connections == connections
    for sni in ("other.example", None):
        assert request(edge.tcp, "x.example", sni=sni).status == 200


def test_bytes_inside_a_tunnel_go_nowhere(edge):
    """What is no HTTP gets nowhere inside a tunnel: an origin might take for a request what mitmproxy does not."""
    target = f"other.example:{edge.origin.port}"
    before = len(edge.origin.seen)
    for sni in ("other.example", "world.example", None):
        with Raw(edge.regular) as raw:
            raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert raw.head().status == 200
            if sni is not None:
                raw.start_tls(sni)
            raw.send(b"\0\1\2 no http\r\n\r\n")
            assert raw.seconds_to_end() < 3
    assert len(edge.origin.seen) == before


@pytest.mark.parametrize("pieces", [[b"\r\nGET /"], [b"GE", b"T /"], [b"GET", b" /"]], ids=repr)
@pytest.mark.parametrize("sni", [None, "innocent.example"])
def test_a_request_in_pieces_is_a_request(edge, pieces, sni):
    """However a request inside a tunnel begins, it is decided like any other or goes nowhere."""
    target = f"127.0.0.1:{edge.origin.port}" if sni is None else f"127.0.0.1:{edge.http2_origin.port}"
    before = len(edge.origin.seen)
    with Raw(edge.regular) as raw:
        raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via(FRANCE)}\r\n".encode())
        assert raw.head().status == 200
        if sni is not None:
            raw.start_tls(sni)
        for piece in pieces:
            raw.send(piece)
            time.sleep(0.3)
        raw.send(f" HTTP/1.1\r\nHost: world.example\r\n{via(FRANCE)}\r\n".encode())
        assert raw.head().status != 200
    assert len(edge.origin.seen) == before


def test_http10_in_a_tunnel_to_an_address_means_the_server_name(edge):
    """Without a Host, the name of the handshake counts beside the address."""
    target = f"127.0.0.1:{edge.http2_origin.port}"
    with Raw(edge.regular) as raw:
        raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via(FRANCE)}\r\n".encode())
        assert raw.head().status == 200
        raw.start_tls("world.example")
        raw.send(f"GET / HTTP/1.0\r\n{via(FRANCE)}\r\n".encode())
        assert raw.answer().status == 451


@pytest.mark.parametrize("offer", ["H2C", "h2c, foo", "foo", "TLS/1.0", "raw"])
def test_other_protocols_are_not_switched_to(edge, offer):
    """Only WebSocket may be upgraded to: what another protocol carries would pass undecided."""
    with Raw(edge.http) as raw:
        raw.send(
            f"GET /upgrade-not HTTP/1.1\r\nHost: other.example\r\nUpgrade: {offer}\r\n"
            f"Connection: keep-alive, Upgrade\r\n{via(FRANCE)}\r\n".encode()
        )
        assert raw.answer().status == 200
    received = edge.origin.seen[-1].headers
    assert "upgrade" not in received
    assert "upgrade" not in received.get("connection", "").lower()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "http://blocked.example/"),
        ("GET", "blocked.example/"),
        ("GET", "*"),
        ("GET", "/ HTTP/1.1\r\nHost: blocked.example\r\n\r\nGET /x"),
        ("GET", "/a b"),
        ("GET http://blocked.example/", "/"),
        ("GET\r\nX: y", "/"),
        ("G(T", "/"),
    ],
)
def test_http2_requests_stay_one_request_for_one_host(edge, method, path):
    """What would become another request, or one for another host, in HTTP/1.1 is 400 or a broken stream."""
    before = len(edge.origin.seen)
    with Http2(edge.http, sni="other.example") as client:
        stream = client.get("other.example", path, method=method)
        assert stream.status in (0, 400)
    assert len(edge.origin.seen) == before
    with Http2(edge.http, sni="other.example") as client:
        assert client.get("other.example", "/a?b=c;d&e=%20f", method="GET").status == 200


def test_peers_that_speak_no_http_get_nothing_through(edge):
    """Garbage on the port is answered by 400 or a closed connection, and nothing reaches the origin."""
    before = len(edge.origin.seen)
    for junk in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost blocked.example\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ):
        with socket.create_connection(("127.0.0.1", edge.http), 2) as sock:
            sock.sendall(junk)
            sock.settimeout(0.5)
            try:
                answer = sock.recv(100)
            except (TimeoutError, ConnectionError):
                answer = b""
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"\x15")), answer
    assert len(edge.origin.seen) == before
