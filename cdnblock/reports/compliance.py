"""Was a deadline kept? What trails and the order file say, and what nobody can tell. Pure.

A trail proves that something was in force from a record on, and, where it reaches back before that, that it was not
before. So there are three answers, and the third is honest: met, late by so much, cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cdnblock.orders.calendar import instant
from cdnblock.orders.model import Moment
from cdnblock.reports.trail_values import Absence, Begin


class Verdict(StrEnum):
    """What is known of a deadline."""

    MET = "met"
    LATE = "late"
    UNKNOWN = "cannot be told"
    OPEN = "still open"
    NONE = "no deadline"


class Source(StrEnum):
    """Who says so."""

    TRAIL = "trail"
    ORDER_FILE = "order file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compliance:
    """A deadline (exclusive) against the moment at which enforcement really began, and who says that it did.

    It began between `not_before` and `begun`, which are the same where the moment itself is known; None: it may have
    begun at any time before. `late_by` counts up to `begun`.
    """

    deadline: datetime | None
    verdict: Verdict
    because: str
    begun: datetime | None = None
    not_before: datetime | None = None
    source: Source | None = None
    late_by: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one witness says: in force at `at`, and not yet at `not_before` (None: it does not say).

    `since` is from when on a trail tells anything, `whole` whether nothing in it was changed.
    """

    at: datetime
    not_before: datetime | None
    source: Source
    since: datetime | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What one trail has to say of a beginning: `begin` is None where it never has it in force."""

    begin: Begin | None
    first_at: datetime | None
    last_at: datetime | None
    whole: bool

    def since_before(self, deadline: datetime | None) -> bool:
        """Tell whether the trail reaches back to before a deadline."""
        return self.first_at is not None and (deadline is None or self.first_at < deadline)


def standing(begin: Begin | None, absences: Sequence[Absence], deadline: datetime | None) -> Begin | None:
    """Return since when something stood that had begun before a deadline: anew, if it was out of force at that."""
    for since, back in absences:
        if begin is None or deadline is None or since >= deadline:
            break
        if begin.at <= since and (back is None or back.at >= deadline):
            return back
    return begin


def claims_of(witnesses: Sequence[Witness], implemented: Moment | None, zone: str) -> tuple[Claim, ...]:
    """Return what trails and the order file say of a beginning. A bare date may mean any moment of its day."""
    found = [
        Claim(
            at=of.begin.at,
            not_before=of.begin.not_before,
            source=Source.TRAIL,
            since=of.first_at,
            whole=of.whole,
        )
        for of in witnesses
        if of.begin is not None
    ]
    if implemented is not None:
        latest = instant(implemented, zone, end_of_day=True)
        earliest = instant(implemented, zone)
        found.append(Claim(at=latest, not_before=earliest, source=Source.ORDER_FILE))
    return tuple(found)


def is_denied(implemented: Moment, witnesses: Sequence[Witness], deadline: datetime | None, zone: str) -> bool:
    """Tell whether a trail has it not in force at a time at which the order file says that it was."""
    said = instant(implemented, zone, end_of_day=True)
    for of in witnesses:
        if of.begin is not None:
            if of.begin.not_before is not None and said < of.begin.not_before and of.since_before(deadline):
                return True
        elif of.since_before(deadline) and of.last_at is not None and max(said, deadline or said) <= of.last_at:
            return True
    return False


def judge(deadline: datetime | None, claims: Sequence[Claim], now: datetime, *, denied: bool = False) -> Compliance:
    """Return what is known of a deadline; `denied` is what the order file says by a trail.

    Trails come before the order file. Of several, one that proves lateness outweighs those that prove none: every
    instance was bound. A trail that begins after the deadline, of an instance that came later, outweighs nothing. One
    in which something was changed proves nothing to the operator's advantage.
    """
    trails = [claim for claim in claims if claim.source is Source.TRAIL]
    verdicts = {_verdict(deadline, claim) for claim in trails}
    for verdict, because in (
        (Verdict.LATE, "a trail reaches from before the deadline to a later beginning"),
        (Verdict.MET, "a trail has it in force before the deadline"),
        (Verdict.NONE, "nothing says by when it had to be enforced"),
    ):
        if verdict in verdicts:
            return _told(deadline, _worst(trails, deadline, verdict), verdict, because)
    stated = next((claim for claim in claims if claim.source is Source.ORDER_FILE), None)
    if stated is not None and denied and _verdict(deadline, stated) is Verdict.MET:
        return _told(deadline, stated, Verdict.UNKNOWN, "the order file says so, and a trail has it not in force then")
    if stated is not None and (verdict := _verdict(deadline, stated)) is not Verdict.UNKNOWN:
        return _told(deadline, stated, verdict, "the order file says so; no trail proves it")
    if trails:
        because = "no trail has the moment, nor a time before and after it"
        if any(not claim.whole for claim in trails):
            because = "a trail that is not whole proves nothing"
        elif deadline is not None and all(claim.since is None or claim.since >= deadline for claim in trails):
            because = "the trails begin after the deadline"
        return _told(deadline, min(trails, key=lambda claim: claim.at), Verdict.UNKNOWN, because)
    if deadline is None:
        return Compliance(deadline=None, verdict=Verdict.NONE, because="nothing says when")
    if stated is not None:
        return _told(deadline, stated, Verdict.UNKNOWN, "the order file has the day alone, and the deadline is on it")
    verdict = Verdict.OPEN if now < deadline else Verdict.UNKNOWN
    because = "the deadline is still to come" if now < deadline else "neither a trail nor the order file says when"
    return Compliance(deadline=deadline, verdict=verdict, because=because)


def _verdict(deadline: datetime | None, claim: Claim) -> Verdict:
    if deadline is None:
        return Verdict.NONE
    if claim.at < deadline or (claim.source is Source.ORDER_FILE and claim.at == deadline != claim.not_before):
        return Verdict.MET if claim.whole else Verdict.UNKNOWN
    reaches_back = claim.source is Source.ORDER_FILE or (claim.since is not None and claim.since < deadline)
    if reaches_back and claim.not_before is not None and claim.not_before >= deadline:
        return Verdict.LATE
    return Verdict.UNKNOWN


def _worst(trails: Sequence[Claim], deadline: datetime | None, verdict: Verdict) -> Claim:
    """Return the last beginning among the trails of that verdict: from then on every instance enforced."""
    return max((claim for claim in trails if _verdict(deadline, claim) is verdict), key=lambda claim: claim.at)


def _told(deadline: datetime | None, claim: Claim, verdict: Verdict, because: str) -> Compliance:
    late = claim.at - deadline if verdict is Verdict.LATE and deadline is not None else None
    return Compliance(
        deadline=deadline,
        verdict=verdict,
        because=because,
        begun=claim.at,
        not_before=claim.not_before,
        source=claim.source,
        late_by=late,
    )
