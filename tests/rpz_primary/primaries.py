"""A hidden primary in this process, on loopback, and what is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import dns.message
import dns.query
import dns.tsig
import dns.xfr
import dns.zone
from order_texts import order_text

from cdnblock.enforcer import Enforcer
from cdnblock.rpz_primary.policies import read_clients
from cdnblock.rpz_primary.primary import PrimarySettings, serve_primary

SECRET = "t55LgjkbmiOvemoYnzM6OI69f2i/8Mg//DShQAb2zug="
KEY = dns.tsig.Key("rpz", SECRET, "hmac-sha256")


def put_names(folder, order_id, names):
    """Write an order in FR that refuses these names by NXDOMAIN; none takes it away."""
    path = folder / f"{order_id}.yaml"
    if names:
        text = order_text(id=order_id, measures="{dns: nxdomain}", names=f"[{', '.join(names)}]")
        beside = folder / f".{order_id}"
        beside.write_text(text)
        beside.rename(path)
    else:
        path.unlink()


class Serving:
    """A primary, and the orders it follows."""

    def __init__(self, enforcer, orders, primary):
        self.enforcer, self.orders, self.primary = enforcer, orders, primary
        self.port = primary.addresses[0][1]

    def zone(self, name):
        return next(zone for zone in self.primary.zones if zone.name == name)

    def put(self, order_id, names):
        """Change an order, and return when the zones say so."""
        put_names(self.orders, order_id, names)
        self.enforcer.reload(accept_release=True)
        until = time.monotonic() + 20
        while self.primary.status()["revision"] != self.enforcer.rules.revision:
            assert time.monotonic() < until
            time.sleep(0.005)

    def transferred(self, name, zone=None, keyring=KEY):
        """Return a zone as dnspython transfers it, by increments where it is given one."""
        zone = dns.zone.Zone(f"{name}.") if zone is None else zone
        query, _ = dns.xfr.make_query(zone, keyring=keyring)
        dns.query.inbound_xfr("127.0.0.1", zone, query, port=self.port, timeout=20)
        return zone

    def asked(self, query, *, tcp=False, **how):
        ask = dns.query.tcp if tcp else dns.query.udp
        return ask(query, "127.0.0.1", 10, self.port, **how)

    def raw(self, packet, *, tcp=False):
        """Return the octets of the answer to octets, None where there is none."""
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(5 if tcp else 0.5)
            sock.connect(("127.0.0.1", self.port))
            try:
                if not tcp:
                    sock.send(packet)
                    return sock.recv(65_535)
                sock.sendall(len(packet).to_bytes(2, "big") + packet)
                return received(sock)
            except (TimeoutError, ConnectionError):
                return None


def received(sock):
    """Return the message that comes on a connection, None where it ends first."""
    with contextlib.suppress(ConnectionError):
        size = _exactly(sock, 2)
        if size is not None:
            return _exactly(sock, int.from_bytes(size, "big"))
    return None


def _exactly(sock, size):
    found = b""
    while len(found) < size:
        part = sock.recv(size - len(found))
        if not part:
            return None
        found += part
    return found


@contextlib.contextmanager
def serving(folder, names=("one.example", "two.example"), *, clients=("fr=FR",), clock=time.time, **options):
    """Serve until the end of the block."""
    orders = folder / "orders"
    orders.mkdir(exist_ok=True)
    if names and not list(orders.iterdir()):
        put_names(orders, "first", names)
    settings = PrimarySettings(
        listen=(("127.0.0.1", 0),), clients=read_clients(clients), folder=folder / "zones",
        **{"keys": {KEY.name: KEY}, **options},
    )  # fmt: skip
    ready, ended, found = threading.Event(), [], []

    async def run(enforcer):
        ended.extend((asyncio.get_running_loop(), asyncio.Event()))
        async with serve_primary(settings, enforcer, clock) as primary:
            found.append(primary)
            ready.set()
            await ended[1].wait()

    with Enforcer(orders) as enforcer:

        def work():
            try:
                asyncio.run(run(enforcer))
            finally:
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        ready.wait(60)
        try:
            yield Serving(enforcer, orders, found[0])
        finally:
            ended[0].call_soon_threadsafe(ended[1].set)
            thread.join(30)


def targets(zone):
    """Return owner and target of each record of a transferred zone but SOA and NS."""
    return {str(name): str(rdata.target) for name, _, rdata in zone.iterate_rdatas("CNAME")}


def serial(zone):
    """Return a transferred zone's serial."""
    return zone.get_soa().serial
