"""What an answer is compared with that an edge may have made up: the origin's own, or what another client got.

A 403, a redirect to elsewhere, silence or `no-store` may be a site's own or an edge that goes too far. Nothing in such
an answer tells; the same request to the origin does, or to the same edge as a client for whom the same was decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cdnblock.orders.model import Measure
from cdnblock.verification.answers import Answer, HttpAnswer, Nothing
from cdnblock.verification.asking import ask
from cdnblock.verification.expecting import Difference, Judgement, Unjudged
from cdnblock.verification.findings import Finding, Open, Result
from cdnblock.verification.http_judging import is_notice, says_no_store
from cdnblock.verification.probes import Probe, Way
from cdnblock.verification.servers import Edge

_MOST: Final = 10_000  # answers of an origin that are kept


class Origin:
    """Where an edge gets the sites from: asked for the same names, as the same clients, by HTTP/1.1."""

    def __init__(self, edge: Edge, patience: float) -> None:
        self._edge = edge
        self._patience = patience
        self._known: dict[tuple[str, str, str], Answer] = {}

    async def says(self, probe: Probe) -> Answer:
        """Return what the origin says to a probe; the same as long as it is remembered."""
        key = (probe.name, probe.client.label, probe.form.method)
        if key not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            plain = replace(probe, way=Way.HTTP1, form=replace(probe.form, absolute=False, coalesced=False))
            self._known[key] = await ask(self._edge, plain, self._patience)
        return self._known[key]


def beside(origin: Answer, answer: Answer, found: Judgement) -> Judgement:
    """Return what is left of a judgement about an answer, once its origin has said what it says itself."""
    if isinstance(origin, Nothing) and not origin.reached:
        return found
    if _are_alike(answer, origin):
        return None
    if isinstance(found, Unjudged) and found.suspect is None:
        return found
    came = (
        found.came if isinstance(found, Difference) else found.suspect.came if found and found.suspect else str(answer)
    )
    return Difference(f"{origin}, as the origin says", came)


def _are_alike(answer: Answer, origin: Answer) -> bool:
    if not isinstance(answer, HttpAnswer) or not isinstance(origin, HttpAnswer):
        return type(answer) is type(origin)
    told = ((one.status, says_no_store(one), is_notice(one), one.of("location")) for one in (answer, origin))
    return next(told) == next(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer, and what was made of it."""

    probe: Probe
    measures: dict[Measure, str]
    answer: Answer
    result: Result

    @property
    def suspect(self) -> Finding | None:
        """The difference that it is if it is not the site's own."""
        return self.result.suspect if isinstance(self.result, Open) else None


def among(seen: Sequence[Seen]) -> Iterator[Result]:
    """Yield what is suspect about one name; it is a difference where another client fares better with the same question."""
    for one in seen:
        if one.suspect is not None:
            better = next((other for other in seen if _fares_better(other, one)), None)
            yield one.result if better is None else _worse_than(better, one.suspect)


def _worse_than(better: Seen, suspect: Finding) -> Finding:
    return replace(suspect, came=f"{suspect.came}, where {better.probe.client.label} got {better.answer}")


def _fares_better(other: Seen, one: Seen) -> bool:
    asked_alike = (other.probe.way, other.probe.form, other.measures) == (one.probe.way, one.probe.form, one.measures)
    served = isinstance(other.answer, HttpAnswer) and 200 <= other.answer.status < 300  # noqa: PLR2004 (RFC 9110 §15.3)
    return asked_alike and served and other.result is None
