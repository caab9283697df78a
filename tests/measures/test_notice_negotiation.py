"""Which language and which type a client gets."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.measures.notice.negotiation import choose_language, choose_type
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import FORMS, MEANT_BY

OFFERS = tuple(FORMS)
HTML, PLAIN, JSON = "text/html", "text/plain", "application/problem+json"
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (CHROME, HTML),
        (FIREFOX, HTML),
        (None, PLAIN),
        ("", PLAIN),
        ("*/*", PLAIN),  # curl
        ("image/avif,image/webp,*/*;q=0.5", PLAIN),  # a picture in a page
        ("application/json, text/plain, */*", JSON),  # a script's fetch
        ("application/json", JSON),
        ("application/problem+json", JSON),
        ("application/*", JSON),
        ("text/*", PLAIN),
        ("TEXT/HTML", HTML),
        ("text/html;charset=utf-8", HTML),
        ("text/html;level=1;q=0.2, text/plain;q=0.1", HTML),
        ("text/html;q=0.1, text/plain;q=0.2", PLAIN),
        ("text/html;q=0.1, application/json;Q=0.9", JSON),
        ("text/plain;q=0, */*", HTML),
        ("text/*;q=0, */*", JSON),
        ("text/html;q=0.5, text/*;q=0.9", PLAIN),  # the more exact range decides about HTML
        ("*/*;q=0", PLAIN),
        ("image/png", PLAIN),  # nothing acceptable: still an answer
        ("text/html; q=1.0001, text/plain;q=0.1", PLAIN),  # no quality value: passed over
        ("text/html;q=nan, */*;q=0.1", PLAIN),
        ("text/html;q=-1", PLAIN),
        ("text/html;q=١", PLAIN),  # digits, but not ASCII
        (",,;;=,text/html", HTML),
        ("text/html ; q = 0.4 , text/plain;q=0.3", HTML),
        ("application/xhtml+xml", HTML),
    ],
)
def test_the_type_by_accept(accept, chosen):
    """RFC 9110 §12.5.1; browsers get a page, terminals text, programs JSON."""
    assert choose_type(accept, OFFERS, MEANT_BY) == chosen


@pytest.mark.parametrize(
    ("accept_language", "chosen"),
    [
        ("fr", "fr"),
        ("en", "en"),
        ("FR-ca", "fr"),
        ("fr-Latn-FR-x-private", "fr"),
        ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", "fr"),
        ("en;q=0.1, fr;q=0.2", "fr"),
        ("de, fr;q=0.5, en;q=0.4", "fr"),
        ("de-DE,de;q=0.9", "default"),
        ("*", "default"),
        ("de, *;q=0.5", "default"),
        ("en;q=0.2, *", "en"),
        (None, "default"),
        ("", "default"),
        ("fr;q=0", "en"),
        ("en;q=0", "fr"),
        ("fr;q=0, en;q=0", "default"),
        ("frr, fro", "default"),  # other languages that begin alike
        ("fr;q=2, en;q=0.1", "en"),
        ("\x00\xff;;q=,fr", "fr"),
    ],
)
@pytest.mark.parametrize("default", ["en", "fr"])
def test_the_language_by_accept_language(accept_language, chosen, default):
    """RFC 4647 §3.4 look-up: from a region to its language, never from one language to another."""
    assert choose_language(accept_language, ("en", "fr"), default) == (default if chosen == "default" else chosen)


@pytest.mark.parametrize(
    ("country", "language"), [("FR", "fr"), ("RE", "fr"), ("PF", "fr"), ("BE", "en"), (None, "en")]
)
def test_who_asks_for_no_language_gets_that_of_the_place(country, language):
    """French in the French Republic, English elsewhere and where the place is unknown."""
    assert default_language(country) == language


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text("texhml/*;q=0.19, -frn", max_size=200))
def test_any_field_at_all_gets_an_answer(field):
    """Whatever a client writes, one of ours comes out."""
    assert choose_type(field, OFFERS, MEANT_BY) in OFFERS
    assert choose_language(field, ("en", "fr"), "en") in {"en", "fr"}


@pytest.mark.parametrize(
    "field",
    [
        "text/html," * 20_000,
        "a;" * 50_000,
        ";q=0.5" * 20_000,
        " " * 100_000,
        "q" * 100_000,
        "=" * 100_000,
        "," * 100_000,
    ],
    ids=["ranges", "parameters", "qualities", "blanks", "letters", "equals", "commas"],
)
def test_a_huge_field_costs_little(field):
    """100 kB from a stranger are cut, not read."""
    times = []
    for _ in range(20):
        begun = perf_counter()
        choose_type(field, OFFERS, MEANT_BY)
        choose_language(field, ("en", "fr"), "en")
        times.append(perf_counter() - begun)
    assert min(times) < 0.001
