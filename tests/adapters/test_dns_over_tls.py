"""DNS over TLS (RFC 7858), asked by dig, dnspython and raw sockets, and the certificate that it shares with HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from free_ports import free_ports

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")

sys.path.insert(0, str(Path(__file__).parent))

import dns.message
import dns.query
import dns.rcode
import dns_peers
from dns_clients import MARK, Said, Stream, any_certificate, dig, opt, option, over_https, packet
from dns_house import fetched, open_doors
from dns_orders import write_order
from prometheus_page import samples, value

from cdnblock.adapters._dns_front import front

pytestmark = [
    pytest.mark.skipif(bool(dns_peers.missing("unbound")), reason=dns_peers.missing("unbound")),
    pytest.mark.skipif(bool(dns_peers.missing("dig")), reason=dns_peers.missing("dig")),
]


@pytest.fixture(scope="module")
def doors(tmp_path_factory, small_mmdb):
    with open_doors(tmp_path_factory.mktemp("doors"), small_mmdb, "--idle", "2") as doors:
        yield doors


@pytest.fixture
def own_doors(tmp_path, small_mmdb):
    with open_doors(tmp_path, small_mmdb) as doors:
        yield doors


def verified(certificate: Path, *protocols: str) -> ssl.SSLContext:
    """Return the TLS settings of a client that knows this one certificate."""
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_dnspython_asks_and_checks_the_certificate(doors):
    """A stub resolver with a strict profile (RFC 8310) is content."""
    query = dns.message.make_query("www.refused.example", "AAAA", use_edns=0)
    answer = dns.query.tls(
        query, "127.0.0.1", 5, doors.tls, ssl_context=verified(doors.certificate), server_hostname="localhost"
    )
    assert answer.rcode() == dns.rcode.REFUSED
    query = dns.message.make_query("www.open.example", "A")
    answer = dns.query.tls(
        query, "127.0.0.1", 5, doors.tls, ssl_context=verified(doors.certificate), server_hostname="localhost"
    )
    assert [record.to_text() for record in answer.answer[0]] == ["192.0.2.81"]


def test_dig_checks_the_certificate(doors):
    """By the name in it."""
    ask = ("@127.0.0.1", "-p", str(doors.tls), f"+tls-ca={doors.certificate}", "www.refused.example")
    assert "status: REFUSED" in dig("+tls-hostname=localhost", *ask)
    assert "status: REFUSED" not in dig("+tls-hostname=another.example", *ask)


@pytest.mark.parametrize(
    ("offered", "taken"), [(("dot",), "dot"), ((), None), (("h2", "dot"), "dot"), (("h2", "http/1.1"), None)]
)
def test_the_protocol(doors, offered, taken):
    """ALPN `dot` where the client offers it; a client that offers nothing we know is served all the same."""
    with Stream("127.0.0.1", doors.tls, tls=any_certificate(*offered)) as client:
        assert client.sock.selected_alpn_protocol() == taken
        assert Said.of(client.ask(MARK)) == Said("REFUSED")


@pytest.mark.parametrize(
    ("offered", "taken"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("dot",), None)]
)
def test_the_protocol_of_https(doors, offered, taken):
    """HTTP/2 first."""
    with any_certificate(*offered).wrap_socket(socket.create_connection(("127.0.0.1", doors.https), 5)) as tls:
        assert tls.selected_alpn_protocol() == taken


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(doors, version):
    """TLS 1.2 and 1.3 (RFC 8996 ended the older ones)."""
    context = any_certificate("dot")
    context.minimum_version = context.maximum_version = version
    with Stream("127.0.0.1", doors.tls, tls=context) as client:
        assert client.ask(MARK)[:2] == MARK[:2]


def test_older_versions_are_refused(doors):
    """TLS 1.1 ends in the handshake."""
    context = any_certificate("dot")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)version|reset|closed|eof"):
        Stream("127.0.0.1", doors.tls, tls=context)


def test_a_session_is_resumed(doors):
    """A client that comes back is spared half of the handshake (RFC 7858 §3.4)."""
    context, session = any_certificate("dot"), None
    for _ in range(2):
        sock = socket.create_connection(("127.0.0.1", doors.tls), 5)
        with context.wrap_socket(sock, session=session) as tls:
            tls.sendall(len(MARK).to_bytes(2) + MARK)
            assert tls.recv(4096)
            resumed, session = tls.session_reused, tls.session
    assert resumed


@pytest.mark.parametrize(
    ("name", "size"), [("www.open.example", 468), ("www.refused.example", 468), ("gone.example", 468)]
)
def test_padding(doors, name, size):
    """What was asked padded is answered padded, so that lengths tell nothing (RFC 8467 §4.1)."""
    padded = packet(name, counts=(1, 0, 0, 1), rest=opt(option(12, bytes(60))))
    plain = packet(name, counts=(1, 0, 0, 1), rest=opt())
    with Stream("127.0.0.1", doors.tls, tls=any_certificate("dot")) as client:
        answer = client.ask(padded)
        assert len(answer) == size
        assert [option.otype for option in dns.message.from_wire(answer).options if option.otype == 12] == [12]
        assert len(client.ask(plain)) < 200
        assert len(client.ask(packet(name))) < 200
    with Stream("127.0.0.1", doors.front.port) as client:
        assert len(client.ask(padded)) < 200  # nobody pads in clear


def test_queries_in_clear(doors):
    """On the TLS port they get no answer, and the connection ends."""
    with Stream("127.0.0.1", doors.tls) as client:
        with contextlib.suppress(OSError):
            client.send(MARK)
        assert (client.receive() or b"\x15")[:1] == b"\x15"  # at most a TLS alert


def test_a_connection_is_closed_when_quiet(doors):
    """After two seconds here."""
    with Stream("127.0.0.1", doors.tls, tls=any_certificate("dot"), timeout=10) as client:
        assert client.ask(MARK)
        began = time.monotonic()
        assert client.receive() is None
        assert 1 < time.monotonic() - began < 8


def served(port: int) -> bytes:
    """Return the certificate that is served there now."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock, any_certificate().wrap_socket(sock) as tls:
        return tls.getpeercert(binary_form=True)


def expected(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def test_a_certificate_that_is_replaced(own_doors, tmp_path):
    """New connections get the new one, those that are open stay; what is half replaced or broken changes nothing."""
    doors = own_doors
    first = expected(doors.certificate)
    with Stream("127.0.0.1", doors.tls, tls=any_certificate("dot")) as client:
        assert client.ask(MARK)
        other, other_key = tmp_path / "other.pem", tmp_path / "other_key.pem"
        dns_peers.write_certificate(other, other_key, name="other.example")
        second = expected(other)
        shutil.copy(other, tmp_path / "beside.pem")
        (tmp_path / "beside.pem").replace(doors.certificate)  # its key still is the old one's
        assert (served(doors.tls), served(doors.https)) == (first, first)
        other_key.replace(doors.key)
        assert (served(doors.tls), served(doors.https)) == (second, second)
        doors.certificate.write_text("broken")
        assert (served(doors.tls), served(doors.https)) == (second, second)
        doors.certificate.unlink()
        assert (served(doors.tls), served(doors.https)) == (second, second)
        assert client.ask(MARK)
    assert "the certificate from before stays in use" in doors.front.said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen-tls", "127.0.0.1:0"], "need a certificate"),
        (["--listen-https", "127.0.0.1:0"], "need a certificate"),
        (["--listen-tls", "127.0.0.1:0", "--certificate", "absent.pem"], "no usable certificate in absent.pem"),
        (["--listen-tls", "127.0.0.1:0", "--certificate", "empty.pem"], "no usable certificate in empty.pem"),
        (["--listen-https", "nonsense", "--certificate", "empty.pem"], "'nonsense' is no address and port"),
        (["--listen-http", "127.0.0.1:0", "--trusted-proxies", "nonsense"], "trusted proxy 'nonsense' is no network"),
        (["--listen-tls", "192.0.2.1:853", "--certificate", "own.pem"], "cannot listen on 192.0.2.1 port 853"),
    ],
)
def test_what_cannot_be_served(tmp_path, options, said):
    """It is said in one line, with exit code 1, and nothing listens."""
    (tmp_path / "orders").mkdir()
    write_order(tmp_path / "orders", "refused.example")
    (tmp_path / "empty.pem").write_text("")
    dns_peers.write_certificate(tmp_path / "own.pem", tmp_path / "key.pem")
    with (tmp_path / "own.pem").open("a") as both:
        both.write((tmp_path / "key.pem").read_text())
    command = [
        sys.executable,
        "-m",
        "cdnblock",
        "dns",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        "127.0.0.1:9",
        *options,
    ]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": str(dns_peers.ROOT)},
    )
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_workers_share_the_encrypted_ports(tmp_path, small_mmdb):
    """Several processes, one certificate, the same orders."""
    with open_doors(tmp_path, small_mmdb, "--workers", "2") as doors:
        for _ in range(20):
            with Stream("127.0.0.1", doors.tls, tls=any_certificate("dot")) as client:
                assert Said.of(client.ask(MARK)) == Said("REFUSED")
        assert "status: REFUSED" in dig("@127.0.0.1", "-p", str(doors.https), "+https", "www.refused.example")


def test_what_is_counted(tmp_path, small_mmdb):
    """Prometheus is told of queries over TLS, of requests over HTTPS, good and bad, and of all connections."""
    (port,) = free_ports(1)
    with (
        open_doors(tmp_path, small_mmdb, "--metrics", f"127.0.0.1:{port}", "--workers", "2") as doors,
        Stream("127.0.0.1", doors.tls, tls=any_certificate("dot")) as client,
    ):
        assert client.ask(MARK)
        assert client.ask(packet("www.open.example"))
        assert over_https("127.0.0.1", doors.https, MARK)
        assert over_https("127.0.0.1", doors.https, b"no query") is None
        counted = samples(fetched(f"http://127.0.0.1:{port}/metrics"))
    assert value(counted, "cdnblock_dns_tls_total", event="queries") == 2
    assert value(counted, "cdnblock_dns_https_total", event="requests") == 2
    assert value(counted, "cdnblock_dns_https_total", event="bad_requests") == 1
    assert value(counted, "cdnblock_dns_queries_total", outcome="refused") == 2
    assert value(counted, "cdnblock_dns_connections") is not None


class Writes(asyncio.Protocol):
    """Has much to say when its client has gone."""

    def __init__(self, ended):
        self.ended = ended

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        for _ in range(20):
            with contextlib.suppress(RuntimeError):  # uvloop's way, without TLS
                self.transport.write(b"answer")
        logging.getLogger("asyncio").warning("something else")
        self.ended.set()


@pytest.mark.parametrize("encrypted", [True, False])
def test_clients_that_go_are_no_news(tmp_path, caplog, encrypted):
    """Event loops log every write to a closed connection from the fifth on: clients would choose how long logs are."""
    dns_peers.write_certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")

    async def converse():
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: Writes(ended), "127.0.0.1", 0, ssl=context if encrypted else None)
        asking = any_certificate("dot") if encrypted else None
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=asking)
        writer.write(b"query")
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)
        server.close()

    front.run(converse())
    assert [record.message for record in caplog.records if record.name == "asyncio"] == ["something else"]
