"""Numbers on their way to Prometheus: rows of hosts and of the enforcer, grouped into the families that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from cdnblock.metrics.families import FAMILIES, Kind


@dataclass(frozen=True, slots=True)
class Latencies:
    """A histogram: how many there were up to each bound and above the one before, `+Inf` the last; and their sum."""

    counts: Mapping[str, int]
    seconds: float


Row: TypeAlias = tuple[str, tuple[str, ...], float | Latencies]
"""A metric's name, the values of its labels in their order, and its value."""


def as_metrics(rows: Iterable[Row]) -> Iterator[Metric]:
    """Yield the families that rows belong to, in the table's order. Of two rows of one metric and labels the last counts.

    So a host's own count of what the tally counts, too, takes the tally's place, and nothing is counted twice.
    """
    grouped: dict[str, dict[tuple[str, ...], float | Latencies]] = {}
    for name, labels, value in rows:
        grouped.setdefault(name, {})[labels] = value
    for name in FAMILIES:
        if name in grouped:
            yield _family(name, grouped[name])


def described(names: Iterable[str]) -> Iterator[Metric]:
    """Yield families without a value, for registries that look whether two collectors have the same ones."""
    return (_family(name, {}) for name in names)


def _family(name: str, values: Mapping[tuple[str, ...], float | Latencies]) -> Metric:
    kind = FAMILIES[name]
    match kind.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(name.removesuffix("_total"), kind.text, labels=kind.labels)
            for labels, value in values.items():
                counter.add_metric(labels, _number(value))
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(name, kind.text, labels=kind.labels)
            for labels, value in values.items():
                gauge.add_metric(labels, _number(value))
            return gauge
        case Kind.INFO:
            info = InfoMetricFamily(name.removesuffix("_info"), kind.text)
            for labels in values:
                info.add_metric((), dict(zip(kind.labels, labels, strict=True)))
            return info
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(name, kind.text, labels=kind.labels)
            for labels, value in values.items():
                assert isinstance(value, Latencies)  # noqa: S101 (the table says so)
                histogram.add_metric(labels, list(_up_to(value.counts)), value.seconds)
            return histogram
        case _:
            assert_never(kind.kind)


def _number(value: float | Latencies) -> float:
    assert not isinstance(value, Latencies)  # noqa: S101 (the table says so)
    return value


def _up_to(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield each bound, and how many there were up to it."""
    total = 0
    for bound, count in counts.items():
        total += count
        yield bound, total
