"""Serials and restarts: whatever became of the folder, whoever has a later version of a zone is brought to what is right."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from primaries import put_names, serial, serving, targets

from cdnblock.rpz_primary.serials import is_newer
from cdnblock.rpz_primary.zone_sets import Zone


def both(*names):
    return {f"{star}{name}": "." for name in names for star in ("", "*.")}


def test_serials_go_on_after_a_restart(tmp_path):
    """Each zone has a later one, and an increment from the one before; without other orders it changes no name."""
    with serving(tmp_path) as primary:
        before = {zone.name: zone.version.serial for zone in primary.primary.zones}
        kept = {name: primary.transferred(name) for name in before}
    with serving(tmp_path) as primary:
        after = {zone.name: zone.version.serial for zone in primary.primary.zones}
        assert all(is_newer(after[name], before[name]) for name in before)
        for name, zone in kept.items():
            same = targets(zone)
            assert (targets(primary.transferred(name, zone)), serial(zone)) == (same, after[name])
    put_names(tmp_path / "orders", "more", ["more.example"])
    with serving(tmp_path) as primary:
        assert targets(primary.transferred("delta-fr", kept["delta-fr"])) == both("more.example")
        assert targets(primary.transferred("base-fr", kept["base-fr"])) == both("one.example", "two.example")
        assert primary.primary.status()["transfers"] == 0


@pytest.mark.parametrize("what", ["everything", "a journal"])
def test_no_serial_comes_back_with_an_older_state(tmp_path, what):
    """A folder from a backup, or a journal whose end is gone: who has the later serial is brought to what is right."""
    with serving(tmp_path) as primary:
        primary.put("more", ["more.example"])
        older = {path.name: path.read_bytes() for path in (tmp_path / "zones").iterdir()}
        primary.put("more", ["more.example", "mistake.example"])
        later = primary.transferred("delta-fr")
    put_names(tmp_path / "orders", "more", ["more.example"])
    for path in (tmp_path / "zones").iterdir():
        if what == "everything" or path.name == "delta-fr.journal":
            path.write_bytes(older[path.name])
    assert "mistake" in str(targets(later))
    with serving(tmp_path, clock=lambda: time.time() + 60) as primary:  # nobody restores in the second of a change
        assert is_newer(primary.zone("delta-fr").version.serial, serial(later))
        assert targets(primary.transferred("delta-fr", later)) == both("more.example")


def test_a_clock_that_is_behind_is_told_at_the_start(tmp_path, caplog):
    """Serials go by it: while it is wrong, an older state could not be told from the last one."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    zone = Zone("z", "fr", folder)
    zone.publish((), {"a.example": 5}, 2_000_000_000)
    zone.close()
    for now, serial_then, is_told in ((2_000_000_009, 2_000_000_009, False), (1_999_999_000, 2_000_000_010, False),
                                      (1_000_000_000, 2_000_000_011, True)):  # fmt: skip
        zone = Zone("z", "fr", folder)
        zone.renew(now)
        zone.close()
        assert (zone.version.serial, "far ahead of the clock" in caplog.text) == (serial_then, is_told)
    os.close(folder)


def test_serials_are_later_even_when_the_folder_is_lost(tmp_path):
    """Without what was kept there is no history, but no serial is given twice: they go by the clock."""
    with serving(tmp_path) as primary:
        before = {zone.name: zone.version.serial for zone in primary.primary.zones}
    for path in (tmp_path / "zones").iterdir():
        path.unlink()
    with serving(tmp_path) as primary:
        after = {zone.name: zone.version.serial for zone in primary.primary.zones}
        assert all(after[name] - before[name] in range(60) for name in before)
