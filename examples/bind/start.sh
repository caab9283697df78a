#!/bin/sh
# BIND in front of a name server on port 5353, with the example orders as they stood on 1 May 2025. Then:
#
#   dig @127.0.0.1 -p 5300 www.motogpstream.me
#
# answers, since this machine is in no country; a client in France would get NXDOMAIN. The order asks for REFUSED, which
# BIND's policies do not have, so --partial has to agree. In production leave --at out, and export again at the instant
# that the policy zones name in their header; then `rndc reload`.
set -eu
cd "$(dirname "$0")"
cdnblock export bind --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock \
  --set view=every-view.conf --partial
exec named -g -c named.conf
