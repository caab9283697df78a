"""What proxies wrote into `X-Forwarded-For` and `Forwarded` (RFC 7239), read from the right. Pure.

The right end is what the nearest proxy wrote; everything left of it may be the client's own invention and must not
change how the right end is read. So nothing here starts at the left, and at most the last 16 KiB of a line are seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from cdnblock.geo.addresses import Address, parse_address

_MAX_LINE: Final = 16 * 1024
_MAX_NODE: Final = 256
_BLANK: Final = " \t"
_PORT: Final = re.compile(r"(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)\Z")  # RFC 7239 §6: node-port may be obfuscated
# One `name=value` of RFC 7239 §4, or nothing, up to `;` or the end. An unquoted value may hold more than the RFC lets
# it: real proxies write `for=[2001:db8::1]:80` without the quotes, and it cannot be taken for anything else.
_PAIR: Final = re.compile(
    r"""[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s",;]+)))?[ \t]*(?:;|\Z)"""
)
_ESCAPE: Final = re.compile(r"\\(.)")


def node_address(node: str) -> Address | None:
    """Return the address of one hop: an address, perhaps in brackets, perhaps with a port; None for anything else.

    `unknown` and obfuscated identifiers (RFC 7239 §6.2, §6.3) are no addresses.
    """
    if len(node) > _MAX_NODE:
        return None
    if node.startswith("["):
        inside, bracket, port = node[1:].partition("]")
        if not bracket or ":" not in inside or (port and not (port[0] == ":" and _PORT.match(port, 1))):
            return None
        return parse_address(inside)
    address, colon, port = node.partition(":")
    if colon and "." in address:
        return parse_address(address) if _PORT.match(port) else None
    return parse_address(node)


def x_forwarded_for_nodes(lines: Sequence[str]) -> Iterator[str | None]:
    """Yield the hops of `X-Forwarded-For` lines from the right; None stands for one that cannot be read."""
    for line in reversed(lines):
        yield from _elements(line, quotes=False)


def forwarded_nodes(lines: Sequence[str]) -> Iterator[str | None]:
    """Yield the `for` of each element of `Forwarded` lines from the right; None stands for one that has none."""
    for line in reversed(lines):
        for element in _elements(line, quotes=True):
            yield None if element is None else _for_of(element)


def _elements(line: str, *, quotes: bool) -> Iterator[str | None]:
    """Yield the elements of a list from the right, without empty ones (RFC 9110 §5.6.1.2); None where it is broken."""
    floor = max(0, len(line) - _MAX_LINE)
    end = len(line)
    while end >= floor:
        comma = _comma_before(end, line, floor) if quotes else line.rfind(",", floor, end)
        if comma is None or (comma < 0 and floor):
            yield None
            return
        element = line[max(comma + 1, floor) : end].strip(_BLANK)
        if element:
            yield element
        end = comma


def _comma_before(end: int, line: str, floor: int) -> int | None:
    """Return where the last comma outside quotes stands, -1 if there is none, None where a quote has no partner."""
    while True:
        comma, closing = line.rfind(",", floor, end), line.rfind('"', floor, end)
        if closing <= comma:
            return comma
        opening = _opening_quote(line, floor, closing)
        if opening < 0:
            return None
        end = opening


def _opening_quote(line: str, floor: int, closing: int) -> int:
    opening = line.rfind('"', floor, closing)
    while opening >= 0:
        unescaped = opening
        while unescaped > floor and line[unescaped - 1] == "\\":
            unescaped -= 1
        if (opening - unescaped) % 2 == 0:
            return opening
        opening = line.rfind('"', floor, opening)
    return -1


def _for_of(element: str) -> str | None:
    """Return the `for` of one element; None if it has none or two (RFC 7239 §4), or is not well-formed."""
    found: str | None = None
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return None
        position = pair.end()
        if (pair["name"] or "").lower() == "for":
            if found is not None:
                return None
            found = pair["plain"] if pair["quoted"] is None else _ESCAPE.sub(r"\1", pair["quoted"])
    return found
