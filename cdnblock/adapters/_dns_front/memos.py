"""What the judge remembers of names and of clients: so that the second query of a kind costs two look-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from cdnblock.audit.tally import Tally
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.country import Location
from cdnblock.matching.coverage import Coverage
from cdnblock.matching.decision import Decision
from cdnblock.matching.lookup import Kind
from cdnblock.matching.ruleset import RuleSet, Uncovered
from cdnblock.measures import dns_message as wire

NAMES: Final = 32_768  # spellings that are remembered; about 10 MB when full, and cleared in a millisecond
LONGEST_NAME: Final = 128  # octets; longer ones are looked up anew each time, so that nobody fills memory with them
CLIENTS: Final = 32_768  # addresses of peers
ANSWERS: Final = 16_384  # that are remembered; about 10 MB when full
LONGEST_QUERY: Final = 256  # octets
_KINDS: Final = 4_096  # of names of which the same is said


class Decides(Protocol):
    """What is needed of an enforcer."""

    @property
    def rules(self) -> RuleSet:
        """What is enforced now."""

    @property
    def clock(self) -> Callable[[], float]:
        """What tells seconds since 1970."""

    @property
    def tally(self) -> Tally:
        """What counts the refusals."""

    def decide_query_name(self, name: str, client: str | None) -> Decision:
        """Return the decision for a DNS query now."""

    def place_of(self, client: str | None) -> Location:
        """Return where a client is."""


Counted: TypeAlias = tuple[list[Any], dict[Any, list[Any]]]
"""The cell in which something was counted, and the cells among which it is found."""

Decided: TypeAlias = tuple[str, Decision]
"""A name, and what was decided about it."""


class WireNames(dict[bytes, str | None]):
    """Names as they stand in packets, in lower case: None for those that no order names.

    For the others it is the text of a name of which the orders say the same: the first of its kind that came. So a
    long list of names costs what one name costs. What is not exactly one whole name is a KeyError; a name that holds
    the octet 0 comes here cut off, so it is none.
    """

    __slots__ = ("_enforcer", "_first")

    def __init__(self, enforcer: Decides) -> None:
        super().__init__()
        self._enforcer = enforcer
        self._first: dict[Kind, str | None] = {}

    def __missing__(self, name: bytes) -> str | None:
        text = wire.name_text(name)
        if text is None:
            raise KeyError(name)
        kind = self._enforcer.rules.kind_of_query_name(text)
        covered = self._first_of(kind, text) if kind else None
        if len(name) <= LONGEST_NAME:
            if len(self) >= NAMES:
                self.clear()
            self[name] = covered
        return covered

    def forget(self) -> None:
        """Start anew for other rules."""
        self.clear()
        self._first.clear()

    def _first_of(self, kind: Kind, text: str) -> str | None:
        if kind not in self._first:
            if len(self._first) >= _KINDS:
                self._first.clear()
            found = self._enforcer.rules.find_query_name(text, remember=False)
            self._first[kind] = None if isinstance(found, Uncovered) else text
        return self._first[kind]


class Clients(dict[str, str | None]):
    """Peers and the client's address that each stands for, None when only the query tells: a trusted forwarder's."""

    __slots__ = ("_forwarders",)

    def __init__(self, forwarders: TrustedProxies) -> None:
        super().__init__()
        self._forwarders = forwarders

    def __missing__(self, peer: str) -> str | None:
        client = None if self._forwarders.trusts(peer) else self._forwarders.client_address(peer)
        if len(self) >= CLIENTS:
            self.clear()
        self[peer] = client
        return client


class Given(NamedTuple):
    """A refusal as it was given: all but the id, and what has to be true for it to be given again.

    `since` (inclusive) and `until` (exclusive) are seconds since 1970, and `cell` is where it is counted.
    """

    tail: bytes
    since: float
    until: float
    cell: list[Any]


class GivenAnswers:
    """Refusals that were given, by the query without its id and the place of its client: one look-up gives them again.

    `of_peer[peer]` are those of the place where a peer is. All are of one revision, and are counted among `cells`: once
    the series has other ones they are over, and the first that is kept then lets go of all that was counted before.
    """

    __slots__ = ("_count", "_enforcer", "_of_place", "cells", "of_peer")

    def __init__(self, enforcer: Decides) -> None:
        self._enforcer = enforcer
        self._of_place: dict[Location, dict[bytes, Given]] = {}
        self._count = 0
        self.of_peer: dict[str, dict[bytes, Given]] = {}
        self.cells: dict[Any, list[Any]] = {}

    def keep(self, peer: str, client: str, packet: bytes, decided: Decided, given: bytes, counted: Counted) -> None:
        """Keep what a query was refused with, what was decided then, and where it was counted."""
        if len(packet) > LONGEST_QUERY:
            return
        name, decision = decided
        cell, cells = counted
        place = self._enforcer.place_of(client)
        found = self._enforcer.rules.find_query_name(name)
        if not isinstance(found, Coverage) or (current := found.current.get(place)) is None:
            return
        now_decided, since, until = current
        if now_decided is not decision:  # an order has begun or ended meanwhile, and somebody else has asked
            return
        if cells is not self.cells or self._count >= ANSWERS or len(self.of_peer) >= CLIENTS:
            self.forget()
            self.cells = cells
        answers = self.of_peer[peer] = self._of_place.setdefault(place, {})
        self._count += 1  # one that is kept anew counts once more: they are forgotten the sooner
        answers[packet[2:]] = Given(given[2:], since, until, cell)

    def forget(self) -> None:
        """Start anew."""
        self._of_place.clear()
        self.of_peer.clear()
        self._count = 0
