"""How an HTTP host tells what became of a verdict: once for each request, when it has been acted upon.

notes = HttpNotes(gate, "my_proxy")
verdict = gate.judge(method="GET", hosts=hosts, peer=peer, headers=headers)
...                                                       # acted upon
notes.acted(hosts, verdict)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cdnblock.audit.tally import COUNT
from cdnblock.http_gate import Action, HttpGate, Name, Verdict
from cdnblock.noting import Acted, Notes, meant
from cdnblock.orders.model import Measure

_ANSWER, _UNCACHED = Action.ANSWER, Action.PASS_UNCACHED  # a member is not found as quickly through its class
_ACTED: Final[Mapping[Action, Acted | None]] = {
    Action.PASS: None,
    Action.PASS_UNCACHED: Acted.UNCACHED,
    Action.ANSWER: Acted.ANSWER,
    Action.CLOSE: Acted.CLOSE,
}


class HttpNotes:
    """What one host did about verdicts of one gate. Nothing in it raises."""

    def __init__(self, gate: HttpGate, adapter: str) -> None:
        self.notes = notes = Notes(gate.enforcer.tally, adapter)
        self._answers, self._uncached = notes.answers, notes.uncached
        self._decide = gate.enforcer.decide

    def acted(self, hosts: Sequence[Name], verdict: Verdict) -> None:
        """Tell that a verdict about a request for these hosts has been acted upon.

        An answer that no order asked for, as to what is no host name, is no enforcement and is not told.
        """
        action, decision = verdict.action, verdict.decision
        series = self._answers if action is _ANSWER else self._uncached if action is _UNCACHED else None
        # Where nobody records, a cell may be of a decision that is gone, and had the same id: it knows of no dry run.
        if series is not None and len(hosts) == 1 and decision is not None and not decision.would:
            try:  # a repeat is counted in its place
                series.cells[id(decision), hosts[0]][COUNT] += 1
            except (KeyError, TypeError):
                pass
            else:
                return
        self._acted(hosts, verdict)

    def _acted(self, hosts: Sequence[Name], verdict: Verdict) -> None:
        decision = verdict.decision
        if decision is not None and (decision.measures or decision.would):
            acted = _ACTED[verdict.action] if decision.measures else None
            host = meant(self._decide, hosts, verdict.client, decision)
            self.notes.http(decision, host, verdict.client, acted)

    def cut(self, hosts: Sequence[Name], verdict: Verdict) -> None:
        """Tell that what was under way was ended because of a verdict."""
        decision = verdict.decision
        if decision is not None and Measure.PROXY in decision.measures:
            host = meant(self._decide, hosts, verdict.client, decision)
            self.notes.http(decision, host, verdict.client, Acted.CUT, dry_run=False)
