"""Text of orders and trails, made safe for where a report is read: a terminal, Markdown, a spreadsheet.

What cannot be seen is not thrown away but shown: who looks at evidence should see that a right-to-left override stands
in a title. HTML is escaped by its template, JSON by its writer (ASCII alone).
"""

from __future__ import annotations

import re
from typing import Final

from cdnblock.shown import shown

_MARKDOWN: Final = re.compile(r"[\\`*\[\]|~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")  # inside a word _ is no markup
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINK: Final = re.compile(r"://|(?i:\bwww\.)|@")  # what GitHub's Markdown turns into a link by itself
_LINK_ENTITIES: Final = {":": "&#58;", ".": "&#46;", "@": "&#64;"}
_BLOCK: Final = re.compile(r"^(?:[#+=-]|[0-9]+[.)](?=\s|$))")  # what begins a heading, a list or a rule
# https://owasp.org/www-community/attacks/CSV_Injection, and the full-width forms that some programs read alike.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")


def plain(text: str) -> str:
    r"""Return a text on one line, with what cannot be seen written as an escape such as `\u202e`."""
    return shown(" ".join(text.split()))


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: no markup, no link, no HTML, no new cell or line."""
    line = "".join(_ENTITIES.get(c, c) for c in plain(text))
    line = _MARKDOWN.sub(lambda found: "\\" + found[0], line)
    line = _LINK.sub(lambda found: "".join(_LINK_ENTITIES.get(c, c) for c in found[0]), line)
    return _BLOCK.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], line)


def csv_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    line = plain(text)
    return f"'{line}" if line.startswith(_FORMULA) else line
