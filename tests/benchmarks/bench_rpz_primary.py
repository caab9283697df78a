"""How long one more name takes from its file saved to the first refusal of real resolvers behind the hidden primary.

    python tests/benchmarks/bench_rpz_primary.py [--sizes 100000 1000000] [--resolvers unbound bind powerdns] [--changes 7]

One name in an order of its own, beside so many in another order's names file. Resolvers take their turns one after the
other, each with a primary of its own; they are asked for the new name every millisecond. Nothing is asserted: a slow
machine is no mistake.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "real_peers"), str(HERE.parent / "adapters")]

import dns.message
import dns.query
from measuring import ORDER, heading, listable_names, median, say, table, write_order
from rpz_secondaries import Bind, Primary, Recursor, Unbound, key

from cdnblock.testing import dns_upstream

RESOLVERS = {"unbound": Unbound, "bind": Bind, "powerdns": Recursor}
GOALS = {"unbound": 0.2, "bind": 0.6, "powerdns": 2.0}  # seconds, at 100,000 names
FRENCH = "127.10.0.1"
PATIENCE = 60.0  # seconds for one change, and ten times that for a whole zone


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--resolvers", nargs="+", choices=RESOLVERS, default=[*RESOLVERS])
    parser.add_argument("--changes", type=int, default=7)
    arguments = parser.parse_args()
    rows = [measured(size, name, arguments.changes) for size in arguments.sizes for name in arguments.resolvers]
    print(heading("One more name, from file saved to the first refusal") + "\n")
    columns = [
        "names", "resolver", "median, ms", "longest, ms", "goal", "slowest answer meanwhile, ms",
        "AXFR of the bulk, s", "primary ready, s", "primary, MB", "whole zones taken over, s",
    ]  # fmt: skip
    print(table(columns, rows))


def measured(size: int, name: str, changes: int) -> list[str]:
    """Return a row of the table."""
    say(f"{name} with {size:,} names")
    with (
        tempfile.TemporaryDirectory() as scratch,
        dns_upstream.serving() as upstream,
        contextlib.ExitStack() as running,
    ):
        folder = Path(scratch)
        write_order(folder / "orders", listable_names(size))
        primary = Primary(folder, folder / "orders", sets=("fr",))
        resolver = RESOLVERS[name](folder, primary, upstream)
        before = time.perf_counter()
        running.enter_context(primary.run())
        ready = time.perf_counter() - before
        before = time.perf_counter()
        running.enter_context(resolver.run())
        last = (folder / "orders" / "annex.txt").read_text().split()[-1]
        until_refused(resolver.port, last, 10 * PATIENCE)
        taken_over = time.perf_counter() - before
        time.sleep(1)
        found = [change(folder / "orders", resolver.port, number) for number in range(changes)]
        return [
            f"{size:,}", name, f"{1000 * median([took for took, _ in found]):,.0f}",
            f"{1000 * max(took for took, _ in found):,.0f}",
            f"≤ {1000 * GOALS[name]:,.0f} at 100,000" , f"{1000 * max(slow for _, slow in found):,.0f}",
            f"{transfer(primary):.1f}", f"{ready:.1f}", f"{memory(primary.process.pid):.0f}", f"{taken_over:.1f}",
        ]  # fmt: skip


def change(orders: Path, port: int, number: int) -> tuple[float, float]:
    """Add an order with one name; return how long until it was refused, and the slowest answer meanwhile (s)."""
    added = f"added{number}.example"
    text = ORDER.replace("id: bench", f"id: added-{number}").replace("names_file: annex.txt", f"names: [{added}]")
    beside = orders / f".added-{number}"
    beside.write_text(text)
    time.sleep(0.5)
    saved = time.perf_counter()
    beside.rename(orders / f"added-{number}.yaml")
    slowest = until_refused(port, added, PATIENCE)
    return time.perf_counter() - saved, slowest


def until_refused(port: int, name: str, seconds: float) -> float:
    """Ask again and again, each time for another name below it; return how long the slowest answer took (s)."""
    until, slowest, number = time.perf_counter() + seconds, 0.0, 0
    while time.perf_counter() < until:
        number += 1
        query = dns.message.make_query(f"q{number}.{name}", "A")
        asked = time.perf_counter()
        with contextlib.suppress(dns.exception.Timeout):
            answer = dns.query.udp(query, "127.0.0.1", 1, port, source=FRENCH)
            slowest = max(slowest, time.perf_counter() - asked)
            if answer.rcode().name == "NXDOMAIN":
                return slowest
        time.sleep(0.001)
    raise SystemExit(f"{name} is not refused after {seconds:.0f} s")


def transfer(primary: Primary) -> float:
    """Return how long a signed AXFR of the bulk takes whoever does not look at what comes (s)."""
    import socket

    query = dns.message.make_query("base-fr", "AXFR")
    query.use_tsig(key("all"))
    wire = query.to_wire()
    before = time.perf_counter()
    with socket.create_connection(("127.0.0.1", primary.port), 60) as sock, sock.makefile("rb") as stream:
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        while size := int.from_bytes(stream.read(2), "big"):
            message = stream.read(size)
            soa_alone = message[6:8] == b"\0\1"  # the last message of ours has the SOA, and nothing else
            if soa_alone:
                break
    return time.perf_counter() - before


def memory(pid: int) -> float:
    """Return how much memory a process holds (MB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


if __name__ == "__main__":
    main()
