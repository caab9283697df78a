"""The table: what each probe should get, what it got, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from cdnblock.sandbox.naive_reading import Paper
from cdnblock.sandbox.probes import Channel
from cdnblock.sandbox.rehearsal import Result
from cdnblock.shown import json_text, shown
from cdnblock.verification.places import Missing, Place

_COLUMNS: Final = ("host", "kind", "where", "expected", "got")
_LOOKED_AT: Final = {
    Channel.STORED: "stored copy",
    Channel.STREAM: "download",
    Channel.SOCKET: "websocket",
}
_UNKNOWN: Final = "--"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One line of the table."""

    turn: str
    host: str
    kind: str
    where: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished rehearsal. `seconds` is how long it took, start-up included."""

    papers: list[Paper]
    results: list[Result]
    places: list[Place]
    missing: list[Missing]
    warnings: list[str]
    revision: str
    geo: str
    seconds: float

    @property
    def failed(self) -> list[Result]:
        """The probes that got something else than their order says."""
        return [result for result in self.results if not result.ok]

    def as_json(self) -> str:
        """Return everything for machines."""
        whole: dict[str, Any] = {
            "verdict": "failed" if self.failed else "passed",
            "failed": [name_of(result) for result in self.failed],
            "revision": self.revision,
            "geo": self.geo,
            "seconds": round(self.seconds, 2),
            "places": [{"place": p.label, "country": p.country, "address": p.address} for p in self.places],
            "warnings": self.warnings,
            "skipped": [{"place": place.label, "reason": place.reason} for place in self.missing],
            "probes": [_as_mapping(result) for result in self.results],
        }
        return json_text(whole, indent=1)

    def table(self) -> str:
        """Return the table for people, with colours; `click.echo` leaves them out where nobody sees them."""
        lines = [line for paper in self.papers for line in self._of_order(paper)]
        return "\n".join([*lines, *self._verdict()])

    def _of_order(self, paper: Paper) -> Iterator[str]:
        zone = ZoneInfo(paper.get("timezone", "Europe/Paris"))
        rows = _rows([result for result in self.results if result.probe.order == paper["id"]], zone)
        heads = _Row(
            turn="", host="host", kind="which is", where="client", expected="expected: dns proxy cache", got="got"
        )
        widths = {name: max(len(getattr(row, name)) for row in [heads, *rows]) for name in _COLUMNS}
        yield click.style(paper["id"], bold=True) + f"  {shown(paper['court'])}, {paper['decided']}"
        measures = ", ".join(f"{measure}: {variant}" for measure, variant in paper["measures"].items())
        yield f"  {measures}{'; REPORT ONLY: nothing is refused' if paper.get('mode') == 'report' else ''}"
        yield click.style("    " + _aligned(heads, widths), underline=True)
        for turn, group in groupby(rows, key=attrgetter("turn")):
            yield click.style(f"  {turn}", fg="cyan")
            for row in group:
                yield "    " + _aligned(row, widths)
        yield ""

    def _verdict(self) -> Iterator[str]:
        for place in self.places:
            yield f"{place.country or _UNKNOWN} is {place.label}, asked as {place.address}"
        for warning in self.warnings:
            yield click.style(shown(warning), fg="yellow")
        for unknown in self.missing:
            yield click.style(f"skipped: {unknown.label}: {shown(unknown.reason)}", fg="yellow")
        for result in self.failed:
            yield click.style(f"FAILED {shown(name_of(result))}", fg="red")
        total, failed = len(self.results), len(self.failed)
        text = f"{total - failed} of {total} probes got what their order says"
        orders = f"{len(self.papers)} order{'' if len(self.papers) == 1 else 's'}"
        ending = f" ({orders}, {len(self.places)} places, {self.seconds:.1f} s; {shown(self.geo)})"
        yield click.style(text, fg="red" if failed else "green", bold=True) + ending


def _aligned(row: _Row, widths: dict[str, int]) -> str:
    cells = [f"{getattr(row, name):{widths[name]}}" for name in _COLUMNS[:-1]] + [row.got]
    if row.kind in ("", "which is"):
        return "  ".join(cells)
    if row.got == row.expected:
        cells[-1] = click.style(cells[-1], fg="green")
    else:
        cells[-1] = click.style(f"{row.got}  <-- WRONG", fg="red", bold=True)
    return "  ".join(cells)


def name_of(result: Result) -> str:
    """Return a probe's name and its outcome in one line."""
    probe = result.probe
    return (
        f"{probe.order}: {probe.channel.value} {probe.host} ({probe.kind}) from {probe.place.label} {probe.turn}: "
        f"expected {probe.expected!r}, got {result.got!r}"
    )


def _rows(results: list[Result], zone: ZoneInfo) -> list[_Row]:
    """Return one line for all that was alike: first the places of one host are joined, then the hosts of one kind."""
    by_places: dict[tuple[str, ...], list[str]] = {}
    for (turn, host, kind, where, what), group in groupby(results, key=lambda result: _sent_together(result, zone)):
        gathered = list(group)
        expected = " ".join(result.probe.expected for result in gathered)
        got = " ".join(result.got for result in gathered)
        by_places.setdefault((turn, kind, what, expected, got, host), []).append(where)
    by_hosts: dict[tuple[str, ...], list[str]] = {}
    for (*alike, host), places in by_places.items():
        by_hosts.setdefault((*alike, " ".join(places)), []).append(host)
    return [
        _Row(
            turn=turn,
            host=hosts[0] + (f" +{len(hosts) - 1}" if len(hosts) > 1 else ""),
            kind=what or kind,
            where=where,
            expected=expected,
            got=got,
        )
        for (turn, kind, what, expected, got, where), hosts in by_hosts.items()
    ]


def _sent_together(result: Result, zone: ZoneInfo) -> tuple[str, ...]:
    probe = result.probe
    where = probe.place.country or _UNKNOWN
    turn = f"{probe.turn}, {probe.at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
    return turn, probe.host, probe.kind, where, _LOOKED_AT.get(probe.channel, "")


def _as_mapping(result: Result) -> dict[str, Any]:
    probe = result.probe
    return {
        "order": probe.order,
        "turn": probe.turn,
        "at": probe.at.isoformat(),
        "host": probe.host,
        "kind": probe.kind,
        "place": probe.place.label,
        "country": probe.place.country,
        "client": probe.place.address,
        "channel": probe.channel.value,
        "expected": probe.expected,
        "got": result.got,
        "ok": result.ok,
    }
