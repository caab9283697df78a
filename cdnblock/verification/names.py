"""Which names are asked for: all that orders list, and a sample of what they must not touch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from datetime import datetime
from math import inf
from typing import Final

from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Addition, Order
from cdnblock.orders.protected import is_public_suffix
from cdnblock.verification.comparing import Subject
from cdnblock.verification.probes import MORE_FORMS, Kind

POPULAR: Final = (
    "wikipedia.org", "www.google.com", "www.youtube.com", "github.com", "www.amazon.fr", "www.lemonde.fr", "t.me",
    "drive.google.com", "www.service-public.fr", "www.reddit.com", "x.com", "www.instagram.com", "www.canalplus.com",
    "www.motogp.com", "www.formula1.com", "ameli.fr", "www.sncf-connect.com", "www.bbc.co.uk", "www.apple.com",
    "www.microsoft.com", "cloudflare.com", "www.debian.org", "pypi.org", "archive.org", "www.orange.fr", "www.free.fr",
)  # fmt: skip
"""Names that everybody asks for; beside them come those that no order should take (`protected.txt`)."""

_MOST_LIFTED: Final = 100
_NEAR: Final = (
    # what a name is to the listed one, and how it is made of it
    (Kind.BELOW, "www.{name}"),
    (Kind.BELOW, "a.b.c.{name}"),
    (Kind.PARENT, "{parent}"),
    (Kind.NEIGHBOUR, "cdnblock-neighbour.{parent}"),
    (Kind.LOOK_ALIKE, "my{name}"),
    (Kind.LOOK_ALIKE, "x-{name}"),
    (Kind.LOOK_ALIKE, "{rest}"),
    (Kind.LOOK_ALIKE, "{name}.cdnblock-verify.example"),
)


def subjects(
    rules: RuleSet, at: datetime, *, sample: int, protected: Iterable[str], dice: random.Random, most: int | None = None
) -> Iterator[Subject]:
    """Yield each name once: `sample` names of each order with all that is near them, popular ones, then all others.

    `most` bounds how many of the names in force, and how many of those that no longer or not yet are, come at the end.
    """
    seen: set[str] = set()
    for subject in itertools.chain(_near(rules, at, sample, dice), _popular(protected, sample, dice)):
        if subject.name not in seen:
            seen.add(subject.name)
            yield subject
    kinds = ((name, Kind.NAMED if rules.is_in_force(name, at) else Kind.PAST) for name, _, _ in rules.each_listed())
    left = dict.fromkeys((Kind.NAMED, Kind.PAST), inf if most is None else most)
    for name, kind in kinds:
        if name in seen or left[kind] <= 0:
            continue
        left[kind] -= 1
        yield Subject(name=name, kind=kind, as_every_client=False)


def count(rules: RuleSet, sample: int, most: int | None) -> int:
    """Return about how many names `subjects` yields."""
    listed = len(rules) if most is None else min(len(rules), 2 * most)
    return listed + sample * (len(rules.orders) * len(_NEAR) + 2)


def _near(rules: RuleSet, at: datetime, sample: int, dice: random.Random) -> Iterator[Subject]:
    for order in rules.orders.values():
        for name in _drawn(_names_of(order), sample, dice):
            kind = Kind.NAMED if rules.is_in_force(name, at) else Kind.PAST
            yield Subject(name=name, kind=kind, more=MORE_FORMS)
            for near, pattern in _NEAR:
                spelled = pattern.format(name=name, parent=name.partition(".")[2], rest=name[1:])
                if canonical(spelled) == spelled and "." in spelled and not is_public_suffix(spelled):
                    yield Subject(name=spelled, kind=near)
        for name in _lifted(order):
            yield Subject(name=name, kind=Kind.NAMED if rules.is_in_force(name, at) else Kind.PAST, more=MORE_FORMS)


def _lifted(order: Order) -> Iterator[str]:
    """Yield the names that an order releases on their own, up to a hundred."""
    return itertools.islice((name for lifting in order.lifted for name in lifting.names or ()), _MOST_LIFTED)


def _names_of(order: Order) -> Iterator[str]:
    parts: list[Order | Addition] = [order, *order.additions]
    return (item.name for part in parts for item in part.each_name())


def _popular(protected: Iterable[str], sample: int, dice: random.Random) -> Iterator[Subject]:
    for names in (POPULAR, protected):
        for name in _drawn(iter(names), sample, dice):
            if "." in name:
                yield Subject(name=name, kind=Kind.POPULAR)


def _drawn(names: Iterator[str], count: int, dice: random.Random) -> list[str]:
    """Return some of many names, each with the same chance, without holding more than that."""
    drawn = list(itertools.islice(names, count))
    for place, name in enumerate(names, start=count):
        slot = dice.randrange(place + 1)
        if slot < count:
            drawn[slot] = name
    return drawn
