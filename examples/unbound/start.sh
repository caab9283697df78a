#!/bin/sh
# Unbound in front of a name server on port 5353, with the example orders as they stood on 1 May 2025. Then:
#
#   dig @127.0.0.1 -p 5300 www.motogpstream.me
#
# answers, since this machine is in no country; give a network that is in France in the place of 10.0.0.0/8, and its
# clients are refused. In production leave --at out, and export again at the instant that the files name in their header.
# With `--set ede=yes`, the package python3-unbound and `module-config: "python respip …"` refusals say Censored.
set -eu
cd "$(dirname "$0")"
cdnblock export unbound --orders ../orders --at 2025-05-01T12:00 --out cdnblock --folder cdnblock \
  --set clients=127.0.0.0/8,10.0.0.0/8 --partial
exec unbound -d -c unbound.conf
