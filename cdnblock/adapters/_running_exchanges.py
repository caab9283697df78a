"""What a server has under way, and who of it is told when an order takes effect.

For hosts that run in the server's own process. A request is entered before it is judged, so that each is either judged
by the new orders or found here by them.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cdnblock.enforcer import Headers
from cdnblock.http_gate import Action, HttpGate, Name, Verdict
from cdnblock.http_noting import HttpNotes
from cdnblock.matching.ruleset import RuleSet

_UNCACHED: Final = Action.PASS_UNCACHED
_LOG: Final = logging.getLogger(__name__)
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for, and where it says who asks."""

    names: tuple[Name, ...]
    peer: str | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Generic[_K, _V]):
    """What a change of orders means for one exchange: by the verdict it ends, or is no longer cached."""

    key: _K
    value: _V
    names: tuple[Name, ...]
    verdict: Verdict

    @property
    def ends(self) -> bool:
        """Whether it has to end now."""
        return self.verdict.action is Action.CLOSE


class RunningExchanges(Generic[_K, _V]):
    """Exchanges by a key of the host's choice.

    Whoever counts nanoseconds uses `by_key` itself; a host that can tell what runs without having kept it gives `each`.

    `asked` says what an exchange asks for, None where it names nothing; `tell` is called with those that a change of
    orders ends or keeps out of caches, on the enforcer's thread. Both may meet exchanges that end meanwhile.

    `notes` tell what was done, once for each exchange: the host says `acted` after a verdict of its own, or after what
    it was told of, and `forget` when an exchange is over. An exchange that was refused is over already.
    """

    def __init__(
        self,
        gate: HttpGate,
        asked: Callable[[_K, _V], Asked | None],
        tell: Callable[[list[Changed[_K, _V]]], object],
        adapter: str,
        *,
        each: Callable[[], Iterable[tuple[_K, _V]]] | None = None,
    ) -> None:
        self.by_key: dict[_K, _V] = {}
        self.notes = HttpNotes(gate, adapter)
        # What was noted of exchanges that go on: kept out of caches, and dry runs.
        self._uncached: dict[_K, _V] = {}
        self._dry: dict[_K, _V] = {}
        self._gate = gate
        self._asked = asked
        self._tell = tell
        self._each = each if each is not None else self.by_key.items
        this = weakref.ref(self)

        # An enforcer may outlive a host: what nobody uses any more must not stay alive because it listens.
        def changed(_old: RuleSet, _new: RuleSet) -> None:
            running = this()
            if running is None:
                unsubscribe()
            else:
                running.look()

        unsubscribe = gate.enforcer.subscribe(changed)

    def acted(self, key: _K, value: _V, names: tuple[Name, ...], verdict: Verdict) -> None:
        """Note what was done about an exchange that goes on: that it is kept out of caches, or a dry run; each once."""
        decision = verdict.decision
        if decision is None:
            return
        if verdict.action is _UNCACHED:
            if self._uncached.get(key) is value:
                return
            self._uncached[key] = value
        elif verdict.action is not Action.PASS or not decision.would or self._dry.get(key) is value:
            return
        if decision.would:
            self._dry[key] = value
        self.notes.acted(names, verdict)

    def forget(self, key: _K) -> None:
        """Forget what was noted of an exchange that is over."""
        self._uncached.pop(key, None)
        self._dry.pop(key, None)

    def look(self) -> None:
        """Ask about everything that runs, and tell of what is covered now."""
        noted = {*self._uncached, *self._dry}  # before: what begins meanwhile is not over
        running = list(self._each())
        self.look_at(running)
        for key in noted.difference(key for key, _ in running):
            self.forget(key)

    def look_at(self, running: Iterable[tuple[_K, _V]]) -> None:
        """Ask about some of what runs."""
        found = [self._look_at(key, value) for key, value in running]
        changed = [change for change in found if change is not None]
        if changed:
            self._tell(changed)

    def _look_at(self, key: _K, value: _V) -> Changed[_K, _V] | None:
        """Return what the orders change for an exchange; where even that fails, it ends: the others must, too."""
        try:
            asked = self._asked(key, value)
            if asked is None or not any(map(self._gate.concerns, asked.names)):
                return None
            client = self._gate.client_address(asked.peer, asked.headers)
        except Exception:  # noqa: BLE001 (logged with its trace)
            if not self._gate.enforcer.rules.enforced:  # a dry run of everything cuts nothing
                _LOG.exception("cdnblock: what runs cannot be judged")
                return None
            _LOG.exception("cdnblock: what runs cannot be judged, and is cut")
            return Changed(key=key, value=value, names=(), verdict=Verdict(action=Action.CLOSE))
        verdict = self._gate.judge_running(asked.names, client)
        if verdict.action is Action.PASS:
            self.acted(key, value, asked.names, verdict)  # a dry run: nothing is to be done
            return None
        return Changed(key=key, value=value, names=asked.names, verdict=verdict)
