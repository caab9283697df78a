"""The numbers of one enforcer, read when somebody asks: nothing is counted for them that is not counted anyway."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from prometheus_client.registry import Collector as _Collector

from cdnblock.metrics.families import FAMILIES
from cdnblock.metrics.rows import Row, as_metrics, described
from cdnblock.orders import calendar
from cdnblock.orders.life import OrderState, state_of
from cdnblock.sources.protected_list import load_holidays

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from cdnblock.enforcer import Enforcer
    from cdnblock.matching.ruleset import RuleSet
    from cdnblock.orders.calendar import Holidays
    from cdnblock.orders.model import Order

_KEPT: Final = 60.0  # seconds for which the numbers of the orders are good, unless something changes
_OF_HOSTS: Final = ("cdnblock_dns_", "cdnblock_apply_")
_SAID: Final = {"refused": "answer"}  # a refusal is DNS's answer: one word for what is sent in the place of the content


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfOrders:
    """What the orders come to, from an instant on and before another one, as seconds since 1970."""

    revision: str
    since: float
    until: float
    rows: tuple[Row, ...]


class Collector(_Collector):
    """What Prometheus' registries collect from. `own` yields the rows of a host: its numbers take the tally's place.

    Without an enforcer there are only the host's.
    """

    def __init__(self, enforcer: Enforcer | None, own: Callable[[], Iterable[Row]] = tuple) -> None:
        self.enforcer = enforcer
        """Whose numbers they are; another one may take its place."""
        self._own = own
        self._of_orders: _OfOrders | None = None

    def describe(self) -> Iterator[Metric]:
        """Yield the families of an enforcer without their values, for a registry that another one may be in."""
        return described(name for name in FAMILIES if not name.startswith(_OF_HOSTS))

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have values now. Waits for no reload."""
        return as_metrics([*self._rows(), *self._own()])

    def _rows(self) -> Iterator[Row]:
        yield "cdnblock_build_info", (_installed_version(), platform.python_version()), 1
        enforcer = self.enforcer
        if enforcer is None:
            return
        yield from self._orders_of(enforcer)
        yield from _vitals(enforcer)
        yield from _counted(enforcer)
        yield from _audited(enforcer)
        origin = getattr(enforcer.geo, "origin", None)  # an operator's own table may have none
        if origin is not None:
            built = datetime.combine(origin.built, time(), UTC).timestamp()
            yield "cdnblock_geo_table_build_timestamp_seconds", (), built

    def _orders_of(self, enforcer: Enforcer) -> tuple[Row, ...]:
        """Return the numbers of the orders. They cost a look at every order and name, so they are kept for a while."""
        rules, now = enforcer.rules, enforcer.now()
        instant, kept = now.timestamp(), self._of_orders
        if kept is None or kept.revision != rules.revision or not kept.since <= instant < kept.until:
            change = rules.next_change(now)
            until = instant + _KEPT if change is None else min(instant + _KEPT, change.timestamp())
            holidays, _ = load_holidays(enforcer.folder)
            rows = tuple(_orders(rules, now, holidays))
            self._of_orders = kept = _OfOrders(revision=rules.revision, since=instant, until=until, rows=rows)
        return kept.rows


def _orders(rules: RuleSet, now: datetime, holidays: Holidays) -> Iterator[Row]:
    states = Counter((state_of(order, now), _mode(order)) for order in rules.orders.values())
    modes = sorted({mode for _, mode in states} | {"enforce"})
    yield from (("cdnblock_orders", (state, mode), states[state, mode]) for state in OrderState for mode in modes)
    yield "cdnblock_names", (), len(rules)
    yield "cdnblock_names_in_force", (), rules.count_in_force(now)
    yield "cdnblock_revision_info", (rules.revision,), 1
    change = rules.next_change(now)
    if change is not None:
        yield "cdnblock_next_change_timestamp_seconds", (), change.timestamp()
    for order in rules.orders.values():
        yield "cdnblock_order_expires_timestamp_seconds", (order.id,), calendar.ends_at(order).timestamp()
        if state_of(order, now) in (OrderState.PENDING, OrderState.IN_FORCE):
            yield from _duty(order, now, holidays)


def _duty(order: Order, now: datetime, holidays: Holidays) -> Iterator[Row]:
    """Yield whether all of an order is enforced, and by when it had or has to be."""
    parts = [(calendar.starts_at(order), calendar.deadline(order, holidays))]
    parts += [
        (calendar.addition_starts_at(order, addition), calendar.addition_deadline(order, addition, holidays))
        for addition in order.additions
    ]
    enforced = _mode(order) == "enforce"
    waiting = [deadline for start, deadline in parts if deadline is not None and (start > now or not enforced)]
    due = min(waiting) if waiting else parts[0][1]
    yield "cdnblock_order_in_force", (order.id,), int(enforced and all(start <= now for start, _ in parts))
    if due is not None:
        yield "cdnblock_order_deadline_timestamp_seconds", (order.id,), due.timestamp()


def _mode(order: Order) -> str:
    return str(order.mode)


def _vitals(enforcer: Enforcer) -> Iterator[Row]:
    vitals = enforcer.vitals
    yield from (("cdnblock_reloads_total", (result,), number) for result, number in vitals.reloads.items())
    yield "cdnblock_reload_seconds", (), vitals.seconds
    yield "cdnblock_last_reload_timestamp_seconds", (), vitals.loaded_at
    yield "cdnblock_last_look_timestamp_seconds", (), vitals.looked_at
    yield "cdnblock_file_errors", (), vitals.errors
    yield "cdnblock_held_release", (), vitals.held
    yield "cdnblock_held_names", (), vitals.held_names
    yield "cdnblock_state_folder_failing", (), int(vitals.state_failing)
    yield "cdnblock_decision_failures_total", (), vitals.decision_failures


def _counted(enforcer: Enforcer) -> Iterator[Row]:
    """Yield what the hosts of this process noted."""
    for (adapter, measure, action), number in enforcer.tally.totals.items():
        yield "cdnblock_decisions_total", (adapter, measure, _SAID.get(action, action)), number


def _audited(enforcer: Enforcer) -> Iterator[Row]:
    if enforcer.trail is None:
        return
    told = enforcer.trail.status()
    yield "cdnblock_audit_records_total", (), told["recorded"]
    yield "cdnblock_audit_write_errors_total", (), told["write_errors"]
    yield "cdnblock_audit_gaps_total", (), told["gaps"]
    yield "cdnblock_audit_failing", (), int(told["failing"] is not None)
    if told["last"] is not None:
        yield "cdnblock_audit_last_write_timestamp_seconds", (), datetime.fromisoformat(told["last"]).timestamp()


def _installed_version() -> str:
    try:
        return version("cdnblock")
    except PackageNotFoundError:
        return "unknown"
