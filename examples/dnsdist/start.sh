#!/bin/sh
# dnsdist before a resolver on port 5353, with the example orders as they stood on 1 May 2025. Then:
#
#   dig @127.0.0.1 -p 5300 www.motogpstream.me      answered: loopback is not in France
#
# From an address in France it is REFUSED, with EDE 16 (Censored). Clients are known by their address, or by the PROXY
# protocol from those whom dnsdist.conf trusts with it. In production leave --at out, and export again at the instant
# that the database names in its first lines (`strings cdnblock/*.cdb`): names are live within a second. When the program
# or its networks became others, let the console run it once more: dofile("cdnblock/cdnblock-dnsdist.lua")
set -eu
cd "$(dirname "$0")"
cdnblock export dnsdist --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock
exec dnsdist -C dnsdist.conf --supervised --disable-syslog
