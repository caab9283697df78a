"""From rules to what each set of clients is to be told, following changes: a few names one by one, else all anew. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from cdnblock.matching.difference import differing_names
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure
from cdnblock.rpz_primary.known_names import KnownNames
from cdnblock.rpz_primary.layers import Front, Layers
from cdnblock.rpz_primary.policies import NO_POLICY, Clients, Policy
from cdnblock.rpz_primary.reading import Reading

_FEW: Final = 2_000  # names that are worked out one by one


class Planning:
    """What is wanted of each name, for each set of clients, in their `layers`."""

    def __init__(
        self, rules: RuleSet, at: datetime, clients: Sequence[Clients], layers: Sequence[Layers], *, longest: int
    ) -> None:
        """Plan nothing yet; `longest` is how many octets a zone's name leaves of those that a name has."""
        self.rules = rules
        self._at = at
        self._clients = clients
        self._layers = layers
        self._longest = longest
        self._known = KnownNames(())
        self._is_whole = False
        self.unwritable: tuple[str, ...] = ()
        """Names that fit into no policy zone."""
        self.divided: tuple[str, ...] = ()
        """What is wrong with the sets of clients, a sentence each."""

    def follow(self, rules: RuleSet, at: datetime, pause: Callable[[], None] | None = None) -> bool:
        """Plan for these rules at this instant; return whether anything may be wanted otherwise than before.

        `pause` is called about once a millisecond of longer work, for whoever wants to let others run.
        """
        names = [*differing_names(self.rules, self._at, rules, at, Measure.DNS)] if self._is_whole else []
        self.rules, self._at = rules, at
        reading = Reading(rules, at, self._clients, longest=self._longest)
        if not self._is_whole or len(names) > _FEW:
            self._is_whole = False  # until all of it is done
            self._all_anew(reading, pause)
            self._is_whole = True
        elif names:
            self._is_whole = False
            self._some_anew(reading, names)
            self._is_whole = True
        else:
            return False
        self.unwritable = tuple(sorted({*self.unwritable, *reading.unwritable}))
        self.divided = tuple(self._each_divided())
        return True

    def front(self, layers: Layers) -> Front:
        """Return what the zones in front of the bulk have to hold."""
        return layers.front(self._known)

    def _some_anew(self, reading: Reading, names: Iterable[str]) -> None:
        """Work out these names, and whatever is below them or comes to stand between them and others."""
        affected: dict[str, None] = {}
        for name in names:
            self._known.add(name)
        for name in names:
            affected |= dict.fromkeys((name, *self._known.below(name)))
        for name in tuple(affected):
            for between in reading.between(name):
                self._known.add(between)
                affected[between] = None
        nothing = (NO_POLICY,) * len(self._layers)
        found = [(name, reading.of(name) if self._counts(name) else nothing) for name in affected]
        for number, layers in enumerate(self._layers):
            layers.want((name, policies[number]) for name, policies in found)

    def _counts(self, name: str) -> bool:
        """Tell whether a name is still listed, or stands above one that is."""
        listed = self.rules.index
        return bool(listed[name]) or any(listed[other] for other in self._known.below(name))

    def _all_anew(self, reading: Reading, pause: Callable[[], None] | None) -> None:
        wanted: list[dict[str, Policy]] = [{} for _ in self._layers]
        for name, policies in reading.everything(pause):
            for table, of in zip(wanted, policies, strict=True):
                if of:
                    table[name] = of
        names = dict.fromkeys(name for name, _ in self.rules.index.items())
        for table in wanted:
            names |= dict.fromkeys(table)
        self._known = KnownNames(names)
        for layers, table in zip(self._layers, wanted, strict=True):
            layers.want_only(table)

    def _each_divided(self) -> Iterable[str]:
        for order in self.rules.enforced:
            for clients in self._clients:
                if Measure.DNS in order.measures and clients.divided_by(order):
                    yield (
                        f"order {order.id} concerns some of the clients {clients.name!r} ({', '.join(clients.places)})"
                        " only, and is enforced for all of them"
                    )
