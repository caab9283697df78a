"""A zone while it is served: one version at a time, and how it came to be that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from cdnblock.rpz_primary.policies import NO_POLICY, Policy
from cdnblock.rpz_primary.serials import is_newer
from cdnblock.rpz_primary.wire import Body, bodies_of, changed_records, name_server, packed, soa

MOST_CHANGES: Final = 1_000
"""How many changes are remembered for incremental transfers."""
MOST_NAMES: Final = 200_000
"""How many names they may have in all; of a secondary that is farther behind the whole zone is asked less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What makes one version of a zone another one: names with their policies before and after."""

    before: int
    after: int
    names: tuple[tuple[str, Policy, Policy], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A zone as it is at one serial. `history` are the changes that led there, the oldest first, without a gap."""

    serial: int
    policies: Mapping[str, Policy]
    history: tuple[Change, ...] = ()

    def next(self, change: Change, policies: Mapping[str, Policy]) -> Version:
        """Return the version after a change, which has these policies."""
        return Version(serial=change.after, policies=policies, history=_kept((*self.history, change)))

    def since(self, serial: int) -> tuple[Change, ...] | None:
        """Return the changes since a serial, None where the whole zone is what is left to say."""
        start = next((place for place, change in enumerate(self.history) if change.before == serial), None)
        if start is None:
            return None
        changes = self.history[start:]
        return changes if sum(len(change.names) for change in changes) <= len(self.policies) + MOST_CHANGES else None


def changed(before: Mapping[str, Policy], after: Mapping[str, Policy]) -> tuple[tuple[str, Policy, Policy], ...]:
    """Return each name whose policy is another one afterwards, with both."""
    gone = ((name, of, NO_POLICY) for name, of in before.items() if name not in after)
    come = ((name, before.get(name, NO_POLICY), of) for name, of in after.items() if before.get(name) != of)
    return (*gone, *come)


def whole(version: Version) -> Iterator[Body]:
    """Yield the zone as an AXFR has it (RFC 5936 §2.2)."""
    yield soa(version.serial) + name_server(), 2
    yield from bodies_of(version.policies)
    yield soa(version.serial), 1


def incremental(version: Version, serial: int) -> Iterator[Body]:
    """Yield what an IXFR has for a secondary that is at a serial (RFC 1995 §4): changes, the zone, or one SOA."""
    if serial == version.serial or is_newer(serial, version.serial):
        yield soa(version.serial), 1
        return
    changes = version.since(serial)
    if changes is None:
        yield from whole(version)
        return
    steps = chain.from_iterable(_step(change) for change in changes)
    yield from packed(chain([soa(version.serial)], steps, [soa(version.serial)]))


def apply(policies: Mapping[str, Policy], change: Change) -> dict[str, Policy]:
    """Return what the policies are after a change."""
    found = dict(policies)
    for name, _, after in change.names:
        if after == NO_POLICY:
            found.pop(name, None)
        else:
            found[name] = after
    return found


def _step(change: Change) -> Iterator[bytes]:
    gone, come = changed_records(change.names)
    yield soa(change.before)
    yield from gone
    yield soa(change.after)
    yield from come


def _kept(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return the latest changes, as many as are remembered."""
    room = MOST_NAMES
    for place in range(len(changes) - 1, -1, -1):
        room -= len(changes[place].names)
        if room < 0 or len(changes) - place > MOST_CHANGES:
            return changes[place + 1 :]
    return changes
