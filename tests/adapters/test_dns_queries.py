"""What becomes of a DNS query, octets in and octets out; dnspython says what the octets mean."""

from __future__ import annotations

import gc
import logging
import random
import sys
from datetime import UTC, datetime
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_texts import order_text

pytest.importorskip("dns", reason="dnspython is the oracle of these tests (extra `dns`)")

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode

from cdnblock.adapters._dns_front.memos import ANSWERS, CLIENTS, LONGEST_NAME, NAMES
from cdnblock.adapters._dns_front.queries import FORWARD, QueryJudge
from cdnblock.audit import tally
from cdnblock.audit.hits import What
from cdnblock.audit.tally import MOST_CELLS, Tally
from cdnblock.enforcer import Enforcer
from cdnblock.measures import dns_refusal

FRANCE, GERMANY, NOWHERE = "203.0.113.7", "198.51.100.7", "100.64.0.7"
FRENCH_SUBNET, GERMAN_SUBNET = "203.0.113.0", "198.51.100.0"
FORWARDER = "192.0.2.53"  # in RE, where no order of these tests holds
ORDERS = {
    "refused": order_text(id="refused", names="[refused.example, büro.example]", measures="{dns: refuse}"),
    "gone": order_text(id="gone", names="[gone.example]", measures="{dns: nxdomain}"),
    "empty": order_text(id="empty", names="[empty.example]", measures="{dns: nodata}"),
    "cache": order_text(id="cache", names="[cache.example]", measures="{cdn: disable}"),
}
CENSORED = 16
REFUSED = ("dns_server", "dns", "refused")  # as the tally counts


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory, small_mmdb):
    folder = tmp_path_factory.mktemp("orders")
    for name, text in ORDERS.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    with Enforcer(folder, geo=small_mmdb, follow=False) as running:
        yield running


@pytest.fixture
def judge(enforcer):
    return QueryJudge(enforcer, trusted_forwarders=["192.0.2.0/24"])


def ask(name="www.refused.example", kind="A", **options):
    return dns.message.make_query(name, kind, **options).to_wire()


def packet(name=b"\3www\7refused\7example\0", *, flags=0x0100, counts=(1, 0, 0, 0), rest=b"", kind=1, qclass=1):
    return pack("!HHHHHH", 7, flags, *counts) + name + pack("!HH", kind, qclass) + rest


def opt(options=b"", *, size=1232, ttl=0):
    return b"\0" + pack("!HHIH", 41, size, ttl, len(options)) + options


def subnet(address, source=24):
    return dns.edns.ECSOption(address, source)


def outcome(verdict):
    """The answer's rcode, `forward` or `silence`."""
    if verdict is FORWARD:
        return "forward"
    return "silence" if verdict is None else dns.rcode.to_text(dns.message.from_wire(verdict).rcode())


@pytest.mark.parametrize(
    ("name", "peer", "expected"),
    [
        ("refused.example", FRANCE, "REFUSED"),
        ("www.refused.example", FRANCE, "REFUSED"),
        ("a.b.c.d.refused.example", FRANCE, "REFUSED"),
        ("WWW.ReFuSeD.eXaMpLe", FRANCE, "REFUSED"),
        ("xn--bro-hoa.example", FRANCE, "REFUSED"),
        ("gone.example", FRANCE, "NXDOMAIN"),
        ("empty.example", FRANCE, "NOERROR"),
        ("refused.example", GERMANY, "forward"),
        ("refused.example", NOWHERE, "forward"),
        ("refused.example", "2001:db8::1", "REFUSED"),
        ("refused.example", "::ffff:203.0.113.7", "REFUSED"),
        ("refused.example", "not an address", "forward"),
        ("refused.example", "", "forward"),
        ("cache.example", FRANCE, "forward"),
        ("myrefused.example", FRANCE, "forward"),
        ("refused.example.net", FRANCE, "forward"),
        ("example", FRANCE, "forward"),
        (".", FRANCE, "forward"),
    ],
)
def test_who_gets_what(judge, name, peer, expected):
    """Twice, since the second time everything is remembered."""
    for _ in range(2):
        assert outcome(judge.judge(ask(name), peer)) == expected


@pytest.mark.parametrize("options", [{}, {"use_edns": 0}, {"use_edns": 0, "want_dnssec": True, "payload": 4096}])
@pytest.mark.parametrize("flags", [0, dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.CD | dns.flags.AD])
@pytest.mark.parametrize("kind", ["A", "HTTPS", "ANY"])
def test_a_remembered_refusal_is_the_refusal_of_this_query(judge, options, flags, kind):
    """Id, question, flags and OPT are the query's own: the same as without any memory, also at the third time."""
    for number in (0, 1, 0xFFFF):
        for name in ("www.refused.example", "other.gone.example", "X.empty.example"):
            message = dns.message.make_query(name, kind, id=number, flags=flags, **options)
            query = message.to_wire()
            answer = judge.judge(query, FRANCE, limit=1232)
            fresh = QueryJudge(judge._enforcer).judge(query, FRANCE, limit=1232)
            assert answer == fresh
            told = dns.message.from_wire(answer)
            assert message.is_response(told)
            assert told.flags & (dns.flags.RD | dns.flags.CD) == flags & (dns.flags.RD | dns.flags.CD)
            assert not told.flags & (dns.flags.AD | dns.flags.AA)
            assert told.flags & dns.flags.RA
            codes = [int(option.code) for option in told.options if option.otype == dns.edns.OptionType.EDE]
            assert codes == ([CENSORED] if options else [])


@pytest.mark.parametrize(
    ("peer", "address", "source", "expected"),
    [
        (FORWARDER, FRENCH_SUBNET, 24, "REFUSED"),
        (FORWARDER, GERMAN_SUBNET, 24, "forward"),
        (FORWARDER, FRENCH_SUBNET, 0, "forward"),  # the client declines, so it is the forwarder, in RE
        (FRANCE, GERMAN_SUBNET, 24, "REFUSED"),  # anybody can write a subnet into a query
        (GERMANY, FRENCH_SUBNET, 24, "forward"),
    ],
)
def test_a_client_subnet_counts_from_trusted_forwarders_only(judge, peer, address, source, expected):
    """RFC 7871 §7.1.2 and §11.3; whatever the variant, the answer is REFUSED, for it is cached for all (§7.4)."""
    for name in ("refused.example", "gone.example", "empty.example"):
        query = ask(name, use_edns=0, options=[subnet(address if source else "0.0.0.0", source)])
        for _ in range(2):
            verdict = judge.judge(query, peer)
            assert outcome(verdict) == expected
            if verdict is not FORWARD:
                [echo] = [o for o in dns.message.from_wire(verdict).options if o.otype == dns.edns.OptionType.ECS]
                assert (echo.srclen, echo.scopelen) == (source, 0)


def test_a_forwarder_without_a_subnet_is_the_client_itself(judge):
    """The order does not hold in RE, where this forwarder is; and nobody's earlier subnet sticks to it."""
    assert outcome(judge.judge(ask(use_edns=0, options=[subnet(FRENCH_SUBNET)]), FORWARDER)) == "REFUSED"
    assert outcome(judge.judge(ask(use_edns=0), FORWARDER)) == "forward"
    assert outcome(judge.judge(ask(), FORWARDER)) == "forward"


@pytest.mark.parametrize(
    ("query", "named", "unnamed"),
    [
        ("header only", "FORMERR", "FORMERR"),
        ("no question", "FORMERR", "FORMERR"),
        ("two questions", "FORMERR", "FORMERR"),
        ("pointer", "FORMERR", "FORMERR"),
        ("pointer behind a label", "FORMERR", "FORMERR"),
        ("no class", "FORMERR", "FORMERR"),
        ("name of 256 octets", "FORMERR", "FORMERR"),
        ("label of 64 octets", "FORMERR", "FORMERR"),
        ("notify", "NOTIMP", "NOTIMP"),
        ("update", "NOTIMP", "NOTIMP"),
        ("an answer", "silence", "silence"),
        ("11 octets", "silence", "silence"),
        ("EDNS version 1", "BADVERS", "forward"),
        ("two OPT", "FORMERR", "forward"),
        ("subnet cut", "FORMERR", "forward"),
        ("record cut", "FORMERR", "forward"),
        ("trailing octets", "REFUSED", "forward"),
        ("class CH", "REFUSED", "forward"),
    ],
)
def test_broken_and_unusual_queries(judge, query, named, unnamed):
    """Ours to object to is what names no question or a refused one; all else is for the upstream to say."""
    for name, expected in ((b"\7refused\7example\0", named), (b"\4open\7example\0", unnamed)):
        wire = {
            "header only": packet(name)[:12],
            "no question": pack("!HHHHHH", 7, 0x100, 0, 0, 0, 0),
            "two questions": packet(name, counts=(2, 0, 0, 0), rest=name + b"\0\1\0\1"),
            "pointer": packet(b"\xc0\x0c"),
            "pointer behind a label": packet(name[:-1] + b"\xc0\x0c"),
            "no class": packet(name)[:-2],
            "name of 256 octets": packet(b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3e" + b"a" * 62 + b"\0"),
            "label of 64 octets": packet(b"\x40" + b"a" * 64 + name),
            "notify": packet(name, flags=4 << 11),
            "update": packet(name, flags=5 << 11),
            "an answer": packet(name, flags=0x8100),
            "11 octets": packet(name)[:11],
            "EDNS version 1": packet(name, counts=(1, 0, 0, 1), rest=opt(ttl=1 << 16)),
            "two OPT": packet(name, counts=(1, 0, 0, 2), rest=opt() + opt()),
            "subnet cut": packet(name, counts=(1, 0, 0, 1), rest=opt(b"\0\x08\0\x02\0\x01")),
            "record cut": packet(name, counts=(1, 0, 0, 1), rest=opt()[:-1]),
            "trailing octets": packet(name, rest=b"more"),
            "class CH": packet(name, qclass=3),
        }[query]  # fmt: skip
        for _ in range(2):
            assert outcome(judge.judge(wire, FRANCE)) == expected


def test_what_is_wrong_with_another_countrys_query_is_for_the_upstream(judge):
    """As if nothing were there; but of a trusted forwarder's broken option nobody knows whose query it is."""
    query = packet(counts=(1, 0, 0, 1), rest=opt(ttl=1 << 16))
    assert outcome(judge.judge(query, GERMANY)) == "forward"
    assert outcome(judge.judge(query, FORWARDER)) == "BADVERS"


@pytest.mark.parametrize(
    "name",
    [
        b"\x03a\0b\7refused\7example\0",  # an octet 0 inside a label
        b"\x0fwww\0refused\7exa\0",
        b"\1\0\7refused\7example\0",
        b"\x03\xff\xfe\x80\7refused\7example\0",
        b"\3a.b\7refused\7example\0",
        b"\4a\\bc\7refused\7example\0",
    ],
)
def test_labels_may_hold_any_octet(judge, name):
    """RFC 2181 §11: below a refused name they are refused too, and an octet 0 does not end a name early."""
    expected = "REFUSED" if name.endswith(b"\7refused\7example\0") else "forward"
    for _ in range(2):
        assert outcome(judge.judge(packet(name), FRANCE)) == expected
    posing = packet(b"\x0frefused\\.example\0"[:16] + b"\0")
    assert outcome(judge.judge(posing, FRANCE)) == "forward"


def test_a_dot_inside_a_label_is_no_end_of_a_label(judge):
    """`www.refused` as one label is another name than the two."""
    assert outcome(judge.judge(packet(b"\x0fwww.refused.exa\7example\0"), FRANCE)) == "forward"
    assert outcome(judge.judge(packet(b"\x0frefused.example\0"), FRANCE)) == "forward"


@pytest.mark.parametrize(
    ("limit", "payload", "room"), [(1232, None, 512), (1232, 512, 512), (1232, 4096, 1232), (600, 4096, 600), (None, 512, 65535)]
)  # fmt: skip
def test_an_answer_fits_the_clients_room_and_ours(enforcer, limit, payload, room):
    """A long contact and a long name: what does not fit is left out, and TC is set; a stream has room for all."""
    judge = QueryJudge(enforcer, contact="c" * 300)
    name = ".".join(["a" * 63] * 3 + ["b" * 40, "gone", "example"])
    query = ask(name, use_edns=0 if payload else -1, payload=payload or 0)
    for _ in range(2):
        answer = judge.judge(query, FRANCE, limit=limit)
        told = dns.message.from_wire(answer)
        assert len(answer) <= room
        assert outcome(answer) == "NXDOMAIN"
        assert bool(told.flags & dns.flags.TC) is (payload is not None and room < 600)


def test_the_clock_and_new_orders_count_at_once(tmp_path, small_mmdb):
    """Nothing that is remembered outlives the order that it came of."""
    now = [datetime(2025, 5, 1, tzinfo=UTC).timestamp()]
    (tmp_path / "a.yaml").write_text(order_text(until="2025-05-31"), encoding="utf-8")
    with Enforcer(tmp_path, geo=small_mmdb, follow=False, clock=lambda: now[0]) as enforcer:
        judge = QueryJudge(enforcer)
        named, other = ask("motogpstream.me"), ask("second.example")
        assert [outcome(judge.judge(query, FRANCE)) for query in (named, other)] == ["REFUSED", "forward"]
        (tmp_path / "a.yaml").write_text(
            order_text(until="2025-05-31", names="[motogpstream.me, second.example]"), encoding="utf-8"
        )
        enforcer.reload()
        assert [outcome(judge.judge(query, FRANCE)) for query in (named, other)] == ["REFUSED", "REFUSED"]
        now[0] = datetime(2025, 6, 1, tzinfo=UTC).timestamp()
        assert [outcome(judge.judge(query, FRANCE)) for query in (named, other)] == ["forward", "forward"]


NESTED = {
    "a": order_text(id="a", names="[one.example, two.example, {name: www.three.example, subdomains: false}]"),
    "b": order_text(id="b", names="[www.one.example, three.example]", measures="{dns: nxdomain}", territory="[FR, RE]"),
    "c": order_text(id="c", names="[example.net]", measures="{dns: nodata}")
    + "additions:\n  - {notice: N1, authority: ARCOM, notified: 2025-05-01T12:00, names: [deep.www.one.example]}\n",
    "d": order_text(id="d", names="[two.example, four.example]")
    + "lifted:\n  - {at: 2025-05-01T00:00:00, names: [four.example]}\n",
}


def test_names_of_which_the_same_is_said_are_refused_alike(tmp_path, small_mmdb):
    """Orders that overlap, add and lift: whichever name of a kind came first, each is refused as on its own."""
    for name, text in NESTED.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    tails = ["one.example", "two.example", "three.example", "four.example", "example.net", "example", "five.example"]
    names = [f"{head}{tail}" for tail in tails for head in ("", "www.", "x.www.", "deep.www.", "y.deep.www.", "my")]
    with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
        for seed in range(5):
            judge = QueryJudge(enforcer)
            random.Random(seed).shuffle(names)
            for name in names:
                query = ask(name, use_edns=0)
                for peer in (FRANCE, GERMANY, "192.0.2.7"):
                    decision = enforcer.decide_query_name(name, peer)
                    refused = "dns" in decision.measures
                    expected = dns_refusal.answer(query, decision, max_size=1232) if refused else FORWARD
                    assert judge.judge(query, peer, limit=1232) == expected, name
            assert len(judge._names._first) < 20


def test_rules_that_change_while_a_query_is_judged(tmp_path, small_mmdb):
    """Another thread may swap them at any step: never is a name refused because of one that was like it before."""

    def rules_of(name, names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(order_text(names=names), encoding="utf-8")
        return Enforcer(tmp_path / name, geo=small_mmdb, follow=False)

    with rules_of("before", "[one.example, two.example]") as before, rules_of("after", "[one.example]") as after:

        class Swapping:
            rules, decide_query_name = before.rules, staticmethod(before.decide_query_name)
            tally, clock, place_of = before.tally, before.clock, staticmethod(before.place_of)

        judge = QueryJudge(Swapping())
        assert outcome(judge.judge(ask("one.example"), FRANCE)) == "REFUSED"
        assert outcome(judge.judge(ask("two.example"), FRANCE)) == "REFUSED"
        Swapping.decide_query_name = staticmethod(after.decide_query_name)  # and `rules` was read just before
        assert outcome(judge.judge(ask("two.example"), FRANCE)) == "forward"
        assert outcome(judge.judge(ask("one.example"), FRANCE)) == "REFUSED"


class CountedElsewhere:
    """An enforcer whose refusals are counted in a tally of their own."""

    def __init__(self, enforcer):
        self.clock, self.place_of, self.decide_query_name = (
            enforcer.clock,
            enforcer.place_of,
            enforcer.decide_query_name,
        )
        self.rules, self.tally = enforcer.rules, Tally()


def test_what_was_given_before_is_given_as_long_as_it_is_right(tmp_path, small_mmdb, monkeypatch):
    """Through starts and ends, other orders, a clock that goes back, turns of the tally: as if asked for the first time."""
    monkeypatch.setattr(tally, "_LINGER", 0.0)
    options = {"trusted_forwarders": [FORWARDER], "contact": f"https://edge.example/{'x' * 200}"}
    began, day, dice = datetime(2025, 6, 1, tzinfo=UTC).timestamp(), 86_400.0, random.Random(7)
    now = [began]
    for number, (names, *days) in enumerate(
        [("[one.example, two.example]", 0, 4), ("[two.example]", 2, 6), ("[three.example]", -9, 99)]
    ):
        begins, ends = (datetime.fromtimestamp(began + day * each, UTC).isoformat() for each in days)
        order = order_text(id=f"o{number}", names=names, begins=begins, until=ends, measures="{dns: refuse}")
        (tmp_path / f"{number}.yaml").write_text(order)
    late, later = tmp_path / "late.yaml", order_text(id="late", names="[four.example]", measures="{dns: nxdomain}")
    queries = [
        ask(f"{head}{tail}.example", use_edns=edns, payload=size)
        for head in ("", "www.", "WWW.", f"{'x' * 60}." * 3)
        for tail in ("one", "two", "three", "four", "five")
        for edns, size in ((False, 0), (0, 512), (0, 4096))
    ]
    peers, limits = [FRANCE, GERMANY, "203.0.113.8", NOWHERE, FORWARDER], [None, 1232, 1232, 600, 300, 80]
    with Enforcer(tmp_path, geo=small_mmdb, follow=False, clock=lambda: now[0]) as enforcer:
        enforcer.tally.recording = True
        judge, refused, hits = QueryJudge(enforcer, **options), 0, []
        again = []
        for number in range(6_000):
            if not number % 97:
                now[0] = began + day * dice.uniform(-1, 8)
            if not number % 401:
                late.unlink(missing_ok=True)
                if dice.random() < 0.5:
                    late.write_text(later)
                enforcer.reload()
            if not number % 331:
                hits += enforcer.tally.drain(turn=True)
            if not number % 401:
                dice.shuffle(queries)
                again = [(query, FRANCE, None) for query in queries if b"four" in query] * 3
            query, peer, limit = (
                again.pop() if again else (dice.choice(queries), dice.choice(peers), dice.choice(limits))
            )
            query = dice.randbytes(2) + query[2:]
            fresh = QueryJudge(CountedElsewhere(enforcer), **options)
            expected = fresh.judge(query, peer, limit=limit)
            assert judge.judge(query, peer, limit=limit) == expected
            refused += expected is not FORWARD
        assert judge.refused == enforcer.tally.totals[REFUSED] == refused
        assert refused > 1_000
        # Where two orders refuse a name, each is told: three.example and four.example have but one.
        hits += enforcer.tally.drain(turn=True)
        assert sum(hit.times for hit in hits) >= refused


class Failing:
    """An enforcer with a fault: in the decision, or already in finding out whether a name is named."""

    def __init__(self, enforcer, *, in_rules):
        self._enforcer, self._in_rules = enforcer, in_rules
        self.tally, self.clock, self.place_of = enforcer.tally, enforcer.clock, enforcer.place_of

    @property
    def rules(self):
        if self._in_rules:
            raise RuntimeError("injected")
        return self._enforcer.rules

    def decide_query_name(self, name, client):
        raise RuntimeError("injected")


@pytest.mark.parametrize(
    ("fails_open", "in_rules", "named", "unnamed"),
    [
        (False, False, "SERVFAIL", "forward"),
        (True, False, "forward", "forward"),
        (False, True, "SERVFAIL", "SERVFAIL"),
        (True, True, "forward", "forward"),
    ],
)
def test_a_decision_that_fails(enforcer, caplog, fails_open, in_rules, named, unnamed):
    """SERVFAIL for what the orders name, unless the operator wants it open; counted each time and logged once."""
    judge = QueryJudge(Failing(enforcer, in_rules=in_rules), fails_open=fails_open)
    with caplog.at_level(logging.ERROR):
        assert [outcome(judge.judge(ask("refused.example"), FRANCE)) for _ in range(3)] == [named] * 3
        assert outcome(judge.judge(ask("open.example"), FRANCE)) == unnamed
    assert judge.failures == (4 if in_rules else 3)
    assert len(caplog.records) == 1
    assert outcome(judge.judge(b"\0" * 11, FRANCE)) == "silence"
    assert outcome(judge.judge(packet(flags=0x8000), FRANCE)) == "silence"


def test_everything_is_counted(enforcer):
    """By outcome, each query once."""
    judge = QueryJudge(enforcer)
    for query in (ask(), ask(), ask("open.example"), packet(b"\xc0\x0c"), packet(flags=0x8000), b""):
        judge.judge(query, FRANCE)
    counted = (judge.refused, judge.forwarded, judge.objected, judge.silent, judge.failures)
    assert counted == (2, 1, 1, 2, 0)


def test_random_names_clients_and_options_fill_no_memory(enforcer):
    """70,000 names of 20 and of 200 octets, clients and cookies: what is remembered has an end."""
    judge = QueryJudge(enforcer)
    dice = random.Random(1)
    long = b"\x3f" + b"x" * 63 + b"\x3f" + b"y" * 63
    for number in range(70_000):
        label = b"%06d" % number
        name = (
            (long if number % 2 else b"") + b"\6" + label + (b"\7refused" if number % 3 else b"\4open") + b"\7example\0"
        )
        cookie = pack("!HH", 10, 8) + dice.randbytes(8)
        query = packet(name, counts=(1, 0, 0, 1), rest=opt(cookie))
        assert judge.judge(query, f"203.0.113.{number % 256}", limit=1232) is not None
    assert max(map(len, judge._names)) <= LONGEST_NAME == 128
    assert len(judge._names) <= NAMES
    assert len(judge._clients) <= CLIENTS
    assert len(judge._shapes) <= 4_096
    assert sum(len(shape.canned) for shape in judge._shapes.values()) <= 4_096
    assert sum(map(sys.getsizeof, judge._names)) < 8_000_000
    assert len(judge._notes.refusals.cells) <= MOST_CELLS
    assert len(judge._given.of_peer) <= CLIENTS


def test_refusals_that_are_given_again_and_again_fill_no_memory(enforcer):
    """Each of 40,000 names three times: what is remembered has an end."""
    judge = QueryJudge(enforcer)
    for number in range(120_000):
        query = packet(b"%06drefusedexample\0" % (number // 3))
        assert judge.judge(query, f"203.0.113.{number % 256}", limit=1232) is not None
        if not number % 5_000:
            assert (
                sum(len(answers) for answers in {id(a): a for a in judge._given.of_peer.values()}.values()) <= ANSWERS
            )
    assert judge.refused == 120_000


def test_what_was_given_keeps_nothing_alive_that_was_counted_long_ago(tmp_path, small_mmdb, monkeypatch):
    """A hundred names in each turn of the tally, and one that only this turn repeats: what turns counted goes with them."""
    monkeypatch.setattr(tally, "_LINGER", 0.0)
    (tmp_path / "a.yaml").write_text(order_text(names=f"[{', '.join(f'n{i}.example' for i in range(100))}]"))
    with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
        enforcer.tally.recording, enforcer.tally.rules = True, lambda: enforcer.rules
        judge = QueryJudge(enforcer)
        for turn in range(20):
            names = [f"n{number}.example" for number in range(100)] + [f"x{turn}.n5.example"] * 3
            assert [outcome(judge.judge(ask(name), FRANCE)) for name in names] == ["REFUSED"] * 103
            enforcer.tally.drain(turn=True)
        enforcer.tally.drain()
        gc.collect()
        kept = [held for held in gc.get_objects() if type(held) is What]
        assert enforcer.tally.totals[REFUSED] == judge.refused == 20 * 103
    assert len(kept) < 300


def test_a_refusal_is_kept_for_the_time_that_it_was_decided_for(tmp_path, small_mmdb):
    """The order ends, and another thread asks for its name, just between a refusal and its being kept."""
    ends = datetime(2025, 6, 1, tzinfo=UTC)
    (tmp_path / "a.yaml").write_text(order_text(names="[one.example]", until=ends.isoformat()))
    now = [ends.timestamp() - 1]

    class Meanwhile(Enforcer):
        after = None

        def place_of(self, client):
            if self.after is not None:
                now[0] = self.after
                self.decide_query_name("one.example", client)
            return super().place_of(client)

    with Meanwhile(tmp_path, geo=small_mmdb, follow=False, clock=lambda: now[0]) as enforcer:
        judge = QueryJudge(enforcer)
        assert outcome(judge.judge(ask("one.example"), FRANCE)) == "REFUSED"
        enforcer.after = ends.timestamp() + 1
        assert outcome(judge.judge(ask("one.example", id=7), FRANCE)) == "REFUSED"
        assert outcome(judge.judge(ask("one.example", id=7), FRANCE)) == "forward"


def read_by_dnspython(query):
    """The name, and whether there is OPT, as dnspython reads them; None for what it does not take for a message."""
    try:
        message = dns.message.from_wire(query, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return None
    if message.flags & dns.flags.QR or message.opcode() != 0 or len(message.question) != 1:
        return None
    return message


def has_pointer(query):
    """Whether the question's name has a compression pointer (RFC 1035 §4.1.4)."""
    offset = 12
    while 0 < query[offset] < 0xC0:
        offset += query[offset] + 1
    return query[offset] >= 0xC0


def check_against_dnspython(judge, query):
    """Whatever the octets: no exception, the bounds hold, and where dnspython reads a query we read the same one."""
    verdict = judge.judge(query, FRANCE, limit=1232)
    message = read_by_dnspython(query)
    if len(query) < 12 or query[2] & 0x80:
        assert verdict is None
        return verdict
    if isinstance(verdict, bytes):
        assert len(verdict) <= 1232
        told = dns.message.from_wire(verdict)
        assert told.id == int.from_bytes(query[:2], "big")
        assert told.flags & dns.flags.QR
        assert not told.answer
    if message is not None and has_pointer(query):
        assert outcome(verdict) == "FORMERR"  # dnspython follows it into the header; there is no name to point at
    elif message is not None and message.edns <= 0:
        covered = any(
            message.question[0].name.is_subdomain(dns.name.from_text(name))
            for name in ("refused.example.", "gone.example.", "empty.example.", "xn--bro-hoa.example.")
        )
        assert (verdict is not FORWARD) is covered, query
        if covered and outcome(verdict) != "FORMERR":
            assert told.question == message.question
    return verdict


@settings(max_examples=400, deadline=None)
@given(
    labels=st.lists(st.binary(min_size=1, max_size=20), max_size=4),
    covered=st.booleans(),
    options=st.lists(st.tuples(st.sampled_from([3, 8, 10, 12, 15]), st.binary(max_size=24)), max_size=3),
    kind=st.integers(0, 65535),
)
def test_any_labels_and_options_are_read_as_dnspython_reads_them(enforcer, labels, covered, options, kind):
    """Names of any octets, above a refused name or not, with any options."""
    name = b"".join(bytes([len(label)]) + label for label in labels)
    name += b"\7Refused\7example\0" if covered else b"\0"
    encoded = b"".join(pack("!HH", code, len(data)) + data for code, data in options)
    query = packet(name, counts=(1, 0, 0, 1), rest=opt(encoded), kind=kind)
    verdict = check_against_dnspython(QueryJudge(enforcer), query)
    assert (verdict is FORWARD) is not covered


def test_mutated_queries_are_read_as_dnspython_reads_them(enforcer):
    """10,000 seeded mutations, by one judge that remembers all of them."""
    judge = QueryJudge(enforcer)
    dice = random.Random(5)
    seeds = [
        ask(use_edns=0, want_dnssec=True, options=[subnet(FRENCH_SUBNET)]),
        ask("gone.example", "HTTPS"),
        ask("open.example", "ANY", use_edns=0, payload=512),
        ask("a.b.c.refused.example"),
        packet(counts=(1, 0, 0, 2), rest=b"\xc0\x0c" + pack("!HHIH", 1, 1, 0, 4) + b"abcd" + opt()),
    ]
    outcomes = set()
    counted = enforcer.tally.totals.get(REFUSED, 0)
    for _ in range(10_000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data)) if data else 0
            match dice.randrange(4):
                case 0 if data:
                    data[at] ^= 1 << dice.randrange(8)
                case 1 if data:
                    data[at] = dice.choice([0, 1, 7, 0x3F, 0x40, 0xC0, 0xFF])
                case 2:
                    data[at:at] = dice.randbytes(dice.randint(1, 3))
                case _:
                    del data[at : at + dice.randint(1, 3)]
        outcomes.add(outcome(check_against_dnspython(judge, bytes(data))))
    assert outcomes >= {"silence", "forward", "FORMERR", "NOTIMP", "REFUSED", "NXDOMAIN", "BADVERS"}
    assert enforcer.tally.totals[REFUSED] - counted == judge.refused > 500


def answer_with(query, *, scope=None, use_edns=True):
    """An upstream's answer to a query: with OPT or not, with a client subnet in it or not."""
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message, recursion_available=True)
    response.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.1"))
    if not use_edns:
        response.use_edns(-1)
    elif scope is not None:
        [option] = [o for o in message.options if o.otype == dns.edns.OptionType.ECS]
        response.use_edns(0, options=[dns.edns.ECSOption(option.address, option.srclen, scope)])
    else:
        response.use_edns(0, options=[])
    return response.to_wire()


@pytest.mark.parametrize(
    ("given_scope", "use_edns", "scope"), [(None, True, 24), (None, False, 24), (0, True, 24), (16, True, 24), (32, True, 32)]
)  # fmt: skip
def test_the_answer_for_one_subnet_is_not_kept_for_the_others(judge, given_scope, use_edns, scope):
    """A forwarder would hand the German client's answer from its cache to the French one (RFC 7871 §7.3.1)."""
    query = ask("refused.example", use_edns=0, options=[subnet(GERMAN_SUBNET)])
    amended = judge.amend(query, answer_with(query, scope=given_scope, use_edns=use_edns))
    told = dns.message.from_wire(amended)
    [option] = told.options
    assert (option.address, option.srclen, option.scopelen) == (GERMAN_SUBNET, 24, scope)
    assert told.answer[0][0].address == "192.0.2.1"


def test_an_answer_that_has_no_room_for_its_subnet_is_cut(judge):
    """65,535 octets are all that a stream carries."""
    query = ask("refused.example", use_edns=0, options=[subnet(GERMAN_SUBNET)])
    answer = answer_with(query)
    full = answer + b"\0" * (65_535 - len(answer))
    told = dns.message.from_wire(judge.amend(query, full))
    assert told.flags & dns.flags.TC
    assert not told.answer


def test_other_answers_go_as_they_came(enforcer, judge):
    """Of names that no order names, without a subnet, of a client that declines; and all when nobody is trusted."""
    for query in (
        ask("open.example", use_edns=0, options=[subnet(GERMAN_SUBNET)]),
        ask("refused.example", use_edns=0),
        ask("refused.example"),
        ask("refused.example", use_edns=0, options=[subnet("0.0.0.0", 0)]),
    ):
        answer = answer_with(query)
        assert judge.amend(query, answer) == answer
    broken = answer_with(ask("refused.example"))[:-3]
    assert judge.amend(ask("refused.example", use_edns=0, options=[subnet(GERMAN_SUBNET)]), broken) == broken
    assert QueryJudge(enforcer).amend is None
