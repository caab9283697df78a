#!/bin/sh
# Varnish in front of a web server on port 8000, with the example orders as they stood on 1 May 2025. Then:
#
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/    451, from France
#   curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 80.187.0.1' http://127.0.0.1:8080/     served, from Germany
#
# In production leave --at out. When orders change, or at the instant that the table names in its header, export again and:
#
#   varnishadm -n "$PWD/run" vcl.load tomorrow "$PWD/run/edge.vcl"; varnishadm -n "$PWD/run" vcl.use tomorrow
set -eu
cd "$(dirname "$0")"
mkdir -p run
cdnblock export varnish --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder "$PWD/cdnblock" \
  --trusted-proxies 127.0.0.1 --operator-url https://edge.example/blocked
sed "s|FOLDER|$PWD|" edge.vcl > run/edge.vcl # Varnish wants absolute paths
exec varnishd -F -n "$PWD/run" -a 127.0.0.1:8080 -f "$PWD/run/edge.vcl" -p vcc_allow_inline_c=on
