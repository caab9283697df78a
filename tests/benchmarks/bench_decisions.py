"""What a decision costs, in empty Python calls (E), and what the rules take of memory.

    python tests/benchmarks/bench_decisions.py [--sizes 14 100000 1000000] [--rounds 150]

Prints Markdown. Nothing is asserted: a slow machine is no mistake.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import tracemalloc
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import CHUNK, cost, empty_call, fresh, heading, listable_names, median, say, table, unlisted, write_order

from cdnblock import Enforcer, load_orders

FRANCE, GERMANY = "90.84.144.1", "91.10.10.10"
HOSTILE = {
    # five digits that differ each time come in front
    "10 kB of dots": "." * 10_000,
    "10 kB of `a.`": "a." * 5_000,
    "10 kB of Unicode": "é" * 10_000,
    "125 labels": "a" + ".a" * 123 + ".example",
    "125 labels that end in a number": ".1" * 124,
    "240 octets, percent-encoded": ".a%61%61%61%61%61" * 30 + ".example",
    # Of these 64 characters are looked at, so they have 59 here.
    "Unicode, one label": "ü" * 51 + ".example",
    "Unicode, one label of different characters": "".join(chr(0x4E00 + 31 * place) for place in range(55)) + ".com",
    "Unicode, one label of different letters": "".join(chr(0x410 + place) for place in range(55)) + ".com",
    "Unicode, three labels": "".join(chr(0x4E00 + 31 * place) if place % 18 else "." for place in range(1, 56))
    + ".com",
    "Unicode, every other character": "aü" * 27 + ".com",
    "Unicode, every other label": "a.ü." * 14 + "com",
    "Unicode, decomposed": "a\u0301\u0316" * 18 + ".com",
    "Unicode, nothing to see": "a\u00ad" * 27 + ".com",
    "Unicode, percent-encoded": "%E4%B8%80%D1%8F" * 27 + ".com",
    "mixed": "%C3%BC.bücher.ａ%61.xn--bcher-kva." * 2 + "com",
    "Unicode, 250 characters": ".aüo" * 59 + ".example",
    "an address where a name belongs": "." + ":1" * 120,
}
SEEN, INSIDE, OUTSIDE, NEW = (
    "seen before, not covered",
    "covered, in the territory",
    "covered, outside it",
    "never seen",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[14, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=150)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        columns = [_of_size(Path(folder) / str(size), size, arguments.rounds) for size in arguments.sizes]
        heads = [f"{size:,} names" for size in arguments.sizes]
        print(heading("One decision, in E") + "\n")
        print(table(["host", *heads], [[row, *(f"{column[row]:.1f}" for column in columns)] for row in columns[0]]))
        print("\n" + heading("Memory, in MB") + "\n")
        sizes = [_memory(Path(folder) / str(size)) for size in arguments.sizes]
        print(table(["what", *heads], [[row, *(f"{size[row]:.1f}" for size in sizes)] for row in sizes[0]]))


def _of_size(folder: Path, size: int, rounds: int) -> dict[str, float]:
    say(f"decisions with {size:,} names")
    names = listable_names(size)
    write_order(folder, names)
    found: dict[str, list[float]] = defaultdict(list)
    with Enforcer(folder, follow=False) as enforcer:
        seen, covered = unlisted(0), [f"www.{names[number % min(14, size)]}" for number in range(CHUNK)]
        assert enforcer.decide(covered[0], FRANCE)
        assert not enforcer.decide(covered[0], GERMANY)

        def inside(host):
            return enforcer.decide(host, FRANCE)

        def outside(host):
            return enforcer.decide(host, GERMANY)

        for hosts in (seen, covered):
            cost(inside, hosts)
        for number in range(rounds):
            hostile = {
                what: [f"{1000 + number * 16 + index:05}{host}" for index in range(16)]
                for what, host in HOSTILE.items()
            }
            unit = empty_call()
            costs = {
                SEEN: cost(inside, fresh(seen)),
                INSIDE: cost(inside, fresh(covered)),
                OUTSIDE: cost(outside, fresh(covered)),
                NEW: cost(inside, unlisted(number + 1)),
                **{what: cost(inside, fresh(hosts)) for what, hosts in hostile.items()},
            }
            unit = (unit + empty_call()) / 2
            for what, nanoseconds in costs.items():
                found[what].append(nanoseconds / unit)
            found["E itself (ns)"].append(unit)
    return {what: median(values) for what, values in found.items()}


def _memory(folder: Path) -> dict[str, float]:
    load_orders(folder)  # what is loaded once is not counted
    gc.collect()
    tracemalloc.start()
    rules = load_orders(folder)
    gc.collect()
    of_rules = tracemalloc.get_traced_memory()[0]
    for number in range(65_535):
        rules.find(f"www.some-host-{number}.example.invalid")
    of_memo = tracemalloc.get_traced_memory()[0] - of_rules
    tracemalloc.stop()
    return {"rules": of_rules / 1e6, "memo, full": of_memo / 1e6}


if __name__ == "__main__":
    main()
