"""Orders and decisions built in Python, as `RuleSet.decide` would give them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from cdnblock.matching.decision import Decision, Reason
from cdnblock.orders.model import VARIANTS, Addition, Measure, Name, Order, Territory

PARIS = ZoneInfo("Europe/Paris")

ORDER = Order(
    id="tjp-2025-03-28-motogp",
    title="Broadcaster v. Edge (MotoGP 2025)",
    court="Tribunal judiciaire de Paris",
    case="RG 25/00000",
    decided=date(2025, 3, 28),
    legal_basis="Code du sport, art. L. 333-10",
    claimant="Société d'édition Exemple",
    territory=Territory(countries=frozenset({"FR", "RE", "NC"})),
    measures={Measure.DNS: "refuse", Measure.CDN: "disable", Measure.PROXY: "terminate"},
    names=(Name(name="stream.example"),),
    until=date(2025, 11, 16),
    publication="https://lumendatabase.org/notices/00000000",
    contact="legal@edge.example",
)
ADDITION = Addition(
    notice="2025-118",
    authority="ARCOM",
    notified=datetime(2025, 5, 1, 23, 30, tzinfo=ZoneInfo("UTC")),
    names=(Name(name="added.example"),),
)
END_OF_16_NOVEMBER = datetime(2025, 11, 17, tzinfo=PARIS)


def _reason(name="stream.example", *, addition=None, until=END_OF_16_NOVEMBER, **changes):
    return Reason(order=replace(ORDER, **changes), name=name, addition=addition, until=until)


def _decision(*reasons, country="FR"):
    reasons = reasons or (_reason(),)
    asked = {measure for reason in reasons for measure in reason.order.measures}
    strictest = {
        measure: min(
            (reason.order.measures[measure] for reason in reasons if measure in reason.order.measures),
            key=VARIANTS[measure].index,
        )
        for measure in asked
    }
    return Decision(measures=strictest, reasons=reasons, country=country, told_by="test")


@pytest.fixture(scope="session")
def order():
    return ORDER


@pytest.fixture(scope="session")
def addition():
    return ADDITION


@pytest.fixture(scope="session")
def reason():
    """Build a reason: `reason(name, addition=…, until=…, **changes of the order)`."""
    return _reason


@pytest.fixture(scope="session")
def decision():
    """Build a decision from reasons: `decision(reason(...), country="FR")`."""
    return _decision
