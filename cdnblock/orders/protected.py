"""Names that an order can hardly mean: public suffixes, and what is on the protected list.

Both really happened: on 19 October 2024 a ticket took Google Drive from Italy, on 13 May 2023 t.me was blocked in
France because orders on URLs had been turned into one on their host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

from cdnblock.errors import Problem
from cdnblock.matching.names import canonical
from cdnblock.orders.host_names import host_name
from cdnblock.orders.text_file import cut, read_entries

MAX_PROBLEMS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Protected:
    """The protected names (canonical), each with where it is listed, such as `protected.txt:12`."""

    names: Mapping[str, str] = field(default_factory=dict)
    above: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """Each protected name and every name above one -> that protected name."""
    _suspects: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        above: dict[str, str] = {}
        for name in self.names:
            parent = name
            while parent:
                above.setdefault(parent, name)
                parent = parent.partition(".")[2]
        above.update({name: name for name in self.names})
        object.__setattr__(self, "above", above)
        object.__setattr__(self, "_suspects", frozenset(above).union(_rules() or ()))

    def __or__(self, other: Protected) -> Protected:
        """Return the names of both."""
        return Protected({**self.names, **other.names})

    def too_broad(self, name: str) -> str | None:
        """Tell why a canonical name reaches beyond what an order can mean, or None if it does not."""
        if is_public_suffix(name):
            return f"`{name}` is a public suffix, below which anybody has names"
        protected = self.above.get(name)
        if protected == name:
            return f"`{name}` is on the protected list ({self.names[protected]})"
        if protected is not None:
            return f"`{name}` stands above `{protected}`, which is on the protected list ({self.names[protected]})"
        return None

    def maybe_too_broad(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of many canonical names that `too_broad` must look at; all others are fine."""
        if _rules() is None:
            return frozenset(names)
        every = names if isinstance(names, Collection) else tuple(names)
        wild = _wild()
        # A wildcard rule `*.ck` makes `any.ck` a public suffix, so the parents are looked up as well.
        below = {name for name in every if name.partition(".")[2] in wild}
        return self._suspects.intersection(every).union(below)


def is_public_suffix(name: str) -> bool:
    """Tell whether anybody can register names below this one (publicsuffix.org, its private section included)."""
    return bool(_list().is_public(name))


def parse_protected(data: bytes, file: str, shown: str | None = None) -> tuple[Protected, tuple[Problem, ...]]:
    """Read a protected list: a name a line, `#` comments. What is no name is a problem, and the rest still holds.

    `shown` is how messages call the file.
    """
    names: dict[str, str] = {}

    def take(line: int, entry: str) -> None:
        names[_label_or_name(entry)] = f"{shown or file}:{line}"

    problems = read_entries(data, file, take, most=MAX_PROBLEMS)
    return Protected(names), problems


def _label_or_name(entry: str) -> str:
    """Protected may be what no order could name, a top-level domain."""
    name = canonical(entry)
    return name if name is not None and "." not in name and cut(entry).isascii() else host_name(entry)


@lru_cache(maxsize=1)
def _list() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=1)
def _rules() -> frozenset[str] | None:
    """Return the rules of the public suffix list, and what its wildcard rules stand below."""
    # No public name for it: with the rules, one set intersection replaces a call for each of a million names.
    rules = getattr(_list(), "_publicsuffix", None)
    return rules.union(_below_wildcards(rules)) if isinstance(rules, frozenset) else None


@lru_cache(maxsize=1)
def _wild() -> frozenset[str]:
    return frozenset(_below_wildcards(_rules() or ()))


def _below_wildcards(rules: Iterable[str]) -> Iterator[str]:
    return (rule.removeprefix("*.") for rule in rules if rule.startswith("*."))
