"""Names for a look-up in one pass over a host, in a language that has nothing but strings: no table is ever built.

A name's bucket is the CRC-32 of its letters from the right, so that whoever walks a host from the right has the bucket
of each of its suffixes on the way. The names stand bucket by bucket, a line each; an index says where each bucket begins.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from cdnblock.exporters._plan import Group, Plan

FREE: Final = "-"
"""What stands in place of a group behind a name that is let go below one that is not."""

_DIGITS: Final = tuple(map(chr, range(ord("0"), ord("0") + 64)))
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedNames:
    """`lines` has `name group` for a name and all below it, `name=group` for a name alone; the longest name counts.

    `index` has five digits of base 64 (from `0` on, by ASCII) for each bucket: how many octets of `lines` stand before
    it; and five more for the end. A bucket is the checksum's last bits, as many as `mask` has.
    """

    lines: str
    index: str
    mask: int


def hashed_names(plan: Plan) -> HashedNames:
    """Return the names of a plan, about one in each bucket."""
    wanted = [*_entries(plan.suffixes, " "), *_entries(plan.exact, "=")]
    count = 1 << max(0, len(wanted) - 1).bit_length()
    buckets: list[list[str]] = [[] for _ in range(count)]
    for name, line in wanted:
        buckets[zlib.crc32(name[::-1].encode()) & (count - 1)].append(line)
    texts = ["".join(sorted(bucket)) for bucket in buckets]
    starts = accumulate(map(len, texts), initial=0)
    return HashedNames(lines="".join(texts), index="".join(map(_digits, starts)), mask=count - 1)


def _entries(table: Mapping[str, Group | None], mark: str) -> Iterator[tuple[str, str]]:
    for name, group in table.items():
        yield name, f"{name}{mark}{group.id if group else FREE}\n"


def _digits(number: int) -> str:
    return _DIGITS[number >> 24] + _PAIRS[number >> 12 & 0xFFF] + _PAIRS[number & 0xFFF]
