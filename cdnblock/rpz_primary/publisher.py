"""From orders to zones: follows an enforcer, and has each zone on the disk before anybody is told of it.

All of it happens on one thread. What is served is one immutable `Version` for each zone, put in the place of the one
before by a single assignment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from cdnblock.enforcer import Enforcer
from cdnblock.errors import ConfigError
from cdnblock.matching.ruleset import RuleSet
from cdnblock.orders.model import Measure
from cdnblock.rpz_primary.planning import Planning
from cdnblock.rpz_primary.policies import Clients
from cdnblock.rpz_primary.zone_sets import Zone, ZoneSet, longest_name
from cdnblock.sources.owned_folder import open_folder
from cdnblock.sources.slow_release import breathe

_LOG: Final = logging.getLogger("cdnblock.rpz")
_QUIET: Final = 5.0  # seconds without a change before the bulk is written anew, which keeps resolvers busy
_LOOKS: Final = 0.25  # seconds between two looks for what is due
_AGAIN: Final = 1.0  # seconds after which what failed is tried again
_DISK: Final = 1.0  # seconds between two looks whether the files are there
_DISK_AGAIN: Final = 10.0  # seconds more after which they are tried again: a bulk is large
_SHOWN: Final = 100  # names that the status lists at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When the bulk is written anew, and how long (seconds) resolvers have to take that over.

    The bulk takes over what is in front of it when that is more than `most` names, or when it has names that are lifted;
    a change of more than `bulk` names goes into it at once.
    """

    settle: float = 600.0
    most: int = 5_000
    bulk: int = 50_000


def refusals(rules: RuleSet) -> list[str]:
    """Return what is wrong with orders that want REFUSED, which policy zones do not know: it becomes NXDOMAIN."""
    return [
        f"order {order.id}: dns refuse: a policy zone cannot say REFUSED; --partial agrees to NXDOMAIN"
        for order in rules.enforced
        if order.measures.get(Measure.DNS) == "refuse"
    ]


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
        refuses_otherwise: bool = False,
    ) -> None:
        """Bring the zones in `folder` to what the orders say now.

        Raises:
            ConfigError: the folder cannot be used.

        """
        self._enforcer = enforcer
        self._clock = clock
        self._pace = pace or Pace()
        self._refuses_otherwise = refuses_otherwise
        self._path = folder
        self._folder = open_folder(folder)
        self._lost = 0
        self._looked_at = time.monotonic()
        self._sets = [ZoneSet(one, suffix, self._folder) for one in clients]
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._changed_at = time.monotonic()
        self._tell: Callable[[list[Zone]], None] = lambda _: None
        self._said: set[str] = set()
        self._revision = ""
        self._unsubscribe = enforcer.subscribe(self._note)
        layers = [each.layers for each in self._sets]
        longest = longest_name(self._sets)
        self._planning = Planning(enforcer.rules, self._now(), clients, layers, longest=longest)
        for each in self._sets:
            each.take_up(self._changed_at, clock())
        self._follow()
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
        self._unsubscribe()
        self._closing.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)
        for each in self._sets:
            each.close()
        with suppress(OSError):
            os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """Return the zones as JSON has them."""
        return {
            "revision": self._revision,
            "divided": list(self._planning.divided),
            "unwritable": list(self._planning.unwritable[:_SHOWN]),
            "lost_from_disk": self._lost,
            "zones": {
                zone.name: {
                    "serial": zone.version.serial,
                    "names": len(zone.version.policies),
                    "changes": len(zone.version.history),
                    **({"failing": zone.failing} if zone.failing else {}),
                }
                for zone in self.zones.values()
            },
        }

    def _note(self, _old: RuleSet, _new: RuleSet) -> None:
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait(_LOOKS)
            is_changed = self._changed.is_set()
            self._changed.clear()
            if self._closing.is_set():
                return
            try:
                self._look_at_disk()
                told = self._follow() if is_changed else self._keep_up()
            except Exception:  # noqa: BLE001 (logged with its trace; tried again)
                _LOG.exception("cdnblock: the zones stay as they are; tried again in a second")
                self._closing.wait(_AGAIN)
                self._changed.set()
            else:
                if told:
                    self._tell(told)

    def _follow(self) -> list[Zone]:
        """Publish what is different from what was published last."""
        changed = self._planning.follow(self._enforcer.rules, self._now(), breathe)
        self._say()
        if not changed:
            self._revision = self._planning.rules.revision
            return []
        told: list[Zone] = []
        now, self._changed_at = self._clock(), time.monotonic()
        for each in self._sets:
            bulk = []
            if each.is_new or each.layers.misplaced() > self._pace.bulk:
                bulk = each.fold(now, self._changed_at)
            told = [*each.publish_front(self._planning.front(each.layers), now), *told, *bulk]
        self._revision = self._planning.rules.revision
        return told

    def _keep_up(self) -> list[Zone]:
        """Do what is due: write the bulk anew, and take out of the front what resolvers have had the time to take over."""
        told: list[Zone] = []
        settle = self._pace.settle
        now, monotonic = self._clock(), time.monotonic()
        if monotonic < self._changed_at + min(_QUIET, settle):
            return told
        for each in self._sets:
            layers = each.layers
            wanted = layers.misplaced() > self._pace.most or layers.has_lifted()
            if wanted and (each.folded is None or monotonic >= each.folded + settle):
                told += each.fold(now, monotonic)
            since = layers.lingers_since
            if since is not None and monotonic >= since + settle:
                layers.settle(monotonic - settle)
                told += each.publish_front(self._planning.front(layers), now)
        return told

    def _look_at_disk(self) -> None:
        """Write again what somebody took away: it is served from memory, but a restart would not know of it."""
        monotonic = time.monotonic()
        if monotonic < self._looked_at + _DISK:
            return
        self._looked_at = monotonic
        zones = [zone for zone in self.zones.values() if not zone.is_kept()]
        if not zones:
            return
        self._looked_at += _DISK_AGAIN  # if it fails
        news = [zone for zone in zones if not zone.failing]
        self._lost += len(news)
        problem = self._reopened()
        for zone in zones:
            zone.keep()
            zone.failing = problem or zone.failing
        failing = sorted({zone.failing for zone in zones if zone.failing})
        if not failing:
            self._looked_at = monotonic
        if news:
            names = ", ".join(zone.name for zone in news)
            end = f"that fails: {failing[0]}" if failing else "done"
            _LOG.error("cdnblock: %s: files of %s were taken away or changed; writing them again: %s",
                       self._path, names, end)  # fmt: skip
        elif not failing:
            _LOG.warning("cdnblock: %s: zones are kept on disk again", self._path)

    def _reopened(self) -> str:
        """Have the folder there, made anew if it was taken away; return why that cannot be, "" where it is there."""
        try:
            there, own = self._path.stat(), os.fstat(self._folder)
            if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                return ""
        except OSError:
            pass
        try:
            folder = open_folder(self._path)
        except ConfigError as error:
            return str(error)
        os.dup2(folder, self._folder, inheritable=False)  # in its place, for whoever has its number
        os.close(folder)
        return ""

    def _say(self) -> None:
        """Say what cannot be said to resolvers, each once."""
        messages = [f"{name} fits into no policy zone" for name in self._planning.unwritable]
        if not self._refuses_otherwise:
            messages += refusals(self._planning.rules)
        for message in (*self._planning.divided, *messages):
            if message not in self._said:
                self._said.add(message)
                _LOG.error("cdnblock: %s", message)

    def _now(self) -> datetime:
        try:
            return datetime.fromtimestamp(self._clock(), UTC)
        except (OverflowError, ValueError, OSError):
            return datetime.max.replace(tzinfo=UTC)
