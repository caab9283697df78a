"""What two texts of many lines say differently, found without looking at each line where it is in one place. Pure."""

from __future__ import annotations

from typing import Final

from cdnblock.orders.text_file import common_end, common_start

_COMMENTS: Final = (b"#", b"//", b"--", b";")


def without_header(text: bytes) -> bytes:
    """Return a file without the comments that it begins with, in any of our targets' languages."""
    start = 0
    while text.startswith(_COMMENTS, start):
        start = text.find(b"\n", start) + 1 or len(text)
    return text[start:]


def lines_of_one(before: bytes, after: bytes) -> tuple[set[bytes], set[bytes]]:
    """Return the lines that only the one text has below its header, and those that only the other has.

    A line that a text has several times may be among them although the other text has it, too.
    """
    old, new = without_header(before), without_header(after)
    start = old.rfind(b"\n", 0, common_start(old, new)) + 1
    old, new = old[start:], new[start:]
    shared = common_end(old, new)
    if shared:  # from the end of a line on
        shared = len(old) - (old.find(b"\n", len(old) - shared) + 1 or len(old))
    mine, theirs = ({*text[: len(text) - shared].split(b"\n")} - {b""} for text in (old, new))
    return mine - theirs, theirs - mine
