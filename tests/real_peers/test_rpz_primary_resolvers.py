"""Resolvers that transfer the hidden primary's zones, under the contract of every resolver."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from export_engines import needs
from rpz_secondaries import Bind, Primary, Recursor, Unbound

from cdnblock.testing import DnsContract, DnsHost, DnsNeed


class OfSecondaries(DnsContract):
    """A resolver that has nothing of ours but what it transfers."""

    __test__ = False
    variants = ("nxdomain", "nodata")
    resolver: type

    @contextmanager
    def serve(self, stage):
        primary = Primary(stage.folder, stage.orders, settle=0)
        resolver = self.resolver(stage.folder, primary, stage.upstream)
        with ExitStack() as running:
            running.enter_context(primary.run())
            running.enter_context(resolver.run())
            primary.arrived()
            yield DnsHost(address=("127.0.0.1", resolver.port), address6=("::1", resolver.port), reload=primary.reload)
            assert primary.process.poll() is None


@needs("unbound", "unbound")
class TestUnbound(OfSecondaries):
    """By address, with tags."""

    __test__ = True
    resolver = Unbound
    cannot = {
        DnsNeed.ALIAS: "Unbound's policy zones refuse what is an alias of their names, when it is not in the cache",
        DnsNeed.EDE: "Unbound has no extended error of its own for policy zones",
        DnsNeed.SOA: "Unbound 1.17 puts no SOA beside what a policy zone says",
    }


@needs("named", "bind9")
class TestBind(OfSecondaries):
    """With TSIG, in views."""

    __test__ = True
    resolver = Bind
    cannot = {
        DnsNeed.ALIAS: "BIND's policies refuse what is an alias of their names",
        DnsNeed.EDE: "BIND has extended errors for policies since 9.20",
        DnsNeed.SOA: "BIND puts the policy zone's SOA into the additional section",
    }


@needs("pdns_recursor", "pdns-recursor")
class TestPowerDnsRecursor(OfSecondaries):
    """With TSIG, each client's policies by hooks."""

    __test__ = True
    resolver = Recursor
    cannot = {
        DnsNeed.ALIAS: "the Recursor's policies refuse what is an alias of their names",
        DnsNeed.EDE: "a policy of the Recursor has one extended error for all its names, those that pass too",
        DnsNeed.SOA: "the Recursor puts no SOA beside what a policy says before 4.9",
    }
