"""The contract of resolvers holds for a sound one, and every scenario of it fails for one that is broken."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from cdnblock.matching.decision import Decision
from cdnblock.matching.lookup import Uncovered
from cdnblock.measures.dns_message import questions
from cdnblock.measures.dns_refusal import answer
from cdnblock.orders.model import Measure
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing import DnsContract, DnsHost
from cdnblock.testing import dns_contract as contract
from cdnblock.testing.dns_stage import CLIENTS, COUNTRY_OF
from cdnblock.testing.dns_upstream import serving, upstream

COUNTRY_AT = {address: COUNTRY_OF[place] for place, address in CLIENTS.items()}


class Resolver:
    """A sound one: the library's decision and refusal, and for all else upstream's answer."""

    def __init__(self, stage):
        self.stage = stage
        self.reload()

    def reload(self):
        self.rules = load_orders(self.stage.orders)

    def decide(self, name, country):
        found = self.rules.find_query_name(name)
        if isinstance(found, Uncovered):
            return found.decision
        return found.decide(country, None, datetime.now(UTC).timestamp())

    def __call__(self, octets, client):
        decision = self.decide(questions(octets)[0].name, COUNTRY_AT.get(client))
        if Measure.DNS in decision.measures:
            return answer(octets, decision)
        return upstream(octets, client)


class Blind(Resolver):
    """Refuses nothing."""

    def decide(self, name, country):
        return Decision(measures={})


class Zealous(Resolver):
    """Refuses everything, as the first order says."""

    def decide(self, name, country):
        order = next(iter(self.rules.orders.values()))
        covered = next(item.name for item in order.names)
        return self.rules.decide(covered, country="FR", at=datetime.now(UTC))


@contextmanager
def served(kind, stage):
    resolver = kind(stage)
    with serving(resolver) as address, serving() as plain:
        yield DnsHost(address=address, plain=plain, reload=resolver.reload)


class TestSound(DnsContract):
    """A resolver that asks the library keeps the contract, in every variant."""

    @contextmanager
    def serve(self, stage):
        with served(Resolver, stage) as host:
            yield host


@pytest.fixture(scope="module", params=[Blind, Zealous])
def broken(request, tmp_path_factory):
    orders = {
        order_id: keys for scenario in contract._SCENARIOS for order_id, keys in scenario.orders("nxdomain").items()
    }
    with (
        contract.open_dns_stage(tmp_path_factory.mktemp("broken"), orders) as stage,
        served(request.param, stage) as host,
    ):
        yield request.param, stage, host


NO_REFUSAL = {"dns-refusals: a measure for another duty", "dns-uncovered: names that no order names"}
"""Scenarios that end well for who refuses nothing."""
NOTHING_ELSE = {"dns-refusals: the delegation's own type"}
"""And for who refuses everything."""


@pytest.mark.parametrize("scenario", contract._CASES, ids=map(str, contract._CASES))
def test_every_scenario_can_fail(scenario, broken):
    """A resolver that refuses nothing, or everything, is found out by each scenario that is about that."""
    kind, stage, host = broken
    wrong = [*contract._play(scenario, "nxdomain", host, stage, set())]
    assert bool(wrong) != (str(scenario) in {Blind: NO_REFUSAL, Zealous: NOTHING_ELSE}[kind])


def test_random_queries_find_what_is_broken(broken):
    """Names that no scenario has thought of do not help either of them."""
    _, stage, host = broken
    with pytest.raises(pytest.fail.Exception, match="seed 20250328: "):
        TestSound().test_random_queries(("nxdomain", stage, host))


def test_a_comparison_finds_what_is_refused_for_nothing(broken):
    """Who refuses everything is unlike the plain engine; who refuses nothing is like it."""
    kind, stage, host = broken
    if kind is Blind:
        TestSound().test_others_are_answered_as_by_the_plain_engine(("nxdomain", stage, host))
        return
    with pytest.raises(pytest.fail.Exception, match="and without our configuration"):
        TestSound().test_others_are_answered_as_by_the_plain_engine(("nxdomain", stage, host))
