"""The elements of Unbound's access control: the most specific one that an address is in tells where the client is."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cdnblock.exporters._territory import Network
from cdnblock.exporters.unbound import _places

HALVES = (
    # a partition of 10.0.0.0/8 and its neighbours, as a territory is: no network in another
    Network("10.0.0.0/9", "FR"),
    Network("10.128.0.0/10", "RE"),
    Network("10.192.0.0/16", "FR"),
    Network("11.0.0.0/8", "RE"),
    Network("2001:db8::/33", "FR"),
)


def networks_of_clients():
    four = st.builds(
        lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
        st.integers(9 << 24, (12 << 24) - 1),
        st.integers(6, 32),
    )
    six = st.builds(
        lambda number, length: ip_network((number >> (128 - length) << (128 - length), length)),
        st.integers(0x20010DB8 << 96, (0x20010DBA << 96) - 1),
        st.integers(30, 128),
    )
    return st.lists(st.one_of(four, six), min_size=1, max_size=4)


def place_of(address, networks):
    return next((place for cidr, place in networks if address in ip_network(cidr)), "other")


@given(st.data(), networks_of_clients())
def test_every_client_is_where_his_element_says(data, clients):
    """Wherever the operator's networks begin and end, in a network of the territory or around several."""
    elements = {ip_network(cidr): place for cidr, place in _places(HALVES, clients).items()}
    for client in clients:
        edges = [client[0], client[-1], *(ip_network(cidr)[0] for cidr, _ in HALVES)]
        inside = [address for address in edges if address in client]
        inside.append(
            ip_address(data.draw(st.integers(int(client[0]), int(client[-1])))) if client.version == 4 else client[0]
        )
        for address in inside:
            mine = max((element for element in elements if address in element), key=lambda element: element.prefixlen)
            assert elements[mine] == place_of(address, HALVES)


@given(networks_of_clients())
def test_nobody_else_has_an_element(clients):
    """Each is one of the operator's networks, or in one of them."""
    for cidr in _places(HALVES, clients):
        element = ip_network(cidr)
        assert any(element.version == client.version and element.subnet_of(client) for client in clients)
