"""What the DNS front costs, beside a resolver in C and a handler with dnspython, as one Markdown table.

    python tests/benchmarks/bench_dns.py [--seconds 3] [--rounds 5] [--names 1000000] [--memory 600]

Every server is a process pinned to one core; dnsperf asks from another one, and all servers take turns in every round,
so that a busy machine disturbs everything alike. Nothing is asserted: a slow machine is no mistake.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "adapters")]

from dns_flood import flood
from dns_peers import Daemon, front, missing, nsd, program, start, unbound
from free_ports import free_ports
from measuring import ORDER, heading, listable_names, median, say, table

FEW = 14  # names in the order that the issue tracker of every such tool would call usual
ASKED = 10_000  # different names that are asked again and again
NEW = 400_000  # names of which none is asked twice in a round
ZONE = """\
$ORIGIN forwarded.example.
$TTL 3600
@ SOA ns nobody 1 3600 600 604800 3600
@ NS ns
ns A 127.0.0.1
* A 192.0.2.1
"""
REFUSE, FORWARD = "refused", "forwarded"
UNBOUND, HANDLER, FRONT, MITMPROXY = (
    "unbound, local data",
    "handler with dnspython",
    "cdnblock dns",
    "mitmproxy, DNS mode",
)
DIRECTLY = "unbound asked directly"


@dataclass
class Contestant:
    """A running server, the names that it is asked, and what was measured."""

    what: str
    daemon: Daemon
    queries: Path
    rcode: str = "REFUSED"
    goals: dict[str, float] = field(default_factory=dict)  # how many times as fast as which other it is to be
    per_second: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    def ask(self, seconds: float, core: int) -> None:
        """Have dnsperf ask for so long; keep queries per second, and CPU per query."""
        before = processor_time(self.daemon.process.pid)
        answered, wrong, per_second = dnsperf(self.daemon.port, self.queries, seconds, core, self.rcode)
        if not answered or wrong:
            raise SystemExit(f"{self.what}: {wrong} of {answered} answers are not {self.rcode}\n{self.daemon.said}")
        self.per_second.append(per_second)
        self.microseconds.append((processor_time(self.daemon.process.pid) - before) / answered / 1000)

    @property
    def speed(self) -> float:
        return median(self.per_second)

    @property
    def cost(self) -> float:
        return median(self.microseconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of one server in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--names", type=int, default=1_000_000, help="in the long order")
    parser.add_argument("--asked", type=int, default=ASKED, help="different names that are asked again and again")
    parser.add_argument("--new", type=int, default=NEW, help="names that are asked once")
    parser.add_argument("--memory", type=float, default=20, help="seconds of random names from fresh ports")
    parser.add_argument("--mitmproxy", action="store_true", help="ask mitmproxy's DNS mode as well")
    arguments = parser.parse_args()
    if why := missing("dnsperf", "unbound", "nsd"):
        raise SystemExit(why)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as running:
        bench = Bench(Path(scratch), arguments, running)
        contestants = bench.contestants()
        for number in range(arguments.rounds):
            say(f"round {number + 1} of {arguments.rounds}")
            for contestant in contestants:
                contestant.ask(arguments.seconds, bench.other)
        print(heading("DNS, one core each") + "\n")
        print(table(["what", "queries/s", "CPU per query, µs", "against", "goal"], rows(contestants)))
        say("memory")
        seconds, memory = bench.memory(arguments.memory)
        print("\n" + heading(f"Memory of the front, {seconds:.0f} s of random names from fresh ports") + "\n")
        print(table(["after", "queries", "resident, MB"], memory))


class Bench:
    """Starts everything that is measured."""

    def __init__(self, scratch: Path, arguments: argparse.Namespace, running: contextlib.ExitStack) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.server, self.other = cores[0], cores[-1]
        self._scratch, self._arguments, self._running = scratch, arguments, running
        self._names = {size: listable_names(size) for size in (FEW, arguments.names)}
        self._no_uvloop = scratch / "no_uvloop"
        self._no_uvloop.mkdir()
        (self._no_uvloop / "uvloop.py").write_text('raise ImportError("left out for comparison")\n')
        self.upstream = self._upstream()

    def contestants(self) -> list[Contestant]:
        """Return every server, started, in the order of the table."""
        few, many = self._names[FEW], self._names[self._arguments.names]
        again, often = self._queries("again", few), self._queries("often", many)
        new, news = self._queries("new", few, new=True), self._queries("news", many, new=True)
        small, large = f"{FEW} names", f"{len(many):,} names"
        plain, quick = self._front("plain", FEW, uvloop=False), self._front("quick", FEW)
        big = self._front("big", self._arguments.names)
        # Names that nobody asked before drive others out of what is remembered: they have fronts of their own.
        fresh, fresh_big = self._front("fresh", FEW), self._front("fresh_big", self._arguments.names)
        answered = self._queries("answered", ["forwarded.example"])
        dnsperf(self.upstream.port, answered, 0.5, self.other, "NOERROR")
        unbounds, handlers, direct = f"{REFUSE}: {UNBOUND}", f"{REFUSE}: {HANDLER}", f"{FORWARD}: {DIRECTLY}"
        ours, ours_new = (
            f"{REFUSE}: {FRONT}, uvloop, {small}",
            f"{REFUSE}: {FRONT}, uvloop, {small}, never asked before",
        )
        refusing, forwarding = {unbounds: 0.5, handlers: 25}, {direct: 0.25}
        found = [
            Contestant(unbounds, self._unbound(few), again),
            Contestant(handlers, self._handler(few), again),
            Contestant(f"{REFUSE}: {FRONT}, asyncio, {small}", plain, again, goals=refusing),
            Contestant(ours, quick, again, goals=refusing),
            Contestant(f"{REFUSE}: {FRONT}, uvloop, {large}", big, often, goals={ours: 0.9}),
            Contestant(ours_new, fresh, new),
            Contestant(
                f"{REFUSE}: {FRONT}, uvloop, {large}, never asked before", fresh_big, news, goals={ours_new: 0.9}
            ),
            Contestant(direct, self._asked_directly(), answered, "NOERROR"),
            Contestant(f"{FORWARD}: {FRONT}, asyncio", plain, answered, "NOERROR", forwarding),
            Contestant(f"{FORWARD}: {FRONT}, uvloop", quick, answered, "NOERROR", forwarding),
        ]
        if self._arguments.mitmproxy:
            found.insert(2, Contestant(f"{REFUSE}: {MITMPROXY}", self._mitmproxy(), again))
        for one in found:
            dnsperf(one.daemon.port, one.queries, self._arguments.seconds / 4, self.other, one.rcode)
        return found

    def memory(self, seconds: float) -> tuple[float, list[list[str]]]:
        """Return for how long the front was flooded, and a row for each quarter of it."""
        daemon = self._front("flooded", FEW)
        rows = [["start", "0", f"{resident(daemon.process.pid):.1f}"]]
        began, asked = time.monotonic(), 0
        for quarter in range(1, 5):
            asked += flood(daemon.port, self._names[FEW], until=began + seconds * quarter / 4)
            elapsed = time.monotonic() - began
            rows.append([f"{elapsed:.0f} s", f"{asked:,}", f"{resident(daemon.process.pid):.1f}"])
        return elapsed, rows

    def _front(self, folder: str, size: int, *, uvloop: bool = True) -> Daemon:
        home = self._scratch / folder
        orders = home / "orders"
        orders.mkdir(parents=True)
        (orders / "annex.txt").write_text("".join(f"{name}\n" for name in self._names[size]))
        # Loopback is in no country: so the question where the client is gets asked, and its answer is no.
        (orders / "order.yaml").write_text(ORDER.replace("measures: ", "unknown_location: enforce\nmeasures: "))
        say(f"starting {FRONT} with {size:,} names")
        path = [] if uvloop else [self._no_uvloop]
        return self._keep(front(home, orders, [self.upstream.port], core=self.server, path=path))

    def _upstream(self) -> Daemon:
        """Start an unbound that has what it is asked in its cache, on the core that asks."""
        zone = self._keep(nsd(self._scratch / "nsd", {"forwarded.example": ZONE}, core=self.other))
        return self._keep(self._forwarding(zone, "upstream", self.other))

    def _asked_directly(self) -> Daemon:
        zone = self._keep(nsd(self._scratch / "second_nsd", {"forwarded.example": ZONE}, core=self.other))
        return self._keep(self._forwarding(zone, "directly", self.server))

    def _forwarding(self, zone: Daemon, folder: str, core: int) -> Daemon:
        rest = f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{zone.port}'
        return unbound(self._scratch / folder, rest=rest, core=core)

    def _unbound(self, names: list[str]) -> Daemon:
        zones = "\n".join(f'  local-zone: "{name}." always_refuse' for name in names)
        return self._keep(unbound(self._scratch / "local_data", server=zones, core=self.server))

    def _handler(self, names: list[str]) -> Daemon:
        (port,) = free_ports(1)
        command = [sys.executable, str(HERE / "dnspython_handler.py"), str(port), *names]
        return self._keep(start(command, port, self._scratch / "handler.out", core=self.server))

    def _mitmproxy(self) -> Daemon:
        (port,) = free_ports(1)
        command = [
            sys.executable, "-m", "cdnblock", "mitmproxy", "-q", "--orders", str(self._scratch / "quick" / "orders"),
            "--set", f"confdir={self._scratch / 'confdir'}", "--mode", f"reverse:dns://127.0.0.1:{self.upstream.port}@127.0.0.1:{port}",
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
        log = self._scratch / "mitmproxy.out"
        return self._keep(start(command, port, log, core=self.server, environment=environment))

    def _queries(self, file: str, names: list[str], *, new: bool = False) -> Path:
        """Write what dnsperf asks: names under those of the order, in a random order that is the same in each run."""
        count = self._arguments.new if new else self._arguments.asked
        chosen = itertools.islice(itertools.cycle(random.Random(1).sample(names, min(len(names), count))), count)
        lines = [f"h{number}.{name} A\n" for number, name in enumerate(chosen)]
        random.Random(2).shuffle(lines)
        path = self._scratch / f"{file}.queries"
        path.write_text("".join(lines))
        return path

    def _keep(self, daemon: Daemon) -> Daemon:
        return self._running.enter_context(daemon)


def rows(contestants: list[Contestant]) -> list[list[str]]:
    """Return the table: each server, and those of ours against what they are to be measured by."""
    named = {one.what: one for one in contestants}
    shown = []
    for one in contestants:
        against, goals = [], []
        for other, least in one.goals.items():
            ratio, by_processor = one.speed / named[other].speed, named[other].cost / one.cost
            against.append(f"{ratio:.2f} × {other.partition(': ')[2]} (by CPU: {by_processor:.2f} ×)")
            goals.append(f"≥ {least}, {'met' if ratio >= least else '**missed**'}")
        shown.append([one.what, f"{one.speed:,.0f}", f"{one.cost:.2f}", "; ".join(against), "; ".join(goals)])
    return shown


def dnsperf(port: int, queries: Path, seconds: float, core: int, rcode: str) -> tuple[int, int, float]:
    """Have dnsperf ask; return how many answers came, how many had another rcode, and queries per second."""
    command = ["taskset", "-c", str(core), program("dnsperf"), "-s", "127.0.0.1", "-p", str(port), "-d", str(queries)]
    options = ["-l", f"{seconds:.2f}", "-c", "8", "-q", "100", "-e", "-t", "2"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=seconds + 60, check=False)
    completed = re.search(r"Queries completed:\s+(\d+)", ran.stdout)
    speed = re.search(r"Queries per second:\s+([\d.]+)", ran.stdout)
    right = re.search(rf"\b{rcode} (\d+)", ran.stdout)
    if completed is None or speed is None:
        raise SystemExit(f"{' '.join(map(str, command))}\n{ran.stdout}{ran.stderr}")
    return int(completed[1]), int(completed[1]) - (int(right[1]) if right else 0), float(speed[1])


def processor_time(pid: int) -> int:
    """Return how long all threads of a process and of its children have run (ns)."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
        for child in (task / "children").read_text().split():
            spent += processor_time(int(child))
    return spent


def resident(pid: int) -> float:
    """Return how much memory a process holds (MB)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
