"""The counters of the front as rows for Prometheus: of all workers together.

No name and no address of a client or an upstream is a label: upstreams are told apart by their place in the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cdnblock.metrics import Latencies, Row

_ACTIONS: Final = {"refused": "answer", "forwarded": "pass"}  # as the other adapters call them
_UNANSWERED: Final = ("unanswered", "dropped", "in_circles", "unasked_answers", "disbelieved_answers")
_STREAMS: Final = ("tcp", "tls", "https")
_COUNTERS: Final = {
    # Of a worker's counters: the part, and the metric that its numbers become, each with its name as the label.
    "queries": "cdnblock_dns_queries_total",
    "udp": "cdnblock_dns_udp_total",
    "tcp": "cdnblock_dns_tcp_total",
    "tls": "cdnblock_dns_tls_total",
    "https": "cdnblock_dns_https_total",
}


class Totals:
    """Keeps what workers had counted that are no more, so that no counter ever falls when one is replaced."""

    def __init__(self) -> None:
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._gone: list[Mapping[str, Any]] = []

    def rows(self, told: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows of all workers that there are and were."""
        there = {worker["pid"]: worker for worker in told["workers"]}
        if there:
            self._gone += [_at_rest(last) for pid, last in self._seen.items() if pid not in there]
            self._gone = [_sum(self._gone)] if self._gone else []
            self._seen = there
        yield from rows({**told, "workers": list(there.values())}, self._gone if there else ())


def rows(told: Mapping[str, Any], gone: Sequence[Mapping[str, Any]] = ()) -> Iterator[Row]:
    """Yield what `status` says of the front; `gone` are workers that only count."""
    there: Sequence[Mapping[str, Any]] = told["workers"]
    workers = [*there, *gone]
    for outcome, action in _ACTIONS.items():
        number = sum(worker["queries"][outcome] for worker in workers)
        yield "cdnblock_decisions_total", ("dns_server", "dns", action), number
    if any("would" in worker for worker in workers):  # who serves alone has it in his tally
        would = sum(worker.get("would", 0) for worker in workers)
        yield "cdnblock_decisions_total", ("dns_server", "dns", "would"), would
    yield "cdnblock_decision_failures_total", (), sum(worker["queries"]["failed"] for worker in workers)
    for part, metric in _COUNTERS.items():
        for key in workers[0].get(part, {}) if workers else {}:
            if key != "connections":
                yield metric, (key,), sum(worker[part][key] for worker in workers)
    for key in _UNANSWERED:
        yield f"cdnblock_dns_{key}_total", (), sum(worker[key] for worker in workers)
    yield "cdnblock_dns_outstanding", (), sum(worker["outstanding"] for worker in workers)
    connections = [worker[part]["connections"] for worker in workers for part in _STREAMS if part in worker]
    yield "cdnblock_dns_connections", (), sum(connections)
    yield "cdnblock_dns_workers", (), len(there)
    yield "cdnblock_dns_worker_restarts_total", (), told["restarts"]
    for revision in dict.fromkeys(worker["revision"] for worker in there):
        yield "cdnblock_revision_info", (revision,), 1
    yield from _of_upstreams(workers)


def _of_upstreams(workers: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield what each upstream did: a histogram of its latency, and its failures."""
    each = list(zip(*(worker["upstreams"] for worker in workers), strict=True))
    for number, seen in enumerate(each, start=1):
        which = str(number)
        yield "cdnblock_dns_upstream_up", (which,), int(all(one["up"] for one in seen))
        for kind in ("timeouts", "network_errors"):
            yield "cdnblock_dns_upstream_failures_total", (which, kind), sum(one[kind] for one in seen)
        bounds = seen[0]["latency_buckets"]
        counts = {bound: sum(one["latency_buckets"][bound] for one in seen) for bound in bounds}
        yield "cdnblock_dns_upstream_seconds", (which,), Latencies(counts, sum(one["seconds"] for one in seen))


def _at_rest(told: Any) -> Any:
    """Return what somebody counted who is no more: nothing waits for him, and no upstream is down for him."""
    if not isinstance(told, Mapping):
        return told
    now = {"outstanding": 0, "connections": 0, "up": True}
    return {
        key: now[key] if key in now else list(map(_at_rest, value)) if isinstance(value, list) else _at_rest(value)
        for key, value in told.items()
    }


def _sum(told: Sequence[Any]) -> Any:
    """Return numbers of one shape, added up; what is none stays as the last one has it."""
    last = told[-1]
    if isinstance(last, Mapping):
        return {key: _sum([each[key] for each in told if key in each]) for key in last}
    if isinstance(last, list):
        return [_sum(each) for each in zip(*told, strict=True)]
    return sum(told) if isinstance(last, (int, float)) and not isinstance(last, bool) else last
