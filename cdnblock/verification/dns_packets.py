"""DNS messages as a client writes and reads them. Bytes in, values out: what cannot be read raises `UnreadableError`."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from cdnblock.measures import dns_message as wire
from cdnblock.measures.printable import printable

QTYPES: Final = {
    "A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "SVCB": 64, "HTTPS": 65, "ANY": 255,
}  # fmt: skip
RCODES: Final = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

_IN: Final = wire.IN
_AD: Final = 0x0020  # AD: RFC 4035 §3.2.3
_RCODE: Final = 0xF
_POINTER: Final = 0xC0
_MOST_LABELS: Final = 128  # of a name, pointers followed: a loop has more
_TIMES: Final = struct.Struct("!5I")  # SERIAL, REFRESH, RETRY, EXPIRE, MINIMUM (RFC 1035 §3.3.13)
_MOST_TEXT: Final = 200  # characters of EXTRA-TEXT that are kept


class UnreadableError(ValueError):
    """What came is no DNS message that answers the question; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query. `name` in the case in which it is asked; `subnet` is an EDNS Client Subnet, such as 192.0.2.0/24."""

    name: str
    qtype: int = 1
    has_opt: bool = True
    dnssec_ok: bool = False
    recursion: bool = True
    subnet: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer, as far as decisions go. `codes` are the INFO-CODEs of its extended errors, `text` theirs.

    `negative_ttl` is how long a negative answer may be kept, None without an SOA (RFC 2308 §5); `soa_owner` is whose
    that is, in lower case, or whose a policy zone's is, which some servers put into ADDITIONAL.
    """

    rcode: int
    answers: int = 0
    codes: tuple[int, ...] = ()
    text: str = ""
    negative_ttl: int | None = None
    soa_owner: str | None = None
    authenticated: bool = False
    truncated: bool = False
    has_opt: bool = False


def write_query(question: Question, number: int) -> bytes:
    """Return the packet of a query. Raises ValueError for what is no name that DNS can carry."""
    labels = [label.encode("ascii") for label in question.name.removesuffix(".").split(".")]
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    options = b"" if question.subnet is None else _subnet(question.subnet)
    opt = wire.opt_record(options, dnssec_ok=question.dnssec_ok) if question.has_opt else b""
    flags = wire.RD if question.recursion else 0
    header = wire.HEADER.pack(number, flags, 1, 0, 0, bool(opt))
    return header + name + struct.pack("!HH", question.qtype, _IN) + opt


def read_answer(packet: bytes) -> Reading:
    """Return what an answer says; whose it is has been looked at (`dns_relay.is_answer_to`).

    Raises:
        UnreadableError: the octets are no whole message.

    """
    try:
        return _read(packet)
    except (IndexError, struct.error):
        raise UnreadableError(f"a broken DNS message of {len(packet)} octets") from None


def name_at(packet: bytes, offset: int) -> tuple[str, int]:
    """Return the name at an offset, in lower case and without a dot at its end, and where it ends.

    Raises:
        UnreadableError: it has no end.

    """
    labels: list[str] = []
    end = 0
    for _ in range(_MOST_LABELS):
        length = packet[offset]
        if length >= _POINTER:
            end = end or offset + 2
            offset = (length & ~_POINTER & 0xFF) << 8 | packet[offset + 1]
        elif length == 0:
            return ".".join(labels).lower(), end or offset + 1
        else:
            labels.append(packet[offset + 1 : offset + 1 + length].decode("latin-1"))
            offset += length + 1
    raise UnreadableError("a name without an end")


def _read(packet: bytes) -> Reading:
    _, flags, questions, answers, authorities, additionals = wire.HEADER.unpack_from(packet)
    offset = wire.HEADER.size
    for _ in range(questions):
        offset = name_at(packet, offset)[1] + 4
    rcode, negative_ttl, soa_owner, opt = flags & _RCODE, None, None, None
    for place in range(answers + authorities + additionals):
        owner, offset = name_at(packet, offset)
        kind, _, ttl, length = wire.RECORD.unpack_from(packet, offset)
        data, offset = offset + wire.RECORD.size, offset + wire.RECORD.size + length
        if offset > len(packet):
            raise IndexError
        if kind == wire.SOA and place >= answers:
            soa_owner = owner
            negative_ttl = min(ttl, _minimum(packet, data)) if place < answers + authorities else negative_ttl
        elif kind == wire.OPT and place >= answers + authorities:
            opt = packet[data:offset]
            rcode |= ttl >> 24 << 4
    codes, text = _extended_errors(opt or b"")
    return Reading(
        rcode=rcode,
        answers=answers,
        codes=codes,
        text=text,
        negative_ttl=negative_ttl,
        soa_owner=soa_owner,
        authenticated=bool(flags & _AD),
        truncated=bool(flags & wire.TC),
        has_opt=opt is not None,
    )


def _minimum(packet: bytes, offset: int) -> int:
    for _ in range(2):  # MNAME and RNAME
        offset = name_at(packet, offset)[1]
    minimum: int = _TIMES.unpack_from(packet, offset)[-1]
    return minimum


def _extended_errors(options: bytes) -> tuple[tuple[int, ...], str]:
    """Return the INFO-CODEs and texts of all extended errors (RFC 8914 §2); an option cut short is none."""
    codes: list[int] = []
    texts: list[str] = []
    offset = 0
    while offset + 4 <= len(options):
        code, length = struct.unpack_from("!HH", options, offset)
        data = options[offset + 4 : offset + 4 + length]
        offset += 4 + length
        if code == wire.EXTENDED_ERROR and length >= 2 and len(data) == length:  # noqa: PLR2004 (an INFO-CODE's octets)
            codes.append(int.from_bytes(data[:2], "big"))
            texts.append(data[2:].decode("utf-8", "replace"))
    return tuple(codes), printable(" ".join(texts))[:_MOST_TEXT]


def _subnet(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    octets = network.network_address.packed[: (network.prefixlen + 7) // 8]
    family = 1 if network.version == 4 else 2  # noqa: PLR2004 (RFC 7871 §6: address family numbers)
    return wire.option(wire.CLIENT_SUBNET, struct.pack("!HBB", family, network.prefixlen, 0) + octets)
