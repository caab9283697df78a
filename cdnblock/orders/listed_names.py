"""Names that an order lists twice, and liftings of names that it never listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain, islice
from typing import Final

from cdnblock.errors import Problem, Severity
from cdnblock.orders.document import dotted
from cdnblock.orders.draft import Draft, Found
from cdnblock.orders.model import Addition, Order, Position
from cdnblock.orders.name_list import name_list
from cdnblock.orders.text_file import cut

MAX_FOUND: Final = 1_000  # of one kind: more would not be read

_COMPARED: Final = 5_000  # names; longer lists are not gone through one by one
_GUESSES: Final = 5  # for how many names it is


def doubled_names(draft: Draft, file: str) -> Iterator[Problem]:
    """Yield a warning for each name that the order lists again; the first thousand of them."""
    doubled = _doubled_among([part for _, part in draft.parts()])
    if doubled:
        yield from islice(_listed_again(draft, file, doubled), MAX_FOUND)


def _doubled_among(parts: Sequence[Order | Addition]) -> frozenset[str]:
    """Return the names that stand in these parts more than once; if there are none, long lists cost next to nothing."""
    files = [name_list(part.names_file.names) for part in parts if part.names_file is not None]
    long = [names for names in files if len(names) > _COMPARED]
    short = [name.name for part in parts for name in part.names]
    short += chain.from_iterable(names for names in files if len(names) <= _COMPARED)
    found = {name for name, count in Counter(short).items() if count > 1}
    for number, names in enumerate(long):
        found |= names.doubled()
        found.update(name for name in short if name in names)
        for others in long[:number]:
            found |= names.common(others)
    return frozenset(found)


def liftings_of_other_names(draft: Draft) -> Iterator[Found]:
    """Yield an error where a lifting names what the order lists neither itself nor above it; the first thousand."""
    lifted = [(path, lifting.names) for path, lifting in draft.liftings if lifting.names]
    if not lifted:
        return
    parts = [part for _, part in draft.parts()]
    files = [part.names_file.names for part in parts if part.names_file is not None]
    long = [names for names in files if len(names) > _COMPARED]
    whole = {name.name for part in parts for name in part.names if name.subdomains}
    whole.update(*(names for names in files if len(names) <= _COMPARED))
    exact = whole.union(name.name for part in parts for name in part.names)

    def is_listed(name: str) -> bool:
        if name in exact or not whole.isdisjoint(_above(name)):
            return True
        return any(other in names for names in long for other in (name, *_above(name)))

    missed = 0
    for path, names in lifted:
        for index, name in enumerate(names):
            if is_listed(name):
                continue
            near = _nearest(name, chain(exact, *long), draft.order.size()) if missed < _GUESSES else None
            missed += 1
            if missed > MAX_FOUND:
                return
            right = f"did you mean `{near}`?" if near else "lift a name that it lists, or one below such a name"
            yield Found((*path, "names", index), f"the order lists neither `{cut(name)}` nor a name above it; {right}")


def _nearest(name: str, names: Iterable[str], count: int) -> str | None:
    likely = {other for other in names if count <= _COMPARED or other[:2] == name[:2]}
    near = get_close_matches(name, sorted(likely)[:_COMPARED], n=1)
    return near[0] if near else None


def _above(name: str) -> Iterator[str]:
    while name := name.partition(".")[2]:
        yield name


def _listed_again(draft: Draft, file: str, doubled: Collection[str]) -> Iterator[Problem]:
    """Yield a warning where a name is listed again to no effect.

    An entry has one when it takes in the sub-domains that the one before left out, or when it notifies anew what was
    lifted in between: without it the name would stay released.
    """
    first: dict[str, Position] = {}
    whole: set[str] = set()
    for key, name, subdomains, position, part in _places(draft, doubled):
        place = position or Position(file, 1)
        before = first.setdefault(name, place)
        widens = subdomains and name not in whole
        if subdomains:
            whole.add(name)
        if before is place or widens or _notified_anew(draft, name, part):
            continue
        where = f"line {before.line}" if before.file == place.file else f"{before}"
        message = f"`{cut(name)}` is listed already, {where}; once is enough"
        yield Problem(
            file=place.file, line=place.line, column=place.column, key=key, message=message, severity=Severity.WARNING
        )


def _notified_anew(draft: Draft, name: str, part: Order | Addition) -> bool:
    """Tell whether an addition lists a name after a lifting that released it."""
    if isinstance(part, Order) or not draft.has("timezone"):
        return False
    notified = draft.instant(part.notified)
    return any(
        draft.instant(lifting.at) <= notified and (lifting.names is None or name in lifting.names)
        for _, lifting in draft.liftings
    )


def _places(draft: Draft, names: Collection[str]) -> Iterator[tuple[str, str, bool, Position | None, Order | Addition]]:
    """Yield each place at which the order or an addition lists one of these names, with the key of its list."""
    for path, part in draft.parts():
        for name in part.names:
            if name.name in names:
                yield dotted((*path, "names")), name.name, name.subdomains, name.position, part
        if (file := part.names_file) is None:
            continue
        for listed, line in zip(file.names, file.lines, strict=True):
            if listed in names:
                yield dotted((*path, "names_file")), listed, True, Position(file.file, line), part
