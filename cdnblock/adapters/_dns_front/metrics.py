"""The counters of the front for Prometheus: of all workers together, on an HTTP address of their own.

No name and no address of a client or an upstream is a label: upstreams are told apart by their place in the list.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from cdnblock.adapters._dns_front.peers import Address
from cdnblock.errors import ConfigError

_START: Final = 10.0  # seconds
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_ACTIONS: Final = {"refused": "answer", "forwarded": "pass"}  # as the other adapters call them
_UNANSWERED: Final = ("unanswered", "dropped", "in_circles", "unasked_answers", "disbelieved_answers")
_STREAMS: Final = ("tcp", "tls", "https")
_COUNTERS: Final = (
    # Of a worker's counters: the part, the metric that it becomes, and the label of each of its numbers.
    ("queries", "cdnblock_dns_queries_total", "outcome"),
    ("udp", "cdnblock_dns_udp_total", "event"),
    ("tcp", "cdnblock_dns_tcp_total", "event"),
    ("tls", "cdnblock_dns_tls_total", "event"),
    ("https", "cdnblock_dns_https_total", "event"),
)


def exposition(told: Mapping[str, Any]) -> str:
    """Return what `status` says of the front in Prometheus' text format."""
    workers: Sequence[Mapping[str, Any]] = told["workers"]
    return "".join(f"{line}\n" for line in _lines(workers, told["restarts"]))


@contextmanager
def serve_metrics(address: Address, tell: Callable[[], Mapping[str, Any]]) -> Iterator[Address]:
    """Answer GET /metrics on a thread of its own, and yield the address with its port.

    Raises:
        ConfigError: the address cannot be listened on.

    """
    started, ended, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    outcome: list[Address | OSError] = []

    async def answer(_request: web.Request) -> web.Response:
        text = exposition(await asyncio.to_thread(tell))
        return web.Response(body=text.encode(), headers={"Content-Type": _EXPOSITION})

    async def serve() -> None:
        application = web.Application()
        application.router.add_get("/metrics", answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, *address).start()
            outcome.append(runner.addresses[0][:2])
        except OSError as error:
            outcome.append(error)
        started.set()
        if not isinstance(outcome[0], OSError):
            await ended.wait()
        await runner.cleanup()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name="cdnblock-metrics", daemon=True)
    thread.start()
    started.wait(_START)
    if not outcome or isinstance(outcome[0], OSError):
        raise ConfigError(f"cannot listen on {address[0]} port {address[1]}: {outcome[0] if outcome else 'too slow'}")
    try:
        yield outcome[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_START)


def _lines(workers: Sequence[Mapping[str, Any]], restarts: int) -> Iterator[str]:
    yield "# TYPE cdnblock_decisions_total counter"
    for outcome, action in _ACTIONS.items():
        number = sum(worker["queries"][outcome] for worker in workers)
        yield f'cdnblock_decisions_total{{adapter="dns_server",measure="dns",action="{action}"}} {number}'
    yield "# TYPE cdnblock_decision_failures_total counter"
    yield f"cdnblock_decision_failures_total {sum(worker['queries']['failed'] for worker in workers)}"
    for part, metric, label in _COUNTERS:
        keys = workers[0].get(part, {}) if workers else {}
        if keys:
            yield f"# TYPE {metric} counter"
        for key in keys:
            if key != "connections":
                yield f'{metric}{{{label}="{key}"}} {sum(worker[part][key] for worker in workers)}'
    for key in _UNANSWERED:
        yield f"# TYPE cdnblock_dns_{key}_total counter"
        yield f"cdnblock_dns_{key}_total {sum(worker[key] for worker in workers)}"
    yield "# TYPE cdnblock_dns_outstanding gauge"
    yield f"cdnblock_dns_outstanding {sum(worker['outstanding'] for worker in workers)}"
    yield "# TYPE cdnblock_dns_connections gauge"
    connections = [worker[part]["connections"] for worker in workers for part in _STREAMS if part in worker]
    yield f"cdnblock_dns_connections {sum(connections)}"
    yield "# TYPE cdnblock_dns_workers gauge"
    yield f"cdnblock_dns_workers {len(workers)}"
    yield "# TYPE cdnblock_dns_worker_restarts_total counter"
    yield f"cdnblock_dns_worker_restarts_total {restarts}"
    yield "# TYPE cdnblock_revision_info gauge"
    for revision in dict.fromkeys(worker["revision"] for worker in workers):
        yield f'cdnblock_revision_info{{revision="{revision}"}} 1'
    yield from _of_upstreams(workers)


def _of_upstreams(workers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what each upstream did: a histogram of its latency, and its failures."""
    each = list(zip(*(worker["upstreams"] for worker in workers), strict=True))
    yield "# TYPE cdnblock_dns_upstream_up gauge"
    for number, seen in enumerate(each, start=1):
        yield f'cdnblock_dns_upstream_up{{upstream="{number}"}} {int(all(one["up"] for one in seen))}'
    yield "# TYPE cdnblock_dns_upstream_failures_total counter"
    for number, seen in enumerate(each, start=1):
        for kind in ("timeouts", "network_errors"):
            label = f'upstream="{number}",kind="{kind}"'
            yield f"cdnblock_dns_upstream_failures_total{{{label}}} {sum(one[kind] for one in seen)}"
    yield "# TYPE cdnblock_dns_upstream_seconds histogram"
    for number, seen in enumerate(each, start=1):
        counted = 0
        for bound in seen[0]["latency_buckets"]:
            counted += sum(one["latency_buckets"][bound] for one in seen)
            yield f'cdnblock_dns_upstream_seconds_bucket{{upstream="{number}",le="{bound}"}} {counted}'
        yield f'cdnblock_dns_upstream_seconds_sum{{upstream="{number}"}} {sum(one["seconds"] for one in seen):.6f}'
        yield f'cdnblock_dns_upstream_seconds_count{{upstream="{number}"}} {counted}'
