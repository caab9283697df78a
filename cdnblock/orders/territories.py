"""Territories of an order: ISO 3166-1 alpha-2 codes, named presets, or the whole world.

There is deliberately no preset called `france`: the departments and communities overseas have codes of their own, and
which of them an order means is for its wording to say. `FR` alone under-blocks most Paris orders, all 13 over-block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from cdnblock.orders.text_file import cut

WORLD: Final = "world"

_PARIS_2024: Final = ("FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF")

PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    "metropolitan-france": ("FR",),
    # TJ Paris, 10 October 2024: "départements ou régions d'outre-mer et collectivités uniques", Wallis and Futuna, New
    # Caledonia, the Southern and Antarctic Lands. French Polynesia, Saint-Pierre-et-Miquelon, Saint-Barthélemy and
    # Saint-Martin are not named.
    "france-2024-10-10": _PARIS_2024,
    "france-all": (*_PARIS_2024, "PF", "PM", "BL", "MF"),
}

# ISO 3166-1, officially assigned alpha-2 codes.
_CODES: Final = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA
    CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA
    GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS
    MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS
    RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW
    TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES: Final = frozenset(_CODES.split())

# What people write for a country, and what would be right.
_NOT_COUNTRIES: Final[Mapping[str, str]] = {
    "UK": "the United Kingdom is `GB`",
    "EU": "the European Union is no country: list its member states",
    "EL": "Greece is `GR`",
    "FX": "metropolitan France is `FR`",
    "CP": "Clipperton has no code of its own that clients are located in: leave it out",
    "AN": "the Netherlands Antilles are `BQ`, `CW` and `SX` today",
    "XK": "Kosovo has no code in ISO 3166-1: leave it out, or write `RS` if the order means it",
    "SU": "list the states that the order names",
    "AP": "a region is no country: list the countries",
}
_THREE_PRESETS: Final = "; ".join(f"`{name}` = {' '.join(codes)}" for name, codes in PRESETS.items())
_CODE_LENGTH: Final = 2


def expanded(entries: Iterable[str]) -> frozenset[str]:
    """Return the country codes of entries that `wrong_entry` finds nothing wrong with, presets expanded."""
    return frozenset(code for entry in entries for code in PRESETS.get(entry, (entry,)))


def wrong_entry(entry: str, *, alone: bool) -> str | None:
    """Tell what is wrong with one entry of `territory`, and what would be right; None if nothing is."""
    if entry in COUNTRIES or entry in PRESETS or (entry == WORLD and alone):
        return None
    return "; ".join(_mistake(entry))


def _mistake(entry: str) -> Iterator[str]:
    upper = entry.strip().upper()
    shown = f"`{cut(entry)}`"
    if entry == WORLD:
        yield f"{shown} stands in a list"
        yield "the whole world is written `territory: world`, alone"
    elif upper in _NOT_COUNTRIES:
        yield f"{shown} is no country code of ISO 3166-1"
        yield _NOT_COUNTRIES[upper]
    elif upper in COUNTRIES:
        yield f"{shown} is not written as in ISO 3166-1"
        yield f"write `{upper}`"
    elif upper == "FRANCE":
        yield f"{shown} is no preset, because overseas territories have codes of their own and each order names its own"
        yield f"choose by the order's wording: {_THREE_PRESETS}"
    elif len(upper) == _CODE_LENGTH:
        yield f"{shown} is no country code of ISO 3166-1"
        yield "write one of its 249 two-letter codes, such as `FR`"
    else:
        near = get_close_matches(cut(entry.lower()), [*PRESETS, WORLD], n=1)
        yield f"{shown} is neither a country code nor a preset"
        yield (
            f"did you mean `{near[0]}`?"
            if near
            else f"write two-letter codes, `world`, or a preset: {', '.join(PRESETS)}"
        )
