"""Measure `cdn`: caching off for covered names and clients. The content still flows, from its origin.

Two halves. In the cache itself the lookup is bypassed, and what is stored is purged when the measure starts and when
it ends (RFC 9111 §5.2.2.5: `no-store` forbids storing and removes nothing). Towards every other cache on the way the
response says so in each dialect that could overrule it; those header changes are what this file holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from cdnblock.matching.names import canonical

NO_STORE: Final[tuple[tuple[str, str], ...]] = (
    # RFC 9111 §5.2.2.5, alone on its line: no `must-understand` beside it that would overrule it (§5.2.2.3).
    ("Cache-Control", "no-store"),
    # RFC 9213 §2.2: the first valid field of a cache's target list wins and Cache-Control is then ignored: set both.
    ("CDN-Cache-Control", "no-store"),
)
"""What says "do not store" to every cache: on a response under measure `cdn`, and on every answer of ours."""

REMOVED_FROM_RESPONSES: Final[Mapping[str, str]] = {
    # field name in lower case: why it must not travel on
    "cache-control": "replaced: the origin's directives would stand beside ours (RFC 9111 §4.2.1)",
    "cdn-cache-control": "replaced: an origin's targeted directives outrank Cache-Control (RFC 9213 §2.2)",
    "expires": "a freshness lifetime (RFC 9111 §5.3)",
    "age": "says that a cache answered (RFC 9111 §5.1), and none did",
    # Targeted fields of vendors (RFC 9213 §2 and its precursors): each outranks the two fields that we set. Listed one
    # by one, because the suffix alone must not be taken for a targeted field (RFC 9213 §2).
    "surrogate-control": "Edge Architecture; Fastly and Varnish prefer it to Cache-Control",
    "cloudflare-cdn-cache-control": "Cloudflare looks only at it when it is there",
    "akamai-cache-control": "Akamai's targeted field",
    "edge-control": "Akamai: its `!no-store` and `cache-maxage` force caching whatever Cache-Control says",
    "vercel-cdn-cache-control": "Vercel's targeted field",
    "netlify-cdn-cache-control": "Netlify's targeted field",
    "x-accel-expires": "nginx: cache time in seconds, before Expires and Cache-Control",
    "x-litespeed-cache-control": "LiteSpeed follows it whatever Cache-Control says",
    # Tags of stored responses: useful only to a cache.
    "surrogate-key": "Fastly's purge tags",
    "cache-tag": "Cloudflare's purge tags",
    "edge-cache-tag": "Akamai's purge tags",
    "netlify-cache-tag": "Netlify's purge tags",
    "vercel-cache-tag": "Vercel's purge tags",
    "x-litespeed-tag": "LiteSpeed's purge tags",
}
"""Every response field that is taken away, and why. `ETag`, `Last-Modified`, `Vary` and all else stay: the origin's."""

ADDED_BY_CACHES: Final[Mapping[str, str]] = {
    # request field name in lower case: when a cache adds it
    "if-none-match": "to validate what it stored (RFC 9111 §4.3.1)",
    "if-modified-since": "to validate what it stored (RFC 9111 §4.3.1)",
    "if-range": "to complete a stored part (RFC 9111 §3.4)",
    "range": "to complete a stored part (RFC 9111 §3.4)",
}
"""The request fields that a cache adds for its own sake: their answers (304, 206) refer to what is stored."""


def response_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a response's header lines so that no cache stores it; names in any case.

    The lines of `NO_STORE` come last, those of `REMOVED_FROM_RESPONSES` are gone, all others keep their order, their
    spelling and their repetitions. Applying it twice changes nothing more.
    """
    lines = headers.items() if isinstance(headers, Mapping) else headers
    kept = [(name, value) for name, value in lines if name.lower() not in REMOVED_FROM_RESPONSES]
    return [*kept, *NO_STORE]


def request_headers(
    headers: Iterable[tuple[str, str]], *, added_by_cache: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return a request's header lines without the validators that a cache added on the way to the origin.

    `added_by_cache` names the fields (in any case) that a cache in front of the caller is known to have added or
    rewritten. Only those of `ADDED_BY_CACHES` are taken away: a client's own validators pass, and so does the rest.
    """
    added = {name.lower() for name in added_by_cache} & ADDED_BY_CACHES.keys()
    return [(name, value) for name, value in headers if name.lower() not in added]


def to_purge(old: Collection[tuple[str, bool]], new: Collection[tuple[str, bool]]) -> frozenset[tuple[str, bool]]:
    """Return the names whose stored responses must go: where the measure starts, and where it ends.

    Both sides hold (canonical name, whether everything below it is meant too), as `RuleSet.covered_names` gives them.
    A name is left out when the other side covers it by another entry: nothing changes for it.
    """
    before, after = frozenset(old), frozenset(new)
    started = (entry for entry in after - before if not _covers(before, *entry))
    ended = (entry for entry in before - after if not _covers(after, *entry))
    return frozenset((*started, *ended))


def names_cover(names: Collection[tuple[str, bool]], host: str) -> bool:
    """Tell whether one of (canonical name, with everything below it) means this host, in any spelling; pass a set."""
    name = canonical(host)
    return name is not None and _covers(names, name, subdomains=False)


def _covers(names: Collection[tuple[str, bool]], name: str, subdomains: bool) -> bool:  # noqa: FBT001 (half of an entry)
    if not subdomains and (name, False) in names:
        return True
    return any((suffix, True) in names for suffix in _suffixes(name))


def _suffixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]
