"""The fields that every answer carries: nothing is fetched from elsewhere, kept, framed, or run that is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from cdnblock.dashboard.assets import Asset

# https://www.w3.org/TR/CSP3/; everything that is not named falls back to 'none'.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
}
NOT_STORED: Final = "no-store"
FOR_GOOD: Final = "public, max-age=31536000, immutable"  # the address of such a file holds its hash


def html(text: str, status: int = 200) -> web.Response:
    """Return a page; whatever cannot be written in UTF-8 was replaced before."""
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def plain(text: str, status: int, **fields: str) -> web.Response:
    """Return a sentence."""
    return web.Response(text=f"{text}\n", status=status, headers=fields)


def asset(found: Asset) -> web.Response:
    """Return one of our files."""
    answer = web.Response(body=found.content, content_type=found.type, charset="utf-8")
    answer.headers["Cache-Control"] = FOR_GOOD
    return answer


def secured(answer: web.StreamResponse) -> web.StreamResponse:
    """Return an answer with the fields that all carry."""
    answer.headers.update(SECURITY)
    answer.headers.setdefault("Cache-Control", NOT_STORED)
    answer.headers["Server"] = "cdnblock"
    return answer
