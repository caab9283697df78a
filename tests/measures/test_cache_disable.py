"""Measure cdn: header changes and purges."""

from __future__ import annotations

import random

import pytest

from cdnblock.measures.cache_disable import (
    ADDED_BY_CACHES,
    REMOVED_FROM_RESPONSES,
    names_cover,
    request_headers,
    response_headers,
    to_purge,
)

OURS = [("Cache-Control", "no-store"), ("CDN-Cache-Control", "no-store")]


def test_every_cache_control_line_gives_way_to_one_no_store():
    """Two lines of the origin, one with must-understand that would overrule no-store, leave one line of ours."""
    headers = [("Cache-Control", "public, max-age=600"), ("cache-control", "no-store, must-understand")]
    assert response_headers(headers) == OURS


@pytest.mark.parametrize(
    "name",
    [
        "Expires",
        "Age",
        "Surrogate-Control",
        "Surrogate-Key",
        "Cache-Tag",
        "Cloudflare-CDN-Cache-Control",
        "Edge-Control",
        "X-Accel-Expires",
        "CDN-Cache-Control",
        "cdn-cache-control",
        "EXPIRES",
        "Akamai-Cache-Control",
        "Netlify-CDN-Cache-Control",
        "Vercel-CDN-Cache-Control",
        "X-LiteSpeed-Cache-Control",
        "Edge-Cache-Tag",
    ],
)
def test_what_outranks_or_helps_a_cache_is_removed(name):
    """Freshness, targeted directives and purge tags do not travel on, in any case of letters."""
    assert response_headers([(name, "max-age=86400")]) == OURS


def test_all_other_lines_keep_order_spelling_and_repetitions():
    """Cookies, validators, Vary and unknown fields are the origin's business."""
    kept = [
        ("Set-Cookie", "a=1"),
        ("content-type", "text/html"),
        ("Set-Cookie", "b=2"),
        ("ETag", '"1"'),
        ("Last-Modified", "Fri, 28 Mar 2025 10:00:00 GMT"),
        ("Vary", "Cookie"),
        ("Pragma", "no-cache"),
        ("X-My-Cache-Control", "by RFC 9213 the suffix alone means nothing"),
    ]
    assert response_headers([kept[0], ("Expires", "0"), *kept[1:], ("Age", "7")]) == [*kept, *OURS]


def test_a_second_pass_changes_nothing():
    """Two layers may both apply the measure."""
    once = response_headers([("Server", "x"), ("Age", "1"), ("Cache-Control", "max-age=1")])
    assert response_headers(once) == once


def test_the_input_may_be_any_iterable_and_is_left_alone():
    """A generator works and a list stays as it was."""
    lines = [("Age", "1"), ("A", "b")]
    assert response_headers(iter(lines)) == [("A", "b"), *OURS]
    assert lines == [("Age", "1"), ("A", "b")]


def test_a_clients_own_validators_pass():
    """Without knowledge of a cache in front nothing is taken from a request."""
    headers = [("If-None-Match", '"1"'), ("If-Modified-Since", "x"), ("Range", "bytes=0-1"), ("Host", "a.example")]
    assert request_headers(headers) == headers


def test_validators_that_a_cache_added_are_not_used():
    """Only the named fields go, in any case of letters; the client's other validator stays."""
    headers = [("if-none-match", '"1"'), ("If-Modified-Since", "x"), ("IF-NONE-MATCH", '"2"'), ("Cookie", "a")]
    assert request_headers(headers, added_by_cache=["If-None-Match"]) == [("If-Modified-Since", "x"), ("Cookie", "a")]


def test_nothing_but_a_caches_fields_can_be_taken_from_a_request():
    """A mistaken list cannot remove the credentials or the host."""
    headers = [("Host", "a.example"), ("Authorization", "b")]
    assert request_headers(headers, added_by_cache=["Host", "Authorization"]) == headers


def test_the_tables_are_in_lower_case_and_say_why():
    """Look-ups are by lower case; a row without a reason is no documentation."""
    for table in (REMOVED_FROM_RESPONSES, ADDED_BY_CACHES):
        assert all(name == name.lower() and why for name, why in table.items())


PURGES = [
    ("a start", set(), {("a.example", True)}, {("a.example", True)}),
    ("an end", {("a.example", True)}, set(), {("a.example", True)}),
    ("no change", {("a.example", True)}, {("a.example", True)}, set()),
    (
        "one ends, another starts",
        {("a.example", True)},
        {("b.example", False)},
        {("a.example", True), ("b.example", False)},
    ),
    ("a child of what was covered", {("a.example", True)}, {("a.example", True), ("x.a.example", True)}, set()),
    ("a child of what stays covered ends", {("a.example", True), ("x.a.example", False)}, {("a.example", True)}, set()),
    ("the same host, now exactly", {("a.example", True)}, {("a.example", False)}, {("a.example", True)}),
    ("the same host, now with all below", {("a.example", False)}, {("a.example", True)}, {("a.example", True)}),
    (
        "a parent that meant only itself covers no child",
        {("a.example", False)},
        {("a.example", False), ("x.a.example", False)},
        {("x.a.example", False)},
    ),
    ("a look-alike suffix", {("a.example", True)}, {("a.example", True), ("ba.example", True)}, {("ba.example", True)}),
]


@pytest.mark.parametrize(("old", "new", "purged"), [row[1:] for row in PURGES], ids=[row[0] for row in PURGES])
def test_purge_what_starts_and_what_ends(old, new, purged):
    """Both changes of a name leave stored responses that must not be served."""
    assert to_purge(frozenset(old), frozenset(new)) == purged


def test_every_host_whose_coverage_changes_is_purged():
    """Against the definition, host by host, over random sets (seeded)."""
    dice = random.Random(9213)
    hosts = [f"{a}{b}example" for a in ("", "x.", "y.", "x.y.") for b in ("", "a.", "b.a.", "ba.")]
    for _ in range(300):
        old, new = (frozenset((dice.choice(hosts), dice.random() < 0.5) for _ in range(3)) for _ in range(2))
        purged = to_purge(old, new)
        for host in hosts:
            if names_cover(old, host) != names_cover(new, host):
                assert names_cover(purged, host), (old, new, host)


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("a.example:8443", True),
        ("cdn.a.example", True),
        ("xa.example", False),
        ("b.example", True),
        ("www.b.example", False),
        ("example", False),
        ("bücher.example", True),
        ("x.BÜCHER.example", True),
        ("", False),
        ("..", False),
        ("a" * 5000, False),
    ],
)
def test_names_cover_a_host_by_whole_labels(host, covered):
    """An entry means its host, and everything below it only when it says so."""
    names = {("a.example", True), ("b.example", False), ("xn--bcher-kva.example", True)}
    assert names_cover(names, host) is covered
