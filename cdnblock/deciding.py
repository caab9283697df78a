"""Rules, a country table and a clock behind two questions: the hot path of whatever decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cdnblock.geo.country import CountryTable, Location, locate
from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet, Uncovered

MEMO_SIZE: Final = 65_536  # addresses; about 10 MB when full
_MEMO_MAX_ADDRESS: Final = 64  # longer than any address; longer texts are hostile and not remembered


class Locations(dict[str | None, Location]):
    """Where clients are, as a table says; addresses that were asked for are remembered. What cannot be one is a TypeError."""

    __slots__ = ("_table",)

    def __init__(self, table: CountryTable) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, client: str | None) -> Location:
        location = locate(self._table, client if isinstance(client, str) else None)
        if isinstance(client, str) and len(client) <= _MEMO_MAX_ADDRESS:
            if len(self) >= MEMO_SIZE:
                self.clear()
            self[client] = location
        return location


class Decider:
    """Decides by the rules in `_rules`, which whoever inherits this puts there. `clock` gives seconds since 1970.

    Nothing here blocks, does I/O or raises, and any number of threads may ask.
    """

    _rules: RuleSet

    def __init__(self, table: CountryTable, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock
        self._locations = Locations(table)

    @property
    def rules(self) -> RuleSet:
        """What is enforced now."""
        return self._rules

    @property
    def clock(self) -> Callable[[], float]:
        """What tells seconds since 1970."""
        return self._clock

    def decide(self, host: str | bytes, client: str | None) -> Decision:
        """Return the decision for a request now.

        `host` in any spelling that a URL or a Host field may have, `client` the client's address as text (see
        `Enforcer.client_address`), None when it is not known. What is no address has no country. Never raises.
        """
        try:
            found = self._rules.hosts[host]
        except TypeError:  # neither text nor octets
            found = self._rules.find(host)
        if (decision := found.decision) is not None:  # nearly all: told before anything else is asked
            return decision
        try:
            decision, since, until = found.current[self._locations[client]]  # type: ignore[union-attr]  # covered, then
        except (KeyError, TypeError):  # nobody was told there yet, or no address at all
            return self._decide(found, client)
        return decision if since <= self._clock() < until else self._decide(found, client)

    def decide_query_name(self, name: str, client: str | None) -> Decision:
        """Return the decision for a DNS query now; `name` as `names.canonical_query_name` takes it. Never raises."""
        found = self._rules.query_names[name]
        try:
            decision, since, until = found.current[self._locations[client]]  # type: ignore[union-attr]  # see below
        except (KeyError, TypeError, AttributeError):  # as above, or no order names it
            return self._decide(found, client)
        return decision if since <= self._clock() < until else self._decide(found, client)

    def place_of(self, client: str | None) -> Location:
        """Return where a client is, as decisions take it: its country, None when it cannot be told, and who told."""
        return self._locations[client]

    def _decide(self, coverage: Coverage | Uncovered, client: str | None) -> Decision:
        if coverage.decision is not None:
            return coverage.decision
        try:
            country, told_by = self._locations[client]
        except TypeError:
            country, told_by = locate(self._table, None)
        return coverage.decide(country, told_by, self._clock())
