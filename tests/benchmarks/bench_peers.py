"""What a decision costs beside what others take for the same names, all in one run and in turns, in empty calls (E).

    python tests/benchmarks/bench_peers.py [--sizes 14 10000 100000] [--rounds 40]

Prints Markdown. Nothing is asserted: a slow machine is no mistake. Every engine is asked what it would be asked in
production: a host that is not listed and that nobody asked for before, except where the row says otherwise. None but
ours knows where a client is, what time it is, or what to answer.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import CHUNK, cost, empty_call, fresh, heading, listable_names, median, say, table, unlisted, write_order

from cdnblock import Enforcer
from cdnblock.cli.progress import progress_bar

FRANCE = "90.84.144.1"
ENOUGH = 3.0  # seconds; whoever has taken so long is not asked again
FIRST_PAGE = "https://first-page.example/"  # what Brave's engine is told a request comes from


class TooManyError(Exception):
    """So many names are more than this engine can bear; the text says why, as the table shows it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[14, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    columns = [_of_size(size, arguments.rounds) for size in arguments.sizes]
    heads = [f"{size:,} names" for size in arguments.sizes]
    print(heading("The same names, asked of others, in E") + "\n")
    print(table(["engine", *heads], [[row, *(column[row] for column in columns)] for row in columns[0]]))


def _of_size(size: int, rounds: int) -> dict[str, str]:
    """Return what each engine takes for a host, in E, or why it was not asked."""
    say(f"peers with {size:,} names")
    found: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    shown = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened, progress_bar("rounds") as told:
        names = listable_names(size)
        write_order(Path(folder), names)
        asked = {}
        for row, (engine, questions) in ROWS.items():
            try:
                asked[row] = opened.enter_context(engine(folder, names)), questions
            except (ImportError, TooManyError) as error:
                shown[row] = str(error)
        for number in range(rounds):
            for row, ((ask, prepare, count), questions) in asked.items():
                if spent[row] > ENOUGH:
                    continue
                ready = [prepare(host) for host in questions(names, number)[:count]]
                unit = empty_call()
                nanoseconds = cost(ask, ready)
                found[row].append(nanoseconds / ((unit + empty_call()) / 2))
                spent[row] += nanoseconds * len(ready) / 1e9
            told(number + 1, rounds)
    return {row: shown[row] if row in shown else f"{median(found[row]):,.1f}" for row in ROWS}


def _never_seen(names, number):
    return unlisted(1_000_000 + number)


def _seen(names, number):
    return fresh(unlisted(0))


def _covered(names, number):
    return fresh([f"www.{names[index % min(14, len(names))]}" for index in range(CHUNK)])


def _same(host):
    return host


def _so_many(names) -> int:
    """Return how many hosts a round asks of those that go through all names."""
    return CHUNK if len(names) < 1_000 else 1


@contextmanager
def _ours(folder, names) -> Iterator[tuple[Callable, Callable, int]]:
    with Enforcer(folder, follow=False) as enforcer:

        def decide(host):
            return enforcer.decide(host, FRANCE)

        for hosts in (_seen(names, 0), _covered(names, 0)):  # seen before, then
            cost(decide, hosts)
        assert decide(f"www.{names[0]}")
        yield decide, _same, CHUNK


@contextmanager
def _dictionary(folder, names):
    yield dict.fromkeys(names).get, _same, CHUNK


@contextmanager
def _alternation(folder, names):
    if len(names) > 100_000:
        raise TooManyError("minutes to compile")
    pattern = re.compile(r"(?:\A|\.)(?:" + "|".join(map(re.escape, names)) + r")\Z")
    assert pattern.search(f"www.{names[0]}")
    yield pattern.search, _same, _so_many(names)


@contextmanager
def _adblock(folder, names):
    try:
        import adblock
    except ImportError as error:
        raise ImportError("not installed") from error
    rules = adblock.FilterSet()
    rules.add_filters([f"||{name}^" for name in names])
    engine = adblock.Engine(rules)

    def matches(url):
        return engine.check_network_urls(url, FIRST_PAGE, "script")

    assert matches(f"https://www.{names[0]}/").matched
    yield matches, (lambda host: f"https://{host}/"), CHUNK


def _mitmproxy(block_list, most: int, why_not: str):
    """Return mitmproxy's own block list, with the filters that `block_list` makes of the names."""

    @contextmanager
    def engine(folder, names):
        try:
            from mitmproxy.addons import blocklist
            from mitmproxy.test import taddons, tflow
        except ImportError as error:
            raise ImportError("not installed") from error
        if len(names) > most:
            raise TooManyError(why_not)

        def flow(host):
            made = tflow.tflow()
            made.request.host = host
            return made

        addon = blocklist.BlockList()
        with taddons.context(addon) as context:
            context.configure(addon, block_list=block_list(names))
            refused = flow(f"www.{names[0]}")
            addon.request(refused)
            assert refused.response.status_code == 403
            yield addon.request, flow, min(16, _so_many(names))

    return engine


def _filter_a_name(names):
    return [f'/~d "(^|[.]){_without_backslash(name)}$"/403' for name in names]


def _one_filter(names):
    return [f'/~d "(^|[.])({"|".join(map(_without_backslash, names))})$"/403']


def _without_backslash(name):
    return name.replace(".", "[.]")  # a backslash would not survive the quotes


ROWS = {
    # row: the engine, and the hosts that it is asked for in a round
    "cdnblock, host seen before": (_ours, _seen),
    "cdnblock, host never seen": (_ours, _never_seen),
    "cdnblock, covered": (_ours, _covered),
    "one probe of a dictionary, this host alone (the floor)": (_dictionary, _never_seen),
    "Brave's `adblock`": (_adblock, _never_seen),
    "a `re` alternation": (_alternation, _never_seen),
    "mitmproxy's `block_list`, a filter a name": (
        _mitmproxy(_filter_a_name, 10_000, "minutes to load"),
        _never_seen,
    ),
    "mitmproxy's `block_list`, one filter": (_mitmproxy(_one_filter, 100_000, "minutes to compile"), _never_seen),
}

if __name__ == "__main__":
    main()
