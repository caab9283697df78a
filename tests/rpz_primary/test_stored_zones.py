"""Zones on disk: whatever moment a process is killed at, and whatever becomes of the files, nothing false is served."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from primaries import serving, targets

from cdnblock.rpz_primary.serials import is_newer
from cdnblock.rpz_primary.stored_zones import StoredZone
from cdnblock.rpz_primary.zone_sets import Zone
from cdnblock.rpz_primary.zones import Change, Version, apply

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def written(folder, changes=5):
    """Write a zone and changes of it; return every version there was."""
    stored = StoredZone(folder, "z")
    versions = [Version(serial=10, policies={"a.example": 5, "b.example": 4})]
    stored.write(versions[0])
    for number in range(changes):
        names = ((f"n{number}.example", 0, 5), ("a.example", number % 2 * 5 or 5, (number + 1) % 2 * 5 or 10))
        change = Change(before=10 + number, after=11 + number, names=names)
        versions.append(versions[-1].next(change, apply(versions[-1].policies, change)))
        stored.append(change, versions[-1])
    stored.close()
    return versions


def test_what_was_written_is_read(folder):
    """The last version, and the changes that led to it."""
    versions = written(folder)
    assert StoredZone(folder, "z").load() == versions[-1]


def test_a_version_that_is_written_whole_keeps_its_history(folder):
    """Whoever had an older one still gets an increment after the next start."""
    versions = written(folder)
    stored = StoredZone(folder, "z")
    stored.write(versions[-1])
    assert stored.load() == versions[-1]


def test_nothing_there_is_nothing(folder):
    """A folder without the zone."""
    assert StoredZone(folder, "z").load() is None


def test_a_journal_that_was_cut_leads_to_an_earlier_version(folder, tmp_path):
    """At whichever octet: one of the versions that there were, whole; and what is written next can be read."""
    versions = written(folder)
    octets, whole = (tmp_path / "z.journal").read_bytes(), (tmp_path / "z.zone").read_bytes()
    found = set()
    for size in range(len(octets) + 1):
        (tmp_path / "z.journal").write_bytes(octets[:size])
        (tmp_path / "z.zone").write_bytes(whole)
        stored = StoredZone(folder, "z")
        loaded = stored.load()
        assert (loaded.serial, loaded.policies) in [(each.serial, each.policies) for each in versions]
        found.add(loaded.serial)
        change = Change(before=loaded.serial, after=99, names=(("later.example", 0, 5),))
        after = loaded.next(change, apply(loaded.policies, change))
        stored.append(change, after)
        stored.close()
        again = StoredZone(folder, "z").load()
        assert (again.serial, again.policies) == (99, after.policies)
    assert found == {10, 11, 12, 13, 14, 15}


def test_octets_that_have_changed_are_never_believed(folder, tmp_path):
    """Any single one, in either file: a version that there was, or none at all."""
    versions = [(each.serial, each.policies) for each in written(folder)]
    for name in ("z.zone", "z.journal"):
        octets = (tmp_path / name).read_bytes()
        for place in range(len(octets)):
            (tmp_path / name).write_bytes(octets[:place] + bytes((octets[place] ^ 0x15,)) + octets[place + 1 :])
            loaded = StoredZone(folder, "z").load()
            assert loaded is None or (loaded.serial, loaded.policies) in versions
            journal = tmp_path / "z.journal"
            if name == "z.journal":
                journal.write_bytes(octets)  # what was no whole change was cut off
        (tmp_path / name).write_bytes(octets)


def test_a_file_of_something_else_is_no_zone(folder, tmp_path):
    """Nor is a link, which could lead anywhere."""
    (tmp_path / "z.zone").write_text("root:x:0:0")
    assert StoredZone(folder, "z").load() is None
    (tmp_path / "z.zone").unlink()
    written(folder)
    (tmp_path / "z.zone").rename(tmp_path / "elsewhere")
    (tmp_path / "z.zone").symlink_to(tmp_path / "elsewhere")
    assert StoredZone(folder, "z").load() is None


def test_a_disk_that_fails_is_told_and_stops_nothing(tmp_path, caplog):
    """The zone is served all the same; once the disk takes it again, all of it is there."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    zone = Zone("z", "fr", folder)
    zone.publish((), {"a.example": 5}, 1_000)
    real = os.fdatasync
    try:
        os.fdatasync = _failing
        assert zone.publish((("b.example", 0, 5),), {"a.example": 5, "b.example": 5}, 1_000)
    finally:
        os.fdatasync = real
    assert (zone.version.serial, len(zone.version.policies), zone.failing) == (1_001, 2, "No space left on device")
    assert "cannot be kept on disk" in caplog.text
    assert zone.publish((("b.example", 5, 0),), {"a.example": 5}, 1_000)
    assert zone.failing == ""
    zone.close()
    loaded = StoredZone(folder, "z").load()
    assert (loaded.serial, loaded.policies, len(loaded.history)) == (1_002, {"a.example": 5}, 2)
    os.close(folder)


@pytest.mark.parametrize("what", ["folder", "zone", "journal", "changed"])
def test_files_that_are_taken_away_are_told_and_written_again(tmp_path, what, caplog):
    """Of a primary that runs: it serves on, says so once, counts, and a restart has everything."""
    zones = tmp_path / "zones"
    with serving(tmp_path) as primary:
        primary.put("more", ["more.example"])
        if what == "folder":
            shutil.rmtree(zones)
        elif what == "changed":
            (zones / "delta-fr.zone").write_bytes(b"")
        else:
            (zones / f"delta-fr.{what}").unlink()
        until = time.monotonic() + 20
        while not (primary.primary.status()["lost_from_disk"] and (zones / "delta-fr.journal").exists()):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert targets(primary.transferred("delta-fr")) == {"more.example": ".", "*.more.example": "."}
        primary.put("even", ["even.example"])
        assert not any("failing" in zone for zone in primary.primary.status()["zones"].values())
        assert primary.primary.status()["lost_from_disk"] == (3 if what == "folder" else 1)
    assert caplog.text.count("were taken away or changed; writing them again: done") == 1
    descriptor = os.open(zones, os.O_RDONLY | os.O_DIRECTORY)
    assert {*StoredZone(descriptor, "delta-fr").load().policies} == {"more.example", "even.example"}
    os.close(descriptor)


def test_a_folder_that_cannot_be_made_again_is_told_and_stops_nothing(tmp_path, caplog):
    """Something else stands in its place: served on, `failing` says why; once that is gone, all is kept again."""
    zones = tmp_path / "zones"
    with serving(tmp_path) as primary:
        shutil.rmtree(zones)
        zones.write_text("no folder")
        until = time.monotonic() + 20
        while "failing" not in primary.primary.status()["zones"]["base-fr"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert "cannot be the state folder" in primary.primary.status()["zones"]["base-fr"]["failing"]
        assert len(targets(primary.transferred("base-fr"))) == 4
        assert "that fails" in caplog.text


def _failing(_descriptor):
    raise OSError(28, "No space left on device")


KILLED = """
import os, sys
from cdnblock.rpz_primary.zone_sets import Zone
folder = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
zone = Zone("z", "fr", folder)
number = max((int(name[1:].partition(".")[0]) for name in zone.version.policies), default=0)
policies = dict(zone.version.policies)
while True:
    number += 1
    names = [(f"n{number}.{'x' * 60}{each}.example", 0, 5) for each in range(int(sys.argv[2]))]
    gone = [(name, of, 0) for name, of in list(policies.items())[: max(0, len(policies) - len(names))]]
    policies = {name: of for name, of in policies.items() if name not in dict.fromkeys(n for n, _, _ in gone)}
    policies |= {name: of for name, _, of in names}
    zone.publish((*gone, *names), policies, 1_000.0)
    sys.stdout.buffer.write(f"{zone.version.serial} {len(policies)} {number}\\n".encode())
    sys.stdout.buffer.flush()
"""


@pytest.mark.parametrize("size", [3, 1_500], ids=["journal", "whole zones"])
def test_a_process_that_is_killed_leaves_what_it_served(tmp_path, size, folder):
    """Killed while it writes, again and again: what was served last is there, whole, or the change after it."""
    dice = random.Random(size)
    served = None
    for _ in range(8):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
            first = process.stdout.readline()
            time.sleep(dice.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            said = (first + process.stdout.read()).decode().split("\n")[:-1]
        serial, count, number = map(int, said[-1].split())
        loaded = StoredZone(folder, "z").load()
        newest = max(int(name[1:].partition(".")[0]) for name in loaded.policies)
        if loaded.serial == serial:
            assert (len(loaded.policies), newest) == (count, number)
        else:
            assert (loaded.serial, newest) == (serial + 1, number + 1)
        assert served is None or is_newer(loaded.serial, served)
        served = loaded.serial
