"""`cdnblock audit`: is a trail what was written, what does it say, and what of it is evidence for one order."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import click

from cdnblock.audit.chain import anchor, read_anchor
from cdnblock.audit.checking import verify_evidence
from cdnblock.audit.evidence import export as export_evidence
from cdnblock.audit.reading import Choice, latest, records
from cdnblock.audit.records import HITS, Kind
from cdnblock.audit.verifying import Verification, verify
from cdnblock.cli.options import colours_wanted
from cdnblock.cli.progress import progress_bar
from cdnblock.errors import ConfigError
from cdnblock.matching.names import canonical
from cdnblock.orders.instants import read_instant
from cdnblock.shown import json_text, shown

EXIT_WRONG: Final = 1
_MOST: Final = 1_000_000  # records that --last may ask for
_COLUMNS: Final = ("SEQ", "TIME (UTC)", "KIND", "WHAT")
_LONGEST: Final = 400  # characters of a row's last column
_OF_EACH: Final = frozenset({"seq", "at", "kind", "chain"})
_COLOURS: Final = {Kind.GAP: "red", Kind.FILE_ERROR: "red", Kind.HELD_RELEASE: "yellow", Kind.CLOCK_STEP: "yellow"}
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _anchor_option(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else anchor(*read_anchor(value))
    except ValueError as error:
        raise click.BadParameter(shown(error), ctx, param) from None


def _instant_option(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else read_instant(value)
    except ValueError as error:
        raise click.BadParameter(shown(error), ctx, param) from None


def _trail_argument(command: _Command) -> _Command:
    return click.argument(
        "trail", metavar="[TRAIL]", type=click.Path(path_type=Path), envvar="CDNBLOCK_AUDIT", required=True
    )(command)


@click.group
def command() -> None:
    """Verify, show and export the trail of what was enforced. TRAIL is its folder, CDNBLOCK_AUDIT without one.

    Example: cdnblock audit verify /var/lib/cdnblock/audit
    """


@command.command("verify")
@_trail_argument
@click.option(
    "--expect", metavar="SEQ:CHAIN", callback=_anchor_option,
    help="A head that was written down elsewhere: the record of this number must have this chain.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def verify_command(trail: Path, expect: str | None, as_json: bool) -> None:  # noqa: FBT001 (click's way)
    """Find every cut, changed, reordered, doubled or missing record of a trail, or of an evidence file.

    A chain proves that nothing was changed by somebody who could not write it anew. Whoever can write to the folder
    can do that from any record on, unless a head was written down elsewhere: `status`, the log and this command tell
    it, and --expect compares.

    \b
    Exits 0 when the trail is what was written, 1 when it is not, 5 when it cannot be read.

    Example: cdnblock audit verify /var/lib/cdnblock/audit
    """  # noqa: D301 (click's mark)
    if trail.is_file():
        found = verify_evidence(trail, expect=expect)
    else:
        with progress_bar("octets of the trail") as draw:
            found = verify(trail, expect=expect, progress=draw)
    click.echo(json_text(found.as_json(), indent=1) if as_json else "\n".join(_page(found)))
    sys.exit(0 if found.ok else EXIT_WRONG)


@command.command("show")
@_trail_argument
@click.option("--order", metavar="ID", help="Only records of this order.")
@click.option("--name", metavar="NAME", help="Only records of this name of an order, or of this host.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind of records. Can be repeated.")
@click.option("--country", metavar="CODE", help="Only what was enforced on clients in this country.")
@click.option("--since", metavar="TIME", callback=_instant_option, help="Only from this instant on.")
@click.option("--until", metavar="TIME", callback=_instant_option, help="Only before this instant.")
@click.option("--last", type=click.IntRange(1, _MOST), metavar="NUMBER", help="Only so many, the last ones.")
@click.option("--json", "as_json", is_flag=True, help="A JSON line for each record instead of a table.")
def show_command(  # noqa: PLR0913 (one for each option)
    trail: Path,
    *,
    order: str | None,
    name: str | None,
    kinds: tuple[str, ...],
    country: str | None,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    as_json: bool,
) -> None:
    """Show the records of a trail, the oldest first. This checks nothing: `cdnblock audit verify` does.

    Example: cdnblock audit show /var/lib/cdnblock/audit --kind enforced --last 20
    """
    unknown = [kind for kind in kinds if kind not in set(Kind)]
    if unknown:
        raise click.BadParameter(f"there is no kind {shown(unknown[0])!r}; there are {', '.join(Kind)}")
    choice = Choice(
        order=order, name=name and (canonical(name) or name), country=country and country.upper(),
        kinds=frozenset(kinds), since=since, until=until,
    )  # fmt: skip
    found: Iterable[dict[str, Any]] = records(trail, choice) if last is None else latest(trail, last, choice)
    for row in (json.dumps(record) for record in found) if as_json else _table(found):
        click.echo(row)


@command.command("export")
@_trail_argument
@click.option("--order", metavar="ID", required=True, help="The order whose evidence it is to be.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to be written.")
def export_command(trail: Path, order: str, out: Path) -> None:
    """Write one self-contained file of evidence for an order, which `cdnblock audit verify FILE` accepts anywhere.

    It holds the order's records and those of the trail itself in full, the digests of all others between them, and the
    order files as they were. Exits 1 when the trail does not verify; the evidence is written, and says so.

    Example: cdnblock audit export /var/lib/cdnblock/audit --order tjp-2025-03-28-motogp --out evidence.json
    """
    with progress_bar("octets of the trail") as draw:
        try:
            done = _written(out, lambda file: export_evidence(trail, order, file, at=time.time(), progress=draw))
        except LookupError as error:
            raise ConfigError(str(error.args[0])) from None
    click.echo(
        f"{shown(out)}: {done.records:,} records, {done.omitted:,} of other orders as digests, {done.files:,} files",
        err=True,
    )
    click.echo(f"head {anchor(done.head.seq, done.head.chain)}", err=True)
    if not done.verification.ok:
        click.echo("\n".join(_page(done.verification)), err=True)
        sys.exit(EXIT_WRONG)


_T = TypeVar("_T")


def _written(out: Path, write: Callable[[BinaryIO], _T]) -> _T:
    """Have a file written whole or not at all, for this user alone."""
    descriptor, new = tempfile.mkstemp(prefix=f".{out.name[:100]}.", dir=out.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            done = write(file)
            file.flush()
            os.fsync(descriptor)
        Path(new).replace(out)
    except BaseException:
        with suppress(OSError):
            Path(new).unlink()
        raise
    return done


def _page(found: Verification) -> Iterator[str]:
    for note in found.notes:
        yield f"note: {shown(note)}"
    for finding in found.findings:
        line = shown(finding)
        yield click.style(line, fg="red") if colours_wanted() else line
    if found.more:
        yield f"and {found.more:,} more like these"
    what = f"{found.records:,} records" + (f", {found.omitted:,} as digests" if found.omitted else "")
    what += f" in {found.segments:,} segments" if found.segments else ""
    said = (
        "is what was written" if found.ok else f"IS NOT what was written: {len(found.findings) + found.more:,} findings"
    )
    yield f"{shown(found.file)}: {what}: {said}"
    if found.records or found.omitted:
        yield f"head {anchor(found.head.seq, found.head.chain)}"


def _table(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield _row(*_COLUMNS)
    for record in found:
        at, kind = shown(record.get("at"))[:23].replace("T", " "), shown(record.get("kind"))
        row = _row(shown(record.get("seq")), at, kind, _what(record)[:_LONGEST])
        colour = _COLOURS.get(kind) if colours_wanted() else None  # type: ignore[call-overload]  # a kind is its text
        yield click.style(row, fg=colour) if colour else row


def _row(seq: str, at: str, kind: str, what: str) -> str:
    return f"{seq:>9}  {at:23}  {kind:16}  {what}".rstrip()


def _what(record: Mapping[str, Any]) -> str:
    """Return in one line what a record tells."""
    if record.get("kind") not in HITS:
        told = {key: value for key, value in record.items() if key not in _OF_EACH and value not in (None, [], {})}
        return "  ".join(f"{shown(key)}={_value(value)}" for key, value in told.items())
    where = record.get("host") if record.get("host") not in (None, record.get("name")) else None
    names = (
        f"{record['names']} names or more" if record.get("name") is None and "names" in record else record.get("name")
    )
    parts = [
        record.get("order"), names, where and f"({where})",
        f"{record.get('measure')}:{record.get('variant')}", record.get("action"), record.get("country") or "-",
        record.get("client"), record.get("adapter"),
    ]  # fmt: skip
    if record.get("kind") == Kind.COUNTED:
        parts.append(f"x{record.get('count')} from {record.get('first')} to {record.get('last')}")
    return " ".join(shown(part) for part in parts if part)


def _value(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, dict) and "file" in item for item in value):
        return ", ".join(shown(item["file"]) for item in value)
    return shown(value) if isinstance(value, (str, int, float)) else json_text(value)
