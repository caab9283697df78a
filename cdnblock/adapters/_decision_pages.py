"""What the decision service says of itself: `/livez`, `/readyz` and `/metrics`, to callers alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from cdnblock.http_gate import HttpGate
from cdnblock.orders.life import OrderState, state_of

_READY, _NOT_READY = 200, 503
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_SHOWN: Final = (
    "revision",
    "orders",
    "names",
    "names_in_force",
    "next_change",
    "problems",
    "held",
    "state_folder_error",
)
_MEASURES: Final[Mapping[str, str]] = {"pass": "", "uncached": "cdn", "answer": "proxy", "close": "proxy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the pages show. `gate` is None as long as the rules are not loaded."""

    gate: HttpGate | None
    counts: Mapping[str, int]
    draining: bool


def livez(_state: State) -> web.Response:
    """Tell that the process answers."""
    return web.Response(text="alive\n")


def readyz(state: State) -> web.Response:
    """Tell whether it decides, and in the body what is wrong with the orders: that alone makes nothing unready."""
    told: dict[str, Any] = {"ready": state.gate is not None and not state.draining, "draining": state.draining}
    if state.gate is not None:
        status = state.gate.enforcer.status()
        told |= {key: status[key] for key in _SHOWN}
    text = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
    return web.Response(status=_READY if told["ready"] else _NOT_READY, text=text, content_type="application/json")


def metrics(state: State) -> web.Response:
    """Return the counters in Prometheus' text format."""
    return web.Response(text="".join(_lines(state)), headers={"Content-Type": _EXPOSITION})


PAGES: Final[Mapping[str, Callable[[State], web.Response]]] = {
    "/livez": livez,
    "/readyz": readyz,
    "/metrics": metrics,
}


def _lines(state: State) -> Iterator[str]:
    yield "# TYPE cdnblock_decisions_total counter\n"
    for action, number in state.counts.items():
        measure = _MEASURES.get(action, "")
        labels = f'adapter="decision_service",measure="{measure}",action="{action}"'
        yield f"cdnblock_decisions_total{{{labels}}} {number}\n"
    if state.gate is None:
        return
    rules = state.gate.enforcer.rules
    now = datetime.now(UTC)
    states = Counter(state_of(order, now) for order in rules.orders.values())
    yield "# TYPE cdnblock_decision_failures_total counter\n"
    yield f"cdnblock_decision_failures_total {state.gate.failures}\n"
    yield "# TYPE cdnblock_orders gauge\n"
    yield from (f'cdnblock_orders{{state="{name}"}} {states[name]}\n' for name in OrderState)
    yield "# TYPE cdnblock_names gauge\n"
    yield f"cdnblock_names {len(rules)}\n"
    yield "# TYPE cdnblock_revision_info gauge\n"
    yield f'cdnblock_revision_info{{revision="{rules.revision}"}} 1\n'
