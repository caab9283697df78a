"""A DNS front: it refuses what the orders say, and hands everything else to a resolver as it came, and back.

    enforcer = Enforcer("orders/")
    async with Upstreams([("127.0.0.1", 53)]) as upstreams:
        server = DnsServer(QueryJudge(enforcer), upstreams, listen=[("127.0.0.1", 5353)])
        async with server.serve() as addresses:
            await asyncio.Event().wait()

UDP and TCP on each address. The client is whoever sends the packet, unless it is a load balancer that says by the
PROXY protocol whose packet it is (`load_balancers`), or a forwarder whose client subnet the judge believes. With
`reuse_port` several processes serve the same addresses, and the kernel shares the clients out among them.
"""

from __future__ import annotations

from cdnblock.adapters._dns_front.front import Front, FrontSettings, run, serve_front
from cdnblock.adapters._dns_front.memos import Decides
from cdnblock.adapters._dns_front.metrics import Totals
from cdnblock.adapters._dns_front.peers import Address, read_address
from cdnblock.adapters._dns_front.queries import FORWARD, QueryJudge, Verdict
from cdnblock.adapters._dns_front.server import DnsServer
from cdnblock.adapters._dns_front.streams import StreamLimits
from cdnblock.adapters._dns_front.upstreams import Upstreams
from cdnblock.adapters._dns_front.workers import Workers

__all__ = [
    "FORWARD",
    "Address",
    "Decides",
    "DnsServer",
    "Front",
    "FrontSettings",
    "QueryJudge",
    "StreamLimits",
    "Totals",
    "Upstreams",
    "Verdict",
    "Workers",
    "read_address",
    "run",
    "serve_front",
]
