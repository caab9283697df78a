"""The PROXY protocol, versions 1 and 2: the line with which a TCP load balancer names its client. Pure.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2. Its receivers must not
guess: a listener either always expects the header, from trusted peers only, or never.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cdnblock.geo.addresses import IPV4, IPV6, Address, parse_address, unwrap

_V1_START: Final = b"PROXY "
_V1_MAX: Final = 107  # longest possible line, CRLF included (2.1)
_V1_LINE: Final = re.compile(r"PROXY (TCP4|TCP6) (\S+) (\S+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\Z")
_V1_UNKNOWN: Final = re.compile(r"PROXY UNKNOWN(?: .*)?\Z")  # whatever follows must be ignored (2.1)
_V1_VERSIONS: Final = {"TCP4": IPV4, "TCP6": IPV6}
_MAX_PORT: Final = 65535

V2_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER: Final = 16  # signature, version and command, family, length
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_V2_SPACE: Final = {1: 12, 2: 36, 3: 216}  # family, the upper half of its octet: octets that its addresses take
_V2_FAMILIES: Final = {0x11: IPV4, 0x12: IPV4, 0x21: IPV6, 0x22: IPV6}  # TCP and UDP over IPv4 and IPv6


class ProxyProtocol(NamedTuple):
    """What a connection's first bytes say.

    `consumed` counts the octets of the header, 0 when there is no whole header (`proxy_protocol_may_follow` tells
    whether more octets can make one). A header without `address` (LOCAL, UNKNOWN, a Unix socket) speaks for the
    load balancer itself: the client is the peer.
    """

    address: str | None
    consumed: int


_NOTHING: Final = ProxyProtocol(None, 0)


def proxy_protocol(data: bytes) -> ProxyProtocol:
    """Return the client's address that a PROXY header carries, and the header's length. Never raises.

    The address is canonical text, taken out of a tunnel. Anything malformed counts as no header.
    """
    if data.startswith(V2_START):
        return _version_2(data)
    return _version_1(data) if data.startswith(_V1_START) else _NOTHING


def proxy_protocol_may_follow(data: bytes) -> bool:
    """Tell whether more octets could make a whole header of what is there: read on, instead of closing."""
    if proxy_protocol(data).consumed:
        return False
    if data.startswith(_V1_START):
        return len(data) < _V1_MAX and b"\r\n" not in data
    if data.startswith(V2_START):
        return len(data) < _V2_HEADER or (_is_version_2(data) and len(data) < _V2_HEADER + _v2_length(data))
    return _V1_START.startswith(data) or V2_START.startswith(data)


def _version_1(data: bytes) -> ProxyProtocol:
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        return _NOTHING
    text = data[:end].decode("latin-1")
    consumed = end + 2
    if _V1_UNKNOWN.match(text):
        return ProxyProtocol(None, consumed)
    line = _V1_LINE.match(text)
    if line is None or int(line[4]) > _MAX_PORT or int(line[5]) > _MAX_PORT:
        return _NOTHING
    source, destination = parse_address(line[2]), parse_address(line[3])
    if source is None or destination is None or not source.version == destination.version == _V1_VERSIONS[line[1]]:
        return _NOTHING
    return ProxyProtocol(str(unwrap(source)), consumed)


def _version_2(data: bytes) -> ProxyProtocol:
    if len(data) < _V2_HEADER or not _is_version_2(data) or len(data) < _V2_HEADER + _v2_length(data):
        return _NOTHING
    consumed = _V2_HEADER + _v2_length(data)
    version = _V2_FAMILIES.get(data[13])
    if data[12] == _V2_LOCAL or version is None:
        return ProxyProtocol(None, consumed)
    size = 4 if version == IPV4 else 16
    source = Address(version, int.from_bytes(data[_V2_HEADER : _V2_HEADER + size], "big"))
    return ProxyProtocol(str(unwrap(source)), consumed)


def _is_version_2(data: bytes) -> bool:
    """Tell whether command and length fit what the header announces; LOCAL may announce anything (2.2)."""
    if data[12] == _V2_LOCAL:
        return True
    return data[12] == _V2_PROXY and _v2_length(data) >= _V2_SPACE.get(data[13] >> 4, 0)


def _v2_length(data: bytes) -> int:
    return int.from_bytes(data[14:16], "big")
