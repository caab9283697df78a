"""The state folder: the last good set survives, whole, and nothing in the folder can hurt."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cdnblock.errors import ConfigError, Severity
from cdnblock.sources.state_folder import MANIFEST, KeptFile, StateFolder

ROOT = Path(__file__).parents[2]


def kept(name, text=b"text", **beside):
    return KeptFile(name=name, text=text, beside={f"{key}.txt": value for key, value in beside.items()})


def by_name(*files):
    return {file.name: file for file in files}


TWO = by_name(kept("a.yaml", b"first"), kept("b.yaml", b"second", annex=b"names", more=b"names"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def saved(path):
    """A state folder in which two files were saved."""
    with StateFolder(path) as state:
        state.save(TWO)
    return path


def load(path):
    with StateFolder(path) as state:
        return state.load()


def contents(path):
    return sorted(entry.name for entry in (path / "files").iterdir())


def content_of(path, octets):
    return path / "files" / hashlib.sha256(octets).hexdigest()


@pytest.mark.parametrize(
    "files",
    [
        {}, by_name(kept("a.yaml", b"")), TWO, by_name(kept("é.yaml"), kept("not-utf-8-\udcff.yaml", **{"ann\udcffex": b"\0\xff"})),
        by_name(kept("same.yaml", b"x"), kept("twice.yaml", b"x", annex=b"x")), by_name(kept("large.yaml", bytes(3_000_001))),
    ],
    ids=["none", "empty file", "with names files", "odd names", "one content", "several chunks"],
)  # fmt: skip
def test_what_was_saved_is_loaded(path, files):
    """Octet by octet, by this process and the next one."""
    with StateFolder(path) as state:
        state.save(files)
        assert state.load() == (files, ())
    assert load(path) == (files, ())


def test_a_new_folder_has_nothing_and_no_problem(path):
    """The first start of an instance; the folder is for this user alone."""
    assert load(path) == ({}, ())
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_later_set_replaces_the_earlier_one_and_leaves_nothing(saved):
    """Contents that no file has any more are removed, each content that is shared is there once."""
    with StateFolder(saved) as state:
        state.save(by_name(kept("b.yaml", b"second", annex=b"names"), kept("c.yaml", b"names")))
    assert set(load(saved)[0]) == {"b.yaml", "c.yaml"}
    assert contents(saved) == sorted(hashlib.sha256(octets).hexdigest() for octets in (b"second", b"names"))
    assert sorted(entry.name for entry in saved.iterdir()) == ["files", "last-good.json", "lock"]


def test_what_a_killed_process_left_is_cleared_away(saved):
    """Half-written files do not add up, and nobody stumbles over them."""
    for left in (saved / "files" / ("0" * 64 + ".new"), saved / f"{MANIFEST}.new", saved / "files" / "stray"):
        left.write_bytes(b"half")
    content_of(saved, b"third").with_suffix(".new").symlink_to("/etc/passwd")
    with StateFolder(saved) as state:
        assert state.load() == (TWO, ())
        state.save(by_name(kept("a.yaml", b"third")))
    assert load(saved) == (by_name(kept("a.yaml", b"third")), ())
    assert contents(saved) == [hashlib.sha256(b"third").hexdigest()]
    assert not (saved / f"{MANIFEST}.new").exists()


def test_contents_that_are_there_are_not_written_again(saved):
    """A change of one file among many costs one file."""
    before = {name: (saved / "files" / name).stat().st_ino for name in contents(saved)}
    with StateFolder(saved) as state:
        for text in (b"third", b"fourth"):
            state.save(TWO | by_name(kept("c.yaml", text)))
    assert before.items() <= {name: (saved / "files" / name).stat().st_ino for name in contents(saved)}.items()


def flip(file):
    octets = bytearray(file.read_bytes())
    octets[0] ^= 1
    file.write_bytes(octets)


def replace_by(make):
    def damage(file):
        file.unlink()
        make(file)

    return damage


def aside(file):
    """Move a file away and put a link to it in its place: what is read would be right, the way there is not."""
    file.rename(file.parent.parent / "aside")
    file.symlink_to(file.parent.parent / "aside")


DAMAGE = {
    "removed": Path.unlink, "one bit": flip, "cut short": lambda file: os.truncate(file, 1),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"), "emptied": lambda file: os.truncate(file, 0),
    "a FIFO": replace_by(os.mkfifo), "a folder": replace_by(Path.mkdir), "a link": aside,
    "a link to itself": replace_by(lambda file: file.symlink_to(file.name)),
    "endless": replace_by(lambda file: file.symlink_to("/dev/zero")),
    "huge": lambda file: os.truncate(file, 70 * 1024**2),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("octets", "lost"), [(b"first", "a.yaml"), (b"names", "b.yaml")], ids=["order", "names file"])
def test_a_damaged_content_costs_its_file_alone(saved, damage, octets, lost):
    """The other file is intact; the problem names the one that is lost, and is no reason to stop (a warning)."""
    DAMAGE[damage](content_of(saved, octets))
    files, problems = load(saved)
    assert files == {name: file for name, file in TWO.items() if name != lost}
    assert [problem.severity for problem in problems] == [Severity.WARNING]
    assert lost in problems[0].message
    assert problems[0].file == str(saved / MANIFEST)


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "a folder"])
def test_a_damaged_content_is_mended_by_the_next_save(saved, damage):
    """Even while the process runs that wrote it."""
    with StateFolder(saved) as state:
        state.save(TWO)
        DAMAGE[damage](content_of(saved, b"first"))
        state.save(TWO)
        assert state.load() == (TWO, ())


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_is_a_problem_and_no_accident(saved, damage):
    """Nothing is restored from it, and nothing raises."""
    DAMAGE[damage](saved / MANIFEST)
    files, problems = load(saved)
    assert files == {}
    assert [(problem.severity, problem.file) for problem in problems] == [(Severity.WARNING, str(saved / MANIFEST))]


def signed(content):
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({"checksum": f"sha256:{hashlib.sha256(canonical).hexdigest()}", "content": content}).encode()


DIGEST = hashlib.sha256(b"first").hexdigest()


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000,
        signed(None), signed([]), signed({}), signed({"format": 1}), signed({"format": 2, "files": []}),
        signed({"format": 1, "files": 5}), signed({"format": 1, "files": ["a"]}), signed({"format": 1, "files": [{}]}),
        *(
            signed({"format": 1, "files": [{"name": "a", "text": DIGEST, "beside": {}} | wrong]})
            for wrong in (
                {"name": 5}, {"name": None}, {"text": None}, {"text": "../../etc/passwd"}, {"text": DIGEST[1:]},
                {"text": DIGEST.upper()}, {"text": DIGEST[:-1] + "\n"}, {"text": [DIGEST]}, {"beside": None}, {"beside": "ab"},
                {"beside": {"a": "../lock"}}, {"beside": {"a": None}}, {"beside": [["a", "b", "c"]]}, {"beside": 1},
            )
        ),
    ],
    ids=lambda manifest: repr(manifest[:60]),
)  # fmt: skip
def test_a_manifest_that_is_none(saved, manifest):
    """Whatever stands there, with a right checksum or without: nothing is restored, and it says so."""
    (saved / MANIFEST).write_bytes(manifest)
    files, problems = load(saved)
    assert files == {}
    assert len(problems) == 1
    with StateFolder(saved) as state:
        state.save(TWO)
        assert state.load() == (TWO, ())


def test_a_manifest_of_another_version_is_not_guessed_at(saved):
    """It says which format it has."""
    (saved / MANIFEST).write_bytes(signed({"format": 7, "files": []}))
    assert "format 7" in load(saved)[1][0].message


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        **options,
    )  # fmt: skip


SAVE = """
import sys
from cdnblock.sources.state_folder import KeptFile, StateFolder
state = StateFolder(sys.argv[1])
try:
    state.save({"a.yaml": KeptFile(name="a.yaml", text=b"third" * 100_000)})
except OSError as error:
    print(error.strerror)
"""


def test_a_disk_that_is_full_is_told_and_costs_nothing(saved):
    """A write that fails half-way raises OSError; the set of before is whole, and nothing half is left."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    before = contents(saved)
    done = run_python(SAVE, saved, preexec_fn=limit)
    assert (done.stdout.strip(), done.returncode) == ("File too large", 0), done.stderr
    assert load(saved) == (TWO, ())
    assert contents(saved) == before


def test_contents_in_a_file_where_the_folder_was_is_an_error_of_saving(saved):
    """Not of the caller's thread for ever, and not silent."""
    shutil.rmtree(saved / "files")
    (saved / "files").write_text("")
    with StateFolder(saved) as state:
        with pytest.raises(OSError, match="Not a directory"):
            state.save(TWO)
        files, problems = state.load()
        assert (files, len(problems)) == ({}, 2)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_folder_that_was_moved_away_is_an_error_of_saving(saved, replaced):
    """Where a restart would look, nothing would be."""
    with StateFolder(saved) as state:
        saved.rename(saved.with_name("elsewhere"))
        if replaced:
            saved.mkdir()
        with pytest.raises(OSError, match="state"):
            state.save(TWO)


def test_what_cannot_be_loaded_again_is_not_saved(path):
    """A content over the limit of order files is refused when it is saved, not when it is needed."""
    with StateFolder(path) as state, pytest.raises(OSError, match="larger than 64 MiB"):
        state.save(by_name(kept("a.yaml", bytes(64 * 1024**2 + 1))))


def test_a_second_instance_is_kept_out_and_told_by_whom(saved):
    """By another process as by this one; when the first is closed, the next may."""
    with StateFolder(saved) as state:
        with pytest.raises(ConfigError, match=f"in use by the process {os.getpid()};"):
            StateFolder(saved)
        done = run_python(SAVE, saved)
        assert f"in use by the process {os.getpid()};" in done.stderr
        state.save(TWO)
    assert run_python(SAVE, saved).returncode == 0


def test_a_forked_child_does_not_keep_the_next_owner_out(saved):
    """A worker that outlives its killed parent must not keep the edge from starting again."""
    code = """
import os, sys, time
from cdnblock.sources.state_folder import StateFolder
state = StateFolder(sys.argv[1])
if os.fork() == 0:
    try:
        state.save({})
    except OSError:
        print("closed", flush=True)
    time.sleep(60)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(saved)], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"closed\n"
        orphan = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
        try:
            with pytest.raises(ConfigError, match=f"process {parent.pid};"):
                StateFolder(saved)
            parent.kill()
            parent.wait()
            assert load(saved) == (TWO, ())
        finally:
            os.kill(orphan, 9)


def test_after_closing_a_save_fails_and_closing_again_does_no_harm(saved):
    """The folder may belong to somebody else by now."""
    state = StateFolder(saved)
    state.close()
    state.close()
    with StateFolder(saved), pytest.raises(OSError, match="Bad file descriptor"):
        state.save(TWO)
    assert state.load()[0] == {}


def as_file(path):
    path.write_text("")


def writable_by_others(path):
    path.mkdir()
    path.chmod(0o770)


def dangling(path):
    path.symlink_to("nowhere")


def with_a_link_for_a_lock(path):
    path.mkdir()
    (path / "lock").symlink_to("/dev/null")


@pytest.mark.parametrize("make", [as_file, writable_by_others, dangling, with_a_link_for_a_lock])
def test_what_cannot_be_the_state_folder(path, make):
    """The operator is told the path and what to give instead."""
    make(path)
    with pytest.raises(ConfigError, match=r"state: cannot be .*; give "):
        StateFolder(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_another_user_is_refused(path):
    """Who owns it could put anything in force."""
    path.mkdir(mode=0o700)
    os.chown(path, 65_534, 65_534)
    with pytest.raises(ConfigError, match="belongs to the user 65534"):
        StateFolder(path)


def test_a_nonsense_path_is_a_config_error():
    """Not a ValueError of the system's."""
    with pytest.raises(ConfigError):
        StateFolder("a\0b")


def test_a_link_to_a_folder_is_followed(saved):
    """As systemd makes one for `StateDirectory=`."""
    link = saved.with_name("link")
    link.symlink_to(saved)
    assert load(link) == (TWO, ())


def test_a_relative_path_stays_where_it_was(saved, monkeypatch, tmp_path):
    """A daemon that changes its folder afterwards saves to the same place."""
    monkeypatch.chdir(tmp_path)
    with StateFolder("state") as state:
        monkeypatch.chdir("/")
        state.save({})
        assert state.path == saved
    assert load(saved) == ({}, ())


def test_saving_a_large_set_leaves_other_threads_running(path):
    """20 MB of names are hashed and written while a loop in another thread goes on."""
    large = by_name(kept("a.yaml", annex=os.urandom(20 * 1024**2)))
    longest, stop = [0.0], threading.Event()

    def loop():
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0)
            now = time.perf_counter()
            longest[0], last = max(longest[0], now - last), now

    with StateFolder(path) as state:
        thread = threading.Thread(target=loop)
        thread.start()
        state.save(large)
        stop.set()
        thread.join()
        assert state.load() == (large, ())
    assert longest[0] < 0.5  # seconds; some 10 ms when the machine has nothing else to do


def test_many_threads_save_and_load_whole_sets(path):
    """A load never sees half of a save."""
    sets = [by_name(*(kept(f"{name}.yaml", text) for name in "abc")) for text in (b"1", b"2", b"3", b"4")]
    wrong = []
    with StateFolder(path) as state:
        state.save(sets[0])

        def work(mine):
            for _ in range(5):
                state.save(mine)
                found, problems = state.load()
                if found not in sets or problems:
                    wrong.append(found)

        threads = [threading.Thread(target=work, args=(mine,)) for mine in sets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
