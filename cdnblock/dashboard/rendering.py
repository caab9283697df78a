"""Values into HTML: the one place where text from outside meets markup.

Every expression of every template passes `seen` before it is escaped: characters that nobody can see, that reorder
what stands beside them or that steer a terminal come out as escapes, wherever they were hidden. A template cannot
forget it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cdnblock.dashboard.assets import assets
from cdnblock.dashboard.language import Wording
from cdnblock.matching.names import to_unicode
from cdnblock.shown import shown

_ONCE: Final = frozenset({"part", "seen", "told", "verify"})  # what an address asks for that is not the page itself
_LINKED: Final = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a page: its path, the query as a mapping (last wins), how it is to be shown, and the instant."""

    path: str
    query: Mapping[str, str]
    wording: Wording
    theme: str
    now: datetime
    logged_in: bool = False

    def address(self, **changes: object) -> str:
        """Return this page's address with other parameters; those that are None or empty go."""
        kept = {name: value for name, value in self.query.items() if name not in _ONCE}
        wanted = kept | {name: "" if value is None else str(value) for name, value in changes.items()}
        query = urlencode({name: value for name, value in wanted.items() if value}, errors="replace")
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page is made from: a template, its values, and the HTTP status."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


def seen(value: Any) -> Any:
    """Return a value of a template without characters that hide, reorder or steer; markup of ours stays as it is."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(page: Page, asked: Asked, common: Mapping[str, Any], *, block: str | None = None) -> str:
    """Return a page as HTML, or one block of it."""
    template = _environment().get_template(page.template)
    values = {**common, **_told(asked), **page.values}
    if block is None:
        return template.render(values)
    return "".join(template.blocks[block](template.new_context(values)))


def web_address(text: str | None) -> str | None:
    """Return a text from an order if it is the address of a web page, None for anything else, such as a script."""
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return None
    is_plain = text is not None and text.isprintable() and " " not in text
    return text if is_plain and parts.scheme in _LINKED and parts.netloc else None


def _told(asked: Asked) -> Mapping[str, Any]:
    """Return what every template may use: the words, and functions that write dates in them."""
    wording = asked.wording
    return {
        "_": wording,
        "asked": asked,
        "assets": assets(),
        "language": wording.language,
        "number": wording.number,
        "away": lambda instant: wording.away(instant, asked.now),
        "instant": lambda instant, zone=None: _time(instant, wording.instant(instant, zone)),
        "country": wording.country,
        "day": lambda day: _time(day, wording.day(day)),
    }


def _time(value: Any, text: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), text)


def _unicode(name: str) -> str:
    """Return a name as people write it, where that differs and can be shown; empty otherwise."""
    unicode = to_unicode(name)
    return "" if unicode == name else unicode


def _path_part(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cdnblock.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=seen,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "unicode_name": _unicode,
        "path_part": _path_part,
        "web_address": web_address,
        "joined": _joined,
        "moment": datetime.fromisoformat,
    }
    return environment
