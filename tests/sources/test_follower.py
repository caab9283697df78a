"""The clock: who listens is told of each instant within 50 ms of it, whatever clock and machine do.

A busy machine wakes every thread late. So beside the enforcer a thread of the test's own sleeps until the same
instants; what is judged is the median of how much later than that thread the listener was told.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from order_texts import order_text
from small_table import FRANCE

from cdnblock import Enforcer
from cdnblock.sources import follower

EXACT = 0.05  # seconds
BOUND = 10.0  # seconds after which something has gone wrong
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()

# What happens to the name at the instant: how an order says it, and whether the name is covered from then on.
HAPPENINGS = {
    "start": (lambda name, at: order_text(id=name, names=f"[{name}.example]", begins=at), True),
    "end": (lambda name, at: order_text(id=name, names=f"[{name}.example]", until=at), False),
    "window opens": (lambda name, at: with_windows(name, at, "2190-01-01"), True),
    "window closes": (lambda name, at: with_windows(name, "2025-04-03T09:00", at), False),
    "addition": (
        lambda name, at: (
            order_text(id=name, names=f"[other-{name}.example]")
            + f"additions: [{{notice: n, notified: {at}, names: [{name}.example]}}]\n"
        ),
        True,
    ),
    "lifting": (
        lambda name, at: (
            order_text(id=name, names=f"[{name}.example, other-{name}.example]")
            + f"lifted: [{{names: [{name}.example], at: {at}}}]\n"
        ),
        False,
    ),
}


def with_windows(name, begins, until):
    return order_text(id=name, names=f"[{name}.example]") + f"windows: [{{from: {begins}, until: {until}}}]\n"


def text_of(instant):
    return datetime.fromtimestamp(instant, UTC).isoformat()


class Clock:
    """A wall clock that can be stepped; it runs on from there."""

    def __init__(self, instant):
        self.step_to(instant)

    def step_to(self, instant):
        self._ahead = instant - time.time()

    def __call__(self):
        return time.time() + self._ahead


class Sleeper:
    """A thread that only sleeps until each of some instants: how late it wakes is how late anybody would."""

    def __init__(self, instants, clock):
        self._instants, self._clock = instants, clock
        self.late = {}
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()

    def _sleep(self):
        for instant in self._instants:
            while (left := instant - self._clock()) > 0:
                time.sleep(left)
            self.late[instant] = self._clock() - instant

    def join(self):
        self._thread.join()
        return self.late


def first_since(called, instant):
    """Return the first of the calls (clock, …) that came at an instant or later."""
    return next(call for call in called if call[0] >= instant)


def wait_until(condition):
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.005)


def judged(late, usual):
    """Return by how much the listener was typically later than a thread that only sleeps."""
    return statistics.median(late[instant] - usual[instant] for instant in usual)


def test_listeners_are_told_at_the_instant(tmp_path, small_mmdb):
    """Start, end, window, addition, lifting: never before it, within 50 ms after it, and decisions are as of then."""
    planned = []
    for number, (what, (write, after)) in enumerate(list(HAPPENINGS.items()) * 3):
        name, instant = f"o{number}-{what.replace(' ', '-')}", NOON + number * 0.1
        (tmp_path / f"{name}.yaml").write_text(write(name, text_of(instant)))
        planned.append((instant, f"{name}.example", after, what))
    hosts = [host for _, host, *_ in planned]
    clock = Clock(NOON - 3600)
    called = []
    with Enforcer(tmp_path, geo=small_mmdb, clock=clock) as enforcer:

        def told(old, new):
            called.append((clock(), old is new, {host: bool(enforcer.decide(host, FRANCE)) for host in hosts}))

        enforcer.subscribe(told)
        before = {host: bool(enforcer.decide(host, FRANCE)) for host in hosts}
        clock.step_to(NOON - 0.3)
        usual = Sleeper([instant for instant, *_ in planned], clock).join()
        wait_until(lambda: called and called[-1][0] >= planned[-1][0])
    late = {}
    for instant, host, after, what in planned:
        assert before[host] is not after, what
        moment, same, covered = first_since(called, instant)
        assert covered[host] is after, what
        assert same, "no file was touched"
        late[instant] = moment - instant
    assert called[0][0] >= NOON
    assert judged(late, usual) <= EXACT, late


def test_a_reload_makes_no_instant_late(tmp_path, small_mmdb):
    """However long it takes; here it is not done before the listener was told."""
    instants = [NOON + number * 0.1 for number in range(10)]
    for number, instant in enumerate(instants):
        (tmp_path / f"o{number}.yaml").write_text(
            order_text(id=f"o{number}", names=f"[o{number}.example]", begins=text_of(instant))
        )
    clock = Clock(NOON - 3600)
    called = []
    with Enforcer(tmp_path, geo=small_mmdb, clock=clock) as enforcer:
        enforcer.subscribe(lambda *_: called.append((clock(),)))
        with enforcer._rereading:  # as long as a reload has it
            (tmp_path / "more.yaml").write_text(order_text(id="more"))
            clock.step_to(NOON - 0.3)
            usual = Sleeper(instants, clock).join()
            wait_until(lambda: called and called[-1][0] >= instants[-1])
            assert "more" not in enforcer.rules.orders
        wait_until(lambda: "more" in enforcer.rules.orders)
    late = {instant: first_since(called, instant)[0] - instant for instant in instants}
    assert judged(late, usual) <= EXACT, late


@pytest.mark.parametrize("direction", ["forward", "back"])
def test_a_stepped_clock_is_noticed_within_50_ms(tmp_path, small_mmdb, direction):
    """A step over an instant by hours. To the enforcer it is what a machine's sleep is: the wall clock is elsewhere."""
    before, after = NOON - 3600, NOON + 3600
    (tmp_path / "o.yaml").write_text(order_text(begins=text_of(NOON)))
    clock = Clock(before)
    called = []
    late, usual = [], []
    with Enforcer(tmp_path, geo=small_mmdb, clock=clock) as enforcer:
        enforcer.subscribe(lambda *_: called.append(time.monotonic()))
        for _ in range(9):
            for where in (after, before):
                called.clear()
                stepped = time.monotonic()
                clock.step_to(where)
                assert bool(enforcer.decide("motogpstream.me", FRANCE)) is (where == after)
                time.sleep(EXACT)
                slept = time.monotonic() - stepped - EXACT
                wait_until(lambda: called)
                if (where == after) is (direction == "forward"):
                    late.append(called[0] - stepped)
                    usual.append(slept)
    assert statistics.median(a - b for a, b in zip(late, usual, strict=True)) <= EXACT, late


STOPPED = """
import sys, threading, time
from cdnblock import Enforcer
from cdnblock.sources import follower

folder, geo, instant = sys.argv[1], sys.argv[2], float(sys.argv[3])
ahead = instant - 3600 - time.time()
clock = lambda: time.time() + ahead
told, woken = [], []

def sleep():  # what every thread of a process that was stopped does
    while clock() < instant:
        time.sleep(0.02)
    woken.append(clock())

with Enforcer(folder, geo=geo, clock=clock) as enforcer:
    enforcer.subscribe(lambda *_: told.append(clock()))
    ahead = instant - 1 - time.time()  # one second from now
    thread = threading.Thread(target=sleep)
    thread.start()
    print(ahead, flush=True)
    thread.join()
    while not told:
        time.sleep(0.001)
print(told[0], woken[0], flush=True)
"""


def test_a_process_that_was_stopped_over_the_instant_tells_at_once(tmp_path, small_mmdb):
    """SIGSTOP before it, SIGCONT after it: the best of three tells within 50 ms of going on."""
    (tmp_path / "o.yaml").write_text(order_text(begins=text_of(NOON)))
    late = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(tmp_path), str(small_mmdb), repr(NOON)],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        try:
            ahead = float(process.stdout.readline())
            process.send_signal(signal.SIGSTOP)
            in_time = time.time() + ahead < NOON
            time.sleep(1.2)
            went_on = time.time() + ahead
            process.send_signal(signal.SIGCONT)
            told, woken = map(float, process.communicate(timeout=BOUND)[0].split())
        finally:
            process.kill()
            process.wait()
        if in_time:  # else the machine was so slow that the instant passed before
            assert told >= went_on
            late.append(told - max(went_on, woken))
    assert not late or min(late) <= EXACT, late


# The clocks go back at 2026-10-25T01:00Z and forward at 2026-03-29T01:00Z; a text without offset that comes twice is
# the first, and one that never comes is read by the offset before the switch.
SWITCHES = {
    "back": ("2026-10-25T02:30", "2026-10-25T02:45+01:00", "2026-10-25T00:30Z", "2026-10-25T01:45Z", "2026-10-25T01:30Z"),
    "forward": ("2026-03-29T02:30", "2026-03-29T03:45", "2026-03-29T01:30Z", "2026-03-29T01:45Z", "2026-03-29T00:30Z"),
}  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES)
def test_windows_open_and_close_at_their_instant_across_a_switch_of_daylight_saving(tmp_path, small_mmdb, switch):
    """In the hour that comes twice and in that which never comes, by a clock that runs through it; once, not twice."""
    begins, until, *instants = SWITCHES[switch]
    opens, closes, nothing = (datetime.fromisoformat(text).timestamp() for text in instants)
    (tmp_path / "o.yaml").write_text(with_windows("o", begins, until))
    clock = Clock(opens - 86_400)
    called = []
    late, usual = {}, {}
    with Enforcer(tmp_path, geo=small_mmdb, clock=clock) as enforcer:
        enforcer.subscribe(lambda *_: called.append((clock(), bool(enforcer.decide("o.example", FRANCE)))))
        clock.step_to(nothing - 30)  # the other reading of the same text
        wait_until(lambda: called or opens > nothing)
        called.clear()
        clock.step_to(nothing - 0.2)
        time.sleep(0.4)
        assert called == []
        for instant, covered in ((opens, True), (closes, False)) * 3:
            mark = len(called)
            clock.step_to(instant - 0.2)
            time.sleep(0.2)
            woke = clock() - instant
            wait_until(lambda mark=mark, instant=instant: any(call[0] >= instant for call in called[mark:]))
            moment, was_covered = first_since(called[mark:], instant)
            assert was_covered is covered
            key = len(late)
            late[key], usual[key] = moment - instant, max(0.0, woke)
    assert judged(late, usual) <= EXACT, late


def test_an_instant_just_after_the_start_is_not_missed(tmp_path, small_mmdb):
    """Whoever subscribes right after the start is told of what happens from then on, 20 times."""
    for _ in range(20):
        clock = Clock(NOON - 1)
        (tmp_path / "o.yaml").write_text(order_text(begins=text_of(NOON)))
        told = threading.Event()
        with Enforcer(tmp_path, geo=small_mmdb, clock=clock) as enforcer:
            enforcer.subscribe(lambda *_, told=told: told.set())
            clock.step_to(NOON)
            assert told.wait(BOUND)


def test_listeners_are_told_one_at_a_time_and_of_the_newest_rules_last(tmp_path, small_mmdb):
    """Instants, files and `reload` from many threads: no two calls at once, and each change follows on the one before."""
    instants = [time.time() + 0.5 + number * 0.02 for number in range(60)]
    for number, instant in enumerate(instants):
        (tmp_path / f"o{number}.yaml").write_text(
            order_text(id=f"o{number}", names=f"[o{number}.example]", begins=text_of(instant))
        )
    running, overlaps, changes, reentered = threading.Lock(), [], [], []
    with Enforcer(tmp_path, geo=small_mmdb) as enforcer:
        last = [enforcer.rules]

        def told(old, new):
            if not running.acquire(blocking=False):
                overlaps.append(1)
                return
            if old is not new:
                changes.append((old is last[0], new))
                last[0] = new
            if not reentered:
                reentered.append(enforcer.reload())  # a listener may
                reentered.append(enforcer.status())
            running.release()

        enforcer.subscribe(told)

        def edit(number):
            for version in range(10):
                path = tmp_path / f"edited{number}.yaml"
                path.write_text(
                    order_text(id=f"edited{number}", names=f"[e{number}v{version}.example, e{number}.example]")
                )
                os.utime(path, (1_700_000_000 + version, 1_700_000_000 + version))
                enforcer.reload()

        threads = [threading.Thread(target=edit, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: last[0] is enforcer.rules)
    assert overlaps == []
    assert len(changes) >= 10
    assert all(follows for follows, _ in changes)


def test_closing_twice_and_from_a_listener_does_no_harm(tmp_path, small_mmdb):
    """No thread waits for itself."""
    clock = Clock(NOON - 3600)
    before = set(threading.enumerate())
    (tmp_path / "o.yaml").write_text(order_text(begins=text_of(NOON)))
    closed = threading.Event()
    enforcer = Enforcer(tmp_path, geo=small_mmdb, clock=clock)
    enforcer.subscribe(lambda *_: (enforcer.close(), closed.set()))
    clock.step_to(NOON + 3600)
    assert closed.wait(BOUND)
    enforcer.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


class Looks:
    """Somebody followed who only notes how the folder is looked at."""

    def __init__(self, settles_in=None):
        self.by_content = []
        self.settles_in = settles_in

    def reread(self, *, by_content):
        self.by_content.append(by_content)
        return self.settles_in

    def instant_passed(self):
        raise AssertionError("there is no instant")

    def next_change(self, after):
        return None


def test_contents_are_looked_at_less_often_and_even_among_hints(tmp_path, monkeypatch):
    """Metadata lies now and then; a folder in which something happens all the time is no reason not to look."""
    monkeypatch.setattr(follower, "_SWEEP", 0.02)
    monkeypatch.setattr(follower, "_CONTENT_SWEEP", 0.2)
    looks = Looks()
    following = follower.Follower(looks, tmp_path, lambda: datetime.now(UTC))
    try:
        for number in range(10_000):
            (tmp_path / "noise").write_text(str(number))
            time.sleep(0.005)
            if looks.by_content.count(True) == 3:
                break
    finally:
        following.close()
    assert looks.by_content.count(True) == 3
    assert looks.by_content.count(False) > 3


def test_what_is_being_written_is_looked_at_when_it_has_settled(tmp_path, monkeypatch):
    """By nothing but the time that this takes: no file event comes, and the next sweep is far away."""
    monkeypatch.setattr(follower, "_SWEEP", 10 * BOUND)
    looks = Looks(settles_in=0.01)
    following = follower.Follower(looks, tmp_path, lambda: datetime.now(UTC))
    try:
        while not looks.by_content:  # a watch begins when it can
            (tmp_path / "noise").write_text("")
            time.sleep(0.05)
        wait_until(lambda: len(looks.by_content) > 100)
        looks.settles_in = None
        time.sleep(0.5)
        seen = len(looks.by_content)
        time.sleep(0.5)
        assert len(looks.by_content) == seen
    finally:
        following.close()


def test_a_forked_process_says_that_it_follows_nothing(tmp_path):
    """Threads stay behind in a fork, as servers do that load an application before they make their workers."""
    (tmp_path / "first.yaml").write_text(order_text())
    code = textwrap.dedent("""
        import logging, os, sys
        from cdnblock import Enforcer
        logging.basicConfig(format="%(levelname)s %(message)s")
        closed = Enforcer(sys.argv[1])
        closed.close()
        enforcer = Enforcer(sys.argv[1])
        child = os.fork()
        if child == 0:
            os._exit(0 if enforcer.decide("other.example", None).revision else 1)
        assert os.waitpid(child, 0)[1] == 0
        enforcer.close()
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING cdnblock: process ") == 1
    assert "after the fork" in done.stderr
