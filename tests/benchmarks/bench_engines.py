"""What exported configuration costs the engines themselves, as Markdown tables.

    python tests/benchmarks/bench_engines.py cost [--engines nginx haproxy varnish] [--names 14 100000 1000000]
    python tests/benchmarks/bench_engines.py render [--names 100000]

`cost`: CPU time of the engine's own tasks per request for hosts that no order names, answered from its cache, beside the
same engine without our files. Both run at once on one core, the load on another, and they take turns in short bursts.

`render`: how long each target takes to be written, without reading the orders, and how much memory it takes more.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "real_peers"), str(HERE)]

from bench_service import ORIGIN, children_of, pin
from bursts import Server, compare, get
from engine_texts import HAPROXY_BASE, NGINX_ALONE
from export_engines import running, wait_until
from free_ports import free_ports
from measuring import heading, listable_names, resident, say, table, write_order

from cdnblock.cli.export import put
from cdnblock.exporters import EXPORTERS, Options, export, load
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders

GOALS = {14: 1.10, 100_000: 1.15, 1_000_000: 1.20}
"""Names: how many times the plain engine's CPU an uncovered host may cost at most."""
OK = 200
HOSTS = 1_000  # uncovered hosts that are asked for in turn
HEADERS_MORE = Path("/usr/lib/nginx/modules/ngx_http_headers_more_filter_module.so")
UNNAMED = [f"www.{'abcdefghi'[number % 9]}{number * 7919}.example" for number in range(HOSTS)]
NGINX = (
    """
{module}
{user}
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections 1024; }}
http {{
  {http}
"""
    + NGINX_ALONE
    + """\
  proxy_cache_path {folder}/cache keys_zone=edge:4m use_temp_path=off;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} default_server;
    {server}
    location / {{
      proxy_pass http://127.0.0.1:{origin}; proxy_set_header Host $host; proxy_http_version 1.1;
      proxy_cache edge; proxy_cache_key $host$request_uri;
      {cache}
    }}
    {more}
  }}
}}
"""
)
HAPROXY = (
    """
global
  nbthread 1
"""
    + HAPROXY_BASE
    + """\
cache edge
  total-max-size 64
  max-age 3600
"""
)
FRONTEND = """
frontend edge from {defaults}
  bind 127.0.0.1:{port}
  http-request cache-use edge{unless}
  http-response cache-store edge{unless}
  default_backend site
backend site from base
  server site 127.0.0.1:{origin}
"""
VARNISH = """
vcl 4.1;
{include}
backend site {{ .host = "127.0.0.1"; .port = "{origin}"; }}
"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where an engine is to be put: a folder, its port, the site behind it, and our files, None for the plain one."""

    folder: Path
    port: int
    origin: int
    ours: Path | None


def nginx(at: Setting) -> list[str]:
    """Write its configuration; return its command."""
    more = HEADERS_MORE.exists()

    def included(name):
        return f"include {at.ours}/cdnblock-{name}.conf;" if at.ours else ""

    aside = "" if more or not at.ours else (
        f"location @cdnblock_uncached {{ proxy_pass http://127.0.0.1:{at.origin}; {included('uncached')} }}"
    )  # fmt: skip
    (at.folder / "nginx.conf").write_text(
        NGINX.format(
            folder=at.folder,
            port=at.port,
            origin=at.origin,
            module=f"load_module {HEADERS_MORE};" if more else "",
            user="user root;" if os.geteuid() == 0 else "",
            http=included("http"),
            server=included("server"),
            cache=included("cache"),
            more=aside,
        )
    )
    return ["nginx", "-c", str(at.folder / "nginx.conf"), "-e", str(at.folder / "start.log")]


def haproxy(at: Setting) -> list[str]:
    """Write its configuration; return its command."""
    (at.folder / "base.cfg").write_text(HAPROXY)
    unless = " if !{ var(txn.cdnblock_action) -m str uncached }" if at.ours else ""
    defaults = "cdnblock" if at.ours else "base"
    (at.folder / "edge.cfg").write_text(
        FRONTEND.format(port=at.port, origin=at.origin, unless=unless, defaults=defaults)
    )
    files = [at.folder / "base.cfg", *([at.ours / "cdnblock.cfg"] if at.ours else []), at.folder / "edge.cfg"]
    return ["haproxy", "-db", *(word for file in files for word in ("-f", str(file)))]


def varnish(at: Setting) -> list[str]:
    """Write its configuration; return its command."""
    include = f'include "{at.ours}/cdnblock.vcl";' if at.ours else ""
    (at.folder / "edge.vcl").write_text(VARNISH.format(include=include, origin=at.origin))
    return [
        "varnishd", "-F", "-n", str(at.folder / "work"), "-a", f"127.0.0.1:{at.port}", "-f", str(at.folder / "edge.vcl"),
        "-s", "malloc,256m", "-j", "none", "-p", "vcc_allow_inline_c=on", "-p", "thread_pools=1",
        "-p", "thread_pool_min=10", "-p", "thread_pool_max=50",
    ]  # fmt: skip


ENGINES = {
    # engine: what writes its configuration, and the settings of the export
    "nginx": (nginx, {"headers-more": "yes" if HEADERS_MORE.exists() else "no"}),
    "haproxy": (haproxy, {"defaults": "base"}),
    "varnish": (varnish, {}),
}


def main() -> None:
    """Measure what was asked for, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "render", "one"])
    parser.add_argument("--engines", nargs="+", choices=[*ENGINES], default=[*ENGINES])
    parser.add_argument("--targets", nargs="+", choices=[*EXPORTERS], default=[*EXPORTERS])
    parser.add_argument("--names", nargs="+", type=int)
    parser.add_argument("--orders", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--starts", type=int, default=6, help="of both: each process has its own luck with the caches")
    parser.add_argument("--pairs", type=int, default=60, help="of bursts, after each start")
    arguments = parser.parse_args()
    if arguments.what == "one":  # a process of its own, for its memory
        print(json.dumps(rendered(arguments.targets[0], arguments.orders)))
    elif arguments.what == "cost":
        os.sched_setaffinity(0, {1 % os.cpu_count()})  # the load, that is; the engines have the first
        print(heading("Engines, for hosts that no order names"), end="\n\n")
        columns = [
            "answered from its cache",
            "names",
            "plain µs",
            "with ours µs",
            "times (middle half of the pairs)",
            "goal",
            "ready after s",
            "more MB",
        ]
        print(table(columns, []), flush=True)
        for engine in arguments.engines:
            for count in arguments.names or GOALS:
                print(f"| {' | '.join(costs(engine, count, arguments))} |", flush=True)
    else:
        counts = arguments.names or [100_000]
        print(heading("Rendering"), end="\n\n")
        print(table(["target", "names", "first s", "later s", "more memory MB", "files MB"], []), flush=True)
        for target in arguments.targets:
            for row in renders(target, counts):
                print(f"| {' | '.join(row)} |", flush=True)


def costs(engine: str, count: int, arguments) -> list[str]:
    """Return the row of one engine with so many names."""
    say(f"{engine}, {count:,} names")
    plain: list[float] = []
    mine: list[float] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        ours = exported(folder, engine, count, ENGINES[engine][1])
        for number in range(arguments.starts):
            ready, memory = _compared(engine, folder / str(number), ours, arguments.pairs, plain, mine)
    times = [with_us / without for with_us, without in zip(mine, plain, strict=True)]
    low, high = statistics.quantiles(times, n=4)[::2]
    return [
        engine,
        f"{count:,}",
        f"{statistics.median(plain):.1f}",
        f"{statistics.median(mine):.1f}",
        f"{statistics.median(times):.3f} ({low:.2f} to {high:.2f})",
        f"≤ {GOALS[count]:.2f}" if count in GOALS else "",
        f"{ready:.1f}",
        f"{memory:.0f}",
    ]


def _compared(
    engine: str, folder: Path, ours: Path, pairs: int, plain: list[float], mine: list[float]
) -> tuple[float, float]:
    """Start an engine without our files and with them, and add what both cost; return when ours was ready, and MB more."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        plain_port, our_port, origin = free_ports(3)
        stack.enter_context(running([sys.executable, "-c", ORIGIN, str(origin)], origin, folder / "origin.log"))
        pids, ready = {}, {}
        for port, files in ((plain_port, None), (our_port, ours)):
            at = Setting(folder=folder / str(port), port=port, origin=origin, ours=files)
            at.folder.mkdir()
            started = time.monotonic()
            process = stack.enter_context(running(ENGINES[engine][0](at), port, folder / f"{port}.log"))
            wait_until(lambda port=port: answers(port, UNNAMED[:1]))  # by then all its processes are there
            ready[port] = time.monotonic() - started
            pids[port] = (process.pid, *children_of(process.pid))
            pin(*pids[port])
            assert answers(port, UNNAMED)  # from now on its cache answers
        requests = tuple(get("/page", {"Host": host}) for host in UNNAMED)
        servers = {port: Server(port=port, requests=requests, pids=pids[port][:1]) for port in pids}
        spent = compare(servers, pairs=pairs)
        plain += spent[plain_port]
        mine += spent[our_port]
        return ready[our_port], resident_of(pids[our_port]) - resident_of(pids[plain_port])


def answers(port: int, hosts: list[str]) -> bool:
    """Tell whether an engine answers a request for each of these hosts."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for host in hosts:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/page", headers={"Host": host})
                answer = connection.getresponse()
                answer.read()
                if answer.status != OK:
                    return False
        return True
    return False


def exported(folder: Path, engine: str, count: int, settings: dict[str, str]) -> Path:
    """Write an order with so many names, and export it for an engine; return where to."""
    write_order(folder / "orders", listable_names(count))
    ours = folder / "cdnblock"
    done = export(
        load(engine),
        load_orders(folder / "orders"),
        open_geo_table(None),
        datetime.now(UTC),
        Options(folder=str(ours), operator_url="https://edge.example/blocked", settings=settings),
    )
    put(ours, done.files)
    return ours


def resident_of(pids: tuple[int, ...]) -> float:
    """Return the MB that processes hold, shared pages counted once for each."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids) / 1e6


def renders(target: str, counts: list[int]):
    """Yield the rows of one target, each taken in a process of its own."""
    for count in counts:
        say(f"{target}, {count:,} names")
        with tempfile.TemporaryDirectory() as folder:
            write_order(Path(folder), listable_names(count))
            command = [sys.executable, __file__, "one", "--targets", target, "--orders", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            yield [f"`{target}`", f"{count:,}", done.stderr.strip().splitlines()[-1][:80], "", "", ""]
            continue
        took = json.loads(done.stdout)
        first, *later = took["seconds"]
        shown = (f"{first:.2f}", f"{statistics.median(later):.2f}", f"{took['memory']:.0f}", f"{took['size']:.1f}")
        yield [f"`{target}`", f"{count:,}", *shown]


def rendered(target: str, orders: Path) -> dict[str, object]:
    """Return what it takes to render a target: seconds, the first time and later, the most memory more and the files, MB."""
    exporter = load(target)
    rules = load_orders(orders)
    countries = open_geo_table(None)
    options = Options(
        folder="/etc/cdnblock",
        operator_url="https://edge.example/blocked",
        clients_in=None if exporter.territory else "FR",
        settings={"clients": "any"} if target == "unbound" else {},
    )
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # what follows is the most since now (proc(5))
    before, seconds, size = resident(), [], 0.0
    for _ in range(3):
        started = time.perf_counter()
        done = export(exporter, rules, countries, datetime.now(UTC), options, partial=True)
        seconds.append(time.perf_counter() - started)
        size = sum(len(file.octets) for file in done.files) / 1e6
        del done
    return {"seconds": seconds, "memory": most_resident() - before, "size": size}


def most_resident() -> float:
    """Return the MB that this process has held at most."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


if __name__ == "__main__":
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    main()
