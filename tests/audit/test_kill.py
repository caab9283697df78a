"""kill -9 at 200 random moments of writing: the trail verifies, and what is missing is said to be."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path

from trails import ORDER, decision_about, enforce, lines

from cdnblock.audit.reading import records
from cdnblock.audit.records import Kind
from cdnblock.audit.segments import TORN
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.audit.writing import Writer

MOMENTS = 200
WRITER = Path(__file__).parent / "killed_writer.py"
FORKED = """
import os, sys
sys.path.insert(0, {tests!r})
import trails, cdnblock.audit.writing, cdnblock.audit.recovery
source = compile(open({writer!r}).read(), {writer!r}, "exec")
while line := sys.stdin.readline().split():
    sys.argv = [{writer!r}, line[0]]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        os.close(read)
        exec(source, {{"__name__": "child", "__file__": {writer!r}}})
    os.close(write)
    told = os.read(read, 65536) if line[1] == "writing" else b""
    sys.stdout.write(f"{{child}}\\n")
    sys.stdout.flush()
    while octets := os.read(read, 65536):
        told = (told + octets)[-200:]
    os.waitpid(child, 0)
    whole = told.rpartition(b"\\n")[0].rpartition(b"\\n")[2]
    sys.stdout.write((whole or b"0").decode() + "\\n")
    sys.stdout.flush()
"""


def test_a_trail_verifies_after_each_of_200_kills(tmp_path):
    """No record whose head was told is ever missing, and each half of a record is in a gap after the next start."""
    folders = [tmp_path / f"audit{number}" for number in range(20)]  # short ones: each is verified many times
    code = FORKED.format(writer=str(WRITER), tests=str(WRITER.parent.parent))
    moments = random.Random(7)  # the moments are random anyway
    torn = set()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as forks:
        for moment in range(MOMENTS):
            folder = folders[moment // 10]
            forks.stdin.write(f"{folder} {'writing' if moment % 4 else 'starting'}\n")
            child = int(forks.stdout.readline())
            time.sleep(moments.random() * 0.008)
            os.kill(child, signal.SIGKILL)
            told = int(forks.stdout.readline())
            result = verify(folder) if folder.is_dir() and any(folder.glob("trail-*")) else None
            assert result is None or result.ok, (moment, result.findings[:3])
            assert told == 0 or result.head.seq >= told, moment
            halves = re.findall(r"half a record of ([0-9]+) octets", "\n".join(result.notes if result else ()))
            torn |= {(folder, result.head.seq, int(octets)) for octets in halves}
        forks.stdin.close()
    for folder in folders:
        with Trail(folder, Tally()):
            pass
        gaps = [gap["torn"]["octets"] for gap in records(folder, kinds={Kind.GAP}) if "torn" in gap]
        assert sum(gaps) >= sum(octets for where, _, octets in torn if where == folder)
        assert verify(folder).ok
    assert torn, "no kill came in the middle of a write: the writes are too short for this machine"
    assert sum(verify(folder).head.seq for folder in folders) > MOMENTS


def test_half_a_record_becomes_a_gap(tmp_path):
    """What a killed process left is moved out of the segment and into a record, octet for octet."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()) as trail:
        trail.event(Kind.ORDER_STARTED, order=ORDER)
    segment = next(folder.glob("trail-*"))
    half = lines(folder)[-1][:77]
    with segment.open("ab") as file:
        file.write(half)
    assert verify(folder).ok
    assert any("half a record of 77 octets" in note for note in verify(folder).notes)
    with Trail(folder, Tally()):
        pass
    (gap,) = records(folder, kinds={Kind.GAP})
    assert gap["torn"]["octets"] == 77
    assert b64decode(gap["torn"]["base64"]) == half
    assert verify(folder).ok
    assert not (folder / TORN).exists()


def test_half_a_record_is_kept_by_a_start_that_is_killed_itself(tmp_path):
    """Between two places it is in one of them, whenever the process ends."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()):
        pass
    segment = next(folder.glob("trail-*"))
    with segment.open("ab") as file:
        file.write(b'{"seq":3,"at":')
    writer = Writer(folder, segment_size=1 << 20, on_record=lambda _: None)  # takes it out, and ends without a word
    writer.close()
    assert (folder / TORN).read_bytes() == b'{"seq":3,"at":'
    with segment.open("ab") as file:
        file.write(b'{"seq":3,"a')
    with Trail(folder, Tally()):
        pass
    (gap,) = records(folder, kinds={Kind.GAP})
    assert b64decode(gap["torn"]["base64"]) == b'{"seq":3,"at":{"seq":3,"a'


def test_a_run_without_an_end_is_told_of(tmp_path):
    """Whoever reads is told that up to a minute of repeats may be missing: before the next start, and after it."""
    folder = tmp_path / "audit"
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(WRITER.parent.parent)!r})\n"
        "from trails import *\n"
        "tally = Tally()\n"
        f"trail = Trail({str(folder)!r}, tally)\n"
        "enforce(tally, decision_about(), times=50)\n"
        "trail.flush()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    missing = "without a closing record: up to a minute of repeats may be missing"
    assert any(missing in note for note in verify(folder).notes)
    assert [record["count"] for record in records(folder, order=ORDER)] == [1]
    with Trail(folder, Tally()):
        pass
    assert [missing in note for note in verify(folder).notes] == [True]
    opened = list(records(folder, kinds={Kind.TRAIL_OPENED}))
    assert [each["before"] and each["before"]["closed"] for each in opened] == [None, False]


def test_a_whole_end_is_no_gap(tmp_path):
    """A run that ended as it should leaves nothing to be told of."""
    folder, tally = tmp_path / "audit", Tally()
    with Trail(folder, tally):
        enforce(tally, decision_about(), times=50)
    with Trail(folder, Tally()):
        pass
    assert verify(folder).notes == ()
    assert sum(record["count"] for record in records(folder, order=ORDER)) == 50
