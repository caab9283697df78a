"""The ways in which files reach an orders folder: each is noticed, none is enforced by half, none gets the watching lost.

`test_enforcer.py` has the ordinary ones: editors, `mv`, a first ConfigMap swap, a first repointed link.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
import tracemalloc
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from order_texts import order_text
from small_table import FRANCE

from cdnblock import Enforcer
from cdnblock.sources import control_socket

BOUND = 10.0  # seconds; far above what it takes, so that a slow machine does not fail
LONG_AGO = 1_700_000_000  # a time of last change that a copy keeps
OTHERS = [f"other{number}.example" for number in range(9)]  # so many that the release of one needs nobody's consent


def wait_until(condition):
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.005)


def version(number, **changes):
    """Return an order whose versions 0 to 9 are of one length, each with a name of its own."""
    return order_text(names=f"[motogpstream.me, v{number}.example, {', '.join(OTHERS)}]", **changes)


@contextmanager
def following(folder, small_mmdb):
    """Follow a folder; yield the enforcer, and what waits until a version, and no other one, is enforced."""
    with Enforcer(folder, geo=small_mmdb) as enforcer:

        def enforced():
            assert enforcer.decide("motogpstream.me", FRANCE)  # in every version, so never to be let go
            return [number for number in range(10) if enforcer.decide(f"v{number}.example", FRANCE)]

        def becomes(number):
            wait_until(lambda: enforced() == [number])

        assert enforced() == [0]
        yield enforcer, becomes


@pytest.fixture
def folder(tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "o.yaml").write_text(version(0))
    os.utime(orders / "o.yaml", (LONG_AGO, LONG_AGO))
    return orders


def as_rsync(source, target):
    """Copy as rsync does: to a hidden file beside it, in pieces, the times of the source, then the real name."""
    beside = target.with_name(f".{target.name}.Xa81bZ")
    content = source.read_bytes()
    with beside.open("wb") as file:
        for start in range(0, len(content), 100):
            file.write(content[start : start + 100])
            file.flush()
            time.sleep(0.01)
    times = source.stat()
    os.utime(beside, ns=(times.st_atime_ns, times.st_mtime_ns))
    beside.rename(target)


def real_rsync(*options):
    def copy(source, target):
        subprocess.run(["rsync", "-t", "--ignore-times", *options, str(source), str(target)], check=True, timeout=30)

    return copy


COPIES = {
    "as rsync": as_rsync,
    "cp -p": shutil.copy2,
    "ln and mv": lambda source, target: (
        os.link(source, target.with_name("new")),
        target.with_name("new").rename(target),
    ),
    "ln -s and mv": lambda source, target: (
        target.with_name("new").symlink_to(source),
        target.with_name("new").rename(target),
    ),
}
if shutil.which("rsync"):
    COPIES |= {
        f"rsync {' '.join(options)}": real_rsync(*options) for options in ([], ["--inplace"], ["--delay-updates"])
    }


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_that_keeps_time_and_size_takes_effect(folder, tmp_path, small_mmdb, copy):
    """Three times: neither the time of last change nor the size tells these versions apart, and both are long ago."""
    with following(folder, small_mmdb) as (enforcer, becomes):
        for number in (1, 2, 3):
            source = tmp_path / f"source{number}"
            source.write_text(version(number))
            os.utime(source, (LONG_AGO, LONG_AGO))
            COPIES[copy](source, folder / "o.yaml")
            becomes(number)
            assert enforcer.problems == ()


def kubelet_writes(mount, generation, files):
    """Put a generation of a ConfigMap where the kubelet does, swap `..data`, and take the old generation away."""
    data = mount / "..data"
    old = mount / data.readlink() if data.is_symlink() else None
    new = mount / f"..2026_06_01_12_00_0{generation}.{generation}"
    new.mkdir()
    for name, text in files.items():
        (new / name).write_text(text)
    (mount / "..data_tmp").symlink_to(new.name)
    (mount / "..data_tmp").rename(data)
    for name in files:
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(f"..data/{name}")
    for link in mount.glob("*.yaml"):
        if link.name not in files:
            link.unlink()
    if old is not None:
        shutil.rmtree(old)


def test_a_configmap_is_followed_through_its_generations(tmp_path, small_mmdb):
    """Keys that change, come and go, while the folders behind the links are taken away."""
    mount = tmp_path / "mount"
    mount.mkdir()
    more = order_text(id="more", names="[more.example]")
    kubelet_writes(mount, 0, {"o.yaml": version(0)})
    with following(mount, small_mmdb) as (enforcer, becomes):
        kubelet_writes(mount, 1, {"o.yaml": version(1), "more.yaml": more})
        becomes(1)
        wait_until(lambda: enforcer.decide("more.example", FRANCE))
        kubelet_writes(mount, 2, {"o.yaml": version(2)})
        becomes(2)
        wait_until(lambda: not enforcer.decide("more.example", FRANCE))
        kubelet_writes(mount, 3, {"o.yaml": version(3)})
        becomes(3)
        assert enforcer.problems == ()
        assert enforcer.status()["held"] == []


def test_a_root_is_repointed_again_and_again_and_edited_where_it_is(tmp_path, small_mmdb):
    """Releases that are switched by a link, the old ones deleted; between the switches, edits in the newest one."""
    current = tmp_path / "current"
    for number in (0, 1, 3):
        (tmp_path / f"release{number}").mkdir()
        (tmp_path / f"release{number}" / "o.yaml").write_text(version(number))
    current.symlink_to("release0")

    def repoint(number):
        (tmp_path / "next").symlink_to(f"release{number}")
        (tmp_path / "next").rename(current)

    with following(current, small_mmdb) as (enforcer, becomes):
        repoint(1)
        shutil.rmtree(tmp_path / "release0")
        becomes(1)
        (tmp_path / "release1" / "o.yaml").write_text(version(2))
        becomes(2)
        repoint(3)
        shutil.rmtree(tmp_path / "release1")
        becomes(3)
        (tmp_path / "release3" / "o.yaml").write_text(version(4))
        becomes(4)
        assert enforcer.problems == ()


def test_a_folder_that_is_deleted_and_made_anew_is_followed(folder, small_mmdb, caplog):
    """While it is away everything stays enforced, and the log says so; twice, and then an ordinary edit."""
    with following(folder, small_mmdb) as (enforcer, becomes):
        for number in (1, 2):
            shutil.rmtree(folder)
            wait_until(lambda: [problem.file for problem in enforcer.problems] == [str(folder)])
            assert any(record.levelno == logging.ERROR and str(folder) in record.message for record in caplog.records)
            assert enforcer.decide(f"v{number - 1}.example", FRANCE)
            caplog.clear()
            folder.mkdir()
            (folder / "o.yaml").write_text(version(number))
            becomes(number)
            wait_until(lambda: enforcer.problems == ())
        (folder / "o.yaml").write_text(version(3))
        becomes(3)


def test_a_reload_that_is_asked_for_is_over_when_everybody_was_told(folder, small_mmdb, tmp_path):
    """Also when the follower had read the change just before, and those whom it tells take their time."""
    told, is_told = threading.Event(), []

    def slow(_old, _new):
        told.set()
        time.sleep(0.5)
        is_told.append(True)

    state = tmp_path / "state"
    with Enforcer(folder, geo=small_mmdb, state=state) as enforcer:
        enforcer.subscribe(slow)
        (folder / "o.yaml").write_text(version(1))
        assert told.wait(BOUND)
        control_socket.ask(state, {"command": "reload"}, BOUND)
        assert is_told


@pytest.mark.parametrize("broken", ["cut", "empty", "no UTF-8", "gone dangling", "a folder"])
def test_what_cannot_be_read_keeps_its_last_good_version_loudly(folder, small_mmdb, caplog, broken):
    """One ERROR each in the log for the file and for what is kept, once; mended, the new version takes effect."""
    path = folder / "o.yaml"
    with following(folder, small_mmdb) as (enforcer, becomes):
        if broken == "gone dangling":
            path.unlink()
            path.symlink_to("nowhere")
        elif broken == "a folder":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes({"cut": version(1).encode()[:150], "empty": b"", "no UTF-8": b"\xff\xfe\x00"}[broken])
        wait_until(lambda: "its last good version stays enforced" in caplog.text)
        assert [state["state"] for state in enforcer.status()["files"]] == ["last good version kept"]
        assert enforcer.status()["files"][0]["problems"][0]["line"] >= 1
        assert enforcer.decide("v0.example", FRANCE)
        for _ in range(3):
            enforcer.reload()
        said = [record for record in caplog.records if "stays enforced" in record.message]
        assert [record.levelno for record in said] == [logging.ERROR]
        mended = folder.parent / "mended"
        mended.write_text(version(2))
        if broken == "a folder":  # a file cannot take its place in one step: for a moment there is neither
            path.rmdir()
        mended.replace(path)
        if broken == "a folder":  # who looked in that moment holds back what is released
            enforcer.reload(accept_release=True)
        becomes(2)


@pytest.mark.parametrize("which", ["o.yaml", "annex.txt"])
def test_a_file_larger_than_memory_is_refused_by_its_size(folder, small_mmdb, which):
    """A terabyte of nothing, as an order or as the names beside it: not read, and what was enforced stays."""
    names = "".join(f"{name}\n" for name in ["motogpstream.me", "v0.example", *OTHERS])
    (folder / "annex.txt").write_text(names)
    (folder / "o.yaml").write_text(order_text().replace("names: [motogpstream.me]", "names_file: annex.txt"))
    with following(folder, small_mmdb) as (enforcer, _):
        tracemalloc.start()
        try:
            (folder / "huge").touch()
            os.truncate(folder / "huge", 2**40)
            (folder / "huge").rename(folder / which)
            wait_until(lambda: enforcer.problems)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "is larger than 64 MiB" in str(enforcer.problems[0])
        assert peak < 8_000_000
        assert enforcer.decide("v0.example", FRANCE)


def slowly(path, head, lines):
    """Write a file in place, in many pieces; return the longest pause between two of them (s)."""
    longest, last = 0.0, time.monotonic()
    with path.open("w") as file:
        for piece in (head, *lines):
            file.write(piece)
            file.flush()
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            time.sleep(0.005)
    return longest


@pytest.mark.parametrize("which", ["order", "names file"])
def test_a_half_written_file_is_not_enforced(folder, small_mmdb, which):
    """A writer that takes its time: what is on disk meanwhile is valid, and half of what is meant."""
    with following(folder, small_mmdb) as (enforcer, _):
        for attempt in range(10):  # where the writer had to wait for long, its file was settled, and proves nothing
            name, names = f"slow{attempt}", [f"slow{attempt}-{number}.example" for number in range(60)]
            seen = set()
            unsubscribe = enforcer.subscribe(
                lambda _, new, name=name, seen=seen: seen.add(new.orders[name].size() if name in new.orders else 0)
            )
            if which == "order":
                text = order_text(id=name, names="").rstrip()
                longest = slowly(folder / f"{name}.yaml", text, [f"\n  - {listed}" for listed in names])
            else:
                (folder / f"{name}.txt").write_text(f"{names[0]}\n")
                text = order_text(id=name).replace("names: [motogpstream.me]", f"names_file: {name}.txt")
                (folder / f"{name}.yaml").write_text(text)
                wait_until(lambda names=names: enforcer.decide(names[0], FRANCE))
                longest = slowly(folder / f"{name}.txt", "", [f"{listed}\n" for listed in names])
            wait_until(lambda names=names: enforcer.decide(names[-1], FRANCE))
            unsubscribe()
            if longest < 0.04:
                assert seen - {1} == {60}
                break


def test_the_status_tells_all_of_a_reload(folder, small_mmdb):
    """When it was, how long it took, whether the rules changed; then the names, the next change and the revision."""
    with following(folder, small_mmdb) as (enforcer, becomes):
        assert enforcer.status()["last_reload"] is None
        before = enforcer.status()["revision"]
        asked = datetime.now(UTC)
        (folder / "o.yaml").write_text(version(1, until="2190-01-01"))
        becomes(1)
        wait_until(lambda: enforcer.status()["last_reload"])
        found = enforcer.status()
        assert found["last_reload"]["changed"] is True
        assert asked <= datetime.fromisoformat(found["last_reload"]["at"]) <= datetime.now(UTC)
        assert 0 < found["last_reload"]["seconds"] < BOUND
        assert found["revision"] == enforcer.rules.revision != before
        assert (found["names"], found["names_in_force"]) == (11, 11)
        assert found["next_change"] == "2190-01-01T23:00:00+00:00"
        (folder / "o.yaml").write_text("half an ord")
        wait_until(lambda: enforcer.status()["last_reload"]["changed"] is False)
        assert enforcer.status()["revision"] == found["revision"]
