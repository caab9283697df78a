"""What Caddy is told to find out about a request: its host, whose it is, and what its client reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cdnblock.exporters._caddyfile import block, words
from cdnblock.exporters._notice import LANGUAGES, TYPES
from cdnblock.exporters._plan import Plan
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import MEANT_BY

NOBODY: Final = "0.0.0.0"
"""Whose request it is where that cannot be told."""

_HOPS: Final = 4  # trusted proxies between us and a client
_LABEL: Final = "[0-9a-z_-]+"
_HOST: Final = rf"(?i)^(?:({_LABEL}(?:\.{_LABEL})*)\.?|\[[0-9a-f:.]+\])(?::[0-9]*)?$"
# The last element of a list, and what stands before it; those that are empty do not count (RFC 9110 §5.6.1.2).
_LAST: Final = r"^(?:(.*),)?[ \t]*([^, \t](?:[^,]*[^, \t])?)[ \t,]*$"
_NUMBER: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DOTTED: Final = r"\.".join([_NUMBER] * 4)
_PORT: Final = "(?::[0-9]+)?"
_V6: Final = "[0-9a-f:.]*:[0-9a-f:.]*"
# One hop: an address, perhaps in brackets, perhaps with a port; the one of the groups that holds is the address.
_NODE: Final = (
    rf"(?i)^(?:({_DOTTED}){_PORT}|(?:::ffff:)({_DOTTED})|\[::ffff:({_DOTTED})\]{_PORT}"
    rf"|\[({_V6})(?:%[^\]]+)?\]{_PORT}|({_V6})(?:%.+)?)$"
)
_GROUPS: Final = 5
# Weights of RFC 9110 §12.4.2 as patterns, the lowest first.
_WEIGHTS: Final = (
    *(rf";\s*q=0\.{digit}[0-9]*(?:\s*;[^,]*)?" for digit in "123456789"),
    r"(?:;\s*q=1[.0]*(?:\s*;[^,]*)?)?",
)
_PARAMETER: Final = r"(?:;\s*(?:[^q,;=\s][^,;]*|q[^=,;\s][^,;]*))*"


def upgrades() -> Iterator[str]:
    """Yield what lets WebSockets be the only upgrade: what follows another would be requests that nobody decides about."""
    yield "@cdnblock_upgrade header Upgrade *"
    lines = (
        *block("@cdnblock_websocket", ("method GET", "header_regexp Upgrade (?i)^websocket$")),
        *block("@cdnblock_no_websocket not", ("method GET", "header_regexp Upgrade (?i)^websocket$")),
        "request_header @cdnblock_no_websocket -Upgrade",
        "request_header @cdnblock_websocket Upgrade websocket",
        "request_header -HTTP2-Settings",
    )
    yield from block("route @cdnblock_upgrade", lines)


def host() -> Iterator[str]:
    """Yield what takes a host without port and final dot as `cdnblock_host`, and marks what is none."""
    yield from block("vars", ("cdnblock_hostport {http.request.hostport}", 'cdnblock_group ""'))
    yield f"@cdnblock_is_host vars_regexp cdnblock_host {{http.request.hostport}} `{_HOST}`"
    lines = ("cdnblock_is_host yes", "cdnblock_host {http.regexp.cdnblock_host.1}")
    yield from block("vars @cdnblock_is_host", lines)


def client(trusted: tuple[str, ...]) -> Iterator[str]:
    """Yield what sets Caddy's own `client_ip` to the right-most address that no trusted proxy has."""
    yield "vars cdnblock_client_before {http.vars.client_ip}"
    yield "vars client_ip {http.request.remote.host}"
    if trusted:
        yield "vars cdnblock_chain {http.request.header.X-Forwarded-For}"
        yield from _hop(1, trusted)


def _hop(number: int, trusted: tuple[str, ...]) -> Iterator[str]:
    taken, node = f"cdnblock_taken_{number}", f"cdnblock_node_{number}"
    conditions = (*words("client_ip", trusted), f"vars_regexp {taken} {{http.vars.cdnblock_chain}} `{_LAST}`")
    yield from block(f"@{taken}", conditions)
    address = "".join(f"{{http.regexp.{node}.{group}}}" for group in range(1, _GROUPS + 1))
    lines = (
        f"vars cdnblock_hop {{http.regexp.{taken}.2}}",
        f"vars cdnblock_chain {{http.regexp.{taken}.1}}",
        f"vars client_ip {NOBODY}",
        f"@{node} vars_regexp {node} {{http.vars.cdnblock_hop}} `{_NODE}`",
        f"vars @{node} client_ip {address}",
        *(_hop(number + 1, trusted) if number < _HOPS else ()),
    )
    yield from block(f"route @{taken}", lines)


def negotiation(plan: Plan) -> Iterator[str]:
    """Yield what makes `cdnblock_page` the language and type that a client likes best, as they were written."""
    yield f"vars cdnblock_language {default_language(None)}"
    for language in LANGUAGES:
        places = [place for place in plan.countries if default_language(place) == language]
        if places and language != default_language(None):
            yield from block(f"@cdnblock_{language}", words("vars {http.vars.cdnblock_place}", places))
            yield f"vars @cdnblock_{language} cdnblock_language {language}"
    yield from _liked_best("Accept-Language", "language", [f"({'|'.join(LANGUAGES)})(?:-[a-z0-9-]+)?"])
    yield f"vars cdnblock_type {TYPES[0]}"
    anything, *wide = _wide()
    groups = ([anything], wide, [*TYPES, *MEANT_BY])
    yield from _liked_best("Accept", "type", [f"({'|'.join(map(re.escape, names))})" for names in groups])
    yield "vars cdnblock_page {http.vars.cdnblock_language}:{http.vars.cdnblock_type}"


def page(language: str, media_type: str) -> str:
    """Return the pattern of `cdnblock_page` where this page is meant."""
    wide = {
        pattern: next(offer for offer in TYPES if offer.startswith(pattern[:-1].lstrip("*/"))) for pattern in _wide()
    }
    meant = [
        media_type,
        *(name for name, offer in MEANT_BY.items() if offer == media_type),
        *(pattern for pattern, offer in wide.items() if offer == media_type),
    ]
    return f"(?i)^{language}:(?:{'|'.join(map(re.escape, meant))})$"


def _wide() -> list[str]:
    """Return the ranges that mean several types, the widest first; each means the first of ours that it has."""
    return ["*/*", *dict.fromkeys(offer.partition("/")[0] + "/*" for offer in TYPES)]


def _liked_best(field: str, variable: str, ranges: list[str]) -> Iterator[str]:
    """Yield what is tried from the lowest weight and the widest range on: the last that matches stays."""
    for number, weight in enumerate(_WEIGHTS, start=1):
        for width, names in enumerate(ranges):
            name = f"cdnblock_{variable}_{number}_{width}"
            pattern = rf"(?i)(?:^|,)\s*{names}\s*{_PARAMETER}{weight}\s*(?:,|$)"
            yield f"@{name} vars_regexp {name} {{http.request.header.{field}}} `{pattern}`"
            yield f"vars @{name} cdnblock_{variable} {{http.regexp.{name}.1}}"
