"""One set of clients: what is to be said of each name, and in which of three zones that is said. Pure.

Resolvers go through pass, delta and base in this order, and the first zone that has a name, or a wildcard above it,
decides. So whatever pass and delta say of a name hides what zones behind them say of it and of all below it: what
holds there has to be said in front as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cdnblock.rpz_primary.known_names import KnownNames, names_above
from cdnblock.rpz_primary.policies import (
    NO_POLICY,
    Action,
    Policy,
    below_of,
    lets_go,
    own_of,
    policy,
    uniform,
)


class Front(NamedTuple):
    """What the zones in front of the bulk hold."""

    passing: Mapping[str, Policy]
    delta: Mapping[str, Policy]


class Layers:
    """What the bulk holds, and where something else is wanted."""

    def __init__(self, base: Mapping[str, Policy]) -> None:
        self.base = dict(base)
        self._over: dict[str, Policy] = {}  # what is wanted, where the bulk has something else
        self._lingering: dict[str, float] = {}  # what the bulk has had right since when, and resolvers may not have yet

    def want(self, wanted: Iterable[tuple[str, Policy]]) -> None:
        """Want this of these names, and of all others what was wanted before."""
        for name, of in wanted:
            if self.base.get(name, NO_POLICY) == of:
                self._over.pop(name, None)
            else:
                self._over[name] = of

    def want_only(self, wanted: Mapping[str, Policy]) -> None:
        """Want this, and nothing of any other name."""
        base = self.base
        self._over = {name: of for name, of in wanted.items() if base.get(name) != of}
        self._over.update((name, NO_POLICY) for name in base.keys() - wanted.keys())

    def wanted(self, name: str) -> Policy:
        """Return what is wanted of a name."""
        found = self._over.get(name)
        return self.base.get(name, NO_POLICY) if found is None else found

    def linger(self, names: Iterable[str], since: float) -> None:
        """Leave names in front although the bulk has them right: resolvers may have an older bulk."""
        self._lingering |= dict.fromkeys(names, since)

    def settle(self, before: float) -> None:
        """Let go of what the bulk has had right since before an instant."""
        self._lingering = {name: since for name, since in self._lingering.items() if since > before}

    @property
    def lingers_since(self) -> float | None:
        """Since when the bulk has had right what has been in front longest after that; None if nothing is."""
        return min(self._lingering.values(), default=None)

    def misplaced(self) -> int:
        """Return how many names are in front and could be in the bulk."""
        return sum(not lets_go(of) for of in self._over.values())

    def has_lifted(self) -> bool:
        """Tell whether the bulk has names that are in force no longer: something in front must hide each of them."""
        return any(name in self.base and (of == NO_POLICY or lets_go(of)) for name, of in self._over.items())

    def fold(self) -> Iterable[str]:
        """Write the bulk anew, with all that it should have; return the names of which it has something else now."""
        over, base = self._over, self.base
        self._over = {name: of for name, of in over.items() if lets_go(of)}
        if not base:  # the first time
            self.base = {name: of for name, of in over.items() if not lets_go(of)}
            return self.base
        self.base = base.copy()  # transfers that are under way go on with the bulk as it was
        touched = [name for name, of in over.items() if name in base or not lets_go(of)]
        for name in touched:
            of = over[name]
            if of == NO_POLICY or lets_go(of):
                self.base.pop(name, None)
            else:
                self.base[name] = of
        return touched

    def front(self, known: KnownNames) -> Front:
        """Return what the zones in front have to hold."""
        held = {name: self._shown(name) for name in (*self._over, *self._lingering)}
        hiding = [*held]
        for name in hiding:  # which grows
            if below := below_of(held[name]):
                for other in known.below(name):
                    of = self.wanted(other)
                    if other not in held and of not in (NO_POLICY, uniform(below)):
                        held[other] = of
                        hiding.append(other)
        passing: dict[str, Policy] = {}
        delta: dict[str, Policy] = {}
        for name in sorted(held, key=_depth):
            below_pass = any(below_of(passing[above]) for above in names_above(name) if above in passing)
            (passing if lets_go(held[name]) or below_pass else delta)[name] = held[name]
        return Front(closed(passing), closed(delta))

    def _shown(self, name: str) -> Policy:
        """Return what is wanted of a name; where nothing is, what hides what the bulk says, or said a moment ago."""
        of = self.wanted(name)
        if of != NO_POLICY and name not in self.base and name not in self._lingering:
            return of
        above = next((self.wanted(above) for above in names_above(name) if self.wanted(above)), NO_POLICY)
        otherwise = below_of(above) or Action.PASS
        return policy(own_of(of) or otherwise, below_of(of) or otherwise)


def closed(zone: Mapping[str, Policy]) -> dict[str, Policy]:
    """Return a small zone in which no name hides a wildcard above it (RFC 4592 §2.2.2): what comes between says it again."""
    found: dict[str, Policy] = {}
    for name in sorted(zone, key=_depth):
        above = [*names_above(name)]
        nearest = next((place for place, upper in enumerate(above) if upper in found), len(above))
        inherited = below_of(found[above[nearest]]) if nearest < len(above) else Action.NONE
        found |= dict.fromkeys(above[:nearest], uniform(inherited)) if inherited else {}
        of = zone[name]
        found[name] = policy(own_of(of) or inherited, below_of(of) or inherited)
    return found


def _depth(name: str) -> tuple[int, str]:
    return name.count("."), name
