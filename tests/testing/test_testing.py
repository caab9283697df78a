"""The contract itself is on trial: each scenario passes on a sound host and fails on one that is broken its way."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import re
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import broken_edges as edges
import broken_fronts as fronts
import broken_http2 as http2
import maxminddb
import pytest

from cdnblock.errors import ConfigError
from cdnblock.testing import play as playing
from cdnblock.testing import wire
from cdnblock.testing.counting import Counted
from cdnblock.testing.places import PLACES, country_table
from cdnblock.testing.random_requests import RandomRequests
from cdnblock.testing.scenarios import Outcome, Protocol, read_scenarios
from cdnblock.testing.stage import open_stage
from cdnblock.testing.wire import Answer

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = {scenario.name: scenario for scenario in read_scenarios()}

BROKEN = [
    (edges.Suffix, "exactly these names"),
    (edges.NoSubdomains, "exactly these names"),
    (edges.AlwaysSubdomains, "exactly these names"),
    (edges.CaseSensitive, "spellings of one name"),
    (edges.PortSensitive, "spellings of one name"),
    (edges.DotSensitive, "a final dot"),
    (edges.AsciiOnly, "internationalised names"),
    (edges.Careless, "spellings that only careless parsers read"),
    (edges.NoLiterals, "hosts that are addresses"),
    (edges.HostFirst, "the absolute form names the host"),
    (edges.HostDecides, "no form of target leads around"),
    (edges.Undecided, "a Host line that parsers read differently"),
    (edges.BelievesForwardedHost, "other fields do not name the host"),
    (edges.Undecided, "white space around a Host"),
    (edges.NoOldVersion, "HTTP/1.0"),
    (edges.Smuggler, "a second request hidden in a first one's body"),
    (edges.BodyIsNext, "a refused body is no second request"),
    (edges.DropsFirst, "a client field that is to be dropped"),
    (edges.OnlyGet, "every method"),
    (edges.HeadIsEmpty, "every method"),
    (edges.OnlyGet, "methods that servers treat apart"),
    (edges.OnlyGet, "CONNECT is a request"),
    (edges.OnlyGet, "OPTIONS for the server as a whole"),
    (edges.AsksFirst, "a refused upload"),
    (edges.AsksFirst, "a client that waits for leave to send"),
    (edges.SocketsUndecided, "a WebSocket is a request"),
    (edges.NoSockets, "a WebSocket that is not covered"),
    (edges.NoSockets, "the 451 of a WebSocket"),
    (edges.TrustsEverybody, "a forged X-Forwarded-For"),
    (edges.LeftMost, "what the client wrote itself stands left"),
    (edges.LastLineLost, "what the client wrote itself stands left"),
    (edges.OnlyPlainIPv4, "addresses in many forms"),
    (edges.SkipsGarbage, "forwarded garbage"),
    (edges.BelievesRealIp, "other fields with an address"),
    (edges.NoForwarded, "Forwarded"),
    (edges.EverybodyIsFrench, "only in the territory"),
    (edges.OverseasIsFrench, "only in the territory"),
    (edges.UnknownIsAbroad, "a client of unknown location"),
    (edges.UnknownIsFrench, "a client of unknown location"),
    (edges.Late, "only while it is in force"),
    (edges.Early, "only while it is in force"),
    (edges.Early, "windows"),
    (edges.Early, "names that were added, and names that were lifted"),
    (edges.Late, "names that were added, and names that were lifted"),
    (edges.Stopped, "an order begins and ends by the clock"),
    (edges.Deaf, "an order comes, grows and lets go"),
    (edges.EnglishOnly, "the notice"),
    (edges.Storable, "the notice"),
    (edges.Anonymous, "the notice"),
    (edges.HangsUp, "a refused connection lives on"),
    (edges.NeverCloses, "closed without an answer"),
    (edges.NeverCloses, "the stricter of two orders"),
    (edges.DnsIsEverything, "a measure for another duty"),
    (edges.CdnForgotten, "caching off"),
    (edges.CdnForAll, "caching off"),
    (edges.CdnFirst, "refusal goes before caching off"),
    (edges.NoCache, "the cache is a cache"),
    (edges.CdnForgotten, "the cache is bypassed in the territory"),
    (edges.StoresInside, "the cache is bypassed in the territory"),
    (edges.CacheFirst, "the cache is bypassed in the territory"),
    (edges.CacheFirst, "no stored answer goes around a refusal"),
    (edges.NeverPurges, "what is stored goes when the measure begins"),
    (edges.PurgesAll, "what is stored goes when the measure begins"),
    (edges.NeverPurges, "what was stored meanwhile goes when the measure ends"),
    (edges.RewritesFirst, "what the client asked for decides"),
    (edges.LosesLines, "nothing changes for others"),
    (edges.ForgetsPorts, "requests arrive as they were sent"),
    (edges.CutsShort, "large bodies"),
    (edges.Collects, "bodies of unknown length"),
    (edges.NoTrailers, "trailers"),
    (edges.ClosesAlways, "a connection serves many"),
    (edges.NoLeave, "leave to send"),
    (edges.NeverCuts, "an order cuts what runs"),
    (edges.CutsAll, "an order cuts what runs"),
    (edges.NeverCuts, "an order cuts open WebSockets"),
    (edges.CutsAll, "an order cuts open WebSockets"),
    (edges.NeverCuts, "the clock cuts what runs"),
    (edges.NeverCuts, "an answer that comes too late"),
    (edges.ManyLabels, "oversized requests"),
]  # fmt: skip


BROKEN_HTTP2 = [
    (http2.ByFirst, "one connection for many hosts"),
    (http2.ByHostField, "authority against Host"),
    (http2.ClosesAll, "one stream is closed, the others live"),
    (http2.ClosesAll, "streams of one connection are cut one by one"),
]
BROKEN_IN_FRONT = [
    (fronts.first_host, "exactly one host", False),
    (fronts.server_name, "the server name is not the host", True),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """What is broken is waited for no longer than it takes to see that."""
    monkeypatch.setattr(wire, "PATIENCE", 2.0)
    monkeypatch.setattr(playing, "CUT_WITHIN", 1.5)
    monkeypatch.setattr(playing, "_FLOWS", 1.5)


def first_complaint(scenario, protocol, host, stage):
    with closing(playing.play(scenario, protocol, host, stage)) as complaints:
        return next(complaints, None)


@pytest.mark.parametrize(("kind", "name"), BROKEN, ids=[f"{kind.__name__}: {name}" for kind, name in BROKEN])
def test_a_broken_host_fails(tmp_path, kind, name):
    """Each mistake is found by the scenario that is about it."""
    scenario = SCENARIOS[name]
    with open_stage(tmp_path, [scenario]) as stage, edges.running(kind, stage) as host:
        assert first_complaint(scenario, Protocol.HTTP1, host, stage)


@pytest.mark.parametrize(("change", "name", "tls"), BROKEN_IN_FRONT, ids=[name for _, name, _ in BROKEN_IN_FRONT])
def test_a_host_that_is_broken_in_front_fails(tmp_path, change, name, tls):
    """So does what goes wrong before the edge gets it; a front that changes nothing breaks nothing."""
    scenario = SCENARIOS[name]
    with open_stage(tmp_path, [scenario]) as stage:
        with fronts.relayed(stage, change, tls=tls) as host:
            assert first_complaint(scenario, Protocol.HTTP1, host, stage)
        with fronts.relayed(stage, lambda head, _name=None: head, tls=tls) as host:
            assert first_complaint(scenario, Protocol.HTTP1, host, stage) is None


@pytest.mark.parametrize(
    ("kind", "name"), BROKEN_HTTP2, ids=[f"{kind.__name__}: {name}" for kind, name in BROKEN_HTTP2]
)
def test_a_broken_http2_host_fails(tmp_path, kind, name):
    """The mistakes that only HTTP/2 makes possible; the sound host beside makes none."""
    scenario = SCENARIOS[name]
    with open_stage(tmp_path, [scenario]) as stage, http2.speaking_http2(kind, stage) as host:
        assert first_complaint(scenario, Protocol.HTTP2, host, stage)
    (tmp_path / "sound").mkdir()
    with open_stage(tmp_path / "sound", [scenario]) as stage, http2.speaking_http2(http2.Connection, stage) as host:
        assert first_complaint(scenario, Protocol.HTTP2, host, stage) is None


def test_every_scenario_can_fail():
    """There is a broken host for each of them."""
    on_trial = {name for _, name in (*BROKEN, *BROKEN_HTTP2)} | {name for _, name, _ in BROKEN_IN_FRONT}
    assert {scenario.name for scenario in SCENARIOS.values() if scenario.steps} == on_trial


@pytest.mark.parametrize(
    ("counts", "complaint"),
    [
        ({"answer": 1}, ""),
        ({"answer": 2}, "1 requests were refused or ended, 0 more may have been; counted were 2"),
        ({}, "1 requests were refused or ended, 0 more may have been; counted were 0"),
        ({"answer": 1, "uncached": 1}, "0 requests were kept out of caches, counted were 1"),
    ],
    ids=["once", "twice", "never", "what was not done"],
)
def test_a_host_that_counts_wrongly_is_found(counts, complaint):
    """Each enforcement has to be counted, once, and nothing else."""
    came = Counted()
    came.take(Answer(status=451), Outcome.REFUSED)
    came.take(Answer(status=200), Outcome.SERVED)
    assert "; ".join(came.differing({}, counts)) == complaint


def test_a_host_that_counts_nothing_fails(tmp_path):
    """The scenarios look at what a host says of itself, where it says it."""
    scenario = next(
        scenario for scenario in SCENARIOS.values()
        if not scenario.needs and any(step.expect.outcome is Outcome.REFUSED for step in scenario.play_for("x"))
    )  # fmt: skip
    with open_stage(tmp_path, [scenario]) as stage, edges.running(edges.Sound, stage) as host:
        assert first_complaint(scenario, Protocol.HTTP1, host, stage) is None
        silent = dataclasses.replace(host, counted=dict)
        assert "counted were 0" in first_complaint(scenario, Protocol.HTTP1, silent, stage)


def test_a_host_that_rewrites_soundly_passes(tmp_path):
    """All other scenarios have the sandbox's edge for that."""
    scenario = SCENARIOS["what the client asked for decides"]
    with open_stage(tmp_path, [scenario]) as stage, edges.running(edges.Rewriting, stage) as host:
        assert first_complaint(scenario, Protocol.HTTP1, host, stage) is None


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (edges.SidesSometimes, "not refused: 200"),
        (edges.EverybodyIsFrench, "not served: 451"),
        (edges.LeftMost, "not "),
        (edges.NeverCloses, "not closed: 451"),
        (edges.CdnForgotten, "CDN-Cache-Control []"),
        (edges.AsksFirst, "the site heard of it"),
        (edges.FailsSometimes, "the host failed: 500"),
        (edges.HangsSometimes, "HangError"),
        (edges.DropsSometimes, "not served: 0"),
    ],
)
def test_random_requests_find_what_is_broken(tmp_path, kind, complaint):
    """A wrong side, a failure, a hang, a dropped connection; each complaint shows the seed and the request."""
    with open_stage(tmp_path, [SCENARIOS["orders for random requests"]]) as stage, edges.running(kind, stage) as host:
        wrong = RandomRequests(stage, host, {}).run(Protocol.HTTP1, 400, at_once=8)
    assert any(complaint in line for line in wrong), wrong
    assert wrong[-1].startswith("seed 20250328")


def test_random_requests_are_the_same_every_time(tmp_path):
    """The same seed draws the same requests, for both sides and for nobody at all."""
    with open_stage(tmp_path, [SCENARIOS["orders for random requests"]]) as stage:
        asking = RandomRequests(stage, None, {})
        drawn = [[*asking.draw(random.Random(seed), 2000, "x", Protocol.HTTP1)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    kinds = Counter("garbage" if item.name is None else " ".join(sorted(item.wanted)) for item in drawn[0])
    assert set(kinds) == {"", "cdn", "proxy", "cdn proxy", "garbage"}
    assert min(kinds.values()) > 20


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{scenario: a, proves: b, source: c, steps: [], stepps: []}", "unknown: stepps"),
        ("{scenario: a, proves: b, steps: []}", "without 'source'"),
        ("{scenario: a, proves: b, source: c, steps: [{ask: h, expect: refusd}]}", "'refusd' is none of refused"),
        ("{scenario: a, proves: b, source: c, steps: [{ask: h, expext: refused}]}", "unknown: expext"),
        ("{scenario: a, proves: b, source: c, steps: [{ask: h, from: paris}]}", "no place: paris"),
        ("{scenario: a, proves: b, source: c, needs: [magic], steps: []}", "'magic' is none of"),
        ("{scenario: a, proves: b, source: c, steps: [{says: nothing}]}", "a step does one thing"),
        (
            "{scenario: a, proves: b, source: c, steps: [{ask: h, expect: {outcome: served, body-hass: x}}]}",
            "body_hass",
        ),
        ("{scenario: a, proves: b, source: c, steps: []}\n---\n{scenario: a, proves: b, source: c, steps: []}", "two"),
    ],
)
def test_a_scenario_with_a_typo_is_refused(tmp_path, text, complaint):
    """A scenario that is not understood must not pass for one that holds."""
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        read_scenarios(tmp_path)


A_STUB = """
from contextlib import contextmanager
from cdnblock.testing import AdapterContract, Host, Need

class TestStub(AdapterContract):
    cannot = {Need.HTTP2: "it is a stub"}
    random_requests = 10

    @contextmanager
    def serve(self, stage):
        yield Host(address=("127.0.0.1", 9), reload=lambda: None)
"""


def test_what_a_host_cannot_do_is_skipped_with_its_reason(tmp_path):
    """And nothing else: where nobody listens, everything that is not declared fails."""
    (tmp_path / "test_stub.py").write_text(A_STUB, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "spellings or random", "-rs", "-p", "no:cacheprovider", "test_stub.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert re.search(r"=+ 6 failed, 6 skipped, ", done.stdout), done.stdout
    assert re.search(r"^SKIPPED \[6\] \S+: cannot: http2: it is a stub$", done.stdout, re.MULTILINE)


def test_the_country_table_is_read_by_others_too():
    """The contract writes MMDB by itself; the format's own library reads the same from it as we do."""
    with maxminddb.open_database(io.BytesIO(country_table()), maxminddb.MODE_FD) as table:
        told = {
            place: (table.get(address) or {}).get("country", {}).get("iso_code") for place, address in PLACES.items()
        }
    assert told == {
        "france": "FR", "france-6": "FR", "reunion": "RE", "guadeloupe": "GP", "germany": "DE", "germany-6": "DE",
        "nowhere": None,
    }  # fmt: skip
