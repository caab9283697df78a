"""What the orders say of one host, told whole: `cdnblock explain` prints it and the dashboard shows it.

A decision tells which orders apply; this also tells what each says, where its file says so, and, when nobody said
where the client is, what holds for whom. Pure; words and colours are the business of whoever shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from cdnblock.matching.decision import Decision, NotApplied, Reason, Why
from cdnblock.matching.names import canonical, to_unicode
from cdnblock.orders.model import Addition, Measure, Order, Position

_OF_PLACE: Final = (Why.OUTSIDE_TERRITORY, Why.UNKNOWN_LOCATION)


class Verdict(StrEnum):
    """What comes of a request for the host."""

    NO_HOST = "not a host name"
    NOT_NAMED = "no order names it"
    BLOCKED = "blocked"
    BLOCKED_FOR_SOME = "blocked for some"
    LET_THROUGH = "let through"


class Effect(StrEnum):
    """What one order does about the host."""

    APPLIES = "applies"
    WOULD_APPLY = "would apply"
    DEPENDS_ON_PLACE = "depends on place"
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one order that names the host says of it.

    `until` is its end or its lifting for this name; `why` and `starts` (when it is enforced next) belong to an order
    that does not apply, `overbroad` is the file's reason for a name that is broader than a site.
    """

    order: Order
    name: str
    addition: Addition | None
    effect: Effect
    until: datetime
    why: Why | None
    in_words: str
    starts: datetime | None
    overbroad: str | None
    position: Position | None

    @property
    def measures(self) -> Mapping[Measure, str]:
        """What the order asks for."""
        return self.order.measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Every order that names the host, why it applies or why not.

    `host` is what was asked, `name` its canonical form (None when it is no host name) and `unicode` that as people
    write it. `asked_place` tells whether an address or a country was given.
    """

    host: str
    name: str | None
    unicode: str | None
    at: datetime
    verdict: Verdict
    asked_place: bool
    said: tuple[Said, ...]
    decision: Decision

    @property
    def zone(self) -> str | None:
        """The time zone of the first order, None when there is none."""
        return self.said[0].order.timezone if self.said else None


def explain(decision: Decision, host: str, at: datetime, *, asked_place: bool) -> Explanation:
    """Return what a decision for `host` at the instant `at` rests on."""
    name = canonical(host)
    said = tuple(_each_said(decision, asked_place=asked_place))
    return Explanation(
        host=host,
        name=name,
        unicode=None if name is None else to_unicode(name),
        at=at,
        verdict=_verdict(decision, said),
        asked_place=asked_place,
        said=said,
        decision=decision,
    )


def _each_said(decision: Decision, *, asked_place: bool) -> Iterator[Said]:
    yield from (_applying(reason, Effect.APPLIES) for reason in decision.reasons)
    yield from (_applying(reason, Effect.WOULD_APPLY) for reason in decision.would_reasons)
    for item in decision.not_applied:
        depends = not asked_place and item.why in _OF_PLACE
        yield _not_applying(item, Effect.DEPENDS_ON_PLACE if depends else Effect.DOES_NOT_APPLY)


def _verdict(decision: Decision, said: tuple[Said, ...]) -> Verdict:
    if decision.malformed:
        return Verdict.NO_HOST
    if not said:
        return Verdict.NOT_NAMED
    if decision:
        return Verdict.BLOCKED
    somewhere = any(item.effect is Effect.DEPENDS_ON_PLACE and item.order.is_enforced for item in said)
    return Verdict.BLOCKED_FOR_SOME if somewhere else Verdict.LET_THROUGH


def _applying(reason: Reason, effect: Effect) -> Said:
    return Said(
        order=reason.order, name=reason.name, addition=reason.addition, effect=effect, until=reason.until, why=None,
        in_words="", starts=None, overbroad=_overbroad(reason), position=reason.position,
    )  # fmt: skip


def _not_applying(item: NotApplied, effect: Effect) -> Said:
    return Said(
        order=item.order, name=item.name, addition=item.addition, effect=effect, until=item.until, why=item.why,
        in_words=item.in_words(), starts=item.starts, overbroad=_overbroad(item), position=item.position,
    )  # fmt: skip


def _overbroad(item: Reason | NotApplied) -> str | None:
    return next((name.overbroad for name in (item.addition or item.order).names if name.name == item.name), None)
