"""What enforcement costs mitmproxy: CPU per request with and without the addon, as Markdown tables.

    python tests/benchmarks/bench_mitmproxy.py [--requests 3000] [--rounds 5]

First in this process, where a microsecond can be told: the addon's own hooks, and what mitmproxy pays to call them
among its other addons. Then end to end with real processes, whose run-to-run noise is many times what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mitmproxy import ctx, http, options, version
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers.http import _hooks as hooks
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster

from cdnblock.adapters.mitmproxy_addon import CdnBlock

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "adapters" / "mitmproxy_addon")]

from free_ports import free_ports
from mitmproxy_clients import Raw, query, via
from mitmproxy_origins import DnsUpstream, LoopThread, Origin, start_http1
from mitmproxy_process import ROOT, launch, wait_for, write_countries, write_order

FIELDS = (
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
    (b"Accept-Language", b"fr,en;q=0.5"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Cookie", b"session=0123456789abcdef0123456789abcdef"),
    (b"Connection", b"keep-alive"),
)
CASES = {
    # what is asked: (host, peer, further fields)
    "no order names the host": (b"www.other.example", "203.0.113.7", ()),
    "the same, behind a trusted proxy": (b"www.other.example", "127.0.0.1", ((b"X-Forwarded-For", b"203.0.113.7"),)),
    "named, client elsewhere": (b"www.blocked.example", "198.51.100.7", ()),
    "caching switched off": (b"www.cached.example", "203.0.113.7", ()),
    "refused with 451": (b"www.blocked.example", "203.0.113.7", ()),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000, help="per round, end to end")
    parser.add_argument("--rounds", type=int, default=5, help="end to end; with and without take turns")
    arguments = parser.parse_args()
    print(f"mitmproxy {version.VERSION}, Python {sys.version.split()[0]}, {os.cpu_count()} CPUs\n")
    with tempfile.TemporaryDirectory() as folder:
        orders = Path(folder) / "orders"
        orders.mkdir()
        write_order(orders, "a", ["blocked.example"], {"proxy": "terminate", "dns": "refuse"})
        write_order(orders, "b", ["cached.example"], {"cdn": "disable"})
        write_countries(Path(folder) / "countries.mmdb")
        asyncio.run(_in_process(Path(folder)))
        _end_to_end(Path(folder), arguments.requests, arguments.rounds)


async def _in_process(folder: Path) -> None:
    plain, ours = _master(folder, None), _master(folder, CdnBlock())
    addon = ours.addons.get("cdnblock")
    print("| in process, µs of CPU | best | median |\n|---|---:|---:|")
    for what, case in CASES.items():
        _row(f"HTTP decision and its follow-up: {what}", [_own_hooks(addon, case) for _ in range(60)])
    for name, what in (("www.other.example", "no order names it"), ("blocked.example", "refused")):
        _row(f"DNS decision: {what}", [_dns_hook(addon, name) for _ in range(60)])
    without, with_it = [], []
    for _ in range(120):
        without.append(await _dispatch(plain, CASES["no order names the host"]))
        with_it.append(await _dispatch(ours, CASES["no order names the host"]))
    _row("all hooks of all addons, without ours", without)
    _row("all hooks of all addons, with ours", with_it)
    print(f"| **ours, with mitmproxy's cost of calling it** | {min(with_it) - min(without):.1f} "
          f"| {statistics.median(with_it) - statistics.median(without):.1f} |\n")  # fmt: skip
    addon.done()


def _master(folder: Path, addon: CdnBlock | None) -> DumpMaster:
    of = options.Options()
    master = DumpMaster(of)
    of.update(confdir=str(folder / "confdir"), flow_detail=0, keep_host_header=True)
    if addon is not None:
        master.addons.register(addon)
        addon.addons, master.addons.chain[0] = master.addons.chain[:1], addon
        of.update(
            cdnblock_orders=str(folder / "orders"),
            cdnblock_geo=str(folder / "countries.mmdb"),
            cdnblock_trusted_proxies=["127.0.0.1"],
        )
    return master


def _flows(case, count: int) -> list[http.HTTPFlow]:
    host, peer, further = case
    flows = []
    for _ in range(count):
        flow = tflow.tflow()
        flow.client_conn.peername = (peer, 50000)
        flow.client_conn.proxy_mode = mode_specs.ProxyMode.parse("reverse:http://127.0.0.1:80")
        flow.request.data.authority = b""
        flow.request.headers.fields = ((b"Host", host), *FIELDS, *further)
        flows.append(flow)
    return flows


def _response() -> http.Response:
    fields = ((b"Content-Type", b"text/html"), (b"Content-Length", b"5"), (b"Cache-Control", b"max-age=60"))
    return http.Response(b"HTTP/1.1", 200, b"OK", http.Headers(fields), b"hello", None, 0, 0)


def _own_hooks(addon: CdnBlock, case, count: int = 300) -> float:
    flows, responses = _flows(case, count), [_response() for _ in range(count)]
    began = time.process_time()
    for flow, response in zip(flows, responses, strict=True):
        addon.requestheaders(flow)
        flow.response = flow.response or response
        addon.responseheaders(flow)
        addon.response(flow)
    return (time.process_time() - began) / count * 1e6


def _dns_hook(addon: CdnBlock, name: str, count: int = 300) -> float:
    message = type(tflow.tdnsflow().request).unpack(query(name, client="203.0.113.7").to_wire())
    flows = [tflow.tdnsflow(req=message) for _ in range(count)]
    for flow in flows:
        flow.client_conn.peername = ("127.0.0.1", 50000)
    began = time.process_time()
    for flow in flows:
        addon.dns_request(flow)
    return (time.process_time() - began) / count * 1e6


async def _dispatch(master: DumpMaster, case, count: int = 60) -> float:
    ctx.master, ctx.options = master, master.options
    flows, responses = _flows(case, count), [_response() for _ in range(count)]
    call = master.addons.handle_lifecycle
    began = time.process_time()
    for flow, response in zip(flows, responses, strict=True):
        await call(hooks.HttpRequestHeadersHook(flow))
        await call(hooks.HttpRequestHook(flow))
        flow.response = response
        await call(hooks.HttpResponseHeadersHook(flow))
        await call(hooks.HttpResponseHook(flow))
    return (time.process_time() - began) / count * 1e6


def _end_to_end(folder: Path, count: int, rounds: int) -> None:
    loop, origin, upstream = LoopThread(), Origin(), DnsUpstream()
    loop.run(start_http1(origin))
    plain_http, plain_dns, http_port, dns_port = free_ports(4)
    common = ["-q", "--set", "keep_host_header=true", "--set", "connection_strategy=lazy"]
    plain = subprocess.Popen(
        [sys.executable, "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()", *common,
         "--set", f"confdir={folder / 'confdir'}", *_modes(origin, upstream, plain_http, plain_dns)],
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    ours = launch(
        folder, "-q", "--orders", "orders", "--geo", "countries.mmdb", "--trusted-proxies", "127.0.0.1",
        *_modes(origin, upstream, http_port, dns_port),
    )  # fmt: skip
    try:
        wait_for(ours, plain_http, plain_dns, http_port, dns_port)
        passed, refused = b"www.other.example", b"www.blocked.example"
        runs: dict[str, tuple[int, Callable[[], None]]] = {
            "HTTP/1.1 passed, without": (plain.pid, lambda: _http_load(plain_http, passed, count)),
            "HTTP/1.1 passed, with": (ours.process.pid, lambda: _http_load(http_port, passed, count)),
            "HTTP/1.1 refused with 451": (ours.process.pid, lambda: _http_load(http_port, refused, count)),
            "DNS passed, without": (plain.pid, lambda: _dns_load(plain_dns, passed, count)),
            "DNS passed, with": (ours.process.pid, lambda: _dns_load(dns_port, passed, count)),
            "DNS refused": (ours.process.pid, lambda: _dns_load(dns_port, refused, count)),
        }
        costs: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, (pid, load) in runs.items():
                before = _cpu_seconds(pid)
                load()
                costs[name].append((_cpu_seconds(pid) - before) / count * 1e6)
    finally:
        plain.terminate()
        plain.wait(10)
        ours.stop()
        loop.close()
    print(f"| end to end, µs of CPU of the process per request ({count} requests) | best | median |\n|---|---:|---:|")
    for name, values in costs.items():
        _row(name, values)


def _modes(origin: Origin, upstream: DnsUpstream, http_port: int, dns_port: int) -> list[str]:
    return [
        "--mode", f"reverse:http://127.0.0.1:{origin.port}@127.0.0.1:{http_port}",
        "--mode", f"reverse:dns://127.0.0.1:{upstream.port}@127.0.0.1:{dns_port}",
    ]  # fmt: skip


def _http_load(port: int, host: bytes, count: int, connections: int = 8) -> None:
    head = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n" + b"".join(b"%s: %s\r\n" % field for field in FIELDS)
    packet = head + via("203.0.113.7").encode() + b"\r\n"

    def work() -> None:
        with Raw(port, timeout=30) as raw:
            for _ in range(count // connections):
                raw.send(packet)
                raw.answer()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _dns_load(port: int, host: bytes, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        for number in range(count):
            sock.send(query(host.decode(), query_id=number, client="203.0.113.7").to_wire())
            sock.recv(65535)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _row(what: str, values: list[float]) -> None:
    print(f"| {what} | {min(values):.1f} | {statistics.median(values):.1f} |", flush=True)


if __name__ == "__main__":
    main()
