"""Is an evidence file what was exported? It is judged by itself alone, wherever it came to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cdnblock.audit.chain import anchor, read_anchor
from cdnblock.audit.evidence import CHECKSUM, DIGEST, FORMAT, MOST_OF_A_RUN, belongs, files_of
from cdnblock.audit.hearing import Hearing
from cdnblock.audit.reading import listed, open_segment, orders_of
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import Head
from cdnblock.audit.verifying import Verification, judge_expected
from cdnblock.audit.walking import Walk, Wrong

_MOST: Final = 512 * 1024**2  # octets
_END: Final = len(CHECKSUM) + 2 * DIGEST + len(b'"}\n')
_MEMBERS: Final = {
    "evidence": str, "order": str, "exported": dict, "trail": dict, "before": str, "chain": list, "head": str,
    "records": int, "omitted": int, "software": list, "revisions": list, "files": list, "sha256": str,
}  # fmt: skip


def verify_evidence(path: Path | str, *, expect: str | None = None) -> Verification:
    """Verify an evidence file; `expect` is a head (SEQ:CHAIN) known from elsewhere, between its first and last record.

    Raises:
        OSError: it cannot be read, or is larger than any evidence.
        ValueError: `expect` is no head.

    """
    expected = Head(*read_anchor(expect)) if expect is not None else None
    name = Path(path).name
    with open_segment(Path(path).resolve()) as file:
        octets = file.read(_MOST + 1)
    if len(octets) > _MOST:
        raise OSError(0, f"{path} is larger than any evidence")
    told = _parsed(octets)
    if isinstance(told, str):
        walk = Walk()
        walk.add(Wrong.EVIDENCE, name, None, None, told)
        return _result(name, walk, 0)
    return _Judgement(told, name, expected).result(_is_checksum_right(octets))


def _parsed(octets: bytes) -> dict[str, Any] | str:
    """Return an evidence file's members, or why it is none."""
    try:
        told = json.loads(octets, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        return f"this is no evidence file: {error}"
    if not isinstance(told, dict) or told.get("evidence") != FORMAT:
        return f"this is no evidence file: it does not begin with {FORMAT!r}"
    wrong = [key for key, kind in _MEMBERS.items() if type(told.get(key)) is not kind]
    wrong += [str(key) for key in told if key not in _MEMBERS]
    return told if not wrong else f"these members are missing, wrong, or do not belong: {', '.join(wrong)}"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _is_checksum_right(octets: bytes) -> bool:
    claimed = octets[-_END:]
    return claimed == CHECKSUM + sha256(octets[:-_END]).hexdigest().encode() + b'"}\n'


class _Judgement:
    """The way through one evidence file."""

    def __init__(self, told: dict[str, Any], name: str, expected: Head | None) -> None:
        self._told = told
        self._name = name
        self._order: str = told["order"]
        self._expected = expected
        try:
            self._before: Head | None = Head(*read_anchor(told["before"]))
        except ValueError:
            self._before = None
        self._heard = Hearing()
        marks = () if expected is None else (expected,)
        self._walk = Walk(before=self._before or Head(), marks=marks, listen=self._heard)
        self._records: list[dict[str, Any]] = []
        self._omitted = 0

    def result(self, checksum_is_right: bool) -> Verification:  # noqa: FBT001 (the one thing that was asked before)
        if not checksum_is_right:
            self._wrong("the checksum at its end is another one: something in this file was changed")
        if self._before is None:
            self._wrong("'before' is no head")
        for number, item in enumerate(self._told["chain"], start=1):
            self._take(item, number)
        self._judge_beginning()
        self._judge_header()
        self._judge_files()
        self._judge_trail()
        if self._expected is not None:
            judge_expected(self._expected, self._walk, self._name)
        return _result(self._name, self._walk, self._omitted, self._heard.notes())

    def _take(self, item: object, number: int) -> None:
        where = f"{self._name} (item {number} of its chain)"
        digests = _digests_of(item)
        if digests is not None:
            self._omitted += len(digests)
            for digest in digests:
                self._walk.omitted(digest)
        elif isinstance(item, dict) and "seq" in item:
            # As the trail has it: what is not the same to the octet does not follow from what was before.
            raw = json.dumps(item, separators=(",", ":"), ensure_ascii=True).encode()
            found = len(self._walk.findings)
            self._walk.line(raw, where, 0)
            self._records.append(item)
            if found == len(self._walk.findings) and not belongs(item, self._order):
                self._wrong(f"record {item['seq']} tells of something else")
        else:
            self._walk.add(Wrong.MALFORMED, where, None, None, "this is no record")

    def _judge_beginning(self) -> None:
        """Evidence begins where a trail does, where recording began, or behind what was deleted: nowhere between."""
        before, first = self._before or Head(), next(iter(self._told["chain"]), None)
        if before == Head() or (isinstance(first, dict) and first.get("kind") == Kind.TRAIL_OPENED and before.seq):
            return
        if self._heard.retired.get(before.seq) != before.chain:
            self._wrong("its beginning was cut: it begins neither where recording began nor behind what was deleted")

    def _judge_header(self) -> None:
        walk, told = self._walk, self._told
        own = [record for record in self._records if self._order in orders_of(record)]
        revisions = {record["revision"] for record in own if isinstance(record.get("revision"), str)}
        opened = [record for record in self._records if record.get("kind") == Kind.TRAIL_OPENED]
        right = {
            "head": anchor(walk.seq, walk.chain),
            "records": len(self._records),
            "omitted": self._omitted,
            "revisions": sorted(revisions),
            "software": sorted({str(record.get("software")) for record in opened}),
        }
        for key, value in right.items():
            if told[key] != value:
                self._wrong(f"{key!r} is not what its records say")
        if not own:
            self._wrong(f"no record in it tells of the order {self._order!r}")

    def _judge_files(self) -> None:
        wanted = dict.fromkeys(digest for record in self._records for digest, _ in files_of(record, self._order))
        there: set[str] = set()
        for item in self._told["files"]:
            octets = _octets_of(item)
            digest = item.get("digest") if isinstance(item, dict) else None
            if not isinstance(digest, str) or digest not in wanted:
                self._wrong_file(f"the file {digest!r} is named by no record")
            elif octets is None:
                self._wrong_file(f"the contents of {digest} are not here")
            elif f"sha256:{sha256(octets).hexdigest()}" != digest:
                self._wrong_file(f"the contents of {digest} were changed")
            there.add(str(digest))
        for digest in wanted:
            if digest not in there:
                self._wrong_file(f"the file {digest}, which a record names, is not here")

    def _judge_trail(self) -> None:
        """Tell again what was wrong with the trail when this was exported."""
        trail = self._told["trail"]
        if trail.get("ok") is not True:
            findings = listed(trail, "findings")
            first = next((str(item.get("message")) for item in findings if isinstance(item, dict)), "")
            self._wrong(f"the trail itself did not verify when this was exported: {first}")

    def _wrong(self, message: str) -> None:
        self._walk.add(Wrong.EVIDENCE, self._name, None, None, message)

    def _wrong_file(self, message: str) -> None:
        self._walk.add(Wrong.ORDER_FILE, self._name, None, None, message)


def _digests_of(item: object) -> list[bytes] | None:
    """Return the digests of a run of records that were left out, None when an item is no such run."""
    if not isinstance(item, dict) or item.keys() != {"omitted", "digests"} or not isinstance(item["digests"], str):
        return None
    try:
        octets = base64.b64decode(item["digests"], validate=True)
    except ValueError:
        return None
    found = [octets[at : at + DIGEST] for at in range(0, len(octets), DIGEST)]
    right = item["omitted"] == len(found) <= MOST_OF_A_RUN and len(octets) % DIGEST == 0
    return found if right else None


def _octets_of(item: object) -> bytes | None:
    if not isinstance(item, dict):
        return None
    try:
        if isinstance(item.get("text"), str):
            return str(item["text"]).encode("utf-8")
        return base64.b64decode(item["base64"], validate=True) if isinstance(item.get("base64"), str) else None
    except ValueError:
        return None


def _result(name: str, walk: Walk, omitted: int, notes: Iterable[str] = ()) -> Verification:
    return Verification(
        file=name, records=walk.records - omitted, segments=0, first=walk.first, head=Head(walk.seq, walk.chain),
        findings=walk.found(), notes=tuple(notes), more=walk.more, omitted=omitted,
    )  # fmt: skip
