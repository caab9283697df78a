"""The million most popular names under the example orders: none is blocked that no order names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from cdnblock import load_orders
from cdnblock.orders import calendar

EXAMPLES = Path(__file__).parents[2] / "examples" / "orders"
TRANCO = "data/misp-warninglists/lists/tranco/list.json"


def test_no_popular_name_is_blocked_that_no_order_names():
    """Each of the Tranco million, and www below it, at an instant inside each order, for every country."""
    pytest.importorskip("pymispwarninglists", reason="the Tranco list comes with pymispwarninglists")
    names = json.loads((resources.files("pymispwarninglists") / TRANCO).read_text())["list"]
    assert len(names) >= 1_000_000
    rules = load_orders(EXAMPLES)
    named = {name.name for order in rules.orders.values() for name in order.each_name()}
    named |= {name.name for order in rules.orders.values() for added in order.additions for name in added.each_name()}
    covered = [name for name in names if hasattr(rules.find(name), "held")]
    assert set(covered) <= {name for name in covered if any(name == n or name.endswith(f".{n}") for n in named)}
    assert len(covered) < 25  # the popular ones among the names that courts listed, and no others
    inside = [datetime(2014, 6, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 9, 1, tzinfo=UTC)]
    blocked = {
        name
        for name in (*names[::1000], *covered)
        for at in inside
        for country in ("FR", "DE", None)
        if rules.decide(f"www.{name}", country=country, at=at)
    }
    assert blocked <= set(covered)


def test_the_example_orders_block_what_they_name():
    """The counterpart: every name that an order lists itself, from the first second in force (or of its first window)."""
    rules = load_orders(EXAMPLES)
    for order in rules.orders.values():
        windows = calendar.windows_of(order)
        at = windows[0][0] if windows else calendar.starts_at(order)
        for country in order.territory.countries:
            for name in order.each_name():
                decision = rules.decide(name.name, country=country, at=at)
                assert order.id in [reason.id for reason in decision.reasons], (order.id, name.name, country)
