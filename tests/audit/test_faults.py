"""A full disk, a folder that is read-only, taken away or replaced: loud, never an exception, and the gap is a record."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from trail_processes import RESULTS, run
from trails import ORDER, decision_about, enforce, flushed, segments

from cdnblock.audit.chain import read_line
from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import OrderText
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.audit.walking import Wrong
from cdnblock.errors import ConfigError

FULL = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", folder], check=True)
with Trail(folder / "audit", tally) as trail:
    folder = folder / "audit"
    seen = [trail.flush()]
    (folder.parent / "filler").write_bytes(b"")
    with (folder.parent / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    # What is left of the last page is written to, then nothing any more.
    for number in range(60):
        trail.event("order-started", order="motogp", number=number, about="x" * 300)
    enforce(tally, decision_about(), times=1000)
    seen += [trail.flush(), trail.status()["failing"], trail.write_errors]
    enforce(tally, decision_about(), times=500)
    (folder.parent / "filler").unlink()
    seen += [trail.flush(), trail.status()["failing"]]
    enforce(tally, decision_about(), times=1)
"""
EACCES = """
decision = decision_about()  # as long as everything of Python may be read
from cdnblock.audit.clocks import software
software()
if not os.geteuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
folder = folder / "audit"
with Trail(folder, tally) as trail:
    seen = [trail.flush()]
    folder.chmod(0o500)
    for path in segments(folder):
        path.chmod(0o400)
    trail._recorder._lasting.writer._leave()  # as at midnight: the next record begins a segment
    trail.event("order-started", order="motogp")
    enforce(tally, decision, times=10)
    seen += [trail.flush(), trail.status()["failing"], trail.write_errors]
    folder.chmod(0o700)
    seen += [trail.flush()]
"""
LIMITED = """
import resource
with Trail(folder, tally) as trail:
    seen = [trail.flush()]
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))
    for number in range(20):
        trail.event("order-started", order="motogp", number=number, about="x" * 300)
    seen += [trail.flush(), trail.status()["failing"]]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seen += [trail.flush()]
"""


def gaps(folder):
    return list(records(folder, kinds={Kind.GAP}))


def test_a_full_disk_is_loud_and_recording_goes_on_by_itself(tmp_path):
    """What cannot be written is told late, repeats are counted, and the gap says from when to when, and why."""
    found, logged = run(FULL + RESULTS, tmp_path, mounts=True)
    assert found["ok"], found["findings"]
    assert found["seen"][0] is True
    assert found["seen"][1] is False
    assert "No space left" in found["seen"][2]
    assert found["seen"][3] >= 1
    assert found["seen"][4:] == [True, None]
    assert logged.count("nothing can be recorded") == 1
    (gap,) = [record for record in found["records"] if record["kind"] == "gap"]
    assert "No space left" in gap["why"]
    assert gap["from"] < gap["to"]
    assert gap["lost"] == {}
    started = [record["number"] for record in found["records"] if record["kind"] == "order-started"]
    assert started == list(range(60))
    assert sum(record["count"] for record in found["records"] if "count" in record) == 1501


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path):
    """A quota, or a limit of the process: half a record is taken out again, and nothing is lost."""
    found, _ = run(LIMITED + RESULTS, tmp_path / "audit")
    assert found["ok"], found["findings"]
    assert found["seen"][1] is False
    assert found["seen"][3] is True
    assert [record["number"] for record in found["records"] if record["kind"] == "order-started"] == list(range(20))
    assert len([record for record in found["records"] if record["kind"] == "gap"]) == 1


def test_a_folder_that_becomes_read_only_is_loud_and_recording_goes_on_by_itself():
    """A new segment cannot be made; as soon as it can, everything is told."""
    with tempfile.TemporaryDirectory() as folder:  # whose parents are for everybody: root is stopped by no mode
        Path(folder).chmod(0o777)
        found, logged = run(EACCES + RESULTS, folder)
    assert found["ok"], found["findings"]
    assert found["seen"][:2] == [True, False]
    assert "Permission denied" in found["seen"][2]
    assert found["seen"][4] is True
    assert logged.count("nothing can be recorded") == 1
    kinds = [record["kind"] for record in found["records"]]
    assert kinds.count("gap") == 1
    assert "order-started" in kinds
    assert sum(record["count"] for record in found["records"] if "count" in record) == 10


def take_away_segment(folder):
    segments(folder)[-1].unlink()


def replace_segment(folder):
    path = segments(folder)[-1]
    octets = path.read_bytes()
    path.unlink()
    path.write_bytes(octets)


def cut_segment(folder):
    os.truncate(segments(folder)[-1], 10)


def add_to_segment(folder):
    with segments(folder)[-1].open("ab") as file:
        file.write(b"somebody was here\n")


def take_away_folder(folder):
    shutil.rmtree(folder)


def replace_folder(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.mkdir()
    folder.chmod(0o700)


def replace_folder_by_link(folder):
    folder.rename(folder.parent / "elsewhere")
    (folder.parent / "other").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "other")


FAULTS = {
    "file taken away": (take_away_segment, "was taken away", Wrong.MISSING),
    "file replaced": (replace_segment, "was replaced", None),
    "file cut": (cut_segment, "was changed by somebody", Wrong.MALFORMED),
    "file added to": (add_to_segment, "was changed by somebody", Wrong.MALFORMED),
    "folder taken away": (take_away_folder, "was taken away, or replaced", Wrong.MISSING),
    "folder replaced": (replace_folder, "was taken away, or replaced", Wrong.MISSING),
    "folder replaced by a link": (replace_folder_by_link, "was taken away, or replaced", Wrong.MISSING),
}


@pytest.mark.parametrize(("fault", "why", "wrong"), FAULTS.values(), ids=FAULTS)
def test_what_is_taken_away_is_told_of_and_recording_goes_on(tmp_path, caplog, fault, why, wrong):
    """The numbers and the chain go on in a new segment, after a gap; what is missing stays a finding for ever."""
    folder, tally = tmp_path / "audit", Tally()
    with caplog.at_level(logging.WARNING, "cdnblock.audit"), Trail(folder, tally) as trail:
        trail.loaded([OrderText(order=ORDER, file="motogp.yaml", text=b"the order")], revision="sha256:1")
        flushed(trail)
        before = trail.head
        fault(folder)
        enforce(tally, decision_about(), times=7)
        flushed(trail)
        assert trail.write_errors == 1
        assert trail.head.seq > before.seq
    assert "nothing can be recorded" in caplog.text
    (gap,) = gaps(folder)
    assert why in gap["why"]
    assert gap["seq"] == before.seq + 1
    assert sum(record.get("count", 0) for record in records(folder, order=ORDER)) == 7
    result = verify(folder)
    assert {finding.wrong for finding in result.findings} >= ({wrong} if wrong else set())
    assert result.ok is (wrong is None)
    if wrong is Wrong.MISSING:
        assert gap["lost"] == {"records": before.seq}
        assert gap["seqs"] == [1, before.seq]
    # What was written after the gap is whole, and the order file is there again.
    line = read_line(segments(folder)[-1].read_bytes().splitlines()[-1])
    assert line.seq == result.head.seq
    assert not [finding for finding in result.findings if finding.wrong in (Wrong.CHANGED, Wrong.ORDER_FILE)]


def test_a_head_that_was_taken_away_is_written_anew(tmp_path):
    """The file with the head is no reason for a gap."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()) as trail:
        (folder / "head").unlink()
        trail.event(Kind.ORDER_STARTED, order=ORDER)
        flushed(trail)
        assert (folder / "head").exists()
        assert trail.write_errors == 0
    assert verify(folder).ok


def test_a_lock_that_was_taken_away_is_taken_anew(tmp_path):
    """Nobody else gets in, and nothing is lost."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()) as trail:
        (folder / "lock").unlink()
        trail.event(Kind.ORDER_STARTED, order=ORDER)
        flushed(trail)
        with pytest.raises(ConfigError, match="is in use by"):
            Trail(folder, Tally())
        assert trail.write_errors == 0
    assert verify(folder).ok


def test_whoever_lost_its_lock_to_another_writes_no_more(tmp_path):
    """Two that write one trail would break its chain: the first one says that it records nothing, even after the other."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()) as trail:
        flushed(trail)
        with trail._turning:  # no look comes between
            (folder / "lock").unlink()
            other = Trail(folder, Tally())
        trail.event(Kind.ORDER_STARTED, order="lost")
        assert not trail.flush()
        assert "is in use by" in trail.status()["failing"]
        with other:
            other.event(Kind.ORDER_STARTED, order=ORDER)
            flushed(other)
        assert not trail.flush()
    assert [record["order"] for record in records(folder, kinds={Kind.ORDER_STARTED})] == [ORDER]
    assert verify(folder).ok


def test_a_log_is_not_flooded(tmp_path, caplog):
    """An error of one kind is logged once a minute, however often it comes; all are counted."""
    folder = tmp_path / "audit"
    with caplog.at_level(logging.WARNING, "cdnblock.audit"), Trail(folder, Tally()) as trail:
        flushed(trail)
        shutil.rmtree(folder)
        folder.write_text("a file")
        for _ in range(20):
            trail.event(Kind.ORDER_STARTED, order=ORDER)
            assert not trail.flush()
        assert trail.write_errors >= 20
        assert caplog.text.count("nothing can be recorded") == 1
        assert "cannot be the audit folder" in trail.status()["failing"]
        folder.unlink()
        flushed(trail)
    assert len(list(records(folder, kinds={Kind.ORDER_STARTED}))) == 20
    (gap,) = gaps(folder)
    assert gap["late"] == {"order-started": 20}
    assert gap["seqs"] == [1, 1]
