"""Long lists beside a server: read in small steps or by a child process, and freed bit by bit."""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from order_texts import order_text

from cdnblock.matching.ruleset import compile_orders
from cdnblock.orders.protected import Protected
from cdnblock.sources import yaml_child
from cdnblock.sources.order_folder import read_file
from cdnblock.sources.slow_release import SlowRelease, collecting_by_hand
from cdnblock.sources.yaml_child import LONG_YAML, parse_in_child

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)
NAMES = [f"site{number}.live.example" for number in range(7_000)]
LONG = "names:\n" + "".join(f"- {name}\n" for name in NAMES)


def pauses(counted=None):
    counted = [] if counted is None else counted
    return lambda: counted.append(1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "annex.txt").write_text("# the annex\n" + "".join(f"a{number}.example\n" for number in range(3_000)))
    return tmp_path


def written(folder, **changes):
    text = order_text(**changes).replace("names: [motogpstream.me]\n", LONG) + "names_file: annex.txt\n"
    text += "additions:\n- {notice: n, notified: 2025-05-02T14:05, names: [added.example], names_file: annex.txt}\n"
    path = folder / "o.yaml"
    path.write_text(text)
    assert path.stat().st_size > LONG_YAML
    return path


def test_a_child_reads_the_same_order(folder):
    """Names, their places, additions, names files and warnings are what this process would have read."""
    path = written(folder)
    here, there = read_file(path, Protected()), read_file(path, Protected(), keep_texts=True, pause=pauses())
    assert here.order is not None
    assert there.order == here.order
    assert there.problems == here.problems != ()  # the addition's names are listed already
    assert (there.digest, there.beside) == (here.digest, here.beside)
    assert there.beside_texts == {"annex.txt": (folder / "annex.txt").read_bytes()}
    assert compile_orders([there.order]).revision == compile_orders([here.order]).revision
    rules = compile_orders([there.order])
    decision = rules.decide("www.a2999.example", country="FR", at=NOON)
    assert str(decision.reasons[0].position) == f"{folder}/annex.txt:3001"


@pytest.mark.parametrize(
    ("changes", "annex"),
    [({"id": "Wrong"}, True), ({"until": "2024-01-01"}, True), ({}, False)],
    ids=["a wrong value", "a contradiction", "no annex"],
)
def test_a_child_finds_the_same_problems(folder, changes, annex):
    """With the same words and places, the missing names file included."""
    path = written(folder, **changes)
    if not annex:
        (folder / "annex.txt").unlink()
    here, there = read_file(path, Protected()), read_file(path, Protected(), pause=pauses())
    assert here.order is there.order is None
    assert here.problems == there.problems


def test_the_child_knows_the_protected_names(folder):
    """They come from this process."""
    path = written(folder)
    protected = Protected({"site5.live.example": "protected.txt:1"})
    (problem,) = [p for p in read_file(path, protected, pause=pauses()).problems if "protected" in p.message]
    assert problem.key == "names.5"


def test_short_yaml_needs_no_child(folder, monkeypatch):
    """A child costs half a second; a short file is read here."""
    path = folder / "o.yaml"
    path.write_text(order_text())
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")
    assert read_file(path, Protected(), pause=pauses()).order is not None


@pytest.mark.parametrize("executable", ["/nonexistent/python3", "/bin/true", "", None, "/usr/bin/env"])
def test_without_a_child_this_process_reads(folder, monkeypatch, executable):
    """An interpreter that is not there, or a program that has one inside and must not be started again."""
    path = written(folder)
    monkeypatch.setattr(sys, "executable", executable)
    assert read_file(path, Protected(), pause=pauses()).order == read_file(path, Protected()).order


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(3)",
        "print('hello', flush=True); import sys; sys.stdin.read()",
        "import os; os.close(0); os.close(1)",
    ],
    ids=["dies", "talks nonsense", "closes"],
)
def test_a_child_that_fails_is_no_answer(monkeypatch, code):
    """Whatever it does instead of answering, the caller is told that there is none."""
    monkeypatch.setattr(yaml_child, "_CHILD", code)
    question = {"read_names_file": lambda _: b"", "protected": Protected(), "pause": pauses()}
    assert parse_in_child(b"x: 1\n" * 200_000, "o.yaml", **question) is None


def test_a_child_that_hangs_is_killed(monkeypatch):
    """After some patience; nothing waits for ever."""
    monkeypatch.setattr(yaml_child, "_PATIENCE", 0.3)
    monkeypatch.setattr(yaml_child, "_CHILD", "import time; time.sleep(60)")
    question = {"read_names_file": lambda _: b"", "protected": Protected(), "pause": pauses()}
    assert parse_in_child(b"x: 1\n", "o.yaml", **question) is None


def test_a_long_names_file_is_read_with_pauses(folder):
    """At least once in two thousand names, so that others run meanwhile; without `pause` there is none."""
    (folder / "annex.txt").write_text("".join(f"a{number}.example\n" for number in range(50_000)))
    path = folder / "o.yaml"
    path.write_text(order_text().replace("names: [motogpstream.me]", "names_file: annex.txt"))
    counted = []
    assert read_file(path, Protected(), pause=pauses(counted)).order is not None
    assert len(counted) > 25


def test_collecting_by_hand_is_undone():
    """The garbage collector is as it was found, however many read at once and whatever fails meanwhile."""
    with suppress(KeyError), collecting_by_hand(), collecting_by_hand():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with collecting_by_hand():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def rules_of(folder):
    return compile_orders([read_file(folder / "o.yaml", Protected()).order])


def test_what_a_reload_replaced_is_freed_once_nobody_uses_it(folder):
    """Not before, and then in many steps; what the new rules share stays."""
    written(folder)
    old, new = rules_of(folder), rules_of(folder)
    decision = old.decide(NAMES[0], country="FR", at=NOON)
    names = weakref.ref(old.orders["motogp"].names_file.names)
    gone, counted = weakref.ref(old), []
    release = SlowRelease()
    release.give(old, new)
    release.free(pauses(counted))
    assert counted == []
    del old
    gc.collect()
    release.free(pauses())
    assert gone() is None
    assert names() is not None  # the decision still tells its order
    del decision
    release.free(pauses(counted))
    assert names() is None
    assert len(counted) > 5  # 7,000 names, and 3,000 twice
    assert release._held == []
    assert new.decide(NAMES[0], country="FR", at=NOON)


def test_what_both_rule_sets_share_is_not_given(folder):
    """The order that did not change keeps its lists."""
    written(folder)
    order = read_file(folder / "o.yaml", Protected()).order
    old, new = compile_orders([order]), compile_orders([order])
    release = SlowRelease()
    for _ in range(10):
        release.give(old, new)
        old, new = new, compile_orders([order])
        release.free(pauses())
    assert len(release._held) <= 1
    assert new.decide("a7.example", country="FR", at=NOON)


def test_nothing_goes_round_in_circles(folder):
    """A rule set is freed without the garbage collector, even after use."""
    written(folder)
    gc.disable()
    try:
        rules = rules_of(folder)
        rules.decide(NAMES[0], country="FR", at=NOON).explain()
        rules.find_query_name("www.a1.example")
        gone = weakref.ref(rules)
        del rules
        assert gone() is None
    finally:
        gc.enable()
