"""The three zones of one set of clients: kept on disk before they are served, and in step with each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from cdnblock.errors import ConfigError
from cdnblock.matching.names import canonical
from cdnblock.rpz_primary.layers import Front, Layers
from cdnblock.rpz_primary.policies import NO_POLICY, Clients, Policy
from cdnblock.rpz_primary.serials import clock_is_behind, next_serial
from cdnblock.rpz_primary.stored_zones import StoredZone
from cdnblock.rpz_primary.wire import zone_wire
from cdnblock.rpz_primary.zones import Change, Version, changed

_LOG: Final = logging.getLogger("cdnblock.rpz")
LAYERS: Final = ("pass", "delta", "base")
"""The zones of each set of clients, in the order in which resolvers have to take them."""

_LONGEST_NAME: Final = 255  # octets on the wire (RFC 1035 §2.3.4)
_LONGEST_SUFFIX: Final = 60


def read_suffix(text: str) -> str:
    """Return what stands behind the zones' names, with a dot before it if there is anything.

    Raises:
        ConfigError: it is no name.

    """
    name = canonical(text) if text else ""
    if name is None or len(name) > _LONGEST_SUFFIX:
        raise ConfigError(f"--suffix {text!r}: write a short name, such as `cdnblock`; long names leave no room")
    return f".{name}" if name else ""


class Zone:
    """One zone: what is served of it, and where it is kept."""

    def __init__(self, name: str, clients: str, folder: int) -> None:
        """Take the zone up as it was left in a folder (its descriptor); one that is not there is to be published."""
        self.name = name
        self.clients = clients
        self.wire = zone_wire(name)
        self._stored = StoredZone(folder, name)
        loaded = self._stored.load()
        self.is_there = loaded is not None
        self.version = loaded or Version(serial=0, policies={})
        self.failing = ""

    def publish(
        self,
        names: Sequence[tuple[str, Policy, Policy]],
        policies: Mapping[str, Policy],
        now: float,
        *,
        always: bool = False,
    ) -> bool:
        """Serve these policies, which are those of now after a change of `names`; tell whether that is anything new.

        With `always` there is a new serial even for what has not changed.
        """
        if not names and self.is_there and not always:
            return False
        before = self.version
        serial = next_serial(before.serial if self.is_there else None, now)
        change = Change(before=before.serial, after=serial, names=tuple(names))
        after = before.next(change, policies) if self.is_there else Version(serial=serial, policies=policies)
        try:
            if self.is_there:
                self._stored.append(change, after)
            else:
                self._stored.write(after)
            self.failing = ""
        except OSError as error:
            # Serials go by the clock, so that even one which was not kept is not given twice.
            self.failing = error.strerror or str(error)
            _LOG.error("cdnblock: %s: cannot be kept on disk: %s; it is served all the same", self.name, self.failing)
        self.version, self.is_there = after, True
        return True

    def renew(self, now: float) -> None:
        """Give what was taken up from the disk a serial of now.

        Who knows what was served since it was written: it may be older than what secondaries have, if somebody restored
        it or its journal was cut, and they would take nothing until its serial has passed theirs.
        """
        last = self.version.serial
        if clock_is_behind(last, now):
            _LOG.error(
                "cdnblock: %s: the last serial, %d, is far ahead of the clock, by which serials go: is it wrong? If the"
                " state folder is an older one, secondaries take nothing until their serial is passed", self.name, last,
            )  # fmt: skip
        self.publish((), self.version.policies, now, always=True)

    def is_kept(self) -> bool:
        """Tell whether the files are as they were left."""
        return self._stored.is_there()

    def keep(self) -> None:
        """Write what is served to the disk once more."""
        try:
            self._stored.write(self.version)
            self.failing = ""
        except OSError as error:
            self.failing = error.strerror or str(error)

    def close(self) -> None:
        """Let go of the files."""
        self._stored.close()


class ZoneSet:
    """The zones of one set of clients, and what they are made of."""

    def __init__(self, clients: Clients, suffix: str, folder: int) -> None:
        """Take the zones up as they were left in a folder (its descriptor)."""
        self.clients = clients
        self.zones = {layer: Zone(f"{layer}-{clients.name}{suffix}", clients.name, folder) for layer in LAYERS}
        self.layers = Layers(self.zones["base"].version.policies)
        self.is_new = not self.zones["base"].is_there
        self.folded: float | None = None
        """When the bulk was written anew last, by a monotonic clock."""

    def publish_front(self, front: Front, now: float) -> list[Zone]:
        """Publish the two small zones, what lets go first; return what is new."""
        told = []
        for layer, policies in (("pass", front.passing), ("delta", front.delta)):
            zone = self.zones[layer]
            if zone.publish(changed(zone.version.policies, policies), policies, now):
                told.append(zone)
        return told

    def fold(self, now: float, monotonic: float) -> list[Zone]:
        """Write the bulk anew; what that changed stays in front for a while. Return what is new."""
        zone = self.zones["base"]
        before = self.layers.base
        touched = self.layers.fold()
        after = self.layers.base
        self.folded = monotonic
        self.is_new = False
        if not zone.is_there:
            return [zone] if zone.publish((), after, now) else []
        in_front = {*self.zones["pass"].version.policies, *self.zones["delta"].version.policies}
        self.layers.linger((name for name in touched if name in in_front), monotonic)
        names = [(name, before.get(name, NO_POLICY), after.get(name, NO_POLICY)) for name in touched]
        return [zone] if zone.publish(names, after, now) else []

    def take_up(self, monotonic: float, now: float) -> None:
        """After a restart: leave in front for a while what is there, for resolvers may have an older bulk."""
        for zone in self.zones.values():
            if zone.is_there:
                zone.renew(now)
        for layer in ("pass", "delta"):
            self.layers.linger(self.zones[layer].version.policies, monotonic)

    def close(self) -> None:
        """Let go of the files."""
        for zone in self.zones.values():
            zone.close()


def longest_name(sets: Sequence[ZoneSet]) -> int:
    """Return how many octets the longest zone's name leaves of those that a name has, the root's included."""
    return _LONGEST_NAME - max(len(zone.wire) for each in sets for zone in each.zones.values()) + 1
