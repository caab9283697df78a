"""The example of the hidden primary starts as it stands, and so do the resolvers beside it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import ROOT, needs, running, wait_until
from export_resolvers import answers

from cdnblock.testing.dns_upstream import serving
from cdnblock.testing.dns_wire import Query, ask, errors_of

PORTS = ("5300", "5301", "5302", "5303", "5304")


@contextmanager
def example(folder):
    """Start the primary, its ports and what resolvers forward to changed; yield how to start the others."""
    shutil.copytree(ROOT / "examples" / "rpz_primary", folder / "rpz_primary")
    command = folder / "bin" / "cdnblock"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec "{sys.executable}" -m cdnblock "$@"\n')
    command.chmod(0o755)
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    with serving() as (_, upstream), ExitStack() as leaving:
        changed = {**ports, "5353": str(upstream)}
        for path in (folder / "rpz_primary").iterdir():
            if path.is_file():
                path.write_text(re.sub("|".join(changed), lambda found: changed[found[0]], path.read_text()))
        environment = {**os.environ, "PATH": f"{command.parent}:/usr/sbin:{os.environ['PATH']}"}

        def start(shown, command):
            port = int(ports[shown])
            process = leaving.enter_context(running(command, port, folder / f"log-{shown}", env=environment))
            assert process.poll() is None
            return port

        start("5300", [str(folder / "rpz_primary" / "start.sh")])
        here = Path.cwd()
        os.chdir(folder / "rpz_primary")
        leaving.callback(os.chdir, here)
        yield start


RESOLVERS = [
    pytest.param("5301", ["unbound", "-d", "-c", "unbound.conf"], [], marks=needs("unbound", "unbound"), id="unbound"),
    pytest.param("5302", ["named", "-g", "-c", "named.conf"], [], marks=needs("named", "bind9"), id="bind"),
    pytest.param(
        "5303", ["pdns_recursor", "--config-dir=."], [(16, "court order")],
        marks=needs("pdns_recursor", "pdns-recursor"), id="powerdns",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("shown", "command", "errors"), RESOLVERS)
def test_a_resolver_of_the_example_refuses(tmp_path, shown, command, errors):
    """What is listed is NXDOMAIN for clients in France, what was lifted is answered, and so is everybody else."""
    with example(tmp_path) as start:
        port = start(shown, command)
        wait_until(lambda: answers(port))

        def said(name, source):
            answer = ask(("127.0.0.1", port), Query(name=name, source=source))
            return answer.rcode().name, errors_of(answer)

        wait_until(lambda: said("www.live-racing.example", "127.10.0.1")[0] == "NXDOMAIN")
        wait_until(lambda: said("a.streams.example", "127.10.0.1") == ("NXDOMAIN", errors))
        wait_until(lambda: said("news.streams.example", "127.10.0.1") == ("NOERROR", []))
        assert said("www.live-racing.example", "127.0.0.1") == ("NOERROR", [])
        assert said("other.example", "127.10.0.1") == ("NOERROR", [])


@needs("nsd", "nsd")
def test_nsd_of_the_example_hands_the_zones_on(tmp_path):
    """NSD has the zones, and gives them to whoever it lists."""
    with example(tmp_path) as start:
        port = start("5304", ["nsd", "-d", "-c", "nsd.conf"])

        def transferred():
            query = dns.message.make_query("base-fr", "AXFR")
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                dns.query.send_tcp(sock, query)
                answer, _ = dns.query.receive_tcp(sock, one_rr_per_rrset=True)
            return {str(rrset.name) for rrset in answer.answer if rrset.rdtype == dns.rdatatype.CNAME}

        wait_until(lambda: "*.live-racing.example.base-fr." in transferred())
