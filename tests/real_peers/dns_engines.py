"""What the tests of exported name servers share: exporting for clients on loopback, and asking as one of them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import dns.edns
import dns.message
import dns.query
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
