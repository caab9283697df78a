"""What stands on a page for Prometheus, as Prometheus' own client reads it."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain


def samples(page, *, parse=plain):
    """Return each sample's value under its name and labels: `{("cdnblock_names", ()): 4.0, …}`."""
    found = {}
    for family in parse(page):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(page, name, **labels):
    """Return the value of one sample of a page, or of the samples of a page; None where there is none."""
    found = page if isinstance(page, dict) else samples(page)
    return found.get((name, tuple(sorted(labels.items()))))


__all__ = ["openmetrics", "plain", "samples", "value"]
