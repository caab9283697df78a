"""The few files that pages ask for, all of them from this package: a style sheet, a script of ours, and htmx.

Each is held against its hash in `static/SHA384SUMS` before it is served; pages carry the same hash (Subresource
Integrity), and so does the address, so that a browser may keep a file for good.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from cdnblock.errors import ConfigError

TYPES: Final[Mapping[str, str]] = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
SUMS: Final = "SHA384SUMS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file: its octets, `integrity` as HTML has it, and the path under which it is served."""

    content: bytes
    type: str
    integrity: str
    path: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files by name.

    Raises:
        ConfigError: one is not the file that belongs to this version.

    """
    folder = files("cdnblock.dashboard").joinpath("static")
    lines = folder.joinpath(SUMS).read_text(encoding="ascii").splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    found = {}
    for name, kind in TYPES.items():
        content = folder.joinpath(name).read_bytes()
        digest = hashlib.sha384(content)
        if digest.hexdigest() != sums.get(name):
            raise ConfigError(f"the dashboard's {name} is not the one of this version; install cdnblock again")
        found[name] = Asset(
            content=content,
            type=kind,
            integrity=f"sha384-{base64.b64encode(digest.digest()).decode()}",
            path=f"/static/{digest.hexdigest()[:16]}/{name}",
        )
    return found
