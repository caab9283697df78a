"""Servers that mean harm: whatever they send, a verification ends in time, says what came, and holds little."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import struct
import time
from contextlib import asynccontextmanager

import pytest
from broken_edges import served_apart

from cdnblock.verification.answers import HttpAnswer, Nothing
from cdnblock.verification.asking import ask
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.probes import Form, Kind, Probe, Way
from cdnblock.verification.servers import Edge, Resolver

PATIENCE = 1.0
CLIENT = Client(label="france", country="FR", address="203.0.113.7", told=Told.X_FORWARDED_FOR)
OK = b"HTTP/1.1 200 OK\r\nX: y\r\n"


@asynccontextmanager
async def talking(speech, certificate=None):
    """Serve what `speech(reader, writer)` does on a port."""

    async def one(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await speech(reader, writer)
        writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


def saying(*parts, forever=b"", pause=0.0, ends=True):
    """Return a speech: some octets once there is a request, then others for ever."""

    async def speech(reader, writer):
        await reader.read(65_536)
        for part in parts:
            writer.write(part)
        while forever:
            writer.write(forever)
            await writer.drain()
            await asyncio.sleep(pause)
        if not ends:
            await asyncio.sleep(60)

    return speech


def asked(port, way=Way.HTTP1, *, tls=False):
    edge = Edge(host="127.0.0.1", port=port, tls=tls)
    probe = Probe(name="refused.example", kind=Kind.NAMED, client=CLIENT, way=way, form=Form())
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = asyncio.run(ask(edge, probe, PATIENCE))
    assert time.monotonic() - started < 10 * PATIENCE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    return answer


HTTP1 = {
    # what comes: what is told of it
    "garbage": (saying(b"\x00\xff" * 500 + b"\r\n\r\n"), "no HTTP: "),
    "another protocol": (saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "no HTTP: b'SSH-2.0-OpenSSH_9.2'"),
    "a status that is none": (saying(b"HTTP/1.1 999999 Sure\r\n\r\n"), "no HTTP: "),
    "a status in other digits": (saying("HTTP/1.1 ٤٥١ No\r\n\r\n".encode()), "no HTTP: "),
    "an endless head": (saying(OK, forever=b"X-More: " + b"y" * 1000 + b"\r\n"), "a head of more than 65,536 octets"),
    "a line without an end": (saying(b"HTTP/1.1 200 ", forever=b"O" * 10_000), "a head of more than 65,536 octets"),
    "one octet now and then": (saying(b"HTTP/1.1 200 OK\r\nX: ", forever=b"y", pause=0.2), "no answer within 1 s"),
    "nothing": (saying(ends=False), "no answer within 1 s"),
    "interim answers for ever": (saying(forever=b"HTTP/1.1 103 Early Hints\r\n\r\n"), "more than 8 interim answers"),
    "an end in the middle": (saying(b"HTTP/1.1 451 Unavail"), "an end in the middle of the head"),
}


@pytest.mark.parametrize("what", HTTP1)
def test_no_answer_over_http1(what):
    """Each is told in a few words."""
    speech, told = HTTP1[what]
    with served_apart(talking(speech)) as port:
        answer = asked(port)
    assert isinstance(answer, Nothing)
    assert str(answer).startswith(told)
    assert len(str(answer)) < 300


BODIES = {
    "an endless body": saying(OK, b"\r\n", forever=b"z" * 65_536),
    "endless chunks": saying(OK, b"Transfer-Encoding: chunked\r\n\r\n", forever=b"1\r\nz\r\n" * 1000),
    "a length beyond all": saying(OK, b"Content-Length: 99999999999999999999\r\n\r\n", forever=b"z" * 65_536),
    "a length that is none": saying(OK, b"Content-Length: -1\r\n\r\nx"),
    "a length in other digits": saying(OK, "Content-Length: ١٢\r\n\r\nx".encode()),
    "a body cut short": saying(OK, b"Content-Length: 1000\r\n\r\nx"),
    "as many fields as fit": saying(OK, b"a:b\r\n" * 12_000, b"\r\n"),
}


@pytest.mark.parametrize("what", BODIES)
def test_what_comes_after_the_head_changes_nothing(what):
    """The status has come: it is judged, and nobody waits for the rest for ever."""
    with served_apart(talking(BODIES[what])) as port:
        answer = asked(port)
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 200


def test_a_body_that_drips_is_waited_for_no_longer_than_for_an_answer():
    """The head counts, although the body never ends."""
    with served_apart(talking(saying(OK, b"\r\n", forever=b"z", pause=0.05))) as port:
        answer = asked(port)
    assert str(answer) == "200"


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


SETTINGS = frame(4, 0, 0)
HEADERS, END_HEADERS = 1, 4
HTTP2 = {
    "garbage": saying(b"\xff" * 100_000),
    "HTTP/1.1": saying(b"HTTP/1.1 200 OK\r\n\r\n" * 10),
    "pings for ever": saying(SETTINGS, forever=frame(6, 0, 0, b"12345678") * 1000),
    "settings for ever": saying(SETTINGS, forever=SETTINGS * 1000),
    "continued for ever": saying(SETTINGS, frame(HEADERS, 0, 1, b"\x88"), forever=frame(9, 0, 1, b"\x00" * 16_000)),
    "a bomb of headers": saying(
        SETTINGS, frame(HEADERS, END_HEADERS, 1, b"\x88\x40\x01a\x7f\xe1\x1e" + b"z" * 4000 + b"\xbe" * 12_000)
    ),
    "no status": saying(SETTINGS, frame(HEADERS, END_HEADERS | 1, 1, b"\x40\x01a\x01b")),
    "a status that is none": saying(SETTINGS, frame(HEADERS, END_HEADERS | 1, 1, b"\x48\x03\xc2\xb9x")),
    "a push": saying(SETTINGS, frame(5, END_HEADERS, 1, b"\0\0\0\2\x82")),
    "a window of nothing": saying(SETTINGS, frame(8, 0, 0, b"\0\0\0\0")),
    "nothing": saying(ends=False),
}


@pytest.mark.parametrize("what", HTTP2)
def test_no_answer_over_http2(what, stage):
    """Each ends, and nothing of it is taken for an answer."""
    with served_apart(talking(HTTP2[what], stage.certificate)) as port:
        answer = asked(port, Way.HTTP2, tls=True)
    assert isinstance(answer, Nothing) or answer.status == 0, answer
    assert len(str(answer)) < 300


def test_an_endless_body_over_http2(stage):
    """The head counts."""
    head = SETTINGS + frame(HEADERS, END_HEADERS, 1, b"\x88")
    with served_apart(talking(saying(head, forever=frame(0, 0, 1, b"z" * 16_000)), stage.certificate)) as port:
        assert str(asked(port, Way.HTTP2, tls=True)) == "200"


def test_a_server_without_tls_or_http2_is_told(stage):
    """TLS that does not come about, and a server that chooses no HTTP/2."""
    with served_apart(talking(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as port:
        assert str(asked(port, tls=True)).startswith("closed without an answer (in the TLS handshake: ")
    with served_apart(talking(saying(ends=False))) as port:
        assert str(asked(port, tls=True)) == "no answer within 1 s"


class Udp(asyncio.DatagramProtocol):
    """Answers each packet by what `speech` makes of it, some packets for one."""

    def __init__(self, speech):
        self.speech = speech

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        for packet in self.speech(data):
            self.transport.sendto(packet, addr)


@asynccontextmanager
async def sending(speech):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Udp(speech), local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1]
    transport.close()


def answering(query, rest, counts=(1, 1, 0, 0)):
    return query[:2] + b"\x81\x80" + struct.pack("!4H", *counts) + query[12:-11] + rest


DATAGRAMS = {
    "nothing": (lambda _query: [], "no answer within 1 s"),
    "the query itself": (lambda query: [query], "no answer within 1 s"),
    "empty packets": (lambda _query: [b""], "no answer within 1 s"),
    "another id": (lambda query: [b"\0\0" + answering(query, b"")[2:]] * 3, "no answer within 1 s"),
    "another name": (lambda query: [answering(query, b"").replace(b"refused", b"allowed")], "no answer within 1 s"),
    "a storm of strays": (lambda query: [query[:2] + b"\x81\x80" + b"z" * 1000] * 2000, "answers to other questions alone"),
    "records that are not there": (lambda query: [answering(query, b"", (1, 65_535, 65_535, 65_535))], "a broken DNS message"),
    "a record longer than the packet": (
        lambda query: [answering(query, b"\xc0\x0c\0\x01\0\x01\0\0\0\0\xff\xff")], "a broken DNS message"
    ),
    "a name that points at itself": (
        lambda query: [answering(query, b"\xc0" + bytes([len(query) - 11]) + b"\0\x01\0\x01\0\0\0\0\0\0")],
        "a name without an end",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DATAGRAMS)
def test_no_answer_over_udp(what):
    """Packets that answer nothing are passed over, and broken ones told."""
    speech, told = DATAGRAMS[what]
    probe = Probe(name="refused.example", kind=Kind.NAMED, client=SOURCE, way=Way.UDP, form=Form())
    with served_apart(sending(speech)) as port:
        answer = asyncio.run(ask(Resolver(host="127.0.0.1", port=port), probe, PATIENCE))
    assert isinstance(answer, Nothing)
    assert str(answer).startswith(told)


SOURCE = Client(label="here", country=None, address="127.0.0.1")
STREAMS = {
    "garbage": (saying(b"\xff\xff" + b"z" * 70_000), "answers to other questions alone"),
    "nothing": (saying(ends=False), "no answer within 1 s"),
    "an end": (saying(), "the connection ended without an answer"),
    "an end in the middle": (saying(b"\x01\x00abc"), "the connection ended without an answer"),
    "strays for ever": (saying(forever=b"\0\x05abcde" * 100), "answers to other questions alone"),
    "messages of no octets": (saying(forever=b"\0\0" * 1000), "answers to other questions alone"),
    "one octet now and then": (saying(b"\xff\xff", forever=b"z", pause=0.1), "no answer within 1 s"),
}


@pytest.mark.parametrize("what", STREAMS)
def test_no_answer_over_tcp(what):
    """The same over a stream."""
    speech, told = STREAMS[what]
    probe = Probe(name="refused.example", kind=Kind.NAMED, client=SOURCE, way=Way.TCP, form=Form())
    with served_apart(talking(speech)) as port:
        answer = asyncio.run(ask(Resolver(host="127.0.0.1", port=port), probe, PATIENCE))
    assert isinstance(answer, Nothing)
    assert str(answer) == told or what == "garbage"
