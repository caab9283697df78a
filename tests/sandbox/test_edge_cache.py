"""The edge's cache by itself: bytes, age and purging."""

from __future__ import annotations

from cdnblock.sandbox.edge_cache import EdgeCache, Key, Stored


def _stored(body: bytes, fresh_for: float = 60, at: float = 0) -> Stored:
    return Stored(status=200, reason="OK", headers=(("Age", "5"),), body=body, fresh_for=fresh_for, at=at)


def _key(name: str, target: str = "/") -> Key:
    return Key(name=name, authority=name, target=target)


def test_what_is_stored_ages_and_goes():
    """Fresh for as many seconds as it says, and not one more; Age counts them."""
    now = [0.0]
    cache = EdgeCache(timer=lambda: now[0])
    cache.keep(_key("a.example"), _stored(b"page", fresh_for=10))
    now[0] = 9.9
    headers, stored = cache.find(_key("a.example"))
    assert (headers, stored.body) == ((("Age", "9"),), b"page")
    now[0] = 10.0
    assert cache.find(_key("a.example")) is None


def test_the_cache_is_bounded_by_bytes():
    """The least recently used goes first; what alone is too large is not stored."""
    cache = EdgeCache(max_bytes=4000)
    for name in ("a.example", "b.example", "c.example"):
        cache.keep(_key(name), _stored(b"x" * 1000))
        cache.find(_key("a.example"))
    assert [cache.find(_key(name)) is not None for name in ("a.example", "b.example", "c.example")] == [
        True,
        False,
        True,
    ]
    cache.keep(_key("d.example"), _stored(b"x" * 4000))
    assert cache.find(_key("d.example")) is None


def test_a_purge_goes_by_host():
    """Every stored path of the host goes, and nothing else."""
    cache = EdgeCache()
    for name, target in (("a.example", "/"), ("a.example", "/1"), ("b.example", "/")):
        cache.keep(_key(name, target), _stored(b"x"))
    assert cache.purge(lambda host: host == "a.example") == 2
    assert len(cache) == 1
