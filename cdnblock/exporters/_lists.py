"""What plain lists of names have in common: they ask nobody where he is, and they know no time.

A list that leaves the territory out would block everybody. So an order with a territory is in no list, unless the
operator says that all clients of the server are in one country (`--clients-in`): then the list is exact for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from cdnblock.exporters._exporter import Missing, Options
from cdnblock.exporters._plan import Group, Plan
from cdnblock.orders.model import Measure


def with_all_below(plan: Plan) -> list[str]:
    """Return the names that are meant with everything below them."""
    return [name for name, group in plan.suffixes.items() if group is not None]


def let_go(plan: Plan) -> list[str]:
    """Return the names that are let go with everything below them, below others that are not."""
    return [name for name, group in plan.suffixes.items() if group is None]


def without_exceptions(plan: Plan) -> list[str]:
    """Return the names that are meant with everything below them, and have nothing below them that is let go."""
    spoilt = {above for name in let_go(plan) for above in _above(name, plan.suffixes)}
    return [name for name in with_all_below(plan) if name not in spoilt]


def alone_is_too_little(plan: Plan, _options: Options) -> Iterator[Missing]:
    """Yield what is lost where a name never means what is below it."""
    return by_orders(
        plan, with_all_below(plan), "has sub-domains, which a hosts file cannot mean: only the name itself is written"
    )


def below_is_too_much(plan: Plan, _options: Options) -> Iterator[Missing]:
    """Yield what is lost where a name always means what is below it too."""
    names = [name for name, group in plan.exact.items() if group is not None and not _covered(name, plan)]
    return by_orders(plan, names, "is meant without its sub-domains, which this cannot say: left out")


def exceptions_are_unknown(plan: Plan, options: Options) -> Iterator[Missing]:
    """Yield the same, and what is lost where nothing can be let go below a name."""
    yield from below_is_too_much(plan, options)
    left = {*with_all_below(plan)} - {*without_exceptions(plan)}
    yield from by_orders(plan, sorted(left), "has names below it that are let go, which this cannot say: left out")


def by_orders(plan: Plan, names: Collection[str], why: str) -> Iterator[Missing]:
    """Yield a line for each set of orders: a list may have a hundred thousand such names."""
    alike: dict[str, list[str]] = {}
    groups: dict[str, Group | None] = {"": None}
    for name in names:
        group = plan.group_of(name) or plan.group_of(name.partition(".")[2])  # a name that is let go is so from another
        group_id = group.id if group else ""
        groups.setdefault(group_id, group)
        alike.setdefault(group_id, []).append(name)
    found: dict[str, list[str]] = {}
    for group_id, those in alike.items():
        found.setdefault(_orders(groups[group_id]), []).extend(those)
    for orders, those in found.items():
        more = f" (and {len(those) - 1:,} more)" if len(those) > 1 else ""
        yield Missing(orders, f"{those[0]}{more} {why}")


def _orders(group: Group | None) -> str:
    outcomes = group.outcomes.values() if group else ()
    return ", ".join(sorted({reason.id for outcome in outcomes for reason in outcome.because(Measure.DNS)}))


def _covered(name: str, plan: Plan) -> bool:
    nearest = next(iter(_above(name, plan.suffixes)), None) if name not in plan.suffixes else name
    return nearest is not None and plan.suffixes[nearest] is not None


def _above(name: str, suffixes: Mapping[str, Group | None]) -> Iterable[str]:
    while name := name.partition(".")[2]:
        if name in suffixes:
            yield name
