#!/bin/sh
# Squid in front of a web server on port 8000, with the example orders as they stood on 1 May 2025. Then:
#
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/    451, from France
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 80.187.0.1' http://127.0.0.1:8080/     served, from Germany
#
# In production leave --at out. When orders change, or at the instant that cdnblock.conf names in its header, export again
# and have Squid read it: squid -k parse && squid -k reconfigure.
set -eu
cd "$(dirname "$0")"
mkdir -p run
cdnblock export squid --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder "$PWD/cdnblock" \
  --trusted-proxies 127.0.0.1 --operator-url https://edge.example/blocked
sed "s|FOLDER|$PWD|" squid.conf > run/squid.conf # Squid wants absolute paths
exec squid -N -d 1 -f "$PWD/run/squid.conf"
