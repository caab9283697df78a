"""Territory as networks: an engine that takes the longest one comes to the country that the table tells."""

from __future__ import annotations

from datetime import date
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.exporters._territory import networks
from cdnblock.geo.addresses import Tunnel, has_no_country, parse_address, tunnel_of, unwrap
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.sources.geo_tables import open_geo_table

# Some of it lies where no look-up gets: private networks, and what tunnels make of IPv4.
PIECES = st.lists(
    st.tuples(
        st.sampled_from([4, 4, 6]),
        st.integers(0, 2**16 - 1),
        st.integers(1, 2**11),
        st.sampled_from(["FR", "RE", "DE"]),
    ),
    max_size=8,
)
ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
    st.integers(0, 2**125 - 1).map(lambda number: str(IPv6Address((1 << 125) + number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    st.sampled_from(["127.0.0.1", "10.1.2.3", "100.64.0.7", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "::"]),
    st.sampled_from(
        [
            "64:ff9b::127.0.0.1",
            "2002:a01:203::1",
            "2002:c633:6407::1",
            "64:ff9b::c633:6407",
            "2002:e000:1::",
            "::ffff:10.0.0.1",
        ]
    ),
)


def table_of(pieces):
    found = []
    reached = {4: 0, 6: 0}
    for version, start, length, country in sorted(pieces):
        unit = 16 if version == 4 else 48  # of a 16-bit space
        first = max(start << unit, reached[version])
        end = min((start << unit) + (length << (unit - 8)) + length, 1 << (32 if version == 4 else 64))
        if first < end:
            found.append((version, Interval(first, end, country)))
            reached[version] = end
    return build_table(Origin(source="test", built=date(2026, 1, 1)), found)


def place_by_longest_network(listed, address):
    """Return what an engine comes to; as all of them, it takes an IPv4-mapped address for the IPv4 address."""
    parsed = ip_address(address)
    if parsed.version == 6 and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    covering = [(network.prefixlen, place) for network, place in listed if parsed in network]
    return max(covering)[1] if covering else "other"


@settings(max_examples=80, deadline=None)
@given(pieces=PIECES, address=ADDRESSES, unknown=st.booleans(), near=st.booleans(), data=st.data())
def test_the_longest_network_is_the_country_that_the_table_tells(pieces, address, unknown, near, data):
    """For any table and address, in tunnels too; only Teredo is beyond networks, and nobody's unless asked for."""
    table = table_of(pieces)
    listed = [(ip_network(network.cidr), network.place) for network in networks(table, ["FR", "RE"], unknown=unknown)]
    if near and listed:
        network = data.draw(st.sampled_from(listed))[0]
        address = str(network[data.draw(st.sampled_from([0, -1]))])
    found = place_by_longest_network(listed, address)
    tunnel = tunnel_of(parse_address(address))
    if tunnel is Tunnel.TEREDO:
        assert found == ("unknown" if unknown else "other")
        return
    country = table.locate(address)
    expected = country if country in {"FR", "RE"} else "other"
    nowhere = tunnel in {None, Tunnel.MAPPED} or has_no_country(unwrap(parse_address(address)))
    if country is None and unknown and nowhere:
        expected = "unknown"
    assert found == expected


def test_networks_are_merged_and_of_the_asked_countries_alone(small_mmdb):
    """Two neighbours of one country are one network; each IPv4 network comes as 6to4 and NAT64 write it, too."""
    listed = [*networks(open_geo_table(small_mmdb), ["FR"], unknown=False)]
    assert listed == [
        ("203.0.113.0/24", "FR"),
        ("2002:cb00:7100::/40", "FR"),
        ("64:ff9b::cb00:7100/120", "FR"),
        ("2001:db8::/48", "FR"),
    ]
    joined = build_table(
        Origin(source="test", built=date(2026, 1, 1)),
        [(4, Interval(0x01000000, 0x01800000, "FR")), (4, Interval(0x01800000, 0x02000000, "FR"))],
    )
    assert next(networks(joined, ["FR"], unknown=False)).cidr == "1.0.0.0/8"


def test_the_table_in_the_package_can_be_listed():
    """No two of its networks are the same, and they are where its look-ups say."""
    listed = [*networks(open_geo_table(None), ["FR", "RE"], unknown=False)]
    assert len({network.cidr for network in listed}) == len(listed) > 10_000
    for cidr, place in listed[:: len(listed) // 200]:
        assert open_geo_table(None).locate(cidr.partition("/")[0]) == place
