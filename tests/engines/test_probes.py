"""What is held against an engine, and what is only said of it; asked over real sockets, of edges that are broken on purpose."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "testing"))

import broken_edges as edges
from broken_edges import running

from cdnblock import exporters
from cdnblock.engines._blame import Blame, Own, blame_of
from cdnblock.engines._engine import NotTakenError
from cdnblock.engines._probes import Prober
from cdnblock.matching.decision import Decision
from cdnblock.measures.cache_disable import NO_STORE
from cdnblock.measures.notice.html_page import CONTENT_SECURITY_POLICY
from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.stage import open_stage, put_orders
from cdnblock.verification.answers import DnsAnswer, HttpAnswer, Nothing
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.dns_packets import Reading
from cdnblock.verification.expecting import Promises
from cdnblock.verification.findings import Finding
from cdnblock.verification.probes import Form, Kind, Probe, Way
from cdnblock.verification.servers import Edge

PAIR = tuple((name.lower(), value) for name, value in NO_STORE)
NOTICE = HttpAnswer(status=451, headers=(*PAIR, ("content-security-policy", CONTENT_SECURITY_POLICY)))
CLOSED, PAGE = HttpAnswer(status=0), HttpAnswer(status=200)
TERMINATED, CLOSING, UNCACHED = {Measure.PROXY: "terminate"}, {Measure.PROXY: "close"}, {Measure.CDN: "disable"}


def dns(rcode, answers=0, codes=()):
    return DnsAnswer(reading=Reading(rcode=rcode, answers=answers, codes=codes))


BLAMED = [
    # what is decided, what is done about the name anywhere, what came: whose doing it is
    (TERMINATED, (), PAGE, Blame.ENGINE),
    (TERMINATED, (), HttpAnswer(status=451), Blame.ENGINE),
    (TERMINATED, (), Nothing(why="no answer within 2 s"), Blame.ENGINE),
    (TERMINATED, (), NOTICE, Blame.WORDS),
    (CLOSING, ("close",), NOTICE, Blame.ENGINE),
    (UNCACHED, ("uncached",), PAGE, Blame.ENGINE),
    (UNCACHED, ("uncached",), HttpAnswer(status=200, headers=(*PAIR, ("expires", "0"))), Blame.ENGINE),
    (UNCACHED, ("uncached",), HttpAnswer(status=200, headers=(*PAIR, ("x-cache", "hit"))), Blame.DOUBT),
    (UNCACHED, ("uncached",), HttpAnswer(status=451), Blame.SITE),
    ({}, ("terminate",), NOTICE, Blame.DOUBT),
    ({}, ("terminate",), HttpAnswer(status=451, headers=PAIR), Blame.SITE),
    ({}, ("terminate",), CLOSED, Blame.SITE),
    ({}, ("close",), CLOSED, Blame.DOUBT),
    ({}, ("terminate",), HttpAnswer(status=200, headers=PAIR), Blame.SITE),
    ({}, ("uncached",), HttpAnswer(status=200, headers=PAIR), Blame.DOUBT),
    ({}, ("terminate",), Nothing(why="no answer within 2 s"), Blame.SITE),
    ({Measure.DNS: "refuse"}, (), dns(0, answers=1), Blame.ENGINE),
    ({Measure.DNS: "refuse"}, (), dns(5), Blame.WORDS),
    ({}, (), dns(5), Blame.SITE),
    ({}, (), dns(5, codes=(16,)), Blame.DOUBT),
]


@pytest.mark.parametrize("row", range(len(BLAMED)))
def test_whose_doing_it_is(row):
    """Only what no site can bring about is the engine's; what looks like ours is in doubt."""
    measures, actions, answer, expected = BLAMED[row]
    way = Way.UDP if isinstance(answer, DnsAnswer) else Way.HTTP1
    client = Client(label="here", country=None, address=None)
    finding = Finding(
        probe=Probe(name="a.example", kind=Kind.NAMED, client=client, way=way), decision=Decision(measures=measures),
        expected="", came="", answer=answer,
    )  # fmt: skip
    assert blame_of(finding, Promises(), actions) is expected


@pytest.fixture
def stage(tmp_path):
    with open_stage(tmp_path, ()) as stage:
        put_orders(stage.orders, {"one": {"names": ["one.example", "two.example"], "measures": {"proxy": "terminate"}}})
        yield stage


def required(kind, stage, *, was_nothing=False, own=None):
    """Ask an edge for what the orders change, or for what they leave as it was; return what is wrong."""
    table, rules, at = open_geo_table(stage.geo), load_orders(stage.orders), datetime.now(UTC)
    exporter, options = exporters.load("haproxy"), exporters.Options(folder="/etc/cdnblock")
    plan = exporters.export(exporter, rules, table, at, options).plan
    before = exporters.export(exporter, rules, table, datetime(2020, 1, 1, tzinfo=UTC), options).plan
    with running(kind, stage) as host:
        edge = Edge(host=host.address[0], port=host.address[1])
        prober = Prober(server=edge, exporter=exporter, table=table, told=Told.X_FORWARDED_FOR, own=own, links=True)

        def decide(name, country):
            return rules.decide(name, country=country, at=at)

        if was_nothing:
            return prober.require(before, plan, decide, 0.1)
        return prober.look(plan, decide, 0.1)


def test_what_is_as_decided_is_nothing_to_tell(stage):
    """Inside and outside, with words and with who blocks."""
    assert required(edges.Sound, stage, was_nothing=True) == []
    assert required(edges.Sound, stage) == []


def test_a_refusal_in_other_words_is_told_and_takes_nothing_back(stage):
    """A 451 that does not say who blocks refuses all the same."""
    for was_nothing in (True, False):
        wrong = required(edges.Anonymous, stage, was_nothing=was_nothing)
        assert any("does not say who blocks" in told for told in wrong), wrong
        assert all("in other words" in told for told in wrong), wrong


@pytest.mark.parametrize("was_nothing", [True, False], ids=["changed", "as it was"])
def test_an_engine_that_lets_covered_clients_through_is_wrong_itself(stage, was_nothing):
    """All names get past it."""
    with pytest.raises(NotTakenError, match=r"answers otherwise than decided: .* expected 451, got 200"):
        required(edges.Undecided, stage, was_nothing=was_nothing)


def test_what_may_be_a_copy_of_ours_is_told(stage):
    """Outside the territory as well, where nothing else can tell: it takes back neither this order nor another."""
    for was_nothing in (True, False):
        wrong = required(edges.EverybodyIsFrench, stage, was_nothing=was_nothing)
        assert any("imitates" in told for told in wrong), wrong


def test_what_the_engine_itself_says_abroad_is_proven(stage):
    """The same edge, asked in a form that no site sees."""
    with pytest.raises(NotTakenError, match=r"expected served, got 451"):
        required(edges.EverybodyIsFrench, stage, was_nothing=True, own=Own(form=Form(method="OPTIONS"), free=200))
