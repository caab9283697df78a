"""What a trail tells of enforcement, added up: for tests that compare it with what clients got."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from cdnblock.audit.reading import records


def enforced(folder: Path, *fields: str, kind: str = "enforced") -> dict[tuple, int]:
    """Return how often each combination of these fields was enforced, first ones and repeats together."""
    found: Counter = Counter()
    for record in records(folder):
        if record["kind"] == kind or (record["kind"] == "counted" and record["of"] == kind):
            found[tuple(record[field] for field in fields)] += record["count"]
    return dict(found)


def of_kind(folder: Path, kind: str) -> list[dict]:
    """Return all records of one kind."""
    return list(records(folder, kinds={kind}))


def wait_until(holds, within: float = 10.0):
    """Wait until something holds, and return it."""
    end = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return found
