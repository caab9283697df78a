"""What hosts tell of their doings: once, by the name that was meant, and never in a request's way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from order_texts import order_text
from small_table import FRANCE, GERMANY

from cdnblock import Enforcer
from cdnblock.adapters._dns_front.queries import FORWARD, QueryJudge
from cdnblock.http_gate import HttpGate
from cdnblock.http_noting import HttpNotes
from cdnblock.noting import Notes
from cdnblock.orders.model import Measure

sys.path.insert(0, str(Path(__file__).parent / "adapters"))

PROXY, CDN, CLOSED, DRY = "blocked.example", "uncached.example", "closed.example", "dry.example"
ORDERS = {
    PROXY: "{dns: refuse, cdn: disable, proxy: terminate}",
    CDN: "{cdn: disable}",
    CLOSED: "{proxy: close}",
    DRY: "{dns: refuse, cdn: disable, proxy: terminate}\nmode: report",
}


@pytest.fixture
def enforcer(tmp_path, small_mmdb):
    for name, measures in ORDERS.items():
        (tmp_path / f"{name}.yaml").write_text(
            order_text(id=name.partition(".")[0], names=f"[{name}]", measures=measures)
        )
    with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
        yield enforcer


@pytest.mark.parametrize(
    ("hosts", "client", "expected"),
    [
        ([f"www.{PROXY}"], FRANCE, {"answer": 1}),
        ([PROXY], GERMANY, {}),
        ([CLOSED], FRANCE, {"close": 1}),
        ([CDN], FRANCE, {"uncached": 1}),
        ([DRY], FRANCE, {"would": 1}),
        ([DRY], GERMANY, {}),
        (["other.example"], FRANCE, {}),
        (["no host name"], FRANCE, {}),
        ([], FRANCE, {}),
        ([CDN, PROXY], FRANCE, {"answer": 1}),
        ([DRY, CDN], FRANCE, {"uncached": 1}),
        (["other.example", DRY], FRANCE, {"would": 1}),
    ],
)
def test_a_verdict_is_told_by_what_was_done(enforcer, hosts, client, expected):
    """One measure of one request, the strictest; nothing for what was let through, and no 400 is an order's."""
    gate = HttpGate(enforcer)
    verdict = gate.judge(method="GET", hosts=hosts, peer=client, headers=())
    HttpNotes(gate, "test").acted(hosts, verdict)
    assert {action: count for (_, _, action), count in enforcer.tally.totals.items()} == expected


def test_the_name_that_was_meant_is_told(enforcer):
    """Of a request that carries two names, the one by which it was refused."""
    enforcer.tally.recording = True
    gate = HttpGate(enforcer)
    hosts = ["other.example", f"www.{PROXY}"]
    HttpNotes(gate, "test").acted(hosts, gate.judge(method="GET", hosts=hosts, peer=FRANCE, headers=()))
    (hit,) = enforcer.tally.drain()
    assert (hit.host, hit.name, hit.order, hit.client) == (f"www.{PROXY}", PROXY, "blocked", FRANCE)


def test_a_dry_run_is_told_by_the_measure_that_would_have_come_first(enforcer):
    """What would be refused over HTTP has no caching to switch off, and its DNS refusal is the resolver's to tell."""
    gate = HttpGate(enforcer)
    HttpNotes(gate, "test").acted([DRY], gate.judge(method="GET", hosts=[DRY], peer=FRANCE, headers=()))
    assert enforcer.tally.totals == {("test", "proxy", "would"): 1}


def broken(*_arguments, **_more):
    raise MemoryError("injected")


@pytest.mark.parametrize("host", [PROXY, CLOSED, CDN, DRY])
def test_what_cannot_be_noted_is_in_nobodys_way(enforcer, caplog, host):
    """It is counted, logged once a minute, and that is all."""
    enforcer.tally.note = broken
    gate = HttpGate(enforcer)
    notes = HttpNotes(gate, "test")
    for _ in range(3):
        notes.acted([host], gate.judge(method="GET", hosts=[host], peer=FRANCE, headers=()))
    assert notes.notes.failures == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "injected" in caplog.text


def test_a_query_is_refused_all_the_same(enforcer, caplog):
    """The judge of DNS queries goes on when what it refuses cannot be counted."""
    pytest.importorskip("dns", reason="the tests of the DNS front need dnspython, of the extra `test`")
    from dns_clients import packet

    enforcer.tally.note = broken
    judge = QueryJudge(enforcer)
    for name in (PROXY, f"www.{PROXY}", PROXY):
        answer = judge.judge(packet(name), FRANCE)
        assert isinstance(answer, bytes)
        assert answer[3] & 15 == 5
    assert judge.judge(packet(DRY), FRANCE) is FORWARD
    assert (judge.refused, judge.failures) == (3, 0)
    assert "could not be noted" in caplog.text


def test_a_dry_run_of_dns_is_told_and_forwarded(enforcer):
    """By the name that was asked for."""
    pytest.importorskip("dns", reason="the tests of the DNS front need dnspython, of the extra `test`")
    from dns_clients import packet

    enforcer.tally.recording = True
    judge = QueryJudge(enforcer)
    assert judge.judge(packet(f"WwW.{DRY}"), FRANCE) is FORWARD
    assert judge.judge(packet(f"wWw.{DRY}"), FRANCE) is FORWARD
    assert judge.judge(packet(DRY), GERMANY) is FORWARD
    (hit,) = enforcer.tally.drain()
    assert (hit.host, hit.name, hit.action, hit.times) == (f"www.{DRY}", DRY, "would", 2)


def test_decisions_may_be_told_without_a_gate(enforcer):
    """For hosts that decide by themselves: a cut tells no dry run a second time."""
    notes = Notes(enforcer.tally, "own")
    decision = enforcer.decide(DRY, FRANCE)
    assert Measure.PROXY in decision.would
    notes.http(decision, DRY, FRANCE, None)
    notes.http(decision, DRY, FRANCE, None, dry_run=False)
    assert enforcer.tally.totals == {("own", "proxy", "would"): 1}


def test_a_dry_run_is_told_whatever_was_told_by_decisions_that_are_gone(tmp_path, small_mmdb):
    """It comes and goes beside an order for the same name, and nobody records: a new decision may have the id of an old one."""
    text = order_text(id="real", names="[one.example]", measures="{dns: refuse, cdn: disable}")
    (tmp_path / "real.yaml").write_text(text)
    dry, query = tmp_path / "dry.yaml", b"\0\7\1\0\0\1" + bytes(6) + b"\3one\7example\0\0\1\0\1"
    with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
        judge, gate = QueryJudge(enforcer), HttpGate(enforcer)
        notes = HttpNotes(gate, "edge")
        for is_dry in [False, True] * 50:
            dry.unlink(missing_ok=True)
            if is_dry:
                dry.write_text(text.replace("id: real", "id: dry") + "mode: report\n")
            enforcer.reload()
            for _ in range(3):
                judge.judge(query, FRANCE)
                verdict = gate.judge(method="GET", hosts=["one.example"], peer=FRANCE, headers=())
                notes.acted(["one.example"], verdict)
        assert enforcer.tally.totals == {
            ("dns_server", "dns", "refused"): 300,
            ("dns_server", "dns", "would"): 150,
            ("edge", "cdn", "uncached"): 300,
            ("edge", "cdn", "would"): 150,
        }
