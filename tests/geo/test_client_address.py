"""Whose request it is: peers, trusted chains, forged headers, client subnets."""

from __future__ import annotations

import time
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.errors import ConfigError
from cdnblock.geo.addresses import parse_address
from cdnblock.geo.client_address import TrustedProxies

PROXY = "10.0.0.1"
CLIENT = "90.84.144.1"
FORGED = "203.0.113.66"
TRUSTED = ("10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("90.84.144.1", "90.84.144.1"),
        ("::ffff:90.84.144.1", "90.84.144.1"),
        ("2A01:CB00:0::1", "2a01:cb00::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2002:5a54:9001::1", "90.84.144.1"),
        ("64:ff9b::5a54:9001", "90.84.144.1"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
        ("127.0.0.1", "127.0.0.1"),
        (None, None),
        ("", None),
        ("unix:", None),
        ("localhost", None),
        ("90.84.144.1:1234", None),
        ("[2a01:cb00::1]", None),
    ],
)
@pytest.mark.parametrize("header", [None, "x-forwarded-for", "forwarded", "cf-connecting-ip", "none"])
def test_an_untrusted_peer_is_the_client_whatever_it_says(peer, client, header):
    """A forged header changes nothing; the answer is canonical and out of its tunnel."""
    forged = {"X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}", "CF-Connecting-IP": FORGED}
    for trusted in ((), TRUSTED):
        proxies = TrustedProxies(trusted, header)
        assert proxies.client_address(peer, forged) == client
        assert proxies.client_address(peer) == client


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("90.84.144.1", CLIENT),
        (f"{FORGED}, 90.84.144.1", CLIENT),
        (f"{FORGED}, 90.84.144.1, 10.0.0.2", CLIENT),
        (f"{FORGED}, 90.84.144.1, 10.0.0.2, 192.0.2.7", CLIENT),
        (f"10.0.0.9, {FORGED}, 90.84.144.1, 10.0.0.2", CLIENT),
        ("90.84.144.1, 2001:db8:1::5", CLIENT),
        ("90.84.144.1, [2001:db8:1::5]:443", CLIENT),
        ("90.84.144.1:50123", CLIENT),
        ("[2a01:cb00::1]:50123", "2a01:cb00::1"),
        ("::ffff:90.84.144.1, ::ffff:10.0.0.2", CLIENT),
        ("2002:5a54:9001::1", CLIENT),
        # Private, but of nobody who is trusted: an internal client.
        (f"{FORGED}, 192.168.1.1", "192.168.1.1"),
        # A trusted network inside a tunnel anybody can make up: not trusted.
        (f"{FORGED}, 2002:a00:2::1", "10.0.0.2"),
        # All of them trusted: the left-most one.
        ("10.0.0.3", "10.0.0.3"),
        ("10.0.0.5, 10.0.0.4, 10.0.0.3", "10.0.0.5"),
        # What cannot be read hides the client; nothing left of it is vouched for.
        (f"{FORGED}, unknown", None),
        (f"{FORGED}, unknown, 10.0.0.2", None),
        (f"{FORGED}, garbage, 10.0.0.2", None),
        (f"{FORGED}, 127.1", None),
        (f"{FORGED} 90.84.144.1", None),
        ('"90.84.144.1"', None),
        # What stands left of the client does not matter, be it garbage.
        ("unknown, garbage, \x00, 90.84.144.1, 10.0.0.2", CLIENT),
        # Nothing said: the peer itself.
        ("", PROXY),
        (" , ,", PROXY),
    ],
)
def test_the_right_most_untrusted_address_is_the_client(chain, client):
    """X-Forwarded-For from a trusted peer: in one line, in several, in any form of headers."""
    lines = chain.split(", ")
    for proxies in (TrustedProxies(TRUSTED), TrustedProxies(TRUSTED, "X-Forwarded-For")):
        for headers in (
            {"X-Forwarded-For": chain},
            {"x-forwarded-for": chain},
            MappingProxyType({"X-FORWARDED-FOR": chain}),
            [("x-forwarded-for", chain)],
            [(b"X-Forwarded-For", chain.encode("latin-1"))],
            [("Host", "x"), *(("X-Forwarded-For", line) for line in lines), ("Accept", "*/*")],
            iter([("X-Forwarded-For", line) for line in lines]),
        ):
            assert proxies.client_address(PROXY, headers) == client


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("for=90.84.144.1", CLIENT),
        (f"for={FORGED}, for=90.84.144.1;proto=https;by=10.0.0.2, for=10.0.0.2", CLIENT),
        ('For="[2a01:cb00::1]:4711"', "2a01:cb00::1"),
        (f'for={FORGED}, for="_gazonk"', None),
        (f"for={FORGED}, for=unknown, for=10.0.0.2", None),
        (f"for={FORGED}, proto=https", None),
        (f'for="{FORGED}, for=90.84.144.1', CLIENT),
        (f'for={FORGED}, for=90.84.144.1;host="a\\", for={FORGED}, \\"b"', CLIENT),
        ("for=10.0.0.3, for=10.0.0.2", "10.0.0.3"),
        ("", PROXY),
    ],
)
def test_forwarded_is_walked_like_x_forwarded_for(chain, client):
    """RFC 7239, where nothing else is there or where it is the configured one."""
    headers = {"Forwarded": chain}
    assert TrustedProxies(TRUSTED).client_address(PROXY, headers) == client
    assert TrustedProxies(TRUSTED, "Forwarded").client_address(PROXY, headers) == client
    assert TrustedProxies(TRUSTED, "Forwarded").client_address(PROXY, [("forwarded", chain)]) == client


@pytest.mark.parametrize("forged", [f"for={FORGED}", 'for="', "garbage", ""])
def test_the_two_headers_are_never_mixed(forged):
    """Unless told, X-Forwarded-For wins: a proxy that writes it hands a client's forged Forwarded on untouched."""
    headers = {"Forwarded": forged, "X-Forwarded-For": CLIENT}
    assert TrustedProxies(TRUSTED).client_address(PROXY, headers) == CLIENT
    assert TrustedProxies(TRUSTED).client_address(PROXY, {"Forwarded": f"for={FORGED}", "X-Forwarded-For": ""}) == PROXY
    assert (
        TrustedProxies(TRUSTED, "forwarded").client_address(PROXY, headers | {"Forwarded": "for=192.0.2.1"})
        == "192.0.2.1"
    )


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["90.84.144.1"], CLIENT),
        ([" 90.84.144.1\t"], CLIENT),
        (["2A01:CB00::1"], "2a01:cb00::1"),
        (["90.84.144.1:1234"], CLIENT),
        (["10.0.0.3"], "10.0.0.3"),
        ([], PROXY),
        ([""], PROXY),
        (["90.84.144.1, 192.0.2.1"], None),
        (["90.84.144.1", "90.84.144.1"], None),
        (["90.84.144.1", ""], None),
        (["unknown"], None),
        (["\x00"], None),
    ],
)
def test_a_single_address_header_holds_one_address(lines, client):
    """Twice, a list or garbage tell nothing; the others' headers do not count."""
    proxies = TrustedProxies(TRUSTED, " CF-Connecting-IP ")
    others = [("X-Forwarded-For", FORGED), ("Forwarded", f"for={FORGED}"), ("CF_Connecting_IP", FORGED)]
    assert proxies.client_address(PROXY, [*others, *(("cf-connecting-ip", line) for line in lines)]) == client


def test_no_header_is_believed_where_none_is_configured():
    """`none` is for proxies that speak the PROXY protocol only: their own headers are the client's."""
    headers = {"X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}", "None": FORGED}
    assert TrustedProxies(TRUSTED, "none").client_address(PROXY, headers) == PROXY


@pytest.mark.parametrize(
    ("network", "peer", "trusted"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "9.255.255.255", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::10.0.0.1", False),
        ("10.0.0.0/8", "2002:a00:1::", False),
        ("10.0.0.0/8", "64:ff9b::a00:1", False),
        ("::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "11.0.0.1", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:1::/48", "2001:db8:1:ffff::", True),
        ("2001:db8:1::/48", "2001:db8:2::", False),
        ("::1", "::1", True),
        ("0.0.0.0/0", "255.255.255.255", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "ffff::", True),
        ("::/0", "10.0.0.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("11.0.0.0/8 12.0.0.0/8", "12.0.0.0", True),
        ("11.0.0.0/8,12.0.0.0/8", "11.255.255.255", True),
        ("10.0.0.0/8,10.1.0.0/16", "10.2.0.0", True),
        ("", "10.0.0.1", False),
        ("10.0.0.0/8", None, False),
        ("10.0.0.0/8", "", False),
        ("unix", None, True),
        ("unix", "", True),
        ("unix", "10.0.0.1", False),
    ],
)
def test_a_peer_is_trusted_by_its_network(network, peer, trusted):
    """Mapped or not; never by the address that a tunnel carries; a Unix socket's peer by name."""
    assert TrustedProxies(network).trusts(peer) is trusted
    assert (
        TrustedProxies([network] if network and " " not in network and "," not in network else network).trusts(peer)
        is trusted
    )


def test_a_proxy_on_a_unix_socket_can_be_trusted():
    """Its peer has no address; its headers have."""
    proxies = TrustedProxies(["unix", "10.0.0.0/8"])
    assert proxies.client_address(None, {"X-Forwarded-For": f"{FORGED}, {CLIENT}, 10.0.0.2"}) == CLIENT
    assert proxies.client_address("", {"X-Forwarded-For": CLIENT}) == CLIENT
    assert proxies.client_address(None, {}) is None
    assert proxies.client_address(CLIENT, {"X-Forwarded-For": FORGED}) == CLIENT


@pytest.mark.parametrize(
    "network", ["10.0.0.0/33", "10.0.0.1/8", "nonsense", "10.0.0", "1.2.3.4:80", "[::1]", "::/129", "*"]
)
def test_a_bad_network_is_named(network):
    """ConfigError with the text and with what would be right."""
    with pytest.raises(ConfigError) as caught:
        TrustedProxies(["10.0.0.0/8", network])
    assert repr(network) in str(caught.value)
    assert "10.0.0.0/8" in str(caught.value)


@pytest.mark.parametrize("header", ["", " ", "x forwarded", "x:y", "é", "a\r\nb"])
def test_a_bad_header_name_is_named(header):
    """ConfigError, not a header that no request can have."""
    with pytest.raises(ConfigError, match="no header's name"):
        TrustedProxies(TRUSTED, header)


@pytest.mark.parametrize(
    ("peer", "subnet", "source", "client"),
    [
        (PROXY, "90.84.144.0", 24, "90.84.144.0"),
        (PROXY, "2a01:cb00:8f3::", 56, "2a01:cb00:8f3::"),
        (PROXY, "2002:5a54:9001::", 56, CLIENT),
        ("::ffff:10.0.0.1", "90.84.144.0", 24, "90.84.144.0"),
        # The client declined, or the option tells nothing: the peer.
        (PROXY, "0.0.0.0", 0, PROXY),
        (PROXY, "90.84.144.0", 0, PROXY),
        (PROXY, None, 24, PROXY),
        (PROXY, "192.168.1.0", 24, PROXY),
        (PROXY, "127.0.0.1", 32, PROXY),
        (PROXY, "100.64.0.0", 24, PROXY),
        (PROXY, "fd00::", 48, PROXY),
        (PROXY, "64:ff9b::", 64, PROXY),
        (PROXY, "2001::", 32, PROXY),
        (PROXY, "nonsense", 24, PROXY),
        (PROXY, "90.84.144.0", 33, PROXY),
        (PROXY, "2a01:cb00::", 129, PROXY),
        (PROXY, "90.84.144.0", -1, PROXY),
        # From anybody else it is a claim.
        (CLIENT, FORGED, 24, CLIENT),
        (None, FORGED, 24, None),
    ],
)
def test_a_client_subnet_counts_from_trusted_forwarders_only(peer, subnet, source, client):
    """RFC 7871: SOURCE 0 means that the client declined; a private subnet tells no place."""
    assert TrustedProxies(TRUSTED).ecs_client(peer, subnet, source) == client


@pytest.mark.parametrize(
    "value",
    [
        "1" * 1_000_000,
        "," * 1_000_000,
        "10.0.0.2, " * 100_000,
        '"' * 1_000_000,
        'for="\\' * 200_000,
        "for=10.0.0.2," * 80_000,
    ],
)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_hostile_headers_cost_little(name, value):
    """A megabyte in one line: bounded work, and no client told."""
    started = time.perf_counter()
    assert TrustedProxies(TRUSTED).client_address(PROXY, {name: value}) is None
    assert time.perf_counter() - started < 1


def test_ten_thousand_lines_cost_little():
    """The right end decides; a chain of more than 256 trusted proxies tells nothing."""
    proxies = TrustedProxies(TRUSTED)
    started = time.perf_counter()
    assert (
        proxies.client_address(PROXY, [("X-Forwarded-For", FORGED)] * 10_000 + [("X-Forwarded-For", CLIENT)]) == CLIENT
    )
    assert proxies.client_address(PROXY, [("X-Forwarded-For", "10.0.0.2")] * 10_000) is None
    assert proxies.client_address(PROXY, [("X-Forwarded-For", "10.0.0.2")] * 256) == "10.0.0.2"
    assert time.perf_counter() - started < 1


def test_a_header_of_another_type_is_unreadable():
    """A framework that hands out lists or None does not make a client up."""
    assert TrustedProxies(TRUSTED).client_address(PROXY, {"X-Forwarded-For": [CLIENT]}) is None
    assert TrustedProxies(TRUSTED).client_address(PROXY, [("X-Forwarded-For", None), (None, CLIENT)]) is None


TEXTS = st.one_of(st.text(), st.text(alphabet='0123456789abcdef.:[]%, "\\for=_unkw;'), st.ip_addresses().map(str))
NAMES = st.sampled_from(["X-Forwarded-For", "forwarded", "CF-Connecting-IP", "Host"])


@given(
    peer=st.one_of(st.none(), TEXTS),
    headers=st.lists(
        st.one_of(st.tuples(NAMES, TEXTS), st.tuples(NAMES.map(str.encode), st.binary()), st.tuples(TEXTS, TEXTS))
    ),
    header=st.sampled_from([None, "x-forwarded-for", "forwarded", "cf-connecting-ip", "none"]),
)
def test_no_peer_and_no_header_raises(peer, headers, header):
    """Whatever comes, it is an address in canonical text or None; and an untrusted peer is itself."""
    client = TrustedProxies(["0.0.0.0/1", "::/1", "unix"], header).client_address(peer, headers)
    assert client is None or str(parse_address(client)) == client
    untrusting = TrustedProxies((), header)
    assert untrusting.client_address(peer, headers) == untrusting.client_address(peer, ())
    assert untrusting.ecs_client(peer, peer, 24) == untrusting.client_address(peer)
