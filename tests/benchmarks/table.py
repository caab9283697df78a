"""All figures in one table: runs the benchmarks one after the other, each in a process of its own.

    python tests/benchmarks/table.py [--into README.md] [--quick]

Prints one Markdown table, under the line that says where and when it was measured, in less than six minutes; `--into`
puts it between the markers of that file as well. `--quick` measures next to nothing, to see that everything runs. Peers
are measured where they are installed: `pip install mitmproxy adblock`.
Nothing is asserted: a slow machine is no mistake.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from measuring import machine, say, table

from cdnblock.cli.progress import progress_bar

BEGIN, END = "<!-- figures: python tests/benchmarks/table.py --into README.md -->", "<!-- end of figures -->"
WORST = "the worst hostile host"  # no row, but the largest number of those of the hostile hosts
GROWTH = "full garbage collection"  # no row, but the difference of two
ORDINARY = (
    "seen before, not covered",
    "covered, in the territory",
    "covered, outside it",
    "never seen",
    "E itself (ns)",
)
SIZES = ("14", "10,000", "100,000", "1,000,000")
# Each script: what makes it quick, and how many lines it says on stderr, one a step, when it is not.
RUNS = {
    "bench_decisions.py": (["--sizes", "14", "600", "--rounds", "2"], 3),
    "bench_reload.py": (["--sizes", "14", "600", "--changes", "1", "--reloads", "4"], 4),
    "bench_peers.py": (["--sizes", "14", "600", "--rounds", "2"], 3),
}


@dataclass(frozen=True)
class Figure:
    """A row of the table, and where its numbers are: in a row of a table whose heading begins so, in that script."""

    what: str
    goal: str
    script: str
    heading: str
    row: str


def _decision(what: str, goal: str, row: str) -> Figure:
    return Figure(what, goal, "bench_decisions.py", "One decision", row)


def _memory(what: str, goal: str, row: str) -> Figure:
    return Figure(what, goal, "bench_decisions.py", "Memory", row)


def _reload(what: str, goal: str, row: str) -> Figure:
    return Figure(what, goal, "bench_reload.py", "Names files", row)


def _peer(what: str, row: str) -> Figure:
    return Figure(what, "", "bench_peers.py", "The same names", row)


FIGURES = (
    _decision("host seen before, not covered (E)", "6", "seen before, not covered"),
    _decision("covered, in the territory (E)", "16", "covered, in the territory"),
    _decision("covered, outside it (E)", "16", "covered, outside it"),
    _decision("host never seen (E)", "85; 120 at 1,000,000", "never seen"),
    _decision("hostile: 10 kB of dots (E)", "350", "10 kB of dots"),
    _decision("hostile: 125 labels (E)", "350", "125 labels"),
    _decision("hostile: the worst of many kinds (E)", "350", WORST),
    _memory("memory of the rules (MB)", "12 at 100,000; 125 at 1,000,000", "rules"),
    _memory("memory of the memo, full (MB)", "10", "memo, full"),
    _reload("from file saved to enforced (ms)", "150 at 14; 600 at 100,000", "from saved to enforced, median"),
    _reload("load and validate (ms)", "1,500 at 1,000,000", "load and validate, wall clock"),
    _reload("longest stall of a loop meanwhile (ms)", "10; 15 at 1,000,000", "loop late, longest, during the changes"),
    _reload("but for waiting for a core (ms)", "", "loop late, longest, but for waiting for a core"),
    _reload("the same while nothing happens (ms)", "", "loop late, longest, while nothing happens"),
    _reload("full garbage collection afterwards, more than before (ms)", "2", GROWTH),
    _peer("in the run of the peers: host seen before (E)", "cdnblock, host seen before"),
    _peer("host never seen (E)", "cdnblock, host never seen"),
    _peer("covered (E)", "cdnblock, covered"),
    _peer("a dictionary's probe, the floor (E)", "one probe of a dictionary, this host alone (the floor)"),
    _peer("Brave's `adblock` (E)", "Brave's `adblock`"),
    _peer("a `re` alternation (E)", "a `re` alternation"),
    _peer("mitmproxy's `--block-list`, a filter a name (E)", "mitmproxy's `block_list`, a filter a name"),
    _peer("mitmproxy's `--block-list`, all in one filter (E)", "mitmproxy's `block_list`, one filter"),
)

Tables = Mapping[str, Mapping[str, Mapping[str, str]]]  # heading: row: column: cell


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, help=f"a file with the lines {BEGIN} and {END}")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.into is not None:
        _between(arguments.into, "")  # fails now rather than in six minutes
    found: dict[str, Tables] = {}
    with progress_bar("steps") as told:
        steps = sum(lines for _, lines in RUNS.values())
        before = 0
        for script, (quick, lines) in RUNS.items():
            found[script] = _tables(_run(script, quick if arguments.quick else [], before, steps, told))
            before += lines
    page = "\n".join(_page(found))
    print(page)
    if arguments.into is not None:
        arguments.into.write_text(_between(arguments.into, page), encoding="utf-8")


def _run(script: str, options: list[str], done: int, steps: int, told: Callable[[int, int], None]) -> str:
    """Return what a benchmark prints; what it says of its progress moves the bar."""
    with subprocess.Popen(
        [sys.executable, str(HERE / script), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        told(done, steps)
        said = []
        for line in process.stderr or ():  # the tables are shorter than a pipe
            said.append(line)
            if not sys.stderr.isatty():
                say(line.rstrip())
            told(done + len(said) - 1, steps)
        printed = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        raise SystemExit(f"{script} failed:\n{''.join(said)}")
    return printed


def _tables(printed: str) -> Tables:
    """Return the Markdown tables that were printed, each below its heading."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for block in re.finditer(r"^([^|\n].*)\n\n((?:\|.*\n?)+)", printed, re.MULTILINE):
        columns, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split(" |")] for line in block[2].splitlines()
        ]
        heads = [head.removesuffix(" names") for head in columns[1:]]
        found[block[1]] = {name: dict(zip(heads, cells, strict=True)) for name, *cells in rows}
    return found


def _page(found: Mapping[str, Tables]) -> Iterable[str]:
    """Yield the lines: where and when, what E is, the table, and what has no column."""
    of_decisions = _below(found["bench_decisions.py"], "One decision")
    units = ", ".join(of_decisions["E itself (ns)"].values())
    yield f"{machine()}; E, an empty call of a Python function in the same run, took {units} ns.\n"
    numbers = [_cells(found, figure) for figure in FIGURES]
    sizes = [size for size in SIZES if any(size in cells for cells in numbers)]
    rows = [
        [figure.what, at_most(figure.goal), *(cells.get(size, "") for size in sizes)]
        for figure, cells in zip(FIGURES, numbers, strict=True)
    ]
    yield table(["", "goal", *(f"{size} names" for size in sizes)], rows)
    memory = next(rows for heading, rows in found["bench_reload.py"].items() if "in a row" in heading)
    told = ", ".join(f"{cells['MB']} MB {when}" for when, cells in memory.items())
    yield f"\nResident memory in a row of reloads: {told} of them (goal: the same within 5 %)."


def at_most(goal: str) -> str:
    """Return a goal as the table shows it."""
    return f"≤ {goal.replace('; ', '; ≤ ')}" if goal else ""


def _cells(found: Mapping[str, Tables], figure: Figure) -> Mapping[str, str]:
    """Return a figure's number for each size."""
    rows = _below(found[figure.script], figure.heading)
    if figure.row == WORST:
        hostile = [cells for row, cells in rows.items() if row not in ORDINARY]
        return {size: f"{max(_number(cells[size]) for cells in hostile):,.1f}" for size in hostile[0]}
    if figure.row == GROWTH:
        after, before = rows[f"{GROWTH} after the changes"], rows[f"{GROWTH} before loading"]
        return {size: f"{max(0.0, _number(after[size]) - _number(before[size])):,.1f}" for size in after}
    return rows[figure.row]


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


def _below(tables: Tables, beginning: str) -> Mapping[str, Mapping[str, str]]:
    return next(rows for heading, rows in tables.items() if heading.startswith(beginning))


def _between(path: Path, page: str) -> str:
    """Return the file's text with the page between its markers.

    Raises:
        SystemExit: it has no markers.

    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    return f"{before}{begin}\n{page}\n{end}{after}"


if __name__ == "__main__":
    main()
