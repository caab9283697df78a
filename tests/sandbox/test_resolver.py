"""The name server of the sandbox: it knows every name, and nothing else."""

from __future__ import annotations

import asyncio

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from cdnblock.sandbox.resolver import Resolver, answer


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("A", ["127.0.0.1"]),
        ("AAAA", ["::1"]),
        ("HTTPS", ['1 . alpn="h2" ipv4hint="127.0.0.1" ipv6hint="::1"']),
        ("TXT", ['"answered by the resolver of the sandbox"']),
        ("MX", []),
    ],
)
def test_every_name_is_this_machine(kind, expected):
    """Over UDP and over TCP alike."""

    async def ask():
        resolver = Resolver()
        port = await resolver.start()
        query = dns.message.make_query("any.name.example", kind)
        try:
            return [
                await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=5),
                await dns.asyncquery.tcp(query, "127.0.0.1", port=port, timeout=5),
            ]
        finally:
            resolver.close()

    for response in asyncio.run(ask()):
        assert response.rcode() == dns.rcode.NOERROR
        assert [item.to_text() for rrset in response.answer for item in rrset] == expected


@pytest.mark.parametrize("packet", [b"", b"\x00" * 12, b"\xff" * 40, b"\x00\x01\x80\x00\x00\x01" + b"\x00" * 11])
def test_what_is_no_question_gets_silence(packet):
    """A packet that cannot be parsed, an answer, a packet without a question."""
    assert answer(packet) is None
