"""`cdnblock status`: what a running instance enforces, and what keeps it from enforcing what is on the disk."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from cdnblock.cli.options import colours_wanted, printable, rfc3339
from cdnblock.errors import Problem, Severity
from cdnblock.orders.instants import LEGAL_TIME
from cdnblock.shown import json_text

ENFORCED: Final = "enforced"  # what the instance says of a file that is in force as it is on the disk
REPORTED: Final = "report only"  # and of one of which all is told, and nothing done
EXIT_WRONG: Final = 1
EXIT_UNREACHABLE: Final = 5
HINT_AFTER: Final = 2.0  # seconds; then whoever waits at a terminal is told for what

_COLOURS: Final = {ENFORCED: "green", REPORTED: "cyan", "last good version kept": "yellow", "release held": "yellow"}
_ALARM: Final = "red"  # every other state, and what is overdue
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="CDNBLOCK_STATE",
    show_envvar=True,
    required=True,
    help="State folder of the running instance.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.command
@state_option
@json_option
def command(state: Path, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Show what a running instance enforces: revision, files and their errors, held releases, deadlines.

    \b
    Exits 0 when all that is on the disk is enforced,
          1 when a file is invalid, a release is held back, the last good orders cannot be kept on the disk, or the trail
            cannot be written,
          5 when no instance answers.

    Example: cdnblock status --state /var/lib/cdnblock
    """  # noqa: D301 (click's mark)
    found = asked(state, {"command": "status"}, timeout=10)
    with understood(state):
        lines = [json_text(found, indent=1)] if as_json else list(_page(found, state))
        wrong = is_anything_wrong(found)
    echo(lines)
    sys.exit(EXIT_WRONG if wrong else 0)


def asked(state: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return the instance's reply, or exit 5; `timeout` in seconds."""
    from cdnblock.sources.control_socket import ask

    hint = threading.Timer(HINT_AFTER, _tell_to_wait)
    hint.daemon = True
    hint.start()
    try:
        reply = ask(state, dict(request), timeout)
    except ConnectionError as error:
        _unreachable(str(error))
    finally:
        hint.cancel()
    if "error" in reply:
        _unreachable(f"{state}: the instance could not answer: {reply['error']}")
    return reply


@contextmanager
def understood(state: Path) -> Iterator[None]:
    """Exit 5 when a reply is not what this version of cdnblock expects."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError):
        _unreachable(f"{state}: another version of cdnblock answers there; restart it, or use its own command")


def is_anything_wrong(status: Mapping[str, Any]) -> bool:
    """Tell whether something on the disk is not enforced, or what is enforced would not survive a restart."""
    return bool(
        status["held"]
        or status["state_folder_error"]
        or status.get("apply", {}).get("failing")
        or status.get("audit", {}).get("failing")
        or any(file["state"] not in (ENFORCED, REPORTED) for file in status["files"])
        or any(problem["severity"] == Severity.ERROR for problem in status["problems"])
    )


def problems_and_held(status: Mapping[str, Any], state: Path) -> Iterator[str]:
    """Yield what is wrong, a line each, and what to do about it."""
    for problem in status["problems"]:
        yield str(Problem(**(problem | {"severity": Severity(problem["severity"])})))
    if status["state_folder_error"]:
        yield f"{state}: {status['state_folder_error']}"
    if failing := status.get("apply", {}).get("failing"):
        yield from (f"{status['apply']['target']}: {line}" for line in failing.splitlines())
    if failing := status.get("audit", {}).get("failing"):
        yield f"{status['audit']['folder']}: nothing is recorded since {_legal(status['audit']['failing_since'])}: {failing}"
    for held in status["held"]:
        yield f"{held['file']}: would release {many(held['names'], 'name')} in force; held back since {_legal(held['since'])}"
    if status["held"]:
        yield f"if that is meant: cdnblock reload --state {shlex.quote(str(state))} --accept-release"


def last_reload(status: Mapping[str, Any]) -> str:
    """Return when the files were last found changed, how long that took, and whether it changed the rules."""
    last = status["last_reload"]
    if last is None:
        return "none since the start"
    what = "the rules changed" if last["changed"] else "the rules stayed"
    when = f"{_legal(last['at'])}, {_since(last['at'], datetime.now(UTC))}"
    return f"{when}, in {last['seconds'] * 1000:,.1f} ms; {what}"


def many(number: int, noun: str) -> str:
    """Return `1 name`, `1,000 names`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def echo(lines: Iterable[str]) -> None:
    """Print lines; colours reach terminals alone."""
    for line in lines:
        click.echo(line, color=colours_wanted())


def _page(status: Mapping[str, Any], state: Path) -> Iterator[str]:
    yield from _aligned(_summary(status))
    yield ""
    yield from _files(status["files"])
    wrong = [printable(line) for line in problems_and_held(status, state)]
    if wrong:
        yield ""
        yield from wrong
    if status["deadlines"]:
        yield ""
        yield from _deadlines(status["deadlines"])
    if status["expiring"]:
        yield ""
        yield from _endings(status["expiring"])


def _summary(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    now = datetime.now(UTC)
    yield "instance", f"pid {status['pid']}, started {_legal(status['started'])}, {_since(status['started'], now)}"
    yield "revision", status["revision"]
    if status["report_only"]:
        yield "REPORT ONLY", "nothing is refused; what would be enforced is told and counted"
    listed = f"{many(status['names'], 'name')} listed in {many(status['orders'], 'order')}"
    if status["orders_reported"]:
        listed += f", {status['orders_reported']:,} of them report only"
    yield "in force", f"{many(status['names_in_force'], 'name')}; {listed}"
    change = status["next_change"]
    yield "next change", "none" if change is None else f"{_legal(change)}, {_since(change, now)}"
    yield "last reload", last_reload(status)
    if "apply" in status:
        yield "engine", _engine(status["apply"])
    if "dns" in status:
        yield "DNS", _dns(status["dns"]["workers"])
    if "audit" in status:
        yield "trail", _trail(status["audit"], now)


def _engine(applied: Mapping[str, Any]) -> str:
    """Return whether an engine is kept in step, and since when it goes by what."""
    goes_by = (
        "nothing of ours is known to be in it yet"
        if applied["revision"] is None
        else f"went by {applied['revision']} {_since(applied['at'], datetime.now(UTC))}"
    )
    return f"{applied['target']}, {'NOT IN STEP' if applied['failing'] else 'in step'}; {goes_by}"


def _trail(audit: Mapping[str, Any], now: datetime) -> str:
    """Return where the trail ends, and whether anything is missing in it."""
    last = "nothing written yet" if audit["last"] is None else f"last written {_since(audit['last'], now)}"
    missing = [many(audit[key], noun) for key, noun in (("gaps", "gap"), ("write_errors", "write error")) if audit[key]]
    state = "NOT RECORDING; " if audit["failing"] else ""
    return f"{state}{', '.join([last, *missing])}; head {audit['head']}"


def _dns(workers: Sequence[Mapping[str, Any]]) -> str:
    """Return what a DNS front has done so far, all its workers together."""
    counted = [
        f"{sum(worker['queries'][outcome] for worker in workers):,} {outcome}"
        for outcome in ("refused", "forwarded", "failed")
    ]
    return f"{', '.join(counted)} by {many(len(workers), 'worker')}"


def _files(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not files:
        yield "no order files"
        return
    rows = [
        (
            file["file"], file["state"], file["order"] or "-", "-" if file["names"] is None else f"{file['names']:,}",
            many(len(file["problems"]), "problem") if file["problems"] else "",
        )
        for file in files
    ]  # fmt: skip
    header, *lines = _aligned([("FILE", "STATE", "ORDER", "NAMES", ""), *rows])
    yield header
    for file, line in zip(files, lines, strict=True):
        yield click.style(line, fg=_COLOURS.get(file["state"], _ALARM))


def _deadlines(deadlines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    now = datetime.now(UTC)
    deadlines = sorted(deadlines, key=lambda due: datetime.fromisoformat(due["deadline"]))
    rows = [
        (due["order"], due.get("notice") or "", _legal(due["deadline"]), _since(due["deadline"], now))
        for due in deadlines
    ]
    header, *lines = _aligned([("DEADLINE OF", "NOTICE", "AT", ""), *rows])
    yield header
    for due, line in zip(deadlines, lines, strict=True):
        yield click.style(f"{line}, and not said to be implemented", fg=_ALARM) if due["overdue"] else line


def _endings(expiring: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    now = datetime.now(UTC)
    rows = [(item["order"], _legal(item["ends"]), _since(item["ends"], now)) for item in expiring]
    header, *lines = _aligned([("ABOUT TO END", "AT", ""), *rows])
    yield header
    yield from lines


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _legal(instant: str) -> str:
    """Return an instant in legal time, to the second."""
    return rfc3339(datetime.fromisoformat(instant).replace(microsecond=0), LEGAL_TIME)


def _since(instant: str, now: datetime) -> str:
    """Return how far away an instant is, in the largest unit: `3 d ago`, `in 12 min`."""
    away = (datetime.fromisoformat(instant) - now) // timedelta(seconds=1)
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(away) >= size), _UNITS[-1])
    return f"in {away // size} {unit}" if away >= 0 else f"{-away // size} {unit} ago"


def _tell_to_wait() -> None:
    if sys.stderr.isatty():
        click.echo("cdnblock: waiting for the instance …", err=True)


def _unreachable(message: str) -> NoReturn:
    click.echo(f"cdnblock: {printable(message)}", err=True)
    sys.exit(EXIT_UNREACHABLE)
