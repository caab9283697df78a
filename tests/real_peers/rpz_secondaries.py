"""The hidden primary as its command runs it, and real resolvers that transfer its zones, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dns.exception
import dns.message
import dns.query
import dns.tsig
from export_engines import ROOT, listens, running, wait_until
from export_resolvers import answers
from free_ports import free_ports
from short_folders import short_folder

from cdnblock.sources.control_socket import ask as ask_control

SETS = {
    # name of the clients' zones: where they are, and their networks on loopback (cdnblock.testing.dns_stage)
    "fr": ("FR", ("127.10.0.0/16", "::1/128")),
    "re": ("RE", ("127.11.0.0/16",)),
    "gp": ("GP", ("127.12.0.0/16",)),
    "de": ("DE", ("127.20.0.0/16",)),
    "lost": ("unknown", ("127.0.0.0/16",)),
}
LAYERS = ("pass", "delta", "base")
SECRET = "t55LgjkbmiOvemoYnzM6OI69f2i/8Mg//DShQAb2zug="


def key_clause(name):
    return f'key "{name}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'


def key(name):
    return dns.tsig.Key(name, SECRET, "hmac-sha256")


class Primary:
    """`cdnblock rpz-primary` for some sets of clients."""

    def __init__(self, folder, orders, *, sets=tuple(SETS), settle=600, keys=("all",)):
        self.folder, self.orders, self.sets = folder, orders, sets
        (self.port,) = free_ports(1)
        self.state = folder / "primary"
        self.log = folder / "primary.log"
        self.settle = settle
        self.secondaries, self.resolvers, self.more = [], [], []
        self.keys = folder / "keys"
        self.keys.write_text("".join(map(key_clause, (*keys, *sets))))
        self.keys.chmod(0o600)

    @contextlib.contextmanager
    def run(self):
        command = [
            sys.executable, "-m", "cdnblock", "rpz-primary", "--orders", self.orders, "--state", self.state, "--listen",
            f"127.0.0.1:{self.port}", "--keys", self.keys, "--partial", "--settle", self.settle,
            *(word for name in self.sets for word in ("--clients", f"{name}={SETS[name][0]}")),
            *(word for text in self.secondaries for word in ("--secondary", text)), *self.more,
        ]  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CDNBLOCK_")}
        environment = {**kept, "PYTHONPATH": str(ROOT)}
        with running([*map(str, command)], self.port, self.log, env=environment) as self.process:
            wait_until(lambda: "rpz_primary" in self.status(), self.log.read_text)
            yield self

    def status(self):
        return ask_control(self.state, {"command": "status"})

    def serials(self):
        """Return the serial of each zone."""
        return {name: zone["serial"] for name, zone in self.status()["rpz_primary"]["zones"].items()}

    def reload(self):
        """Have the orders read now; return when every resolver goes by them."""
        revision = ask_control(self.state, {"command": "reload", "accept_release": True}, 60)["revision"]
        wait_until(lambda: self.status()["rpz_primary"]["revision"] == revision, self.log.read_text)
        self.arrived()

    def arrived(self):
        """Wait until every resolver has the zones as they are."""
        wanted = self.serials()
        for resolver in self.resolvers:
            wait_until(lambda: resolver.serials() == wanted, lambda: f"{resolver.serials()}, not {wanted}")  # noqa: B023
            resolver.settle()


class Secondary:
    """A resolver or name server in a folder of its own; `upstream` answers what is not in the zones."""

    program = ""

    def __init__(self, folder, primary, upstream=None, *, port=None):
        self.folder = folder / type(self).__name__.lower()
        self.folder.mkdir()
        self.primary, self.upstream = primary, upstream
        self.primary_port = port or primary.port
        self.port, self.control = free_ports(2)
        self.log = self.folder / "log"
        primary.secondaries += self.told()
        if upstream is not None:
            primary.resolvers.append(self)

    def told(self):
        """Return how the primary is to notify it."""
        return [f"127.0.0.1:{self.port}"]

    def zones(self):
        return [f"{layer}-{name}" for name in self.primary.sets for layer in LAYERS]

    def settle(self):
        """Wait until what was transferred is gone by."""

    @contextlib.contextmanager
    def run(self):
        with running(self.command(), self.port, self.log) as self.process:
            wait_until(lambda: self.process.poll() is not None or answers(self.port), self.log.read_text)
            yield self


class Bind(Secondary):
    """A view for each set of clients, with a key of its own, by which notifications find their view."""

    def told(self):
        return [f"127.0.0.1:{self.port},key={name},clients={name}" for name in self.primary.sets]

    def command(self):
        views = "".join(map(self.view, self.primary.sets))
        (self.folder / "named.conf").write_text(
            f'options {{ directory "{self.folder}"; pid-file none; session-keyfile "{self.folder}/session.key";'
            f" listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 port {self.port} {{ ::1; }};"
            " recursion yes; allow-recursion { any; }; allow-query { any; }; dnssec-validation no; notify no;"
            " empty-zones-enable no; qname-minimization off; minimal-responses yes; };\n"
            f"controls {{ }};\n{self.primary.keys.read_text()}{views}"
        )
        return ["named", "-g", "-c", str(self.folder / "named.conf")]

    def view(self, name):
        zones = "".join(
            f' zone "{layer}-{name}" {{ type secondary; file "{layer}-{name}";'
            f" primaries {{ 127.0.0.1 port {self.primary_port} key {name}; }}; allow-notify {{ key {name}; }}; }};\n"
            for layer in LAYERS
        )
        policies = "".join(f' zone "{layer}-{name}" policy given min-update-interval 0 log no;' for layer in LAYERS)
        forward = (
            f' zone "." {{ type forward; forward only; forwarders {{ 127.0.0.1 port {self.upstream[1]}; }}; }};\n'
            if self.upstream
            else ""
        )
        return (
            f'view "{name}" {{ match-clients {{ key {name}; {"; ".join(SETS[name][1])}; }};\n{zones}{forward}'
            f" response-policy {{{policies} }} qname-wait-recurse no break-dnssec yes recursive-only no"
            " nsip-enable no nsdname-enable no;\n};\n"
        )

    def serials(self):
        return {zone: self.serial(zone) for zone in self.zones()}

    def serial(self, zone):
        query = dns.message.make_query(zone, "SOA")
        query.use_tsig(key(zone.rpartition("-")[2]))
        return serial_in(dns.query.udp(query, "127.0.0.1", 5, self.port))

    def settle(self):
        """BIND works a policy zone through after it was transferred, and waits a quarter of a second before."""
        time.sleep(1.2)


class Unbound(Secondary):
    """A tag for each set of clients; Unbound knows no TSIG, so its address is listed."""

    def command(self):
        tags = " ".join(self.primary.sets)
        clients = "".join(
            f"  access-control: {network} allow\n  access-control-tag: {network} {name}\n"
            for name in self.primary.sets
            for network in SETS[name][1]
        )
        zones = "".join(
            f'rpz:\n  name: "{layer}-{name}"\n  primary: 127.0.0.1@{self.primary_port}\n'
            f'  allow-notify: 127.0.0.1\n  tags: "{name}"\n'
            for name in self.primary.sets
            for layer in LAYERS
        )
        (self.folder / "unbound.conf").write_text(
            f'server:\n  directory: "{self.folder}"\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n'
            f'  logfile: ""\n  interface: 127.0.0.1@{self.port}\n  interface: ::1@{self.port}\n'
            f'  do-not-query-localhost: no\n  num-threads: 1\n  module-config: "respip iterator"\n'
            f'  define-tag: "{tags}"\n{clients}'
            f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{self.upstream[1]}\n{zones}'
            f"remote-control:\n  control-enable: yes\n  control-interface: {self.folder}/control\n"
            "  control-use-cert: no\n"
        )
        return ["unbound", "-d", "-c", str(self.folder / "unbound.conf")]

    def serials(self):
        done = subprocess.run(
            ["unbound-control", "-c", str(self.folder / "unbound.conf"), "list_auth_zones"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        rows = (line.split() for line in done.stdout.splitlines())
        return {row[0].rstrip("."): int(row[-1]) for row in rows if row and row[-1].isdigit()}


class Recursor(Secondary):
    """PowerDNS Recursor: policies by name, each discarded for whom it is not, and a packet cache for each set."""

    error = ""  # the extended error's text; a policy has one also for what passes, so it is not for pass

    def command(self):
        options = f'tsigname="all", tsigalgo="hmac-sha256", tsigsecret="{SECRET}", refresh=1'
        censored = f', extendedErrorCode=16, extendedErrorExtra="{self.error}"'
        policies = "".join(
            f'rpzPrimary("127.0.0.1:{self.primary_port}", "{zone}.", {{policyName="{zone}", {options}'
            f"{censored if self.error and not zone.startswith('pass') else ''}}})\n"
            for zone in self.zones()
        )
        sets = "".join(
            f'sets["{name}"] = newNMG()\nsets["{name}"]:addMasks({{{", ".join(map(json.dumps, SETS[name][1]))}}})\n'
            for name in self.primary.sets
        )
        numbers = "".join(
            f'  if sets["{name}"]:match(remote) then return {number} end\n'
            for number, name in enumerate(self.primary.sets, 1)
        )
        discards = "".join(
            f'  if not sets["{name}"]:match(dq.remoteaddr) then\n'
            + "".join(f'    dq:discardPolicy("{layer}-{name}")\n' for layer in LAYERS)
            + "  end\n"
            for name in self.primary.sets
        )
        (self.folder / "zones.lua").write_text(policies)
        (self.folder / "clients.lua").write_text(
            f"local sets = {{}}\n{sets}"
            f"function gettag(remote, ...)\n{numbers}  return 0\nend\n"
            f"function prerpz(dq)\n{discards}  return false\nend\n"
        )
        (self.folder / "recursor.conf").write_text(
            f"local-address=127.0.0.1:{self.port}, [::1]:{self.port}\nallow-from=127.0.0.0/8, ::1\n"
            f"forward-zones-recurse=.=127.0.0.1:{self.upstream[1]}\ndont-query=\ndnssec=off\n"
            f"security-poll-suffix=\nthreads=1\nsocket-dir={short_folder()}\ndaemon=no\nwrite-pid=no\nquiet=yes\n"
            f"packetcache-ttl=1\nextended-resolution-errors=yes\nsetuid=\nsetgid=\n"
            f"lua-config-file={self.folder}/zones.lua\nlua-dns-script={self.folder}/clients.lua\n"
            f"webserver=yes\nwebserver-port={self.control}\napi-key=test\n"
        )
        return ["pdns_recursor", f"--config-dir={self.folder}"]

    def serials(self):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.control}/api/v1/servers/localhost/rpzstatistics", headers={"X-API-Key": "test"}
        )
        directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        # It may answer queries before it does this.
        with contextlib.suppress(OSError), directly.open(request, timeout=10) as answer:
            return {name.rstrip("."): row["serial"] for name, row in json.load(answer).items()}
        return {}

    def settle(self):
        """What is in the packet cache is there for a second."""
        time.sleep(1.2)


class Nsd(Secondary):
    """NSD in between: it transfers by IXFR with a key, and hands on whole zones and changes to listed addresses."""

    def __init__(self, folder, primary, downstream=()):
        super().__init__(folder, primary)
        self.downstream = downstream

    def told(self):
        return [f"127.0.0.1:{self.port},key=all"]

    def command(self):
        zones = "".join(
            f'zone:\n  name: "{zone}"\n  zonefile: "{zone}"\n  request-xfr: 127.0.0.1@{self.primary_port} all\n'
            "  allow-notify: 127.0.0.1 all\n  provide-xfr: 127.0.0.0/8 NOKEY\n  store-ixfr: yes\n"
            "  min-refresh-time: 1\n" + "".join(f"  notify: 127.0.0.1@{port} NOKEY\n" for port in self.downstream)
            for zone in self.zones()
        )
        (self.folder / "nsd.conf").write_text(
            f'server:\n  ip-address: 127.0.0.1@{self.port}\n  username: ""\n  zonesdir: "{self.folder}"\n'
            f'  pidfile: "{self.folder}/pid"\n  xfrdfile: "{self.folder}/xfrd.state"\n  xfrdir: "{self.folder}"\n'
            f'  zonelistfile: "{self.folder}/zone.list"\n  server-count: 1\n  rrl-ratelimit: 0\n  xfrd-reload-timeout: 0\n'
            f"remote-control:\n  control-enable: no\n"
            f'key:\n  name: "all"\n  algorithm: hmac-sha256\n  secret: "{SECRET}"\n{zones}'
        )
        return ["nsd", "-d", "-c", str(self.folder / "nsd.conf")]

    def serials(self):
        return {zone: self.serial(zone) for zone in self.zones()}

    def serial(self, zone):
        return serial_in(dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", 5, self.port))


class Knot(Nsd):
    """Knot DNS in between, the same way."""

    def command(self):
        remotes = "".join(
            f"  - id: down{number}\n    address: 127.0.0.1@{port}\n" for number, port in enumerate(self.downstream)
        )
        notify = ", ".join(f"down{number}" for number in range(len(self.downstream)))
        zones = "".join(f"  - domain: {zone}.\n" for zone in self.zones())
        (self.folder / "knot.conf").write_text(
            f"server:\n  rundir: {self.folder}\n  listen: 127.0.0.1@{self.port}\n  udp-workers: 1\n  tcp-workers: 1\n"
            "  background-workers: 1\n"
            f"log:\n  - target: stderr\n    any: warning\ndatabase:\n  storage: {self.folder}\n"
            f"key:\n  - id: all\n    algorithm: hmac-sha256\n    secret: {SECRET}\n"
            f"remote:\n  - id: primary\n    address: 127.0.0.1@{self.primary_port}\n    key: all\n{remotes}"
            "acl:\n  - id: told\n    address: 127.0.0.1\n    key: all\n    action: notify\n"
            "  - id: asked\n    address: 127.0.0.0/8\n    action: transfer\n"
            f"template:\n  - id: default\n    storage: {self.folder}\n    master: primary\n    acl: [told, asked]\n"
            f"    notify: [{notify}]\nzone:\n{zones}"
        )
        return ["knotd", "-c", str(self.folder / "knot.conf")]


def serial_in(answer):
    """Return the serial of the SOA in an answer, None where there is none."""
    return next((rrset[0].serial for rrset in answer.answer if rrset.rdtype == dns.rdatatype.SOA), None)


__all__ = ["Bind", "Knot", "Nsd", "Primary", "Recursor", "Unbound", "key", "listens"]
