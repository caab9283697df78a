"""Running engines that `cdnblock apply` keeps in step: one file per engine, none knows another.

kind = load("nginx")
engine = kind.make(kind.means(folder, [("config", "/etc/nginx/nginx.conf")]))
engine.check(trial), engine.take(change), engine.purge(names)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from cdnblock.engines._engine import EngineKind
from cdnblock.errors import ConfigError

__all__ = ["ENGINES", "EngineKind", "load"]

ENGINES: Final[Mapping[str, str]] = {
    # target: its module in this folder
    "haproxy": "haproxy",
    "nginx": "nginx",
    "varnish": "varnish",
    "envoy": "envoy",
    "caddy": "caddy",
    "squid": "squid",
    "traefik": "traefik",
    "unbound": "unbound",
    "bind": "bind",
    "powerdns": "powerdns",
    "dnsdist": "dnsdist",
    "knot-resolver": "knot_resolver",
}


def load(target: str) -> EngineKind:
    """Return the kind of engine that a target's configuration is for. Raises ConfigError where there is none."""
    if target not in ENGINES:
        raise ConfigError(f"nothing keeps {target!r} in step; there are {', '.join(ENGINES)}. Export, and reload it")
    kind: EngineKind = importlib.import_module(f"cdnblock.engines.{ENGINES[target]}").ENGINE
    return kind
