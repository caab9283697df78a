"""DNS messages as the verifying client writes and reads them, beside what dnspython makes of them."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.verification.dns_packets import Question, Reading, UnreadableError, name_at, read_answer, write_query


@pytest.mark.parametrize(
    ("question", "flags", "options"),
    [
        (Question(name="www.Example.org"), "RD", 0),
        (Question(name="example.org.", qtype=65, recursion=False), "", 0),
        (Question(name="example.org", dnssec_ok=True), "RD", 0),
        (Question(name="example.org", has_opt=False), "RD", -1),
        (Question(name="example.org", subnet="192.0.2.0/24"), "RD", 1),
        (Question(name="example.org", subnet="2001:db8::/56"), "RD", 1),
    ],
)
def test_a_query_is_what_it_says(question, flags, options):
    """dnspython reads the same name in the same case, flags, DO and client subnet."""
    message = dns.message.from_wire(write_query(question, 7))
    assert message.id == 7
    assert message.question[0].name.to_text() == question.name.removesuffix(".") + "."
    assert message.question[0].rdtype == question.qtype
    assert dns.flags.to_text(message.flags) == flags
    assert message.edns == (-1 if options < 0 else 0)
    assert bool(message.ednsflags & dns.flags.DO) == question.dnssec_ok
    assert len(message.options) == max(0, options)
    if question.subnet:
        assert message.options[0].to_text() == f"ECS {question.subnet} scope/0"


def answered(rcode=0, *, answers=(), authority=(), options=(), flags=0):
    query = dns.message.make_query("www.example.org", "A", use_edns=0)
    message = dns.message.make_response(query)
    message.flags |= flags
    message.answer += [dns.rrset.from_text(*answer) for answer in answers]
    message.authority += [dns.rrset.from_text(*record) for record in authority]
    message.use_edns(0, options=list(options))
    message.set_rcode(rcode)
    return message.to_wire()


SOA = ("Example.ORG.", 600, "IN", "SOA", "ns.example.org. who.example.org. 1 2 3 4 60")


@pytest.mark.parametrize(
    ("packet", "reading"),
    [
        (answered(), Reading(rcode=0, has_opt=True)),
        (
            answered(answers=[("www.example.org.", 60, "IN", "A", "192.0.2.1"), ("www.example.org.", 60, "IN", "MX", "1 a.")]),
            Reading(rcode=0, answers=2, has_opt=True),
        ),
        (answered(3, authority=[SOA]), Reading(rcode=3, negative_ttl=60, soa_owner="example.org", has_opt=True)),
        (
            answered(5, options=[dns.edns.EDEOption(16, "order x\x1b[2J"), dns.edns.EDEOption(4)]),
            Reading(rcode=5, codes=(16, 4), text="order x[2J", has_opt=True),
        ),
        (answered(dns.rcode.BADVERS), Reading(rcode=16, has_opt=True)),
        (answered(0, flags=dns.flags.AD | dns.flags.TC), Reading(rcode=0, authenticated=True, truncated=True, has_opt=True)),
    ],
    ids=["empty", "two records", "no such name", "refused with two reasons", "extended rcode", "flags"],
)  # fmt: skip
def test_an_answer_is_read(packet, reading):
    """Code, records, reasons, how long it may be kept and by whom, and flags; names compressed or not."""
    assert read_answer(packet) == reading


def test_a_name_that_points_at_itself_has_no_end():
    """A loop of pointers is told, and does not hang."""
    with pytest.raises(UnreadableError, match="without an end"):
        name_at(b"\xc0\x00", 0)


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_whatever_comes_is_read_or_unreadable(octets):
    """No octets raise anything else; a whole answer with some of them broken neither."""
    for packet in (octets, answered(3, authority=[SOA])[: len(octets)] + octets):
        try:
            read_answer(packet)
        except UnreadableError:
            continue
