"""What every configuration of an engine needs here, whatever is tried with it: to be started by hand and to leave no trace.

Templates for `str.format`: `{folder}` is the engine's own.
"""

from __future__ import annotations

NGINX_ALONE = """\
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
"""
"""Of its `http`."""

HAPROXY_API = """\
global
  stats socket {folder}/api.sock mode 600 level admin expose-fd listeners
"""
HAPROXY_BASE = """\
defaults base
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
"""
