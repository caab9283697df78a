"""Repeats are counted: of each group the first is told at once, and the others together when the minute ends.

A group is one order, one of its names, a measure, a country, an adapter and what was done. Bounded: beyond so many
groups in one minute, those of an order, measure and country are counted together, with how many names they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cdnblock.audit.records import Kind, rfc3339
from cdnblock.audit.tally import Hit

MOST_GROUPS: Final = 5_000  # in one minute: 2 MB of records, and about 10 MB of memory
_MOST_HOSTS: Final = 16  # of a group that are told apart
_SHOWN_HOSTS: Final = 8
_MOST_NAMES: Final = 50_000  # of which it is remembered whether they were counted already

_WOULD: Final = "would"


@dataclass(slots=True)
class _Group:
    """What was counted of one group and not told yet."""

    example: Hit
    first: float = 0.0
    last: float = 0.0
    count: int = 0
    hosts: Counter[str] = field(default_factory=Counter)
    others: int = 0
    names: int | None = None

    def add(self, hit: Hit, times: int, first: float) -> None:
        self.first = min(self.first, first) if self.count else first
        self.last = max(self.last, hit.last)
        self.count += times
        if hit.host is not None and (hit.host in self.hosts or len(self.hosts) < _MOST_HOSTS):
            self.hosts[hit.host] += times
        else:
            self.others += times


class Minutes:
    """The groups of the minute that runs."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._folds: dict[tuple[Any, ...], _Group] = {}
        self._names: set[int] = set()

    def __len__(self) -> int:
        """How many enforcements are counted and not told yet."""
        return sum(group.count for group in (*self._groups.values(), *self._folds.values()))

    def add(self, hit: Hit, *, tell: bool = True) -> Hit | None:
        """Count a hit; return it when it is the first of its group and to be told at once, which `tell` allows."""
        if hit.names is not None:
            self._fold(hit, hit.names)
            return None
        key = (hit.order, hit.name, hit.measure, hit.country, hit.adapter, hit.action)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                name = hash((hit.order, hit.name or hit.host))
                is_new = name not in self._names and len(self._names) < _MOST_NAMES
                self._names.add(name) if is_new else None
                self._fold(hit, int(is_new))
                return None
            group = self._groups[key] = _Group(hit)
            if tell:
                if hit.times > 1:
                    group.add(hit, hit.times - 1, hit.first)
                return hit
        group.add(hit, hit.times, hit.first)
        return None

    def end(self) -> Iterator[tuple[float, Hit, dict[str, Any]]]:
        """Yield what was counted: when it was last, an example, and the fields of its record; then everything is new."""
        groups = [*self._groups.values(), *self._folds.values()]
        self._groups, self._folds, self._names = {}, {}, set()
        for group in groups:
            if group.count:
                yield group.last, group.example, _counted_fields(group)

    def _fold(self, hit: Hit, names: int) -> None:
        key = (hit.order, hit.measure, hit.country, hit.adapter, hit.action)
        group = self._folds.get(key)
        if group is None:
            group = self._folds[key] = _Group(hit._replace(name=None, notice=None, host=None), names=0)
        group.add(hit._replace(host=None), hit.times, hit.first)
        group.names = max(group.names or 0, names) if hit.names is not None else (group.names or 0) + names


def first_fields(hit: Hit, client: str | None, file: str | None) -> tuple[Kind, dict[str, Any]]:
    """Return the kind and the fields of the record of one enforcement."""
    kind = Kind.WOULD if hit.action == _WOULD else Kind.ENFORCED
    return kind, _fields(hit) | {"client": client, "file": file, "count": 1}


def _counted_fields(group: _Group) -> dict[str, Any]:
    """Return the fields of the record of many."""
    of = Kind.WOULD if group.example.action == _WOULD else Kind.ENFORCED
    fields = {"of": str(of)} | _fields(group.example) | {"client": None, "count": group.count}
    fields |= {"first": rfc3339(group.first), "last": rfc3339(group.last)}
    if group.names is not None:
        return fields | {"host": None, "names": group.names}
    shown = dict(group.hosts.most_common(_SHOWN_HOSTS))
    others = {
        "hosts": len(group.hosts) - len(shown) + bool(group.others),  # at least so many
        "count": group.count - sum(shown.values()),
    }
    host = next(iter(shown)) if len(shown) == 1 and not group.others else None
    return fields | {"host": host, "hosts": shown, "others": others}


def _fields(hit: Hit) -> dict[str, Any]:
    return {
        "order": hit.order,
        "name": hit.name,
        "notice": hit.notice,
        "host": hit.host,
        "measure": hit.measure,
        "variant": hit.variant,
        "country": hit.country,
        "adapter": hit.adapter,
        "action": hit.action,
        "revision": hit.revision,
    }
