"""What fails in a dry run refuses nobody: neither a broken decision nor a broken option of a query."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from order_texts import order_text
from small_table import FRANCE

from cdnblock.adapters._dns_front.queries import FORWARD, QueryJudge
from cdnblock.adapters._running_exchanges import RunningExchanges
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import Action, HttpGate

sys.path.insert(0, str(Path(__file__).parent / "adapters"))

DRY, BLOCKED, BOTH = "dry.example", "blocked.example", "both.example"


@pytest.fixture
def enforcer(tmp_path, small_mmdb):
    (tmp_path / "dry.yaml").write_text(order_text(id="dry", names=f"[{DRY}, {BOTH}]") + "mode: report\n")
    (tmp_path / "real.yaml").write_text(order_text(id="real", names=f"[{BLOCKED}, {BOTH}]"))
    with Enforcer(tmp_path, geo=small_mmdb, follow=False) as enforcer:
        yield enforcer


def broken(*_arguments, **_more):
    raise MemoryError("injected")


@pytest.mark.parametrize(
    ("hosts", "action"),
    [
        ([DRY], Action.PASS),
        ([f"www.{DRY}", "other.example"], Action.PASS),
        ([BLOCKED], Action.ANSWER),
        ([BOTH], Action.ANSWER),
        ([DRY, BLOCKED], Action.ANSWER),
        ([DRY, "no host"], Action.ANSWER),
    ],
)
def test_a_decision_that_fails_closes_only_what_is_enforced(enforcer, monkeypatch, hosts, action):
    """503 where an order that is carried out names the host; what is only reported is served."""
    gate = HttpGate(enforcer)
    monkeypatch.setattr(Enforcer, "decide", broken)
    verdict = gate.judge(method="GET", hosts=hosts, peer=FRANCE, headers=())
    assert (verdict.action, gate.failures) == (action, 1)
    assert gate.cuts(hosts, FRANCE) is gate.uncached(hosts, FRANCE) is (action is Action.ANSWER)


@pytest.mark.parametrize(("name", "forwarded"), [(DRY, True), (BLOCKED, False), (BOTH, False)])
def test_a_query_that_cannot_be_decided_goes_its_way(enforcer, monkeypatch, name, forwarded):
    """SERVFAIL only for names of orders that are carried out; an EDNS option that is wrong is for the upstream to tell."""
    pytest.importorskip("dns", reason="the tests of the DNS front need dnspython, of the extra `test`")
    from dns_clients import opt, packet

    judge = QueryJudge(enforcer, trusted_forwarders=["127.0.0.1"])
    family_99 = struct.pack("!HHHBB", 8, 4, 99, 0, 0)
    assert (judge.judge(packet(name, counts=(1, 0, 0, 1), rest=opt(family_99)), "127.0.0.1") is FORWARD) is forwarded
    monkeypatch.setattr(Enforcer, "decide_query_name", broken)
    assert (judge.judge(packet(name), FRANCE) is FORWARD) is forwarded
    assert judge.failures >= 1


@pytest.mark.parametrize(("name", "is_kept"), [(DRY, True), (BLOCKED, False), (BOTH, False)])
def test_an_answer_for_a_forwarder_is_the_upstreams_own(enforcer, name, is_kept):
    """Its scope (RFC 7871 §7.3.1) is narrowed for names that are refused to others, and not in a dry run."""
    pytest.importorskip("dns", reason="the tests of the DNS front need dnspython, of the extra `test`")
    from dns_clients import opt, packet

    judge = QueryJudge(enforcer, trusted_forwarders=["127.0.0.1"])
    network = struct.pack("!HHHBB", 8, 7, 1, 24, 0) + bytes((203, 0, 113))
    query = packet(name, counts=(1, 0, 0, 1), rest=opt(network))
    answer = query[:2] + b"\x81\x80" + query[4:]
    assert (judge.amend(query, answer) == answer) is is_kept


@pytest.mark.parametrize("report_only", [True, False])
def test_what_cannot_be_judged_while_it_runs_goes_on_in_a_dry_run(tmp_path, small_mmdb, report_only):
    """It is cut where an order is carried out, and never where none is."""
    (tmp_path / "real.yaml").write_text(order_text(id="real", names=f"[{BLOCKED}]"))
    told = []
    with Enforcer(tmp_path, geo=small_mmdb, follow=False, report_only=report_only) as enforcer:
        running = RunningExchanges(HttpGate(enforcer), broken, told.append, "test")
        running.by_key["stream"] = "stream"
        running.look()
    assert len(told) == (0 if report_only else 1)
