"""The trail: its last records, filtered by the query string, and whether it is whole; and the decisions as they come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cdnblock.audit.reading import Choice
from cdnblock.audit.records import HITS, Kind
from cdnblock.dashboard.rendering import Asked, Page
from cdnblock.dashboard.trail_view import Found
from cdnblock.dashboard.view import View
from cdnblock.orders.instants import read_instant

_SHOWN: Final = 200  # records
_LONGEST: Final = 300  # characters of a filter
_HEAD: Final = ("seq", "at", "kind", "chain")


def decisions(view: View, asked: Asked) -> Page:
    """Return the page of the decisions, the newest first."""
    return _records(view, asked, "decisions.html", HITS)


def trail(view: View, asked: Asked) -> Page:
    """Return the page of the trail; `?verify=1` has it verified, beside everything else."""
    page = _records(view, asked, "trail.html", _kinds(asked))
    if view.trail is None:
        return page
    if asked.query.get("verify") == "1":
        view.trail.verify()
    told = {"verified": view.trail.verified, "verifying": view.trail.is_verifying, "kinds": list(Kind)}
    return Page(template=page.template, values={**page.values, **told}, status=page.status)


def _records(view: View, asked: Asked, template: str, kinds: frozenset[str]) -> Page:
    fields = {
        name: asked.query.get(name, "").strip()[:_LONGEST] for name in ("order", "name", "country", "kind", "since")
    }
    found, error, mistake = Found(records=(), whole=True), None, None
    try:
        since = read_instant(fields["since"]) if fields["since"] else None
    except ValueError:
        since, mistake = None, "try.no_time"
    if view.trail is not None:
        choice = Choice(
            order=fields["order"] or None, name=fields["name"] or None, country=fields["country"].upper() or None,
            kinds=kinds, since=since,
        )  # fmt: skip
        try:
            found = view.trail.last(_SHOWN, choice)
        except OSError as failure:
            error = str(failure)
    values = {
        "has_trail": view.trail is not None,
        "folder": str(view.trail.folder) if view.trail else "",
        "fields": fields,
        "mistake": mistake,
        "found": found,
        "error": error,
        "records": [shown_record(record) for record in found.records],
        "status": view.status(),
    }
    return Page(template=template, values=values, status=400 if mistake else 200)


def shown_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record as the tables show it: its instant as one, and what else it says as pairs."""
    try:
        at = datetime.fromisoformat(str(record.get("at")))
    except ValueError:
        at = None
    rest = {key: value for key, value in record.items() if key not in _HEAD and value is not None}
    return {
        "at": at,
        "kind": str(record.get("kind")),
        "seq": record.get("seq"),
        "record": _Fields(record),
        "rest": rest,
    }


class _Fields(dict[str, Any]):
    """A record's fields, None for those that it does not have: records of other versions have others."""

    def __missing__(self, key: str) -> None:
        return None


def _kinds(asked: Asked) -> frozenset[str]:
    wanted = asked.query.get("kind", "")
    return frozenset({wanted}) if wanted in list(Kind) else frozenset()
