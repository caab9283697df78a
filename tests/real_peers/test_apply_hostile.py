"""`cdnblock apply` with sites that want to veto orders, with engines that single names get past, and with strangers' hands."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import test_apply as engines
from apply_service import FRANCE, World, eventually
from export_engines import asked, needs, rules_of, stage_with

from cdnblock.measures.cache_disable import NO_STORE
from cdnblock.measures.proxy_termination import notice

ENGINES = [
    pytest.param(engines.TestHAProxy, marks=needs("haproxy", "haproxy")),
    pytest.param(engines.TestNginx, marks=needs("nginx", "nginx")),
]
WITH_VARNISH = [*ENGINES, pytest.param(engines.TestVarnish, marks=needs("varnishd", "varnish"))]


class Hostile(BaseHTTPRequestHandler):
    """A site that answers as the first label of the host says; and which copies our notice to the letter."""

    protocol_version = "HTTP/1.1"
    stage = None

    def do_GET(self):
        manner = self.headers["Host"].partition(".")[0]
        getattr(self, manner.replace("-", "_"), self.page)()

    do_HEAD = do_POST = do_GET  # noqa: N815 (as http.server wants it)

    def page(self, status=200, headers=(), body=b"page"):
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def refusing(self):
        self.page(451, [("Link", '<https://site.example/>; rel="blocked-by"')], b"not here")

    def unstored(self):
        self.page(200, [*NO_STORE])

    def failing(self):
        self.page(503, [*NO_STORE])

    def closing(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def silent(self):
        time.sleep(4)
        self.closing()

    def copying(self):
        host = self.headers["Host"]
        decision = rules_of(self.stage).decide(host, country="FR", at=datetime.now(UTC))
        if not decision:
            self.page()
            return
        answer = notice(decision, accept="text/html", accept_language="en", operator_url=self.stage.operator_url)
        headers = [(name, value) for name, value in answer.headers if name != "Content-Length"]
        self.page(answer.status, headers, answer.body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hostile_world(tmp_path, kind, **orders):
    """Yield an engine before a hostile site; it goes by these orders."""
    with stage_with(tmp_path) as friendly, ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as site:
        stage = dataclasses.replace(friendly, origin=f"http://127.0.0.1:{site.server_port}")
        Hostile.stage = stage
        threading.Thread(target=site.serve_forever, daemon=True).start()
        with kind().set_up(stage) as engine:
            world = World(kind.target, stage, engine, kind.measures)
            world.order(**{"base": {"names": ["base.example"]}, **orders})
            code, said = world.service().once()
            assert code == 5, said
            engine.start()
            code, said = world.service().once()
            assert code == 0, said
            yield world
        site.shutdown()


@pytest.mark.parametrize("kind", WITH_VARNISH)
def test_no_site_can_veto_an_order(kind, tmp_path):
    """Whatever it answers outside the territory, a 451 of its own or a copy of ours: the new orders are in force."""
    with hostile_world(tmp_path, kind) as world:
        manners = ("refusing", "copying", "unstored", "failing", "closing")
        for manner in manners:
            world.order(**{manner: {"names": [f"{manner}.example"]}})
        world.order(cached={"names": ["cached.example", "copying.cached.example"], "measures": {"cdn": "disable"}})
        world.order(silent={"names": ["silent.example"]})
        code, said = world.service("--patience", "2").once()
        assert code == 0, said
        for name in ("base", *manners, "silent"):
            assert asked(int(world.engine.url.rpartition(":")[2]), f"{name}.example", FRANCE)[0] == 451
        with world.service("--look-every", "0.2", "--patience", "2").run() as service:
            world.order(more={"names": ["copying.more.example", "more.example"]})
            service.until("in step with", times=2)
            time.sleep(1.5)
        assert "not in step" not in service.said
        assert "otherwise than decided" not in service.said


@needs("nginx", "nginx")
def test_no_site_can_veto_an_order_where_bodies_of_any_length_go_through(tmp_path):
    """A server that lets uploads of any length through, unread: what tells nginx from the site still never gets there."""
    with hostile_world(tmp_path, engines.TestNginx) as world:
        site = world.stage.folder / "sites" / "site.conf"
        unbounded = "client_max_body_size 0; proxy_request_buffering off; location / {"
        site.write_text(site.read_text().replace("location / {", unbounded, 1))
        world.engine.stop()
        world.engine.start()
        world.order(copying={"names": ["copying.example"]})
        code, said = world.service("--patience", "1").once()
        assert (code, world.refuses("copying.example")[0]) == (0, True), said


def test_where_nothing_can_tell_a_copy_from_ours_it_is_said(tmp_path):
    """Envoy has no answer of its own: the order on a site that imitates us is in force all the same, and it is told."""
    with hostile_world(tmp_path, engines.TestEnvoy) as world:
        world.order(new={"names": ["copying.example", "fine.example"]})
        code, said = world.service("--patience", "0.5").once()
        assert (code, "copying.example" in said, "imitates it" in said) == (1, True, True), said
        assert "is in place again" not in said
        assert world.refuses("fine.example") == (True, False)
        assert world.refuses("copying.example")[0]


@needs("nginx", "nginx")
def test_an_engine_that_goes_on_refusing_is_found_out(tmp_path):
    """A name is lifted and nginx does not hear of it: what it says itself, to a request that no site sees, tells."""
    gone = {"names": ["copying.example"]}
    with hostile_world(tmp_path, engines.TestNginx, gone=gone, more={"names": ["more.example"]}) as world:
        deaf = world.service("--engine", "reload=true", "--patience", "1", "--look-every", "600")
        with deaf.run():
            world.order(
                gone={
                    "names": ["copying.example"],
                    "lifted": [{"names": ["copying.example"], "at": "2025-06-01T12:00"}],
                }
            )
            deaf.until("otherwise than decided")
            deaf.until("what was right before is in place again")
        (world.stage.orders / "gone.yaml").unlink()
        code, said = world.service("--engine", "reload=true", "--patience", "1").once()
        assert (code, "copying.example" in said) == (1, True), said
        code, said = world.service().once()
        assert (code, world.refuses("copying.example")) == (0, (False, False)), said


@needs("nginx", "nginx")
def test_a_name_that_gets_past_the_engine_keeps_nobody_else_out_of_force(tmp_path):
    """A server block without our include: that is said of this name alone, and the other orders stay."""
    with hostile_world(tmp_path, engines.TestNginx) as world:
        folder = world.stage.folder
        site = folder / "sites" / "site.conf"
        port = world.engine.url.rpartition(":")[2]
        astray = f"server {{ listen 127.0.0.1:{port}; server_name astray.example; location / {{ proxy_pass {world.stage.origin}; }} }}"
        site.write_text(site.read_text().replace(";", " default_server;", 1) + astray)
        world.engine.stop()
        world.engine.start()
        with world.service("--look-every", "0.3", "--patience", "1").run() as service:
            world.order(new={"names": ["astray.example", "fine.example"]})
            service.until("not in step for a name: astray.example")
            world.until_refused("fine.example")
            world.order(later={"names": ["later.example"]})
            world.until_refused("later.example")
            time.sleep(1)
        assert "is in place again" not in service.said
        assert world.refuses("fine.example") == (True, False)
        code, said = world.service("--patience", "1").once()
        assert (code, "not in step for a name: astray.example" in said) == (1, True), said


def api(world, command):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(world.stage.folder / "api.sock"))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@needs("haproxy", "haproxy")
def test_what_somebody_takes_from_haproxys_memory_is_put_back(tmp_path):
    """One of many names of a group, which no probe would ask for: by --once, and by a service that looks."""
    names = [f"n{number}.example" for number in range(300)]
    with hostile_world(tmp_path, engines.TestHAProxy, many={"names": names}) as world:
        hosts = world.engine.out / "cdnblock-hosts.map"
        api(world, f"del map {hosts} n217.example")
        assert world.refuses("n217.example") == (False, False)
        code, said = world.service().once()
        assert (code, "goes by something else than its cdnblock-hosts.map" in said) == (0, True), said
        assert world.refuses("n217.example") == (True, False)
        with world.service("--look-every", "0.2").run():
            api(world, f"add map {hosts} stranger.example {api(world, f'show map {hosts}').splitlines()[0].split()[2]}")
            api(world, f"del map {hosts} n18.example")
            world.until_refused("n18.example")
            world.until_refused("stranger.example", refused=False)


@needs("haproxy", "haproxy")
def test_a_reload_by_somebody_else_is_noticed_before_a_change(tmp_path):
    """It has read files that were not ours: the next change tells it everything, not what is new alone."""
    with hostile_world(tmp_path, engines.TestHAProxy) as world, world.service("--look-every", "600").run():
        hosts = world.engine.out / "cdnblock-hosts.map"
        ours = hosts.read_bytes()
        hosts.write_bytes(b"")
        before = _pid(world)
        os.kill(int((world.stage.folder / "haproxy.pid").read_text().split()[0]), signal.SIGUSR2)
        eventually(lambda: _pid(world) not in (None, before))
        eventually(lambda: world.refuses("base.example") == (False, False))
        hosts.write_bytes(ours)
        world.order(new={"names": ["new.example"]})
        world.until_refused("new.example")
        world.until_refused("base.example")


@needs("haproxy", "haproxy")
def test_a_reload_by_somebody_else_that_read_other_rules_is_made_good(tmp_path):
    """Its maps are ours and the files are back; what it does with them is of before: it is reloaded, without a change."""
    with hostile_world(tmp_path, engines.TestHAProxy, many={"names": [f"n{n}.example" for n in range(9)]}) as world:
        rules = world.engine.out / "cdnblock.cfg"
        shallow = rules.read_bytes()
        world.order(deep={"names": ["a.b.c.d.deep.example"]})
        with world.service("--look-every", "0.5").run():
            world.until_refused("a.b.c.d.deep.example")
            ours, before = rules.read_bytes(), _pid(world)
            rules.write_bytes(shallow)
            os.kill(int((world.stage.folder / "haproxy.pid").read_text().split()[0]), signal.SIGUSR2)
            eventually(lambda: _pid(world) not in (None, before))
            rules.write_bytes(ours)
            world.until_refused("a.b.c.d.deep.example")


def _pid(world):
    with contextlib.suppress(OSError):
        return next((line for line in api(world, "show info").splitlines() if line.startswith("Pid:")), None)
    return None


@needs("nginx", "nginx")
def test_an_nginx_that_was_never_told_of_its_files_is_told(tmp_path):
    """The files are as they should be, and its workers are older than they are: --once does not call that in step."""
    names = [f"n{number}.example" for number in range(40)]
    with hostile_world(tmp_path, engines.TestNginx, many={"names": names}) as world:
        hosts = world.engine.out / "cdnblock-hosts.map"
        ours = hosts.read_bytes()
        hosts.write_bytes(b"".join(line for line in ours.splitlines(keepends=True) if b"n17.example" not in line))
        world.engine.stop()
        world.engine.start()
        assert world.refuses("n17.example") == (False, False)
        time.sleep(0.1)
        hosts.write_bytes(ours)
        code, said = world.service().once()
        assert (code, world.refuses("n17.example")) == (0, (True, False)), said
