"""What the orders say at one instant to the clients of some resolvers, name by name, as policies. Pure.

It is what `RuleSet.decide` says, for measure `dns`: a name that is covered is refused, with all below it or alone; a name
that is let go below one that is covered has to be said, and so has whatever stands between two names
(`known_names`). Names that no policy zone can have are `unwritable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from cdnblock.exporters._rpz import is_name_in_zone
from cdnblock.matching.decision import Reason
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import VARIANTS, Measure
from cdnblock.orders.name_list import SHARD_MASK
from cdnblock.rpz_primary.known_names import names_above
from cdnblock.rpz_primary.policies import ACTIONS, NO_POLICY, Action, Clients, Policy, below_of, policy

Policies: TypeAlias = tuple[Policy, ...]
"""The policies of one name, one for each set of clients."""

_WILDCARD: Final = 3  # octets of `*.` before a name, and of the root behind all


class Reading:
    """The policies of names under one rule set at one instant."""

    def __init__(self, rules: RuleSet, at: datetime, clients: Sequence[Clients], *, longest: int) -> None:
        """Read nothing yet; `longest` is how many octets a zone's name may leave of the 255 that a name has."""
        self._rules = rules
        self._at = at
        self._clients = clients
        self._longest = longest - _WILDCARD
        self._nothing: Policies = (NO_POLICY,) * len(clients)
        self._known: dict[str, Policies] = {"": self._nothing}
        self.unwritable: list[str] = []

    def of(self, name: str) -> Policies:
        """Return the policies of a name, be it listed or not."""
        found = self._known.get(name)
        if found is None:
            above = self._rules.index.nearest(name.partition(".")[2])
            found = self._known[name] = self._made(name, self.of(above))
            if any(found) and not self._is_writable(name):
                self.unwritable.append(name)
                found = self._known[name] = self._nothing
        return found

    def everything(self, pause: Callable[[], None] | None = None) -> Iterator[tuple[str, Policies]]:
        """Yield every name of which something is to be said, with its policies; names between two come last.

        `pause` is called about once a millisecond, for whoever wants to let others run.
        """
        of_mark: dict[object, Policies] = {}
        nested: list[str] = []
        for number, (name, mark, above) in enumerate(self._rules.each_listed()):
            if pause is not None and not number % 1_000:
                pause()
            if above:
                nested.append(name)
                continue
            found = of_mark.get(mark)
            if found is None:
                found = of_mark[mark] = self._made(name, self._nothing)
            if found is not self._nothing:
                if self._is_writable(name):
                    yield name, found
                else:
                    self.unwritable.append(name)
        yield from self._nested(nested, pause)

    def between(self, name: str) -> Iterator[str]:
        """Yield what stands between a name and the next listed one above it, if there is one."""
        top = self._rules.index.nearest(name.partition(".")[2])
        if top:
            for above in names_above(name):
                if above == top:
                    return
                yield above

    def _nested(self, names: Iterable[str], pause: Callable[[], None] | None) -> Iterator[tuple[str, Policies]]:
        between: dict[str, None] = {}
        of_kind: dict[object, Policies] = {}
        for number, name in enumerate(names):
            if pause is not None and not number % 100:
                pause()
            kind = self._kind(name)
            found = of_kind.get(kind)
            if found is None:
                found = of_kind[kind] = self._made(name, self.of(self._rules.index.nearest(name.partition(".")[2])))
            if any(found):
                if self._is_writable(name):
                    yield name, found
                else:
                    self.unwritable.append(name)
            between |= dict.fromkeys(self.between(name))
        for name in between:
            found = self.of(name)
            if any(found):
                yield name, found

    def _kind(self, name: str) -> tuple[object, ...]:
        """Return what names have in common that have the same claims on them and above them."""
        index = self._rules.index
        kind: list[object] = []
        while name:
            kind.append(index.shards[hash(name) & SHARD_MASK][name])
            name = index.nearest(name.partition(".")[2])
        return tuple(kind)

    def _made(self, name: str, above: Policies) -> Policies:
        own = [reason for reason in self._rules.holding(name, self._at, exact=True) if _refuses(reason)]
        below = [reason for reason in self._rules.holding(name, self._at, exact=False) if _refuses(reason)]
        found = tuple(
            self._policy(clients, own, below, below_of(upper))
            for clients, upper in zip(self._clients, above, strict=True)
        )
        return found if any(found) else self._nothing

    def _policy(self, clients: Clients, own: Iterable[Reason], below: Iterable[Reason], upper: Action) -> Policy:
        """Return what holds for these clients, below a name of which `upper` holds for all below it."""
        otherwise = Action.PASS if upper else Action.NONE
        return policy(_strictest(clients, own) or otherwise, _strictest(clients, below) or otherwise)

    def _is_writable(self, name: str) -> bool:
        return len(name) < self._longest and is_name_in_zone(name)


def _refuses(reason: Reason) -> bool:
    return Measure.DNS in reason.order.measures


def _strictest(clients: Clients, reasons: Iterable[Reason]) -> Action:
    variants = {reason.order.measures[Measure.DNS] for reason in reasons if clients.concerned_by(reason.order)}
    return next((ACTIONS[variant] for variant in VARIANTS[Measure.DNS] if variant in variants), Action.NONE)
