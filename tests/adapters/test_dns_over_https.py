"""DNS over HTTPS (RFC 8484), asked by curl, dig, http.client, httpx and raw sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")
pytest.importorskip("h2", reason="HTTP/2 comes with h2 (extra `dns`)")

sys.path.insert(0, str(Path(__file__).parent))

import dns.message
import dns_peers
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx
from dns_clients import FRANCE, GERMANY, Said, any_certificate, dig, opt, option, over_udp, packet
from dns_house import open_doors

from cdnblock.adapters._dns_front.http_messages import Request
from cdnblock.adapters._dns_front.over_https import DnsOverHttps
from cdnblock.adapters._dns_front.streams import StreamLimits

pytestmark = [
    pytest.mark.skipif(bool(dns_peers.missing("unbound")), reason=dns_peers.missing("unbound")),
    pytest.mark.skipif(bool(dns_peers.missing("dig")), reason=dns_peers.missing("dig")),
    pytest.mark.skipif(bool(dns_peers.missing("curl")), reason=dns_peers.missing("curl")),
]

NOT_KEPT = httpx.Limits(max_keepalive_connections=0)  # the server here closes connections soon
MESSAGE = "application/dns-message"
OPEN, REFUSED = packet("www.open.example", number=0), packet("www.refused.example", number=0)


@pytest.fixture(scope="module")
def doors(tmp_path_factory, small_mmdb):
    with open_doors(tmp_path_factory.mktemp("doors"), small_mmdb, "--idle", "2") as doors:
        yield doors


@pytest.fixture(scope="module")
def http2(doors):
    with httpx.Client(
        http1=False, http2=True, verify=any_certificate(), trust_env=False, timeout=10, limits=NOT_KEPT
    ) as client:
        yield client


@pytest.fixture(scope="module")
def http1(doors):
    with httpx.Client(verify=any_certificate(), trust_env=False, timeout=10, limits=NOT_KEPT) as client:
        yield client


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request, http1, http2):
    return http1 if request.param == "HTTP/1.1" else http2


def text(query: bytes) -> str:
    return base64.urlsafe_b64encode(query).rstrip(b"=").decode()


def url(doors, query: bytes | str = b"", path: str = "/dns-query") -> str:
    asked = query if isinstance(query, str) else f"dns={text(query)}"
    return f"https://127.0.0.1:{doors.https}{path}{'?' + asked if asked else ''}"


def post(client, doors, body, kind=MESSAGE, **headers):
    return client.post(url(doors, ""), content=body, headers={"content-type": kind, **headers})


@pytest.mark.parametrize(
    ("query", "said", "kept"),
    [
        (REFUSED, Said("REFUSED"), "no-store"),
        (packet("gone.example", number=0), Said("NXDOMAIN", soa=10), "no-store"),
        (OPEN, Said("NOERROR", "QR AA RD RA", addresses=1), "private, max-age=300"),
        (packet("mixed.open.example"), Said("NOERROR", "QR AA RD RA", addresses=2), "private, max-age=900"),
        (packet("zero.open.example"), Said("NOERROR", "QR AA RD RA", addresses=1), "no-store"),
        (packet("www.open.example", counts=(9, 0, 0, 0)), Said("FORMERR"), "no-store"),
    ],
    ids=["refused", "nxdomain", "an address", "two addresses", "a TTL of 0", "broken"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer(client, doors, method, query, said, kept):
    """200 whatever the RCODE (§4.2.1), kept by the client for as long as its records (§5.1) and by no shared cache."""
    response = client.get(url(doors, query)) if method == "GET" else post(client, doors, query)
    assert response.status_code == 200
    assert response.headers["content-type"] == MESSAGE
    assert response.headers["cache-control"] == kept
    assert int(response.headers["content-length"]) == len(response.content)
    assert abs(parsedate_to_datetime(response.headers["date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert response.headers["server"] == "cdnblock"
    assert response.content[:2] == query[:2]
    assert Said.of(response.content) == said


def test_head(client, doors):
    """The headers of GET, and no body."""
    response = client.head(url(doors, OPEN))
    assert response.status_code == 200
    assert response.headers["content-type"] == MESSAGE
    assert response.headers["cache-control"] == "private, max-age=300"
    assert int(response.headers["content-length"]) == len(client.get(url(doors, OPEN)).content)
    assert response.content == b""


WRONG = {
    # What is asked: (method, path with query, header fields, body, status)
    "another path": ("GET", f"/?dns={text(OPEN)}", {}, None, 404),
    "a path below": ("GET", f"/dns-query/?dns={text(OPEN)}", {}, None, 404),
    "no parameter": ("GET", "/dns-query", {}, None, 400),
    "another parameter": ("GET", f"/dns-query?DNS={text(OPEN)}", {}, None, 400),
    "an empty parameter": ("GET", "/dns-query?dns=", {}, None, 400),
    "the parameter twice": ("GET", f"/dns-query?dns={text(OPEN)}&dns={text(OPEN)}", {}, None, 400),
    "a thousand parameters": ("GET", "/dns-query?" + "a=b&" * 1000, {}, None, 400),
    "padding": ("GET", "/dns-query?dns=AAAAAA==", {}, None, 400),
    "base64 that is not for URLs": ("GET", "/dns-query?dns=AA%2B%2FAAAAAAAA", {}, None, 400),
    "base64 of no length": ("GET", "/dns-query?dns=A", {}, None, 400),
    "not ASCII": ("GET", "/dns-query?dns=%C3%A9", {}, None, 400),
    "an octet": ("GET", "/dns-query?dns=AA", {}, None, 400),
    "an answer": ("GET", f"/dns-query?dns={text(packet(flags=0x8180))}", {}, None, 400),
    "PUT": ("PUT", "/dns-query", {"content-type": MESSAGE}, OPEN, 405),
    "DELETE": ("DELETE", "/dns-query", {}, None, 405),
    "OPTIONS": ("OPTIONS", "/dns-query", {}, None, 405),
    "no type": ("POST", "/dns-query", {}, OPEN, 415),
    "another type": ("POST", "/dns-query", {"content-type": "application/octet-stream"}, OPEN, 415),
    "JSON": ("POST", "/dns-query", {"content-type": "application/dns-json"}, b"{}", 415),
    "compressed": ("POST", "/dns-query", {"content-type": MESSAGE, "content-encoding": "gzip"}, OPEN, 415),
    "an empty body": ("POST", "/dns-query", {"content-type": MESSAGE}, b"", 400),
    "no DNS message": ("POST", "/dns-query", {"content-type": MESSAGE}, b"hello", 400),
    "a body of 65536 octets": ("POST", "/dns-query", {"content-type": MESSAGE}, OPEN + bytes(65536 - len(OPEN)), 413),
    "a body of a megabyte": ("POST", "/dns-query", {"content-type": MESSAGE}, bytes(1 << 20), 413),
}


@pytest.mark.parametrize("row", WRONG)
def test_what_is_no_question(client, doors, row):
    """It gets the status that says what is wrong, and nobody keeps that."""
    method, target, headers, body, status = WRONG[row]
    response = client.request(method, f"https://127.0.0.1:{doors.https}{target}", headers=headers, content=body)
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"].startswith("text/plain")
    if status == 405:
        assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("kind", [MESSAGE.upper(), f"{MESSAGE}; charset=utf-8", f"{MESSAGE} ;x=y"])
def test_the_type_of_a_post(client, doors, kind):
    """Its case means nothing, and neither do parameters (RFC 9110 §8.3.1)."""
    assert post(client, doors, REFUSED, kind).status_code == 200


def test_the_largest_query(client, doors):
    """65,535 octets are a DNS message; behind its question may stand whatever wants to."""
    response = post(client, doors, REFUSED + bytes(65_535 - len(REFUSED)))
    assert (response.status_code, Said.of(response.content)) == (200, Said("REFUSED"))


def test_a_body_in_chunks(http1, doors):
    """Without a Content-Length, in pieces; too many of them are too many."""
    body = (bytes([octet]) for octet in REFUSED)
    assert Said.of(post(http1, doors, body).content) == Said("REFUSED")
    assert post(http1, doors, (bytes(1000) for _ in range(70))).status_code == 413


@pytest.mark.parametrize(
    ("forwarded", "rcode"),
    [
        ({"x-forwarded-for": FRANCE}, "REFUSED"), ({"x-forwarded-for": GERMANY}, "NOERROR"), ({}, "NOERROR"),
        ({"x-forwarded-for": f"{FRANCE}, {GERMANY}"}, "NOERROR"), ({"x-forwarded-for": f"{GERMANY}, {FRANCE}"}, "REFUSED"),
        ({"forwarded": f"for={FRANCE}"}, "REFUSED"), ({"x-forwarded-for": "unknown"}, "NOERROR"),
    ],
)  # fmt: skip
def test_a_trusted_proxy_tells_whose_question_it_is(client, doors, forwarded, rcode):
    """By TLS and without; the same question has another answer for another client, so it must not be shared."""
    query = packet("www.french.example")
    response = post(client, doors, query, **forwarded)
    assert Said.of(response.content).rcode == rcode
    assert "private" in response.headers["cache-control"] or response.headers["cache-control"] == "no-store"
    with httpx.Client(trust_env=False) as plain:
        response = plain.post(
            f"http://127.0.0.1:{doors.http}/dns-query", content=query, headers={"content-type": MESSAGE, **forwarded}
        )
    assert Said.of(response.content).rcode == rcode


def test_nobody_else_is_believed(doors):
    """From an address that is no trusted proxy's, a forwarded address means nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", doors.http, timeout=5, source_address=("127.0.0.2", 0))
    with contextlib.closing(connection):
        connection.request(
            "POST", "/dns-query", packet("www.french.example"), {"content-type": MESSAGE, "x-forwarded-for": FRANCE}
        )
        assert Said.of(connection.getresponse().read()).rcode == "NOERROR"


def test_padded_answers(client, doors):
    """A padded query gets a padded answer, of 468 octets at least (RFC 8467 §4.1); the others do not."""
    for name in ("www.open.example", "www.refused.example"):
        query = packet(name, counts=(1, 0, 0, 1), rest=opt(option(12, bytes(50))))
        assert len(post(client, doors, query).content) == 468
        dns.message.from_wire(post(client, doors, query).content)
        assert len(post(client, doors, packet(name, counts=(1, 0, 0, 1), rest=opt())).content) < 200


@pytest.mark.parametrize("options", [["+https"], ["+https-get"], ["+http-plain"], ["+http-plain-get"]])
def test_dig(doors, options):
    """dig speaks HTTP/2 alone, with TLS and without."""
    port = doors.http if "plain" in options[0] else doors.https
    said = dig("@127.0.0.1", "-p", str(port), *options, "www.refused.example")
    assert "status: REFUSED" in said
    assert "EDE: 16 (Censored): (order refused)" in said
    assert "192.0.2.81" in dig("@127.0.0.1", "-p", str(port), *options, "+short", "www.open.example")


def test_curl(doors, tmp_path):
    """curl finds addresses by us, and none of a refused name."""
    page = tmp_path / "page"
    common = [
        "curl",
        "-sv",
        "--doh-insecure",
        "--doh-url",
        f"https://127.0.0.1:{doors.https}/dns-query",
        "-m",
        "5",
        "-o",
        str(page),
    ]
    said = subprocess.run(
        [*common, "http://www.open.example:1/"], capture_output=True, text=True, timeout=20, check=False
    )
    assert "DoH A: 192.0.2.81" in said.stderr or "Trying 192.0.2.81" in said.stderr
    said = subprocess.run(
        [*common, "http://www.refused.example/"], capture_output=True, text=True, timeout=20, check=False
    )
    assert said.returncode == 6
    assert "Bad RCODE" in said.stderr


RAW = {
    # Octets of HTTP/1.1 that no client library sends, and the status that they get.
    "no Host": (b"GET /dns-query?dns=%s HTTP/1.1\r\n\r\n" % text(OPEN).encode(), b"400"),
    "two Hosts": (b"GET /dns-query?dns=%s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" % text(OPEN).encode(), b"400"),
    "HTTP/1.0": (b"GET /dns-query?dns=%s HTTP/1.0\r\n\r\n" % text(OPEN).encode(), b"200"),
    "a whole URL": (b"GET http://x/dns-query?dns=%s HTTP/1.1\r\nHost: x\r\n\r\n" % text(OPEN).encode(), b"200"),
    "Expect": (
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(OPEN), b"100",
    ),
    "not HTTP": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", b"400"),
    "PRI, and then something else": (b"PRI * HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "a long line": (b"GET /dns-query?dns=" + b"A" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "two lengths": (b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
    "a length and chunks": (
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400",
    ),
    "a broken chunk": (
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"400",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", RAW)
def test_octets_of_http1(doors, row):
    """Whatever comes gets an answer or an end, and nothing of it is logged as ours."""
    octets, expected = RAW[row]
    with socket.create_connection(("127.0.0.1", doors.http), 5) as sock:
        sock.sendall(octets)
        assert sock.recv(4096).split(b" ")[1] == expected
    assert "Error" not in doors.front.said


class Http2:
    """An HTTP/2 client that can misbehave."""

    def __init__(self, port: int, **settings: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        values = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def send(self, number: int, body: bytes, *, end: bool) -> None:
        for start in range(0, len(body), 10_000):
            self.h2.send_data(number, body[start : start + 10_000], end_stream=end and start + 10_000 >= len(body))

    def ask(self, query: bytes, *, end: bool = True, flush: bool = True) -> int:
        number = self.h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "x"),
            (":path", "/dns-query"),
            ("content-type", MESSAGE),
        ]
        self.h2.send_headers(number, headers)
        self.send(number, query, end=end)
        if flush:
            self.flush()
        return number

    def events(self, kind: type, count: int = 1, seconds: float = 5) -> list:
        """Return events of a kind, as many as wanted or as there are before the end."""
        found, end = [], time.monotonic() + seconds
        while len(found) < count and time.monotonic() < end:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.sock.recv(65_536)
            except OSError:
                break
            if not data:
                break
            found += [event for event in self.h2.receive_data(data) if isinstance(event, kind)]
            self.flush()
        return found


@pytest.fixture
def raw2(doors):
    opened = []

    def make(**settings):
        opened.append(Http2(doors.http, **settings))
        return opened[-1]

    yield make
    for client in opened:
        client.sock.close()


def test_many_questions_at_once(raw2):
    """A hundred streams of one connection, each with its own answer."""
    client = raw2()
    asked = {client.ask(packet(f"n{number}.refused.example", number=number)): number for number in range(100)}
    answered = {event.stream_id: int.from_bytes(event.data[:2]) for event in client.events(h2.events.DataReceived, 100)}
    assert answered == asked


def test_a_client_with_a_small_window(raw2):
    """The answer comes in pieces as there is room."""
    client = raw2(INITIAL_WINDOW_SIZE=10)
    number = client.ask(OPEN)
    data = b""
    while len(data) < 50:
        received = client.events(h2.events.DataReceived, 1)
        assert all(len(event.data) <= 10 for event in received)
        data += b"".join(event.data for event in received)
        if any(event.stream_ended for event in received):
            break
        client.h2.increment_flow_control_window(10, number)
        client.flush()
    assert Said.of(data).addresses == 1


def test_a_window_that_becomes_smaller_than_what_was_sent(raw2):
    """It is less than nothing then (RFC 9113 §6.9.2): the rest of the answer waits for room, and comes whole."""
    client = raw2(INITIAL_WINDOW_SIZE=10)
    number = client.ask(OPEN)
    (first,) = client.events(h2.events.DataReceived, 1)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.flush()
    assert client.events(h2.events.SettingsAcknowledged, 1)
    client.h2.increment_flow_control_window(1_000, number)
    client.flush()
    (rest,) = client.events(h2.events.DataReceived, 1)
    assert Said.of(first.data + rest.data).addresses == 1


def test_requests_that_are_taken_back(doors, raw2):
    """Some are everyday life; a thousand of them end the connection (CVE-2023-44487)."""
    client = raw2()
    for _ in range(50):
        client.h2.reset_stream(client.ask(OPEN), h2.errors.ErrorCodes.CANCEL)
        client.flush()
    number = client.ask(REFUSED)
    assert number in {event.stream_id for event in client.events(h2.events.ResponseReceived, 60, seconds=1)}
    ended = []
    for _ in range(20):
        for _ in range(50):
            client.h2.reset_stream(client.ask(OPEN, flush=False), h2.errors.ErrorCodes.CANCEL)
        client.flush()
        if ended := client.events(h2.events.ConnectionTerminated, 1, seconds=0.1):
            break
    assert [event.error_code for event in ended] == [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM]
    assert post(httpx.Client(verify=any_certificate(), trust_env=False), doors, REFUSED).status_code == 200


def frame(kind: int, payload: bytes, *, stream: int = 0, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


CHATTER = {
    # Frames of HTTP/2 (RFC 9113 §6) that carry nothing of a request; stream 1 has begun.
    "pings": frame(6, b"8 octets"),
    "settings": frame(4, b"\0\3\0\0\0\x64"),
    "priorities": frame(2, b"\0\0\0\0\1", stream=3),
    "windows": frame(8, b"\0\0\0\1"),
    "frames of no known kind": frame(0xFA, b""),
    "data without octets": frame(0, b"", stream=1),
    "data that is padding": frame(0, b"\x09" + bytes(9), stream=1, flags=8),
}


@pytest.mark.parametrize("kind", CHATTER)
def test_a_client_that_says_nothing_of_use(doors, raw2, kind):
    """Some of it is everyday life; thousands of such frames end the connection, and nobody else waits for them."""
    client = raw2()
    client.ask(OPEN, end=False)
    client.sock.sendall(CHATTER[kind] * 500)
    number = client.ask(REFUSED)
    assert number in {event.stream_id for event in client.events(h2.events.ResponseReceived)}
    client.sock.sendall(CHATTER[kind] * 4_000)
    assert Said.of(over_udp("127.0.0.1", doors.front.port, REFUSED)) == Said("REFUSED")
    (ended,) = client.events(h2.events.ConnectionTerminated)
    assert ended.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


def test_frames_that_come_at_once_are_taken_by_and_by(monkeypatch):
    """Thousands of them fit into what is received at once: others have their turn after each slice of it."""
    turn, taken = 0, []
    receive = h2.connection.H2Connection.receive_data

    def note(connection, data):
        if not connection.config.client_side:
            taken.append((turn, len(data)))
        return receive(connection, data)

    async def converse():
        def tick():
            nonlocal turn
            turn += 1
            loop.call_soon(tick)

        loop = asyncio.get_running_loop()
        loop.call_soon(tick)
        over_https = DnsOverHttps(None, lambda peer, _headers: peer, StreamLimits())
        async with over_https.serve(("127.0.0.1", 0)) as (_, port):
            client = await asyncio.to_thread(Http2, port)
            await asyncio.to_thread(client.sock.sendall, CHATTER["pings"] * 900)
            assert len(await asyncio.to_thread(client.events, h2.events.PingAckReceived, 900)) == 900
            client.sock.close()

    monkeypatch.setattr(h2.connection.H2Connection, "receive_data", note)
    asyncio.run(converse())
    assert len({turn for turn, _ in taken}) == len(taken)
    assert max(size for _, size in taken) <= 2_048
    assert sum(size for _, size in taken) >= 900 * len(CHATTER["pings"])


def test_bodies_that_never_end(doors, raw2):
    """They fill no more than the connection's window, and the connection ends."""
    client = raw2()
    client.events(h2.events.WindowUpdated)
    with contextlib.suppress(h2.exceptions.FlowControlError, OSError):
        for _ in range(100):
            client.ask(bytes(2000), end=False)
    began = time.monotonic()
    client.events(h2.events.ConnectionTerminated, 99, seconds=8)
    assert time.monotonic() - began < 7
    assert client.h2.outbound_flow_control_window < 2000


def test_bodies_that_are_too_large_take_no_room_from_those_that_follow(raw2):
    """Each is answered with 413; what it took of the connection's window is given back."""
    client = raw2()
    client.events(h2.events.WindowUpdated)
    for _ in range(5):
        number = client.ask(bytes(65_536), end=False)
        (response,) = client.events(h2.events.ResponseReceived)
        assert (response.stream_id, dict(response.headers)[":status"]) == (number, "413")
    number = client.ask(REFUSED)
    assert [event.stream_id for event in client.events(h2.events.ResponseReceived)] == [number]


def test_large_queries_wait_for_those_before_them():
    """A connection's window has room for two of them until they are answered: so nobody makes us hold a hundred."""

    async def converse():
        may_answer = asyncio.Semaphore(0)

        async def resolve(query, _client):
            await may_answer.acquire()
            return query[:12]

        over_https = DnsOverHttps(resolve, lambda peer, _headers: peer, StreamLimits())
        async with over_https.serve(("127.0.0.1", 0)) as (_, port):
            client = await asyncio.to_thread(Http2, port)
            await asyncio.to_thread(client.events, h2.events.WindowUpdated)
            client.ask(bytes(60_000))
            client.ask(bytes(60_000))
            assert not await asyncio.to_thread(client.events, h2.events.WindowUpdated, 1, 0.3)
            assert client.h2.outbound_flow_control_window < 60_000
            may_answer.release()
            may_answer.release()
            assert len(await asyncio.to_thread(client.events, h2.events.StreamEnded, 2)) == 2
            assert client.h2.outbound_flow_control_window >= 60_000
            client.sock.close()

    asyncio.run(converse())


def test_octets_of_http2(doors):
    """Garbage behind the preface ends the connection, and harms nobody else."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for garbage in (
        b"\0" * 100,
        b"\xff" * 100,
        b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0" * 2000,
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", doors.http), 5) as sock, contextlib.suppress(OSError):
            sock.sendall(preface + garbage)
            while sock.recv(65_536):
                pass
    assert dig("@127.0.0.1", "-p", str(doors.http), "+http-plain", "+short", "www.open.example") == "192.0.2.81\n"


def test_a_connection_is_kept_and_closed_when_quiet(doors):
    """Several exchanges on it; then, after a while without any, it is closed."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", doors.http, timeout=10)) as client:
        for _ in range(3):
            client.request("GET", f"/dns-query?dns={text(OPEN)}")
            assert client.getresponse().read()
        began = time.monotonic()
        assert client.sock.recv(1) == b""
        assert 1 < time.monotonic() - began < 8


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_connection_waits_for_its_answer_longer_than_idle(http2):
    """As long as upstreams take; it is quiet only after that."""

    async def slow(query, _client):
        await asyncio.sleep(1)
        return query

    async def converse():
        over_https = DnsOverHttps(slow, lambda peer, _headers: peer, StreamLimits(idle=0.2))
        async with (
            over_https.serve(("127.0.0.1", 0)) as (host, port),
            httpx.AsyncClient(http1=not http2, http2=http2, trust_env=False, timeout=10) as client,
        ):
            asked = await client.post(
                f"http://{host}:{port}/dns-query", content=OPEN, headers={"content-type": MESSAGE}
            )
            assert (asked.status_code, asked.content) == (200, OPEN)
            await asyncio.sleep(0.7)
            assert over_https.metrics()["https"]["connections"] == 0

    asyncio.run(converse())


def test_connections_that_end_leave_nothing_behind(doors):
    """A client that goes away in the midst of a body takes its octets with it."""
    statm = Path(f"/proc/{doors.front.process.pid}/statm")
    half = (
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nContent-Length: 60000\r\n\r\n"
    )

    def come_and_go():
        clients = [socket.create_connection(("127.0.0.1", doors.http), 5) for _ in range(200)]
        for client in clients:
            client.sendall(half + bytes(50_000))
        assert post(httpx.Client(verify=any_certificate(), trust_env=False), doors, REFUSED).status_code == 200
        for client in clients:
            client.close()
        time.sleep(0.2)
        return int(statm.read_text().split()[1]) * 4096 / 1e6

    before = [come_and_go() for _ in range(12)][-1]  # what the allocator keeps for good grows at first
    after = [come_and_go() for _ in range(15)][-1]
    assert after - before < 110  # MB; 150 came


def test_without_h2(tmp_path, small_mmdb):
    """HTTP/1.1 goes on alone, and nobody is promised more."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "h2.py").write_text('raise ImportError("not installed")\n')
    with open_doors(tmp_path, small_mmdb, path=[tmp_path / "absent"]) as doors:
        with any_certificate("h2", "http/1.1").wrap_socket(
            socket.create_connection(("127.0.0.1", doors.https), 5)
        ) as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
        with httpx.Client(verify=any_certificate(), trust_env=False) as client:
            assert Said.of(post(client, doors, REFUSED).content) == Said("REFUSED")
        with socket.create_connection(("127.0.0.1", doors.http), 5) as sock:
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert sock.recv(4096).split(b" ")[1] == b"400"


def test_a_fault_of_ours(caplog):
    """It is logged, and answered with 500: no answer of a resolver comes of it."""

    async def broken(query, client):
        raise ZeroDivisionError("a bug")

    over_https = DnsOverHttps(broken, lambda peer, headers: peer, StreamLimits())
    request = Request("GET", f"/dns-query?dns={text(OPEN)}", (), b"", "127.0.0.1")
    response = asyncio.run(over_https.respond(request))
    assert (response.status, dict(response.headers)["cache-control"]) == (500, "no-store")
    assert "ZeroDivisionError: a bug" in caplog.text
    assert over_https.metrics() == {"https": {"requests": 1, "bad_requests": 1, "connections": 0, "evicted": 0}}
