"""One file that stands for itself: what a trail says of one order, so that somebody else can check it without the trail.

It holds the order's records in full, and those that tell of the trail itself; of the others between them only the
digests, with which the chain is as whole as with the records. Beside them stand the order files as they were.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from cdnblock.audit.chain import START, TAIL, anchor, read_anchor, read_line, seq_of
from cdnblock.audit.clocks import circumstances
from cdnblock.audit.reading import lines, listed, open_segment, orders_of, read_record, records
from cdnblock.audit.records import Kind, rfc3339
from cdnblock.audit.segments import FILES, Head
from cdnblock.audit.verifying import Progress, Verification, verify
from cdnblock.audit.walking import Walk

FORMAT: Final = "cdnblock evidence 1"
CHECKSUM: Final = b',\n"sha256":"'
DIGEST: Final = 32  # octets
MOST_OF_A_RUN: Final = 4_096  # records that one item leaves out

_OF_THE_TRAIL: Final = frozenset({
    Kind.TRAIL_OPENED, Kind.TRAIL_CLOSED, Kind.GAP, Kind.CLOCK_STEP, Kind.RETIRED, Kind.ROTATED, Kind.KEY_ROTATED,
    Kind.GEO_TABLE,
})  # fmt: skip
_KINDS: Final = tuple(f'{kind}"'.encode() for kind in sorted(_OF_THE_TRAIL))
_BEFORE_KIND: Final = 96  # octets in which a kind stands: behind a number and an instant
_SHOWN: Final = 1_000  # octets of a line that is no record
_MOST_FILE: Final = 64 * 1024 * 1024  # octets, as many as an order file may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an evidence file holds: so many of the order's records and of the trail's own, the others as digests."""

    records: int
    omitted: int
    files: int
    head: Head
    verification: Verification


def export(folder: Path | str, order: str, out: BinaryIO, *, at: float, progress: Progress | None = None) -> Exported:
    """Write the evidence of one order. What is wrong with the trail is wrong with the evidence, and told in it.

    Raises:
        OSError: the trail cannot be read, or the evidence not be written.
        LookupError: the trail says nothing of this order.

    """
    folder = Path(folder)
    skipped, before = _beginning(folder, order)
    verification = verify(folder, progress=progress)
    told, writing = _Told(folder, order, skipped, before), _Checked(out)
    writing.member("evidence", FORMAT)
    writing.member("order", order)
    writing.member("exported", {"at": rfc3339(at)} | circumstances(at))
    writing.member("trail", verification.as_json() | {"file": folder.name})
    writing.member("before", anchor(before.seq, before.chain))
    writing.list_of("chain", told.items())
    head = Head(told.walk.seq, told.walk.chain)
    writing.member("head", anchor(head.seq, head.chain))
    writing.member("records", told.records)
    writing.member("omitted", told.omitted)
    writing.member("software", sorted(told.software))
    writing.member("revisions", sorted(told.revisions))
    contents = (
        json.dumps({"file": name, "digest": digest} | _contents(folder, digest)).encode()
        for digest, name in told.files.items()
    )
    files = writing.list_of("files", contents)
    writing.end()
    return Exported(records=told.records, omitted=told.omitted, files=files, head=head, verification=verification)


def belongs(record: dict[str, Any], order: str) -> bool:
    """Tell whether a record stands in an order's evidence in full."""
    return record.get("kind") in _OF_THE_TRAIL or order in orders_of(record)


def files_of(record: dict[str, Any], order: str) -> Iterator[tuple[str, str]]:
    """Yield the digest and the name of each file of an order that a record names."""
    if isinstance(digest := record.get("file"), str) and record.get("order") == order and digest.startswith("sha256:"):
        yield digest, "the order file"
    if record.get("kind") != Kind.LOADED:
        return
    for item in listed(record, "files"):
        if isinstance(item, dict) and item.get("order") == order:
            for each in (item, *listed(item, "beside")):
                if isinstance(each, dict):
                    yield str(each.get("digest")), str(each.get("file"))


def _is_of(raw: bytes, order: str) -> bool:
    """Tell the same of a line; hardly any that is not the order's is looked into."""
    kind = raw.find(b'"kind":"', 0, _BEFORE_KIND) + 8
    if not raw.startswith(_KINDS, kind) and json.dumps(order).encode() not in raw:
        return False
    record = read_record(raw)
    return record is not None and belongs(record, order)


@dataclass(slots=True)
class _Told:
    """What of a trail belongs to an order, as it is read.

    It begins where recording began before the order's first record, for the circumstances, and goes on to the end of
    the trail, so that its head can be compared with one that was written down elsewhere.
    """

    folder: Path
    order: str
    skipped: int
    before: Head
    walk: Walk = field(init=False)
    records: int = 0
    omitted: int = 0
    files: dict[str, str] = field(default_factory=dict)
    software: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.walk = Walk(before=self.before)

    def items(self) -> Iterator[bytes]:
        """Yield the items of the evidence as JSON: records, runs of digests, and lines that are no record."""
        run = bytearray()
        for raw in islice(lines(self.folder), self.skipped, None):
            found = len(self.walk.findings) + self.walk.more
            self.walk.line(raw, "", 0)
            fits = found == len(self.walk.findings) + self.walk.more
            record = read_record(raw)
            if fits and record is not None and not belongs(record, self.order):
                self.omitted += 1
                run += sha256(raw[:-TAIL]).digest()
            if run and (
                len(run) >= MOST_OF_A_RUN * DIGEST or not fits or record is None or belongs(record, self.order)
            ):
                yield _run(run)
                run.clear()
            if record is None:
                yield json.dumps({"no_record": raw[:_SHOWN].decode("latin-1")}).encode()
            elif not fits or belongs(record, self.order):
                self._note(record)
                yield raw
        if run:
            yield _run(run)

    def _note(self, record: dict[str, Any]) -> None:
        self.records += 1
        self.files |= {digest: name for digest, name in files_of(record, self.order) if digest not in self.files}
        if isinstance(revision := record.get("revision"), str) and self.order in orders_of(record):
            self.revisions.add(revision)
        if record.get("kind") == Kind.TRAIL_OPENED:
            self.software.add(str(record.get("software")))


def _beginning(folder: Path, order: str) -> tuple[int, Head]:
    """Return how many lines come before an order's evidence, and the chain before it."""
    begins = (0, Head())
    last: bytes | None = None
    for number, raw in enumerate(lines(folder)):
        if not number and (first := seq_of(raw)) is not None and first > 1:
            begins = (0, _retired_before(folder, first))
        if _is_of(raw, order):
            record = read_record(raw) or {}
            if record.get("kind") == Kind.TRAIL_OPENED and last is not None and (line := read_line(last)) is not None:
                begins = (number, Head(line.seq, line.chain))
            if order in orders_of(record):
                return begins
        last = raw
    raise LookupError(f"{folder}: no record tells of the order {order!r}")


def _retired_before(folder: Path, first: int) -> Head:
    """Return the chain before a trail's first record, as the record says that tells of what was deleted."""
    for record in records(folder, kinds={Kind.RETIRED}):
        with suppress(ValueError):
            head = Head(*read_anchor(str(record.get("head"))))
            if head.seq == first - 1:
                return head
    return Head(first - 1, START)


def _run(digests: bytearray) -> bytes:
    return json.dumps({"omitted": len(digests) // DIGEST, "digests": base64.b64encode(digests).decode()}).encode()


def _contents(folder: Path, digest: str) -> dict[str, Any]:
    """Return a kept file's contents: its text, or base64 where it is none."""
    try:
        with open_segment(folder / FILES / Path(digest.removeprefix("sha256:")).name) as file:
            octets = file.read(_MOST_FILE)
    except OSError as error:
        return {"missing": error.strerror or "it cannot be read"}
    try:
        return {"text": octets.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(octets).decode()}


class _Checked:
    """Writes, and knows the digest of what was written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._digest = sha256()

    def write(self, octets: bytes) -> None:
        self._digest.update(octets)
        self._out.write(octets)

    def member(self, name: str, value: Any) -> None:
        self.write(b"{" if name == "evidence" else b",\n")
        self.write(json.dumps(name).encode() + b":" + json.dumps(value).encode())

    def list_of(self, name: str, items: Iterator[bytes]) -> int:
        """Write a list, one item a line; return how many there were."""
        number = 0
        self.write(b",\n" + json.dumps(name).encode() + b":[")
        for number, item in enumerate(items, start=1):
            self.write((b",\n" if number > 1 else b"\n") + item)
        self.write(b"\n]")
        return number

    def end(self) -> None:
        self._out.write(CHECKSUM + self._digest.hexdigest().encode() + b'"}\n')
