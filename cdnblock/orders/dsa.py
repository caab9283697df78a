"""What the Digital Services Act asks of an order: the Member State it comes from, and the type of illegal content.

Regulation (EU) 2022/2065, art. 15(1)(a), wants both counted once a year. The codes are those of the templates that
Implementing Regulation (EU) 2024/2835 lays down (Annex I, sheet `3_member_states_orders`); Member States are written
there as Eurostat does, so that Greece, which ISO 3166-1 and order files call GR, is EL.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from cdnblock.orders.text_file import cut

NOT_A_MEMBER_STATE: Final = "none"
"""What `member_state` says of an order that no authority of a Member State issued: it is not reported."""

NOT_SPECIFIED: Final = "STATEMENT_CATEGORY_NOT_SPECIFIED_ORDER"
"""Only for orders that refer to no legal ground at all (Annex II, 1.2.1, column D)."""

_TEMPLATE_CODES: Final[Mapping[str, str]] = {"GR": "EL"}  # https://ec.europa.eu/eurostat, Glossary: Country codes

_MEMBER_STATES: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
MEMBER_STATES: Final[Mapping[str, str]] = {code: _TEMPLATE_CODES.get(code, code) for code in _MEMBER_STATES.split()}
"""ISO 3166-1 alpha-2 code -> the code that the template writes."""

# The template's categories in its order, each with its sub-categories. Every category but the last has a KEYWORD_OTHER
# too, which says nothing without a description of the provider's own.
_TABLE: Final = """
    ANIMAL_WELFARE: ANIMAL_HARM UNLAWFUL_SALE_ANIMALS
    CONSUMER_INFORMATION: HIDDEN_ADVERTISEMENT INSUFFICIENT_INFORMATION_ON_TRADERS MISLEADING_INFO_GOODS_SERVICES
        MISLEADING_INFO_CONSUMER_RIGHTS NONCOMPLIANCE_PRICING
    CYBER_VIOLENCE: CYBER_BULLYING_INTIMIDATION CYBER_HARASSMENT CYBER_INCITEMENT CYBER_STALKING
        NON_CONSENSUAL_IMAGE_SHARING NON_CONSENSUAL_MATERIAL_DEEPFAKE
    CYBER_VIOLENCE_AGAINST_WOMEN: BULLYING_AGAINST_GIRLS CYBER_HARASSMENT_AGAINST_WOMEN CYBER_STALKING_AGAINST_WOMEN
        FEMALE_GENDERED_DISINFORMATION INCITEMENT_AGAINST_WOMEN NON_CONSENSUAL_IMAGE_SHARING_AGAINST_WOMEN
        NON_CONSENSUAL_MATERIAL_DEEPFAKE_AGAINST_WOMEN
    DATA_PROTECTION_AND_PRIVACY_VIOLATIONS: BIOMETRIC_DATA_BREACH DATA_FALSIFICATION MISSING_PROCESSING_GROUND
        RIGHT_TO_BE_FORGOTTEN
    ILLEGAL_OR_HARMFUL_SPEECH: DEFAMATION DISCRIMINATION HATE_SPEECH
    INTELLECTUAL_PROPERTY_INFRINGEMENTS: COPYRIGHT_INFRINGEMENT DESIGN_INFRINGEMENT GEOGRAPHIC_INDICATIONS_INFRINGEMENT
        PATENT_INFRINGEMENT TRADE_SECRET_INFRINGEMENT TRADEMARK_INFRINGEMENT
    NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS: MISINFORMATION_DISINFORMATION VIOLATION_EU_LAW
        VIOLATION_NATIONAL_LAW
    PROTECTION_OF_MINORS: AGE_SPECIFIC_RESTRICTIONS_MINORS CHILD_SEXUAL_ABUSE_MATERIAL
        CHILD_SEXUAL_ABUSE_MATERIAL_DEEPFAKE GROOMING_SEXUAL_ENTICEMENT_MINORS UNSAFE_CHALLENGES
    RISK_FOR_PUBLIC_SECURITY: ILLEGAL_ORGANIZATIONS RISK_ENVIRONMENTAL_DAMAGE RISK_PUBLIC_HEALTH TERRORIST_CONTENT
    SCAMS_AND_FRAUD: IMPERSONATION_ACCOUNT_HIJACKING INAUTHENTIC_ACCOUNTS INAUTHENTIC_LISTINGS
        INAUTHENTIC_USER_REVIEWS PHISHING PYRAMID_SCHEMES
    SELF_HARM: CONTENT_PROMOTING_EATING_DISORDERS SELF_MUTILATION SUICIDE
    UNSAFE_AND_PROHIBITED_PRODUCTS: PROHIBITED_PRODUCTS UNSAFE_PRODUCTS
    VIOLENCE: COORDINATED_HARM INCITEMENT_VIOLENCE_HATRED HUMAN_EXPLOITATION HUMAN_TRAFFICKING TRAFFICKING_WOMEN_GIRLS
    NOT_SPECIFIED_ORDER:
"""


def _read_table() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    category = ""
    for word in _TABLE.split():
        if word.endswith(":"):
            category = f"STATEMENT_CATEGORY_{word.removesuffix(':')}"
            found[category] = []
        else:
            found[category].append(f"KEYWORD_{word}")
    return {category: tuple(keywords) for category, keywords in found.items()}


CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = _read_table()
"""The template's categories in its order, each with its sub-categories."""

CATEGORY_OF: Final[Mapping[str, str]] = {
    **{category: category for category in CATEGORIES},
    **{keyword: category for category, keywords in CATEGORIES.items() for keyword in keywords},
}
"""What `illegal_content` may say -> the category it belongs to."""


def wrong_member_state(code: str) -> str | None:
    """Tell what is wrong with a `member_state`, and what would be right; None if nothing is."""
    if code in MEMBER_STATES or code == NOT_A_MEMBER_STATE:
        return None
    upper = code.strip().upper()
    if upper in MEMBER_STATES:
        return f"`{cut(code)}` is not written as in ISO 3166-1; write `{upper}`"
    if upper in MEMBER_STATES.values():
        iso = next(iso for iso, template in MEMBER_STATES.items() if template == upper)
        return f"`{cut(code)}` is how Eurostat writes it; order files have ISO 3166-1 codes, write `{iso}`"
    right = f"write the code of the one whose authority issued the order, such as `FR`, or `{NOT_A_MEMBER_STATE}`"
    return f"`{cut(code)}` is no Member State of the European Union; {right}"


def wrong_type(code: str) -> str | None:
    """Tell what is wrong with an `illegal_content`, and what would be right; None if nothing is."""
    if code in CATEGORY_OF:
        return None
    likely = code.strip().upper().replace(" ", "_").replace("-", "_")
    if likely == "KEYWORD_OTHER":
        return "`KEYWORD_OTHER` belongs to every category; write the category, `STATEMENT_CATEGORY_…`"
    known = {_short(code): code for code in [*CATEGORY_OF][::-1]}  # a keyword called like a category gives way
    meant = _short(likely)
    near = get_close_matches(cut(meant), known, n=1, cutoff=0.7) or [k for k in known if meant and k.startswith(meant)]
    right = f"did you mean `{known[near[0]]}`?" if near else "write one such as `KEYWORD_COPYRIGHT_INFRINGEMENT`"
    return f"`{cut(code)}` is no type of illegal content in Implementing Regulation (EU) 2024/2835; {right}"


def _short(code: str) -> str:
    return code.removeprefix("STATEMENT_CATEGORY_").removeprefix("KEYWORD_")
