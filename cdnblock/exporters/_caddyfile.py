"""The Caddyfile's own spelling: words in which nothing is a placeholder, and blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

_SPECIAL: Final = {"{": "brace", "`": "tick", "\\": "backslash"}
"""Characters that a word between backticks cannot hold, or that begin something: variables of ours hold them."""

_ON_A_LINE: Final = 12  # words


def quoted(text: str) -> str:
    """Return text as one word, in which nothing is a placeholder, an environment variable or an escape."""
    return "`" + "".join(f"{{http.vars.cdnblock_{_SPECIAL[c]}}}" if c in _SPECIAL else c for c in text) + "`"


def special_characters() -> Iterator[str]:
    """Yield what `quoted` relies on; a word that is nothing but a brace is a block's for some releases of Caddy."""
    yield "vars cdnblock_braced `x{x`"
    yield "@cdnblock_braced vars_regexp cdnblock_braced {http.vars.cdnblock_braced} `x(.)x`"
    yield "vars @cdnblock_braced cdnblock_brace {http.regexp.cdnblock_braced.1}"
    yield 'vars cdnblock_tick "`"'
    yield "vars cdnblock_backslash `\\`"


def block(head: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield a block, its lines one step further in."""
    yield f"{head} {{"
    yield from (f"\t{line}" for line in lines)
    yield "}"


def matcher(name: str, *conditions: Iterable[str]) -> Iterator[str]:
    """Yield the definition of a matcher all of whose conditions have to hold."""
    yield from block(f"@{name}", (line for condition in conditions for line in condition))


def words(kind: str, values: Iterable[str]) -> Iterator[str]:
    """Yield a condition with any number of values, some on each line: Caddy takes lines of one kind together."""
    found = [*values]
    for start in range(0, len(found), _ON_A_LINE):
        yield f"{kind} {' '.join(found[start : start + _ON_A_LINE])}"
