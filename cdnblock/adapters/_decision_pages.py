"""What the decision service says of itself: `/livez`, `/readyz` and `/metrics`, to callers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from cdnblock.http_gate import HttpGate
from cdnblock.metrics import Collector, Row, exposition
from cdnblock.shown import json_text

_READY, _NOT_READY = 200, 503
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
_NOT_ENFORCED: Final = ("pass", "misasked", "untrusted", "crowded", "unready")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the pages show. `gate` is None as long as the rules are not loaded."""

    gate: HttpGate | None
    collector: Collector
    draining: bool
    accept: str | None


def livez(_state: State) -> web.Response:
    """Tell that the process answers."""
    return web.Response(text="alive\n")


def readyz(state: State) -> web.Response:
    """Tell whether it decides, and in the body what is wrong with the orders: that alone makes nothing unready."""
    told: dict[str, Any] = {"ready": state.gate is not None and not state.draining, "draining": state.draining}
    if state.gate is not None:
        status = state.gate.enforcer.status()
        told |= {key: status[key] for key in _SHOWN}
    text = json_text(told, indent=1) + "\n"
    return web.Response(status=_READY if told["ready"] else _NOT_READY, text=text, content_type="application/json")


def metrics(state: State) -> web.Response:
    """Return the numbers as Prometheus reads them."""
    content_type, octets = exposition(state.collector, state.accept)
    return web.Response(body=octets, headers={"Content-Type": content_type})


def rows(counts: Mapping[str, int]) -> Iterator[Row]:
    """Yield the service's own counts: what passed, and who got no verdict; what was enforced stands in the tally."""
    for action in _NOT_ENFORCED:
        yield "cdnblock_decisions_total", ("decision_service", "", action), counts[action]


PAGES: Final[Mapping[str, Callable[[State], web.Response]]] = {
    "/livez": livez,
    "/readyz": readyz,
    "/metrics": metrics,
}
