"""Proof that a host enforces orders as it should: scenarios played over real sockets, for adapters here and elsewhere.

Needs pytest, h2 (`pip install pytest h2`) and the program openssl. See `AdapterContract`; for resolvers `DnsContract`,
which needs dnspython instead.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cdnblock.testing.contract import AdapterContract
from cdnblock.testing.scenarios import Need
from cdnblock.testing.site import AsgiSite, Asked, Page, Site, aiohttp_site
from cdnblock.testing.stage import REWRITES, Host, Stage, counted_by, counted_by_state, reload_by_state

if TYPE_CHECKING:
    from cdnblock.testing.dns_contract import DnsContract
    from cdnblock.testing.dns_scenarios import DnsNeed
    from cdnblock.testing.dns_stage import DnsHost, DnsStage, on_loopback

__all__ = [
    "REWRITES",
    "AdapterContract",
    "AsgiSite",
    "Asked",
    "DnsContract",
    "DnsHost",
    "DnsNeed",
    "DnsStage",
    "Host",
    "Need",
    "Page",
    "Site",
    "Stage",
    "aiohttp_site",
    "counted_by",
    "counted_by_state",
    "on_loopback",
    "reload_by_state",
]

_OF_RESOLVERS = {
    # only imported when asked for: proxies need no dnspython
    "DnsContract": "dns_contract",
    "DnsHost": "dns_stage",
    "DnsNeed": "dns_scenarios",
    "DnsStage": "dns_stage",
    "on_loopback": "dns_stage",
}


def __getattr__(name: str) -> Any:
    """Import what belongs to the contract of resolvers."""
    if name not in _OF_RESOLVERS:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"cdnblock.testing.{_OF_RESOLVERS[name]}"), name)
