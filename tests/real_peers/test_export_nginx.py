"""nginx with the configuration that `cdnblock export nginx` writes, under the contract of every host."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from free_ports import free_ports

sys.path.insert(0, str(Path(__file__).parent))

from engine_texts import NGINX_ALONE
from export_engines import (
    EMPTY_LABELS,
    HOSTILE,
    QUESTIONS,
    asked,
    at_each_turn,
    export_for,
    names_without_cache,
    needs,
    notices,
    rules_of,
    running,
    said_without_clocks,
    shakes_hands,
    stage_with,
    started_example,
    texts_of,
    wait_until,
)

from cdnblock.geo.client_address import TrustedProxies
from cdnblock.measures.cache_disable import names_cover, to_purge
from cdnblock.orders.model import Measure
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.testing import AdapterContract, Host, Need
from cdnblock.testing.places import PLACES
from cdnblock.testing.stage import put_orders

MODULES = Path("/usr/lib/nginx/modules")
STREAM_MODULE = MODULES / "ngx_stream_module.so"
GEOIP2_MODULE = MODULES / "ngx_http_geoip2_module.so"
HEADERS_MORE = MODULES / "ngx_http_headers_more_filter_module.so"

pytestmark = needs("nginx", "nginx")

CONFIGURATION = (
    """
{modules}
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log notice;
events {{ worker_connections 1024; }}
http {{
  include {out}/cdnblock-http.conf;
"""
    + NGINX_ALONE
    + """\
  proxy_cache_path {folder}/cache keys_zone=edge:1m use_temp_path=off;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  map $http_host $asked_port {{ default ""; "~(?<digits>:[0-9]+)$" $digits; }}
  map $host $asked_for {{ default $host$asked_port; {rewrites} }}
  server {{
    listen 127.0.0.1:{port} default_server;
    listen 127.0.0.1:{tls} ssl http2 default_server;
    ssl_certificate {certificate}; ssl_certificate_key {certificate};
    client_max_body_size 0;
    include {out}/cdnblock-server.conf;
    location / {{
      proxy_pass {origin};
      proxy_http_version 1.1;
      proxy_set_header Host $asked_for;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      include {out}/cdnblock-cache.conf;
    }}
    location /cached {{
      proxy_pass {origin};
      proxy_set_header Host $asked_for;
      proxy_cache edge;
      proxy_cache_key $host$request_uri;
      include {out}/cdnblock-cache.conf;
    }}
    {more}
  }}
}}
"""
)
UNCACHED = """
    location @cdnblock_uncached {{
      proxy_pass {origin};
      proxy_set_header Host $asked_for;
      include {out}/cdnblock-uncached.conf;
    }}
"""


class Nginx:
    """An nginx that is reloaded by SIGHUP, and whose cache is purged by deleting what is stored of a name."""

    def __init__(self, stage, **settings):
        self.stage = stage
        self.settings = settings
        self.out = stage.folder / "cdnblock"
        self.file = stage.folder / "nginx.conf"
        self.port, self.tls = free_ports(2)
        self.changing = threading.Lock()
        self.uncached = names_without_cache(stage)
        export_for(stage, "nginx", self.out, **settings)
        modules = f"load_module {HEADERS_MORE};" if settings["headers-more"] == "yes" else ""
        user = "user root;" if os.geteuid() == 0 else ""  # otherwise workers run as somebody who may read nothing here
        known = {"folder": stage.folder, "out": self.out, "origin": stage.origin}
        self.file.write_text(
            CONFIGURATION.format(
                **known,
                modules=modules,
                user=user,
                port=self.port,
                tls=self.tls,
                certificate=stage.certificate,
                rewrites=" ".join(f"{old} {new};" for old, new in stage.rewrites.items()),
                more="" if modules else UNCACHED.format(**known),
            )
        )

    def check(self):
        done = subprocess.run(
            ["nginx", "-t", "-c", str(self.file), "-e", str(self.stage.folder / "check.log")],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr, done.stderr

    @contextmanager
    def run(self):
        self.check()
        log = self.stage.folder / "nginx.out"
        command = ["nginx", "-c", str(self.file), "-e", str(self.stage.folder / "nginx.log")]
        with running(command, self.port, log) as self.process, at_each_turn(self.stage, self.reload):
            yield

    def reload(self):
        """Take the orders as they are now; return when no worker that goes by the old ones takes connections."""
        with self.changing:
            export_for(self.stage, "nginx", self.out, **self.settings)
            self.check()
            before = self.workers()
            self.process.send_signal(signal.SIGHUP)
            wait_until(lambda: (now := self.workers()) and not now & before)
            self.purge()

    def workers(self):
        """Return the processes that take connections."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {pid for pid in children if _title(pid) == "nginx: worker process"}

    def purge(self):
        before, self.uncached = self.uncached, names_without_cache(self.stage)
        names = to_purge(before, self.uncached)
        for path in (self.stage.folder / "cache").rglob("*"):
            if path.is_file() and names_cover(names, _host_of(path)):
                path.unlink()


def _title(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def _host_of(path):
    """Return the host in the key of something stored, which is the host and the target."""
    key = path.read_bytes().partition(b"\nKEY: ")[2].partition(b"\n")[0]
    return key.partition(b"/")[0].decode()


class ContractOfNginx(AdapterContract):
    """One nginx with a cache, HTTP/1.1 in clear and both versions over TLS."""

    random_requests = 2_000
    settings: dict[str, str]
    cannot = {
        Need.FORWARDED: "nginx's geo goes by X-Forwarded-For and does not read Forwarded",
        Need.CONNECT: "nginx answers CONNECT with 405 by itself",
        Need.LIVE: "a reload of nginx closes the connections that are kept",
        Need.CUT: "nginx decides a request when it begins, and nothing of its own ends what runs",
    }

    @contextmanager
    def serve(self, stage):
        nginx = Nginx(stage, **self.settings)
        with nginx.run():
            yield Host(address=("127.0.0.1", nginx.port), tls=("127.0.0.1", nginx.tls), reload=nginx.reload)


@pytest.mark.skipif(not HEADERS_MORE.exists(), reason="apt-get install libnginx-mod-http-headers-more-filter")
class TestNginx(ContractOfNginx):
    """With headers-more."""

    settings = {"headers-more": "yes"}


class TestNginxWithoutModules(ContractOfNginx):
    """As it is built, without any module: names under measure `cdn` have a location of their own."""

    settings = {"headers-more": "no"}


def test_the_example_starts_as_it_stands(tmp_path):
    """`examples/nginx/start.sh` exports, starts, refuses a client in France and serves one in Germany."""
    with started_example("nginx", tmp_path) as port:
        status, headers, body = asked(port, "www.motogpstream.me", "90.84.144.1")
        assert (status, headers["link"]) == (451, '<https://edge.example/blocked>; rel="blocked-by"')
        assert "tjp-2025-03-28-motogp" in body
        assert asked(port, "www.motogpstream.me", "80.187.0.1")[::2] == (200, "site www.motogpstream.me")
        assert asked(port, "other.example", "90.84.144.1")[::2] == (200, "site other.example")


ORDERS = {
    "hostile": {
        "names": ["a.example", {"name": "alone.example", "subdomains": False}],
        "title": HOSTILE,
        "claimant": HOSTILE,
    },
    "second": {"names": ["www.a.example"], "measures": {"proxy": "terminate", "cdn": "disable"}, "contact": HOSTILE},
    "lifted": {"names": ["b.example"], "lifted": [{"names": ["free.b.example"], "at": "2025-05-01T12:00"}]},
    "below": {"names": [{"name": "c.example", "subdomains": False}, "c.example"]},
    "close": {"names": [{"name": "b.example", "subdomains": False}], "measures": {"proxy": "close"}},
    "everywhere": {"names": ["everywhere.example"], "territory": "world"},
    "unknown": {"names": ["unknown.example"], "unknown_location": "enforce", "measures": {"proxy": "close"}},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with stage_with(tmp_path_factory.mktemp("nginx"), **ORDERS) as stage:
        nginx = Nginx(stage, **{"headers-more": "no"})
        with nginx.run():
            yield stage, nginx


@pytest.mark.parametrize("host", ["a.example", "x.www.a.example", "alone.example", "x.b.example"])
@pytest.mark.parametrize("client", [PLACES["france"], PLACES["france-6"]])
def test_the_notice_is_the_librarys(served, host, client):
    """Header by header and word by word, in each language and type, whatever the orders hold."""
    stage, nginx = served
    for answered, expected in notices(stage, nginx.port, host, client):
        assert answered == expected


@pytest.mark.parametrize("before", [":" * 7000 + "x, ", "1:" * 3500 + "x, ", "[" + ":" * 7000 + ", "])
def test_a_long_field_hides_no_client(served, before):
    """What its client wrote does not keep PCRE from reading what the trusted proxy put behind it."""
    _, nginx = served
    assert asked(nginx.port, "a.example", before + PLACES["france-6"])[0] == 451


@pytest.mark.parametrize("place", ["france", "germany"])
def test_a_host_with_an_empty_label_is_none(served, place):
    """Covered or not: 400, as the library has it. The root's own label is as good as not there."""
    _, nginx = served
    assert [asked(nginx.port, host, PLACES[place])[0] for host in EMPTY_LABELS] == [400] * len(EMPTY_LABELS)
    assert asked(nginx.port, "a.example.", PLACES[place])[0] == {"france": 451, "germany": 200}[place]


CHAINS = [
    "{}", "{}, ", ",{}", "8.8.8.8,, {} , ,", " , ,", ",", "{}:80", "{}:_x.y", "{}:", "{}:123456", "[{}]", "[{}]:80", "[{}]:_p", "{}%eth0",
    "{}%", "{}% ", "[{}%1]:7", "[{}%]", "unknown", "_hidden", "{} 127.0.0.1", "0{}", "{}.", "::ffff:{}", "64:ff9b::{}", "::ffff:0{}",
    "64:ff9b::127.0.0.1", "2002:cb00:7107::1", "2002:c633:6407::1", "2002:7f00:1::", "fe80::1%eth0", "12345::1", "1::2::3", ":::",
    "{}, 127.0.0.1", "{}, 127.0.0.1,", "{}, unknown, 127.0.0.1", "{},,127.0.0.1, ,127.0.0.1", "127.0.0.1", "127.0.0.1, 127.0.0.1",
    *(", ".join(["{}", *["127.0.0.1"] * hops]) for hops in (4, 7, 8)), ", ".join(["127.0.0.1"] * 8), "x, {}, 127.0.0.1:1, [::ffff:127.0.0.1]",
]  # fmt: skip


@pytest.mark.parametrize("place", ["france", "france-6", "germany", "germany-6", "nowhere"])
def test_whose_request_it_is_as_the_library_reads_it(served, place):
    """Empty elements, ports, zones, brackets, tunnels and up to eight trusted proxies; what cannot be read is nowhere."""
    stage, nginx = served
    wrong, rules, table = [], rules_of(stage), open_geo_table(stage.geo)
    for chain in CHAINS:
        field = chain.format(PLACES[place])
        client = TrustedProxies(stage.trusted_proxies).client_address("127.0.0.1", {"X-Forwarded-For": field})
        if chain.count("127.0.0.1") == 8 and "{}" in chain:
            client = None  # one more than nginx looks behind
        for host in ("a.example", "unknown.example"):
            country = None if client is None else table.locate(client)
            decision = rules.decide(host, country=country, at=datetime.now(UTC))
            expected = {"close": 0, "terminate": 451}.get(decision.measures.get(Measure.PROXY), 200)
            try:
                status = asked(nginx.port, host, field)[0]
            except http.client.RemoteDisconnected:
                status = 0
            if status != expected:
                wrong.append((field, host, status, expected))
    assert wrong == []


def test_a_weight_counts_behind_a_space_and_after_many_parameters(served):
    """Each is read once: a field of that kind took a second before."""
    _, nginx = served
    for accept in ("text/html; q=0.1, text/plain; q=0.9", f"text/plain{'; ' * 40}, text/html;q=0.5"):
        assert asked(nginx.port, "a.example", PLACES["france"], Accept=accept)[1]["content-type"].startswith(
            "text/plain"
        )


def test_the_longest_name_decides(served):
    """A lifted name, what is below one that is meant without its sub-domains, and a name with two kinds of order."""
    _, nginx = served
    for host in ("free.b.example", "x.free.b.example", "x.alone.example"):
        assert asked(nginx.port, host, PLACES["france"])[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        asked(nginx.port, "b.example", PLACES["france"])
    assert asked(nginx.port, "x.b.example", PLACES["france"])[0] == 451


def test_the_type_is_that_of_the_notice_whatever_the_path(served):
    """A path with an ending that nginx knows does not make a picture of the notice."""
    _, nginx = served
    _, headers, _ = asked(nginx.port, "a.example", PLACES["france"], path="/picture.png")
    assert headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "more",
    [
        "no",
        pytest.param("yes", marks=pytest.mark.skipif(not HEADERS_MORE.exists(), reason="no headers-more module")),
    ],
)
def test_uncovered_hosts_get_what_they_get_without_us(tmp_path, more):
    """Octet for octet, both ways, beside the same nginx without our includes; clocks and counters apart."""
    with stage_with(tmp_path, **ORDERS) as stage:
        nginx = Nginx(stage, **{"headers-more": more})
        with nginx.run(), _alone(nginx, tmp_path / "alone") as plain:
            for text in texts_of(QUESTIONS):
                assert said_without_clocks(nginx.port, text) == said_without_clocks(plain, text), text


@contextmanager
def _alone(nginx, folder):
    """Run the same nginx without a line of ours; yield its port."""
    folder.mkdir()
    port, tls = free_ports(2)
    text = "\n".join(line for line in nginx.file.read_text().splitlines() if str(nginx.out) not in line)
    text = text.replace(f":{nginx.port} ", f":{port} ").replace(f":{nginx.tls} ", f":{tls} ")
    text = re.sub(
        rf"{re.escape(str(nginx.stage.folder))}(?=/(nginx|body|proxy|fastcgi|uwsgi|scgi|cache)\b)", str(folder), text
    )
    file = folder / "nginx.conf"
    file.write_text(text)
    with running(["nginx", "-c", str(file), "-e", str(folder / "nginx.log")], port, folder / "nginx.out"):
        yield port


def test_a_reload_takes_what_was_ordered_meanwhile(tmp_path):
    """Export again, SIGHUP: new names are refused, and those that were refused no longer are."""
    with stage_with(tmp_path, before={"names": ["before.example"]}) as stage:
        nginx = Nginx(stage, **{"headers-more": "no"})
        with nginx.run():
            assert [asked(nginx.port, f"{name}.example", PLACES["france"])[0] for name in ("before", "after")] == [
                451,
                200,
            ]
            put_orders(stage.orders, {"before": {"names": ["after.example"]}})
            nginx.reload()
            assert [asked(nginx.port, f"{name}.example", PLACES["france"])[0] for name in ("before", "after")] == [
                200,
                451,
            ]


STREAM = """
{modules}
daemon off;
pid {folder}/stream.pid;
error_log {folder}/stream.log notice;
events {{ worker_connections 256; }}
stream {{
  include {out}/cdnblock-stream.conf;
  server {{ listen 127.0.0.1:{port}; ssl_preread on; proxy_pass $cdnblock_sni_backend; }}
}}
"""


@pytest.mark.skipif(not STREAM_MODULE.exists(), reason="apt-get install libnginx-mod-stream")
def test_tls_that_is_passed_on_is_refused_by_its_server_name(served, tmp_path):
    """A covered name's handshake ends; others', and those of clients whom the order spares, are passed on."""
    stage, nginx = served
    (port,) = free_ports(1)
    export_for(stage, "nginx", tmp_path / "out", sni=f"127.0.0.1:{nginx.tls}")
    known = {"folder": tmp_path, "out": tmp_path / "out", "port": port, "modules": f"load_module {STREAM_MODULE};"}
    (tmp_path / "stream.conf").write_text(STREAM.format(**known))
    command = ["nginx", "-c", str(tmp_path / "stream.conf"), "-e", str(tmp_path / "stream.log")]
    with running(command, port, tmp_path / "out.log"):
        assert not shakes_hands(port, "www.everywhere.example")
        assert not shakes_hands(port, "www.Unknown.Example")
        assert shakes_hands(port, "www.a.example")  # an order for France: loopback addresses are in no country
        assert shakes_hands(port, "other.example")


@pytest.mark.skipif(not GEOIP2_MODULE.exists(), reason="apt-get install libnginx-mod-http-geoip2")
def test_the_country_can_come_from_geoip2(tmp_path):
    """`--set country=$VARIABLE`: no list of networks is written, and an unknown country is an empty variable."""
    with stage_with(tmp_path, **ORDERS) as stage:
        nginx = Nginx(stage, **{"headers-more": "no", "country": "$country"})
        text = f"load_module {GEOIP2_MODULE};\n" + nginx.file.read_text().replace(
            "http {\n",
            f"http {{\n  geoip2 {stage.geo} {{ $country source=$remote_addr country iso_code; }}\n"
            "  set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;\n",
        )
        nginx.file.write_text(text)
        assert not (nginx.out / "cdnblock-territory.conf").exists()
        with nginx.run():
            found = [asked(nginx.port, "a.example", PLACES[place])[0] for place in ("france", "germany", "nowhere")]
            assert found == [451, 200, 200]
            with pytest.raises(http.client.RemoteDisconnected):
                asked(nginx.port, "unknown.example", PLACES["nowhere"])
            assert asked(nginx.port, "unknown.example", PLACES["germany"])[0] == 200


@pytest.mark.parametrize(
    "order",
    [
        {"names": ["a.example"], "until": "2025-04-04"},
        {"names": ["a.example"], "measures": {"cdn": "disable"}},
        {"names": [{"name": "a.example", "subdomains": False}], "measures": {"proxy": "close"}},
        {"names": [f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example"]},
    ],
    ids=["nothing", "cdn", "close", "long"],
)
def test_the_checker_accepts_whatever_is_ordered(order, tmp_path):
    """Without a warning: nothing in force, one measure alone, the longest name."""
    with stage_with(tmp_path, one=order) as stage:
        Nginx(stage, **{"headers-more": "no"}).check()
