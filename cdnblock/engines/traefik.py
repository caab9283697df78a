"""Traefik: our plugin in it watches a file of orders."""

from __future__ import annotations

from typing import Final

from cdnblock.engines._engine import EngineKind
from cdnblock.engines._watched import SETTINGS, Watched
from cdnblock.verification.clients import Told


class Traefik(Watched):
    """One Traefik with our plugin."""

    watched = "cdnblock.json"


ENGINE: Final = EngineKind(name="traefik", make=Traefik, settings=SETTINGS, believes=Told.X_FORWARDED_FOR)
