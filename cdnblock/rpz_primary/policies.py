"""What a policy zone says of a name and of all below it, in one small number; and for whose resolvers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from cdnblock.errors import ConfigError
from cdnblock.exporters._plan import OTHER, UNKNOWN
from cdnblock.matching.coverage import why_not_here
from cdnblock.orders.model import Order
from cdnblock.orders.territories import COUNTRIES, PRESETS

Policy: TypeAlias = int
"""An `Action` for the name itself and one for all below it: `policy(own, below)`. 0 says nothing of either."""

NO_POLICY: Final[Policy] = 0

_BITS: Final = 2
_MASK: Final = 3
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
_NO_COUNTRY: Final = "--"  # stands for a country that no order mentions; none has this code


class Action(IntEnum):
    """What is answered to a query of a name."""

    NONE = 0  # whatever other zones say
    NXDOMAIN = 1
    NODATA = 2
    PASS = 3


POLICIES: Final = range(1 << 2 * _BITS)
# Tables, for these are asked a million times.
_OWN: Final = tuple(Action(of >> _BITS) for of in POLICIES)
_BELOW: Final = tuple(Action(of & _MASK) for of in POLICIES)
_LETS_GO: Final = tuple(Action.PASS in actions for actions in zip(_OWN, _BELOW, strict=True))

ACTIONS: Final[Mapping[str, Action]] = {
    # Variant of measure `dns`: what RPZ has for it. Nothing in it is REFUSED; see `Clients.cannot`.
    "refuse": Action.NXDOMAIN,
    "nxdomain": Action.NXDOMAIN,
    "nodata": Action.NODATA,
}


def policy(own: Action, below: Action) -> Policy:
    """Return the policy with these actions."""
    return own << _BITS | below


def own_of(of: Policy) -> Action:
    """Return what a policy says of the name itself."""
    return _OWN[of]


def below_of(of: Policy) -> Action:
    """Return what a policy says of all below the name."""
    return _BELOW[of]


def uniform(action: Action) -> Policy:
    """Return the policy that says the same of the name and of all below it."""
    return policy(action, action)


def lets_go(of: Policy) -> bool:
    """Tell whether a policy has anything pass."""
    return _LETS_GO[of]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The clients of some resolvers, all of whom the same orders concern: where they are, and a short name for that."""

    name: str
    places: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Clients:
        """Return what `fr=FR+RE` says; places are countries, presets, `unknown`, and `other` for all countries else.

        Raises:
            ConfigError: it says nothing of the kind.

        """
        name, equals, listed = text.partition("=")
        places = tuple(place for entry in listed.split("+") for place in PRESETS.get(entry, (entry,)))
        strange = [place for place in places if place not in COUNTRIES and place not in (OTHER, UNKNOWN)]
        if not equals or not _NAME.match(name) or strange:
            wrong = f"; {strange[0]!r} is no country" if equals and strange else ""
            raise ConfigError(
                f"--clients {text!r}{wrong}; write a short name and where these clients are, such as `fr=FR`,"
                f" `france=FR+RE+GP`, `rest={OTHER}+{UNKNOWN}`"
            )
        return cls(name=name, places=tuple(sorted({*places})))

    def concerned_by(self, order: Order) -> bool:
        """Tell whether an order is for any of these clients; `divided_by` tells where it is not for all."""
        return any(self._concerns(order))

    def divided_by(self, order: Order) -> bool:
        """Tell whether an order is for some of these clients and not for the others."""
        return len({*self._concerns(order)}) > 1

    def _concerns(self, order: Order) -> Iterable[bool]:
        codes = (None if place == UNKNOWN else _NO_COUNTRY if place == OTHER else place for place in self.places)
        return (why_not_here(order, code) is None for code in codes)


def read_clients(texts: Iterable[str]) -> tuple[Clients, ...]:
    """Return sets of clients, each with a name of its own. Raises ConfigError where one is wrong."""
    found = tuple(map(Clients.read, texts))
    names = [clients.name for clients in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"--clients: {min(twice)!r} is there twice; give each set of clients a name of its own")
    return found
