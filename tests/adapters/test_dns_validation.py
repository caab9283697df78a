"""Who validates (RFC 4035) behind the front: signed names of others stay signed, and a refusal is no bogus answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")

sys.path.insert(0, str(Path(__file__).parent))

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns_peers
from dns_orders import write_order

pytestmark = [
    pytest.mark.skipif(bool(dns_peers.missing("nsd", "unbound")), reason=dns_peers.missing("nsd", "unbound")),
    pytest.mark.skipif(bool(dns_peers.missing("delv")), reason=dns_peers.missing("delv")),
]

ZONE = Path(__file__).with_name("signed.example.zone").read_text()
KEY = next(line.partition(" DNSKEY ")[2] for line in ZONE.splitlines() if " DNSKEY 257" in line)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    (folder / "orders").mkdir()
    write_order(folder / "orders", "refused.signed.example")
    with (
        dns_peers.nsd(folder / "nsd", {"signed.example": ZONE}) as nsd,
        dns_peers.front(folder / "front", folder / "orders", [nsd.port]) as front,
    ):
        yield front


@pytest.fixture(scope="module")
def validator(tmp_path_factory, front):
    """An unbound that validates and asks only us."""
    folder = tmp_path_factory.mktemp("validator")
    (folder / "anchor").write_text(f"signed.example. 300 IN DNSKEY {KEY}\n")
    server = f'  module-config: "validator iterator"\n  trust-anchor-file: "{folder}/anchor"\n  ede: yes'
    rest = f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{front.port}'
    with dns_peers.unbound(folder, server=server, rest=rest) as validator:
        yield validator


def ask(validator, name, kind="A"):
    query = dns.message.make_query(name, kind, want_dnssec=True)
    return dns.query.udp(query, "127.0.0.1", 10, validator.port)


@pytest.mark.parametrize("name", ["www.signed.example", "alias.signed.example"])
def test_signed_names_validate(validator, name):
    """With the AD bit of a resolver that has checked every signature."""
    answer = ask(validator, name)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AD
    assert any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in answer.answer)


def test_names_that_do_not_exist_validate(validator):
    """The proof of it passes us as well."""
    answer = ask(validator, "nothing.signed.example")
    assert (answer.rcode(), bool(answer.flags & dns.flags.AD)) == (dns.rcode.NXDOMAIN, True)


def test_a_refused_name_is_nobodys_answer(validator):
    """The validating resolver has no address to give, and takes the refusal for no proof of anything."""
    answer = ask(validator, "refused.signed.example")
    assert answer.rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED)
    assert not answer.answer
    assert not answer.flags & dns.flags.AD
    assert ask(validator, "www.signed.example").flags & dns.flags.AD


def test_delv(front, tmp_path):
    """BIND's validator, which asks us for everything it needs."""
    flags, protocol, algorithm, octets = KEY.split(" ", 3)
    (tmp_path / "anchor").write_text(
        f'trust-anchors {{ signed.example. static-key {flags} {protocol} {algorithm} "{octets.replace(" ", "")}"; }};\n'
    )
    command = ["delv", "@127.0.0.1", "-p", str(front.port), "-a", str(tmp_path / "anchor"), "+root=signed.example"]
    said = subprocess.run(
        [*command, "www.signed.example", "A"], capture_output=True, text=True, timeout=20, check=False
    )
    assert "; fully validated" in said.stdout, said
    assert "192.0.2.80" in said.stdout
    said = subprocess.run(
        [*command, "refused.signed.example", "A"], capture_output=True, text=True, timeout=20, check=False
    )
    assert "192.0.2.66" not in said.stdout
    assert "fully validated" not in said.stdout
