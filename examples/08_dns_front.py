"""Measure `dns` before a resolver, in a program of your own.

Run it: python examples/08_dns_front.py 127.0.0.1:5353 127.0.0.1:53
Ask it: dig @127.0.0.1 -p 5353 +subnet=90.84.144.0/24 www.motogpstream.me HTTPS

`cdnblock dns` is the same with options, workers, and DNS over TLS and HTTPS.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from cdnblock import Enforcer
from cdnblock.adapters.dns_server import DnsServer, QueryJudge, Upstreams, read_address

ORDERS = Path(__file__).parent / "orders"
THEN = datetime(2025, 5, 1, 12, tzinfo=UTC)  # the orders have ended since, so this example stays in their season


async def serve(enforcer: Enforcer, listen: str, resolver: str) -> None:
    """Refuse what the orders say, and let the resolver answer everything else."""
    judge = QueryJudge(enforcer, contact="legal@resolver.example", trusted_forwarders=["127.0.0.1"])
    async with Upstreams([read_address(resolver)], amend=judge.amend) as upstreams:
        server = DnsServer(judge, upstreams, listen=[read_address(listen)])
        async with server.serve():
            await asyncio.Event().wait()


def main(listen: str = "127.0.0.1:5353", resolver: str = "127.0.0.1:53") -> None:
    """Serve until somebody presses Ctrl-C; new order files take effect meanwhile."""
    with Enforcer(ORDERS, clock=THEN.timestamp) as enforcer:
        asyncio.run(serve(enforcer, listen, resolver))


if __name__ == "__main__":
    main(*sys.argv[1:])
