"""`kill -9` at any moment of a start, a reload or a write never loses an order that was in force.

A warmed process forks one victim after another; the victims say what is in force, over a pipe, and are killed at
random moments (seeded) while files are saved under them, whole and broken.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from order_texts import order_text
from thoroughness import examples

from cdnblock.sources.state_folder import MANIFEST, KeptFile, StateFolder

ROOT = Path(__file__).parents[2]
BOUND = 10.0  # seconds; far above what anything here takes
KILLS, KILLS_OF_SAVES = examples(200), examples(100)
FILES = ("a", "b", "c")

# Reads `[what, arguments…]` from its input, forks a victim that says who it is and does it, and says when the victim has ended.
FORGE = """
import itertools, json, logging, os, sys, traceback
from cdnblock import Enforcer
from cdnblock.sources.state_folder import KeptFile, StateFolder

logging.disable()  # every file is broken, most of the time

class Nowhere:
    description = "no country at all"
    def locate(self, address):
        return None

def say(**words):
    os.write(1, json.dumps(words).encode() + b"\\n")

def enforce(orders, state):
    enforcer = Enforcer(orders, geo=Nowhere(), state=state, follow=False)
    said = None
    while True:
        if enforcer.rules is not said:
            said = enforcer.rules
            say(names=[name.name for order in said.orders.values() for name in order.each_name()])
        enforcer._reread()  # what `reload` does, without its waiting for whoever is just writing

def save(path, first):
    state = StateFolder(path)
    for version in itertools.count(first):
        text = b"%d " % version
        names = [f"{name}{version % 3}.yaml" for name in "abcd"]
        state.save({name: KeptFile(name=name, text=text + name.encode() * 5000, beside={"n": text}) for name in names})
        say(saved=version)

if sys.argv[1:]:
    Enforcer(sys.argv[1], geo=Nowhere(), follow=False).close()  # the lists that a first start reads are warm from here
say(ready=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    victim = os.fork()
    if victim == 0:
        try:
            say(victim=os.getpid())  # by itself: so it stands before all else that it says
            {"enforce": enforce, "save": save}[what](*arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    say(ended=os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]))
"""


class Forge:
    """The other end of the pipes."""

    def __init__(self, process):
        self._process = process
        self._unread = b""

    def start(self, *what):
        """Have a victim forked that does it; return its pid."""
        os.write(self._process.stdin.fileno(), json.dumps(what).encode() + b"\n")
        return self.wait_for("victim")

    def wait_for(self, word):
        """Return the next thing that is said, which is to be by that word."""
        said = self.heard(BOUND)
        assert said.keys() == {word}, f"the victim ended by itself, or so: {said}"
        return said[word]

    def heard(self, seconds):
        """Return the next thing that is said, None when nothing is for a while."""
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], seconds)[0]:
                return None
            chunk = os.read(self._process.stdout.fileno(), 65_536)
            assert chunk, "the forge has ended"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def kill(self, victim):
        """Kill the victim; return what it said that was not heard yet."""
        os.kill(victim, signal.SIGKILL)
        said = []
        while not said or "ended" not in said[-1]:
            said.append(self.heard(BOUND))
        assert said.pop() == {"ended": -signal.SIGKILL}
        return said


@contextmanager
def forging(*warmed_by):
    with subprocess.Popen(
        [sys.executable, "-c", FORGE, *map(str, warmed_by)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            forge = Forge(process)
            forge.wait_for("ready")
            yield forge
        finally:
            process.kill()


def good(name, version):
    """Five names that stay, and one that tells the version: no change releases enough to be held back."""
    listed = [f"{name}-stays{number}.example" for number in range(5)] + [f"{name}-{version}.example"]
    return order_text(id=name, names=f"[{', '.join(listed)}]").encode()


_SECONDS = itertools.count()
BROKEN = (b"", b"\xff", b"cdnblock: 1\nid: [", b"- - -", b"names: [motogpstream.me]\n")


def write(path, content, *, renamed):
    """Save a file, by renaming or in place, dated long ago so that it is read without waiting."""
    target = path.with_name(f".{path.name}.tmp") if renamed else path
    target.write_bytes(content)
    os.utime(target, (1e9, 1e9 + next(_SECONDS)))
    if renamed:
        target.rename(path)


def versions(names):
    """Return the version of each order in force; every order has the names that stay."""
    assert {f"{name}-stays{number}.example" for name in FILES for number in range(5)} <= set(names), names
    return {
        name: int(text) for name, text in (each.removesuffix(".example").split("-") for each in names) if text.isdigit()
    }


class Editor:
    """Somebody who saves order files without pause, good ones and broken ones."""

    def __init__(self, folder, chance):
        self._folder = folder
        self._chance = chance
        self.latest = dict.fromkeys(FILES, 0)

    def save(self):
        name = self._chance.choice(FILES)
        content, renamed = self._chance.choice(BROKEN), self._chance.random() < 0.7
        if self._chance.random() < 0.7:
            self.latest[name] += 1
            content = good(name, self.latest[name])
        elif self._chance.random() < 0.3:
            content = good(name, self.latest[name] + 1)[: self._chance.randrange(100, 250)]
        write(self._folder / f"{name}.yaml", content, renamed=renamed)

    def break_all(self):
        for name in FILES:
            write(self._folder / f"{name}.yaml", self._chance.choice(BROKEN), renamed=True)


def test_no_order_that_was_in_force_is_lost(tmp_path):
    """Killed at 200 random moments, and started again each time with every file on the disk broken."""
    chance = random.Random(451)
    orders = tmp_path / "orders"
    orders.mkdir()
    editor = Editor(orders, chance)
    for name in FILES:
        write(orders / f"{name}.yaml", good(name, 0), renamed=True)
    in_force = dict.fromkeys(FILES, 0)
    changes = 0
    with forging(orders) as forge:

        def started():
            """Start with what is on the disk; return the victim when all that was in force is so again."""
            victim = forge.start("enforce", str(orders), str(tmp_path / "state"))
            restored = versions(forge.wait_for("names"))
            assert all(in_force[name] <= restored[name] <= editor.latest[name] for name in FILES), (in_force, restored)
            return victim, restored

        forge.kill(started()[0])
        for number in range(KILLS):
            editor.break_all()
            if number % 4 == 0:  # killed while it starts
                victim, changed = forge.start("enforce", str(orders), str(tmp_path / "state")), 0
            else:
                victim, in_force = started()
                changed = number % 2
            said = []
            while len(said) < changed:  # then it has just written, and maybe enforced something
                editor.save()
                said += filter(None, [forge.heard(chance.uniform(0, 0.003))])
            until = time.monotonic() + chance.uniform(0, 0.02)
            while time.monotonic() < until:
                editor.save()
                time.sleep(chance.uniform(0, 0.003))
            said += forge.kill(victim)
            changes += len(said)
            in_force = versions(said[-1]["names"]) if said else in_force
        editor.break_all()
        forge.kill(started()[0])
    assert changes >= KILLS / 2


def test_a_killed_save_leaves_the_old_set_or_the_new_one(tmp_path):
    """100 times, each at a random moment of a loop that does nothing but save; the first save of all included."""
    chance = random.Random(333)
    path = tmp_path / "state"
    last, inside = -1, 0
    with forging() as forge:
        for number in range(KILLS_OF_SAVES):
            victim = forge.start("save", str(path), last + 1)
            said = [forge.wait_for("saved")] if number % 2 else []
            time.sleep(chance.uniform(0, 0.01))
            said += [each["saved"] for each in forge.kill(victim)]
            inside += any(path.rglob("*.new"))
            with StateFolder(path) as state:
                files, problems = state.load()
            version = max((int(file.text.split()[0]) for file in files.values()), default=-1)
            assert (files, problems) == (saved_as(version), ())
            assert max(said, default=last) <= version <= max(said, default=last) + 1
            last = version
    assert last + 1 >= KILLS_OF_SAVES / 2
    assert inside > 0  # some were killed in the middle of a write


def saved_as(version):
    if version < 0:
        return {}
    text = b"%d " % version
    names = [f"{name}{version % 3}.yaml" for name in "abcd"]
    return {name: KeptFile(name=name, text=text + name.encode() * 5000, beside={"n": text}) for name in names}


@pytest.mark.parametrize("broken", [MANIFEST, "files"])
def test_a_state_folder_that_is_broken_too_stops_a_start_with_broken_files(tmp_path, broken):
    """Then nothing is left to enforce, and starting without it would be silent; valid files start all the same."""
    from cdnblock import Enforcer, OrderError

    orders, state = tmp_path / "orders", tmp_path / "state"
    orders.mkdir()
    write(orders / "a.yaml", good("a", 0), renamed=True)
    Enforcer(orders, state=state, follow=False).close()
    damaged = state / broken
    if damaged.is_dir():
        for content in damaged.iterdir():
            content.write_bytes(b"x")
    else:
        damaged.write_bytes(b"x")
    write(orders / "a.yaml", b"cdnblock: 1\n", renamed=True)
    with pytest.raises(OrderError) as caught:
        Enforcer(orders, state=state, follow=False)
    assert {Path(problem.file).name for problem in caught.value.problems} == {"a.yaml", MANIFEST}
    write(orders / "a.yaml", good("a", 1), renamed=True)
    with Enforcer(orders, state=state, follow=False) as enforcer:
        assert "a-1.example" in {name.name for name in enforcer.rules.orders["a"].each_name()}
