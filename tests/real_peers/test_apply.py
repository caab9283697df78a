"""`cdnblock apply` with real engines, under the contract of all of them, and what each promises besides."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from apply_contract import ApplyContract, Running
from export_engines import asked, free_ports, needs, running

HAPROXY = """
global
  stats socket {folder}/api.sock mode 600 level admin expose-fd listeners
defaults base
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
"""
FRONTEND = """
frontend edge from cdnblock
  bind 127.0.0.1:{port}
  default_backend site
backend site from base
  server site {origin}
"""
NGINX = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log notice;
events {{ worker_connections 1024; }}
http {{
  include {out}/cdnblock-http.conf;
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=edge:1m use_temp_path=off;
  include sites/*.conf;
}}
"""
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


class Process:
    """A server that is started and stopped."""

    def __init__(self, command, port, log):
        self.command, self.port, self.log = command, port, log
        self.stack = ExitStack()

    def start(self):
        self.stack.enter_context(running(self.command, self.port, self.log))

    def stop(self):
        self.stack.close()


@contextmanager
def of_http(out, arguments, port, command, log):
    """Yield an engine that speaks HTTP and believes our X-Forwarded-For."""

    def refuses(host, client):
        try:
            return asked(port, host, client)[0] == 451
        except (http.client.HTTPException, OSError):
            return False

    process = Process(command, port, log)
    arguments = [
        *arguments, "--probe", f"http://127.0.0.1:{port}", "--trusted-proxies", "127.0.0.1",
        "--operator-url", "https://edge.example/blocked",
    ]  # fmt: skip
    try:
        yield Running(out=out, arguments=arguments, start=process.start, stop=process.stop, refuses=refuses)
    finally:
        process.stop()


@needs("haproxy", "haproxy")
class TestHAProxy(ApplyContract):
    """In master-worker mode, with its runtime API."""

    target = "haproxy"
    ignoring = ("--engine", "reload=true")

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
class TestNginx(ApplyContract):
    """With sites in files of their own, and a cache."""

    target = "nginx"
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
