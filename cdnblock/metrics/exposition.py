"""The page that Prometheus reads, in the format that it asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
# prometheus-client stumbles over versions that are none, so it is only told what is known to be meant.
_ASKED_FOR: Final = re.compile(
    r"(?:^|,)\s*application/openmetrics-text\s*(?:;\s*version=[01]\.0\.[0-9]\s*)?(?:;\s*(?:escaping|q)=[^,]*)?(?:,|$)"
)


def exposition(collector: Collector, accept: str | None = None) -> tuple[str, bytes]:
    """Return the content type and the octets of a scrape: OpenMetrics to whoever asks for it, else Prometheus' text.

    `accept` is the request's field as it came; what nobody can read in it does not count.
    """
    encode, content_type = choose_encoder(_OPENMETRICS if _ASKED_FOR.search(accept or "") else "")
    return content_type, encode(collector)
