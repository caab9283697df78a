"""Counting on the hot path: nothing is lost, nothing grows without bounds, names are the right ones."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest
from trails import PROXY, decision_about, enforce, rules_of

from cdnblock.audit import tally as tallies
from cdnblock.audit.hits import Hit, text_of
from cdnblock.audit.tally import Tally
from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure

AT = datetime(2026, 11, 22, tzinfo=UTC)


def recording(rules=None):
    tally = Tally()
    tally.recording = True
    tally.rules = lambda: rules
    return tally


def note(tally, decision, host, client="90.84.144.1", **more):
    given = {"measures": PROXY, "action": "answer", "adapter": "http"} | more
    tally.note(decision, host, client, **given)


def counted(hits):
    return sorted((hit.name, hit.host, hit.times) for hit in hits)


def test_repeats_are_counted():
    """One hit for each order and measure, with how often, and whose the first was."""
    tally = recording()
    enforce(tally, decision_about(), times=1000)
    (hit,) = tally.drain()
    assert (hit.order, hit.name, hit.host, hit.measure, hit.variant) == (
        "motogp", "motogpstream.me", "www.motogpstream.me", "proxy", "terminate",
    )  # fmt: skip
    assert (hit.country, hit.client, hit.action, hit.times) == ("FR", "90.84.144.1", "answer", 1000)
    assert hit.first <= hit.last
    assert tally.drain() == []


def test_what_came_since_is_told_once():
    """New groups can be taken by themselves; the others wait for their turn."""
    tally, decision = recording(), decision_about()
    enforce(tally, decision, times=3)
    assert [hit.times for hit in tally.drain(only_new=True)] == [3]
    enforce(tally, decision, times=4)
    assert tally.drain(only_new=True) == []
    assert [hit.times for hit in tally.drain()] == [4]


def test_several_measures_are_several_hits():
    """A request that was refused for one and changed for another counts for both."""
    tally, decision = recording(), decision_about()
    note(tally, decision, "www.motogpstream.me", measures=(Measure.PROXY, Measure.CDN))
    assert sorted((hit.measure, hit.variant) for hit in tally.drain()) == [("cdn", "disable"), ("proxy", "terminate")]
    assert dict(tally.totals) == {("http", "proxy", "answer"): 1, ("http", "cdn", "answer"): 1}


@pytest.mark.parametrize("turn", [False, True], ids=["in the same minute", "in the last turn"])
def test_a_name_is_still_known_when_other_orders_have_come_into_force(turn):
    """What was enforced just before a reload is told after it, by the name that it was enforced for."""
    before = rules_of("one.example", "two.example", "three.example")
    tally, host = recording(before), "www.two.example"
    decision = before.decide(host, country="FR", at=AT)
    note(tally, decision, host)
    assert counted(tally.drain(only_new=True)) == [("two.example", host, 1)]
    note(tally, decision, host)
    note(tally, decision, "three.example")
    tally.rules = lambda: rules_of("new.example")
    assert counted(tally.drain(turn=turn)) == [("three.example", "three.example", 1), ("two.example", host, 1)]


def test_totals_never_fall():
    """Whatever is drained and turned, and also without anybody who drains."""
    for tally in (recording(), Tally()):
        decision = decision_about()
        for number in range(1, 6):
            enforce(tally, decision, times=10)
            assert tally.totals["aiohttp_middleware", "proxy", "answer"] == number * 10
            tally.drain(turn=number % 2 == 0)
            assert tally.totals["aiohttp_middleware", "proxy", "answer"] == number * 10


def test_a_hit_travels_as_json():
    """Processes tell each other what they counted."""
    tally = recording()
    enforce(tally, decision_about())
    (hit,) = tally.drain()
    assert Hit(*json.loads(json.dumps(hit))) == hit


def test_many_threads_lose_nothing():
    """Eight threads count while one drains and turns."""
    tally, decision = recording(), decision_about()
    hits, going = [], threading.Event()

    def count():
        for _ in range(20_000):
            note(tally, decision, "www.motogpstream.me")

    def drain():
        while not going.is_set():
            hits.extend(tally.drain(turn=True))
            going.wait(0.003)

    threads = [threading.Thread(target=count) for _ in range(8)]
    drainer = threading.Thread(target=drain)
    for thread in (*threads, drainer):
        thread.start()
    for thread in threads:
        thread.join()
    going.set()
    drainer.join()
    for _ in range(2):
        hits += tally.drain(turn=True)
    assert sum(hit.times for hit in hits) == 160_000
    assert tally.totals["http", "proxy", "answer"] == 160_000


def test_whoever_looked_before_a_turn_may_count_after_it():
    """A thread that is put aside between its look and its count loses nothing, although the minute ends twice."""
    tally, decision = recording(), decision_about()
    note(tally, decision, "www.motogpstream.me")
    (cell,) = tally._cells.values()
    tally.drain(turn=True)
    tally.drain(turn=True)
    cell[tallies.COUNT] += 1
    assert [hit.times for hit in tally.drain()] == [1]
    assert tally.totals["http", "proxy", "answer"] == 2


def test_random_hosts_below_one_name_are_one_group():
    """They take no room from other names, and are counted for the right one."""
    tally, decision = recording(), decision_about()
    for number in range(50_000):
        note(tally, decision, f"r{number}.motogpstream.me")
    other = decision_about("www.other.example", "other.example")
    note(tally, other, "www.other.example")
    hits = tally.drain()
    assert sum(hit.times for hit in hits if hit.name == "motogpstream.me") == 50_000
    assert len(hits) <= tallies.MOST_HOSTS + 2
    assert counted(hit for hit in hits if hit.host == "www.other.example") == [
        ("other.example", "www.other.example", 1)
    ]


def test_a_flood_of_names_is_bounded(monkeypatch):
    """Beyond so many names the others of an order and country are counted together, and how many they are at least."""
    monkeypatch.setattr(tallies, "MOST_CELLS", 100)
    names = [f"n{number}.example" for number in range(500)]
    rules, tally = rules_of(*names), recording()
    for host in names:
        for _ in range(3):
            note(tally, rules.decide(host, country="FR", at=AT), host)
    hits = tally.drain()
    assert sum(hit.times for hit in hits) == 1500
    assert len(hits) == 101
    (fold,) = [hit for hit in hits if hit.names is not None]
    assert (fold.name, fold.host, fold.times, fold.names, fold.order) == (None, None, 1200, 400, "motogp")


def test_no_memory_is_kept_without_a_drainer(monkeypatch):
    """Without a trail there are totals, whatever hosts come."""
    monkeypatch.setattr(tallies, "MOST_CELLS", 50)
    tally, decision = Tally(), decision_about()
    for number in range(2_000):
        note(tally, decision, f"r{number}.motogpstream.me")
    assert tally.totals["http", "proxy", "answer"] == 2_000
    assert len(tally._cells) <= 50
    assert len(tally._turn._all) == 1


def test_a_decision_for_many_names_is_told_by_each_ones_own():
    """A DNS judge has one decision for all names of which the same is said; a record tells the name that was meant."""
    rules = rules_of("first.example", "second.example", "third.example")
    tally = recording(rules)
    decision = rules.decide("first.example", country="FR", at=AT, told_by="t")
    for wire in (b"\x05first\x07example\0", b"\x06second\x07example\0", b"\x03www\x05third\x07example\0"):
        note(tally, decision, wire, measures=(Measure.DNS,), action="refused", adapter="dns")
    assert counted(tally.drain()) == [
        ("first.example", "first.example", 1), ("second.example", "second.example", 1),
        ("third.example", "www.third.example", 1),
    ]  # fmt: skip


def test_a_name_that_cannot_be_told_is_none():
    """Where the rules are others by now, no name is better than a wrong one."""
    rules = rules_of("first.example", "second.example")
    tally = recording(rules_of("elsewhere.example"))
    note(tally, rules.decide("first.example", country="FR", at=AT), "second.example")
    assert counted(tally.drain()) == [(None, "second.example", 1)]


def test_reports_are_counted_as_would():
    """What is only reported has its own orders and variants."""
    import dataclasses

    decision = decision_about()
    reported = dataclasses.replace(
        decision, measures={}, reasons=(), would=decision.measures, would_reasons=decision.reasons
    )
    tally = recording()
    note(tally, reported, "www.motogpstream.me", action="would")
    (hit,) = tally.drain()
    assert (hit.order, hit.variant, hit.action) == ("motogp", "terminate", "would")


HOSTS = {
    "none": None, "empty": "", "octets": b"\xff\xfe", "lone surrogate": "\udc80.example", "long": "x" * 1_000_000,
    "long octets": b"x" * 1_000_000, "nul": b"\0", "wire rubbish": b"\x3fx\0", "list": ["a"], "number": 7,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_no_host_raises(host):
    """Whatever a host is, it is counted, and takes little room."""
    tally = recording(rules_of("motogpstream.me"))
    for _ in range(3):
        note(tally, decision_about(), host)
        note(tally, Decision(measures={}), host)
    assert sum(tally.totals.values()) == 6
    assert all(len(hit.host or "") <= 300 for hit in tally.drain())


def test_a_host_is_told_in_its_canonical_form():
    """However it came: as text, as octets of a field, or as it stands in a packet."""
    for host in ("WWW.MotoGPstream.me.", b"www.motogpstream.me:8443", b"\x03www\x0cmotogpstream\x02me\0"):
        assert text_of(host) == "www.motogpstream.me"
