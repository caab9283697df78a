"""`cdnblock`, but for targets in whose text the stage's countries are on loopback: there alone can clients be bound."""

from __future__ import annotations

import cdnblock.exporters
from cdnblock.__main__ import main
from cdnblock.testing.dns_stage import on_loopback

load = cdnblock.exporters.load
cdnblock.exporters.load = lambda target: on_loopback(load(target))

if __name__ == "__main__":
    main()
