"""Text from outside, made safe to show on one line of a page, a terminal or a DNS answer."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with runs of white space as one space and without characters that cannot be seen.

    Gone are control characters, line separators, escape sequences' first character, bidirectional overrides,
    zero-width characters and lone surrogates: what could break a line, drive a terminal or reorder a sentence.
    """
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return " ".join("".join(character for character in text if character.isprintable()).split())
