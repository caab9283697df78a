"""What happens to the orders of an enforcer is in its trail: loads, turns, errors, releases, each once."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from order_texts import order_text
from small_table import FRANCE

from cdnblock import ConfigError, Enforcer
from cdnblock.audit.reading import records
from cdnblock.http_gate import HttpGate
from cdnblock.http_noting import HttpNotes

START = datetime(2026, 5, 1, tzinfo=UTC)
LIFE = {
    "order-started", "order-ended", "order-lifted", "window-opened", "window-closed", "addition-started",
}  # fmt: skip
WHOLE_LIFE = """\
windows:
  - {from: 2026-05-01T12:00, until: 2026-05-01T14:00, label: Qatar}
additions:
  - {notice: ARCOM 1, notified: 2026-05-01T15:00, names: [more.example]}
lifted:
  - {names: [one.example], at: 2026-05-01T16:00, reason: it is lawful now}
"""


class Clock:
    """A clock that stands until it is set."""

    def __init__(self):
        self.at = START

    def __call__(self):
        return self.at.timestamp()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "orders").mkdir()
    put(tmp_path, "one", names="[one.example]")
    return tmp_path


def put(folder, name, more="", **changes):
    """Write an order whole, some time ago: a reload need not wait until nobody writes to it."""
    text = changes.pop("text", None) or order_text(id=name, **changes) + more
    new = folder / f".{name}"
    new.write_text(text)
    os.utime(new, (1e9 + len(text), 1e9))
    new.rename(folder / "orders" / f"{name}.yaml")


def open_enforcer(folder, small_mmdb, clock, **options):
    return Enforcer(folder / "orders", geo=small_mmdb, audit=folder / "audit", clock=clock, follow=False, **options)


def told(folder, *kinds):
    return [record for record in records(folder / "audit") if not kinds or record["kind"] in kinds]


def life(folder):
    return [
        (record["kind"], record["order"], record["instant"][:16], record.get("past", False))
        for record in told(folder, *LIFE)
    ]


def turn(enforcer, clock, at):
    """Let the clock come to an instant, and the enforcer's own watch look at it."""
    clock.at = at
    enforcer._chronicle.instant_passed(at)


def test_a_start_tells_what_is_in_force_and_by_which_table(folder, small_mmdb, clock):
    """Files by their digests, whose octets are kept; the order started before, and nobody claims more than that."""
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        revision = enforcer.rules.revision
    (loaded,) = told(folder, "loaded")
    octets = (folder / "orders" / "one.yaml").read_bytes()
    digest = sha256(octets).hexdigest()
    assert (loaded["revision"], loaded["before"], loaded["added"], loaded["released"]) == (revision, None, 1, 0)
    assert [(file["order"], file["file"], file["digest"]) for file in loaded["files"]] == [
        ("one", "one.yaml", f"sha256:{digest}")
    ]
    assert (folder / "audit" / "files" / digest).read_bytes() == octets
    assert life(folder) == [("order-started", "one", "2025-04-03T07:00", True)]
    (table,) = told(folder, "geo-table")
    assert table["digest"] == f"sha256:{sha256(small_mmdb.read_bytes()).hexdigest()}"


def test_a_reload_tells_what_changed(folder, small_mmdb, clock):
    """Revisions, the files that are new, how many names came and went; a file that is as it was is not told again."""
    put(folder, "second", names="[two.example, three.example]")
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        before = enforcer.rules.revision
        put(folder, "second", names="[three.example, four.example, five.example]")
        enforcer.reload()
        enforcer.reload()
        after = enforcer.rules.revision
    first, second = told(folder, "loaded")
    assert (first["before"], first["revision"]) == (None, before)
    assert (second["before"], second["revision"]) == (before, after)
    assert (second["added"], second["released"]) == (2, 1)
    assert [file["file"] for file in second["files"]] == ["second.yaml"]
    assert life(folder).count(("order-started", "second", "2025-04-03T07:00", True)) == 1


def test_each_turn_is_told_at_its_instant_and_once(folder, small_mmdb, clock):
    """Start, window, addition, lifting, end; a clock that is set back tells nothing a second time."""
    put(
        folder,
        "one",
        WHOLE_LIFE,
        begins="2026-05-01T06:00",
        until="2026-05-01T20:00",
        names="[one.example, two.example]",
    )
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        for hours in range(1, 24):
            turn(enforcer, clock, START + timedelta(hours=hours))
        turn(enforcer, clock, START + timedelta(hours=3))
        turn(enforcer, clock, START + timedelta(hours=30))
    assert life(folder) == [
        ("order-started", "one", "2026-05-01T04:00", False),
        ("window-opened", "one", "2026-05-01T10:00", False),
        ("window-closed", "one", "2026-05-01T12:00", False),
        ("addition-started", "one", "2026-05-01T13:00", False),
        ("order-lifted", "one", "2026-05-01T14:00", False),
        ("order-ended", "one", "2026-05-01T18:00", False),
    ]
    (opened, added, lifted) = told(folder, "window-opened", "addition-started", "order-lifted")
    assert (opened["label"], opened["until"][:16]) == ("Qatar", "2026-05-01T12:00")
    assert (added["notice"], added["names"]) == ("ARCOM 1", ["more.example"])
    assert (lifted["names"], lifted["reason"]) == (["one.example"], "it is lawful now")


def test_turns_are_told_by_whoever_watches_the_clock(folder, small_mmdb, clock):
    """Within a moment, and once, with no file changed."""
    put(folder, "one", begins="2026-05-01T06:00", names="[one.example]")
    with Enforcer(folder / "orders", geo=small_mmdb, audit=folder / "audit", clock=clock) as enforcer:
        assert life(folder) == []
        clock.at = START + timedelta(hours=5)
        end = time.monotonic() + 5
        while not (enforcer.trail.flush() and life(folder)):
            assert time.monotonic() < end
            time.sleep(0.02)
    assert life(folder) == [("order-started", "one", "2026-05-01T04:00", False)]


def test_what_turned_while_nobody_ran_is_told_as_past(folder, small_mmdb, clock):
    """Only that, and once: the start before the first run was told by that."""
    put(
        folder,
        "one",
        WHOLE_LIFE,
        begins="2026-04-30T06:00",
        until="2026-05-01T20:00",
        names="[one.example, two.example]",
    )
    with open_enforcer(folder, small_mmdb, clock):
        pass
    clock.at = START + timedelta(hours=11)
    with open_enforcer(folder, small_mmdb, clock):
        pass
    with open_enforcer(folder, small_mmdb, clock):
        pass
    assert life(folder) == [
        ("order-started", "one", "2026-04-30T04:00", True),
        ("window-opened", "one", "2026-05-01T10:00", True),
    ]


def test_a_broken_file_and_its_mending_are_told(folder, small_mmdb, clock):
    """With what is wrong, and that its last good version stays in force; once each, however often it is looked at."""
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        put(folder, "one", text="cdnblock: 1\nid: one\n")
        put(folder, "new", text="cdnblock: [\n")
        enforcer.reload()
        enforcer.reload()
        put(folder, "one", names="[one.example]")
        enforcer.reload()
    errors = told(folder, "file-error")
    assert [(error["file"], error["kept"]) for error in errors] == [("new.yaml", False), ("one.yaml", True)]
    assert any("court" in problem for problem in errors[1]["problems"])
    assert [(mended["file"], mended["gone"]) for mended in told(folder, "file-mended")] == [("one.yaml", False)]


def test_a_release_that_waits_and_the_consent_are_told(folder, small_mmdb, clock):
    """What was held back, since when; who consents releases it, and that is a load of its own."""
    put(folder, "two", names="[two.example]")
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        (folder / "orders" / "two.yaml").unlink()
        enforcer.reload()
        enforcer.reload()
        assert len(enforcer.rules) == 2
        enforcer.reload(accept_release=True)
    (held,), (accepted,) = told(folder, "held-release"), told(folder, "accepted-release")
    assert (held["file"], held["names"]) == ("two.yaml", 1)
    assert (accepted["file"], accepted["names"]) == (["two.yaml"], 1)
    assert told(folder, "loaded")[-1]["released"] == 1
    assert told(folder, "loaded")[-1]["gone"] == ["two"]


def test_a_report_only_instance_says_so_in_every_record(folder, small_mmdb, clock):
    """Nobody may take a dry run for enforcement."""
    with open_enforcer(folder, small_mmdb, clock, report_only=True) as enforcer:
        gate = HttpGate(enforcer)
        verdict = gate.judge(method="GET", hosts=["one.example"], peer=FRANCE, headers=())
        HttpNotes(gate, "test").acted(["one.example"], verdict)
    assert [record["mode"] for record in told(folder, "order-started")] == ["report"]
    (loaded,) = told(folder, "loaded")
    assert [file["mode"] for file in loaded["files"]] == ["report"]
    (would,) = told(folder, "would")
    assert (would["order"], would["measure"], would["host"]) == ("one", "proxy", "one.example")
    assert told(folder, "enforced") == []


def test_a_folder_that_cannot_be_a_trail_ends_the_start(folder, small_mmdb, clock):
    """The operator asked for one; and a second instance may not write to it."""
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        Enforcer(folder / "orders", geo=small_mmdb, audit=folder / "file", follow=False)
    with open_enforcer(folder, small_mmdb, clock), pytest.raises(ConfigError, match="in use"):
        open_enforcer(folder, small_mmdb, clock)
    open_enforcer(folder, small_mmdb, clock).close()


def test_a_trail_that_breaks_stops_nothing(folder, small_mmdb, clock, monkeypatch, caplog):
    """Whatever is raised while something is told: reloads go on, and it is logged."""
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        monkeypatch.setattr(enforcer.trail, "loaded", lambda *_, **__: 1 / 0)
        put(folder, "two", names="[two.example]")
        enforcer.reload()
        assert len(enforcer.rules) == 2
        assert enforcer.decide("two.example", FRANCE)
    assert "could not be told to the trail" in caplog.text


def test_the_status_tells_of_the_trail(folder, small_mmdb, clock):
    """Head, last write, gaps; and what was enforced, with a trail or without."""
    with open_enforcer(folder, small_mmdb, clock) as enforcer:
        gate = HttpGate(enforcer)
        verdict = gate.judge(method="GET", hosts=["one.example"], peer=FRANCE, headers=())
        HttpNotes(gate, "test").acted(["one.example"], verdict)
        assert enforcer.trail.flush()
        status = enforcer.status()
        assert status["audit"]["failing"] is None
        assert status["audit"]["head"].startswith("5:")
        assert status["enforced"] == [{"adapter": "test", "measure": "proxy", "action": "answer", "count": 1}]
