"""The page that Prometheus reads, in the format that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_MOST: Final = 1_000  # characters of an Accept field that are read


def exposition(collector: Collector, accept: str | None = None) -> tuple[str, bytes]:
    """Return the content type and the octets of a scrape: OpenMetrics to whoever asks for it, else Prometheus' text.

    `accept` is the request's field as it came; one that nobody can read counts as none.
    """
    try:
        encode, content_type = choose_encoder((accept or "")[:_MOST])
    except ValueError:  # a version that is none
        encode, content_type = choose_encoder("")
    return content_type, encode(collector)
