"""The staging clock: a file says what time it is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cdnblock.errors import ConfigError
from cdnblock.sources.staging_clock import StagingClock, run_from, stop_at


def test_a_stopped_clock_stands_still(tmp_path: Path) -> None:
    """`@SECONDS` is the time, however often and late one asks."""
    stop_at(tmp_path / "clock", 1_743_116_400.0)
    clock = StagingClock(tmp_path / "clock")
    first = clock()
    time.sleep(0.02)
    assert (first, clock()) == (1_743_116_400.0, 1_743_116_400.0)


def test_a_running_clock_runs_on_from_its_instant(tmp_path: Path) -> None:
    """`+SECONDS` is real time, shifted."""
    run_from(tmp_path / "clock", 1_000.0)
    clock = StagingClock(tmp_path / "clock")
    first = clock()
    time.sleep(0.05)
    assert 1_000.0 <= first < 1_002.0
    assert 0.04 < clock() - first < 2.0


def test_a_change_is_seen_by_the_next_call(tmp_path: Path) -> None:
    """Nothing is remembered but what the file says now."""
    stop_at(tmp_path / "clock", 1.0)
    clock = StagingClock(tmp_path / "clock")
    assert clock() == 1.0
    stop_at(tmp_path / "clock", 2.5)
    assert clock() == 2.5


@pytest.mark.parametrize("text", ["", "@", "@nan", "@inf", "1743116400", "%5", "@1e400", "@\xb2"])
def test_nonsense_leaves_the_last_good_reading(tmp_path: Path, text: str) -> None:
    """A clock in use never raises."""
    stop_at(tmp_path / "clock", 7.0)
    clock = StagingClock(tmp_path / "clock")
    (tmp_path / "clock").write_text(text, encoding="utf-8")
    assert clock() == 7.0
    (tmp_path / "clock").unlink()
    assert clock() == 7.0


def test_a_clock_without_a_file_is_refused_at_the_start(tmp_path: Path) -> None:
    """Staging with a clock that nobody sets would be production by accident."""
    with pytest.raises(ConfigError, match="not readable"):
        StagingClock(tmp_path / "none")
