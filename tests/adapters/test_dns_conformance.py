"""The running front, asked by every way with octets that clients, and others, send; a real nsd is its upstream.

dnspython and dig read the answers. What is not refused must come back as nsd itself says it, to the octet.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from free_ports import free_ports

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")
pytest.importorskip("h2", reason="one of the ways is HTTP/2")

sys.path.insert(0, str(Path(__file__).parent))

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns_peers
from dns_clients import (
    FRANCE,
    GERMANY,
    MARK,
    REUNION,
    Said,
    any_certificate,
    dig,
    opt,
    option,
    over_http2,
    over_https,
    over_stream,
    over_udp,
    packet,
    subnet,
    udp_socket,
    wire_name,
)
from dns_orders import write_order

pytestmark = [
    pytest.mark.skipif(bool(dns_peers.missing("nsd")), reason=dns_peers.missing("nsd")),
    pytest.mark.skipif(bool(dns_peers.missing("dig")), reason=dns_peers.missing("dig")),
]

CONTACT = "legal@resolver.example"
STRANGER = "127.0.0.2"  # an address from which nobody's client subnet is believed
ZONE = """\
$ORIGIN example.
$TTL 300
@ SOA ns nobody 1 3600 600 604800 60
@ NS ns
ns A 127.0.0.1
$ORIGIN open.example.
@ A 192.0.2.80
* A 192.0.2.81
* AAAA 2001:db8::81
* TXT "open"
* HTTPS 1 . alpn=h2 ipv4hint=192.0.2.81
alias CNAME www.refused.example.
large TXT {large}
$ORIGIN example.
{covered}
"""
COVERED = ("refused", "gone", "empty", "french", "french-gone", "escaped\\046dot")
LARGE = " ".join(f'"{letter * 250}"' for letter in "abcdefghij")
ORDERS = {
    # Each name with its variant and its territory.
    "refused.example": ("refuse", "world"),
    "gone.example": ("nxdomain", "world"),
    "empty.example": ("nodata", "world"),
    "french.example": ("refuse", "[FR]"),
    "french-gone.example": ("nxdomain", "[FR]"),
}


def zone() -> str:
    covered = "\n".join(
        f"{owner} A 192.0.2.66\n{owner} TXT leaked" for name in COVERED for owner in (name, f"*.{name}")
    )
    return ZONE.format(large=LARGE, covered=covered)


@dataclass(frozen=True)
class House:
    """The front with all its doors, and what is behind it."""

    front: dns_peers.Daemon
    tls: int
    https: int
    nsd: dns_peers.Daemon
    orders: Path


@pytest.fixture(scope="module")
def house(tmp_path_factory, small_mmdb):
    folder = tmp_path_factory.mktemp("house")
    orders = folder / "orders"
    orders.mkdir()
    for name, (variant, territory) in ORDERS.items():
        write_order(orders, name, variant, territory)
    dns_peers.write_certificate(folder / "certificate.pem", folder / "key.pem")
    tls, https = free_ports(2)
    with dns_peers.nsd(folder / "nsd", {"example": zone()}) as nsd, dns_peers.front(
        folder / "front", orders, [nsd.port], "--geo", str(small_mmdb), "--contact", CONTACT,
        "--trusted-forwarder", "127.0.0.1/32", "--listen", "[::1]:{port}",
        "--certificate", str(folder / "certificate.pem"), "--key", str(folder / "key.pem"),
        "--listen-tls", f"127.0.0.1:{tls}", "--listen-tls", f"[::1]:{tls}",
        "--listen-https", f"127.0.0.1:{https}", "--listen-https", f"[::1]:{https}",
    ) as front:  # fmt: skip
        yield House(front, tls, https, nsd, orders)
        assert front.process.poll() is None, front.said
        assert "Traceback" not in front.said, front.said


TLS = any_certificate("dot")
WAYS = {
    # Each takes the house and the octets of a query.
    "UDP, IPv4": lambda house, query: over_udp("127.0.0.1", house.front.port, query),
    "UDP, IPv6": lambda house, query: over_udp("::1", house.front.port, query),
    "TCP, IPv4": lambda house, query: over_stream("127.0.0.1", house.front.port, query),
    "TCP, IPv6": lambda house, query: over_stream("::1", house.front.port, query),
    "TLS, IPv4": lambda house, query: over_stream("127.0.0.1", house.tls, query, tls=TLS),
    "TLS, IPv6": lambda house, query: over_stream("::1", house.tls, query, tls=TLS),
    "HTTPS, GET": lambda house, query: over_https("127.0.0.1", house.https, query, get=True),
    "HTTPS, POST, IPv6": lambda house, query: over_https("::1", house.https, query),
    "HTTP/2": lambda house, query: over_http2("127.0.0.1", house.https, query),
}
TRUSTED = [way for way in WAYS if "IPv6" not in way]  # clients on 127.0.0.1 are a forwarder; ::1 is anybody
DATAGRAMS = [way for way in WAYS if way.startswith("UDP")]
every_way = pytest.mark.parametrize("way", WAYS)

REFUSED = Said("REFUSED")
CENSORED = replace(REFUSED, opt=True, ede=f"16 order refused; contact {CONTACT}")
TYPES = [
    "A",
    "AAAA",
    "HTTPS",
    "SVCB",
    "MX",
    "TXT",
    "ANY",
    "CNAME",
    "NS",
    "SOA",
    "DS",
    "DNSKEY",
    "CAA",
    "PTR",
    "SRV",
    "TYPE65280",
]
LABEL63 = "x" * 63


def query(name="www.refused.example", kind="A", **options):
    return dns.message.make_query(name, kind, **options).to_wire()


@pytest.mark.parametrize("kind", TYPES)
@every_way
def test_every_type_of_a_covered_name_is_refused(house, way, kind):
    """Whatever is asked for; with its reason when the query has an OPT record, without any OPT when it has none."""
    assert Said.of(WAYS[way](house, query(kind=kind))) == REFUSED
    assert Said.of(WAYS[way](house, query(kind=kind, use_edns=0))) == CENSORED


ROWS = {
    # What is asked: (octets, what is said)
    "the name itself": (packet("refused.example"), REFUSED),
    "a name under it": (packet("a.b.c.d.refused.example"), REFUSED),
    "upper case": (packet("WWW.REFUSED.EXAMPLE"), REFUSED),
    "mixed case": (packet("wWw.ReFuSeD.eXaMpLe"), REFUSED),
    "a label of 63 octets": (packet(f"{LABEL63}.refused.example"), REFUSED),
    "a name of 255 octets": (packet(f"{LABEL63}.{LABEL63}.{LABEL63}.{'y' * 45}.refused.example"), REFUSED),
    "a dot inside a label below": (packet(b"\3a.b" + wire_name("refused.example")), REFUSED),
    "an octet 0 inside a label below": (packet(b"\3a\0b" + wire_name("refused.example")), REFUSED),
    "any octets in a label below": (packet(b"\4\xff\\\n " + wire_name("refused.example")), REFUSED),
    "RD not set": (packet(flags=0), Said("REFUSED", "QR RA")),
    "CD set": (packet(flags=0x0110), Said("REFUSED", "QR RD RA CD")),
    "AD set": (packet(flags=0x0120), REFUSED),
    "AA, TC, RA and Z set": (packet(flags=0x07C0), REFUSED),
    "an RCODE in the query": (packet(flags=0x010F), REFUSED),
    "nxdomain": (packet("gone.example"), Said("NXDOMAIN", soa=10)),
    "nxdomain, with OPT": (
        packet("gone.example", counts=(1, 0, 0, 1), rest=opt()),
        Said("NXDOMAIN", soa=10, opt=True, ede=f"16 order gone; contact {CONTACT}"),
    ),
    "nodata": (packet("empty.example"), Said("NOERROR", soa=10)),
    "nodata, with OPT": (
        packet("empty.example", counts=(1, 0, 0, 1), rest=opt()),
        Said("NOERROR", soa=10, opt=True, ede=f"16 order empty; contact {CONTACT}"),
    ),
    "class CH": (packet(klass=3), REFUSED),
    "class ANY": (packet(klass=255), REFUSED),
    "zone transfer": (packet("refused.example", 252), REFUSED),
    "DO set": (packet(counts=(1, 0, 0, 1), rest=opt(flags=0x8000)), CENSORED),
    "a UDP size of 0": (packet(counts=(1, 0, 0, 1), rest=opt(size=0)), CENSORED),
    "a UDP size of 65535": (packet(counts=(1, 0, 0, 1), rest=opt(size=65535)), CENSORED),
    "a cookie": (packet(counts=(1, 0, 0, 1), rest=opt(option(10, b"8 octets"))), CENSORED),
    "unknown options": (packet(counts=(1, 0, 0, 1), rest=opt(option(65001, b"x" * 99) + option(3, b""))), CENSORED),
    "octets behind the message": (packet(rest=b"behind"), REFUSED),
    "octets behind OPT": (packet(counts=(1, 0, 0, 1), rest=opt() + b"behind"), CENSORED),
    "a record in ANSWER of the query": (
        packet(counts=(1, 1, 0, 0), rest=b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\x7f\0\0\1"), REFUSED,
    ),
    "EDNS version 1": (packet(counts=(1, 0, 0, 1), rest=opt(version=1)), Said("BADVERS", opt=True)),
    "EDNS version 255": (packet(counts=(1, 0, 0, 1), rest=opt(version=255)), Said("BADVERS", opt=True)),
    "two OPT records": (packet(counts=(1, 0, 0, 2), rest=opt() + opt()), Said("FORMERR")),
    "OPT in ANSWER": (packet(counts=(1, 1, 0, 0), rest=opt()), Said("FORMERR")),
    "OPT of a name": (packet(counts=(1, 0, 0, 1), rest=b"\1x" + opt()), Said("FORMERR")),
    "an option longer than OPT": (packet(counts=(1, 0, 0, 1), rest=opt(b"\0\x0a\0\x10")), Said("FORMERR", opt=True)),
    "more records than there are": (packet(counts=(1, 0, 0, 9), rest=opt()), Said("FORMERR")),
    "no question": (packet(b"", counts=(0, 0, 0, 0))[:12], Said("FORMERR")),
    "two questions": (packet(counts=(2, 0, 0, 0), rest=wire_name("open.example") + b"\0\1\0\1"), Said("FORMERR")),
    "the covered question second": (
        packet("open.example", counts=(2, 0, 0, 0), rest=wire_name("refused.example") + b"\0\1\0\1"), Said("FORMERR"),
    ),
    "65535 questions": (packet(counts=(65535, 0, 0, 0)), Said("FORMERR")),
    "a pointer to itself": (packet(b"\xc0\x0c"), Said("FORMERR")),
    "a pointer forward": (packet(b"\xc0\x12" + b"\0\1\0\1" + wire_name("refused.example")), Said("FORMERR")),
    "a pointer into the header": (packet(b"\3www\xc0\0"), Said("FORMERR")),
    "a pointer behind a label": (packet(b"\3www\xc0\x0c"), Said("FORMERR")),
    "a label of the reserved kind 0x40": (packet(b"\x41x\0"), Said("FORMERR")),
    "a label of the reserved kind 0x80": (packet(b"\x81x\0"), Said("FORMERR")),
    "a name of 256 octets": (packet(f"{LABEL63}.{LABEL63}.{LABEL63}.{'y' * 46}.refused.example"), Said("FORMERR")),
    "a name without end": (packet(b"\3www\7refused\7example")[:-4], Said("FORMERR")),
    "a question without class": (packet()[:-2], Said("FORMERR")),
    "a header alone that promises a question": (packet()[:12], Said("FORMERR")),
    "opcode STATUS": (packet(flags=0x1100), Said("NOTIMP")),
    "opcode NOTIFY": (packet(flags=0x2400, kind=6), Said("NOTIMP", "QR RA")),
    "opcode UPDATE": (packet(flags=0x2800, kind=6), Said("NOTIMP", "QR RA")),
    "opcode 15": (packet(flags=0x7900), Said("NOTIMP")),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
@every_way
def test_what_is_said(house, way, row):
    """The id is the query's, the question is the query's to the octet where it can be read, and nothing is answered."""
    asked, said = ROWS[row]
    answer = WAYS[way](house, asked)
    assert answer[:2] == asked[:2]
    assert Said.of(answer) == said
    if said.rcode not in ("FORMERR", "NOTIMP"):
        end = dns.name.from_wire(asked, 12)[1] + 16
        assert answer[12:end] == asked[12:end]


SILENT = {
    "no octets": b"",
    "one octet": b"\0",
    "11 octets": packet()[:11],
    "an answer": packet(flags=0x8180),
    "an answer that was cut": packet(flags=0x8380)[:20],
    "a NOTIFY's answer": packet(flags=0xA400),
    "all bits set": b"\xff" * 40,
}


@pytest.mark.parametrize("row", SILENT)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_gets_no_answer_over_udp(house, address, row):
    """What is no query is not answered, so nobody can have two servers talk to each other for ever."""
    with udp_socket(address, house.front.port) as sock:
        sock.send(SILENT[row])
        sock.send(MARK)
        assert sock.recv(65_535)[:2] == MARK[:2]


@pytest.mark.parametrize("row", SILENT)
@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("UDP")])
def test_what_gets_no_answer_over_streams(house, way, row):
    """The connection ends, or the request is a bad one."""
    assert WAYS[way](house, SILENT[row]) is None


@pytest.mark.parametrize("length", range(len(query(use_edns=0, payload=1232))))
def test_a_query_that_was_cut(house, length):
    """A query without its end is silence while the header is not whole, and FORMERR then."""
    cut = query(use_edns=0)[:length]
    with udp_socket("127.0.0.1", house.front.port) as sock:
        sock.send(cut)
        sock.send(MARK)
        answer = sock.recv(65_535)
        if length < 12:
            assert answer[:2] == MARK[:2]
        else:
            assert answer[:2] == cut[:2]
            assert Said.of(answer).rcode == "FORMERR"


FORWARDED = {
    # What no order names, or not for these clients, goes to nsd as it came, and so does what nsd says.
    "an address": packet("www.open.example"),
    "upper and lower case": packet("WwW.oPeN.ExAmPlE"),
    "a name that does not exist": packet("nothing.example"),
    "a type that does not exist": packet("www.open.example", 99),
    "ANY": packet("www.open.example", 255, counts=(1, 0, 0, 1), rest=opt()),
    "an alias of a covered name": packet("alias.open.example"),
    "the parent of covered names": packet("example", 6),
    "a covered name behind more letters": packet("notrefused.example"),
    "the root": packet(b"\0", 2),
    "RD not set": packet("www.open.example", flags=0),
    "CD and AD set": packet("www.open.example", flags=0x0130),
    "DO set": packet("www.open.example", counts=(1, 0, 0, 1), rest=opt(flags=0x8000)),
    "EDNS version 1": packet("www.open.example", counts=(1, 0, 0, 1), rest=opt(version=1)),
    "two OPT records": packet("www.open.example", counts=(1, 0, 0, 2), rest=opt() + opt()),
    "a cookie": packet("www.open.example", counts=(1, 0, 0, 1), rest=opt(option(10, b"8 octets"))),
    "a client subnet": packet("www.open.example", counts=(1, 0, 0, 1), rest=opt(subnet(FRANCE, 24))),
    "a client subnet that is wrong": packet(
        "www.open.example", counts=(1, 0, 0, 1), rest=opt(option(8, b"\0\1\x21\0"))
    ),
    "class CH": packet("version.bind", 16, klass=3),
    "a label of 63 octets": packet(f"{LABEL63}.open.example"),
    "a name of 255 octets": packet(f"{LABEL63}.{LABEL63}.{LABEL63}.{'y' * 48}.open.example"),
    "a dot inside a label": packet(b"\x0frefused.example" + wire_name("open.example")),
    "a covered name in one label": packet(b"\x0frefused.example\0"),
    "a covered name inside a label": packet(b"\3www\x0frefused.example\4open\7example\0"),
    "an octet 0 inside a label": packet(b"\x09refused\0x" + wire_name("example")),
    "French, asked from nowhere": packet("www.french.example"),
}


@pytest.mark.parametrize("row", FORWARDED)
@every_way
def test_what_is_forwarded(house, way, row):
    """The answer is the upstream's, octet by octet, but for the padding and size that only UDP knows."""
    asked = FORWARDED[row]
    directly = over_udp if way in DATAGRAMS else over_stream
    assert WAYS[way](house, asked) == directly("127.0.0.1", house.nsd.port, asked)


SUBNETS = {
    # What a forwarder says of its client: (name, options, what is said); None is whatever nsd says.
    "France": ("french.example", subnet(FRANCE, 24), "203.0.113.0/24 scope/0"),
    "France, a whole address": ("french.example", subnet(FRANCE, 32), "203.0.113.7/32 scope/0"),
    "France, IPv6": ("french.example", subnet("2001:db8::", 56), "2001:db8::/56 scope/0"),
    "Germany": ("french.example", subnet(GERMANY, 24), None),
    "Réunion, not named by the order": ("french.example", subnet(REUNION, 24), None),
    "declined": ("french.example", subnet(FRANCE, 0), None),
    "a private address": ("french.example", subnet("10.1.2.3", 24), None),
}


@pytest.mark.parametrize("row", SUBNETS)
@pytest.mark.parametrize("way", TRUSTED)
def test_a_trusted_forwarder_tells_where_its_client_is(house, way, row):
    """The subnet decides, and a refusal gives it back (RFC 7871 §7.2.1)."""
    name, options, echoed = SUBNETS[row]
    asked = packet(name, counts=(1, 0, 0, 1), rest=opt(options))
    answer = Said.of(WAYS[way](house, asked))
    if echoed is None:
        assert (answer.rcode, answer.addresses) == ("NOERROR", 1)
    else:
        assert answer == replace(CENSORED, ede=f"16 order french; contact {CONTACT}", ecs=echoed)


@pytest.mark.parametrize(
    ("name", "order"), [("french-gone.example", "french-gone"), ("gone.example", "gone"), ("empty.example", "empty")]
)
@pytest.mark.parametrize("way", TRUSTED)
def test_with_a_subnet_there_is_no_negative_answer(house, way, name, order):
    """It would be kept for everybody (RFC 7871 §7.4): REFUSED, whatever the order's variant."""
    asked = packet(name, counts=(1, 0, 0, 1), rest=opt(subnet(FRANCE, 24)))
    said = replace(CENSORED, ede=f"16 order {order}; contact {CONTACT}", ecs="203.0.113.0/24 scope/0")
    assert Said.of(WAYS[way](house, asked)) == said


@pytest.mark.parametrize("name", ["refused.example", "gone.example"])
@every_way
def test_a_client_that_declines_gets_its_subnet_back(house, way, name):
    """SOURCE 0 comes back as it came (RFC 7871 §7.2.1), and tells nobody's place."""
    asked = packet(name, counts=(1, 0, 0, 1), rest=opt(subnet("0.0.0.0", 0)))
    order = name.partition(".")[0]
    said = replace(CENSORED, ede=f"16 order {order}; contact {CONTACT}", ecs="0.0.0.0/0 scope/0")
    assert Said.of(WAYS[way](house, asked)) == said


@pytest.mark.parametrize("way", [way for way in WAYS if way not in TRUSTED])
def test_nobody_else_is_believed(house, way):
    """A client that claims to be in France is wherever it is; one that claims to be elsewhere as well."""
    claim = packet("french.example", counts=(1, 0, 0, 1), rest=opt(subnet(FRANCE, 24)))
    assert Said.of(WAYS[way](house, claim)).addresses == 1
    claim = packet("refused.example", counts=(1, 0, 0, 1), rest=opt(subnet(GERMANY, 24)))
    assert Said.of(WAYS[way](house, claim)) == replace(CENSORED, ecs="198.51.100.0/24 scope/0")


@pytest.mark.parametrize(
    "options",
    [
        subnet(FRANCE, 24, scope=24), subnet(FRANCE, 24) * 2, option(8, b"\0\1\x21\0" + b"\1\2\3\4\5"), option(8, b"\0\1"),
        option(8, b"\0\1\x18\0\xcb\0\x71\7"), option(8, b"\0\1\x17\0\xcb\0\x71"), option(8, b"\0\3\x18\0\1\2\3"),
    ],
    ids=["scope", "two", "33 bits", "cut", "too long", "bits behind", "family 3"],
)  # fmt: skip
@every_way
def test_a_subnet_that_is_wrong(house, way, options):
    """FORMERR (RFC 7871 §7.1.2 and §7.2.1): about such a client nothing is decided."""
    asked = packet(counts=(1, 0, 0, 1), rest=opt(options))
    assert Said.of(WAYS[way](house, asked)).rcode == "FORMERR"


def test_udp_from_another_address_of_this_machine(house):
    """Who is a forwarder is told by the address, not by the machine."""
    claim = packet("french.example", counts=(1, 0, 0, 1), rest=opt(subnet(FRANCE, 24)))
    assert Said.of(over_udp("127.0.0.1", house.front.port, claim, source=STRANGER)).addresses == 1
    assert Said.of(over_stream("127.0.0.1", house.front.port, claim, source=STRANGER)).addresses == 1


@pytest.mark.parametrize("size", [None, 0, 511, 512, 513, 1231, 1232, 1300, 2000, 4096, 65535])
@pytest.mark.parametrize("name", ["large.open.example", f"{LABEL63}.{LABEL63}.{LABEL63}.{'y' * 45}.refused.example"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_answer_over_udp_is_larger_than_its_client_takes(house, address, name, size):
    """TC then; over TCP all of it is there."""
    rest = b"" if size is None else opt(size=size)
    asked = packet(name, 16, counts=(1, 0, 0, int(bool(rest))), rest=rest)
    answer = over_udp(address, house.front.port, asked)
    assert len(answer) <= max(512, size or 0)
    whole = over_stream(address, house.front.port, asked)
    assert bool(answer[2] & 2) == (len(whole) > len(answer))
    assert not whole[2] & 2
    assert dns.message.from_wire(whole).rcode() == dns.message.from_wire(answer).rcode()


@pytest.mark.parametrize("way", [way for way in WAYS if way not in DATAGRAMS])
def test_streams_carry_the_whole_answer(house, way):
    """Also to a client with no OPT, and with a small UDP size in it."""
    for rest in (b"", opt(size=512)):
        asked = packet("large.open.example", 16, counts=(1, 0, 0, int(bool(rest))), rest=rest)
        message = dns.message.from_wire(WAYS[way](house, asked))
        assert not message.flags & dns.flags.TC
        assert len(message.answer[0]) == 1
        assert sum(map(len, message.answer[0][0].strings)) == 2500


@pytest.mark.parametrize("kind", [251, 252])
@pytest.mark.parametrize("way", [way for way in WAYS if way not in DATAGRAMS])
def test_zones_are_not_transferred(house, way, kind):
    """A transfer is many messages and no resolver's business: NOTIMP, or the refusal of a covered name."""
    assert Said.of(WAYS[way](house, packet("example", kind))).rcode == "NOTIMP"
    assert Said.of(WAYS[way](house, packet("refused.example", kind))) == REFUSED


DIGS = {
    # dig's options, and what its answer must hold
    "UDP": (),
    "TCP": ("+tcp",),
    "UDP, IPv6": ("-6",),
    "TLS": ("+tls",),
    "HTTPS": ("+https",),
    "HTTPS, GET": ("+https-get",),
    "DNSSEC": ("+dnssec", "+cdflag"),
    "0x20": ("+qr",),
}


@pytest.mark.parametrize("row", DIGS)
def test_dig(house, row):
    """dig reads the refusal and its reason, and the upstream's answer to what is not refused."""
    port = {"TLS": house.tls, "HTTPS": house.https, "HTTPS, GET": house.https}.get(row, house.front.port)
    server = "@::1" if row == "UDP, IPv6" else "@127.0.0.1"
    said = dig(server, "-p", str(port), *DIGS[row], "WwW.refused.example", "HTTPS")
    assert "status: REFUSED" in said
    assert f"; EDE: 16 (Censored): (order refused; contact {CONTACT})" in said
    assert ";WwW.refused.example.\t\tIN\tHTTPS" in said
    assert "ANSWER: 0" in said
    assert "WARNING" not in said
    assert "192.0.2.81" in dig(server, "-p", str(port), *DIGS[row], "+short", "www.open.example", "A")


def test_dig_without_edns_and_with_subnets(house):
    """No OPT without OPT; a subnet comes back."""
    ask = ("@127.0.0.1", "-p", str(house.front.port))
    assert "EDE" not in dig(*ask, "+noedns", "refused.example")
    said = dig(*ask, f"+subnet={FRANCE}/24", "french.example")
    assert "; CLIENT-SUBNET: 203.0.113.0/24/0" in said
    assert "status: REFUSED" in said
    assert "status: BADVERS" in dig(*ask, "+edns=1", "+noednsnegotiation", "refused.example")


def test_dig_pads_and_gets_padded_answers(house):
    """RFC 8467: 468 octets, whatever is answered, over TLS and HTTPS alike."""
    for port, way in ((house.tls, "+tls"), (house.https, "+https")):
        for name in ("refused.example", "www.open.example"):
            said = dig("@127.0.0.1", "-p", str(port), way, "+padding=128", name)
            assert "MSG SIZE  rcvd: 468" in said, said
