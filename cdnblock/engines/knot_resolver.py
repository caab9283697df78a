"""Knot Resolver: our program in it watches a file of orders."""

from __future__ import annotations

from typing import Final

from cdnblock.engines._engine import EngineKind
from cdnblock.engines._watched import SETTINGS, Watched


class KnotResolver(Watched):
    """The processes of one Knot Resolver."""

    watched = "cdnblock-orders.txt"


ENGINE: Final = EngineKind(name="knot-resolver", make=KnotResolver, settings=SETTINGS, says_why=lambda _settings: True)
