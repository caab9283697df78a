"""The choice of a language and of a media type, by what the client says that it reads.

Both fields come from anybody: what is too long is cut, what cannot be read is passed over, nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

# A browser sends about 100 octets; no one who can read the answer needs more.
_LONGEST: Final = 2_000
_MOST_RANGES: Final = 64

_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 §12.4.2


def choose_language(accept_language: str | None, languages: Collection[str], default: str) -> str:
    """Return the language by lookup (RFC 4647 §3.4): `fr-CA` asks for `fr`; `*` and what we do not speak pass over.

    `default` answers for a client that asks for none of ours, or another of ours when it refuses that one by `q=0`.
    """
    ranges = list(_ranges(accept_language))
    for tag, quality in sorted(ranges, key=lambda item: -item[1]):
        language = tag.partition("-")[0]
        if quality > 0 and language in languages:
            return language
    refused = {tag for tag, quality in ranges if quality == 0}
    return next((language for language in (default, *languages) if language not in refused), default)


def choose_type(accept: str | None, offers: Sequence[str], aliases: Mapping[str, str]) -> str:
    """Return the offered media type the client likes best (RFC 9110 §12.5.1).

    Equal quality: the one it names more exactly, then earlier, then ours by the order of `offers`. The first offer
    also answers for a client that says nothing, or accepts none of ours. `aliases` maps a type that is asked for to
    the offer that is meant by it.
    """
    ranges = [(aliases.get(name, name), quality) for name, quality in _ranges(accept)]
    rated = [(rating, offer) for offer in offers if (rating := _rate(offer, ranges))]
    return max(rated, key=lambda item: item[0])[1] if rated else offers[0]


def _rate(offer: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int, int] | None:
    """Return (quality, exactness, earliness) by the most exact range that matches, None when unacceptable."""
    for exactness, pattern in ((2, offer), (1, offer.partition("/")[0] + "/*"), (0, "*/*")):
        for position, (name, quality) in enumerate(ranges):
            if name == pattern:
                return (quality, exactness, -position) if quality > 0 else None
    return None


def _ranges(field: str | None) -> Iterator[tuple[str, float]]:
    """Each range of an Accept field in lower case with its quality; parameters other than `q` do not count."""
    for item in (field or "")[:_LONGEST].split(",")[:_MOST_RANGES]:
        name, *parameters = item.split(";")
        quality = _quality(parameters)
        name = name.strip(" \t").lower()
        if name and quality is not None:
            yield name, quality


def _quality(parameters: Sequence[str]) -> float | None:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip(" \t") in {"q", "Q"}:
            value = value.strip(" \t")
            return float(value) if _QUALITY.fullmatch(value) else None
    return 1.0
