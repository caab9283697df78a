"""The notice as problem details for programs (RFC 9457)."""

from __future__ import annotations

import json

from cdnblock.measures.notice.contents import Contents


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
    return json.dumps(problem, ensure_ascii=False, indent=2) + "\n"
