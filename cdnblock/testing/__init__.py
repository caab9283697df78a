"""Proof that a host enforces orders as it should: scenarios played over real sockets, for adapters here and elsewhere.

Needs pytest, h2 (`pip install pytest h2`) and the program openssl. See `AdapterContract`.
"""

from cdnblock.testing.contract import AdapterContract
from cdnblock.testing.scenarios import Need
from cdnblock.testing.site import AsgiSite, Asked, Page, Site, aiohttp_site
from cdnblock.testing.stage import REWRITES, Host, Stage, reload_by_state

__all__ = [
    "REWRITES",
    "AdapterContract",
    "AsgiSite",
    "Asked",
    "Host",
    "Need",
    "Page",
    "Site",
    "Stage",
    "aiohttp_site",
    "reload_by_state",
]
