"""*Try it*: a host and a client, and what the orders in force say of them, as `cdnblock explain` tells it."""

from __future__ import annotations

import shlex
from typing import Any, Final

from cdnblock.dashboard.rendering import Asked, Page
from cdnblock.dashboard.view import View
from cdnblock.geo.country import locate
from cdnblock.matching.explanation import explain
from cdnblock.orders.instants import read_instant
from cdnblock.orders.territories import COUNTRIES

_LONGEST: Final = 2_000  # characters of a field


def try_it(view: View, asked: Asked) -> Page:
    """Return the form and, once it is filled in, the explanation; the same code path as on the command line."""
    fields = {name: asked.query.get(name, "").strip()[:_LONGEST] for name in ("host", "client", "country", "at")}
    mistakes: dict[str, str] = {}
    country = fields["country"].upper() or None
    if country is not None and country not in COUNTRIES:
        mistakes["country"] = "try.no_country"
    at = asked.now
    if fields["at"]:
        try:
            at = read_instant(fields["at"])
        except ValueError:
            mistakes["at"] = "try.no_time"
    values: dict[str, Any] = {
        "fields": fields,
        "mistakes": mistakes,
        "told": None,
        "command": None,
        "countries": sorted(COUNTRIES),
    }
    if fields["host"] and not mistakes:
        told_by = None
        if fields["client"] and country is None:
            country, told_by = locate(view.enforcer.geo, fields["client"])
        decision = view.enforcer.rules.decide(fields["host"], country=country, at=at, told_by=told_by)
        asked_place = bool(fields["client"] or country)
        values["told"] = explain(decision, fields["host"], at, asked_place=asked_place)
        values["command"] = _command(fields)
    return Page(template="try.html", values=values, status=400 if mistakes else 200)


def _command(fields: dict[str, str]) -> str:
    """Return the command line that asks the same of the files on the disk."""
    words = ["cdnblock", "explain", fields["host"]]
    if fields["country"]:
        words += ["--country", fields["country"].upper()]
    elif fields["client"]:
        words.append(fields["client"])
    if fields["at"]:
        words += ["--at", fields["at"]]
    return shlex.join(words)
