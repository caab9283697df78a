"""Orders that are only reported: decided and told, and nothing is refused for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from cdnblock.errors import OrderError
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Measure, Mode, Name, Order, Territory

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)
NAME = "motogpstream.me"


def order(**changes) -> Order:
    values = {
        "id": "motogp", "court": "a court", "decided": date(2025, 3, 28), "legal_basis": "a law", "claimant": "SECP",
        "territory": Territory(countries=frozenset({"FR"})), "begins": datetime(2025, 4, 3, 9), "until": date(2025, 11, 16),
        "measures": {Measure.DNS: "refuse", Measure.PROXY: "terminate"}, "names": (Name(name=NAME),),
    }  # fmt: skip
    return Order(**(values | changes))


NAMES = f"of a court names {NAME}, until 2025-11-17T00:00:00+01:00."
REPORTED = order(mode=Mode.REPORT)


def decide(*orders, host=f"www.{NAME}", country="FR", at=NOON):
    return compile_orders(orders).decide(host, country=country, at=at)


def test_a_reported_order_asks_for_nothing_and_says_what_it_would():
    """No measure, no reason; but what would be, by which order and name, until when."""
    decision = decide(REPORTED)
    assert not decision
    assert (dict(decision.measures), decision.reasons, decision.not_applied) == ({}, (), ())
    assert decision.would == {Measure.DNS: "refuse", Measure.PROXY: "terminate"}
    assert [(reason.id, reason.name) for reason in decision.would_reasons] == [("motogp", NAME)]
    assert decision.would_reasons[0].until.isoformat() == "2025-11-17T00:00:00+01:00"
    assert decision.changes_at == decision.would_reasons[0].until
    assert decision.orders == (REPORTED,)


def test_an_enforced_order_would_nothing():
    """What is done is not told as what would be."""
    decision = decide(order())
    assert decision
    assert (dict(decision.would), decision.would_reasons) == ({}, ())


def test_each_order_has_its_own_mode():
    """Of two orders on one name the one is done, the other told; the stricter variant of the other changes nothing."""
    other = order(id="other", measures={Measure.PROXY: "close", Measure.CDN: "disable"}, mode=Mode.REPORT)
    decision = decide(order(), other)
    assert decision.measures == {Measure.DNS: "refuse", Measure.PROXY: "terminate"}
    assert decision.would == {Measure.CDN: "disable", Measure.PROXY: "close"}
    assert [reason.id for reason in decision.reasons] == ["motogp"]
    assert [reason.id for reason in decision.would_reasons] == ["other"]
    assert [reason.id for reason in decision.because(Measure.PROXY)] == ["motogp"]


def test_a_reported_order_that_does_not_apply_says_why():
    """Outside its territory or time it would do nothing either."""
    decision = decide(REPORTED, country="DE")
    assert (dict(decision.would), [item.why.value for item in decision.not_applied]) == ({}, ["outside-territory"])
    assert "order motogp of a court, report only, names motogpstream.me" in decision.explain()


@pytest.mark.parametrize(
    ("orders", "sentences"),
    [
        (
            [REPORTED],
            [
                "Let through for a client in FR.",
                f"Would enforce (report only) (dns: refuse, proxy: terminate) for a client in FR: order motogp {NAMES}",
            ],
        ),
        (
            [order(), order(id="other", measures={Measure.CDN: "disable"}, mode=Mode.REPORT)],
            [
                f"Enforced (dns: refuse, proxy: terminate) for a client in FR: order motogp {NAMES}",
                f"Would enforce (report only) (cdn: disable) for a client in FR: order other {NAMES}",
            ],
        ),
    ],
    ids=["reported alone", "beside an enforced one"],
)
def test_the_sentence_says_that_nothing_is_done(orders, sentences):
    """Whoever reads the explanation cannot take a rehearsal for enforcement."""
    assert decide(*orders).explain() == " ".join(sentences)


def test_the_revision_knows_the_mode():
    """Another mode is another set of rules; an enforced order is what it was before there were modes."""
    assert compile_orders([REPORTED]).revision != compile_orders([order()]).revision
    assert compile_orders([order()]).revision == compile_orders([replace(REPORTED, mode=Mode.ENFORCE)]).revision
    assert (
        compile_orders([order()]).revision == "sha256:027b4479602968a262ed397b05565d7cecd309820862b9c97fd6c4c8cce7da50"
    )


def test_from_enforce_to_report_releases():
    """The names are released, so the guard sees them; the other way round they come into force."""
    enforced, reported = compile_orders([order()]), compile_orders([REPORTED])
    assert list(enforced.released_by(reported, NOON)) == [NAME]
    assert list(reported.released_by(enforced, NOON)) == []
    assert (enforced.count_in_force(NOON), reported.count_in_force(NOON)) == (1, 0)
    assert not reported.is_in_force(NAME, NOON)
    assert reported.covered_names(Measure.DNS, NOON) == frozenset()
    assert reported.holding(NAME, NOON, exact=True) == ()


def test_changes_are_those_of_decisions_and_turns_those_of_what_is_enforced():
    """A start of a reported order changes decisions, and nothing that is done."""
    reported = compile_orders([REPORTED])
    before = datetime(2025, 4, 1, tzinfo=UTC)
    assert reported.next_change(before) == datetime(2025, 4, 3, 7, tzinfo=UTC)
    assert reported.next_turn(before) is None
    assert compile_orders([order()]).next_turn(before) == datetime(2025, 4, 3, 7, tzinfo=UTC)


def test_rules_tell_which_orders_are_reported():
    """Whoever writes configuration asks for those that are carried out."""
    rules = compile_orders([order(), order(id="other", mode=Mode.REPORT)])
    assert [item.id for item in rules.enforced] == ["motogp"]
    assert [item.id for item in rules.reported] == ["other"]


def test_a_mode_that_is_none_is_refused():
    """An order built in Python with a text in place of the mode would quietly not be enforced."""
    with pytest.raises(OrderError, match="give a Mode"):
        compile_orders([order(mode="report")])
