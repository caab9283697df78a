"""The second reading: what a person with the files in hand would say, and nothing clever.

The sandbox asks this page, never `decide`, what each probe should get: two readings by different minds agree only where
the order is clear. So nothing here is shared with the code that enforces, nothing is fast, nothing is compiled: open
every file, go through every order, compare texts and dates. Keep it so that a lawyer can follow it line by line.

It takes for granted that the files are valid; whatever enforces them has refused to start otherwise.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import yaml

from cdnblock.errors import ConfigError

Paper: TypeAlias = dict[str, Any]
"""An order file as it stands on paper: keys and texts. `folder` is added: where it lay."""

PRESETS: Final = {
    "metropolitan-france": ["FR"],
    "france-2024-10-10": ["FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF"],
    "france-all": ["FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF", "PF", "PM", "BL", "MF"],
}
STRICTEST_FIRST: Final = {
    "dns": ["refuse", "nxdomain", "nodata"],
    "cdn": ["disable"],
    "proxy": ["close", "terminate"],
}


class Listed(NamedTuple):
    """A name on the paper, with its sub-domains or alone, covered from `since` on; `said` is when it was notified."""

    name: str
    subdomains: bool
    since: datetime
    said: datetime


def read(path: Path) -> list[Paper]:
    """Read an order file, or all those of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix in (".yaml", ".yml") and not file.name.startswith(".")]
    # BaseLoader leaves every value a text, as it was typed.
    papers = [yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) for file in files]  # noqa: S506
    return [{**paper, "folder": file.parent} for paper, file in zip(papers, files, strict=True)]


def as_reported(papers: list[Paper]) -> list[Paper]:
    """Return the papers as they are read in a dry run of everything: each asks for nothing, and says what it would."""
    return [{**paper, "mode": "report"} for paper in papers]


def measures(papers: list[Paper], host: str, country: str | None, at: datetime) -> dict[str, str]:
    """Return what must be done about this host for a client in this country (None: unknown) at this instant.

    A paper in mode report asks for nothing.
    """
    return _asked([paper for paper in papers if paper.get("mode") != "report"], host, country, at)


def would(papers: list[Paper], host: str, country: str | None, at: datetime) -> dict[str, str]:
    """Return what the papers in mode report would ask for."""
    return _asked([paper for paper in papers if paper.get("mode") == "report"], host, country, at)


def _asked(papers: list[Paper], host: str, country: str | None, at: datetime) -> dict[str, str]:
    wanted: dict[str, list[str]] = {}
    for paper in papers:
        if holds(paper, at) and concerns(paper, country) and names(paper, host, at):
            for measure, variant in paper["measures"].items():
                wanted.setdefault(measure, []).append(variant)
    return {measure: min(variants, key=STRICTEST_FIRST[measure].index) for measure, variants in wanted.items()}


def holds(paper: Paper, at: datetime) -> bool:
    """Tell whether the order as such is in force: begun, not over, not lifted as a whole, inside a window if it has any."""
    if not begin(paper) <= at < end(paper):
        return False
    if any("names" not in lifting and at >= moment(paper, lifting["at"]) for lifting in paper.get("lifted", [])):
        return False
    opened = windows(paper)
    return not opened or any(opens <= at < closes for opens, closes in opened)


def concerns(paper: Paper, country: str | None) -> bool:
    """Tell whether a client there is inside the order's territory."""
    territory = paper["territory"]
    if territory == "world":
        return True
    if country is None:
        return bool(paper.get("unknown_location") == "enforce")
    entries = [territory] if isinstance(territory, str) else territory
    return country in [code for entry in entries for code in PRESETS.get(entry, [entry])]


def names(paper: Paper, host: str, at: datetime) -> bool:
    """Tell whether the order names this host at this instant, and has not released it."""
    for item in listed(paper):
        if within(host, item.name, subdomains=item.subdomains) and item.since <= at:
            released = [
                lifting
                for lifting in paper.get("lifted", [])
                for name in lifting.get("names", [])
                if within(host, name) and item.said <= moment(paper, lifting["at"]) <= at
            ]
            if not released:
                return True
    return False


def within(host: str, name: str, *, subdomains: bool = True) -> bool:
    """Tell whether a host is this name, or ends with a dot and this name."""
    host, name = plain(host), plain(name)
    return host == name or (subdomains and host.endswith("." + name))


def plain(host: str) -> str:
    """Return a host without port and final dot, in lower case, as it goes over the wire."""
    host = host.split(":", maxsplit=1)[0].lower().removesuffix(".")
    return host if host.isascii() else host.encode("idna").decode()


def listed(paper: Paper) -> list[Listed]:
    """Return every name on the paper: the order's own, then those of its additions."""
    found = [Listed(*name, begin(paper), datetime.min.replace(tzinfo=UTC)) for name in _names_on(paper, paper)]
    for addition in paper.get("additions", []):
        said = moment(paper, addition["notified"])
        since = max(moment(paper, addition.get("from", addition["notified"])), begin(paper))
        found += [Listed(*name, since, said) for name in _names_on(paper, addition)]
    return found


def begin(paper: Paper) -> datetime:
    """Return when enforcement starts: `from`, or else the beginning of the day of service, or else of the decision."""
    if "from" in paper:
        return moment(paper, paper["from"])
    return moment(paper, _day(paper, paper.get("served") or paper["decided"]).isoformat())


def end(paper: Paper) -> datetime:
    """Return when it is over: `until`, or the last day of `for` to its end."""
    if "until" in paper:
        return moment(paper, paper["until"], end_of_day=True)
    number, unit = paper["for"].split(maxsplit=1)
    since = moment(paper, paper[paper["counted_from"]])
    day = _day(paper, paper[paper["counted_from"]])
    match unit.rstrip("s"):
        case "minute":
            return since + timedelta(minutes=int(number))
        case "hour":
            return since + timedelta(hours=int(number))
        case "day":
            last = day + timedelta(days=int(number))
        case "month":
            last = _months_later(day, int(number))
        case _:
            raise ConfigError(
                f"{paper['id']}: the sandbox's second reading cannot count {paper['for']!r}; give `until`"
            )
    return moment(paper, last.isoformat(), end_of_day=True)


def windows(paper: Paper) -> list[tuple[datetime, datetime]]:
    """Return the windows as the instants at which they open and close."""
    return [
        (moment(paper, window["from"]), moment(paper, window["until"], end_of_day=True))
        for window in paper.get("windows", [])
    ]


def middle(paper: Paper) -> datetime:
    """Return an instant in the middle of the order, or of its first window."""
    opens, closes = [*windows(paper), (begin(paper), end(paper))][0]
    return (opens + (closes - opens) / 2).replace(microsecond=0)


def moment(paper: Paper, text: str, *, end_of_day: bool = False) -> datetime:
    """Return the instant that a text means: legal time of the order's zone, a bare date its 00:00 or its 24:00."""
    if len(text) == len("2025-11-16"):
        day = date.fromisoformat(text) + timedelta(days=1 if end_of_day else 0)
        text = f"{day}T00:00"
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(_zone(paper)))).astimezone(UTC)


def _day(paper: Paper, text: str) -> date:
    return moment(paper, text).astimezone(ZoneInfo(_zone(paper))).date()


def _zone(paper: Paper) -> str:
    return str(paper.get("timezone", "Europe/Paris"))


def _names_on(paper: Paper, part: Paper) -> list[tuple[str, bool]]:
    found = []
    for name in part.get("names", []):
        if isinstance(name, str):
            found.append((name, True))
        else:
            found.append((name["name"], name.get("subdomains", "true").lower() not in ("false", "no", "off")))
    if "names_file" in part:
        lines = (paper["folder"] / part["names_file"]).read_text(encoding="utf-8").splitlines()
        found += [(line.split("#")[0].strip(), True) for line in lines if line.split("#")[0].strip()]
    return found


def _months_later(day: date, months: int) -> date:
    """Return the same day number so many months later, or that month's last day (code de procédure civile, art. 641)."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for number in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(number, day.day))
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")
