"""MMDB tables: against the reference reader in every layout, and against damage."""

from __future__ import annotations

import contextlib
import random
import struct
from ipaddress import IPv4Address, IPv6Address, ip_network

import maxminddb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.errors import ConfigError
from cdnblock.geo.mmdb import MmdbTable
from cdnblock.geo.mmdb_values import decode


def text(value):
    raw = value.encode()
    return bytes([2 << 5 | len(raw)]) + raw


def uint(value, kind=6):
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([kind << 5 | len(raw)]) + raw


def uint16(value):
    return uint(value, kind=5)


def mapping(*pairs):
    return bytes([7 << 5 | len(pairs)]) + b"".join(text(key) + value for key, value in pairs)


def record(code):
    return mapping(("country", mapping(("iso_code", text(code)))))


def mmdb(nodes, data, size=24, version=6, **metadata):
    """Write an MMDB by hand: nodes are (left, right) records as they stand in the file."""
    tree = bytearray()
    for left, right in nodes:
        if size == 28:
            tree += (left & 0xFFFFFF).to_bytes(3, "big")
            tree += bytes([left >> 24 << 4 | right >> 24])
            tree += (right & 0xFFFFFF).to_bytes(3, "big")
        else:
            tree += left.to_bytes(size // 8, "big") + right.to_bytes(size // 8, "big")
    described = {
        "node_count": uint(len(nodes)),
        "record_size": uint16(size),
        "ip_version": uint16(version),
        "binary_format_major_version": uint16(2),
        "binary_format_minor_version": b"\xa0",
        "build_epoch": b"\x04\x02" + (1_767_312_000).to_bytes(4, "big"),  # 2026-01-02, a uint64
        "database_type": text("Hand-Made"),
        "description": mapping(),
        "languages": b"\x00\x04",
    } | metadata
    pairs = [(key, value) for key, value in described.items() if value is not None]
    return bytes(tree) + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + mapping(*pairs)


def tree_of(networks, version, empty_nodes=0):
    """Make nodes and data of {network: code}, none inside another, as the format wants them: IPv4 at ::/96."""
    codes = sorted(set(networks.values()))
    data, offsets = b"", {}
    for code in codes:
        offsets[code] = len(data)
        data += record(code)
    nodes = [[None, None]]
    for network, code in networks.items():
        parsed = ip_network(network)
        bits = f"{int(parsed.network_address):0{parsed.max_prefixlen}b}"[: parsed.prefixlen]
        path = "0" * 96 + bits if version == 6 and parsed.version == 4 else bits
        node = 0
        for bit in path[:-1]:
            child = nodes[node][int(bit)]
            if child is None:
                nodes.append([None, None])
                child = nodes[node][int(bit)] = len(nodes) - 1
            node = child
        nodes[node][int(path[-1])] = code
    nodes += [[None, None]] * empty_nodes
    count = len(nodes)
    places = {None: count} | {code: count + 16 + offset for code, offset in offsets.items()}
    return [tuple(side if isinstance(side, int) else places[side] for side in node) for node in nodes], data


def some_networks(chance, version):
    """Disjoint networks of many lengths, by splitting the space at random."""
    found = {}
    spaces = [ip_network("0.0.0.0/0")] if version == 4 else [ip_network("0.0.0.0/1"), ip_network("2000::/3")]
    while len(spaces) < 120:
        network = spaces.pop(chance.randrange(len(spaces)))
        limit = 32 if network.version == 4 else 70
        spaces += (
            network.subnets(new_prefix=min(limit, network.prefixlen + chance.randrange(1, 3)))
            if network.prefixlen < limit
            else [network]
        )
    for network in spaces:
        if chance.random() < 0.7:
            found[str(network)] = chance.choice(["FR", "RE", "US", "GP"])
    return found


@pytest.mark.parametrize("size", [24, 28, 32])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("seed", range(3))
def test_every_layout_is_read_like_the_reference_reader_does(tmp_path, size, version, seed):
    """24, 28 and 32 bit records, IPv4 and IPv6 trees, random networks: the same answers, whatever the address."""
    chance = random.Random(seed)
    nodes, data = tree_of(some_networks(chance, version), version)
    whole = mmdb(nodes, data, size, version)
    (tmp_path / "t.mmdb").write_bytes(whole)
    reference = maxminddb.open_database(tmp_path / "t.mmdb")
    table = MmdbTable(whole, "t.mmdb")
    probes = [IPv4Address(chance.getrandbits(32)) for _ in range(1000)]
    probes += [IPv6Address(1 << 125 | chance.getrandbits(125)) for _ in range(1000 if version == 6 else 0)]
    told = 0
    for probe in probes:
        found = reference.get(probe)
        expected = found["country"]["iso_code"] if found else None
        assert table.find(probe.version, int(probe)) == expected
        told += expected is not None
    assert told > 200
    assert table.description == "Hand-Made of 2026-01-02"
    intervals = table.as_intervals()
    for probe in probes:
        if intervals.locate(str(probe)) != table.locate(str(probe)):
            assert probe.version == 6  # narrower than a /64: its first network counts
            assert len({table.find(6, (int(probe) >> 64 << 64) + (part << 58)) for part in range(64)}) > 1


@pytest.mark.parametrize("size", [28, 32])
def test_large_record_numbers_are_put_together_rightly(size):
    """More than 24 bits in use: the octet that two 28-bit records share, the fourth octet of 32-bit ones."""
    padding = b"\0" * ((1 << 24) + 100)
    pointer = 1 + 16 + len(padding)
    table = MmdbTable(
        mmdb([(pointer, pointer + len(record("FR")))], padding + record("FR") + record("RE"), size, 4), "t"
    )
    assert (table.find(4, 0), table.find(4, 1 << 31)) == ("FR", "RE")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"node_count": None}, "node_count"),
        ({"node_count": uint(0)}, "impossible"),
        ({"node_count": uint(10**9)}, "shorter than its tree"),
        ({"node_count": text("1")}, "wrong types"),
        ({"record_size": uint16(20)}, "impossible"),
        ({"record_size": None}, "record_size"),
        ({"ip_version": uint16(5)}, "impossible"),
        ({"binary_format_major_version": uint16(3)}, "another version"),
        ({"binary_format_major_version": None}, "binary_format_major_version"),
        ({"build_epoch": None}, "build_epoch"),
        ({"database_type": uint(5)}, "wrong types"),
        ({"description": b"\xff\xff"}, "damaged"),
    ],
)
def test_impossible_metadata_is_refused(change, why):
    """Missing, of a wrong type, or promising more than the file holds."""
    with pytest.raises(ConfigError, match=why):
        MmdbTable(mmdb([(17, 1)], record("FR"), **change), "t.mmdb")


@pytest.mark.parametrize(
    ("nodes", "data", "why"),
    [
        ([(1 + 16 + 1000, 1)], record("FR"), "beyond its data"),
        ([(2, 17)], record("FR"), "its tree is damaged"),
        ([(17, 1)], b"", "beyond its data"),
        ([(17, 1)], b"\x45FR", "is cut"),
        ([(17, 1)], b"\x42\xff\xfe", "decode"),
        ([(17, 1)], b"\x20\x00", "has no end"),  # a pointer to itself
        ([(17, 1)], b"\xe1\xa1\x05" + record("FR"), "no text"),  # a map with a number for a key
        ([(17, 1)], b"\x05\x00FR", "damaged"),
        ([(17, 1)], b"\x00\x30", "no known type"),
        ([(17, 1)], b"\xff\xff\xff\xff" + b"\x41a" * 30_000, "has no end"),  # a map of sixteen million entries
        ([(17, 1)], record("EU"), "tells no country"),
        ([(1, 1)], record("FR"), "tells no country"),
        ([(0, 0)], record("FR"), "tells no country"),
    ],
)
def test_a_damaged_tree_or_record_is_refused(nodes, data, why):
    """What can be seen when a table is opened stops it there."""
    with pytest.raises(ConfigError, match=why):
        MmdbTable(mmdb(nodes, data, version=4), "t.mmdb")


def test_records_that_unfold_without_end_are_refused():
    """Arrays of pointers to arrays of pointers: two to the power of thirty values out of a few dozen octets."""
    data = text("x")
    before = 0
    for _level in range(30):
        pointer = bytes([1 << 5 | before >> 8, before & 255])
        before = len(data)
        data += b"\x02\x04" + pointer * 2
    with pytest.raises(ValueError, match="has no end"):
        decode(data, before)


def test_a_loop_in_the_tree_ends():
    """After as many steps as an address has bits: no country, counted, told once."""
    told = []
    table = MmdbTable(mmdb([(0, 17)], record("FR"), version=4), "t.mmdb", on_damage=told.append)
    assert table.find(4, 1 << 31) == "FR"
    assert table.find(4, 1) == "FR"
    assert table.find(4, 0) is None
    assert table.find(4, 0) is None
    assert table.broken_lookups == 2
    assert told == ["its tree is damaged"]
    with pytest.raises(ConfigError, match="damaged"):
        table.as_intervals()


def test_a_tree_that_doubles_at_each_level_is_refused():
    """Both branches of each node lead to the next one: four thousand million networks out of a hundred nodes."""
    nodes = [(number + 1, number + 1) for number in range(99)]
    table = MmdbTable(mmdb([*nodes, (117, 116)], record("FR") + record("RE"), version=4), "t.mmdb")
    assert table.find(4, 5) is None
    with pytest.raises(ConfigError, match="no tree"):
        table.as_intervals()


def test_a_record_read_late_may_be_damaged():
    """Beyond the first two thousand, records are read when a look-up meets them."""
    networks = {f"{1 + number // 256}.{number % 256}.0.0/16": f"A{number}" for number in range(2500)}
    nodes, _ = tree_of(networks, 4)
    count = len(nodes)
    order = sorted(set(networks.values()))
    places, data = {}, b""
    old = {}
    offset = 0
    for number, code in enumerate(order):
        old[count + 16 + offset] = code
        offset += len(record(code))
        places[code] = count + 16 + len(data)
        data += record("FR") if number < 2400 else b"\x42\xff\xff"
    nodes = [tuple(places[old[side]] if side in old else side for side in node) for node in nodes]
    table = MmdbTable(mmdb(nodes, data, version=4), "t.mmdb")
    good, late, bad = (next(net for net, code in networks.items() if code == order[place]) for place in (5, 2300, 2450))
    assert table.locate(good.partition("/")[0]) == "FR"
    assert table.locate(late.partition("/")[0]) == "FR"
    assert table.locate(bad.partition("/")[0]) is None
    assert table.broken_lookups == 1


def test_tunnels_that_share_the_ipv4_part_are_left_out():
    """Tables alias 2002::/16 and others to their IPv4 part: as intervals that part stands there once."""
    nodes, data = tree_of({"90.84.0.0/16": "FR", "2a01:cb00::/24": "FR", "2002:ffff::/32": "US"}, 6)
    ipv4_root = 0
    for _depth in range(96):
        ipv4_root = nodes[ipv4_root][0]
    at = 0
    for bit in "001000000000001":
        at = nodes[at][int(bit)]
    nodes[at] = (ipv4_root, nodes[at][1]) if nodes[at][0] != ipv4_root else nodes[at]
    intervals = MmdbTable(mmdb(nodes, data), "t.mmdb").as_intervals()
    assert (intervals.ranges(4), intervals.ranges(6)) == (1, 1)
    assert intervals.locate("90.84.144.1") == "FR"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (text("FR"), "FR"),
        (b"\x5d\x00" + b"x" * 29, "x" * 29),
        (b"\x5e\x00\x01" + b"x" * 286, "x" * 286),
        (b"\xa2\x01\x00", 256),
        (b"\x08\x02" + b"\x01" * 8, 0x0101010101010101),
        (b"\x00\x07", False),
        (b"\x01\x07", True),
        (b"\x68" + struct.pack(">d", 1.5), None),
        (b"\x04\x08" + struct.pack(">f", 1.5), None),
        (b"\x82ab", None),
        (b"\x02\x04" + text("a") + text("b"), ["a", "b"]),
        (mapping(("a", mapping(("b", text("c"))))), {"a": {"b": "c"}}),
        (b"\x20\x02" + text("FR"), "FR"),
        (b"\x28\x00\x00" + b"\0" * 2045 + text("FR"), "FR"),
        (b"\x38\x00\x00\x00\x05" + text("FR"), "FR"),
    ],
)
def test_values_of_each_type_are_decoded(data, value):
    """Text, numbers, booleans, maps, arrays, pointers of each width; what is never a country comes out as None."""
    assert decode(data, 0) == value


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_octets_do_harm(data):
    """Whatever stands in a data section: a value, or an error that is one of two."""
    with contextlib.suppress(ValueError, LookupError):
        decode(data, 0)


@settings(max_examples=200)
@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20))
def test_no_table_does_harm(data, nodes):
    """Any tree over any data: refused, or a table that answers."""
    with contextlib.suppress(ConfigError):
        table = MmdbTable(mmdb(nodes, record("FR") + data), "t.mmdb")
        table.find(4, 0)
        table.find(6, 1 << 125)
        table.as_intervals()
