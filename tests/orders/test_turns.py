"""The turns of an order's life, as instants, in the order in which they are told."""

from __future__ import annotations

import sys
from pathlib import Path

from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected
from cdnblock.orders.turns import turns_of

sys.path.insert(0, str(Path(__file__).parents[1]))

from order_texts import order_text


def told(more: str = "", **changes: str) -> list[tuple[str, str, object]]:
    text = (order_text(**changes) + more).encode()
    order, problems = parse_order(text, "x.yaml", read_names_file=lambda _name: b"", protected=Protected({}))
    assert order is not None, problems
    return [
        (f"{turn.at:%Y-%m-%dT%H:%M}", turn.happening.value, turn.names or turn.notice or turn.label)
        for turn in turns_of(order)
    ]


def test_a_plain_order_starts_and_ends():
    """Legal time in Paris is told as instants in UTC, a last day ends at 24:00."""
    assert told(begins="2025-04-03T09:00", until="2025-06-30") == [
        ("2025-04-03T07:00", "order-started", None),
        ("2025-06-30T22:00", "order-ended", None),
    ]


def test_windows_additions_and_liftings_turn_at_their_own_instants():
    """What touches is one window; a lifting of names is no end."""
    more = (
        "windows:\n"
        "  - {from: 2025-05-01T12:00, until: 2025-05-01T14:00, label: Qatar}\n"
        "  - {from: 2025-05-01T14:00, until: 2025-05-01T16:00}\n"
        "additions:\n"
        "  - {notice: ARCOM 1, notified: 2025-05-02T10:00, names: [more.example]}\n"
        "lifted:\n"
        "  - {names: [motogpstream.me], at: 2025-05-03T12:00}\n"
    )
    assert told(more, begins="2025-04-03T09:00", until="2025-06-30") == [
        ("2025-04-03T07:00", "order-started", None),
        ("2025-05-01T10:00", "window-opened", "Qatar"),
        ("2025-05-01T14:00", "window-closed", "Qatar"),
        ("2025-05-02T08:00", "addition-started", "ARCOM 1"),
        ("2025-05-03T10:00", "order-lifted", ("motogpstream.me",)),
        ("2025-06-30T22:00", "order-ended", None),
    ]


def test_nothing_turns_after_the_whole_order_is_lifted():
    """No window opens any more, and the end of what is over is none."""
    more = (
        "windows:\n"
        "  - {from: 2025-05-01T12:00, until: 2025-05-01T14:00}\n"
        "  - {from: 2025-05-09T12:00, until: 2025-05-09T14:00}\n"
        "lifted:\n"
        "  - {at: 2025-05-03T12:00, reason: settled}\n"
    )
    assert told(more, begins="2025-04-03T09:00", until="2025-06-30") == [
        ("2025-04-03T07:00", "order-started", None),
        ("2025-05-01T10:00", "window-opened", None),
        ("2025-05-01T12:00", "window-closed", None),
        ("2025-05-03T10:00", "order-lifted", None),
    ]


def test_a_window_that_closes_at_the_end_is_told_before_the_end():
    """At one instant the smaller thing comes first."""
    more = "windows:\n  - {from: 2025-06-30T12:00, until: 2025-07-01T00:00}\n"
    assert told(more, begins="2025-04-03T09:00", until="2025-06-30")[-2:] == [
        ("2025-06-30T22:00", "window-closed", None),
        ("2025-06-30T22:00", "order-ended", None),
    ]
