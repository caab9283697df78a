"""Measure `dns`: the query of a covered name is refused, whatever its type, and says why (RFC 8914 Censored).

Never an address that is not the name's, never AD, never a signature: a refusal is no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import pack
from typing import Final, NamedTuple

from cdnblock.matching.decision import Decision
from cdnblock.measures import dns_message as wire
from cdnblock.measures.dns_message import Question, client_subnet, questions
from cdnblock.measures.printable import printable
from cdnblock.orders.model import Measure

__all__ = ["Question", "Refusal", "answer", "client_subnet", "failure", "objection", "questions", "refusal"]

RCODES: Final[Mapping[str, int]] = {
    # Variant of the measure: its RCODE. Only the first is not cached as a negative (RFC 2308 §5).
    "refuse": wire.REFUSED,
    "nxdomain": wire.NXDOMAIN,
    "nodata": wire.NOERROR,
}

CENSORED: Final = 16
"""RFC 8914 §4.17: a requirement imposed by an entity other than the operator. 15, 17 and 18 mean other things."""

NO_REACHABLE_AUTHORITY: Final = 22
"""RFC 8914 §4.23: nobody who could know answered in time."""

NETWORK_ERROR: Final = 23
"""RFC 8914 §4.24: the network itself said that nobody is there."""

NEGATIVE_TTL: Final = 10
"""Seconds a negative answer may be kept: a lifting must show at once (draft-ietf-dnsop-structured-dns-error: 10 s)."""

MOST_EXTRA_TEXT: Final = 200
"""Octets of EXTRA-TEXT at most. RFC 8914 §2 wants it short; with it an answer fits into 512 octets almost always."""

SOA_RDATA: Final = (
    # MNAME, RNAME (names that can never exist, RFC 6761 §6.4), SERIAL, REFRESH, RETRY, EXPIRE, MINIMUM
    b"\7blocked\7invalid\0\6nobody\7invalid\0" + pack("!5I", 1, 3600, 600, 604_800, NEGATIVE_TTL)
)
"""RDATA of the SOA in AUTHORITY that makes an answer a negative one (RFC 2308 §3); its owner is the query name."""

_QUERY_NAME: Final = b"\xc0\x0c"  # RFC 1035 §4.1.4: a pointer to the question's name
_SOA_RECORD: Final = _QUERY_NAME + wire.RECORD.pack(wire.SOA, wire.IN, NEGATIVE_TTL, len(SOA_RDATA)) + SOA_RDATA


class Refusal(NamedTuple):
    """A refusal before it is a packet, for hosts that write their own.

    `ede` is the whole EDNS option (code, length, data) to put into the answer's OPT record, None when there must be no
    OPT. `soa` asks for an SOA record in AUTHORITY, owned by the query name, with `ttl` seconds and `SOA_RDATA`.
    """

    rcode: int
    ede: bytes | None
    soa: bool
    ttl: int


def answer(
    query: bytes, decision: Decision, *, contact: str | None = None, max_size: int | None = None
) -> bytes | None:
    """Return the refusal of a query, or None for what deserves silence. Never raises for any octets.

    A query that is itself wrong gets what `objection` says instead. `max_size` is what the transport carries; None is
    UDP: the size in the query's OPT, at least 512. What does not fit is left out, the extended error first, and TC is
    set (RFC 8914 §3). `contact` is the operator's, for EXTRA-TEXT; without it the first order's is taken.

    Raises ValueError when the decision does not ask for measure `dns`.
    """
    asked = wire.read_query(query)
    if asked is None:
        return None
    if asked.rcode:
        return _complaint(asked)
    refused = refusal(
        decision, has_opt=asked.udp_size is not None, client_subnet_present=asked.subnet is not None, contact=contact
    )
    limit = max(wire.SMALLEST_UDP, asked.udp_size or 0) if max_size is None else max_size
    return _refuse(asked, refused, limit)


def refusal(decision: Decision, *, has_opt: bool, client_subnet_present: bool, contact: str | None = None) -> Refusal:
    """Return what the refusal of a query with or without OPT and client subnet says.

    With a client subnet it is always REFUSED: negative answers are cached for every network (RFC 7871 §7.4), so any
    other would reach clients outside the territory.

    Raises ValueError when the decision does not ask for measure `dns`.
    """
    variant = decision.measures.get(Measure.DNS)
    if variant is None:
        raise ValueError("this decision does not ask for measure dns: there is nothing to refuse")
    rcode = wire.REFUSED if client_subnet_present else RCODES[variant]
    ede = _extended_error(_ids_and_contact(decision, contact)) if has_opt else None
    return Refusal(rcode, ede, rcode != wire.REFUSED, NEGATIVE_TTL)


def objection(query: bytes) -> bytes | None:
    """Return the answer to a query that no decision can be made about, or None when nothing is wrong with it.

    FORMERR, NOTIMP (not a standard query) or BADVERS (RFC 6891 §6.1.3); no octets at all (`b""`) when silence is due:
    less than a header, or an answer.
    """
    asked = wire.read_query(query)
    if asked is None:
        return b""
    return _complaint(asked) if asked.rcode else None


def failure(query: bytes, *, info_code: int | None = None) -> bytes | None:
    """Return the SERVFAIL for a query that nobody could decide or answer, or None for what deserves silence.

    `info_code` says why (RFC 8914), such as `NO_REACHABLE_AUTHORITY`; it is sent only to clients that speak EDNS.
    """
    asked = wire.read_query(query)
    if asked is None:
        return None
    if asked.rcode or info_code is None:
        return _complaint(asked._replace(rcode=asked.rcode or wire.SERVFAIL))
    error = wire.option(wire.EXTENDED_ERROR, pack("!H", info_code))
    return _message(asked, wire.SERVFAIL, asked.question, b"", _opt(asked, wire.SERVFAIL, error))


def not_implemented(query: bytes) -> bytes:
    """Return the NOTIMP for a sound query of a kind that is not carried, no octets for what deserves silence."""
    asked = wire.read_query(query)
    return b"" if asked is None else _complaint(asked._replace(rcode=asked.rcode or wire.NOTIMP))


def _ids_and_contact(decision: Decision, contact: str | None) -> tuple[str, ...]:
    reasons = decision.because(Measure.DNS)
    named = contact or next((reason.order.contact for reason in reasons if reason.order.contact), "")
    return (*[reason.order.id for reason in reasons], named or "")


@lru_cache(maxsize=1024)
def _extended_error(ids_and_contact: tuple[str, ...]) -> bytes:
    """Return the whole option; nothing in it tells anything about the client (RFC 8914 §6)."""
    *ids, contact = map(printable, ids_and_contact)
    text = f"order {', '.join(ids)}" + (f"; contact {contact}" if contact else "")
    # A cut inside a character leaves octets that are no UTF-8: they go too.
    extra = text.encode()[:MOST_EXTRA_TEXT].decode(errors="ignore").encode()
    return wire.option(wire.EXTENDED_ERROR, pack("!H", CENSORED) + extra)


def _refuse(asked: wire.Query, refused: Refusal, limit: int) -> bytes:
    """Return the whole answer, or what of it fits: without the error, then without AUTHORITY, OPT and question."""
    soa = _SOA_RECORD if refused.soa else b""
    opt = _opt(asked, refused.rcode, refused.ede or b"")
    whole = _message(asked, refused.rcode, asked.question, soa, opt)
    if len(whole) <= limit:
        return whole
    bare_opt = _opt(asked, refused.rcode, b"")
    smaller = ((asked.question, soa, bare_opt), (asked.question, b"", bare_opt), (asked.question, b"", b""))
    for parts in smaller:
        message = _message(asked, refused.rcode, *parts, truncated=wire.TC)
        if len(message) <= limit:
            return message
    return _message(asked, refused.rcode, truncated=wire.TC)


def _complaint(asked: wire.Query) -> bytes:
    return _message(asked, asked.rcode, asked.question, b"", _opt(asked, asked.rcode, b""))


def _opt(asked: wire.Query, rcode: int, options: bytes) -> bytes:
    if asked.udp_size is None:
        return b""
    if asked.subnet is not None:
        options = wire.option(wire.CLIENT_SUBNET, asked.subnet.echo) + options
    return wire.opt_record(options, dnssec_ok=asked.dnssec_ok, rcode=rcode)


def _message(
    asked: wire.Query, rcode: int, question: bytes = b"", soa: bytes = b"", opt: bytes = b"", *, truncated: int = 0
) -> bytes:
    flags = wire.QR | wire.RA | truncated | asked.flags & wire.ECHOED | rcode & 0xF
    return wire.HEADER.pack(asked.id, flags, bool(question), 0, bool(soa), bool(opt)) + question + soa + opt
