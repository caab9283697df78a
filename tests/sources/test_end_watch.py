"""No order's end passes unseen: 30, 7 and 1 days before it, once in a process."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from order_texts import order_text

from cdnblock import Enforcer
from cdnblock.audit.reading import records
from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.model import Lifting, Measure, Name, Order, Territory
from cdnblock.sources.end_watch import EndWatch, in_words

END = datetime(2025, 11, 16, 23, tzinfo=UTC)  # 24:00 of the 16th in Paris


def order(order_id="one", **changes):
    return Order(
        id=order_id,
        court="Court",
        decided=date(2025, 3, 28),
        legal_basis="Law",
        claimant="Claimant",
        territory=Territory(countries=frozenset({"FR"})),
        measures={Measure.DNS: "refuse"},
        names=(Name(name=f"{order_id}.example"),),
        **({"until": date(2025, 11, 16)} | changes),
    )


def rules(*orders):
    return compile_orders(orders or [order()])


def told(watch, found, at):
    return [(item.order.id, item.mark.days) for item in watch.untold(found, at)]


def test_each_mark_is_told_once_on_the_way():
    """Over 40 days, asked every hour: three times, each as soon as its span is left."""
    watch, found, heard = EndWatch(), rules(), []
    for hours in range(40 * 24):
        at = END - timedelta(days=35) + timedelta(hours=hours)
        heard += [(at, *item) for item in told(watch, found, at)]
    assert heard == [
        (END - timedelta(days=30), "one", 30),
        (END - timedelta(days=7), "one", 7),
        (END - timedelta(days=1), "one", 1),
    ]


def test_whoever_starts_late_is_told_of_the_nearest_mark_alone():
    """A process that starts five days before the end says so once, and not also that it is within 30 days."""
    watch, found = EndWatch(), rules()
    assert told(watch, found, END - timedelta(days=5)) == [("one", 7)]
    assert told(watch, found, END - timedelta(days=5)) == []


def test_a_step_of_the_clock_tells_nothing_twice_and_misses_nothing():
    """Back over a mark: silence. Forward over two: the nearer one."""
    watch, found = EndWatch(), rules()
    assert told(watch, found, END - timedelta(days=6)) == [("one", 7)]
    assert told(watch, found, END - timedelta(days=20)) == []
    assert told(watch, found, END - timedelta(days=6)) == []
    assert told(watch, found, END - timedelta(hours=2)) == [("one", 1)]
    assert told(watch, found, END) == []


def test_an_end_that_is_moved_is_another_end():
    """Prolonged, and near once more: told once more. Unchanged but read anew: not."""
    watch = EndWatch()
    assert told(watch, rules(), END - timedelta(days=1)) == [("one", 1)]
    assert told(watch, rules(), END - timedelta(days=1)) == []
    later = rules(order(until=date(2025, 12, 16)))
    assert told(watch, later, END - timedelta(days=1)) == []
    assert told(watch, later, END) == [("one", 30)]


def test_the_lifting_of_a_whole_order_is_an_end():
    """It releases just as much; one of a single name is none."""
    whole = order("whole", lifted=(Lifting(at=datetime(2025, 6, 1, 12, tzinfo=UTC)),))
    some = order("some", lifted=(Lifting(at=datetime(2025, 6, 1, 12, tzinfo=UTC), names=("some.example",)),))
    assert told(EndWatch(), rules(whole, some), datetime(2025, 5, 26, tzinfo=UTC)) == [("whole", 7)]


def test_what_is_over_or_far_is_not_told():
    """Nothing at the end itself, and nothing a second before the first mark."""
    for at in (END, END + timedelta(days=1), END - timedelta(days=30, seconds=1)):
        assert told(EndWatch(), rules(), at) == []


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=29, hours=3), "order one ends in 29 days, at 2025-11-16T23:00:00+00:00"),
        (timedelta(days=1), "ends in 1 day, at"),
        (timedelta(hours=1, minutes=59), "ends in 1 hour, at"),
    ],
)
def test_the_warning_in_words(left, words):
    """The span in its largest unit, and the instant."""
    (item,) = EndWatch().near(rules(), END - left)
    assert words in in_words(item, END - left)


def test_an_enforcer_says_it_in_the_log_in_status_and_in_its_trail(tmp_path, caplog):
    """At its start, and when a clock that is set passes a mark; never twice."""
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "one.yaml").write_text(order_text(until="2025-11-16"))
    now = [(END - timedelta(days=8)).timestamp()]
    with (
        caplog.at_level(logging.WARNING, "cdnblock"),
        Enforcer(folder, follow=False, audit=tmp_path / "audit", clock=lambda: now[0]) as enforcer,
    ):
        assert [line for line in caplog.messages if "ends in" in line] == [
            "cdnblock: order motogp ends in 8 days, at 2025-11-16T23:00:00+00:00: its names are released then"
        ]
        now[0] += timedelta(days=1).total_seconds()
        enforcer.reload()
        enforcer.reload()
        assert enforcer.status()["expiring"] == [
            {"order": "motogp", "ends": "2025-11-16T23:00:00+00:00", "mark_days": 7, "seconds_left": 604800, "names": 1}
        ]
    assert len([line for line in caplog.messages if "ends in" in line]) == 2
    found = [(item["order"], item["mark_days"]) for item in records(tmp_path / "audit", kinds={"order-expiring"})]
    assert found == [("motogp", 30), ("motogp", 7)]


def test_a_running_instance_notices_by_itself(tmp_path):
    """Nobody asks and no file changes: when the clock is set over a mark, the log has it within a second or two."""
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "one.yaml").write_text(order_text(until="2025-11-16"))
    now, heard = [(END - timedelta(days=100)).timestamp()], threading.Event()

    class Ear(logging.Handler):
        def emit(self, record):
            if "ends in 23 hours" in record.getMessage():
                heard.set()

    logger, ear = logging.getLogger("cdnblock.enforcer"), Ear()
    logger.addHandler(ear)
    try:
        with Enforcer(folder, clock=lambda: now[0]):
            assert not heard.is_set()
            now[0] = (END - timedelta(hours=23, minutes=30)).timestamp()
            assert heard.wait(10)
    finally:
        logger.removeHandler(ear)
