"""Which names fare otherwise under other rules, or at another instant: quick for a small change among a million names. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from cdnblock.matching.claims import Claim, Listing, Release
from cdnblock.orders.model import Measure

if TYPE_CHECKING:
    from cdnblock.matching.ruleset import RuleSet


def differing_names(old: RuleSet, old_at: datetime, new: RuleSet, new_at: datetime, measure: Measure) -> Iterator[str]:
    """Yield each listed name on which something else stands for a measure than before.

    What is below such a name may fare otherwise, too; of all else the same holds as before.
    """
    numbers: dict[Hashable, int] = {frozenset(): 0}
    ids = count(1)

    def numbered(rules: RuleSet, at: datetime) -> dict[object, int]:
        found: dict[object, int] = {None: 0}
        for mark, claims in rules.index.claims.items():
            enforced = (claim for claim in claims if rules.orders[claim.order_id].is_enforced)
            said = frozenset(_said(enforced, at.timestamp(), measure))
            if said not in numbers:
                numbers[said] = next(ids)
            found[mark] = numbers[said]
        return found

    was, now = numbered(old, old_at), numbered(new, new_at)
    turned = {mark for mark, number in now.items() if mark in was and was[mark] != number}
    for mine, theirs in zip(old.index.shards, new.index.shards, strict=True):
        if mine is not theirs:
            yield from _differing(mine, theirs, was, now)
        elif turned:
            yield from (name for name, mark in theirs.items() if mark in turned)


def _differing(
    mine: Mapping[str, object], theirs: Mapping[str, object], was: Mapping[object, int], now: Mapping[object, int]
) -> list[str]:
    before = mine.get
    found = [name for name, mark in theirs.items() if was[before(name)] != now[mark]]
    found += [name for name in mine.keys() - theirs.keys() if was[mine[name]]]
    return found


def _said(claims: Iterable[Claim], at: float, measure: Measure) -> Iterator[Hashable]:
    """Yield what claims come to at an instant: two sets of claims that yield the same are as good as each other."""
    for claim in claims:
        match claim:
            case Release(order_id=order_id, at=released) if released <= at:
                yield order_id, released
            case Listing(order=order) if measure in order.measures and claim.span.why_not(at, claim.lifted) is None:
                yield (
                    order.id,
                    order.measures[measure],
                    order.territory,
                    order.unknown_location,
                    claim.subdomains,
                    claim.notified,
                )
            case _:
                pass
