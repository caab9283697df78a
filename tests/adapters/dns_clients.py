"""Clients that send exactly these octets, by every way that a DNS query can take, and return what came back."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TIMEOUT = 5.0
FRANCE, GERMANY, REUNION = "203.0.113.7", "198.51.100.7", "192.0.2.7"
MARK = b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\x04mark\x07refused\x07example\0\0\x01\0\x01"
"""A query that is refused at once: what is answered before it has been answered, what is not is silence."""


def any_certificate(*protocols: str) -> ssl.SSLContext:
    """Return the TLS settings of a client that does not care who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def pin(certificate: Path) -> str:
    """Return the digest of a certificate's key, as clients are told which key they may trust (RFC 7858 §4.2)."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def over_udp(
    host: str, port: int, packet: bytes, *, source: str | None = None, timeout: float = TIMEOUT
) -> bytes | None:
    with udp_socket(host, port, source, timeout) as sock:
        sock.send(packet)
        try:
            return sock.recv(65_535)
        except TimeoutError:
            return None


def udp_socket(host: str, port: int, source: str | None = None, timeout: float = TIMEOUT) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    if source is not None:
        sock.bind((source, 0))
    sock.connect((host, port))
    return sock


class Stream:
    """A connection over TCP or TLS that carries DNS messages, each behind its length (RFC 1035 §4.2.2)."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        source: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.sock: socket.socket = socket.create_connection((host, port), timeout, source and (source, 0))
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=host)
        self._read = b""

    def send(self, *packets: bytes) -> None:
        self.sock.sendall(b"".join(len(packet).to_bytes(2) + packet for packet in packets))

    def receive(self) -> bytes | None:
        """Return the next message; None when the connection ended instead."""
        head = self._exactly(2)
        return None if head is None else self._exactly(int.from_bytes(head))

    def ask(self, packet: bytes) -> bytes | None:
        self.send(packet)
        return self.receive()

    def _exactly(self, count: int) -> bytes | None:
        while len(self._read) < count:
            try:
                data = self.sock.recv(65_536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return None
            self._read += data
        taken, self._read = self._read[:count], self._read[count:]
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def over_stream(
    host: str, port: int, packet: bytes, *, tls: ssl.SSLContext | None = None, source: str | None = None
) -> bytes | None:
    with Stream(host, port, tls=tls, source=source) as stream:
        return stream.ask(packet)


def over_https(host: str, port: int, packet: bytes, *, get: bool = False) -> bytes | None:
    """Ask by HTTP/1.1; None when the response is no DNS message."""
    with contextlib.closing(
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=any_certificate())
    ) as client:
        if get:
            text = base64.urlsafe_b64encode(packet).rstrip(b"=").decode()
            client.request("GET", f"/dns-query?dns={text}")
        else:
            client.request("POST", "/dns-query", packet, {"content-type": "application/dns-message"})
        response = client.getresponse()
        body = response.read()
        return body if response.status == 200 else None


def over_http2(host: str, port: int, packet: bytes) -> bytes | None:
    """Ask by HTTP/2; None when the response is no DNS message."""
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}/dns-query"
    with httpx.Client(http1=False, http2=True, verify=any_certificate(), timeout=TIMEOUT, trust_env=False) as client:
        response = client.post(url, content=packet, headers={"content-type": "application/dns-message"})
        assert response.http_version == "HTTP/2"
        return response.content if response.status_code == 200 else None


@dataclass(frozen=True)
class Said:
    """An answer, as far as refusals go: what tests write out and compare."""

    rcode: str
    flags: str = "QR RD RA"
    ede: str | None = None
    ecs: str | None = None
    opt: bool = False
    soa: int | None = None  # the TTL of the SOA record in AUTHORITY
    addresses: int = 0  # records in ANSWER

    @classmethod
    def of(cls, packet: bytes) -> Self:
        message = dns.message.from_wire(packet, ignore_trailing=False, one_rr_per_rrset=True)
        options = {option.otype: option for option in message.options}
        ede = options.get(dns.edns.OptionType.EDE)
        ecs = options.get(dns.edns.OptionType.ECS)
        soas = [rrset.ttl for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA]
        return cls(
            rcode=dns.rcode.to_text(message.rcode()),
            flags=dns.flags.to_text(message.flags),
            ede=None if ede is None else f"{int(ede.code)} {ede.text or ''}".rstrip(),
            ecs=None if ecs is None else ecs.to_text().removeprefix("ECS "),
            opt=message.edns >= 0,
            soa=soas[0] if soas else None,
            addresses=len(message.answer),
        )


def dig(*arguments: str, timeout: float = 20) -> str:
    """Return what dig prints."""
    command = ["dig", "+tries=1", "+timeout=5", "+nocookie", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False).stdout


def packet(
    name: bytes | str = "www.refused.example", kind: int = 1, *, number: int = 0x1234, flags: int = 0x0100, klass: int = 1,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0), rest: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a query of these octets; a name that is text is written in labels."""
    question = name if isinstance(name, bytes) else wire_name(name)
    return struct.pack("!6H", number, flags, *counts) + question + struct.pack("!HH", kind, klass) + rest


def wire_name(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"


def opt(options: bytes = b"", *, size: int = 1232, version: int = 0, flags: int = 0) -> bytes:
    """Return an OPT record."""
    return b"\0" + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(options)) + options


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def subnet(address: str, source: int, *, scope: int = 0, family: int | None = None) -> bytes:
    """Return an EDNS Client Subnet option (RFC 7871 §6)."""
    version = 2 if ":" in address else 1
    octets = socket.inet_pton(socket.AF_INET6 if version == 2 else socket.AF_INET, address)
    return option(
        8, struct.pack("!HBB", version if family is None else family, source, scope) + octets[: (source + 7) // 8]
    )


Ask = Callable[[bytes], bytes | None]
