"""What the overview calls for: each thing that somebody must look at, brought about for real."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from order_texts import order_text
from running_dashboards import ask, enforce, running, written

from cdnblock.dashboard import view

NOW = datetime(2025, 5, 1, 10, 0, tzinfo=UTC)


def alarms(dashboard):
    """Level and text of each alarm on the overview, markup taken out."""
    text = ask(dashboard)[2]
    found = re.findall(
        r'<li class="(alarm|warning|note)">(.*?)(?=<li class="(?:alarm|warning|note)">|</section>)', text, re.DOTALL
    )
    return [(level, " ".join(re.sub(r"<[^>]+>", " ", words).split())) for level, words in found]


def at(instant):
    return {"clock": instant.timestamp}


@pytest.fixture
def orders(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


def test_nothing_is_called_for_where_nothing_is_wrong(orders, small_mmdb):
    """No alarms, and it says so."""
    (orders / "a.yaml").write_text(order_text())
    with running(orders, small_mmdb) as found:
        assert alarms(found) == []
        assert "No alarms" in ask(found)[2]


def test_a_held_release(orders, small_mmdb):
    """A removed file whose names stay in force until somebody consents, and the command for that."""
    (orders / "a.yaml").write_text(order_text())
    with running(orders, small_mmdb, follow=False) as found:
        (orders / "a.yaml").unlink()
        found.enforcer.reload()
        ((level, words),) = alarms(found)
        assert level == "alarm"
        assert "a.yaml would release 1 name in force. The release is held back." in words
        assert "cdnblock reload --accept-release" in words


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2025, 4, 6, tzinfo=UTC), [("warning", "The deadline is near")]),
        (datetime(2025, 4, 9, tzinfo=UTC), [("alarm", "The deadline is past")]),
        (
            datetime(2025, 10, 20, tzinfo=UTC),
            [("alarm", "The deadline is past"), ("warning", "An order ends soon, and 1")],
        ),
        (datetime(2025, 11, 20, tzinfo=UTC), []),
    ],
    ids=["near", "past", "ends soon", "over"],
)
def test_deadlines_and_ends(orders, small_mmdb, now, expected):
    """A deadline that is near or past and of which the file does not say that it was met; an end within 30 days."""
    text = order_text(until="2025-11-16") + "served: 2025-04-02\ncomply_within: 3 days\n"
    (orders / "a.yaml").write_text(text)
    with running(orders, small_mmdb, follow=False, **at(now)) as found:
        told = alarms(found)
        assert len(told) == len(expected)
        for (level, words), (wanted, start) in zip(told, expected, strict=True):
            assert level == wanted
            assert start in words
            assert "motogp" in words


def test_a_notification_that_is_due(orders, small_mmdb):
    """The deadline of names that an authority notified."""
    addition = "additions:\n  - {notice: ARCOM 7, notified: 2025-05-01, comply_within: 3 days, names: [new.example]}\n"
    (orders / "a.yaml").write_text(order_text() + addition)
    with running(orders, small_mmdb, follow=False, **at(NOW + timedelta(days=3))) as found:
        assert [words.partition(" is near")[0] for _, words in alarms(found)] == [
            "Warning: The deadline of the notification ARCOM 7"
        ]


def test_report_only(orders, small_mmdb):
    """An instance that refuses nothing is an alarm; an order that is only reported is a note."""
    (orders / "a.yaml").write_text(order_text() + "mode: report\n")
    (orders / "b.yaml").write_text(order_text(id="b", names="[b.example]"))
    with running(orders, small_mmdb) as found:
        assert [(level, "motogp" in words) for level, words in alarms(found)] == [("note", True)]
    with running(orders, small_mmdb, report_only=True) as found:
        ((level, words),) = alarms(found)
        assert level == "alarm"
        assert "nothing is refused" in words


def test_a_trail_that_cannot_be_written(tmp_path, small_mmdb):
    """The folder of the trail is gone, and a file stands in its place: an alarm, and enforcement goes on."""
    audit = tmp_path / "audit"
    with running(written(tmp_path / "orders"), small_mmdb, audit=audit) as found:
        audit.rename(tmp_path / "gone")  # in one step: somebody writes there
        audit.write_text("in the way")
        enforce_anyhow(found.enforcer)
        told = [words for level, words in alarms(found) if level == "alarm"]
        assert len(told) == 1
        assert "The audit trail cannot be written. Enforcement goes on." in told[0]
        assert str(audit) in told[0]
        assert re.search(r"Audit trail</dt><dd><a[^>]*>cannot be written<", ask(found)[2])
        assert ask(found, "/decisions")[0] == ask(found, "/orders/motogp")[0] == 200
        audit.unlink()


def enforce_anyhow(enforcer):
    try:
        enforce(enforcer, "www.motogpstream.me")
    except AssertionError:  # it could not be written: that is the point
        assert enforcer.status()["audit"]["failing"]


def test_a_file_that_is_invalid_from_its_first_day(orders, small_mmdb):
    """Nothing of it is in force, and that is said of it; more than twenty of them are counted."""
    (orders / "a.yaml").write_text(order_text())
    with running(orders, small_mmdb, follow=False) as found:
        for number in range(23):
            (orders / f"bad{number:02}.yaml").write_text("cdnblock: 2\n")
        found.enforcer.reload()
        told = alarms(found)
        assert [level for level, _ in told] == ["alarm"] * 20 + ["warning"]
        assert "bad00.yaml is invalid, and nothing of it is in force." in told[0][1]
        assert "3 more files are invalid." in told[-1][1]


def test_what_changes_next_is_told_in_its_order(orders, small_mmdb):
    """Starts, windows, additions, liftings and ends, the next one first, none that is past."""
    later = NOW + timedelta(days=10)
    windows = "windows:\n  - {from: 2025-05-03T20:00, until: 2025-05-03T23:00, label: race}\n"
    (orders / "a.yaml").write_text(order_text(until="2025-06-01") + windows)
    (orders / "b.yaml").write_text(
        order_text(id="b", names="[b.example, c.example]", begins=f"{later:%Y-%m-%dT%H:%M}")
        + "lifted:\n  - {names: [c.example], at: 2025-05-20}\n  - {at: 2025-05-25}\n"
    )
    with running(orders, small_mmdb, follow=False, **at(NOW)) as found:
        text = ask(found)[2]
        table = text[text.index('id="next"') : text.index("Last enforced")]
        told = re.findall(r'data-label="What">(.*?)(?: <span.*?)?</td>.*?id="next-\d+-\w+" href="/orders/(\w+)"', table)
        assert told == [
            ("a window opens", "motogp"), ("a window closes", "motogp"), ("starts", "b"), ("names are lifted", "b"),
            ("is lifted", "b"), ("ends", "motogp"),
        ]  # fmt: skip


def test_windows_are_told_under_their_own_labels(orders, small_mmdb):
    """Windows that the file lists in another order than the calendar's, two of which touch: one that closes then."""
    windows = (
        "windows:\n"
        "  - {from: 2025-05-09T20:00, until: 2025-05-09T22:00, label: final}\n"
        "  - {from: 2025-05-03T20:00, until: 2025-05-03T21:00, label: heat}\n"
        "  - {from: 2025-05-03T21:00, until: 2025-05-03T23:00, label: replay}\n"
    )
    (orders / "a.yaml").write_text(order_text() + windows)
    with running(orders, small_mmdb, follow=False, **at(NOW)) as found:
        text = ask(found)[2]
        told = re.findall(r"a window (opens|closes) <span class=\"soft\"><bdi>(\w+)</bdi>", text)
        assert told == [("opens", "heat"), ("closes", "heat"), ("opens", "final"), ("closes", "final")]


def test_what_is_lifted_before_it_starts_never_starts(orders, small_mmdb):
    """An order that was lifted before its first day, and another that is over by its lifting although a deadline runs."""
    lifted = "lifted:\n  - {at: 2025-04-20}\n"
    (orders / "a.yaml").write_text(order_text(begins="2025-05-10") + lifted)
    owed = "served: 2025-04-04\ncomply_within: 3 days\n"
    (orders / "b.yaml").write_text(order_text(id="b", names="[b.example]") + owed + lifted)
    with running(orders, small_mmdb, follow=False, **at(NOW)) as found:
        assert alarms(found) == []
        assert "Nothing changes any more unless a file does." in ask(found)[2]


def test_a_trail_that_is_found_broken_is_an_alarm_everywhere(tmp_path, small_mmdb):
    """Whoever had it verified saw it on that page; whoever comes next sees it, too."""
    audit = tmp_path / "audit"
    with running(written(tmp_path / "orders"), small_mmdb, audit=audit) as found:
        enforce(found.enforcer, "www.motogpstream.me")
        segment = next(audit.glob("trail-*.jsonl"))
        segment.write_text(segment.read_text().replace('"rehearsed"', '"rehearsEd"'))
        assert "The audit trail is not whole." not in ask(found)[2]
        ask(found, "/trail?verify=1")
        found._dashboard._view.trail._verifying.join(10)
        told = [words for level, words in alarms(found) if level == "alarm"]
        assert len(told) == 1
        assert "The audit trail is not whole." in told[0]
        assert segment.name in told[0]
        assert "<title>(1) " in ask(found, "/orders")[2]


def test_an_instance_that_says_nothing_any_more(orders, small_mmdb, monkeypatch):
    """While it is stuck, in a folder that does not answer say, what it said last is old, and that is said."""
    monkeypatch.setattr(view, "_PATIENCE", 0.05)
    monkeypatch.setattr(view, "_FRESH", 0.0)
    monkeypatch.setattr(view, "SILENT", timedelta(seconds=0.3))
    (orders / "a.yaml").write_text(order_text())
    with running(orders, small_mmdb, follow=False) as found:
        assert alarms(found) == []
        with found.enforcer._rereading:
            until = time.monotonic() + 10
            while not (told := alarms(found)) and time.monotonic() < until:
                time.sleep(0.05)
            ((level, words),) = told
            assert level == "alarm"
            assert "What this page says of its files, of deadlines and of the trail is old" in words


def test_a_deadline_is_told_in_the_zone_of_its_order(orders, small_mmdb):
    """The clock that the order's own page shows."""
    text = order_text(until="2025-11-16") + "served: 2025-04-02\ncomply_within: 3 days\ntimezone: Indian/Reunion\n"
    (orders / "a.yaml").write_text(text)
    with running(orders, small_mmdb, follow=False, **at(datetime(2025, 4, 6, tzinfo=UTC))) as found:
        ((_, words),) = alarms(found)
        assert "8 Apr 2025, 00:00 UTC+04:00" in words
