"""The generation of a host: what a cache makes part of its key, so that measure `cdn` purges it by a new key.

The rule. A host's generation changes at each instant at which measure `cdn` starts or ends for its name anywhere, and
whenever an order that asks for it changes; it never returns to a value that it had, also not when the order's file is gone
or the service was restarted. What was stored before is then under a key that nobody asks for any more, and so is what
was on its way meanwhile. A host that measure `cdn` never meant keeps one generation for ever.

    EPOCH                 a host that measure `cdn` never meant: drawn once, and kept in the state folder
    EPOCH-RUN-NUMBER      any other: RUN is drawn at each start of the service, NUMBER counts up in it

The file holds the epoch and every name that measure `cdn` ever meant; it only grows, and a name is on the disk before
its first new generation is told. Without a state folder, or where the file is lost or damaged, the epoch is a new one:
then every host's stored copies are out of reach, which is the safe side.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import Name
from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures import cache_disable
from cdnblock.orders.model import Measure

FILE: Final = "cache-generations"

_MEMO: Final = 16_384  # hosts whose generation is remembered
_MAX_HOST: Final = 256  # characters; longer spellings are hostile and not remembered
_FOREVER: Final = float("inf")
_FIRST_LINE: Final = re.compile(r"epoch ([0-9a-f]{12})\Z")
_LOG: Final = logging.getLogger("cdnblock.adapters.decision_service")

Entry: TypeAlias = tuple[str, bool]
"""A canonical name, and whether everything below it is meant too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The generations of all hosts from one change of anything to the next. Immutable but for its memory."""

    rules: RuleSet
    since: float
    until: float
    base: str
    run: str
    numbers: dict[Entry, int]
    uncached: frozenset[Entry]
    _memo: dict[Name, str] = field(default_factory=dict)

    def holds(self, rules: RuleSet, now: float) -> bool:
        """Tell whether nothing has changed since; asked after a decision, the two belong together."""
        return rules is self.rules and self.since <= now < self.until

    def of(self, host: Name) -> str:
        """Return the generation of a host as a request spells it."""
        found = self._memo.get(host)
        if found is None:
            found = self._found(host)
            if len(host) <= _MAX_HOST:
                if len(self._memo) >= _MEMO:
                    self._memo.clear()
                self._memo[host] = found
        return found

    def ever_meant(self, host: Name) -> bool:
        """Tell whether measure `cdn` ever meant this host."""
        return self.of(host) is not self.base

    def _found(self, host: Name) -> str:
        name = canonical(host)
        if name is None:
            return self.base
        number = max(
            [self.numbers.get((name, False), -1), *(self.numbers.get((up, True), -1) for up in _upwards(name))]
        )
        return self.base if number < 0 else f"{self.base}-{self.run}-{number}"


class Generations:
    """Follows one enforcer. `folder` is its state folder, None for none; `clock` must be the enforcer's.

    `standing` may be read from any thread; what changes it runs on the enforcer's threads.
    """

    def __init__(self, enforcer: Enforcer, *, folder: Path | None, clock: Callable[[], float]) -> None:
        self._enforcer = enforcer
        self.clock = clock
        self._path = None if folder is None else folder / FILE
        epoch, names = _read(self._path)
        run = secrets.token_hex(4)
        rules, now = enforcer.rules, clock()
        uncached = _meant(rules, now)
        self._remember(uncached - names, epoch)
        self._number = 0
        self.standing = Standing(
            rules=rules, since=now, until=_until(rules, now), base=epoch, run=run,
            numbers=dict.fromkeys(names | uncached, 0), uncached=uncached,
        )  # fmt: skip

    def follow(self) -> Callable[[], None]:
        """Recount after each change; return the function that ends it."""
        unsubscribe = self._enforcer.subscribe(lambda _old, _new: self.recount())
        self.recount()  # what has changed since it was made
        return unsubscribe

    def recount(self) -> None:
        """Give a new generation to what measure `cdn` starts or stops to mean.

        Where an order itself has changed, the measure may hold for other clients of the same names: then to all of its.
        """
        before, rules, now = self.standing, self._enforcer.rules, self.clock()
        if before.holds(rules, now):
            return
        uncached = _meant(rules, now)
        changed = cache_disable.to_purge(before.uncached, uncached) | _of_changed_orders(before.rules, rules, now)
        self._remember(changed - before.numbers.keys(), before.base)
        self._number += 1
        self.standing = Standing(
            rules=rules, since=now, until=_until(rules, now), base=before.base, run=before.run,
            numbers=before.numbers | dict.fromkeys(changed, self._number), uncached=uncached,
        )  # fmt: skip

    def _remember(self, names: Collection[Entry], epoch: str) -> None:
        """Put names on the disk. Where that fails the file goes, so that the next start draws a new epoch."""
        if self._path is None or not (names or not self._path.exists()):
            return
        lines = "".join(f"{'' if below else '='}{name}\n" for name, below in sorted(names))
        try:
            text = lines if self._path.exists() else f"epoch {epoch}\n{lines}"
            with self._path.open("ab") as file:
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _LOG.error("cdnblock: %s cannot be kept (%s); purge by hand what caches hold of it", self._path, error)
            with suppress(OSError):
                self._path.unlink()
            self._path = None


def _read(path: Path | None) -> tuple[str, frozenset[Entry]]:
    """Return the epoch and the names that a file keeps; a new epoch where there is none. Removes a damaged file."""
    if path is not None and path.exists():
        try:
            first, *lines = _whole_lines(path)
            if found := _FIRST_LINE.match(first):
                return found[1], frozenset(_entries(lines))
        except (OSError, ValueError) as error:
            _LOG.warning("cdnblock: %s cannot be read (%s); all caches start anew", path, error)
        with suppress(OSError):
            path.unlink()
    return secrets.token_hex(6), frozenset()


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file without what a process that was killed left half written: none of it was ever told."""
    octets = path.read_bytes()
    whole = octets[: octets.rfind(b"\n") + 1]
    if whole != octets:
        os.truncate(path, len(whole))
    return whole.decode("ascii").split("\n")


def _entries(lines: Iterable[str]) -> Iterable[Entry]:
    return ((line.removeprefix("="), not line.startswith("=")) for line in lines if line)


def _meant(rules: RuleSet, now: float) -> frozenset[Entry]:
    return rules.covered_names(Measure.CDN, datetime.fromtimestamp(now, UTC))


def _of_changed_orders(old: RuleSet, new: RuleSet, now: float) -> frozenset[Entry]:
    """Return what measure `cdn` means by the orders that are not in both, or not the same in both."""
    found: frozenset[Entry] = frozenset()
    for mine, others in ((old, new), (new, old)):
        changed = [order for order in mine.orders.values() if others.orders.get(order.id) != order]
        found |= _meant(RuleSet(changed), now) if changed else frozenset()
    return found


def _until(rules: RuleSet, now: float) -> float:
    change = rules.next_change(datetime.fromtimestamp(now, UTC))
    return _FOREVER if change is None else change.timestamp()


def _upwards(name: str) -> Iterable[str]:
    while name:
        yield name
        name = name.partition(".")[2]
