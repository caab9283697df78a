"""What the judge remembers of names and of clients: so that the second query of a kind costs two look-ups."""

from __future__ import annotations

from typing import Final, Protocol

from cdnblock.audit.tally import Tally
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.matching.decision import Decision
from cdnblock.matching.lookup import Kind
from cdnblock.matching.ruleset import RuleSet, Uncovered
from cdnblock.measures import dns_message as wire

NAMES: Final = 32_768  # spellings that are remembered; about 10 MB when full, and cleared in a millisecond
LONGEST_NAME: Final = 128  # octets; longer ones are looked up anew each time, so that nobody fills memory with them
CLIENTS: Final = 32_768  # addresses of peers
_KINDS: Final = 4_096  # of names of which the same is said


class Decides(Protocol):
    """What is needed of an enforcer."""

    @property
    def rules(self) -> RuleSet:
        """What is enforced now."""

    @property
    def tally(self) -> Tally:
        """What counts the refusals."""

    def decide_query_name(self, name: str, client: str | None) -> Decision:
        """Return the decision for a DNS query now."""


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
