"""Contradictions inside one order: dates that exclude each other.

Each rule looks only at keys that were read whole, so that one mistake is not reported as three.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

from cdnblock.errors import Severity
from cdnblock.orders.calendar import LATEST, LegalTime, anchor_moment, legal_time
from cdnblock.orders.draft import Draft, Found
from cdnblock.orders.listed_names import liftings_of_other_names


def contradictions(draft: Draft) -> Iterator[Found]:
    """Yield everything that contradicts, or deserves a warning, in what could be read of an order."""
    yield from _wrong_end(draft)
    if draft.has("timezone"):
        yield from _dates_of_the_decision(draft)
        yield from _receipt(draft)
        yield from _span(draft)
        yield from _windows(draft)
        yield from _additions(draft)
        yield from _liftings(draft)
        yield from _ambiguous_times(draft)
    if draft.has("names", "names_file", "additions", "lifted"):
        yield from liftings_of_other_names(draft)


def _wrong_end(draft: Draft) -> Iterator[Found]:
    order = draft.order
    if not draft.has("until", "for"):
        return
    if order.until is None and order.duration is None:
        yield Found(
            ("until",), "no end, no enforcement; write `until: 2025-11-16`, or `for: 12 months` and `counted_from`"
        )
    if order.until is not None and order.duration is not None:
        yield Found(("for",), "`until` and `for` are both given; keep the one that the order states", of_key=True)
    if not draft.has("counted_from"):
        return
    if order.duration is not None and order.counted_from is None:
        right = "write `counted_from: decided`, `served` or `implemented`"
        yield Found(("for",), f"`for` has nothing to count from: `counted_from` is missing; {right}", of_key=True)
    if order.counted_from is not None and order.duration is None:
        yield Found(
            ("counted_from",), "`counted_from` counts nothing without `for`; remove it, or write `for`", of_key=True
        )
    if order.counted_from is not None and draft.has(order.counted_from.value) and anchor_moment(order) is None:
        anchor = order.counted_from.value
        yield Found(("counted_from",), f"`{anchor}` is not in this file; write `{anchor}: 2025-04-02`, the day it was")


def _dates_of_the_decision(draft: Draft) -> Iterator[Found]:
    order = draft.order
    if not draft.has("decided"):
        return
    decided = draft.instant(order.decided)
    since_decided = ("received", order.received), ("served", order.served), ("implemented", order.implemented)
    for key, moment in since_decided:
        if moment is not None and draft.has(key) and draft.instant(moment) < decided:
            yield Found((key,), f"`{key}` lies before the decision of {order.decided}; correct one of the two dates")
    if order.begins is not None and draft.has("from") and draft.instant(order.begins) < decided:
        message = f"enforcement starts before the decision of {order.decided}; is the date right?"
        yield Found(("from",), message, Severity.WARNING)
    if order.comply_within is not None and order.served is None and draft.has("served", "comply_within"):
        message = "there is no deadline without the date of service; add `served` as soon as it is known"
        yield Found(("comply_within",), message, Severity.WARNING, of_key=True)


def _receipt(draft: Draft) -> Iterator[Found]:
    """Nobody confirms what he has not got yet. A bare date may mean any hour of its day."""
    order = draft.order
    if order.acknowledged is None or not draft.has("acknowledged", "received", "decided"):
        return
    confirmed = draft.instant(order.acknowledged, end_of_day=True)
    if order.received is None:
        message = "how long it took to confirm receipt cannot be told without `received`; add when the order came"
        yield Found(("acknowledged",), message, Severity.WARNING, of_key=True)
    elif confirmed < draft.instant(order.received):
        yield Found(("acknowledged",), "receipt was confirmed before the order was `received`; correct one of the two")
    if confirmed < draft.instant(order.decided):
        message = f"`acknowledged` lies before the decision of {order.decided}; correct one of the two dates"
        yield Found(("acknowledged",), message)


def _span(draft: Draft) -> Iterator[Found]:
    start, end = draft.start(), draft.end()
    key = "for" if draft.order.until is None else "until"
    if end is not None and end >= draft.instant(LATEST - timedelta(days=1)):
        yield Found((key,), f"the order would end in {LATEST.year} or later; correct the end")
    elif start is not None and end is not None and end <= start:
        yield Found(
            (key,), f"the order would end at {draft.shown(end)}, not after its start {draft.shown(start)}; correct one"
        )


def _windows(draft: Draft) -> Iterator[Found]:
    start, end = draft.start(), draft.end()
    for path, window in draft.windows:
        begins, until = draft.instant(window.begins), draft.instant(window.until, end_of_day=True)
        if until <= begins:
            yield Found((*path, "until"), "the window ends before it begins; `until` comes after `from`")
        elif start is not None and begins < start:
            message = f"the window begins before the order does, at {draft.shown(start)}; keep it inside of the order"
            yield Found((*path, "from"), message)
        elif end is not None and until > end:
            message = f"the window ends after the order does, at {draft.shown(end)}; keep it inside of the order"
            yield Found((*path, "until"), message)


def _additions(draft: Draft) -> Iterator[Found]:
    end = draft.end()
    lifted = min((draft.instant(lifting.at) for _, lifting in draft.liftings if lifting.names is None), default=None)
    for path, addition in draft.additions:
        notified = draft.instant(addition.notified)
        if end is not None and notified >= end:
            message = f"notified after the order's end, {draft.shown(end)}; an addition needs an order that still runs"
            yield Found((*path, "notified"), message)
        elif lifted is not None and notified >= lifted:
            message = f"notified after the whole order was lifted, {draft.shown(lifted)}; remove the addition"
            yield Found((*path, "notified"), message)
        if addition.begins is not None and end is not None and draft.instant(addition.begins) >= end:
            message = f"starts after the order's end, {draft.shown(end)}; an addition ends with its order"
            yield Found((*path, "from"), message)
        if draft.has("decided") and notified < draft.instant(draft.order.decided):
            message = f"notified before the decision of {draft.order.decided}; is the date right?"
            yield Found((*path, "notified"), message, Severity.WARNING)


def _liftings(draft: Draft) -> Iterator[Found]:
    end = draft.end()
    for path, lifting in draft.liftings:
        if end is not None and draft.instant(lifting.at) > end:
            message = (
                f"lifted after the order's end, {draft.shown(end)}, when nothing is enforced any more; is it right?"
            )
            yield Found((*path, "at"), message, Severity.WARNING)


def _ambiguous_times(draft: Draft) -> Iterator[Found]:
    zone = draft.order.timezone
    for path, moment in draft.moments:
        kind = legal_time(moment, zone)
        if kind is LegalTime.CLEAR:
            continue
        what = "does not exist" if kind is LegalTime.SKIPPED else "comes twice"
        read = draft.instant(moment).astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")
        which = "the first one, " if kind is LegalTime.TWICE else ""
        message = f"this time {what} in {zone}, where the clocks change; it is read as {which}{read}: write it so"
        yield Found(path, message, Severity.WARNING)
