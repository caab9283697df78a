"""What exported orders cost a resolver for names that no order names, as a Markdown table for each of them.

    python tests/benchmarks/bench_resolvers.py [--names 1000000] [--engines unbound bind …] [--seconds 2] [--rounds 3]

Each engine runs twice, alone and with what `cdnblock export` writes for so many names, on one core; dnsperf asks from
another one for a few thousand names that both have in their caches, as a client in France and as one in Germany. Both
take turns in every round, so that a busy machine disturbs them alike. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "adapters")]

from dns_peers import Daemon, missing, nsd, program, start
from free_ports import free_ports
from measuring import ORDER, heading, listable_names, median, say, table

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.exporters._territory import Network
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.dns_stage import CLIENTS
from cdnblock.testing.dns_wire import Query, ask

FRANCE, GERMANY = CLIENTS["france"], CLIENTS["germany"]
ASKED = 2_000  # different names that no order names
SOME = 2_000  # of those that one does
RESTS = 2e7  # ns of CPU in a second, at most
PATIENCE = 180  # seconds until an engine refuses the first name
READY = b"\0\1\1\0\0\1\0\0\0\0\0\0\2ns\7example\0\0\1\0\1"
"""Whether an engine is there it is asked by a name: of version.bind BIND tells only thrice a second."""
ZONE = """\
$ORIGIN example.
$TTL 3600
@ SOA ns nobody 1 3600 600 604800 3600
@ NS ns
ns A 127.0.0.1
* A 192.0.2.1
"""


@dataclass(frozen=True)
class Engine:
    """How an engine is started. In `configuration` and `hook` stand {folder}, {port}, {upstream}, {out} and {hook}."""

    target: str
    variant: str
    program: str
    arguments: str
    file: str
    configuration: str
    hook: str
    settings: dict[str, str] = field(default_factory=dict)


UNBOUND = """
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  num-threads: 1
  module-config: "respip iterator"
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}
{hook}
"""
BIND = """
options {{
    directory "{folder}"; pid-file none; session-keyfile "{folder}/session.key";
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    allow-query {{ any; }}; allow-recursion {{ any; }}; dnssec-validation no;
    forward only; forwarders {{ 127.0.0.1 port {upstream}; }};
}};
controls {{ }};
{hook}
"""
KNOT = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
cache.open(50 * MB, 'lmdb://{folder}/cache')
trust_anchors.remove('.')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('detect_time_skew')
modules.unload('priming')
policy.add(policy.all(policy.FORWARD({{'127.0.0.1@{upstream}'}})))
{hook}
"""
POWERDNS = """
local-address=127.0.0.1:{port}
allow-from=127.0.0.0/8
forward-zones-recurse=.=127.0.0.1:{upstream}
dont-query=
dnssec=off
security-poll-suffix=
threads=1
socket-dir={folder}
daemon=no
write-pid=no
quiet=yes
extended-resolution-errors=yes
setuid=
setgid=
{hook}
"""
DNSDIST = """
{hook}
setLocal("127.0.0.1:{port}")
setACL({{"127.0.0.0/8"}})
setSecurityPollSuffix("")
newServer({{address="127.0.0.1:{upstream}", healthCheckMode="up"}})
getPool(""):setCache(newPacketCache(100000))
"""
OF_UNBOUND = ("unbound", "-d -c {file}", "unbound.conf", UNBOUND, 'include: "{out}/cdnblock.conf"')
ENGINES = {
    "unbound": Engine("unbound", "refuse", *OF_UNBOUND, {"clients": "any"}),
    "unbound, nxdomain": Engine("unbound", "nxdomain", *OF_UNBOUND, {"clients": "any"}),
    "unbound, policy zones": Engine("unbound", "nxdomain", *OF_UNBOUND, {"clients": "any", "negatives": "rpz"}),
    "bind": Engine(
        "bind", "nxdomain", "named", "-g -n 1 -c {file}", "named.conf", BIND, 'include "{out}/cdnblock.conf";'
    ),
    "knot-resolver": Engine(
        "knot-resolver", "refuse", "kresd", "-n -c {file} {folder}", "kresd.conf", KNOT, "dofile('{out}/cdnblock.lua')"
    ),
    "powerdns": Engine(
        "powerdns", "refuse", "pdns_recursor", "--config-dir={folder}", "recursor.conf", POWERDNS,
        "lua-dns-script={out}/cdnblock-powerdns.lua",
    ),
    "dnsdist": Engine(
        "dnsdist", "refuse", "dnsdist", "--supervised --disable-syslog -C {file}", "dnsdist.conf", DNSDIST,
        'dofile("{out}/cdnblock-dnsdist.lua")',
    ),
}  # fmt: skip


@dataclass
class Measured:
    """What is asked, and what came out, a number a round."""

    what: str
    daemon: Daemon
    client: str
    queries: Path
    per_second: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)
    lost: int = 0

    def ask(self, seconds: float, core: int) -> None:
        """Have dnsperf ask for so long."""
        pid = self.daemon.process.pid
        before = processor_time(pid)
        answered, lost, per_second = dnsperf(self.daemon.port, self.client, self.queries, seconds, core)
        self.per_second.append(per_second)
        self.microseconds.append((processor_time(pid) - before) / answered / 1000)
        self.lost += lost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--engines", nargs="+", default=[*ENGINES], choices=[*ENGINES], metavar="ENGINE")
    parser.add_argument("--seconds", type=float, default=2, help="of one client in one round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if why := missing("dnsperf", "nsd"):
        raise SystemExit(why)
    names = listable_names(arguments.names)
    rows, costs = [], []
    for name in arguments.engines:
        if why := missing(ENGINES[name].program):
            say(f"{name}: {why}")
            continue
        say(f"{name} with {len(names):,} names")
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as running:
            row, cost = measure(name, names, Path(scratch), running, arguments)
            rows += row
            costs.append(cost)
    print(heading(f"Queries for other names, {len(names):,} names in policy, one core") + "\n")
    print(
        table(
            ["who asks", "queries/s", "CPU per query, µs", "times plain, CPU", "times plain, queries/s", "lost"], rows
        )
    )
    print("\n" + heading(f"What {len(names):,} names cost") + "\n")
    heads = [
        "engine",
        "written in, s",
        "files, MB",
        "refuses after, s",
        "CPU until then, s",
        "resident, MB",
        "plain, MB",
    ]
    print(table(heads, costs))


def measure(
    name: str, names: list[str], scratch: Path, running: contextlib.ExitStack, arguments: argparse.Namespace
) -> tuple[list[list[str]], list[str]]:
    """Return the rows of one engine in both tables."""
    engine = ENGINES[name]
    cores = sorted(os.sched_getaffinity(0))
    server, other = cores[0], cores[-1]
    upstream = running.enter_context(nsd(scratch / "nsd", {"example": ZONE}, core=other))
    written = time.monotonic()
    out = scratch / "out"
    export(engine, names, scratch / "orders", out)
    written = time.monotonic() - written
    plain = running.enter_context(started(engine, scratch / "plain", upstream.port, server, ""))
    began = time.monotonic()
    ours = running.enter_context(started(engine, scratch / "ours", upstream.port, server, engine.hook.format(out=out)))
    wait_until_it_refuses(ours, names[0], engine.variant)
    ready, spent = time.monotonic() - began, processor_time(ours.process.pid) / 1e9
    wait_until_it_rests(ours)
    others = queries(scratch / "others", [f"www{number}.other-{number}.example" for number in range(ASKED)])
    covered = queries(scratch / "covered", [f"www.{each}" for each in names[:: max(1, len(names) // SOME)]])
    contestants = [
        Measured(f"{name} alone", plain, FRANCE, others),
        Measured(f"{name}, from France", ours, FRANCE, others),
        Measured(f"{name}, from Germany", ours, GERMANY, others),
        Measured(f"{name}, refusals", ours, FRANCE, covered),
    ]
    for one in contestants:
        dnsperf(one.daemon.port, one.client, one.queries, 0.5, other)
    for number in range(arguments.rounds):
        say(f"  round {number + 1} of {arguments.rounds}")
        for one in contestants:
            one.ask(arguments.seconds, other)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    memory = [f"{resident(daemon.process.pid):,.0f}" for daemon in (ours, plain)]
    return rows_of(contestants), [
        name, f"{written:.1f}", f"{size:,.1f}", f"{ready:.1f}", f"{spent:.1f}", *memory
    ]  # fmt: skip


def export(engine: Engine, names: list[str], orders: Path, out: Path) -> None:
    """Write the engine's configuration; besides its real territory, France is where our French client is."""
    orders.mkdir()
    (orders / "annex.txt").write_text("".join(f"{name}\n" for name in names))
    measures = "measures: {dns: refuse, cdn: disable, proxy: terminate}"
    assert measures in ORDER
    (orders / "order.yaml").write_text(ORDER.replace(measures, f"measures: {{dns: {engine.variant}}}"))
    exporter = exporters.load(engine.target)
    exporter = replace(exporter, render=_at_home(exporter.render))
    done = exporters.export(
        exporter, load_orders(orders), open_geo_table(None), datetime.now(UTC),
        exporters.Options(folder=str(out), settings=engine.settings),
    )  # fmt: skip
    put(out, done.files)


def _at_home(render: Callable[..., object]) -> Callable[..., object]:
    client = Network(f"{FRANCE}/32", "FR")
    return lambda work: render(replace(work, networks=(*work.networks, client)))


def started(engine: Engine, folder: Path, upstream: int, core: int, hook: str) -> Daemon:
    """Start an engine on a core of its own."""
    folder.mkdir()
    (port,) = free_ports(1)
    file = folder / engine.file
    file.write_text(engine.configuration.format(folder=folder, port=port, upstream=upstream, hook=hook))
    arguments = engine.arguments.format(file=file, folder=folder).split()
    # Some answer nothing before all is loaded: with a million names that takes longer than a start is given.
    return start(
        [program(engine.program), *arguments], port, folder / "log", core=core, patience=PATIENCE, question=READY
    )


def wait_until_it_refuses(daemon: Daemon, name: str, variant: str) -> None:
    """Return when the French client is refused."""
    rcode = {"refuse": 5, "nxdomain": 3}[variant]
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, AssertionError):
            if ask(("127.0.0.1", daemon.port), Query(name=name, source=FRANCE), 1).rcode() == rcode:
                return
        time.sleep(0.05)
    raise SystemExit(f"{name} is never refused: {daemon.said[-2000:]}")


def wait_until_it_rests(daemon: Daemon) -> None:
    """Return when nothing goes on any more: BIND refuses some names while it still takes in the others."""
    end = time.monotonic() + PATIENCE
    spent = -1.0
    while processor_time(daemon.process.pid) - spent > RESTS and time.monotonic() < end:
        spent = processor_time(daemon.process.pid)
        time.sleep(1)


def queries(path: Path, names: list[str]) -> Path:
    """Write what dnsperf asks."""
    path.write_text("".join(f"{name} A\n" for name in names))
    return path


def dnsperf(port: int, client: str, asked: Path, seconds: float, core: int) -> tuple[int, int, float]:
    """Have dnsperf ask from an address; return how many answers came, how many were lost, and queries per second."""
    command = [
        "taskset",
        "-c",
        str(core),
        str(program("dnsperf")),
        "-s",
        "127.0.0.1",
        "-p",
        str(port),
        "-d",
        str(asked),
    ]
    options = ["-a", client, "-l", f"{seconds:.2f}", "-c", "8", "-q", "100", "-e", "-t", "2"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=seconds + 60, check=False)
    found = [re.search(rf"{what}:\s+([\d.]+)", ran.stdout) for what in ("completed", "lost", "per second")]
    if None in found or not float(found[0][1]):
        raise SystemExit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return int(found[0][1]), int(found[1][1]), float(found[2][1])


def rows_of(contestants: list[Measured]) -> list[list[str]]:
    """Return the rows; each is compared with the first one, round by round."""
    plain = contestants[0]
    shown = []
    for one in contestants:
        cpu = median(mine / its for mine, its in zip(one.microseconds, plain.microseconds, strict=True))
        speed = median(mine / its for mine, its in zip(one.per_second, plain.per_second, strict=True))
        shown.append([
            one.what, f"{median(one.per_second):,.0f}", f"{median(one.microseconds):.2f}", f"{cpu:.3f}", f"{speed:.3f}",
            str(one.lost),
        ])  # fmt: skip
    return shown


def processor_time(pid: int) -> int:
    """Return how long all threads of a process and of its children have run (ns)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid))


def _tasks(pid: int) -> Iterator[Path]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from _tasks(int(child))


def resident(pid: int) -> float:
    """Return how much memory a process holds (MB)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
