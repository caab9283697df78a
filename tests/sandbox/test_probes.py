"""Which probes are planned, from where, and how a result is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("dns", reason="the sandbox is made of mitmproxy and dnspython: cdnblock[all]")

from cdnblock.sandbox import naive_reading
from cdnblock.sandbox.probes import Channel, plan
from cdnblock.sandbox.rehearsal import Result
from cdnblock.sandbox.report import Report
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.verification.places import Missing, Place, find_places

EXAMPLES = naive_reading.read(Path(__file__).parents[2] / "examples" / "orders")
PLACES = [
    Place(label="metropolitan France", country="FR", address="90.84.144.1"),
    Place(label="Germany", country="DE", address="80.187.0.1"),
]


def test_the_default_table_knows_every_place():
    """One address each, in the country that it stands for, and one in none."""
    places, missing = find_places(open_geo_table(None))
    assert [(place.label, place.country) for place in places] == [
        ("metropolitan France", "FR"),
        ("La Réunion", "RE"),
        ("French Polynesia", "PF"),
        ("Germany", "DE"),
        ("unknown place", None),
    ]
    assert missing == []


def test_a_table_without_a_place_says_so(small_mmdb):
    """The operator's own table is asked; what it does not know is skipped with the reason."""
    places, missing = find_places(open_geo_table(small_mmdb))
    assert {place.country: place.address for place in places} == {
        "FR": "203.0.113.7",
        "RE": "192.0.2.7",
        "DE": "198.51.100.7",
        None: "100.64.0.1",
    }
    assert [place.label for place in missing] == ["French Polynesia"]
    assert "no address of PF" in missing[0].reason


@pytest.mark.parametrize(
    ("address", "subnet"), [("90.84.144.1", "90.84.144.0/24"), ("2001:db8:1:2ff::7", "2001:db8:1:200::/56")]
)
def test_a_resolver_tells_the_network_only(address, subnet):
    """RFC 7871 §11.1: /24, and /56 for IPv6."""
    assert Place(label="", country=None, address=address).subnet == subnet


def test_time_only_goes_forward_and_every_turn_is_there():
    """Starts, ends, windows, additions and liftings, each with the second before it."""
    steps = plan(EXAMPLES, PLACES)
    assert [step.at for step in steps] == sorted({step.at for step in steps})
    turns = {(probe.order, probe.turn) for step in steps for probe in step.probes}
    assert turns >= {
        ("tjp-2025-07-18-f1", "1 s before its addition starts"),
        ("tjp-2025-07-18-f1", "as its addition starts"),
        ("tjp-2025-07-18-f1", "as it is lifted"),
        ("example-live-windows", "as window 2 opens"),
        ("example-live-windows", "as window 2 closes"),
        ("tgi-2013-11-28-allostreaming", "as it ends"),
    }


def test_near_and_far_hosts_are_asked():
    """What would be blocked by an `endswith` without the dot, or by a match anywhere, is asked as well."""
    steps = plan(EXAMPLES, PLACES)
    hosts = {(probe.kind, probe.host) for step in steps for probe in step.probes if probe.order == "tjp-2025-07-18-f1"}
    assert hosts >= {
        ("named", "livetv822.me"),
        ("sub-host", "www.f1box.me"),
        ("sibling", "sibling.livetv822.me"),
        ("look-alike", "mylivetv822.me"),
        ("look-alike", "f1box.me.example"),
        ("other spelling", "F1BOX.ME."),
    }


def test_the_report_names_what_failed():
    """The table marks it, the last lines name it, the JSON lists it; the counts are right."""
    probes = [probe for step in plan(EXAMPLES, PLACES) for probe in step.probes]
    wrong = next(probe for probe in probes if probe.channel is Channel.FRONT and probe.expected == "451")
    report = Report(
        papers=EXAMPLES,
        results=[Result(probe=probe, got="200" if probe is wrong else probe.expected) for probe in probes],
        places=PLACES,
        missing=[Missing(label="La Réunion", reason="nobody there")],
        warnings=[],
        revision="sha256:0",
        geo="a table",
        seconds=1.5,
    )
    name = f"{wrong.order}: http {wrong.host} (named) from metropolitan France {wrong.turn}: expected '451', got '200'"
    lines = report.table().splitlines()
    assert sum("<-- WRONG" in line for line in lines) == 1
    assert any(f"FAILED {name}" in line for line in lines)
    assert f"{len(probes) - 1} of {len(probes)} probes got what their order says" in lines[-1]
    assert any("skipped: La Réunion: nobody there" in line for line in lines)
    told = json.loads(report.as_json())
    assert (told["verdict"], told["failed"]) == ("failed", [name])
    assert [probe["ok"] for probe in told["probes"]].count(False) == 1


def test_it_stays_at_an_instant_at_which_orders_are_in_force():
    """Now, when one is; otherwise when most are."""
    from cdnblock.sandbox.live import best_instant

    at = datetime(2025, 8, 1, tzinfo=UTC)
    assert best_instant(EXAMPLES, at) == at
    chosen = best_instant(EXAMPLES, datetime(2031, 1, 1, tzinfo=UTC))
    assert sum(naive_reading.holds(paper, chosen) for paper in EXAMPLES) == 2
