"""What all tests share: order files to write, a small country table, and what is left out unless everything is to run.

Everything takes twenty minutes: `CDNBLOCK_TESTS=all` in the environment. Otherwise each of other people's servers gets
a sixth of the scenarios, and each another sixth; the servers inside this process (tests/adapters) get them all. Of what
`apply` does a sixth is tried with each engine, half of it with HAProxy, and half of what is tried with whole zones and
whole rehearsals; but something of each engine, each test with something, and each scenario on some exported configuration
that can do what it is about. Benchmarks that take half a minute to say
that they still run are not tried; of random examples, kills and broken hosts a third is.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from thoroughness import EVERYTHING

HALF = ("test_rpz_primary_changes", "test_verify_engines", "test_upgrades", "test_promises", "test_apply")
EXPORTED = ("test_export_", "test_rpz_primary_")
LONG = (
    "test_it_prints_both_tables",
    "test_all_benchmarks_make_one_table",
    "test_the_cost_of_a_request",
    "test_the_rendering_of_a_target",
)


def pytest_collection_modifyitems(config, items):
    """Leave out the same tests in each process."""
    if EVERYTHING:
        return
    kinds = {}
    for item in items:
        kinds.setdefault((item.path, item.cls or item.originalname), []).append(item)
    gone = {item for some in kinds.values() for item in _left_out_of(some)}
    exported = {}
    for item in items:
        if item.name.startswith("test_scenario[") and item.path.name.startswith(EXPORTED) and _can(item):
            exported.setdefault(item.name, []).append(item)
    gone -= {min(some, key=_digest) for some in exported.values() if gone.issuperset(some)}
    if gone:
        config.hook.pytest_deselected(items=[item for item in items if item in gone])
        items[:] = [item for item in items if item not in gone]


def _left_out_of(some):
    """Return those of a kind that are not run; one is, where all would be left out.

    What is run is run again when it is asked for alone or with others: so `--last-failed` leaves nothing out.
    """
    if some[0].path.parent.name == "benchmarks":
        return [item for item in some if item.name.startswith(LONG)]
    left_out = [item for item in some if _digest(item)[0] % _share(item) > 0]
    return left_out if len(left_out) < len(some) else sorted(left_out, key=_digest)[1:]


def _can(item):
    """Tell whether the server of a contract can do what a scenario is about."""
    scenario, protocol = item.callspec.params["scenario"], item.callspec.params.get("protocol")
    if protocol is None:
        return not item.cls._why_not(scenario, item.callspec.params["on_stage"])
    needs = {*scenario.needs, *(["http2"] if protocol == "h2" else [])}
    return needs.isdisjoint(item.cls.cannot)


def _digest(item):
    server = f"{item.path.name}::{item.cls.__name__ if item.cls else ''}"
    return sha256(f"{server}{item.name}".encode()).digest()


def _share(item):
    """Return of how many tests of a kind one is run."""
    if item.path.name == "test_testing.py" and "broken" in item.name:
        return 3
    if item.path.parent.name != "real_peers" or not (item.cls or item.path.name.startswith(HALF)):
        return 1
    if item.name.startswith("test_scenario["):
        return 6
    if item.name.startswith("test_random"):
        return 3
    if item.path.name.startswith("test_apply"):
        return 2 if item.cls is None or item.cls.__name__ == "TestHAProxy" else 6
    return 1 if item.cls else 2


@pytest.fixture(scope="session")
def small_mmdb(tmp_path_factory):
    """A real MMDB: 203.0.113.0/24 and 2001:db8::/48 in FR, 192.0.2.0/24 in RE, 198.51.100.0/24 in DE."""
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    for network, country in {
        "203.0.113.0/24": "FR", "2001:db8::/48": "FR", "192.0.2.0/24": "RE", "198.51.100.0/24": "DE",
    }.items():  # fmt: skip
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    path = tmp_path_factory.mktemp("geo") / "small.mmdb"
    writer.to_db_file(str(path))
    return path
