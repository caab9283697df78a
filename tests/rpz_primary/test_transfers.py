"""Transfers, judged by dnspython: whole, by increments, signed, from any serial."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from itertools import pairwise
from pathlib import Path

import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.tsig
import pytest
from order_texts import order_text

sys.path.insert(0, str(Path(__file__).parent))

from primaries import KEY, SECRET, received, serial, serving, targets

from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError, UnsupportedError
from cdnblock.rpz_primary.keys import read_keys
from cdnblock.rpz_primary.notifying import Secondary
from cdnblock.rpz_primary.policies import read_clients
from cdnblock.rpz_primary.primary import PrimarySettings, serve_primary
from cdnblock.rpz_primary.publisher import Pace
from cdnblock.rpz_primary.serials import is_newer, next_serial
from cdnblock.rpz_primary.wire import labels
from cdnblock.rpz_primary.zone_sets import read_suffix


def both(*names):
    return {f"{star}{name}": "." for name in names for star in ("", "*.")}


def test_a_whole_zone_is_transferred(tmp_path):
    """AXFR with TSIG: the records of each name, an SOA with a short TTL, and an NS that can never be asked."""
    with serving(tmp_path) as primary:
        zone = primary.transferred("base-fr")
        assert targets(zone) == both("one.example", "two.example")
        soa = zone.get_soa()
        assert (str(soa.mname), str(soa.rname)) == ("blocked.invalid.", "nobody.invalid.")
        assert (soa.refresh, soa.retry, soa.expire, soa.minimum) == (60, 10, 604_800, 10)
        assert {rdataset.ttl for _, rdataset in zone.iterate_rdatasets()} == {10}
        assert targets(primary.transferred("pass-fr")) == targets(primary.transferred("delta-fr")) == {}


def test_each_serial_leads_to_the_same_zone(tmp_path):
    """From every version that there was, an increment makes the zone what a whole transfer makes it."""
    with serving(tmp_path) as primary:
        seen = [primary.transferred("delta-fr")]
        for names in (["a.example"], ["a.example", "b.example"], ["b.example"], [], ["c.a.example", "a.example"]):
            primary.put("more", names)
            seen.append(primary.transferred("delta-fr"))
        assert [len(targets(zone)) for zone in seen] == [0, 2, 4, 2, 0, 4]
        assert all(is_newer(serial(later), serial(zone)) for zone, later in pairwise(seen))
        before = primary.primary.status()
        for zone in seen[:-1]:
            assert targets(primary.transferred("delta-fr", zone)) == targets(seen[-1])
            assert serial(zone) == serial(seen[-1])
        after = primary.primary.status()
        assert after["incremental"] - before["incremental"] == len(seen) - 1
        assert after["transfers"] == before["transfers"]


def test_an_unknown_serial_gets_the_whole_zone(tmp_path, caplog):
    """Who has a version that nobody remembers gets everything; who has this one, or a later one, one SOA.

    A later one is said once: whoever has it takes nothing of ours.
    """
    with serving(tmp_path) as primary:
        now = serial(primary.transferred("base-fr"))
        for asked, records in ((now - 5, 7), (now, 1), (now + 5, 1), (now + 6, 1)):
            query = dns.message.make_query("base-fr", "IXFR")
            query.use_tsig(KEY)
            text = f"base-fr. 0 IN SOA . . {asked} 0 0 0 0"
            query.authority = dns.message.from_text(f"id 1\n;AUTHORITY\n{text}\n").authority
            messages = [*_stream(primary, query)]
            assert sum(len(rrset) for message in messages for rrset in message.answer) == records
            assert messages[0].answer[0][0].serial == now
            if asked > now:
                assert primary.asked(query).answer[0][0].serial == now
        assert primary.primary.status()["ahead"] == 4  # of transfers, and of questions by UDP
    assert caplog.text.count(f"a secondary has serial {now + 5} of base-fr, and ours is {now}") == 1
    assert caplog.text.count("a secondary has serial") == 1


def test_over_udp_there_is_a_serial_and_no_transfer(tmp_path):
    """SOA and IXFR get one SOA over UDP (RFC 1995 §2), AXFR nothing (RFC 5936 §4.2)."""
    with serving(tmp_path) as primary:
        for kind, rcode, records in (("SOA", "NOERROR", 1), ("IXFR", "NOERROR", 1), ("AXFR", "REFUSED", 0)):
            query = dns.message.make_query("base-fr", kind, use_edns=0)
            query.use_tsig(KEY)
            answer = primary.asked(query)
            assert (answer.rcode().name, len(answer.answer), answer.had_tsig) == (rcode, records, True)


def test_long_names_fit_into_messages(tmp_path):
    """Names of 200 octets, as many as no single message holds: all come, and each message is signed."""
    names = [f"{number:04}{'a' * 59}.{'b' * 63}.{'c' * 63}.example" for number in range(1_500)]
    with serving(tmp_path, names) as primary:
        query = dns.message.make_query("base-fr", "AXFR")
        query.use_tsig(KEY)
        messages = [*_stream(primary, query)]
        assert len(messages) > 8
        assert all(message.had_tsig for message in messages)
        assert targets(primary.transferred("base-fr")) == both(*names)


def test_a_zone_is_asked_for_in_any_spelling(tmp_path):
    """The question is echoed as it came, and the names of the answer are the same."""
    with serving(tmp_path) as primary:
        query = dns.message.make_query("BaSe-Fr", "AXFR")
        query.use_tsig(KEY)
        messages = [*_stream(primary, query)]
        assert str(messages[0].question[0].name) == "BaSe-Fr."
        assert sum(len(rrset) for message in messages for rrset in message.answer) == 7


@pytest.mark.parametrize("algorithm", ["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"])
def test_every_algorithm_is_spoken(tmp_path, algorithm):
    """Keys of each algorithm that the file may name."""
    key = dns.tsig.Key("rpz", SECRET, algorithm)
    with serving(tmp_path, keys={key.name: key}) as primary:
        assert targets(primary.transferred("base-fr", keyring=key)) == both("one.example", "two.example")


def test_a_listed_address_needs_no_key(tmp_path):
    """Unbound knows no TSIG: what is listed may transfer unsigned, and is answered unsigned."""
    with serving(tmp_path, keys={}, allowed=("127.0.0.0/8",)) as primary:
        assert targets(primary.transferred("base-fr", keyring=None)) == both("one.example", "two.example")


def test_each_set_of_clients_has_zones_of_its_own(tmp_path):
    """An order in FR is in the zones of FR, not in those of DE; a suffix stands behind all of them."""
    with serving(tmp_path, clients=("fr=FR", "de=DE"), suffix=".cdnblock") as primary:
        assert targets(primary.transferred("base-fr.cdnblock")) == both("one.example", "two.example")
        assert targets(primary.transferred("base-de.cdnblock")) == {}


def test_a_large_change_goes_into_the_bulk_at_once(tmp_path):
    """Many names at once are no change of a small zone; resolvers would have to work them through twice."""
    with serving(tmp_path, pace=Pace(bulk=100)) as primary:
        primary.put("many", [f"n{number}.example" for number in range(101)])
        assert len(targets(primary.transferred("base-fr"))) == 2 * 103
        assert targets(primary.transferred("delta-fr")) == {}
        primary.put("few", [f"few{number}.example" for number in range(100)])
        assert len(targets(primary.transferred("base-fr"))) == 2 * 103
        assert len(targets(primary.transferred("delta-fr"))) == 2 * 100


def test_secondaries_are_told_until_they_have_heard(tmp_path):
    """A signed NOTIFY with the zone's SOA, again until it is answered, and then no more; not for others' zones."""
    with socket.socket(type=socket.SOCK_DGRAM) as secondary:
        secondary.bind(("127.0.0.1", 0))
        secondary.settimeout(10)
        text = f"127.0.0.1:{secondary.getsockname()[1]},key=rpz,clients=fr"
        told = (Secondary.read(text, {KEY.name: KEY}),)
        with serving(tmp_path, clients=("fr=FR", "de=DE"), secondaries=told) as primary:
            heard = []
            while len({zone for zone, _ in heard}) < 3 or len(heard) < 5:  # nobody answers: some are told twice
                heard.append(_notified(secondary, primary)[:2])
            assert {zone for zone, _ in heard} == {"pass-fr.", "delta-fr.", "base-fr."}
            assert {serial for _, serial in heard} == {zone.version.serial for zone in primary.primary.zones}
            answered = set()
            while len(answered) < 3:
                zone, _, packet, sender = _notified(secondary, primary)
                secondary.sendto(dns.message.make_response(packet).to_wire(), sender)
                answered.add(zone)
            secondary.settimeout(1.2)
            primary.put("more", ["more.example"])
            zone, serial, packet, sender = _notified(secondary, primary)
            secondary.sendto(dns.message.make_response(packet).to_wire(), sender)
            assert (zone, serial) == ("delta-fr.", primary.zone("delta-fr").version.serial)
            with pytest.raises(TimeoutError):
                _notified(secondary, primary)


def test_refuse_needs_consent(tmp_path):
    """Policy zones know no REFUSED: without consent an order that wants it keeps the primary from starting."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "one.yaml").write_text(order_text(measures="{dns: refuse}"))
    settings = PrimarySettings(listen=(("127.0.0.1", 0),), clients=read_clients(["fr=FR"]), folder=tmp_path / "zones")

    async def start(enforcer):
        async with serve_primary(settings, enforcer):
            raise AssertionError

    with Enforcer(tmp_path / "orders") as enforcer, pytest.raises(UnsupportedError, match="order motogp: dns refuse"):
        asyncio.run(start(enforcer))
    with serving(tmp_path, refuses_otherwise=True) as primary:
        assert targets(primary.transferred("base-fr")) == both("motogpstream.me")


def test_refuse_that_comes_later_is_enforced_and_told(tmp_path, caplog):
    """An order that wants REFUSED while the primary runs is enforced by NXDOMAIN, and said to be wrong."""
    with serving(tmp_path) as primary:
        (primary.orders / "later.yaml").write_text(order_text(measures="{dns: refuse}"))
        primary.enforcer.reload()
        until = time.monotonic() + 20
        while not targets(primary.transferred("delta-fr")):
            assert time.monotonic() < until
        assert targets(primary.transferred("delta-fr")) == both("motogpstream.me")
    assert "order motogp: dns refuse: a policy zone cannot say REFUSED" in caplog.text


@pytest.mark.parametrize(
    ("one", "other", "newer"),
    [
        (1, 0, True),
        (0, 1, False),
        (5, 5, False),
        (0, 2**32 - 1, True),
        (2**31 - 1, 0, True),
        (2**31, 0, False),
        (100, 2**32 - 100, True),
    ],
)
def test_serials_go_round(one, other, newer):
    """RFC 1982: a serial that has gone round is later; half-way round nobody knows."""
    assert is_newer(one, other) is newer


@pytest.mark.parametrize(
    ("last", "now", "serial"),
    [
        (None, 1_800_000_000.9, 1_800_000_000),
        (1_700_000_000, 1_800_000_000.0, 1_800_000_000),
        (1_800_000_000, 1_800_000_000.5, 1_800_000_001),
        (1_900_000_000, 1_800_000_000.0, 1_900_000_001),  # a clock that was ahead
        (2**32 - 1, 2**32 - 5, 1),  # round, and past 0
        (2**32 - 5, 2**32 + 7, 7),  # in 2106
        (None, -1.0, 2**32 - 1),
        (None, 0.0, 1),
    ],
)
def test_the_next_serial_is_later_whatever_the_clock_says(last, now, serial):
    """By the clock where that is later, else one more; never 0."""
    assert next_serial(last, now) == serial
    assert last is None or is_newer(serial, last)


def test_names_are_written_in_lower_case_labels():
    """RFC 1035 §3.1, without the root."""
    assert labels("www.a-b.example") == b"\3www\3a-b\7example"


KEY_FILES = {
    "as tsig-keygen writes it": 'key "rpz" {\n\talgorithm hmac-sha256;\n\tsecret "' + SECRET + '";\n};\n',
    "two, with comments": f"# one\nkey a {{ algorithm hmac-sha512; secret {SECRET.replace('//', 'ab')}; }}; // two\n"
    f'key "b." {{ secret "{SECRET}"; /* three */ algorithm HMAC-SHA256; }};',
}


@pytest.mark.parametrize("text", KEY_FILES.values(), ids=KEY_FILES)
def test_keys_are_read_as_bind_writes_them(tmp_path, text):
    """Quotes or none, comments, any order."""
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o640)
    assert all(key.name == name for name, key in read_keys(path).items())


BAD_KEY_FILES = {
    "nothing": ("", "is no file of keys"),
    "something else": ("zone x { };", "is no file of keys"),
    "a key, and something else": (KEY_FILES["as tsig-keygen writes it"] + "zone x;", "is no file of keys"),
    "weak": ('key a { algorithm hmac-md5; secret "' + SECRET + '"; };', "algorithm hmac-md5"),
    "short": ('key a { algorithm hmac-sha256; secret "c2hvcnQ="; };', "the secret is no base64 of at least 16 octets"),
    "no base64": ('key a { algorithm hmac-sha256; secret "%%%%"; };', "the secret is no base64"),
}


@pytest.mark.parametrize(("text", "message"), BAD_KEY_FILES.values(), ids=BAD_KEY_FILES)
def test_a_wrong_file_of_keys_is_an_error(tmp_path, text, message):
    """Nothing is guessed about secrets."""
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=message):
        read_keys(path)


def test_keys_that_everybody_may_read_are_an_error(tmp_path):
    """A secret that is none."""
    path = tmp_path / "keys"
    path.write_text(KEY_FILES["as tsig-keygen writes it"])
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read the keys"):
        read_keys(path)


@pytest.mark.parametrize(
    "text", ["example.org", "127.0.0.1:53,key=other", "127.0.0.1:53,nothing=1", "127.0.0.1:99999", ""]
)
def test_what_is_no_secondary_is_an_error(text):
    """An address, and a key that there is."""
    with pytest.raises(ConfigError):
        Secondary.read(text, {KEY.name: KEY})


@pytest.mark.parametrize(("text", "suffix"), [("", ""), ("cdnblock", ".cdnblock"), ("RPZ.Internal.", ".rpz.internal")])
def test_a_suffix_is_read(text, suffix):
    """A short name, or nothing."""
    assert read_suffix(text) == suffix


@pytest.mark.parametrize("text", ["a b", ".", "a" * 61])
def test_what_is_no_suffix_is_an_error(text):
    """Or a long one, which leaves no room for names."""
    with pytest.raises(ConfigError, match="write a short name"):
        read_suffix(text)


def _stream(primary, query):
    """Yield the messages of a transfer, each with its signature checked."""
    with socket.create_connection(("127.0.0.1", primary.port), 10) as sock:
        wire = query.to_wire()
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        context, records = None, []
        while not _is_over(records):
            message = dns.message.from_wire(
                received(sock), keyring={KEY.name: KEY}, request_mac=query.mac, xfr=True, tsig_ctx=context, multi=True,
                one_rr_per_rrset=True,
            )  # fmt: skip
            context = message.tsig_ctx
            records += message.answer
            yield message
            if len(records) == 1 and query.question[0].rdtype == dns.rdatatype.IXFR:
                return


def _is_over(records):
    soas = [rrset for rrset in records if rrset.rdtype == dns.rdatatype.SOA]
    return len(soas) > 1


def _notified(sock, primary):
    """Return zone and serial of a notification that comes, itself, and from where."""
    data, sender = sock.recvfrom(4096)
    packet = dns.message.from_wire(data, keyring={KEY.name: KEY})
    assert (packet.opcode(), packet.had_tsig) == (dns.opcode.NOTIFY, True)
    assert sender == ("127.0.0.1", primary.port)
    [soa] = packet.answer
    return str(packet.question[0].name), soa[0].serial, packet, sender
