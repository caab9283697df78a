"""Sentences that more than one page needs."""

from __future__ import annotations

from cdnblock.dashboard.register import Row
from cdnblock.dashboard.rendering import Asked


def life_in_words(row: Row, asked: Asked) -> str:
    """Return what the picture of an order's life shows, for whoever does not see it."""
    wording, zone = asked.wording, row.order.timezone
    words = wording(
        "orders.life", state=wording(f"state.{row.state(asked.now).name.lower()}"),
        starts=wording.instant(row.starts, zone), ends=wording.instant(row.over, zone),
    )  # fmt: skip
    if (owed := row.owed(asked.now)) is not None:
        words += " " + wording("orders.life_deadline", deadline=wording.instant(owed, zone))
    return words
