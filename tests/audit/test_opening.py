"""What stands in the way of a trail at the start is an error of the operator; a full disk is not."""

from __future__ import annotations

import os
import threading

import pytest
from trail_processes import RESULTS, run

from cdnblock.audit.folder import is_in_use
from cdnblock.audit.settings import ClientForm, Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.errors import ConfigError

FULL_AT_START = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
folder = folder / "audit"
folder.mkdir(mode=0o700)
(folder / "lock").touch()
with (folder.parent / "filler").open("wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
with Trail(folder, tally) as trail:
    enforce(tally, decision_about(), times=10)
    seen = [trail.flush(), trail.status()["failing"]]
    (folder.parent / "filler").unlink()
    seen += [trail.flush()]
"""
READ_ONLY = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=True)
try:
    Trail(folder / "audit", tally)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def test_a_disk_that_is_full_at_the_start_stops_nothing(tmp_path):
    """A restart on a full disk enforces; the opening is told late."""
    found, logged = run(FULL_AT_START + RESULTS, tmp_path, mounts=True)
    assert found["ok"], found["findings"]
    assert found["seen"][0] is False
    assert "No space left" in found["seen"][1]
    assert found["seen"][2] is True
    assert logged.count("nothing can be recorded") == 1
    assert [record["kind"] for record in found["records"]] == ["gap", "trail-opened", "counted", "trail-closed"]
    assert sum(record.get("count", 0) for record in found["records"]) == 10


def test_a_read_only_disk_at_the_start_is_an_error_of_the_operator(tmp_path):
    """He asked for a trail, and there can be none."""
    (kind, message), _ = run(READ_ONLY, tmp_path, mounts=True)
    assert kind == "ConfigError"
    assert "cannot be the audit folder: Read-only file system" in message


def test_a_folder_has_one_owner(tmp_path):
    """A second trail in it is refused, in this process and in another, and the owner is named."""
    folder = tmp_path / "audit"
    with Trail(folder, Tally()):
        with pytest.raises(ConfigError, match=f"in use by the process {os.getpid()}"):
            Trail(folder, Tally())
        code = (
            "try:\n    Trail(folder, tally)\nexcept Exception as error:\n    print(json.dumps(type(error).__name__))\n"
        )
        assert run(code, folder)[0] == "ConfigError"
        assert verify(folder).in_use
    Trail(folder, Tally()).close()


def test_whoever_verifies_keeps_nobody_from_opening(tmp_path):
    """A start while somebody looks whether the folder is in use is a start."""
    folder = tmp_path / "audit"
    Trail(folder, Tally()).close()
    done = threading.Event()

    def look():
        while not done.is_set():
            is_in_use(folder)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(20):
            Trail(folder, Tally()).close()
    finally:
        done.set()
        looking.join()
    assert verify(folder).ok


def a_file(path):
    path.write_text("x")


def below_a_file(path):
    path.parent.rmdir()
    path.parent.write_text("x")


def for_all_to_write(path):
    path.mkdir()
    path.chmod(0o777)


def a_folder_as_lock(path):
    (path / "lock").mkdir(parents=True)
    path.chmod(0o700)


def a_link_as_lock(path):
    path.mkdir(mode=0o700)
    (path / "lock").symlink_to(path / "elsewhere")


def a_pipe_as_segment(path):
    path.mkdir(mode=0o700)
    os.mkfifo(path / "trail-000000000001-2026-11-22.jsonl")


UNUSABLE = [a_file, below_a_file, for_all_to_write, a_folder_as_lock, a_link_as_lock, a_pipe_as_segment]


@pytest.mark.parametrize("make", UNUSABLE, ids=lambda make: make.__name__)
def test_a_folder_that_cannot_be_used_is_an_error_at_the_start(tmp_path, make):
    """And leaves nothing behind: no lock, no thread, and a tally that only counts."""
    path = tmp_path / "parent" / "audit"
    path.parent.mkdir()
    make(path)
    tally = Tally()
    with pytest.raises(ConfigError, match="audit"):
        Trail(path, tally)
    assert not tally.recording


@pytest.mark.parametrize("content", ["", "rubbish", "[{}]", '[{"id": "1", "key": "ab", "since": 1}]', "[" * 5000])
def test_a_file_of_keys_that_holds_none_is_an_error_at_the_start(tmp_path, content):
    """Nobody goes on under a key that is not there."""
    folder = tmp_path / "audit"
    Trail(folder, Tally()).close()
    (folder / "client-keys").write_text(content)
    (folder / "client-keys").chmod(0o600)
    with pytest.raises(ConfigError, match="client-keys: holds no keys"):
        Trail(folder, Tally(), settings=Settings(clients=ClientForm.PSEUDONYM))
