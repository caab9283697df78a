#!/bin/sh
# The hidden primary of the resolvers beside this file, each of which starts in this folder as it stands:
#
#   unbound -d -c unbound.conf                                                      asks from 127.0.0.1, by address
#   named -g -c named.conf                                                          with a key, in a view
#   pdns_recursor --config-dir=.                                                    with a key, each client by a hook
#   nsd -d -c nsd.conf                                                              in between, for whoever asks it
#
# They forward to a name server on port 5353, and take 127.10.0.0/16 for clients in France: give yours in its place.
#
#   dig -b 127.10.0.1 @127.0.0.1 -p 5301 www.live-racing.example     NXDOMAIN (5301 Unbound, 5302 BIND, 5303 PowerDNS)
#   dig -b 127.10.0.1 @127.0.0.1 -p 5301 news.streams.example        answered: it was lifted
#   dig @127.0.0.1 -p 5301 www.live-racing.example                   answered: nobody says that 127.0.0.1 is in France
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p bind nsd recursor
if [ ! -e rpz.key ]; then # as `tsig-keygen rpz` writes it
  secret=$(head -c 32 /dev/urandom | base64)
  printf 'key "rpz" { algorithm hmac-sha256; secret "%s"; };\n' "$secret" >rpz.key
  printf 'key:\n  name: rpz\n  algorithm: hmac-sha256\n  secret: "%s"\n' "$secret" >nsd.key
fi
exec cdnblock rpz-primary --orders orders --state state --listen 127.0.0.1:5300 --clients fr=FR --keys rpz.key \
  --secondary 127.0.0.1:5301,clients=fr --secondary 127.0.0.1:5302,key=rpz,clients=fr \
  --secondary 127.0.0.1:5304,key=rpz,clients=fr
