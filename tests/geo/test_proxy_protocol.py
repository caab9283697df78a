"""The PROXY protocol's two headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.geo.addresses import parse_address
from cdnblock.geo.proxy_protocol import proxy_protocol, proxy_protocol_may_follow

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4_BLOCK = bytes([90, 84, 144, 1, 10, 0, 0, 1]) + b"\xc3\x50\x01\xbb"
IPV6_BLOCK = (
    bytes.fromhex("2a01cb00000000000000000000000001" + "20010db8000000000000000000000001") + b"\xc3\x50\x01\xbb"
)


def version_2(command, family, block, length=None):
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + block


WHOLE = [
    (b"PROXY TCP4 90.84.144.1 10.0.0.1 50000 443\r\n", "90.84.144.1"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2a01:cb00::1 2001:db8::1 50000 443\r\n", "2a01:cb00::1"),
    (b"PROXY TCP6 ::ffff:90.84.144.1 ::1 0 0\r\n", "90.84.144.1"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n", None),
    (b"PROXY UNKNOWN whatever it says\r\n", None),
    (version_2(0x21, 0x11, IPV4_BLOCK), "90.84.144.1"),
    (version_2(0x21, 0x12, IPV4_BLOCK), "90.84.144.1"),
    (version_2(0x21, 0x21, IPV6_BLOCK), "2a01:cb00::1"),
    (version_2(0x21, 0x22, IPV6_BLOCK), "2a01:cb00::1"),
    (version_2(0x21, 0x11, IPV4_BLOCK + b"\x04\x00\x05extra"), "90.84.144.1"),  # a TLV behind the addresses
    (version_2(0x21, 0x31, b"/".ljust(216, b"\0")), None),  # a Unix socket
    (version_2(0x21, 0x00, b""), None),  # UNSPEC
    (version_2(0x21, 0x00, b"\xff" * 300), None),
    (version_2(0x20, 0x00, b""), None),  # LOCAL: a health check of the balancer's own
    (version_2(0x20, 0x11, IPV4_BLOCK), None),
    (version_2(0x20, 0x11, b"x"), None),
]


@pytest.mark.parametrize(("header", "address"), WHOLE)
def test_a_whole_header_is_taken_off(header, address):
    """The address and how many octets to drop, whatever follows."""
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PROXY ", b"\x16\x03\x01"):
        assert proxy_protocol(header + rest) == (address, len(header))
        assert not proxy_protocol_may_follow(header + rest)


@pytest.mark.parametrize(("header", "address"), WHOLE)
def test_a_cut_header_wants_more(header, address):
    """At every length: nothing is taken off yet, and more octets can complete it."""
    for length in range(len(header)):
        assert proxy_protocol(header[:length]) == (None, 0)
        assert proxy_protocol_may_follow(header[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        b"PROXYTCP4\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n".ljust(120, b"x"),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 ::1 1.2.3.4 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY \xff\xfe\r\n",
        b"PROXY UNKNOWN".ljust(107, b" ") + b"\r\n",
        version_2(0x22, 0x11, IPV4_BLOCK),
        version_2(0x11, 0x11, IPV4_BLOCK),
        version_2(0x21, 0x11, IPV4_BLOCK[:-1]),
        version_2(0x21, 0x21, IPV4_BLOCK),
        version_2(0x21, 0x31, b"short"),
    ],
)
def test_garbage_is_no_header(data):
    """Nothing is taken off, and no further octets could make it one: such a connection is closed."""
    assert proxy_protocol(data) == (None, 0)
    assert not proxy_protocol_may_follow(data)


@given(
    st.one_of(
        st.binary(), st.binary().map(lambda tail: SIGNATURE + tail), st.binary().map(lambda tail: b"PROXY " + tail)
    )
)
def test_no_octets_raise(data):
    """Whatever comes: an address in canonical text or None, and never more than was there."""
    address, consumed = proxy_protocol(data)
    assert address is None or str(parse_address(address)) == address
    assert 0 <= consumed <= len(data)
    assert isinstance(proxy_protocol_may_follow(data), bool)
