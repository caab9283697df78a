"""Whoever has no key and no listed address gets nothing, and no octets bring the primary down or keep others waiting."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import sys
import time
from pathlib import Path

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from primaries import KEY, SECRET, received, serving, targets

from cdnblock.rpz_primary.server import Limits

NAMES = ("one.example", "two.example")


def a_query(kind="AXFR", zone="base-fr", key=KEY):
    query = dns.message.make_query(zone, kind)
    if key is not None:
        query.use_tsig(key)
    return query


@pytest.fixture(scope="module")
def primary(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("primary"), NAMES) as served:
        yield served
        assert len(targets(served.transferred("base-fr"))) == 4  # whatever came: it serves


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("kind", ["SOA", "AXFR", "IXFR", "NS", "ANY", "CNAME", "TXT"])
def test_without_a_key_everything_is_refused(primary, kind, tcp):
    """With and without EDNS, about our zones and others: REFUSED, no records, and no more octets than were sent."""
    for zone in ("base-fr", "one.example.base-fr", "example.org", "."):
        for edns in (-1, 0):
            query = dns.message.make_query(zone, kind, use_edns=edns)
            raw = primary.raw(query.to_wire(), tcp=tcp)
            answer = dns.message.from_wire(raw)
            assert (answer.rcode().name, answer.sections[1:]) == ("REFUSED", [[], [], []])
            assert (answer.id, answer.question) == (query.id, query.question)
            assert len(raw) <= len(query.to_wire())


WRONG_KEYS = {
    "another name": (dns.tsig.Key("other", SECRET, "hmac-sha256"), 17),
    "another secret": (dns.tsig.Key("rpz", "x" + SECRET[1:], "hmac-sha256"), 16),
    "another algorithm": (dns.tsig.Key("rpz", SECRET, "hmac-sha512"), 17),
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("key", "error"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_a_wrong_key_gets_its_error(primary, key, error, tcp):
    """NOTAUTH with BADKEY or BADSIG, unsigned (RFC 8945 §5.2), and no records."""
    before = primary.primary.status()["wrong_signatures"]
    answer = dns.message.from_wire(primary.raw(a_query(key=key).to_wire(), tcp=tcp), keyring=lambda *_: False)
    assert (answer.rcode().name, answer.answer, answer.tsig[0].error, answer.tsig[0].mac) == ("NOTAUTH", [], error, b"")
    assert primary.primary.status()["wrong_signatures"] == before + 1


@pytest.mark.parametrize("minutes", [-6, 6, 600_000])
def test_a_wrong_time_is_told_ours(primary, minutes, monkeypatch):
    """BADTIME, signed, with the time of here, so that somebody with the key can tell what is wrong (RFC 8945 §5.2.3)."""
    now = time.time()
    query = a_query()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now + 60 * minutes)
        wire = query.to_wire()
    answer = dns.message.from_wire(primary.raw(wire, tcp=True), keyring=lambda *_: False)
    record = answer.tsig[0]
    assert (answer.rcode().name, answer.answer, record.error) == ("NOTAUTH", [], 18)
    assert abs(int.from_bytes(record.other, "big") - now) < 60
    assert record.mac


def test_a_replayed_request_gets_nothing(primary):
    """Octets that somebody has overheard: the first transfer comes, for whoever sends them again it does not."""
    wire = a_query().to_wire()
    first = dns.message.from_wire(
        primary.raw(wire, tcp=True), keyring={KEY.name: KEY}, request_mac=_mac(wire), multi=True
    )
    again = dns.message.from_wire(primary.raw(wire, tcp=True), keyring=lambda *_: False)
    assert (first.rcode().name, again.rcode().name, again.answer) == ("NOERROR", "REFUSED", [])
    assert primary.primary.status()["replayed"] == 1


def test_a_key_for_other_octets_gets_nothing(primary):
    """The signature of a question about one zone, put behind a question about another."""
    signed = a_query(zone="pass-fr").to_wire()
    forged = signed.replace(b"\x07pass-fr", b"\x07base-fr", 1)
    assert forged != signed
    answer = dns.message.from_wire(primary.raw(forged, tcp=True), keyring=lambda *_: False)
    assert (answer.rcode().name, answer.tsig[0].error) == ("NOTAUTH", 16)


def test_what_is_no_transfer_is_not_carried_out(primary):
    """With a key: no updates, no notifications, no zones but ours, no other types and classes."""
    update = dns.update.UpdateMessage("base-fr.", keyring=KEY)
    update.add("evil", 10, "CNAME", ".")
    notify = a_query("SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    chaos = dns.message.make_query("base-fr", "AXFR", rdclass="CH")
    chaos.use_tsig(KEY)
    said = [
        primary.asked(query, tcp=True).rcode().name
        for query in (update, notify, chaos, a_query(zone="example.org"), a_query("TXT"), a_query(zone="x.base-fr"))
    ]
    assert said == ["NOTIMP", "NOTIMP", "NOTAUTH", "NOTAUTH", "REFUSED", "NOTAUTH"]
    assert len(targets(primary.transferred("base-fr"))) == 4


def test_answers_are_not_answered(primary):
    """A message that is an answer gets silence, so that two servers cannot be made to talk to each other."""
    for octet in (0x80, 0xA4, 0xFF):
        packet = bytearray(a_query("SOA", key=None).to_wire())
        packet[2] = octet
        assert primary.raw(bytes(packet)) is None


MALFORMED = {
    "nothing": b"",
    "half a header": b"\0\1\0\0\0\1",
    "a header alone": struct.pack("!6H", 7, 0, 0, 0, 0, 0),
    "a question that is not there": struct.pack("!6H", 7, 0, 1, 0, 0, 0),
    "two questions": struct.pack("!6H", 7, 0, 2, 0, 0, 0) + b"\0\0\xfc\0\1\0\0\xfc\0\1",
    "a name that points to itself": struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\xfc\0\1",
    "a label that is too long": struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x3fshort\0\0\xfc\0\1",
    "a name that is too long": struct.pack("!6H", 7, 0, 1, 0, 0, 1) + b"\1a" * 200 + b"\0\0\xfc\0\1",
    "records that are not there": struct.pack("!6H", 7, 0, 1, 0xFFFF, 0xFFFF, 0xFFFF) + b"\7base-fr\0\0\xfc\0\1",
    "a signature that is none": struct.pack("!6H", 7, 0, 1, 0, 0, 1)
    + b"\7base-fr\0\0\xfc\0\1\0\0\xfa\0\xff\0\0\0\0\0\0",
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_gets_formerr_or_silence(primary, packet):
    """Never a crash, never a record, never more octets than came."""
    raw = primary.raw(packet)
    assert raw is None or (raw[3] & 0xF in (dns.rcode.FORMERR, dns.rcode.REFUSED) and raw[6:12] == b"\0" * 6)
    assert raw is None or len(raw) <= max(12, len(packet))
    primary.raw(packet, tcp=True)


def test_no_octets_bring_it_down(primary, caplog):
    """Thousands of signed requests with octets changed, cut and added: nothing is logged, and nothing but errors comes."""
    dice = random.Random(8945)
    wire = a_query("IXFR").to_wire()
    signed = wire.index(b"\3rpz\0")  # all before is, but for the id
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", primary.port))
        sock.settimeout(0.005)
        for _ in range(2_000):
            changed = bytearray(wire)
            for _ in range(dice.randrange(1, 6)):
                changed[dice.randrange(2, signed)] ^= dice.randrange(1, 256)
            if changed == wire:
                continue
            changed = changed[: dice.randrange(len(changed))] if dice.random() < 0.2 else changed
            sock.send(bytes(changed) + dice.randbytes(dice.randrange(20) if dice.random() < 0.2 else 0))
            with contextlib.suppress(TimeoutError):
                answer = sock.recv(65_535)
                assert answer[6:8] == b"\0\0", answer
    assert caplog.text == ""


def test_who_reads_slowly_is_cut_off_and_keeps_nobody_waiting(tmp_path):
    """Transfers that nobody takes end; meanwhile others transfer; and what waits for the slow ones is bounded."""
    names = [f"{number:05}{'a' * 58}.{'b' * 63}.{'c' * 63}.example" for number in range(2_500)]
    with serving(tmp_path, names, limits=Limits(idle=1.0)) as primary, contextlib.ExitStack() as slow:
        for _ in range(10):
            sock = slow.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", primary.port))
            wire = a_query().to_wire()
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
        assert len(targets(primary.transferred("base-fr"))) == 5_000
        until = time.monotonic() + 20
        while primary.primary.status()["connections"]:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_who_says_nothing_or_too_much_is_cut_off(tmp_path):
    """A connection on which nothing comes, half a request, or one that announces more than any request has."""
    with serving(tmp_path, limits=Limits(idle=0.5)) as primary:
        for sent in (b"", b"\0", b"\0\x20half", b"\xff\xff"):
            with socket.create_connection(("127.0.0.1", primary.port), 10) as sock:
                sock.sendall(sent)
                assert received(sock) is None


def test_one_client_cannot_take_every_place(tmp_path):
    """Beyond its share a client's connections are closed at once; when all places are taken, the quietest goes."""
    with serving(tmp_path, limits=Limits(connections=8, per_client=4)) as primary, contextlib.ExitStack() as opened:
        for _ in range(4):
            opened.enter_context(socket.create_connection(("127.0.0.1", primary.port), 10)).sendall(b"\0")
        until = time.monotonic() + 10
        while primary.primary.status()["connections"] < 4:
            assert time.monotonic() < until
        with socket.create_connection(("127.0.0.1", primary.port), 10) as one_more:
            assert received(one_more) is None
        other = opened.enter_context(socket.create_connection(("127.0.0.1", primary.port), 10, ("127.0.0.2", 0)))
        wire = a_query("SOA").to_wire()
        other.sendall(len(wire).to_bytes(2, "big") + wire)
        assert received(other)[3] & 0xF == dns.rcode.NOERROR


def _mac(wire):
    return dns.message.from_wire(wire, keyring={KEY.name: KEY}).mac
