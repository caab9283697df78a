#!/bin/sh
# Envoy in front of a web server on port 8000, with the example orders as they stood on 1 May 2025. Then:
#
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/    451, from France
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 80.187.0.1' http://127.0.0.1:8080/     served, from Germany
#
# In production leave --at out, and export again at the instant that the files name in their header: Envoy takes what is
# new by itself. --partial: Envoy cannot close a connection without an answer, and would refuse by a 451 instead.
set -eu
cd "$(dirname "$0")"
cdnblock export envoy --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock --partial \
  --trusted-proxies 127.0.0.1 --operator-url https://edge.example/blocked
exec envoy -c envoy.yaml --use-dynamic-base-id --log-level warning
