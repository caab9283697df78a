"""How far an engine goes by the orders, as rows for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cdnblock.metrics import Row


def rows(told: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what `status` says of an engine that is kept in step."""
    labels = (told["target"],)
    yield "cdnblock_apply_in_step", labels, int(told["revision"] is not None and told["failing"] is None)
    yield "cdnblock_apply_missing", labels, len(told["missing"])
    if told["at"] is not None:
        yield "cdnblock_apply_last_timestamp_seconds", labels, datetime.fromisoformat(told["at"]).timestamp()
    if told["until"] is not None:
        yield "cdnblock_apply_until_timestamp_seconds", labels, datetime.fromisoformat(told["until"]).timestamp()
