"""What the tests of exported name servers share: exporting for clients on loopback, and asking as one of them."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dns.edns
import dns.message
import dns.query

sys.path.append(str(Path(__file__).parent.parent / "adapters"))

from dns_clients import opt, option, packet, udp_socket
from export_engines import rules_of, wait_until

from cdnblock import exporters
from cdnblock.cli.export import put
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.testing.dns_stage import CLIENTS, on_loopback
from cdnblock.testing.dns_wire import Query, ask, errors_of


def export_dns_for(stage, target, folder, *, moved=True, partial=False, contact=None, **settings):
    """Export the stage's orders as they are now; return the names of the files that changed.

    Unless `moved`, countries are where the stage's table has them, and no client on loopback is in any.
    """
    exporter = exporters.load(target)
    done = exporters.export(
        on_loopback(exporter) if moved else exporter,
        rules_of(stage),
        open_geo_table(stage.geo),
        datetime.now(UTC),
        exporters.Options(
            folder=str(folder), trusted_proxies=stage.trusted_proxies, contact=contact, settings=settings
        ),
        partial=partial,
    )
    assert partial or done.missing == ()
    return put(folder, done.files)


def said(port, name, place, kind="A", **how):
    """Return RCODE and extended errors of what a client somewhere is answered."""
    answer = ask(("127.0.0.1", port), Query(name=name, kind=kind, source=CLIENTS[place], **how))
    return answer.rcode().name, errors_of(answer)


def answers(process, port, log):
    """Wait until a name server answers: some listen before they have read anything. Fails when it ends instead."""

    def ended_or_answers():
        with contextlib.suppress(OSError):
            ask(("127.0.0.1", port), Query(name="ready.example"), patience=1)
            return True
        return process.poll() is not None

    wait_until(ended_or_answers, lambda: log.read_text(errors="replace"))
    assert process.poll() is None, log.read_text(errors="replace")


def said_for(port, subnet, name, kind="A"):
    """Return the same of a query that 127.0.0.1 asks for a client subnet (RFC 7871)."""
    query = dns.message.make_query(name, kind, use_edns=0, options=[dns.edns.ECSOption.from_text(subnet)])
    answer = dns.query.udp(query, "127.0.0.1", 10, port)
    return answer.rcode().name, errors_of(answer)


def spoilt_queries(name, count):
    """Yield queries of one name in which some octets are others, but for the id, what they ask, and that they ask."""
    dice = random.Random(count)
    for number in range(count):
        options = b"".join(
            option(dice.choice((3, 8, 10, 15, 65001)), dice.randbytes(dice.randint(0, 30))) for _ in range(2)
        )
        query = bytearray(
            packet(name, dice.choice((1, 28, 65, 255)), number=number, counts=(1, 0, 0, 1), rest=opt(options))
        )
        after = len(query) - len(opt(options))
        for _ in range(dice.randint(0, 4)):
            place = dice.choice([3, *range(4, 12), *range(after, len(query))])
            query[place] = dice.choice((0, 1, 2, 41, 255, dice.randrange(256)))
        yield bytes(query[: dice.choice([len(query), len(query), dice.randint(after, len(query))])])


def answered_with_data(port, place, queries):
    """Ask all of them at once, and return those whose answers hold any record that answers."""
    asked = {int.from_bytes(query[:2], "big"): query for query in queries}
    found = []
    with udp_socket("127.0.0.1", port, CLIENTS[place], timeout=1) as sock, contextlib.suppress(TimeoutError):
        for number, query in enumerate(asked.values(), 1):
            sock.send(query)
            if number % 50 == 0:
                time.sleep(0.02)  # nobody's buffer is to run over
        while True:
            answer = sock.recv(65_535)
            if answer[6:8] != b"\0\0":
                found.append(asked[int.from_bytes(answer[:2], "big")])
    return found
