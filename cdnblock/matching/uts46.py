"""UTS 46 (https://www.unicode.org/reports/tr46/) for hostile text: ada does the work, and is spared what cannot fit.

What ada takes grows with the square of a label's length, and every character costs as much as a whole ASCII name. So
what must come out too long is refused before it is converted, and long text is converted bit by bit: UTS 46 works on
each label alone, once the dots are known.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

import ada_url

MAX_CHARACTERS: Final = 254  # of a name of 253 octets and a last dot: no character becomes less than one octet
_MAX_LABEL: Final = 63  # octets, so characters too
_PIECE: Final = 48  # characters that are converted at once, and the rest of the label in which they end
_SHORT: Final = 64  # characters that need not be cut
_SHORTISH: Final = 150  # nor need these, in labels none of which is long

_DOTS: Final = ("\u3002", "\uff0e", "\uff61")  # what becomes a dot
_LABELS_FIT: Final = re.compile(rf"(?:[^.]{{0,{_MAX_LABEL}}}+\.)*+[^.]{{0,{_MAX_LABEL}}}+\Z")
_SHORT_LABELS: Final = re.compile(r"(?:[^.]{0,32}+\.)*+[^.]{0,32}+\Z")
# What UTS 46 leaves out, as far as anybody has a reason to write it: soft hyphens, joiners, byte order marks, the
# choice between text and emoji.
_LEFT_OUT: Final = ("\u00ad", "\u200b", "\u2060", "\ufeff", "\ufe0e", "\ufe0f")
# Whatever the Normalization Form C takes into the character before it: marks, and the ends of Hangul syllables.
_COMBINING: Final = re.compile(
    "[\u0300-\u0345\u0653-\u0655\u093c\u09be\u09d7\u0b3e\u0b56\u0b57\u0bbe\u0bd7\u0c56\u0cc2\u0cd5\u0cd6\u0d3e\u0d57"
    "\u0dca\u0dcf\u0ddf\u102e\u1161-\u1175\u11a8-\u11c2\u1b35\u3099\u309a\U000110ba-\U00011930]"
)
_MANY_MARKS: Final = re.compile(r"\W{8}")  # perhaps: sorting them takes the square of their number
# The only mark that UTS 46 maps to something that is none; with that done, it makes the same of a text and its form C.
_IOTA_BELOW, _IOTA = "\u0345", "\u03b9"
_A_LABEL: Final = "xn--"
_NOT_ASCII: Final = "\u00fc."
_ITS_ASCII: Final = "xn--tda."
_TWO_SENTENCES: Final = ("\ufdfa", "\ufdfb")  # what one character becomes; no host has their spaces


def to_ascii(text: str) -> str | None:
    """Return the ASCII form of a name by UTS 46, non-transitional; its length is not judged. None where it has none.

    Also None for what cannot have 253 octets, or a label of 63: a name that has more than 254 characters, or a label
    more than 63, those left out that nobody sees. Decomposed text (NFD) is counted as it is composed, unless eight
    marks follow each other.
    """
    if "\0" in text or _TWO_SENTENCES[0] in text or _TWO_SENTENCES[1] in text:
        return None
    if len(text) <= _SHORT:
        return _converted(text)
    for dot in _DOTS:
        text = text.replace(dot, ".")
    if len(text) <= _SHORTISH and _SHORT_LABELS.match(text):
        return _converted(text)
    if not _may_fit(text) and not _may_fit(text := _counted(text)):
        return None
    converted = ""
    start, enough = 0, _PIECE
    while start < len(text):
        end = text.find(".", start + enough, -_PIECE) + 1 or len(text)
        piece = _converted(text[start:end])
        if piece is None or len(converted) + len(piece) > MAX_CHARACTERS:
            return None
        converted += piece
        if _A_LABEL in piece:  # if it goes on like this, that many characters and some more are too many
            enough = _PIECE // 2 + (MAX_CHARACTERS - len(converted)) * (end - start) // len(piece)
        start = end
    return converted


def _may_fit(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS and _LABELS_FIT.match(text) is not None


def _counted(text: str) -> str:
    """Return the same name in as many characters as are counted."""
    for character in _LEFT_OUT:
        text = text.replace(character, "")
    if _COMBINING.search(text) and not _MANY_MARKS.search(text):
        text = normalize("NFC", text.replace(_IOTA_BELOW, _IOTA))
    return text


def _converted(text: str) -> str | None:
    """Return the ASCII form of some labels, None where there is none; of what nobody sees it is nothing."""
    if text.isascii():
        lower = text.lower()
        if _A_LABEL not in lower:
            return lower
        # In text that is all ASCII, ada lets A-labels pass that are none.
        return converted[len(_ITS_ASCII) :] if (converted := _by_ada(_NOT_ASCII + text)) else None
    return _by_ada(text) or (None if any(character not in _LEFT_OUT for character in text) else "")


def _by_ada(text: str) -> str | None:
    try:
        return ada_url.idna.encode(text).decode("ascii")
    except ValueError:
        return None
