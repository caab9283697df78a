"""While nothing can be written: what is kept to be told later, what is lost, and what is logged of it."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from cdnblock.audit.records import HITS, rfc3339

MOST_KEPT: Final = 1_000  # events of a sort that are told late; what is enforced meanwhile is counted
_COMPLAIN_EVERY: Final = 60.0  # seconds

_LOG: Final = logging.getLogger("cdnblock.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is to be recorded: when it happened (seconds since 1970), and the octets that are kept beside it."""

    at: float
    kind: str
    fields: dict[str, Any]
    texts: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Outage:
    """A time during which nothing could be written; `seqs` are the numbers of records that were taken away."""

    since: float
    why: str
    seqs: tuple[int, int] | None = None
    lost: Counter[str] = field(default_factory=Counter)
    kept: deque[Event] = field(default_factory=deque)
    kept_hits: int = 0

    def keep(self, event: Event) -> None:
        """Keep an event to be told late; where there are too many, it is counted as lost.

        What tells of requests takes no room from what tells of orders.
        """
        is_hit = event.kind in HITS
        if self.kept_hits < MOST_KEPT if is_hit else len(self.kept) - self.kept_hits < MOST_KEPT:
            self.kept.append(event)
            self.kept_hits += is_hit
        elif is_hit:
            self.lost["enforcements"] += event.fields.get("count", 1)
        else:
            self.lost[event.kind] += 1

    def gap(self, now: float, counted: int) -> dict[str, Any]:
        """Return the fields of the record of this outage, `counted` enforcements being told right after it."""
        lost: dict[str, int] = dict(self.lost)
        if self.seqs is not None and self.seqs[1] >= self.seqs[0]:
            lost["records"] = self.seqs[1] - self.seqs[0] + 1
        late = dict(Counter(event.kind for event in self.kept))
        if counted:
            late["enforcements"] = counted
        fields = {"from": rfc3339(self.since), "to": rfc3339(now), "why": self.why, "lost": lost, "late": late}
        return fields if "records" not in lost else fields | {"seqs": self.seqs}


class Complaints:
    """What went wrong: counted each time, logged once a minute."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: dict[str, float] = {}

    def add(self, what: str, error: Exception) -> None:
        """Count an error, and log it unless one like it was logged within the last minute."""
        self.count += 1
        now, kind = time.monotonic(), f"{type(error).__qualname__}: {error}"
        if now - self._logged.get(kind, -_COMPLAIN_EVERY) < _COMPLAIN_EVERY:
            return
        if len(self._logged) > MOST_KEPT:
            self._logged.clear()
        self._logged[kind] = now
        _LOG.error("cdnblock: %s (told once a minute; %d errors so far): %s", what, self.count, error)
