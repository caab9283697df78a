"""What a YAML scalar without quotes stands for: the core schema of YAML 1.2, narrowed.

https://yaml.org/spec/1.2.2/#103-core-schema without octal and hexadecimal numbers, leading zeros, infinities and NaN:
those stay the text they are, as do all dates and times.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?\Z")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
_NUMBER_START: Final = frozenset("0123456789+-.")


def plain_scalar(text: str) -> str | bool | int | Decimal | None:
    """Return what a scalar without quotes stands for."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if text[0] in _NUMBER_START:
        if _INT.match(text):
            return int(text)
        if _FLOAT.match(text) and not _LEADING_ZERO.match(text):
            return Decimal(text)
    return text
