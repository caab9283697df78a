"""`cdnblock apply` with real name servers, under the contract of all engines.

Their clients are told apart by addresses on loopback, where the service is told that the stage's countries are.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dns.exception
from apply_contract import ApplyContract
from apply_service import FRANCE, GERMANY, Process, Running
from dns_engines import answers, said
from export_engines import needs, running
from free_ports import free_ports
from short_folders import short_folder

from cdnblock.testing import dns_upstream
from cdnblock.testing.dns_stage import CLIENTS

CLIENT_OF = {FRANCE: "france", GERMANY: "germany"}


@contextmanager
def of_dns(out, arguments, port, command, log):
    """Yield a resolver that knows its clients by their addresses, which are on loopback."""

    def refuses(host, client):
        with suppress(OSError, dns.exception.Timeout):
            return said(port, host, CLIENT_OF[client])[0] in ("REFUSED", "NXDOMAIN")
        return False

    process = Resolver(command, port, log)
    arguments = [*arguments, "--probe", f"dns://127.0.0.1:{port}", "--probe-told", "source"]
    for country, place in (("FR", "france"), ("DE", "germany"), ("-", "nowhere")):
        arguments += ["--probe-client", f"{country}={CLIENTS[place]}"]
    loopback = (str(Path(__file__).with_name("apply_on_loopback.py")),)
    try:
        yield Running(out=out, arguments=arguments, start=process.start, stop=process.stop, refuses=refuses, program=loopback)  # fmt: skip
    finally:
        process.stop()


class Resolver(Process):
    """A name server, which may listen before it answers."""

    def start(self):
        answers(self.stack.enter_context(running(self.command, self.port, self.log)), self.port, self.log)


RECURSOR = """
local-address=127.0.0.1:{port}
allow-from=127.0.0.0/8
forward-zones-recurse=.={upstream[0]}:{upstream[1]}
dont-query=
dnssec=off
security-poll-suffix=
socket-dir={sockets}
daemon=no
write-pid=no
quiet=yes
setuid=
setgid=
extended-resolution-errors=yes
lua-dns-script={out}/cdnblock-powerdns.lua
"""


@needs("pdns_recursor", "pdns-recursor")
class TestPowerDns(ApplyContract):
    """Which looks at its file every second."""

    target = "powerdns"
    measures = {"dns": "refuse"}
    ignoring = ("--out", "{folder}/elsewhere", "--engine", "check=true", "--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder / "recursor", stage.folder / "cdnblock"
        folder.mkdir()
        (port,) = free_ports(1)
        with dns_upstream.serving() as upstream:
            known = {"port": port, "out": out, "sockets": short_folder(), "upstream": upstream}
            (folder / "recursor.conf").write_text(RECURSOR.format(**known))
            arguments = ["--engine", f"config={folder}/recursor.conf"]
            command = ["pdns_recursor", f"--config-dir={folder}"]
            with of_dns(out, arguments, port, command, folder / "log") as engine:
                yield engine


UNBOUND = """
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  num-threads: 1
  module-config: "respip iterator"
forward-zone:
  name: "."
  forward-addr: {upstream[0]}@{upstream[1]}
remote-control:
  control-enable: yes
  control-interface: {folder}/control
  control-use-cert: no
include: "{out}/cdnblock.conf"
"""


@needs("unbound", "unbound")
class TestUnbound(ApplyContract):
    """Which reads everything again, and keeps what it has stored."""

    target = "unbound"
    measures = {"dns": "refuse"}
    ignoring = ("--engine", "control=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder / "unbound", stage.folder / "cdnblock"
        folder.mkdir()
        (port,) = free_ports(1)
        file = folder / "unbound.conf"
        with dns_upstream.serving() as upstream:
            file.write_text(UNBOUND.format(port=port, out=out, folder=folder, upstream=upstream))
            arguments = ["--engine", f"config={file}", "--set", "clients=127.0.0.0/8"]
            with of_dns(out, arguments, port, ["unbound", "-d", "-c", str(file)], folder / "log") as engine:
                yield engine


BIND = """
key control {{ algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; }};
controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ control; }}; }};
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile "{folder}/session.key";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    dnssec-validation no;
    forward only;
    forwarders {{ {upstream[0]} port {upstream[1]}; }};
}};
include "{out}/cdnblock.conf";
"""
KEY = 'key control { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };\n'


@needs("named", "bind9")
class TestBind(ApplyContract):
    """Which is told by rndc."""

    target = "bind"
    measures = {"dns": "nxdomain"}
    ignoring = ("--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder / "bind", stage.folder / "cdnblock"
        folder.mkdir()
        port, control = free_ports(2)
        file = folder / "named.conf"
        (folder / "control.key").write_text(KEY)
        with dns_upstream.serving() as upstream:
            file.write_text(BIND.format(port=port, control=control, out=out, folder=folder, upstream=upstream))
            rndc = f"control=rndc -k {folder}/control.key -s 127.0.0.1 -p {control}"
            arguments = ["--engine", f"config={file}", "--engine", rndc]
            command = ["named", "-g", "-n", "1", "-c", str(file)]
            with of_dns(out, arguments, port, command, folder / "log") as engine:
                yield engine


KNOT = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
cache.open(10 * MB, 'lmdb://{folder}/cache')
trust_anchors.remove('.')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('detect_time_skew')
modules.unload('priming')
policy.add(policy.all(policy.FORWARD({{'{upstream[0]}@{upstream[1]}'}})))
dofile('{out}/cdnblock.lua')
"""


@needs("kresd", "knot-resolver")
class TestKnotResolver(ApplyContract):
    """Which watches its file."""

    target = "knot-resolver"
    measures = {"dns": "refuse"}
    ignoring = ("--out", "{folder}/elsewhere")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder / "knot", stage.folder / "cdnblock"
        folder.mkdir()
        (port,) = free_ports(1)
        file = folder / "kresd.conf"
        with dns_upstream.serving() as upstream:
            file.write_text(KNOT.format(port=port, out=out, folder=folder, upstream=upstream))
            with of_dns(out, [], port, ["kresd", "-n", "-c", str(file), str(folder)], folder / "log") as engine:
                yield engine


DNSDIST = """
dofile("{out}/cdnblock-dnsdist.lua")
setLocal("127.0.0.1:{port}")
setACL({{"127.0.0.0/8"}})
setSecurityPollSuffix("")
controlSocket("127.0.0.1:{console}")
setKey("miQjUydO5fwUmSDS0hT+8pHsPOwM+UOoQbhcVKrZ2zI=")
newServer({{address="{upstream[0]}:{upstream[1]}", healthCheckMode="up"}})
"""


@needs("dnsdist", "dnsdist")
class TestDnsdist(ApplyContract):
    """Which looks at its database every second, and is told of a new program by its console."""

    target = "dnsdist"
    measures = {"dns": "refuse"}
    ignoring = ("--out", "{folder}/elsewhere", "--engine", "check=true", "--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder / "dnsdist", stage.folder / "cdnblock"
        folder.mkdir()
        port, console = free_ports(2)
        file = folder / "dnsdist.conf"
        with dns_upstream.serving() as upstream:
            file.write_text(DNSDIST.format(port=port, console=console, out=out, upstream=upstream))
            command = ["dnsdist", "-C", str(file), "--supervised"]
            with of_dns(out, ["--engine", f"config={file}"], port, command, folder / "log") as engine:
                yield engine
