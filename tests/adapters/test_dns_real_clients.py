"""What real clients make of the front: kdig by every way that it knows, and programs that ask the C library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")

sys.path.insert(0, str(Path(__file__).parent))

import dns_peers
from dns_clients import FRANCE, GERMANY, REUNION, pin
from dns_house import open_doors
from dns_realm import FRONT, MANY, OTHER, cannot, realm

pytestmark = pytest.mark.skipif(bool(dns_peers.missing("unbound")), reason=dns_peers.missing("unbound"))
has_kdig = pytest.mark.skipif(bool(dns_peers.missing("kdig")), reason=dns_peers.missing("kdig"))

WAYS = {
    # kdig's name for a way, and the door that it goes through.
    "+notcp": "port",
    "+tcp": "port",
    "+tls": "tls",
    "+https": "https",
    "+https-get": "https",
}
CONTACT = "legal@edge.example"
STRANGER, BALANCER = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def doors(tmp_path_factory, small_mmdb):
    options = ("--trusted-forwarder", "127.0.0.1", "--load-balancer", BALANCER, "--contact", CONTACT)
    with open_doors(tmp_path_factory.mktemp("doors"), small_mmdb, *options) as doors:
        yield doors


def kdig(doors, way, *arguments, source="127.0.0.1"):
    """Return what kdig prints, and complains of."""
    port = {"port": doors.front.port, "tls": doors.tls, "https": doors.https}[WAYS[way]]
    command = ["kdig", "@127.0.0.1", "-p", str(port), "-b", source, "+timeout=20", "+retry=0", way, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@has_kdig
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["A", "AAAA", "TYPE65", "ANY"])
def test_kdig_shows_a_refusal_and_its_reason(doors, way, kind):
    """By every way and for every type: REFUSED, Extended DNS Error 16, the order and whom to contact; no record."""
    said = kdig(doors, way, "+edns", "+ignore", "www.refused.example", kind)
    assert "status: REFUSED;" in said
    assert f"EDE: 16 (Censored): 'order refused; contact {CONTACT}'" in said
    assert ";; Flags: qr rd ra; QUERY: 1; ANSWER: 0; AUTHORITY: 0; ADDITIONAL: 1" in said


@has_kdig
@pytest.mark.parametrize("way", WAYS)
def test_kdig_gets_what_is_not_refused(doors, way):
    """The resolver's answer."""
    assert kdig(doors, way, "+short", "www.open.example") == "192.0.2.81\n"


@has_kdig
@pytest.mark.parametrize("way", WAYS)
def test_kdig_shows_the_other_refusals(doors, way):
    """A name that does not exist, by order."""
    said = kdig(doors, way, "+edns", "gone.example")
    assert "status: NXDOMAIN;" in said
    assert f"EDE: 16 (Censored): 'order gone; contact {CONTACT}'" in said


@has_kdig
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("client", "source", "status"),
    [
        (FRANCE, "127.0.0.1", "REFUSED"), (GERMANY, "127.0.0.1", "NOERROR"), (REUNION, "127.0.0.1", "NOERROR"),
        (FRANCE, STRANGER, "NOERROR"),  # nobody has said that he is to be believed
    ],
)  # fmt: skip
def test_kdig_tells_a_subnet(doors, way, client, source, status):
    """An order for France is for clients in France, and a refusal gives the subnet back."""
    said = kdig(doors, way, f"+subnet={client}/24", "www.french.example", source=source)
    assert f"status: {status};" in said
    if status == "REFUSED":
        assert "CLIENT-SUBNET: 203.0.113.0/24/0" in said
        assert f"EDE: 16 (Censored): 'order french; contact {CONTACT}'" in said
    else:
        assert "\tA\t192.0.2.66" in said


@has_kdig
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
@pytest.mark.parametrize(("client", "status"), [(FRANCE, "REFUSED"), (GERMANY, "NOERROR")])
def test_kdig_speaks_the_proxy_protocol(doors, way, client, status):
    """As a load balancer does, which tells where its client is."""
    said = kdig(doors, way, f"+proxy={client}-127.0.0.1", "www.french.example", source=BALANCER)
    assert f"status: {status};" in said


@has_kdig
@pytest.mark.parametrize("way", ["+tls", "+https", "+https-get"])
def test_kdig_pads(doors, way):
    """What is encrypted it asks padded: every answer is 468 octets long."""
    for name in ("www.open.example", "www.refused.example", "www.french.example", "gone.example"):
        assert ";; Received 468 B" in kdig(doors, way, name)


@has_kdig
@pytest.mark.parametrize("way", ["+tls", "+https"])
def test_kdig_checks_the_certificate(doors, way):
    """By the name in it, or by the digest of its key; with another name or digest it asks nothing."""
    other = base64.b64encode(hashlib.sha256(b"another key").digest()).decode()
    authority = f"+tls-ca={doors.certificate}"
    for right in ([authority, "+tls-hostname=localhost"], [f"+tls-pin={pin(doors.certificate)}"]):
        assert "status: REFUSED;" in kdig(doors, way, *right, "www.refused.example")
    for wrong in ([authority, "+tls-hostname=another.example"], [f"+tls-pin={other}"]):
        said = kdig(doors, way, *wrong, "www.refused.example")
        assert "handshake failed" in said
        assert "status:" not in said


@has_kdig
@pytest.mark.parametrize("way", ["+tcp", "+tls", "+https"])
def test_kdig_keeps_a_connection(doors, way):
    """Three questions on one, each with its answer."""
    said = kdig(doors, way, "+keepopen", "www.open.example", "www.refused.example", "mixed.open.example")
    assert re.findall(r"status: (\w+);", said) == ["NOERROR", "REFUSED", "NOERROR"]


ASK = """
import json, socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)
    print(json.dumps(sorted({address[0] for *_, address in found})))
except socket.gaierror as error:
    names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
    print(json.dumps(names[error.errno]))
"""
OPEN, FRENCH = ["192.0.2.81", "2001:db8:1::81"], ["192.0.2.66", "2001:db8:1::66"]
IN_FRANCE = [place for place in FRONT if "France" in place]
ELSEWHERE = [place for place in FRONT if "France" not in place]
OPTIONS = {
    # Of resolv.conf(5), and what becomes of REFUSED: glibc asks another server after UDP, and believes it over TCP.
    "": "EAI_AGAIN",
    "edns0 trust-ad": "EAI_AGAIN",
    "single-request": "EAI_AGAIN",
    "use-vc": "EAI_NONAME",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory, small_mmdb):
    if reason := cannot():
        pytest.skip(reason)
    with realm(tmp_path_factory.mktemp("realm"), small_mmdb) as network:
        yield network


def getaddrinfo(network, name, *servers, options=""):
    """Return the addresses that the C library finds, or its error; a server that is silent takes it too long."""
    lines = [f"nameserver {server}\n" for server in servers] + [f"options timeout:30 attempts:2 {options}\n"]
    command = network.resolving_by("".join(lines), sys.executable, "-ISc", ASK, name)
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("options", OPTIONS)
def test_getaddrinfo_of_a_refused_name(network, options):
    """No address, and the error that comes at once is that of a server which does not answer now; the trail has it."""
    assert getaddrinfo(network, "www.refused.example", FRONT["Germany"][0], options=options) == OPTIONS[options]
    assert {record["host"] for record in network.enforced("refused")} == {"www.refused.example"}


@pytest.mark.parametrize("options", OPTIONS)
def test_getaddrinfo_of_a_name_that_is_not_refused(network, options):
    """IPv4 and IPv6; and more addresses than a datagram holds."""
    server = FRONT["France"][0]
    assert getaddrinfo(network, "www.open.example", server, options=options) == OPEN
    assert getaddrinfo(network, "many.open.example", server, options=options) == MANY
    assert getaddrinfo(network, "absent.open.example", server, options=options) == "EAI_NONAME"


@pytest.mark.parametrize("place", IN_FRANCE)
@pytest.mark.parametrize("options", OPTIONS)
def test_getaddrinfo_in_the_territory(network, place, options):
    """Nobody tells where the client is but his own address; the trail has it."""
    assert getaddrinfo(network, "www.french.example", FRONT[place][0], options=options) == OPTIONS[options]
    assert {(record["country"], record["host"]) for record in network.enforced("french")} == {
        ("FR", "www.french.example")
    }


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("options", OPTIONS)
def test_getaddrinfo_outside_the_territory(network, place, options):
    """The same name, the same front."""
    assert getaddrinfo(network, "www.french.example", FRONT[place][0], options=options) == FRENCH


@pytest.mark.parametrize(
    ("name", "error", "from_another"),
    [
        ("www.refused.example", "EAI_AGAIN", ["192.0.2.82"]), ("www.gone.example", "EAI_NONAME", "EAI_NONAME"),
        ("www.empty.example", "EAI_NODATA", "EAI_NODATA"),
    ],
)  # fmt: skip
def test_another_server_in_resolv_conf(network, name, error, from_another):
    """It is asked after REFUSED; a name that does not exist, or has no such record, ends the search."""
    ours = FRONT["France"][0]
    assert getaddrinfo(network, name, ours) == error
    assert getaddrinfo(network, name, ours, OTHER) == from_another
