"""Measure dns: refusals on the wire, judged by dnspython."""

from __future__ import annotations

import random
from ipaddress import ip_address
from struct import pack
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.matching.decision import Decision
from cdnblock.measures.dns_refusal import (
    SOA_RDATA,
    Question,
    answer,
    client_subnet,
    failure,
    objection,
    questions,
    refusal,
)
from cdnblock.orders.model import Measure

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdatatype

CENSORED = dns.edns.EDECode.CENSORED
TYPES = ["A", "AAAA", "HTTPS", "SVCB", "MX", "TXT", "ANY", "CNAME", "NS", "SOA", "DS", "CAA", "TYPE65280"]


@pytest.fixture(scope="module")
def refused(decision, reason):
    """Return the decision that refuses by one variant."""

    def build(variant="refuse", **changes):
        return decision(reason(measures={Measure.DNS: variant}, **changes))

    return build


@pytest.fixture(scope="module")
def fuzzed(refused):
    """Return the decision of all fuzzing: the one with most to write."""
    return refused("nxdomain")


def ask(name="www.stream.example", kind="A", **options):
    return dns.message.make_query(name, kind, **options)


def parsed(wire):
    return dns.message.from_wire(wire)


def extended_errors(message):
    return [option for option in message.options if option.otype == dns.edns.OptionType.EDE]


def subnets(message):
    return [option for option in message.options if option.otype == dns.edns.OptionType.ECS]


def packet(*, number=7, flags=0x0100, question=b"\1a\7example\0\0\1\0\1", counts=(1, 0, 0, 0), rest=b""):
    return pack("!HHHHHH", number, flags, *counts) + question + rest


def opt(options=b"", *, size=1232, ttl=0, owner=b"\0"):
    return owner + pack("!HHIH", 41, size, ttl, len(options)) + options


def with_opt(options=b"", **fields):
    return packet(counts=(1, 0, 0, 1), rest=opt(options, **fields))


def ecs(family=1, source=24, scope=0, address=b"\xcb\x00\x71"):
    data = pack("!HBB", family, source, scope) + address
    return pack("!HH", 8, len(data)) + data


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("variant", "rcode", "authority"),
    [("refuse", dns.rcode.REFUSED, 0), ("nxdomain", dns.rcode.NXDOMAIN, 1), ("nodata", dns.rcode.NOERROR, 1)],
)
def test_every_type_is_refused_by_the_variants_rcode(refused, kind, variant, rcode, authority):
    """An answered HTTPS record would leak addresses as well as an A record."""
    query = ask(kind=kind)
    message = parsed(answer(query.to_wire(), refused(variant)))
    assert message.rcode() == rcode
    assert query.is_response(message)
    assert (len(message.answer), len(message.authority), len(message.additional)) == (0, authority, 0)


@pytest.mark.parametrize("variant", ["nxdomain", "nodata"])
def test_a_negative_answer_has_a_short_lived_soa(refused, variant):
    """RFC 2308 §5: the smaller of the record's TTL and MINIMUM counts; both are ten seconds."""
    [record] = parsed(answer(ask().to_wire(), refused(variant))).authority
    assert (record.rdtype, record.ttl, record[0].minimum) == (dns.rdatatype.SOA, 10, 10)
    assert record.name == dns.name.from_text("www.stream.example")
    assert record[0].mname.to_text() == "blocked.invalid."


@pytest.mark.parametrize("variant", ["refuse", "nxdomain", "nodata"])
def test_the_extended_error_is_censored_and_names_order_and_contact(refused, variant):
    """RFC 8914 §4.17: an external requirement; 15, 17 and 18 say something else."""
    message = parsed(answer(ask(use_edns=0).to_wire(), refused(variant)))
    [error] = extended_errors(message)
    assert error.code == CENSORED == 16
    assert error.text == "order tjp-2025-03-28-motogp; contact legal@edge.example"
    assert (message.edns, message.payload, message.ednsflags) == (0, 1232, 0)


def test_the_operators_contact_comes_before_the_orders(refused):
    """Who runs the resolver answers for it; without any contact there is none."""
    wire = ask(use_edns=0).to_wire()
    [error] = extended_errors(parsed(answer(wire, refused(), contact="dns@edge.example")))
    assert error.text == "order tjp-2025-03-28-motogp; contact dns@edge.example"
    [error] = extended_errors(parsed(answer(wire, refused(contact=None))))
    assert error.text == "order tjp-2025-03-28-motogp"


def test_every_order_that_asks_for_it_is_named(decision, reason):
    """The strictest variant is what is done, and its order comes first."""
    told = decision(
        reason(id="first", measures={Measure.DNS: "nodata"}, contact=None),
        reason(id="second", measures={Measure.DNS: "nxdomain"}, contact=None),
        reason(id="third", measures={Measure.PROXY: "terminate"}, contact=None),
    )
    message = parsed(answer(ask(use_edns=0).to_wire(), told))
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert extended_errors(message)[0].text == "order second, first"


@pytest.mark.parametrize("variant", ["refuse", "nxdomain", "nodata"])
def test_without_opt_in_the_query_there_is_none_in_the_answer(refused, variant):
    """RFC 6891 §7: a client that does not speak EDNS gets none."""
    assert parsed(answer(ask().to_wire(), refused(variant))).edns == -1


@pytest.mark.parametrize("contact", ["é" * 300, "a" + "é" * 300, "\U0001f3db" * 100, "ab" + "\U0001f3db" * 100])
def test_long_text_is_cut_between_characters(refused, contact):
    """UTF-8 stays UTF-8, and short."""
    [error] = extended_errors(parsed(answer(ask(use_edns=0).to_wire(), refused(), contact=contact)))
    data = error.text.encode()
    assert 196 < len(data) <= 200
    assert "order tjp-2025-03-28-motogp; contact " + contact != error.text
    assert ("order tjp-2025-03-28-motogp; contact " + contact).startswith(error.text)


def test_text_has_no_character_that_drives_a_terminal(refused):
    """dig prints it."""
    [error] = extended_errors(
        parsed(answer(ask(use_edns=0).to_wire(), refused(), contact="a\x1b[31m\r\nb\ud800\u202e"))
    )
    assert error.text == "order tjp-2025-03-28-motogp; contact a[31m b"


@pytest.mark.parametrize("flags", range(0, 0x800, 0x10))
def test_rd_and_cd_are_echoed_ra_is_set_ad_and_aa_never(refused, flags):
    """For every combination of the seven flag bits a client can set."""
    message = parsed(answer(packet(flags=flags), refused()))
    expected = dns.flags.QR | dns.flags.RA | flags & (dns.flags.RD | dns.flags.CD)
    assert message.flags & ~0xF == expected


@pytest.mark.parametrize("name", ["WwW.StReAm.ExAmPlE", "www.stream.example", "a.b.c.d.e.stream.example"])
def test_the_question_comes_back_octet_by_octet(refused, name):
    """Resolvers that mix case (draft-vixie-dnsext-dns0x20) drop an answer in another case."""
    query = ask(name, "AAAA").to_wire()
    assert answer(query, refused())[12:] == query[12:]


@pytest.mark.parametrize("dnssec", [True, False])
def test_the_do_bit_is_echoed(refused, dnssec):
    """RFC 3225 §3; and there are no signatures to send."""
    message = parsed(answer(ask(use_edns=0, want_dnssec=dnssec).to_wire(), refused()))
    assert bool(message.ednsflags & dns.flags.DO) is dnssec


@pytest.mark.parametrize("variant", ["refuse", "nxdomain", "nodata"])
@pytest.mark.parametrize(
    ("address", "source"), [("203.0.113.0", 24), ("203.0.112.0", 23), ("0.0.0.0", 0), ("2001:db8::", 56), ("::", 0)]
)
def test_with_a_client_subnet_it_is_always_refused_and_echoed(refused, variant, address, source):
    """RFC 7871 §7.4: a negative answer would be cached for every network, also outside the territory."""
    query = ask(use_edns=0, options=[dns.edns.ECSOption(address, source)])
    message = parsed(answer(query.to_wire(), refused(variant)))
    assert message.rcode() == dns.rcode.REFUSED
    assert not message.authority
    [echo] = subnets(message)
    assert (echo.address, echo.srclen, echo.scopelen) == (address, source, 0)
    assert len(extended_errors(message)) == 1


def test_without_a_client_subnet_none_is_sent(refused):
    """RFC 7871 §7.2.1: only if the query had it; a cookie is not echoed either."""
    query = ask(use_edns=0, options=[dns.edns.GenericOption(10, b"12345678")])
    assert [option.otype for option in parsed(answer(query.to_wire(), refused())).options] == [dns.edns.OptionType.EDE]


LONG = ".".join(["a" * 63] * 3 + ["b" * 40, "stream", "example"])


@pytest.mark.parametrize(
    ("max_size", "truncated", "errors", "authority"),
    [
        (65535, False, 1, 1),
        (512, True, 0, 1),
        (400, True, 0, 1),
        (330, True, 0, 0),
    ],
)
def test_what_does_not_fit_is_left_out_the_extended_error_first(refused, max_size, truncated, errors, authority):
    """RFC 8914 §3: drop the error before other data, and set TC."""
    wire = answer(ask(LONG, use_edns=0).to_wire(), refused("nxdomain"), contact="c" * 300, max_size=max_size)
    message = parsed(wire)
    assert len(wire) <= max_size
    assert bool(message.flags & dns.flags.TC) is truncated
    assert (len(extended_errors(message)), len(message.authority)) == (errors, authority)
    assert message.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("max_size", [0, 12, 100, 270, 300])
def test_however_small_the_room_an_answer_parses(refused, max_size):
    """Twelve octets of header are the least; TC sends the client to TCP."""
    wire = answer(ask(LONG, use_edns=0).to_wire(), refused("nxdomain"), max_size=max_size)
    message = parsed(wire)
    assert len(wire) <= max(12, max_size)
    assert message.flags & dns.flags.TC
    assert message.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(("size", "errors"), [(0, 0), (100, 0), (512, 0), (600, 1), (1232, 1), (65535, 1)])
def test_over_udp_the_clients_own_size_counts_but_never_under_512(refused, size, errors):
    """RFC 6891 §6.2.3: values below 512 are read as 512."""
    query = packet(question=dns.name.from_text(LONG).to_wire() + b"\0\1\0\1", counts=(1, 0, 0, 1), rest=opt(size=size))
    wire = answer(query, refused("nxdomain"), contact="c" * 300)
    assert len(wire) <= max(512, size)
    assert len(extended_errors(parsed(wire))) == errors
    assert len(parsed(wire).authority) == 1


@pytest.mark.parametrize("name", ["x.example", LONG])
def test_without_opt_a_refusal_fits_512(refused, name):
    """RFC 1035 §2.3.4, for the longest name as well."""
    for variant in ("refuse", "nxdomain", "nodata"):
        wire = answer(ask(name).to_wire(), refused(variant))
        assert len(wire) <= 512
        assert not parsed(wire).flags & dns.flags.TC


@pytest.mark.parametrize(
    "query",
    [b"", b"\0", packet()[:11], packet(flags=0x8000), packet(flags=0x8180), packet(flags=0xA800), b"\xff" * 12],
    ids=["nothing", "one octet", "11 octets", "an answer", "a usual answer", "an update's answer", "all ones"],
)
def test_silence_for_what_is_no_query(refused, query):
    """Answering answers makes loops; less than a header cannot be answered."""
    assert answer(query, refused()) is None
    assert failure(query) is None
    assert objection(query) == b""
    assert client_subnet(query) is None


FORMERR = [
    ("no question", packet(question=b"", counts=(0, 0, 0, 0))),
    ("two questions", packet(question=b"\1a\0\0\1\0\1\1b\0\0\1\0\1", counts=(2, 0, 0, 0))),
    ("65535 questions", packet(counts=(65535, 0, 0, 0))),
    ("header only", packet(question=b"")),
    ("no end of name", packet(question=b"\1a")),
    ("label beyond the end", packet(question=b"\x3fa\0\0\1\0\1")),
    ("no class", packet(question=b"\1a\0\0\1")),
    ("pointer to itself", packet(question=b"\xc0\x0c\0\1\0\1")),
    ("pointer behind a label", packet(question=b"\1a\xc0\x0c\0\1\0\1")),
    ("label type 01", packet(question=b"\x41a\0\0\1\0\1")),
    ("label type 10", packet(question=b"\x81a\0\0\1\0\1")),
    ("name of 256 octets", packet(question=(b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"b" * 62 + b"\0\0\1\0\1")),
    ("two OPT", packet(counts=(1, 0, 0, 2), rest=opt() + opt())),
    ("OPT in ANSWER", packet(counts=(1, 1, 0, 0), rest=opt())),
    ("OPT in AUTHORITY", packet(counts=(1, 0, 1, 0), rest=opt())),
    ("OPT not of the root", with_opt(owner=b"\1a\0")),
    ("missing record", packet(counts=(1, 0, 0, 1))),
    ("record cut", packet(counts=(1, 0, 0, 1), rest=opt()[:-1])),
    ("RDATA cut", packet(counts=(1, 0, 0, 1), rest=opt(b"\0\x0a\0\2ab")[:-1])),
    ("owner cut", packet(counts=(1, 0, 0, 1), rest=b"\xc0")),
    ("owner with label type 01", packet(counts=(1, 0, 0, 1), rest=b"\x41" + b"\0" * 80)),
    ("option cut", with_opt(b"\0\x0a\0\3ab")),
    ("option header cut", with_opt(b"\0\x0a\0")),
    ("two client subnets", with_opt(ecs() + ecs(source=16, address=b"\xcb\x00"))),
    ("subnet without data", with_opt(b"\0\x08\0\0")),
    ("subnet too short", with_opt(b"\0\x08\0\3\0\1\0")),
    ("subnet with too few octets", with_opt(ecs(address=b"\xcb\x00"))),
    ("subnet with too many octets", with_opt(ecs(address=b"\xcb\x00\x71\x00"))),
    ("subnet with bits behind SOURCE", with_opt(ecs(source=23))),
    ("subnet longer than an address", with_opt(ecs(source=33, address=b"\xcb\x00\x71\x00\x00"))),
    ("subnet with SCOPE in a query", with_opt(ecs(scope=24))),
    ("subnet of an unknown family", with_opt(ecs(family=3))),
    ("subnet of an unknown family, SOURCE 0", with_opt(ecs(family=3, source=0, address=b""))),
    ("subnet of no family with an address", with_opt(ecs(family=0))),
]


@pytest.mark.parametrize("query", [row[1] for row in FORMERR], ids=[row[0] for row in FORMERR])
def test_formerr_for_a_broken_query(refused, query):
    """Its id comes back, nothing is refused or let through by guesswork, and a decision is not even looked at."""
    for wire in (answer(query, refused("nxdomain")), objection(query), failure(query)):
        message = parsed(wire)
        assert message.id == 7
        assert message.rcode() == dns.rcode.FORMERR
        assert message.flags & dns.flags.QR
        assert not message.answer
        assert not message.authority
        assert not message.options
    assert client_subnet(query) is None


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_what_is_no_standard_query_is_not_implemented(refused, opcode):
    """RFC 1035 §4.1.1: the opcode is echoed; an UPDATE has other sections, so none is read."""
    query = packet(flags=opcode << 11)
    for wire in (answer(query, refused()), objection(query), failure(query)):
        message = parsed(wire)
        assert (message.rcode(), message.opcode(), message.id) == (dns.rcode.NOTIMP, opcode, 7)
        assert len(wire) == 12


@pytest.mark.parametrize("version", [1, 2, 255])
def test_another_version_of_edns_is_answered_badvers(refused, version):
    """RFC 6891 §6.1.3: with an OPT of the version that we speak."""
    query = with_opt(ttl=version << 16 | 0x8000)
    for wire in (answer(query, refused("nodata")), objection(query), failure(query)):
        message = parsed(wire)
        assert (message.rcode(), message.edns, message.ednsflags & 0xFFFF) == (dns.rcode.BADVERS, 0, 0x8000)
        assert message.question[0].name == dns.name.from_text("a.example")
        assert not message.authority


@pytest.mark.parametrize(
    "query",
    [
        packet(),
        with_opt(),
        with_opt(ecs()),
        packet(rest=b"trailing octets"),
        packet(question=(b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0\0\1\0\1"),
        packet(counts=(1, 0, 0, 2), rest=b"\xc0\x0c" + pack("!HHIH", 1, 1, 0, 4) + b"abcd" + opt()),
    ],
    ids=["plain", "with OPT", "with subnet", "with octets behind the end", "name of 255 octets", "with another record"],
)
def test_no_objection_to_a_sound_query(refused, query):
    """Then a decision is due, and without one a SERVFAIL."""
    assert objection(query) is None
    assert parsed(answer(query, refused())).rcode() == dns.rcode.REFUSED
    message = parsed(failure(query))
    assert (message.rcode(), message.id) == (dns.rcode.SERVFAIL, 7)
    assert message.question == parsed(answer(query, refused())).question
    assert not extended_errors(message)


@pytest.mark.parametrize(
    ("options", "subnet"),
    [
        (ecs(), ("203.0.113.0", 24)),
        (ecs(source=32, address=b"\xcb\x00\x71\x09"), ("203.0.113.9", 32)),
        (ecs(source=0, address=b""), ("0.0.0.0", 0)),
        (ecs(family=0, source=0, address=b""), ("0.0.0.0", 0)),  # dig +subnet=0
        (ecs(family=2, source=56, address=b"\x20\x01\x0d\xb8\0\0\1"), ("2001:db8:0:100::", 56)),
        (ecs(family=2, source=33, address=b"\x20\x01\x0d\xb8\x80"), ("2001:db8:8000::", 33)),
        (pack("!HH2s", 10, 2, b"ab") + ecs(), ("203.0.113.0", 24)),
        (b"", None),
    ],
)
def test_the_client_subnet_is_read(options, subnet):
    """Missing bits are zero; SOURCE 0 is the client that declines."""
    assert client_subnet(with_opt(options)) == subnet
    assert client_subnet(packet()) is None


@pytest.mark.parametrize(
    ("wire_name", "name"),
    [
        (b"\3WwW\7example\0", "WwW.example"),
        (b"\0", ""),
        (b"\x0bwww.blocked\7example\0", "www\\046blocked.example"),
        (b"\4a\\bc\0", "a\\092bc"),
        (b"\3a b\0", "a\\032b"),
        (b"\4\x00\x7f\x80\xff\0", "\\000\\127\\128\\255"),
        (b"\7b\xc3\xbccher\0", "b\\195\\188cher"),
        (b'\6@"$;()\0', '@"$;()'),
        (b"\1.\0", "\\046"),
        (b"\4_dns\1a\0", "_dns.a"),
    ],
)
def test_a_names_text_is_never_mistaken_for_another(wire_name, name):
    """A dot inside a label is not a dot between labels: no label can pose as two, nor two as one."""
    assert questions(packet(question=wire_name + b"\0\x41\0\1")) == (Question(name, 65, 1),)


def test_all_questions_are_told():
    """A host that forwards such packets must look at each; an answer to them is FORMERR."""
    two = packet(question=b"\1a\0\0\1\0\1\1B\0\0\x1c\0\3", counts=(2, 0, 0, 0))
    assert questions(two) == (Question("a", 1, 1), Question("B", 28, 3))
    assert questions(packet(question=b"", counts=(0, 0, 0, 0))) == ()
    assert questions(two[:-1]) is None
    assert questions(packet(question=b"\xc0\x0c\0\1\0\1")) is None
    assert questions(b"short") is None


@pytest.mark.parametrize("subnet", [True, False])
@pytest.mark.parametrize("has_opt", [True, False])
@pytest.mark.parametrize(("variant", "rcode"), [("refuse", 5), ("nxdomain", 3), ("nodata", 0)])
def test_the_refusal_as_values_says_the_same_as_the_packet(refused, variant, rcode, has_opt, subnet):
    """For hosts that write their own packets."""
    told = refusal(refused(variant), has_opt=has_opt, client_subnet_present=subnet)
    assert told.rcode == (5 if subnet else rcode)
    assert told.soa is (told.rcode != 5)
    assert told.ttl == 10
    text = b"order tjp-2025-03-28-motogp; contact legal@edge.example"
    assert told.ede == (pack("!HHH", 15, 2 + len(text), 16) + text if has_opt else None)


def test_the_soa_data_stand_alone():
    """Uncompressed, so that any host can copy them behind a record's head."""
    record = dns.rdata.from_wire(1, dns.rdatatype.SOA, SOA_RDATA, 0, len(SOA_RDATA))
    assert record.to_text() == "blocked.invalid. nobody.invalid. 1 3600 600 604800 10"


def test_a_decision_that_refuses_nothing_is_a_callers_mistake(decision, reason):
    """An answer that blames an order which does not ask for it would be false."""
    for other in (Decision(measures={}), decision(reason(measures={Measure.CDN: "disable"}))):
        with pytest.raises(ValueError, match="measure dns"):
            answer(packet(), other)


def check_any(query, told):
    """Whatever the octets: no exception, silence or an answer that parses and gives nothing away."""
    wire = answer(query, told)
    named = questions(query)
    subnet = client_subnet(query)
    assert (wire is None) == (objection(query) == b"") == (failure(query) is None)
    if subnet is not None:
        assert ip_address(subnet[0]).max_prefixlen >= subnet[1]
    if wire is None:
        return None
    message = parsed(wire)
    assert message.id == int.from_bytes(query[:2], "big")
    assert message.flags & dns.flags.QR
    assert not message.flags & (dns.flags.AD | dns.flags.AA)
    assert not message.answer
    if objection(query) is None:
        assert message.rcode() in {dns.rcode.REFUSED, dns.rcode.NXDOMAIN}
        assert len(named) == 1
        assert wire[12 : 12 + len(message.question[0].name.to_wire())] == message.question[0].name.to_wire()
        assert len(message.options) == 0 or len(extended_errors(message)) == 1
    else:
        assert message.rcode() in {dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS}
        assert not extended_errors(message)
    return message


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=80), header=st.booleans())
def test_no_octets_raise(fuzzed, data, header):
    """Anything, and anything behind the header of a query with one question."""
    check_any(packet(question=data) if header else data, fuzzed)


@settings(max_examples=500, deadline=None)
@given(
    labels=st.lists(st.binary(min_size=1, max_size=63), max_size=6),
    # The subnet of no family, which dig sends for `+subnet=0`, is nothing that dnspython reads.
    options=st.lists(
        st.tuples(st.sampled_from([3, 8, 10, 12, 15]), st.binary(max_size=24)).filter(
            lambda option: option != (8, b"\0\0\0\0")
        ),
        max_size=3,
    ),
    ttl=st.sampled_from([0, 0x8000, 0x10000]),
)
def test_any_labels_and_options_are_understood_as_dnspython_does(fuzzed, labels, options, ttl):
    """Labels of any octets come back; the text of a name parses to the same name."""
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    encoded = b"".join(pack("!HH", code, len(data)) + data for code, data in options)
    query = packet(question=name + b"\0\1\0\1", counts=(1, 0, 0, 1), rest=opt(encoded, ttl=ttl))
    message = check_any(query, fuzzed)
    if len(name) > 255:
        assert message.rcode() == dns.rcode.FORMERR
        return
    assert message.question[0].name == dns.name.Name([*labels, b""])
    [question] = questions(query)
    escaped = "".join(f"\\{ord(c):03d}" if c in '@"$;()' else c for c in question.name)
    assert dns.name.from_text(escaped + ".") == dns.name.Name([*labels, b""])


def test_mutated_queries_never_break_an_answer(fuzzed):
    """20,000 seeded mutations of real queries: bits flipped, octets inserted, cut, repeated."""
    dice = random.Random(8914)
    seeds = [
        ask(use_edns=0, want_dnssec=True, options=[dns.edns.ECSOption("203.0.113.0", 24)]).to_wire(),
        ask("stream.example", "HTTPS").to_wire(),
        ask(LONG, "ANY", use_edns=0, payload=512).to_wire(),
        packet(counts=(1, 0, 0, 2), rest=b"\xc0\x0c" + pack("!HHIH", 1, 1, 0, 4) + b"abcd" + opt(ecs())),
    ]
    begun = perf_counter()
    outcomes = set()
    for _ in range(20_000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data)) if data else 0
            match dice.randrange(5):
                case 0 if data:
                    data[at] ^= 1 << dice.randrange(8)
                case 1 if data:
                    data[at] = dice.choice([0, 1, 0x3F, 0x40, 0xC0, 0xFF])
                case 2:
                    data[at:at] = dice.randbytes(dice.randint(1, 3))
                case 3:
                    del data[at : at + dice.randint(1, 3)]
                case _:
                    data[at:] = data[at:] + data[at : at + 11]
        message = check_any(bytes(data), fuzzed)
        outcomes.add(None if message is None else message.rcode())
    assert outcomes == {None, *map(dns.rcode.from_text, ("FORMERR", "NOTIMP", "REFUSED", "NXDOMAIN", "BADVERS"))}
    assert perf_counter() - begun < 30
