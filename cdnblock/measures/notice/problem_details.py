"""The notice as problem details for programs (RFC 9457)."""

from __future__ import annotations

from cdnblock.measures.notice.contents import Contents
from cdnblock.shown import json_text


def render(contents: Contents, status: int, reason: str) -> str:
    """Return the JSON text. `orders` is our extension member; `title` is the status phrase, as `about:blank` asks."""
    problem = {
        "type": "about:blank",
        "title": reason,
        "status": status,
        "detail": contents.sentence(),
        "operator": contents.operator,
        "contact": contents.contact,
        "orders": [section.members for section in contents.sections],
    }
    return json_text(problem, indent=2) + "\n"
