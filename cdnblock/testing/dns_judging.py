"""Judges one answer of a resolver: each complaint is a sentence. Needs dnspython."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from cdnblock.measures.dns_refusal import CENSORED, NEGATIVE_TTL, RCODES
from cdnblock.testing import dns_upstream
from cdnblock.testing.dns_scenarios import DnsNeed
from cdnblock.testing.dns_wire import Query, errors_of, records_of

_MAY_STAND_BESIDE: Final = (dns.rdatatype.SOA,)


def wrong_with(
    variant: str | None, query: Query, answer: dns.message.Message, cannot: Collection[DnsNeed], text: str | None = None
) -> Iterator[str]:
    """Yield what is wrong with an answer, where `variant` was due, or upstream's own answer where it is None."""
    yield from _wrong_header(query, answer)
    if variant is None:
        yield from _wrong_answer(query, answer)
    else:
        yield from _wrong_refusal(variant, query, answer, cannot, text)


def _wrong_header(query: Query, answer: dns.message.Message) -> Iterator[str]:
    if bool(answer.flags & dns.flags.RD) != query.recursion:
        yield "RD is not echoed"
    if not answer.flags & dns.flags.RA:
        yield "RA is not set"
    if answer.flags & dns.flags.AD:
        yield "AD is set"
    if answer.flags & dns.flags.TC:
        yield "TC is set"
    if (answer.edns >= 0) != query.edns:
        yield f"OPT is {'there' if answer.edns >= 0 else 'missing'}"


def _wrong_refusal(
    variant: str, query: Query, answer: dns.message.Message, cannot: Collection[DnsNeed], text: str | None
) -> Iterator[str]:
    if answer.rcode() != RCODES[variant]:
        yield f"{dns.rcode.to_text(answer.rcode())} {records_of(answer.answer)}, not {variant}"
        return
    if answer.answer:
        yield f"a refusal with data: {records_of(answer.answer)}"
    for rrset in (*answer.authority, *answer.additional):
        if rrset.rdtype not in _MAY_STAND_BESIDE:
            yield f"a refusal with {rrset}"
        elif rrset.ttl > NEGATIVE_TTL or rrset[0].minimum > NEGATIVE_TTL:
            yield f"a refusal that may be kept for {rrset.ttl} s: {rrset}"
    soas = [rrset for rrset in answer.authority if rrset.rdtype == dns.rdatatype.SOA]
    if variant == "refuse" and soas:
        yield "an SOA beside REFUSED"
    if variant != "refuse" and not soas and DnsNeed.SOA not in cannot:
        yield "a negative answer without an SOA"
    yield from _wrong_error(query, errors_of(answer), cannot, text)


def _wrong_error(
    query: Query, errors: list[tuple[int, str]], cannot: Collection[DnsNeed], text: str | None
) -> Iterator[str]:
    """Yield what is wrong with the extended errors; where a resolver has none of its own, there must be none."""
    wanted = [CENSORED] if query.edns and DnsNeed.EDE not in cannot else []
    if [code for code, _ in errors] != wanted:
        yield f"extended errors {errors}, not {wanted}"
    elif text is not None and DnsNeed.EXTRA_TEXT not in cannot and errors[0][1] != text:
        yield f"the extended error says {errors[0][1]!r}, not {text!r}"


def _wrong_answer(query: Query, answer: dns.message.Message) -> Iterator[str]:
    due = dns_upstream.answer_to(query.message())
    if (answer.rcode(), records_of(answer.answer)) != (due.rcode(), records_of(due.answer)):
        yield (
            f"{dns.rcode.to_text(answer.rcode())} {records_of(answer.answer)},"
            f" not {dns.rcode.to_text(due.rcode())} {records_of(due.answer)}"
        )
    if errors_of(answer):
        yield f"an extended error where nothing is refused: {errors_of(answer)}"


def differences(mine: dns.message.Message, plain: dns.message.Message) -> Iterator[str]:
    """Yield how two answers differ, but for their ids and for how long they have been kept."""
    for what, one, other in (
        ("flags", dns.flags.to_text(mine.flags), dns.flags.to_text(plain.flags)),
        ("rcode", mine.rcode(), plain.rcode()),
        ("ANSWER", records_of(mine.answer), records_of(plain.answer)),
        ("AUTHORITY", records_of(mine.authority), records_of(plain.authority)),
        ("ADDITIONAL", records_of(mine.additional), records_of(plain.additional)),
        ("EDNS", (mine.edns, mine.payload, mine.ednsflags), (plain.edns, plain.payload, plain.ednsflags)),
        ("options", [*map(str, mine.options)], [*map(str, plain.options)]),
    ):
        if one != other:
            yield f"{what}: {one}, and without our configuration {other}"
