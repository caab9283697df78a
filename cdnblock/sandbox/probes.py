"""Which probes are worth sending: just before, at and after each turn of each order, from every place, for names near and far.

The instants and names come from the naive reading, and so does what each probe should get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cdnblock.sandbox import naive_reading
from cdnblock.sandbox.naive_reading import Listed, Paper
from cdnblock.verification.places import Place

_SECOND: Final = timedelta(seconds=1)
_NAMES_PER_ORDER: Final = 25  # own names probed while the order runs; the rest differ from them in nothing
_WINDOWS_PER_ORDER: Final = 2


class Channel(StrEnum):
    """How a probe goes in, and what it looks at."""

    DNS = "dns"  # the front's name server: is the name answered or refused?
    FRONT = "http"  # the front's proxy port: does the site come or the notice?
    EDGE = "edge"  # the caching edge itself, asked twice: are the two answers one stored answer?
    STORED = "store"  # the caching edge as the clock moves on: is what it stored before still there?
    STREAM = "stream"  # a download that runs through the edge as the clock moves on: does it go on?
    SOCKET = "socket"  # a WebSocket that is open through the front as the clock moves on: does it go on?


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question and what the order says of it. `kind` says what the host is to the order, `turn` which instant."""

    order: str
    turn: str
    at: datetime
    host: str
    kind: str
    place: Place
    channel: Channel
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """All probes of one instant."""

    at: datetime
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """An instant worth looking at in one order's life, and for which of its names; `changes` if something does then."""

    label: str
    at: datetime
    host: str
    changes: bool


def plan(papers: list[Paper], places: list[Place]) -> list[Step]:
    """Return every probe, in the order of time: the clock has to be moved forward only."""
    instants = sorted(
        {turn.at for paper in papers for turn in _turns(paper)} | {naive_reading.middle(paper) for paper in papers}
    )
    probes = [probe for paper in papers for probe in _probes_of(papers, paper, places, instants)]
    return [Step(at=at, probes=tuple(probe for probe in probes if probe.at == at)) for at in instants]


def _probes_of(papers: list[Paper], paper: Paper, places: list[Place], instants: list[datetime]) -> Iterator[Probe]:
    for turn in _turns(paper):
        moment = _Moment(papers=papers, paper=paper, label=turn.label, at=turn.at)
        for place in places:
            yield from moment.ask(turn.host, "named", place)
        if turn.changes:
            yield from moment.look_back(turn.host, max(at for at in instants if at < turn.at), places)
    middle = naive_reading.middle(paper)
    moment = _Moment(papers=papers, paper=paper, label="while it runs", at=middle)
    for place in places:
        yield from moment.ask(_first(paper, middle).name, "named", place)
    for host, kind in dict.fromkeys(_hosts(paper, middle)):
        for place in _inside_and_outside(paper, places):
            yield from moment.ask(host, kind, place)


def _turns(paper: Paper) -> Iterator[_Turn]:
    """Return the instants around which what an order says changes."""
    begin, end = naive_reading.begin(paper), naive_reading.end(paper)
    own = _first(paper, begin).name
    yield from _around("it starts", "as it starts", begin, own)
    yield from _around("it ends", "as it ends", end, _first(paper, end - _SECOND).name)
    for number, (opens, closes) in enumerate(naive_reading.windows(paper)[:_WINDOWS_PER_ORDER], start=1):
        yield from _around(f"window {number} opens", f"as window {number} opens", opens, own)
        yield from _around(f"window {number} closes", f"as window {number} closes", closes, own)
    for item in naive_reading.listed(paper):
        if item.since > begin:
            yield from _around("its addition starts", "as its addition starts", item.since, item.name)
    for lifting in paper.get("lifted", []):
        host = lifting.get("names", [own])[0]
        yield from _around("its lifting", "as it is lifted", naive_reading.moment(paper, lifting["at"]), host)


def _around(what: str, at_it: str, at: datetime, host: str) -> Iterator[_Turn]:
    yield _Turn(label=f"1 s before {what}", at=at - _SECOND, host=host, changes=False)
    yield _Turn(label=at_it, at=at, host=host, changes=True)


def _first(paper: Paper, at: datetime) -> Listed:
    """Return the first name that is on the list by then, or the first at all."""
    items = naive_reading.listed(paper)
    return next((item for item in items if item.since <= at), items[0])


def _hosts(paper: Paper, at: datetime) -> Iterator[tuple[str, str]]:
    """Return hosts near and far, with what each is to the order."""
    items = naive_reading.listed(paper)
    for item in items[1:_NAMES_PER_ORDER]:
        yield item.name, "named"
        yield f"my{item.name}", "look-alike"
    alone = [item for item in items if not item.subdomains]
    for name in dict.fromkeys([_first(paper, at).name, *(item.name for item in alone[:_WINDOWS_PER_ORDER])]):
        parent = name.partition(".")[2]
        yield f"www.{name}", "sub-host"
        yield f"a.b.c.{name}", "sub-host"
        yield f"sibling.{parent}", "sibling"
        yield f"my{name}", "look-alike"
        yield f"{name}.example", "look-alike"
        yield f"{name.upper()}.", "other spelling"


def _inside_and_outside(paper: Paper, places: list[Place]) -> list[Place]:
    """Return the first place that the order concerns and the first that it does not."""
    inside = [place for place in places if naive_reading.concerns(paper, place.country)]
    outside = [place for place in places if not naive_reading.concerns(paper, place.country)]
    return inside[:1] + outside[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """One instant of one order, as seen by all the papers together."""

    papers: list[Paper]
    paper: Paper
    label: str
    at: datetime

    def ask(self, host: str, kind: str, place: Place) -> Iterator[Probe]:
        """Return the probes that ask for a host now."""
        measures = self._measures(host, place, self.at)
        yield self._probe(Channel.DNS, host, kind, place, _dns(measures))
        yield self._probe(Channel.FRONT, host, kind, place, _front(measures))
        yield self._probe(Channel.EDGE, host, kind, place, _edge(measures))

    def look_back(self, host: str, before: datetime, places: list[Place]) -> Iterator[Probe]:
        """Return the probes of what was stored or running just before, and what must have become of it."""
        for place in _inside_and_outside(self.paper, places):
            then, now = self._measures(host, place, before), self._measures(host, place, self.at)
            if "proxy" not in then:
                fate = "cut" if "proxy" in now else "goes on"
                yield self._probe(Channel.STREAM, host, "running", place, fate)
                yield self._probe(Channel.SOCKET, host, "running", place, fate)
        untouched = [
            place
            for place in places
            if not {"proxy", "cdn"}
            & (self._measures(host, place, before) | self._measures(host, place, self.at)).keys()
        ]
        if untouched and "cdn" in self.paper["measures"]:
            changed = self._uncached_somewhere(host, before) != self._uncached_somewhere(host, self.at)
            yield self._probe(Channel.STORED, host, "stored", untouched[0], "purged" if changed else "kept")

    def _probe(self, channel: Channel, host: str, kind: str, place: Place, expected: str) -> Probe:
        return Probe(
            order=self.paper["id"],
            turn=self.label,
            at=self.at,
            host=host,
            kind=kind,
            place=place,
            channel=channel,
            expected=expected,
        )

    def _measures(self, host: str, place: Place, at: datetime) -> dict[str, str]:
        return naive_reading.measures(self.papers, host, place.country, at)

    def _uncached_somewhere(self, host: str, at: datetime) -> bool:
        return any(
            "cdn" in paper["measures"] and naive_reading.holds(paper, at) and naive_reading.names(paper, host, at)
            for paper in self.papers
            if paper.get("mode") != "report"
        )


def _dns(measures: dict[str, str]) -> str:
    # Whatever the variant: the question tells the client's subnet, and then only a refusal is not cached for everybody
    # else (RFC 7871 §7.4). 16 is Censored (RFC 8914 §4.17).
    return "refused+16" if "dns" in measures else "answered"


def _front(measures: dict[str, str]) -> str:
    return {"terminate": "451", "close": "closed", None: "200"}[measures.get("proxy")]


def _edge(measures: dict[str, str]) -> str:
    if "proxy" in measures:
        return _front(measures)
    return "uncached" if "cdn" in measures else "cached"
