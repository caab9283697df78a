"""What a decision costs, in empty Python calls (E), and what others pay for the same names.

    python tests/benchmarks/bench_decisions.py [--sizes 14 100000 1000000] [--rounds 150]

Prints Markdown. Nothing is asserted: a slow machine is no mistake.
"""

from __future__ import annotations

import argparse
import gc
import random
import re
import sys
import tempfile
import tracemalloc
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import CHUNK, cost, empty_call, fresh, heading, listable_names, median, say, table, write_order

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
    "Unicode, 60 characters": "ü" * 47 + ".example",
    "Unicode in every label": "bücher.straße." * 6 + "example",
    "Unicode, 250 characters": ".aüo" * 59 + ".example",
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
    parser.add_argument("--peers-up-to", type=int, default=100_000, help="some peers take minutes for more names")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        columns = [_of_size(Path(folder) / str(size), size, arguments.rounds) for size in arguments.sizes]
        heads = [f"{size:,} names" for size in arguments.sizes]
        print(heading("One decision, in E") + "\n")
        print(table(["host", *heads], [[row, *(f"{column[row]:.1f}" for column in columns)] for row in columns[0]]))
        print("\n" + heading("Memory, in MB") + "\n")
        sizes = [_memory(Path(folder) / str(size)) for size in arguments.sizes]
        print(table(["what", *heads], [[row, *(f"{size[row]:.1f}" for size in sizes)] for row in sizes[0]]))
        print("\n" + heading("The same names asked of others, in E for a host that is not listed") + "\n")
        peers: list[dict[str, str]] = []
        for size in arguments.sizes:
            peers.append(_peers(Path(folder) / str(size), size, arguments.rounds, arguments.peers_up_to))
        print(table(["engine", *heads], [[row, *(peer[row] for peer in peers)] for row in peers[0]]))


def _of_size(folder: Path, size: int, rounds: int) -> dict[str, float]:
    say(f"decisions with {size:,} names")
    names = listable_names(size)
    write_order(folder, names)
    found: dict[str, list[float]] = defaultdict(list)
    with Enforcer(folder, follow=False) as enforcer:
        seen, covered = _unlisted(0), [f"www.{names[number % min(14, size)]}" for number in range(CHUNK)]
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
                NEW: cost(inside, _unlisted(number + 1)),
                **{what: cost(inside, fresh(hosts)) for what, hosts in hostile.items()},
            }
            unit = (unit + empty_call()) / 2
            for what, nanoseconds in costs.items():
                found[what].append(nanoseconds / unit)
            found["E itself (ns)"].append(unit)
    return {what: median(values) for what, values in found.items()}


def _unlisted(seed: int) -> list[str]:
    chance = random.Random(seed)  # the same hosts in each run
    return [
        f"{chance.choice(['www', 'cdn', 'api', 'a.b'])}.{''.join(chance.choices('abcdefghijklmnop', k=9))}-{seed}."
        f"{chance.choice(['com', 'net', 'co.uk', 'fr'])}"
        for _ in range(CHUNK)
    ]


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


def _peers(folder: Path, size: int, rounds: int, up_to: int) -> dict[str, str]:
    say(f"peers with {size:,} names")
    names = (folder / "annex.txt").read_text().split()
    asked, why_not = {}, {}
    for what, make in PEERS.items():
        try:
            asked[what] = make(folder, names, up_to)
        except (ImportError, _TooManyError) as error:
            why_not[what] = str(error)
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(max(3, rounds // 5)):
        for what, (ask, prepare, count) in asked.items():
            questions = [prepare(host) for host in _unlisted(1000 + number)[:count]]
            unit = empty_call()
            nanoseconds = cost(ask, questions)
            found[what].append(nanoseconds / ((unit + empty_call()) / 2))
    ours = median(found[OURS])
    shown = {}
    for what in PEERS:
        value = median(found[what]) if what in found else None
        shown[what] = f"no: {why_not[what]}" if value is None else f"{value:,.1f} ({value / ours:,.1f}×)"
    return shown


class _TooManyError(Exception):
    """A peer that would take minutes or all memory for so many names."""


def _same(host):
    return host


def _ours(folder, names, up_to):
    rules = load_orders(folder)
    at = datetime.now(UTC)
    return (lambda host: rules.decide(host, country="FR", at=at)), _same, CHUNK


def _dictionary(folder, names, up_to):
    return dict.fromkeys(names).get, _same, CHUNK


def _alternation(folder, names, up_to):
    if len(names) > min(up_to, 10_000):
        raise _TooManyError("a pattern of that size takes minutes")
    pattern = re.compile(r"(?:\A|\.)(?:" + "|".join(map(re.escape, names)) + r")\Z")
    return pattern.search, _same, CHUNK if len(names) < 100 else 2


def _mitmproxy(folder, names, up_to):
    try:
        from mitmproxy.addons import blocklist
        from mitmproxy.test import taddons, tflow
    except ImportError as error:
        raise ImportError("mitmproxy is not installed") from error
    if len(names) > min(up_to, 1_000):
        raise _TooManyError("one filter a name, one after the other")
    addon = blocklist.BlockList()
    context = taddons.context(addon)
    patterns = [f"(^|[.]){name.replace('.', '[.]')}$" for name in names]
    context.configure(addon, block_list=[f'/~d "{pattern}"/403' for pattern in patterns])

    def flow(host):
        made = tflow.tflow()
        made.request.host = host
        return made

    return addon.request, flow, 16 if len(names) < 100 else 2


def _adblock(folder, names, up_to):
    try:
        import adblock
    except ImportError as error:
        raise ImportError("adblock is not installed") from error
    if len(names) > up_to:
        raise _TooManyError("takes 800 MB")
    rules = adblock.FilterSet()
    rules.add_filters([f"||{name}^" for name in names])
    engine = adblock.Engine(rules)
    return (
        (lambda url: engine.check_network_urls(url, "https://first.example/", "script")),
        (lambda host: f"https://{host}/"),
        CHUNK,
    )


OURS = "cdnblock, host never seen"
PEERS = {
    "a dictionary, this host alone (the floor)": _dictionary,
    OURS: _ours,
    "a `re` alternation": _alternation,
    "Brave's `adblock`": _adblock,
    "mitmproxy's `block_list`": _mitmproxy,
}

if __name__ == "__main__":
    main()
