"""Addresses: read strictly, out of their tunnels, and which have a country at all."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.geo.addresses import Tunnel, has_no_country, parse_address, tunnel_of, unmap, unwrap


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("90.84.144.1", "90.84.144.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::"),
        ("::1", "::1"),
        ("2A01:CB00:0:0:0:0:0:1", "2a01:cb00::1"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::%25", "2001:db8::"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ],
)
def test_an_address_is_read_and_written_canonically(text, canonical):
    """RFC 4291 §2.2 in, RFC 5952 out; a zone is cut off."""
    assert str(parse_address(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "localhost", "1.2.3", "1.2.3.4.5", "127.1", "2130706433", "0x7f.0.0.1", "010.0.0.1", "1.2.3.04",
        "1.2.3.256", "1.2.3.-4", "1.2.3.+4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4 junk", "1.2.3.4\n", "1.2.3.4:80",
        "1.2.3.4%eth0", "１.２.３.４", "1.2.3.٤", "[::1]", "::1]", "[::1]:80", ":", ":::", "1::2::3", "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", "12345::",
        "::g", "::1_0", "::+1", "::0x1", ":: 1", "::1\n", "::%", "::1.2.3", "::01.2.3.4", "1.2.3.4::", "::1.2.3.4:5",
        "::ffff:1.2.3.4.5", "::" + "0" * 1000, "9" * 100_000, "a:" * 100_000, "\x00", "2001:db8::1/64",
    ],
)  # fmt: skip
def test_what_is_no_address_is_none(text):
    """No inet_aton laxness, no port, no bracket, no space, no digits but ASCII ones."""
    assert parse_address(text) is None


@given(st.ip_addresses())
def test_every_address_of_the_standard_library_is_read_alike(address):
    """Canonical text in, the same version, number and text out."""
    parsed = parse_address(str(address))
    assert parsed == (address.version, int(address))
    assert ip_address(str(parsed)) == address
    assert ip_address(address.exploded) == ip_address(str(parse_address(address.exploded)))


@given(st.one_of(st.text(), st.text(alphabet="0123456789abcdefABCDEF:.%[]x ", max_size=45)))
def test_no_text_is_read_that_the_standard_library_refuses(text):
    """Never laxer than `ipaddress`, never a different number, never an exception."""
    parsed = parse_address(text)
    try:
        expected = ip_address(text)
    except ValueError:
        assert parsed is None
    else:
        assert parsed == (expected.version, int(expected))


@pytest.mark.parametrize(
    ("text", "carried", "tunnel"),
    [
        ("::ffff:90.84.144.1", "90.84.144.1", Tunnel.MAPPED),
        ("::ffff:5a54:9001", "90.84.144.1", Tunnel.MAPPED),
        ("::ffff:0.0.0.0", "0.0.0.0", Tunnel.MAPPED),
        ("::ffff:255.255.255.255", "255.255.255.255", Tunnel.MAPPED),
        ("2002:c000:204::", "192.0.2.4", Tunnel.SIX_TO_FOUR),
        ("2002:5a54:9001:1:2:3:4:5", "90.84.144.1", Tunnel.SIX_TO_FOUR),
        ("2002::", "0.0.0.0", Tunnel.SIX_TO_FOUR),
        ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "255.255.255.255", Tunnel.SIX_TO_FOUR),
        ("64:ff9b::192.0.2.33", "192.0.2.33", Tunnel.NAT64),  # RFC 6052 §2.4
        ("64:ff9b::", "0.0.0.0", Tunnel.NAT64),
        ("64:ff9b::ffff:ffff", "255.255.255.255", Tunnel.NAT64),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45", Tunnel.TEREDO),
        ("2001::", "255.255.255.255", Tunnel.TEREDO),
        ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0", Tunnel.TEREDO),
        # Neighbours that carry nothing.
        ("::fffe:5a54:9001", "::fffe:5a54:9001", None),
        ("::1:0:5a54:9001", "::1:0:5a54:9001", None),
        ("::5a54:9001", "::5a54:9001", None),  # IPv4-compatible, deprecated by RFC 4291 §2.5.5.1
        ("2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ("2003:5a54:9001::", "2003:5a54:9001::", None),
        ("2001:1::fdd2", "2001:1::fdd2", None),
        ("2000:ffff::1", "2000:ffff::1", None),
        ("64:ff9b:1::5a54:9001", "64:ff9b:1::5a54:9001", None),  # local NAT64, RFC 8215: where it stands is unknown
        ("64:ff9b::1:0:0", "64:ff9b::1:0:0", None),
        ("90.84.144.1", "90.84.144.1", None),
        ("2a01:cb00::1", "2a01:cb00::1", None),
    ],
)
def test_the_ipv4_address_inside_a_tunnel_is_found(text, carried, tunnel):
    """Mapped, 6to4, NAT64 and Teredo carry an IPv4 address; their neighbours do not."""
    address = parse_address(text)
    assert tunnel_of(address) == tunnel
    assert str(unwrap(address)) == carried


@given(st.ip_addresses(v=4))
def test_unwrapping_undoes_every_way_of_wrapping(client):
    """Each IPv4 address comes out of each tunnel as it went in."""
    number = int(client)
    wrapped = [
        (0xFFFF << 32) | number,
        (0x2002 << 112) | (number << 80) | 0xABCD,
        (0x0064_FF9B << 96) | number,
        (0x2001_0000 << 96) | (0x1234 << 32) | (number ^ 0xFFFF_FFFF),
    ]
    assert {unwrap(parse_address(str(IPv6Address(address)))) for address in wrapped} == {(4, number)}
    assert IPv6Address(wrapped[1]).sixtofour == client
    assert IPv6Address(wrapped[3]).teredo[1] == client


def test_only_mapped_addresses_are_the_same_peer():
    """A socket writes an IPv4 peer as a mapped address; the other tunnels anybody can make up."""
    assert str(unmap(parse_address("::ffff:10.0.0.1"))) == "10.0.0.1"
    assert str(unmap(parse_address("2002:a00:1::"))) == "2002:a00:1::"
    assert str(unmap(parse_address("64:ff9b::a00:1"))) == "64:ff9b::a00:1"
    assert str(unmap(parse_address("10.0.0.1"))) == "10.0.0.1"


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("224.0.0.0", "255.255.255.255"),
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_placeless_ranges_begin_and_end_where_they_should(first, last):
    """Private, shared, loopback, link-local, multicast, reserved: from their first address to their last, no further."""
    assert has_no_country(parse_address(first))
    assert has_no_country(parse_address(last))
    kind = IPv4Address if "." in first else IPv6Address
    if int(kind(first)):
        assert not has_no_country(parse_address(str(kind(first) - 1)))
    if ~int(kind(last)) & (1 << kind(first).max_prefixlen) - 1:
        assert not has_no_country(parse_address(str(kind(last) + 1)))


@pytest.mark.parametrize("text", ["fc00::1", "fd12::1", "fe80::1%eth0", "::1", "::", "fec0::1", "ff02::1"])
def test_local_ipv6_addresses_have_no_country(text):
    """ULA, link-local, loopback, unspecified, site-local, multicast."""
    assert has_no_country(parse_address(text))


@pytest.mark.parametrize("text", ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "1.1.1.1", "2a01:cb00::1"])
def test_documentation_addresses_may_have_a_country(text):
    """Operators put them in tables for tests."""
    assert not has_no_country(parse_address(text))
