#!/bin/sh
# Traefik in front of a web server on port 8000, with the example orders as they stood on 1 May 2025. Then:
#
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/    451, from France
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 80.187.0.1' http://127.0.0.1:8080/     served, from Germany
#
# In production leave --at out, and export again at the instant that the files name: the plugin takes what is new by
# itself. --partial: Traefik cannot close a connection of HTTP/2 without an answer, and would refuse by a 451 instead.
set -eu
cd "$(dirname "$0")"
mkdir -p run/routes
cdnblock export traefik --orders ../orders --at 2025-05-01T12:00 --out run --folder "$PWD/run" --partial \
  --trusted-proxies 127.0.0.1 --operator-url https://edge.example/blocked
cp routes.yaml run/cdnblock.yaml run/routes
cd run # where plugins-local is
exec traefik --configFile=../traefik.yaml
