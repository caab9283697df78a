"""What the benchmarks share: names of real shapes, the unit E, tables.

E is what an empty Python call costs in the same run, argument, loop and all: about 30 ns on a quiet core of 2.5 GHz.
Times are CPU time of the measuring thread where that is meaningful, and medians of many short rounds in which all that
is compared takes turns, so that a busy machine disturbs everything alike.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from cdnblock.orders.host_names import host_name
from cdnblock.sources.protected_list import shipped_protected

TRANCO = "data/misp-warninglists/lists/tranco/list.json"
PREFIXES = ("", "", "www.", "", "live.", "", "cdn.", "", "m.", "a.b.")
ORDER = """\
cdnblock: 1
id: bench
court: Tribunal judiciaire de Paris
decided: 2025-03-28
legal_basis: Code du sport, art. L. 333-10
claimant: SECP
from: 2025-04-03T09:00
until: 2195-01-01
territory: [FR]
measures: {dns: refuse, cdn: disable, proxy: terminate}
names_file: annex.txt
"""
CHUNK = 256  # calls between two looks at the clock


def listable_names(count: int) -> list[str]:
    """Return names as popular sites have them, those left out that no order may list."""
    popular = json.loads((resources.files("pymispwarninglists") / TRANCO).read_text())["list"][
        : count + count // 10 + 100
    ]
    spelled = [PREFIXES[number % len(PREFIXES)] + name for number, name in enumerate(popular)]
    protected = shipped_protected()
    suspects = protected.maybe_too_broad(spelled)
    names = [name for name in spelled if not (name in suspects and protected.too_broad(name)) and _is_listable(name)]
    names += [f"more{number}.{names[number]}" for number in range(count - len(names))]
    return names[:count]


def write_order(folder: Path, names: list[str]) -> Path:
    """Write an order with these names in a names file; return that file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annex.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "order.yaml").write_text(ORDER)
    return folder / "annex.txt"


def unlisted(seed: int) -> list[str]:
    """Return hosts that no list names, others for each seed."""
    chance = random.Random(seed)  # the same hosts in each run
    return [
        f"{chance.choice(['www', 'cdn', 'api', 'a.b'])}.{''.join(chance.choices('abcdefghijklmnop', k=9))}-{seed}."
        f"{chance.choice(['com', 'net', 'co.uk', 'fr'])}"
        for _ in range(CHUNK)
    ]


def fresh(texts: list[str]) -> list[str]:
    """Return copies whose hash nobody has computed yet, as a server gets them."""
    return [text.encode().decode() for text in texts]


def cost(call, arguments) -> float:
    """Return what a call costs (ns of CPU), the loop around it included."""
    before = time.thread_time_ns()
    for argument in arguments:
        call(argument)
    return (time.thread_time_ns() - before) / len(arguments)


def empty_call(rounds: int = CHUNK) -> float:
    """Return E in ns."""
    return cost(_nothing, range(rounds))


def median(values) -> float:
    """Return the median; benchmarks have outliers on one side only."""
    return statistics.median(values)


def heading(title: str) -> str:
    """Return the line that says what was measured, where and when."""
    return f"{title}: {machine()}"


def machine() -> str:
    """Return where and when: the processor, how many, the Python and the date."""
    return f"{_processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Cores:
    """Tells how long threads have waited for a core (s); always 0 where the system does not say (not Linux)."""

    def __init__(self, threads) -> None:
        self._files = []
        for thread in threads:
            path = Path(f"/proc/self/task/{thread.native_id}/schedstat")
            if path.exists():
                self._files.append(path.open("rb", buffering=0))
        self._threads = len(threads)

    def waited_for(self) -> list[float]:
        """Return it for each thread."""
        told = [int(os.pread(file.fileno(), 100, 0).split()[1]) / 1e9 for file in self._files]
        return told if len(told) == self._threads else [0.0] * self._threads

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        for file in self._files:
            file.close()


def resident() -> float:
    """Return how much memory this process holds (MB)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(text: str) -> None:
    """Tell on stderr what takes long; the tables go to stdout."""
    print(text, file=sys.stderr, flush=True)


def _is_listable(name: str) -> bool:
    if "xn--" not in name and "_" not in name:
        return True
    try:
        return host_name(name) == name
    except ValueError:
        return False


def _nothing(argument) -> None:
    pass


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
