"""DNS through a real mitmdump: refusals as measure `dns` writes them, and the traps of mitmproxy's DNS layer."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from mitmproxy_clients import FRANCE, GERMANY, REUNION, ask, ask_raw, header, query, question

CENSORED = 16
QR_AND_RD = 0x8100


def errors(message) -> list[dns.edns.EDEOption]:
    return [option for option in message.options if option.otype == dns.edns.OptionType.EDE]


@pytest.mark.parametrize(
    ("name", "client", "rcode"),
    [
        ("blocked.example", FRANCE, "REFUSED"),
        ("www.BLOCKED.example", FRANCE, "REFUSED"),
        ("xn--bcher-kva.example", FRANCE, "REFUSED"),
        ("XN--BCHER-KVA.example", FRANCE, "REFUSED"),
        ("_dmarc.blocked.example", FRANCE, "REFUSED"),
        ("closed.example", FRANCE, "REFUSED"),
        ("other.example", FRANCE, "NOERROR"),
        ("notblocked.example", FRANCE, "NOERROR"),
        ("both.example", FRANCE, "NOERROR"),
        (".", FRANCE, "NOERROR"),
        ("blocked.example", GERMANY, "NOERROR"),
        ("blocked.example", REUNION, "NOERROR"),
        ("blocked.example", None, "NOERROR"),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_name_and_client_decide(edge, name, client, rcode, tcp):
    """Covered names are refused to clients in the territory, over UDP and TCP; the forwarder tells who asks (ECS)."""
    asked = len(edge.upstream.asked)
    answer = ask(edge.dns, query(name, client=client), tcp=tcp)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert len(edge.upstream.asked) - asked == (rcode == "NOERROR")


@pytest.mark.parametrize(
    "rdtype", ["A", "AAAA", "HTTPS", "SVCB", "MX", "TXT", "ANY", "CNAME", "SOA", "NS", "PTR", "TYPE65280"]
)
def test_every_type_is_refused(edge, rdtype):
    """No query type of a covered name is answered, with neither address nor record."""
    for port in (edge.dns, edge.resolver):
        answer = ask(port, query("www.blocked.example", rdtype))
        assert answer.rcode() == dns.rcode.REFUSED
        assert (answer.answer, answer.authority) == ([], [])
        assert [error.code for error in errors(answer)] == [CENSORED]


def test_refusal_on_the_wire(edge):
    """RA and RD are set, AD never, the question is echoed in its case, EDE says order and contact, ECS comes back."""
    asked = query("WwW.bLoCkEd.example")
    answer = ask(edge.dns, asked)
    assert answer.flags & dns.flags.RA
    assert answer.flags & dns.flags.RD
    assert not answer.flags & dns.flags.AD
    assert str(answer.question[0].name) == "WwW.bLoCkEd.example."
    assert errors(answer)[0].text == "order terminate; contact legal@edge.example"
    assert any(isinstance(option, dns.edns.ECSOption) for option in answer.options)


def test_without_opt_there_is_none_in_the_answer(edge, unforwarded):
    """EDE only where the query carried OPT (RFC 6891 §6.1.1)."""
    answer = ask(unforwarded.port, query("world.example", client=None, edns=False))
    assert (answer.rcode(), answer.edns) == (dns.rcode.REFUSED, -1)


def test_negative_variants(edge, unforwarded):
    """nxdomain and nodata carry an SOA with a short TTL; with ECS both are REFUSED instead (RFC 7871 §7.4)."""
    for name, rcode in (("gone.example", dns.rcode.NXDOMAIN), ("empty.example", dns.rcode.NOERROR)):
        answer = ask(unforwarded.port, query(name, client=None))
        assert answer.rcode() == rcode
        assert answer.answer == []
        (soa,) = answer.authority
        assert (str(soa.name), soa.ttl, str(soa[0].mname)) == (f"{name}.", 10, "blocked.invalid.")
        assert (soa[0].refresh, soa[0].retry, soa[0].expire, soa[0].minimum) == (3600, 600, 604800, 10)
    assert ask(edge.dns, query("cached.example")).rcode() == dns.rcode.REFUSED


def test_client_subnet_of_strangers_is_not_believed(unforwarded):
    """Without trusted forwarders ECS changes nothing: the client is the peer."""
    assert ask(unforwarded.port, query("french.example", client=FRANCE)).rcode() == dns.rcode.NOERROR


def test_own_resolver_answers_the_rest(edge):
    """`--mode dns@` refuses what is covered and resolves what is not."""
    assert ask(edge.resolver, query("blocked.example")).rcode() == dns.rcode.REFUSED
    answer = ask(edge.resolver, query("localhost", client=None, edns=False))
    assert [str(record) for rrset in answer.answer for record in rrset] == ["127.0.0.1"]


def test_a_used_query_id_gets_its_own_answer(edge):
    """mitmproxy keeps the answer of an earlier query with the same id; it must not be sent for another name."""
    names = ["blocked.example", "other.example", "blocked.example", "third.example"]
    packets = [query(name, query_id=7).to_wire() for name in names]
    answers = [dns.message.from_wire(answer) for answer in ask_raw(edge.dns, *packets, timeout=3)]
    assert [dns.rcode.to_text(answer.rcode()) for answer in answers] == ["REFUSED", "NOERROR", "REFUSED", "NOERROR"]
    assert [str(answer.question[0].name) for answer in answers] == [f"{name}." for name in names]


def test_several_questions_are_an_error(edge):
    """QDCOUNT 2 hides names from addons that look at one; it is FORMERR (RFC 9619) and goes nowhere."""
    asked = len(edge.upstream.asked)
    both = header(8, questions=2) + question(b"other.example") + question(b"blocked.example")
    none = header(9, questions=0)
    answers = ask_raw(edge.dns, both, none)
    assert [answer[3] & 0xF for answer in answers] == [dns.rcode.FORMERR] * 2
    assert len(edge.upstream.asked) == asked


def test_answers_from_clients_get_silence(edge):
    """A packet with QR=1 is no query: nothing is sent back and nothing on, and the next query still works."""
    packets = edge.upstream.packets
    answers = ask_raw(
        edge.dns,
        header(10, flags=QR_AND_RD) + question(b"blocked.example"),
        header(11, flags=QR_AND_RD) + question(b"other.example"),
        header(10) + question(b"other.example"),
        timeout=0.5,
    )
    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert edge.upstream.packets == packets + 1


def test_other_opcodes_of_covered_names_are_not_implemented(unforwarded):
    """NOTIFY and UPDATE for a covered name are no way around: NOTIMP."""
    (answer,) = ask_raw(unforwarded.port, header(12, flags=0x2800) + question(b"world.example"))
    assert answer[3] & 0xF == dns.rcode.NOTIMP


def test_a_dot_inside_a_label_hides_nothing(unforwarded):
    """mitmproxy reads and forwards `www.world` as two labels, so it is decided as two."""
    name = b"\x09www.world\x07example\0" + struct.pack("!HH", 1, 1)
    (answer,) = ask_raw(unforwarded.port, header(13) + name)
    assert answer[3] & 0xF == dns.rcode.REFUSED


@pytest.mark.parametrize(
    "packet", [b"", b"\0", header(14)[:11], header(15) + b"\x3fabc", header(16) + b"\xc0\x0c\0\1\0\1", b"\xff" * 40]
)
def test_garbage_is_survived(edge, packet):
    """What is no DNS message gets an error or silence; the server goes on for others."""
    ask_raw(edge.dns, packet, timeout=0.1)
    assert ask(edge.dns, query("blocked.example")).rcode() == dns.rcode.REFUSED


def test_garbage_over_tcp_is_survived(edge):
    """The same over TCP, with lengths that lie."""
    for packet in (b"\0\0", b"\xff\xff" + b"x" * 50, b"\0\x03abc"):
        with closing(socket.create_connection(("127.0.0.1", edge.dns), 1)) as sock:
            sock.sendall(packet)
    assert ask(edge.dns, query("blocked.example"), tcp=True).rcode() == dns.rcode.REFUSED


def test_an_allowed_name_reaches_its_server_once(edge):
    """The forwarder gets the answer of the server behind, not of ours."""
    asked = len(edge.upstream.asked)
    answer = ask(edge.dns, query("fine.example"))
    assert [str(record) for rrset in answer.answer for record in rrset] == ["192.0.2.99"]
    assert edge.upstream.asked[asked:] == ["fine.example"]


def test_many_queries_on_one_socket(edge):
    """Hundreds of queries from one port, every other one refused: each its own answer."""
    count = 200
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", edge.dns))
        began = time.monotonic()
        for number in range(count):
            name = "blocked.example" if number % 2 else "other.example"
            sock.send(query(name, query_id=1000 + number).to_wire())
            answer = dns.message.from_wire(sock.recv(65535))
            assert answer.id == 1000 + number
            assert answer.rcode() == (dns.rcode.REFUSED if number % 2 else dns.rcode.NOERROR)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("broken", ["two subnets", "scope", "two OPTs", "version 1"])
def test_an_option_that_is_wrong_hides_nobody(edge, broken):
    """Who asks cannot be told from a broken option: the query is objected to (RFC 7871 §6, RFC 6891 §6.1), not passed."""
    asked = len(edge.upstream.asked)
    france = dns.edns.ECSOption("203.0.113.0", 24)
    message = dns.message.make_query("blocked.example", "A")
    options = {
        "two subnets": [france, dns.edns.ECSOption("198.51.100.0", 24)],
        "scope": [dns.edns.ECSOption("203.0.113.0", 24, 24)],
    }
    message.use_edns(edns=1 if broken == "version 1" else 0, options=options.get(broken, [france]))
    packet = message.to_wire()
    if broken == "two OPTs":
        opt = packet[-(11 + 4 + 7) :]
        packet = packet[:10] + b"\0\2" + packet[12:] + opt
    (answer,) = ask_raw(edge.dns, packet)
    assert answer is not None
    assert dns.message.from_wire(answer).rcode() in (dns.rcode.FORMERR, dns.rcode.BADVERS)
    assert len(edge.upstream.asked) == asked
