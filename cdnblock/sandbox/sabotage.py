"""Breaking a measure on purpose, so that one sees the probes notice it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cdnblock.enforcer import Enforcer
from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure


def forget(measure: Measure) -> None:
    """Make every enforcer of this process leave a measure out of its decisions, from now on and for good."""
    Enforcer.decide = _without(measure, Enforcer.decide)  # type: ignore[method-assign]  # that is the sabotage
    Enforcer.decide_query_name = _without(measure, Enforcer.decide_query_name)  # type: ignore[method-assign]  # the same


def _without(measure: Measure, decide: Callable[..., Decision]) -> Callable[..., Decision]:
    def decide_forgetfully(*asked: Any) -> Decision:
        decision = decide(*asked)
        kept = {wanted: variant for wanted, variant in decision.measures.items() if wanted is not measure}
        return replace(decision, measures=kept)

    return decide_forgetfully
