"""What an enforcer does and how it fares, for Prometheus: names as in `families.FAMILIES`, never a host or an address.

In a registry of your own:

    registry.register(cdnblock.metrics.Collector(enforcer))

Nothing is done for it before somebody asks, and then it waits for nobody: not for a reload that is under way either.
"""

from __future__ import annotations

from cdnblock.metrics.collector import Collector
from cdnblock.metrics.exposition import exposition
from cdnblock.metrics.families import FAMILIES, Family, Kind
from cdnblock.metrics.rows import Latencies, Row
from cdnblock.metrics.serving import serve_metrics

__all__ = ["FAMILIES", "Collector", "Family", "Kind", "Latencies", "Row", "exposition", "serve_metrics"]
