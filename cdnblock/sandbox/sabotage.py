"""Breaking a measure on purpose, so that one sees the probes notice it. See also `front_script.Sabotage`."""

from __future__ import annotations

from dataclasses import replace

from cdnblock.enforcer import Enforcer
from cdnblock.matching.decision import Decision
from cdnblock.orders.model import Measure


def forget(enforcer: Enforcer, measure: Measure) -> None:
    """Make this one enforcer leave a measure out of every decision that it gives from now on."""
    decide = enforcer.decide

    def decide_forgetfully(host: str | bytes, client: str | None) -> Decision:
        decision = decide(host, client)
        kept = {asked: variant for asked, variant in decision.measures.items() if asked is not measure}
        return replace(decision, measures=kept)

    enforcer.decide = decide_forgetfully  # type: ignore[method-assign]  # that is the sabotage
