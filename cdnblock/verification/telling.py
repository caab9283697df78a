"""What a verification found, for people and for machines; and what it cannot have seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures.printable import printable
from cdnblock.orders.model import Measure
from cdnblock.verification.clients import Told
from cdnblock.verification.expecting import Promises
from cdnblock.verification.findings import Finding
from cdnblock.verification.probes import Way
from cdnblock.verification.servers import Edge, Resolver
from cdnblock.verification.verifying import Report

_OF_SERVERS: Final = {Edge: (Measure.CDN, Measure.PROXY), Resolver: (Measure.DNS,)}


def as_text(report: Report, shown: int) -> Iterator[str]:
    """Yield the differences, name by name, as lines; `shown` of them at most."""
    listed = sorted(report.findings[:shown], key=lambda finding: (finding.probe.name, finding.probe.way))
    for name, findings in groupby(listed, key=lambda finding: finding.probe.name):
        together = [*findings]
        yield f"{name} ({together[0].probe.kind})"
        yield from dict.fromkeys(map(_line, together))
    if report.differences > len(listed):
        yield f"… and {report.differences - len(listed):,} more"


def undecided(report: Report) -> str | None:
    """Return why nobody can say that a server does as decided although no difference was found, None if one can."""
    if not report.judged[True]:
        where = (
            "no client was where an order holds, or no order is in force"
            if not report.covered
            else "none told anything"
        )
        return f"nothing could be judged of what is to be refused: {where}"
    if not report.judged[False]:
        return "nothing could be judged of what is to be let through: no such answer told anything"
    if report.alarming:
        compare = (
            "--origin URL compares with what the site says itself"
            if isinstance(report.server, Edge)
            else "--reference compares"
        )
        return f"{report.alarming:,} answers may be refusals where none is due, or the sites' own: {compare}"
    return None


def verdict(report: Report) -> str:
    """Return the last line."""
    asked = f"{report.asked:,} probes for {sum(report.names.values()):,} names as {len(report.clients)} client"
    asked += f"{'' if len(report.clients) == 1 else 's'} by {' and '.join(report.ways)} in {report.seconds:.1f} s"
    if report.gone is not None:
        return f"{report.server}: ended early, {report.gone}; {_differences(report)} until then ({asked})"
    return f"{report.server}: {_differences(report)} ({asked})"


def as_mapping(report: Report, cannot_see: list[str]) -> dict[str, Any]:
    """Return everything as JSON has it."""
    return {
        "server": str(report.server),
        "clients": [
            {"label": client.label, "country": client.country, "address": client.address, "told": client.told.value}
            for client in report.clients
        ],
        "ways": [way.value for way in report.ways],
        "asked": report.asked,
        "judged": {"covered": report.judged[True], "let_through": report.judged[False]},
        "undecided": None if report.differences else undecided(report),
        "names": {kind.value: number for kind, number in report.names.items()},
        "differences": report.differences,
        "findings": [_finding(finding) for finding in report.findings],
        "unjudged": [
            {"why": why, "probes": number, "names": report.examples[why]} for why, number in report.open.items()
        ],
        "cannot_see": cannot_see,
        "ended_early": report.gone,
        "revisions": [*report.revisions],
        "seconds": round(report.seconds, 3),
    }


def unseen(report: Report, rules: RuleSet, promises: Promises, *, has_reference: bool) -> Iterator[str]:
    """Yield in words what this run cannot have seen."""
    for why, number in report.open.items():
        yield f"{number:,} answers tell nothing: {why} ({', '.join(map(printable, report.examples[why]))} …)"
    yield from _of_places(report, rules)
    for order in rules.reported:
        yield f"order {order.id}: it is report only, so nothing of it is expected"
    asked = _OF_SERVERS[type(report.server)]
    for measure in (measure for measure in Measure if any(measure in order.measures for order in rules.enforced)):
        if measure not in asked:
            yield f"measure {measure.value} is not this server's: verify the one that carries it as well"
    if isinstance(report.server, Resolver):
        if not has_reference:
            yield (
                "a name that is let through and does not exist: NXDOMAIN is believed unless it is plainly made up;"
                " --reference RESOLVER compares with one that filters nothing"
            )
        yield "DNS over TLS and over HTTPS"
    else:
        yield from _of_edges(report, promises)


def _of_edges(report: Report, promises: Promises) -> Iterator[str]:
    if Way.HTTP2 not in report.ways:
        why = "it needs h2: pip install 'cdnblock[dns]'" if _tls(report) else "this URL is without TLS"
        yield f"HTTP/2: {why}"
    path = report.server.path if isinstance(report.server, Edge) else "/"
    yield f"other paths than {path}, other methods than GET and HEAD, HTTP/3, and whether what ran already was cut"
    if promises.caching:
        yield "caches that do not say so (Age, Cache-Status, X-Cache) and headers that a site sends of its own accord"


def _of_places(report: Report, rules: RuleSet) -> Iterator[str]:
    countries = {client.country for client in report.clients}
    if all(client.told is Told.SOURCE for client in report.clients) and len(countries) == 1:
        where = next(iter(countries)) or "no country that the table knows"
        yield (
            f"clients elsewhere: it was asked from {where} alone. Where the server believes this machine, --by"
            " x-forwarded-for (or forwarded, proxy-v2, ecs) asks as clients in many places; where this machine has"
            " several addresses, --client ADDRESS=COUNTRY for each"
        )
    if not report.covered:
        yield "any measure: no probe was for a name in force and a client that it concerns"
    for order in rules.enforced:
        territory = order.territory
        if not territory.world and not territory.countries & countries:
            yield f"clients that order {order.id} concerns: none was in {territory}"
        if not territory.world and countries - {None} <= territory.countries and countries != {None}:
            yield f"clients that order {order.id} spares: none was in a country outside {territory}"
    yield from _of_parts(countries, rules)
    if None not in countries:
        yield "clients whose country cannot be told"
    if report.placed and report.placed == report.misplaced and len(countries) > 1:
        yield (
            "whether it enforces at all: no client was treated as one inside a territory. Does it believe what it is"
            " told of clients by this machine?"
        )


def _of_parts(asked: set[str | None], rules: RuleSet) -> Iterator[str]:
    """Yield the countries in which nobody was asked, of territories in which somebody was."""
    territories = [order.territory.countries for order in rules.enforced if not order.territory.world]
    partly = [countries - asked for countries in territories if countries & asked and countries - asked]
    if partly:
        unasked = sorted({country for countries in partly for country in countries})
        orders = f"{len(partly):,} order{'' if len(partly) == 1 else 's'}"
        yield (
            f"clients in {', '.join(unasked)}, in the territory of {orders}: none was there;"
            f" --client ADDRESS={unasked[0]} asks as one"
        )


def _tls(report: Report) -> bool:
    return isinstance(report.server, Edge) and report.server.tls


def _differences(report: Report) -> str:
    if not report.differences:
        return undecided(report) or "as decided"
    return f"{report.differences:,} difference{'' if report.differences == 1 else 's'}"


def _line(finding: Finding) -> str:
    probe = finding.probe
    form = "" if probe.form.label == "as it is" else f" {probe.form.label}"
    again = ", again" if probe.again else ""
    return (
        f"  {probe.way}{form}, as {probe.client}{again}: expected {finding.expected}, got {printable(finding.came)}"
        f"{_because(finding)}"
    )


def _because(finding: Finding) -> str:
    ids = [reason.id for reason in finding.decision.reasons]
    if ids:
        return f"  [{', '.join(ids)}]"
    spared = [f"{item.id}: {item.why.value}" for item in finding.decision.not_applied]
    return f"  [{', '.join(spared)}]" if spared else ""


def _finding(finding: Finding) -> dict[str, Any]:
    probe, decision = finding.probe, finding.decision
    return {
        "name": probe.name,
        "kind": probe.kind.value,
        "way": probe.way.value,
        "form": probe.form.label,
        "again": probe.again,
        "client": probe.client.address,
        "country": probe.client.country,
        "expected": finding.expected,
        "got": finding.came,
        "measures": {measure.value: variant for measure, variant in decision.measures.items()},
        "orders": [reason.id for reason in decision.reasons],
        "not_applied": [{"id": item.id, "why": item.why.value} for item in decision.not_applied],
    }
