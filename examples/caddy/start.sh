#!/bin/sh
# Caddy in front of a web server on port 8000, with the example orders as they stood on 1 May 2025. Then:
#
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/    451, from France
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 80.187.0.1' http://127.0.0.1:8080/     served, from Germany
#
# In production leave --at out, and export again at the instant that the file names in its header; then `caddy reload`.
set -eu
cd "$(dirname "$0")"
cdnblock export caddy --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock \
  --trusted-proxies 127.0.0.1 --operator-url https://edge.example/blocked
exec caddy run --adapter caddyfile --config Caddyfile
