#!/bin/sh
# dnsdist before a resolver on port 5353, with the example orders as they stood on 1 May 2025. Then:
#
#   dig @127.0.0.1 -p 5300 www.motogpstream.me +subnet=90.84.144.0/24    REFUSED, from France; says EDE: 16 (Censored)
#   dig @127.0.0.1 -p 5300 www.motogpstream.me +subnet=80.187.0.0/24     answered, from Germany
#
# Clients are known by their address, or by the PROXY protocol; --trusted-proxies are those who may say for whom they ask.
# In production leave --at out, and export again at the instant that the database names in its first lines
# (`strings cdnblock/*.cdb`): names are live within a second. When the program or its networks became others, let the
# console run it once more: dnsdist -C dnsdist.conf -c -e 'dofile("cdnblock/cdnblock-dnsdist.lua")'
set -eu
cd "$(dirname "$0")"
cdnblock export dnsdist --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock \
  --trusted-proxies 127.0.0.1
exec dnsdist -C dnsdist.conf --supervised --disable-syslog
