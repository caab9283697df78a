"""What a reload costs, and what of it a server in the same process notices.

    python tests/benchmarks/bench_reload.py [--sizes 14 100000 1000000] [--reloads 10000]

Prints Markdown. Nothing is asserted: a slow machine is no mistake.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import Cores, heading, listable_names, median, resident, say, table, write_order

from cdnblock import Enforcer, load_orders

TICK = 0.001
PATIENCE = 60  # seconds for one change to be enforced
CHANGED = 1_000  # names among the long lists
FIRST = 500  # reloads after which memory should not grow any more
ROUNDS = 5  # of loading, reloading and letting go, with collections in between


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[14, 100_000, 1_000_000])
    parser.add_argument("--changes", type=int, default=7, help="changes of each list; medians and maxima are of them")
    parser.add_argument("--reloads", type=int, default=10_000, help="reloads in a row of a small order")
    parser.add_argument("--collections", type=Path, help=argparse.SUPPRESS)  # the part that needs a fresh process
    arguments = parser.parse_args()
    if arguments.collections is not None:
        print(json.dumps(_collections(arguments.collections)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        columns = [_of_size(Path(scratch) / str(size), size, arguments.changes) for size in arguments.sizes]
        heads = [f"{size:,} names" for size in arguments.sizes]
        print(heading("Names files: loading, changing some names, the server beside it") + "\n")
        print(table(["ms", *heads], [[row, *(f"{column[row]:,.1f}" for column in columns)] for row in columns[0]]))
        print("\n" + heading(f"{arguments.reloads:,} reloads in a row") + "\n")
        rows = _reloads(Path(scratch) / "many", arguments.reloads)
        print(table(["resident memory", "MB"], [[what, f"{megabytes:.1f}"] for what, megabytes in rows.items()]))


def _of_size(folder: Path, size: int, changes: int) -> dict[str, float]:
    say(f"reloads with {size:,} names")
    annex, changed = _write(folder, size, changes)
    load_orders(folder)  # what is loaded once is not counted
    found = {"load and validate, wall clock": [], "load and validate, CPU": []}
    for _ in range(3):
        wall, processor = time.perf_counter(), time.thread_time()
        load_orders(folder)
        found["load and validate, wall clock"].append(time.perf_counter() - wall)
        found["load and validate, CPU"].append(time.thread_time() - processor)
    result = {what: median(values) for what, values in found.items()}
    result |= _beside(folder, annex, changed)
    fresh = [sys.executable, __file__, "--collections", str(folder)]
    result |= json.loads(subprocess.run(fresh, capture_output=True, text=True, check=True).stdout)
    return {what: 1000 * seconds for what, seconds in result.items()}


def _beside(folder: Path, annex: Path, changes: list[Path]) -> dict[str, float]:
    """Change the list while an asyncio loop ticks; a tick that comes late is what a request would have waited."""
    with Enforcer(folder) as enforcer:
        enforced = threading.Event()
        enforcer.subscribe(lambda old, new: enforced.set() if old is not new else None)
        took: list[float] = []

        def change() -> None:
            for path in changes:
                enforced.clear()
                os.utime(path)
                path.rename(annex)
                saved = time.perf_counter()
                if not enforced.wait(PATIENCE):
                    raise TimeoutError
                took.append(time.perf_counter() - saved)
                time.sleep(1)  # what was replaced is freed meanwhile

        idle = asyncio.run(_late_while(lambda: time.sleep(3)))
        late = asyncio.run(_late_while(change))
    every = sorted(tick for tick, _ in late)
    return {
        "from saved to enforced, median": median(took),
        "from saved to enforced, longest": max(took),
        "loop late, longest, while nothing happens": max(tick for tick, _ in idle),
        "loop late, longest, during the changes": every[-1],
        "loop late, longest, but for waiting for a core": max(tick - waited for tick, waited in late),
        "loop late, 99 of 100 ticks": every[len(every) * 99 // 100],
    }


def _write(folder: Path, size: int, changes: int) -> tuple[Path, list[Path]]:
    """Write everything ahead, so that this process does nothing but reload when that is measured."""
    names = listable_names(size + CHANGED)
    annex = write_order(folder, names[:size])
    changed = [folder / f".annex.{number}" for number in range(changes)]
    for number, path in enumerate(changed):
        path.write_text(_changed(names, size, number))
    return annex, changed


def _changed(names: list[str], size: int, number: int) -> str:
    """Return the list with some names replaced, others each time, all over it."""
    some = min(CHANGED, size // 10)  # the release guard asks when a third of all names goes
    listed = names[:size]
    step = max(1, size // some)
    for index, name in enumerate(names[size : size + some]):
        listed[(index * step + number) % size] = f"changed{number}.{name}"
    return "".join(f"{name}\n" for name in listed)


def _save(path: Path, text: str) -> None:
    beside = path.with_name(".annex.tmp")
    beside.write_text(text)
    beside.rename(path)


async def _late_while(work) -> list[tuple[float, float]]:
    """Return how late each tick came (s), and how much of that this thread or the rereading one waited for a core."""
    loop = asyncio.get_running_loop()
    rereading = [thread for thread in threading.enumerate() if thread.name == "cdnblock-follower"]
    late: list[tuple[float, float]] = []
    with Cores([threading.current_thread(), *rereading]) as cores:
        working = loop.run_in_executor(None, work)
        while not working.done():
            waited, before = cores.waited_for(), time.perf_counter()
            await asyncio.sleep(TICK)
            tick = time.perf_counter() - before - TICK
            late.append((tick, max(now - then for now, then in zip(cores.waited_for(), waited, strict=True))))
    await working
    return late


def _collections(folder: Path) -> dict[str, float]:
    """Return how long a full collection takes (s) without any rules and after a reload, the best of several rounds.

    For a process that does nothing else: what a benchmark holds itself would drown the difference.
    """
    found = {"full garbage collection before loading": [], "full garbage collection after the changes": []}
    before, after = found.values()
    annex = folder / "annex.txt"
    names = annex.read_text()
    load_orders(folder)  # what is loaded once is not counted
    for number in range(ROUNDS):
        before.append(_collection())
        with Enforcer(folder, follow=False) as enforcer:
            rules = enforcer.rules
            _save(annex, f"{names}round{number}.example\n")
            enforcer.reload()
            if enforcer.rules is rules:
                raise AssertionError("nothing was reloaded")
            del rules
            after.append(_collection())
        del enforcer
    return {what: min(seconds) for what, seconds in found.items()}


def _collection() -> float:
    """Return how long a full collection takes (s), the best of some."""
    found = []
    for _ in range(5):
        before = time.perf_counter()
        gc.collect()
        found.append(time.perf_counter() - before)
    return min(found)


def _reloads(folder: Path, count: int) -> dict[str, float]:
    say(f"{count:,} reloads")
    annex = write_order(folder, [f"site{number}.example" for number in range(14)])
    found: dict[str, float] = {}
    with Enforcer(folder, follow=False) as enforcer:
        for number in range(1, count + 1):
            _save(annex, "".join(f"site{index + number % 3}.example\n" for index in range(14)))
            written = time.time_ns() - 10**9 - (count - number) * 1000  # long settled, and another time each time
            os.utime(annex, ns=(written, written))
            before = enforcer.rules
            enforcer.reload()
            if enforcer.rules is before:
                raise AssertionError("nothing was reloaded")
            enforcer.decide(f"www.site{number % 14}.example", "90.84.144.1")
            if number in (min(FIRST, count // 2), count):
                gc.collect()
                found[f"after {number:,}"] = resident()
    return found


if __name__ == "__main__":
    main()
