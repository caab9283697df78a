"""What the tests of a verification share: a stage with orders of each kind, and clients on it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "testing")]

from cdnblock.matching.ruleset import compile_orders
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import open_stage, put_orders
from cdnblock.verification.clients import Client, Told
from cdnblock.verification.servers import Edge, Resolver
from cdnblock.verification.verifying import Settings, verify

ORDERS = {
    "refused": {"names": ["cdn.refused.example"], "measures": {"proxy": "terminate", "dns": "refuse"}},
    "republic": {"names": ["republic.example"], "territory": ["FR", "RE"]},
    "closed": {"names": ["closed.example"], "measures": {"proxy": "close", "dns": "nxdomain"}},
    "slow": {"names": ["slow.example"], "measures": {"cdn": "disable", "dns": "nodata"}},
    "alone": {"names": [{"name": "alone.example", "subdomains": False}]},
    "lifted": {
        "names": ["lifted.example", "held.example"],
        "measures": {"proxy": "terminate", "dns": "refuse"},
        "lifted": [{"names": ["lifted.example"], "at": "2025-06-01T12:00"}],
        "until": "2088-01-01",
    },
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce"},
    "refused-at-all": {"names": ["refused.example"], "measures": {"dns": "refuse"}, "territory": ["DE"]},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with open_stage(tmp_path_factory.mktemp("verification"), ()) as found:
        put_orders(found.orders, ORDERS)
        yield found


def clients(told=Told.X_FORWARDED_FOR):
    """Return clients inside, overseas, outside, and nowhere."""
    places = [("france", "FR"), ("reunion", "RE"), ("germany", "DE"), ("nowhere", None)]
    return [
        Client(label=place, country=country, address=PLACES[place], told=told)
        for place, country in (places if told is not Told.CLIENT_SUBNET else places[::2])
    ]


def edge_of(host, *, tls=False, path="/cached"):
    address = host.tls if tls else host.address
    return Edge(host=address[0], port=address[1], tls=tls, path=path)


def edge_at(url, *, path="/cached"):
    """Return the edge, or origin, at a URL of loopback."""
    return Edge(host="127.0.0.1", port=int(url.rpartition(":")[2]), path=path)


def origin_of(stage):
    return edge_at(stage.origin)


def verified(server, stage, *, about=None, **settings):
    """Verify a server by the stage's orders, or by the one alone that a name is about; return the report."""
    rules = load_orders(stage.orders)
    if about is not None:
        rules = compile_orders([rules.orders[order_about(about)]])
    told = Told.CLIENT_SUBNET if isinstance(server, Resolver) else Told.X_FORWARDED_FOR
    settings = {"clients": clients(told), "rate": 0, "sample": 2, "settle": 0, "patience": 5} | settings
    return asyncio.run(verify(server, lambda: rules, Settings(**settings)))


def order_about(name):
    """Return the order that lists a name, or one near it."""
    listed = {
        item["name"] if isinstance(item, dict) else item: order
        for order, keys in ORDERS.items()
        for item in keys["names"]
    }
    near = [order for item, order in listed.items() if item in name or f".{item}".endswith(f".{name}")]
    beside = [order for item, order in listed.items() if item.partition(".")[2] == name.partition(".")[2]]
    return [*near, *beside][0]


def shown(report):
    """Return the findings as sets of what a test can compare: name, client, way, form, and what came."""
    return {
        (found.probe.name, found.probe.client.label, found.probe.way.value, found.probe.form.label, found.came)
        for found in report.findings
    }
