"""What came of one probe: a difference from the decision, an answer that tells nothing, or None where all is as decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cdnblock.matching.decision import Decision
from cdnblock.verification.answers import Answer
from cdnblock.verification.expecting import Difference, Judgement
from cdnblock.verification.probes import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer that is not what was decided. `answer` is it as it came, None where it is not kept."""

    probe: Probe
    decision: Decision
    expected: str
    came: str
    answer: Answer | None = None

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.probe}: expected {self.expected}, got {self.came}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """One answer that tells nothing about enforcement, and why.

    `suspect` is the difference that it is if it is not the site's own; `alarming` where it may well be one.
    """

    probe: Probe
    why: str
    suspect: Finding | None = None
    alarming: bool = False


Result: TypeAlias = Finding | Open | None


def told(probe: Probe, decision: Decision, answer: Answer, found: Judgement) -> Result:
    """Return what a judgement means for a probe."""

    def finding(difference: Difference) -> Finding:
        return Finding(
            probe=probe, decision=decision, expected=difference.expected, came=difference.came, answer=answer
        )

    if isinstance(found, Difference):
        return finding(found)
    if found is None:
        return None
    suspect = None if found.suspect is None else finding(found.suspect)
    return Open(probe=probe, why=found.why, suspect=suspect, alarming=found.alarming)
