"""The wire form of DNS queries and of short answers to them (RFC 1035 §4, RFC 6891, RFC 7871, RFC 8914).

Bytes in, values out; whatever the bytes, nothing raises. Only what a refusal needs: names are copied, never
compressed, and records are skipped, never read, but for OPT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final, NamedTuple

HEADER: Final = Struct("!HHHHHH")  # RFC 1035 §4.1.1: id, flags, and the four counts
RECORD: Final = Struct("!HHIH")  # RFC 1035 §4.1.3: type, class, TTL, RDLENGTH
_TWO: Final = Struct("!HH")
_SUBNET: Final = Struct("!HBB")  # RFC 7871 §6: FAMILY, SOURCE PREFIX-LENGTH, SCOPE PREFIX-LENGTH

QR: Final = 0x8000
OPCODE: Final = 0x7800
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
ECHOED: Final = OPCODE | RD | CD  # RFC 1035 §4.1.1; RFC 4035 §3.1.6 and §3.2.2; AD is never echoed

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16  # RFC 6891 §6.1.3

SOA: Final = 6
OPT: Final = 41
IN: Final = 1

CLIENT_SUBNET: Final = 8
EXTENDED_ERROR: Final = 15

DNSSEC_OK: Final = 0x8000  # RFC 3225: first of the flags in OPT's TTL
UDP_SIZE: Final = 1232  # dnsflagday.net 2020: fits every path without fragments
SMALLEST_UDP: Final = 512  # RFC 1035 §2.3.4; RFC 6891 §6.2.3 reads smaller values as this

_MAX_NAME: Final = 255  # RFC 1035 §2.3.4
_MAX_LABEL: Final = 63
_POINTER: Final = 0xC0  # RFC 1035 §4.1.4

_ADDRESSES: Final[dict[int, tuple[int, type[IPv4Address | IPv6Address]]]] = {
    # RFC 7871 §6: address family → octets of an address and its type
    1: (4, IPv4Address),
    2: (16, IPv6Address),
}
# Everything but visible ASCII, and the backslash; between labels a dot is a dot, inside one it is not.
_ESCAPED: Final = re.compile(rb"[^!-\[\]-~]")
_ESCAPED_IN_LABEL: Final = re.compile(rb"[^!-\[\]-~]|\.")


class Question(NamedTuple):
    r"""What is asked. `name` is presentation text: labels joined by dots, in the case in which they came.

    Inside a label a dot, a backslash and what is not visible ASCII is `\DDD` (RFC 1035 §5.1), so no two names look
    alike. The root is the empty text.
    """

    name: str
    qtype: int
    qclass: int


class Subnet(NamedTuple):
    """An EDNS Client Subnet option: `address` as text with its missing bits zero, `source` its prefix length.

    `echo` is what an answer gives back: FAMILY, SOURCE and ADDRESS as they came, SCOPE 0 (RFC 7871 §7.2.1).
    """

    address: str
    source: int
    echo: bytes


class Query(NamedTuple):
    """A query, as far as a refusal needs it. `rcode` is not 0 when the query itself is wrong.

    `question` are the wire octets of the question, empty when it is broken. `udp_size` is the client's, None without
    OPT. `subnet` is None without the option.
    """

    rcode: int
    id: int
    flags: int
    question: bytes = b""
    udp_size: int | None = None
    dnssec_ok: bool = False
    subnet: Subnet | None = None


class _BrokenError(Exception):
    """The octets are no DNS message. Never leaves this file."""


def read_query(packet: bytes) -> Query | None:
    """Return the query, or None for what deserves silence: less than a header, or itself an answer (QR=1)."""
    if len(packet) < HEADER.size:
        return None
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags & QR:
        return None
    if flags & OPCODE:
        return Query(NOTIMP, number, flags)
    if questions != 1:
        return Query(FORMERR, number, flags)
    try:
        end = _skip_question(packet, HEADER.size)
    except _BrokenError:
        return Query(FORMERR, number, flags)
    question = packet[HEADER.size : end]
    try:
        opt = _find_opt(packet, end, answers + authorities, additionals)
    except _BrokenError:
        return Query(FORMERR, number, flags, question)
    if opt is None:
        return Query(NOERROR, number, flags, question)
    rcode, subnet = _read_options(opt)
    return Query(rcode, number, flags, question, opt.udp_size, bool(opt.ttl & DNSSEC_OK), subnet)


def questions(packet: bytes) -> tuple[Question, ...] | None:
    """Return every question of a message, whatever its other sections hold; None when they cannot be read.

    All of them count: a host that looks only at the first lets the second through.
    """
    if len(packet) < HEADER.size:
        return None
    found: list[Question] = []
    offset = HEADER.size
    try:
        for _ in range(HEADER.unpack_from(packet)[2]):
            end = _skip_question(packet, offset)
            found.append(Question(_presentation(packet, offset), *_TWO.unpack_from(packet, end - _TWO.size)))
            offset = end
    except _BrokenError:
        return None
    return tuple(found)


def name_text(name: bytes) -> str | None:
    """Return the presentation text (see `Question`) of octets that are exactly one name, None when they are not."""
    if not 0 < len(name) <= _MAX_NAME:
        return None
    offset = 0
    labels: list[bytes] = []
    try:
        while length := name[offset]:
            if length > _MAX_LABEL:
                return None
            end = offset + 1 + length
            labels.append(name[offset + 1 : end])
            offset = end
    except IndexError:
        return None
    return _text_of(labels) if offset + 1 == len(name) else None


def client_subnet(packet: bytes) -> tuple[str, int] | None:
    """Return the address (missing bits zero) and SOURCE PREFIX-LENGTH of a query's EDNS Client Subnet option.

    None when the query has none or is wrong; then `dns_refusal.objection` holds the FORMERR that RFC 7871 §6 asks for.
    SOURCE 0 means that the client declines: whatever the address says, use the transport peer (§7.1.2).
    """
    query = read_query(packet)
    if query is None or query.subnet is None:
        return None
    return query.subnet.address, query.subnet.source


def option(code: int, data: bytes) -> bytes:
    """Return one EDNS option (RFC 6891 §6.1.2)."""
    return _TWO.pack(code, len(data)) + data


def opt_record(options: bytes, *, dnssec_ok: bool, rcode: int = NOERROR) -> bytes:
    """Return an OPT record of version 0 with our UDP size; it holds the upper eight bits of `rcode` (RFC 6891 §6.1.3)."""
    ttl = (rcode >> 4) << 24 | (DNSSEC_OK if dnssec_ok else 0)
    return b"\0" + RECORD.pack(OPT, UDP_SIZE, ttl, len(options)) + options


class _Opt(NamedTuple):
    udp_size: int
    ttl: int
    options: bytes


def _skip_question(packet: bytes, offset: int) -> int:
    """Return where the question ends. A compressed name is broken: there is nothing before it to point at."""
    start = offset
    try:
        while length := packet[offset]:
            if length > _MAX_LABEL:
                raise _BrokenError
            offset += length + 1
    except IndexError:
        raise _BrokenError from None
    offset += 1
    if offset - start > _MAX_NAME or offset + _TWO.size > len(packet):
        raise _BrokenError
    return offset + _TWO.size


def _presentation(packet: bytes, offset: int) -> str:
    labels: list[bytes] = []
    while length := packet[offset]:
        labels.append(packet[offset + 1 : offset + 1 + length])
        offset += length + 1
    return _text_of(labels)


def _text_of(labels: list[bytes]) -> str:
    name = b".".join(labels)
    if _ESCAPED.search(name) or name.count(b".") >= len(labels) > 0:
        name = b".".join([_ESCAPED_IN_LABEL.sub(_escape, label) for label in labels])
    return name.decode("ascii")


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\%03d" % match[0][0]


def _find_opt(packet: bytes, offset: int, others: int, additionals: int) -> _Opt | None:
    """Return the OPT record; broken when there are two, or one that is not additional or not the root's.

    RFC 6891 §6.1.1. Octets behind the last record are passed over.
    """
    found: _Opt | None = None
    for position in range(others + additionals):
        owner = offset
        try:
            offset = after_name(packet, owner) + RECORD.size
        except IndexError:
            raise _BrokenError from None
        if offset > len(packet):
            raise _BrokenError
        kind, udp_size, ttl, length = RECORD.unpack_from(packet, offset - RECORD.size)
        if offset + length > len(packet):
            raise _BrokenError
        if kind == OPT:
            if found is not None or position < others or packet[owner]:
                raise _BrokenError
            found = _Opt(udp_size, ttl, packet[offset : offset + length])
        offset += length
    return found


def after_name(packet: bytes, offset: int) -> int:
    """Return where a name ends: at the root, or behind a pointer, which is not followed. Raises IndexError where it is none."""
    while length := packet[offset]:
        if length >= _POINTER:
            return offset + 2
        if length > _MAX_LABEL:
            raise IndexError(offset)
        offset += length + 1
    return offset + 1


def _read_options(opt: _Opt) -> tuple[int, Subnet | None]:
    """Return the rcode that the OPT record deserves, and its client subnet."""
    if opt.ttl >> 16 & 0xFF:
        return BADVERS, None  # RFC 6891 §6.1.3
    try:
        subnets = [_read_subnet(data) for code, data in _each_option(opt.options) if code == CLIENT_SUBNET]
    except _BrokenError:
        return FORMERR, None
    if len(subnets) > 1:
        return FORMERR, None  # which of them is the client cannot be told
    return NOERROR, subnets[0] if subnets else None


def _each_option(options: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(options):
        begin = offset + _TWO.size
        if begin > len(options):
            raise _BrokenError
        code, length = _TWO.unpack_from(options, offset)
        offset = begin + length
        if offset > len(options):
            raise _BrokenError
        yield code, options[begin:offset]


def _read_subnet(data: bytes) -> Subnet:
    """Read the option's data. RFC 7871 §6: too few or too many octets, or bits set behind SOURCE, are an error."""
    if len(data) < _SUBNET.size:
        raise _BrokenError
    family, source, scope = _SUBNET.unpack_from(data)
    octets, kind = _ADDRESSES.get(family, (0, IPv4Address))
    address = data[_SUBNET.size :]
    # FAMILY 0 is nowhere defined, but dig sends it with SOURCE 0 for a client that declines.
    if scope or source > octets * 8 or len(address) != (source + 7) // 8 or (octets == 0 and family):
        raise _BrokenError
    if source % 8 and address[-1] & (0xFF >> source % 8):
        raise _BrokenError
    return Subnet(str(kind(address.ljust(octets or 4, b"\0"))), source, data)
