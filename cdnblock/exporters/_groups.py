"""Who fares how: places, the outcomes that clients have there, and groups of hosts that have the same ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cdnblock.matching.decision import Decision, Reason
from cdnblock.orders.model import Measure

OTHER: Final = "other"
"""The place of clients in a country that no order mentions."""
UNKNOWN: Final = "unknown"
"""The place of clients whose country cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a covered client gets. The reasons are those of one host; where names do not matter, they stand for others'.

    `id` depends on nothing but what the outcome tells, so other orders come and go without changing it.
    """

    id: str
    measures: Mapping[Measure, str]
    reasons: tuple[Reason, ...]

    def because(self, measure: Measure) -> tuple[Reason, ...]:
        """Return the reasons of one measure, the strictest variant first."""
        return Decision(measures=self.measures, reasons=self.reasons).because(measure)

    def action(self, told: str) -> str:
        """Return what a proxy does: `close`, `uncached`, or `told` where a notice tells of it."""
        match self.measures.get(Measure.PROXY):
            case "close":
                return "close"
            case "terminate":
                return told
            case _:
                return "uncached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts with the same outcome in each place; in a place that is not there they are let through."""

    id: str
    outcomes: Mapping[str, Outcome]


def labels(name: str) -> int:
    """Return how many labels a name has."""
    return name.count(".") + 1


def differ(one: Group | None, other: Group | None) -> bool:
    """Tell whether two groups are not the same one."""
    return (one and one.id) != (other and other.id)
