#!/usr/bin/env bash
# mitmproxy in front of a web server and of a name server, with the orders enforced in both.
#
# Run it: ORIGIN=http://127.0.0.1:8000 RESOLVER=127.0.0.1:5300 examples/04_mitmproxy.sh
# Ask it: curl -i -H 'Host: www.motogpstream.me' http://127.0.0.1:8080/
#         dig +ednsopt=65001 @127.0.0.1 -p 5353 www.motogpstream.me HTTPS
set -euo pipefail

# Whoever speaks for clients: the load balancer in front of this proxy. Nobody else's X-Forwarded-For, Forwarded or
# EDNS Client Subnet is believed.
trusted=${TRUSTED:-127.0.0.0/8}

exec cdnblock mitmproxy \
  --orders "${ORDERS:-$(dirname "$0")/orders}" \
  --trusted-proxies "$trusted" \
  --mode "reverse:${ORIGIN:-http://127.0.0.1:8000}@${HTTP_PORT:-8080}" \
  --mode "reverse:dns://${RESOLVER:-127.0.0.1:5300}@${DNS_PORT:-5353}" \
  --set block_global=false \
  --set cdnblock_operator_url=https://edge.example/blocked \
  --set cdnblock_contact=legal@edge.example \
  "$@"
