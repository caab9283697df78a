"""Countries: what counts as one, and how a location explains itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnblock.geo.country import FRENCH_CODES, Location, country_code, country_of, locate


@dataclass
class Table:
    """A table of a few texts, as an operator might write one."""

    answers: dict[str, object] = field(default_factory=dict)
    description: str = "my table of 2026-01-01"

    def locate(self, address):
        answer = self.answers.get(address)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("code", [*FRENCH_CODES, "US", "GB", "XK", "QA", "AQ"])
def test_a_country_code_is_taken(code):
    """Two upper-case letters; Kosovo's XK is user-assigned and still what tables say."""
    assert country_code(code) == code


@pytest.mark.parametrize(
    "text",
    ["ZZ", "XX", "EU", "AP", "A1", "A2", "O1", "T1", "AA", "QM", "QZ", "XA", "XZ", "UN", "", "F", "FRA", "fr", "Fr",
     " FR", "F\n", "ÉÉ", "ＦＲ", "--", "12", None, 33, b"FR", ["FR"], {"iso_code": "FR"}, True],
)  # fmt: skip
def test_a_placeholder_is_no_country(text):
    """Registries' regions, anonymising networks, unknowns, names, other types."""
    assert country_code(text) is None


def test_a_location_names_its_table():
    """What told the country, of which date."""
    assert locate(Table({"192.0.2.1": "FR"}), "192.0.2.1") == Location("FR", "my table of 2026-01-01")


@pytest.mark.parametrize(
    ("address", "told_by"),
    [
        (None, "no address"),
        ("", "not an address"),
        ("www.example.com", "not an address"),
        ("10.0.0.1", "an address of no place"),
        ("::1", "an address of no place"),
        ("::ffff:192.168.1.1", "an address of no place"),
        ("192.0.2.9", "not in my table of 2026-01-01"),
        ("192.0.2.2", "no country code in my table of 2026-01-01"),
        ("192.0.2.3", "the country table failed: OSError"),
    ],
)
def test_an_unknown_location_says_why(address, told_by):
    """No address, no place, not in the table, an answer that is no country, a table that raises."""
    table = Table({"192.0.2.2": "EU", "192.0.2.3": OSError("gone")})
    assert locate(table, address) == Location(None, told_by)


def test_a_table_is_asked_for_the_client_inside_a_tunnel():
    """6to4, NAT64, Teredo and mapped addresses are looked up by the IPv4 address that they carry."""
    asked = []
    for text in ("::ffff:90.84.144.1", "2002:5a54:9001::", "64:ff9b::5a54:9001", "2001::a5ab:6ffe", "90.84.144.1"):
        country_of(text, lambda version, number: asked.append((version, number)))
    assert asked == [(4, 0x5A54_9001)] * 5


@pytest.mark.parametrize("text", ["10.1.2.3", "2002:a00:1::", "64:ff9b::7f00:1", "fd00::1", "::", "x", "127.1", ""])
def test_a_table_is_never_asked_for_what_has_no_place(text):
    """Private, also inside a tunnel; local; and what is no address."""
    assert country_of(text, lambda _version, _number: "FR") is None


@given(st.text())
def test_locating_never_raises(text):
    """Whatever the text."""
    assert locate(Table(), text).country is None
