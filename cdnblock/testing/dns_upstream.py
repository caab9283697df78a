"""Whom a resolver under the contract forwards to: it has an answer to everything. Needs dnspython."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

TTL: Final = 300
"""Seconds that each answer may be kept: longer than the contract takes, so that what is kept shows."""
GONE, EMPTY = "gone", "empty"
"""First letters of names that do not exist, and of names without the type that is asked for."""
ALIASES: Final = "alias.example.org"
"""`LABEL.alias.example.org` is an alias of `LABEL.example`."""

_DATA: Final[Mapping[str, str]] = {
    # type: data, where {name} is the name itself
    "A": "192.0.2.80",
    "AAAA": "2001:db8:80::80",
    "TXT": '"site {name}"',
    "MX": "10 mail.{name}",
    "HTTPS": "1 . alpn=h2 ipv4hint=192.0.2.80",
    "SVCB": "1 . alpn=h2",
    "SRV": "0 0 443 www.{name}",
    "CAA": '0 issue "ca.example.org"',
}
_SOA: Final = f"ns.example.org. host.example.org. 1 3600 600 604800 {TTL}"
_LENGTH: Final = 2  # octets before a message over TCP (RFC 1035 §4.2.2)


def answer_to(query: dns.message.Message) -> dns.message.Message:
    """Return what upstream says."""
    answer = dns.message.make_response(query, recursion_available=True)
    answer.flags &= ~dns.flags.CD
    question = query.question[0]
    name, kind = question.name, dns.rdatatype.to_text(question.rdtype)
    aliased = name.is_subdomain(dns.name.from_text(ALIASES)) and len(name.labels) == ALIASES.count(".") + 3
    if aliased:
        target = dns.name.Name((name.labels[0], b"example", b""))
        answer.answer.append(dns.rrset.from_text(name, TTL, "IN", "CNAME", target.to_text()))
        name = target
    first = name.labels[0].lower()
    if first.startswith(GONE.encode()):
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif kind in _DATA and not first.startswith(EMPTY.encode()):
        answer.answer.append(
            dns.rrset.from_text(name, TTL, "IN", kind, _DATA[kind].format(name=name.to_text().removeprefix(".")))
        )
    if len(answer.answer) == aliased:
        answer.authority.append(dns.rrset.from_text(dns.name.Name(name.labels[-2:]), TTL, "IN", "SOA", _SOA))
    return answer


Answering: TypeAlias = Callable[[bytes, str], bytes | None]
"""Gets a query and the client's address, and returns an answer or None for silence."""


def upstream(octets: bytes, _client: str) -> bytes | None:
    """Answer what can be read; silence is what garbage deserves."""
    try:
        return answer_to(dns.message.from_wire(octets)).to_wire()
    except (dns.exception.DNSException, IndexError):
        return None


@contextmanager
def serving(answering: Answering = upstream) -> Iterator[tuple[str, int]]:
    """Serve on a free port of loopback, over UDP and TCP; yield the address."""
    with ExitStack() as leaving:
        udp: _Udp
        while True:
            tcp = _Tcp(("127.0.0.1", 0), _OverTcp)
            with suppress(OSError):
                udp = _Udp(("127.0.0.1", tcp.server_address[1]), _OverUdp)
                break
            tcp.server_close()
        for server in (tcp, udp):
            server.answering = answering
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            leaving.callback(thread.join)
            leaving.callback(server.server_close)
            leaving.callback(server.shutdown)
        yield "127.0.0.1", int(tcp.server_address[1])


class _OverUdp(socketserver.BaseRequestHandler):
    server: _Udp

    def handle(self) -> None:
        octets, sock = self.request
        if (answer := self.server.answering(octets, self.client_address[0])) is not None:
            sock.sendto(answer, self.client_address)


class _OverTcp(socketserver.StreamRequestHandler):
    server: _Tcp

    def handle(self) -> None:
        with suppress(OSError):
            while len(length := self.rfile.read(_LENGTH)) == _LENGTH:
                octets = self.rfile.read(int.from_bytes(length, "big"))
                if (answer := self.server.answering(octets, self.client_address[0])) is None:
                    return
                self.wfile.write(len(answer).to_bytes(_LENGTH, "big") + answer)


class _Udp(socketserver.UDPServer):
    answering: Answering


class _Tcp(socketserver.ThreadingTCPServer):
    answering: Answering
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are no news."""
