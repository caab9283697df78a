"""What a trail says of itself while somebody walks through it: gaps, unended runs, retired segments, order files. Bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from cdnblock.audit.chain import read_anchor
from cdnblock.audit.reading import listed
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import Head

_MOST_NOTES: Final = 100
_MOST: Final = 100_000  # order files and retired segments that are remembered
_LONGEST: Final = 500  # characters of a note
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})\Z")


class Hearing:
    """Listens to a walk.

    `digests` are the order files that records name, each with the file, line and number of the first such record;
    `retired` the heads of deleted segments, by number.
    """

    def __init__(self) -> None:
        self.digests: dict[str, tuple[str, int, int]] = {}
        self.retired: dict[int, bytes] = {}
        self._notes: list[str] = []
        self._more = 0

    def __call__(self, file: str, line: int, record: dict[str, Any]) -> None:
        """Take a record that speaks of the trail itself."""
        where = f"{file}:{line}" if line else file
        match record.get("kind"):
            case Kind.GAP:
                self._note(f"{where}: a gap: {record.get('why')}; lost: {_lost(record)}")
            case Kind.TRAIL_OPENED if told := _mapping(record.get("before")).get("told"):
                self._note(f"{where}: of the run before this: {told}")
            case Kind.RETIRED:
                self._retire(record.get("head"))
            case Kind.LOADED:
                for digest in _digests(record):
                    if len(self.digests) < _MOST:
                        self.digests.setdefault(digest, (file, line, record["seq"]))

    def notes(self) -> list[str]:
        """Return what people should know of, and of how much more."""
        return self._notes if not self._more else [*self._notes, f"{self._more:,} more notes like these"]

    def _note(self, note: str) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes.append(note[:_LONGEST])
        else:
            self._more += 1

    def _retire(self, told: object) -> None:
        try:
            head = Head(*read_anchor(str(told)))
        except ValueError:
            return
        if len(self.retired) < _MOST:
            self.retired[head.seq] = head.chain


def _digests(record: dict[str, Any]) -> Iterator[str]:
    for item in listed(record, "files"):
        for each in (item, *listed(item, "beside")) if isinstance(item, dict) else ():
            found = _DIGEST.match(str(each.get("digest"))) if isinstance(each, dict) else None
            if found is not None:
                yield found[1]


def _lost(record: dict[str, Any]) -> str:
    if record.get("lost", {}) is None:  # as when a process died that alone knew
        return f"nobody knows how many {record.get('of')}"
    return ", ".join(f"{many} {what}" for what, many in _mapping(record.get("lost")).items()) or "nothing"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
