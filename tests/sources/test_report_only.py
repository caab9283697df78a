"""Orders in mode report while a folder is followed: what goes from enforced to reported is a release, and guarded."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest
from order_texts import order_text

from cdnblock.enforcer import Enforcer
from cdnblock.orders.model import Mode
from cdnblock.sources.live_orders import FileState, LiveOrders
from cdnblock.sources.state_folder import StateFolder

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REPORT = "mode: report\n"


def write(folder, name, extra="", **changes):
    """Write an order file that counts as settled."""
    path = folder / f"{name}.yaml"
    names = ", ".join(f"{name}{number}.example" for number in range(10))
    path.write_text(order_text(**({"id": name, "names": f"[{names}]"} | changes)) + extra)
    os.utime(path, (time.time() - 10,) * 2)


@pytest.fixture
def folder(tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    for name in ("a", "b"):
        write(orders, name)
    return orders


def modes(rules):
    return {order.id: order.mode for order in rules.orders.values()}


def states(live):
    return {path.name: state for path, (state, _) in live.files.items()}


def test_from_enforce_to_report_is_held_back(folder):
    """Half of the names would be released: the order is enforced until somebody says that it is meant."""
    live = LiveOrders(folder, now=NOW)
    write(folder, "b", REPORT)
    assert live.refresh(NOW)
    assert [(held.path.name, held.names) for held in live.held] == [("b.yaml", 10)]
    assert modes(live.rules) == {"a": Mode.ENFORCE, "b": Mode.ENFORCE}
    assert states(live) == {"a.yaml": FileState.ENFORCED, "b.yaml": FileState.HELD}
    assert live.refresh(NOW, accept_release=True)
    assert modes(live.rules) == {"a": Mode.ENFORCE, "b": Mode.REPORT}
    assert states(live) == {"a.yaml": FileState.ENFORCED, "b.yaml": FileState.REPORTED}
    assert live.rules.count_in_force(NOW) == 10


def test_from_report_to_enforce_goes_live_at_once(folder):
    """That releases nobody."""
    write(folder, "b", REPORT)
    live = LiveOrders(folder, now=NOW)
    write(folder, "b")
    assert live.refresh(NOW)
    assert (live.held, modes(live.rules)["b"]) == ((), Mode.ENFORCE)


def test_a_reported_order_may_go(folder):
    """It has released nobody when it does, however many names it has."""
    write(folder, "b", REPORT)
    live = LiveOrders(folder, now=NOW)
    (folder / "b.yaml").unlink()
    live.refresh(NOW)
    assert (live.held, sorted(live.rules.orders)) == ((), ["a"])


def test_all_orders_to_report_is_held_back_before_they_start(folder):
    """Nothing would be left to enforce: also of orders that are still to start."""
    live = LiveOrders(folder, now=datetime(2025, 1, 1, tzinfo=UTC))
    for name in ("a", "b"):
        write(folder, name, REPORT)
    live.refresh(datetime(2025, 1, 1, tzinfo=UTC))
    assert {held.path.name for held in live.held} == {"a.yaml", "b.yaml"}
    assert set(modes(live.rules).values()) == {Mode.ENFORCE}


def test_a_dry_run_reads_every_order_as_reported(folder, tmp_path):
    """Whatever the files say, also the last good ones; they are kept as they are, and enforced again without it."""
    state = tmp_path / "state"
    with Enforcer(folder, state=state, follow=False) as enforcer:
        assert enforcer.decide("a1.example", None).would == {}
        before = enforcer.rules.revision
    with Enforcer(folder, state=state, follow=False, report_only=True) as enforcer:
        assert set(modes(enforcer.rules).values()) == {Mode.REPORT}
        assert enforcer.rules.revision != before
        assert enforcer.status()["held"] == []
        (folder / "a.yaml").write_text("broken")
        enforcer.reload()
        assert set(modes(enforcer.rules)) == {"a", "b"}
        assert set(modes(enforcer.rules).values()) == {Mode.REPORT}
    with Enforcer(folder, state=state, follow=False) as enforcer:
        assert enforcer.rules.revision == before
        assert set(modes(enforcer.rules).values()) == {Mode.ENFORCE}


def test_a_kept_order_that_was_reported_stays_so(folder, tmp_path):
    """A restart with a broken file enforces nothing that was only reported."""
    write(folder, "b", REPORT)
    with StateFolder(tmp_path / "state") as state:
        LiveOrders(folder, now=NOW, state=state)
    (folder / "b.yaml").write_text("broken")
    with StateFolder(tmp_path / "state") as state:
        assert modes(LiveOrders(folder, now=NOW, state=state).rules)["b"] is Mode.REPORT
