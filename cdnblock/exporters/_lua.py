"""Lua's own spelling, and the programs of ours that go into servers."""

from __future__ import annotations

from importlib import resources
from typing import Final

_SHARED: Final = ("-- @WISHES@\n", "_wishes.lua")
"""A line of a program in whose place another one stands: its mark, and its file."""


def in_lua(text: str) -> str:
    """Return text as a string of Lua, on one line; what is not printable ASCII by its octets."""
    plain = {ord("\n"): "\\n", ord('"'): '\\"', ord("\\"): "\\\\"}
    octets = (plain.get(o) or (chr(o) if 0x20 <= o < 0x7F else f"\\{o:03}") for o in text.encode())  # noqa: PLR2004 (ASCII)
    return f'"{"".join(octets)}"'


def long_string(text: str) -> str:
    """Return text as a string of Lua in brackets of a level that the text does not close."""
    level = "="
    while f"]{level}]" in text:
        level += "="
    return f"[{level}[\n{text}]{level}]"


def program_text(name: str) -> str:
    """Return a program of this package, whole."""
    mark, shared = _SHARED
    return _text(name).replace(mark, _text(shared))


def _text(name: str) -> str:
    return resources.files("cdnblock.exporters").joinpath(name).read_text(encoding="utf-8")
