"""From orders to zones: follows an enforcer, and has each zone on the disk before anybody is told of it.

All of it happens on one thread. What is served is one immutable `Version` for each zone, put in the place of the one
before by a single assignment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.matching.difference import differing_names
from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure
from cdnblock.rpz_primary.known_names import KnownNames
from cdnblock.rpz_primary.layers import Layers
from cdnblock.rpz_primary.policies import NO_POLICY, Clients, Policy
from cdnblock.rpz_primary.reading import Reading
from cdnblock.rpz_primary.serials import next_serial
from cdnblock.rpz_primary.stored_zones import StoredZone
from cdnblock.rpz_primary.wire import zone_wire
from cdnblock.rpz_primary.zones import Change, Version, changed
from cdnblock.sources.owned_folder import open_folder
from cdnblock.sources.slow_release import breathe

_LOG: Final = logging.getLogger("cdnblock.rpz")
LAYERS: Final = ("pass", "delta", "base")
"""The zones of each set of clients, in the order in which resolvers have to take them."""

_LONGEST_NAME: Final = 255  # octets on the wire (RFC 1035 §2.3.4)
_LONGEST_SUFFIX: Final = 60
_FEW: Final = 2_000  # names that are worked out one by one; of more, everything is worked out anew
_QUIET: Final = 5.0  # seconds without a change before the bulk is written anew, which keeps resolvers busy
_CLOCK_LOOKS: Final = 0.25  # seconds between two looks for what is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When the bulk is written anew, and how long (seconds) resolvers have to take that over.

    The bulk takes over what is in front of it when that is more than `most` names, or when it has names that are lifted;
    a change of more than `bulk` names goes into it at once.
    """

    settle: float = 600.0
    most: int = 5_000
    bulk: int = 50_000


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
        self.name = name
        self.clients = clients
        self.wire = zone_wire(name)
        self._stored = StoredZone(folder, name)
        loaded = self._stored.load()
        self.known = loaded is not None
        self.version = loaded or Version(serial=0, policies={})
        self.failing = ""

    def publish(
        self, names: tuple[tuple[str, Policy, Policy], ...], policies: Mapping[str, Policy], now: float
    ) -> bool:
        """Serve these policies, which are those of now after a change of `names`; tell whether that is anything new."""
        if not names and self.known:
            return False
        before = self.version
        serial = next_serial(before.serial if self.known else None, now)
        change = Change(before=before.serial, after=serial, names=names)
        after = before.next(change, policies) if self.known else Version(serial=serial, policies=policies)
        try:
            if self.known:
                self._stored.append(change, after)
            else:
                self._stored.write(after)
            self.failing = ""
        except OSError as error:
            # Serials go by the clock, so that even one which was not kept is not given twice.
            self.failing = error.strerror or str(error)
            _LOG.error("cdnblock: %s: cannot be kept on disk: %s; it is served all the same", self.name, self.failing)
        self.version, self.known = after, True
        return True

    def close(self) -> None:
        """Let go of the files."""
        self._stored.close()


class _Set:
    """The three zones of one set of clients."""

    def __init__(self, clients: Clients, suffix: str, folder: int) -> None:
        self.clients = clients
        self.zones = {layer: Zone(f"{layer}-{clients.name}{suffix}", clients.name, folder) for layer in LAYERS}
        self.layers = Layers(self.zones["base"].version.policies)
        self.is_new = not self.zones["base"].known
        self.folded = 0.0

    def publish_front(self, known: KnownNames, now: float) -> list[Zone]:
        """Publish the two small zones; what lets go comes first."""
        front = self.layers.front(known)
        told = []
        for layer, policies in (("pass", front.passing), ("delta", front.delta)):
            zone = self.zones[layer]
            if zone.publish(changed(zone.version.policies, policies), policies, now):
                told.append(zone)
        return told

    def fold(self, now: float, monotonic: float) -> list[Zone]:
        """Write the bulk anew; what that changed stays in front for a while."""
        zone = self.zones["base"]
        before = self.layers.base
        moved = self.layers.fold()
        after = self.layers.base
        self.folded = monotonic
        if not zone.known:
            return [zone] if zone.publish((), after, now) else []
        in_front = {*self.zones["pass"].version.policies, *self.zones["delta"].version.policies}
        touched = dict.fromkeys([name for name, _ in (*moved.removed, *moved.added)])
        self.layers.linger((name for name in touched if name in in_front), monotonic)
        names = tuple((name, before.get(name, NO_POLICY), after.get(name, NO_POLICY)) for name in touched)
        return [zone] if zone.publish(names, after, now) else []


class Publisher:
    """Keeps zones as an enforcer's orders want them, and tells of each change."""

    def __init__(
        self,
        enforcer: Enforcer,
        clients: Sequence[Clients],
        folder: Path,
        *,
        suffix: str = "",
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Bring the zones in `folder` to what the orders say now.

        Raises:
            ConfigError: the folder cannot be used.

        """
        self._enforcer = enforcer
        self._clock = clock
        self._pace = pace or Pace()
        self._folder = open_folder(folder)
        self._sets = [_Set(one, suffix, self._folder) for one in clients]
        self._clients = clients
        self._longest = _LONGEST_NAME - max(len(zone.wire) for each in self._sets for zone in each.zones.values()) + 1
        self._changed = threading.Event()
        self._changed_at = 0.0
        self._closing = False
        self._tell: Callable[[list[Zone]], None] = lambda _: None
        self._unwritable: tuple[str, ...] = ()
        self._divided: tuple[str, ...] = ()
        self._known = KnownNames(())
        self._rules, self._at = enforcer.rules, self._now()
        self._unsubscribe = enforcer.subscribe(self._note)
        self._all_anew()
        self._publish_all()
        self._thread = threading.Thread(target=self._run, name="cdnblock-rpz", daemon=True)

    @property
    def zones(self) -> Mapping[bytes, Zone]:
        """The zones by their names on the wire."""
        return {zone.wire: zone for each in self._sets for zone in each.zones.values()}

    def start(self, tell: Callable[[list[Zone]], None]) -> None:
        """Follow the orders from now on, and call `tell` with the zones that changed, on a thread of the publisher's."""
        self._tell = tell
        self._thread.start()

    def close(self) -> None:
        """Stop following; what is served stays as it is."""
        self._closing = True
        self._unsubscribe()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)
        for each in self._sets:
            for zone in each.zones.values():
                zone.close()
        with suppress(OSError):
            os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """Return the zones as JSON has them."""
        return {
            "revision": self._rules.revision,
            "divided": list(self._divided),
            "unwritable": list(self._unwritable[:100]),
            "zones": {
                zone.name: {
                    "serial": zone.version.serial,
                    "names": len(zone.version.policies),
                    "changes": len(zone.version.history),
                    **({"failing": zone.failing} if zone.failing else {}),
                }
                for each in self._sets
                for zone in each.zones.values()
            },
        }

    def _note(self, _old: RuleSet, _new: RuleSet) -> None:
        self._changed.set()

    def _run(self) -> None:
        while not self._closing:
            self._changed.wait(_CLOCK_LOOKS)
            is_changed = self._changed.is_set()
            self._changed.clear()
            if self._closing:
                return
            try:
                told = self._follow() if is_changed else []
                if told:
                    self._tell(told)
                if upkeep := self._keep_up():
                    self._tell(upkeep)
            except Exception:  # noqa: BLE001 (logged with its trace; tried again)
                _LOG.exception("cdnblock: the zones stay as they are; tried again in a second")
                self._rules_unread()
                time.sleep(1)
                self._changed.set()

    def _rules_unread(self) -> None:
        """Have everything worked out anew next time: something went wrong half-way."""
        self._known = KnownNames(())
        self._broken = True

    _broken = False

    def _follow(self) -> list[Zone]:
        """Publish what is different from what was published last."""
        rules, at = self._enforcer.rules, self._now()
        names = [*differing_names(self._rules, self._at, rules, at, Measure.DNS)]
        self._rules, self._at = rules, at
        self._changed_at = time.monotonic()
        if self._broken or len(names) > _FEW:
            self._all_anew()
        elif names:
            self._some_anew(names)
        else:
            return []
        self._broken = False
        return self._publish_all()

    def _some_anew(self, names: Iterable[str]) -> None:
        """Work out these names, and whatever is below them or comes to stand between them and others."""
        reading = self._reading()
        affected: dict[str, None] = {}
        for name in names:
            self._known.add(name)
        for name in names:
            affected |= dict.fromkeys((name, *self._known.below(name)))
        for name in tuple(affected):
            for between in reading.between(name):
                self._known.add(between)
                affected[between] = None
        found = [(name, reading.of(name)) for name in affected]
        for number, each in enumerate(self._sets):
            each.layers.want((name, policies[number]) for name, policies in found)
        self._complain(reading)

    def _all_anew(self) -> None:
        """Work out everything."""
        reading = self._reading()
        wanted: list[dict[str, Policy]] = [{} for _ in self._sets]
        for name, policies in reading.everything(breathe):
            for table, of in zip(wanted, policies, strict=True):
                if of:
                    table[name] = of
        listed = dict.fromkeys(name for name, _ in self._rules.index.items())
        for table in wanted:
            listed |= dict.fromkeys(table)
        self._known = KnownNames(listed)
        for each, table in zip(self._sets, wanted, strict=True):
            each.layers.want_only(table)
        self._complain(reading)

    def _publish_all(self) -> list[Zone]:
        told: list[Zone] = []
        now, monotonic = self._clock(), time.monotonic()
        for each in self._sets:
            if each.is_new or each.layers.misplaced() > self._pace.bulk:
                told += each.fold(now, monotonic)
                each.is_new = False
            told = [*each.publish_front(self._known, now), *told]
        return told

    def _keep_up(self) -> list[Zone]:
        """Do what is due: write the bulk anew, and take out of the front what resolvers have had the time to take over."""
        told: list[Zone] = []
        now, monotonic = self._clock(), time.monotonic()
        if monotonic < self._changed_at + min(_QUIET, self._pace.settle):
            return told
        for each in self._sets:
            layers = each.layers
            wanted = layers.misplaced() > self._pace.most or layers.undone()
            if wanted and (not each.folded or monotonic >= each.folded + self._pace.settle):
                told += each.fold(now, monotonic)
            since = layers.lingers_since
            if since is not None and monotonic >= since + self._pace.settle:
                layers.settle(monotonic - self._pace.settle)
                told += each.publish_front(self._known, now)
        return told

    def _reading(self) -> Reading:
        return Reading(self._rules, self._at, self._clients, longest=self._longest)

    def _complain(self, reading: Reading) -> None:
        """Say what cannot be said to resolvers, once."""
        if new := {*reading.unwritable} - {*self._unwritable}:
            self._unwritable = (*self._unwritable, *sorted(new))
            _LOG.error("cdnblock: %d names fit into no policy zone, such as %s", len(new), min(new))
        divided = tuple(
            f"order {order.id} concerns some of the clients {clients.name!r} ({', '.join(clients.places)}) only,"
            " and is enforced for all of them"
            for order in self._rules.orders.values()
            for clients in self._clients
            if Measure.DNS in order.measures and clients.divided_by(order)
        )
        for message in divided:
            if message not in self._divided:
                _LOG.error("cdnblock: %s", message)
        self._divided = divided

    def _now(self) -> datetime:
        try:
            return datetime.fromtimestamp(self._clock(), UTC)
        except (OverflowError, ValueError, OSError):
            return datetime.max.replace(tzinfo=UTC)
