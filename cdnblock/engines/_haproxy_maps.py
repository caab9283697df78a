"""HAProxy's maps as texts: what two of them say differently, and what is right for both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from itertools import groupby
from typing import Final

from cdnblock.engines._lines import lines_of_one
from cdnblock.exporters._plan import OTHER

_CHUNK: Final = 15_000  # octets of a command: HAProxy takes 16 384 at a time

Map = Mapping[str, str]


def tally(text: bytes, *, shown: bool = False) -> tuple[int, int]:
    """Return how many entries a map has and a sum over them, whatever their order: alike for maps that are the same.

    `text` is a file, or with `shown` what HAProxy shows, in which an address stands before each entry. The sum
    means nothing to another process.
    """
    lines = (line.strip() for line in BytesIO(text))
    if shown:
        lines = (line.partition(b" ")[2] for line in lines)
    hashes = [hash(line) for line in lines if line and not line.startswith(b"#")]
    return len(hashes), sum(hashes)


def read_map(text: bytes) -> dict[str, str]:
    """Return what a map's file says: each key with its value."""
    lines = (line.partition(" ") for line in text.decode().split("\n") if line and not line.startswith("#"))
    return {key: value for key, _, value in lines}


def of_either(before: bytes, after: bytes) -> bytes:
    """Return a file with the entries of both; where they have the same key, the value of before."""
    return b"".join(f"{key} {value}\n".encode() for key, value in {**read_map(after), **read_map(before)}.items())


def differing(before: bytes, after: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return what two files of a map say differently: the entries of before, and those of after."""
    old, new = lines_of_one(before, after)
    return read_map(b"\n".join(old)), read_map(b"\n".join(new))


def bridge(before: Map, after: Map, places: Iterable[str]) -> dict[str, str]:
    """Return actions that are right for hosts and networks of before as of after, in any mixture of these.

    A place that one side does not know is there what other countries are.
    """
    both = {**before, **after}
    others = [(key.partition(":")[2], value) for key, value in both.items() if key.startswith(f"{OTHER}:")]
    elsewhere = {f"{place}:{group}": value for place in places for group, value in others}
    for side in (before, after):
        known = {key.partition(":")[0] for key in side}
        groups = {key.partition(":")[2] for key in side}
        for key in [*elsewhere]:
            place, _, group = key.partition(":")
            if group in groups and place in known and key not in side:
                del elsewhere[key]  # that side has such clients go free
    return {**elsewhere, **both}


def added(before: Map, after: Map) -> list[dict[str, str]]:
    """Return the entries that are new, the deepest names first, those of one depth together.

    A host goes by its longest name, which is looked for from the deepest on while maps change. Who makes these changes
    one after the other, then those of values, and then takes away what is gone, shallowest first, and waits between them
    until nobody is any longer on his way since before, has each host decided at every moment as before or as after.
    """
    news = sorted(after.keys() - before.keys(), key=_depth, reverse=True)
    return [{key: after[key] for key in keys} for _, keys in groupby(news, _depth)]


def changed(before: Map, after: Map) -> dict[str, str]:
    """Return the entries whose value is another."""
    return {key: value for key, value in after.items() if before.get(key, value) != value}


def removed(before: Map, after: Map) -> list[str]:
    """Return the keys that are gone, the shallowest names first."""
    return sorted(before.keys() - after.keys(), key=_depth)


def _depth(key: str) -> tuple[bool, int]:
    return key.startswith("="), key.count(".")


def chunks(entries: Map) -> Iterator[str]:
    """Yield the entries as lines, in texts that are short enough for a command."""
    lines: list[str] = []
    size = 0
    for key, value in entries.items():
        line = f"{key} {value}\n"
        if lines and size + len(line.encode()) > _CHUNK:
            yield "".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line.encode())
    if lines:
        yield "".join(lines)
