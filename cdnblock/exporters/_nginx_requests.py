"""What nginx's variables tell of a request: whose it is, and what its client reads. Worked out for covered hosts alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cdnblock.exporters._notice import LANGUAGES, TYPES
from cdnblock.exporters._plan import Plan
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import MEANT_BY

LOCATIONS: Final = {media_type: media_type.partition("/")[2].replace("+", "_") for media_type in TYPES}
"""Media type: what the locations are called that give notices of this type."""

NOBODYS_LENGTH: Final = 1 << 62
"""Octets of a body that nobody has: our configuration itself turns such a request down, and no site sees it."""

_HOPS: Final = 8  # trusted proxies between us and a client; behind more of them he is in no country
# One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a zone or a port; a leading zero is no
# number's. Nothing is read twice (`*+`): a client who makes PCRE give up would be in no country.
_NUMBER: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DOTTED: Final = rf"{_NUMBER}(?:\.{_NUMBER}){{{{3}}}}"
_COLONS: Final = rf"(?:[0-9a-f]*+:)++(?:{_DOTTED}(?![0-9a-f:.])|[0-9a-f]++|(?<=::))"
_PORT: Final = r"(?::(?:[0-9]{{1,5}}|_[a-z0-9._-]+))?"
_NODES: Final = {
    "dotted": rf"(?<{{name}}>{_DOTTED}){_PORT}",
    "bracketed": rf"\[(?<{{name}}>{_COLONS})(?:%[^],]++)?\]{_PORT}",
    "bare": rf"(?<{{name}}>{_COLONS})(?:%[ \t]*+[^, \t][^,]*+)?",
}
_BETWEEN: Final = r"[ \t,]*+"  # what a list may have between its elements, and at its ends (RFC 9110 §5.6.1.2)
_ELEMENT: Final = r"[^, \t][^,]*+"
# Weights of RFC 9110 §12.4.2 as patterns, the highest first.
_WEIGHTS: Final = (r"(;\s*q=1[.0]*)?", *(rf";\s*q=0[.]{digit}[0-9]*" for digit in "987654321"))


def client(trusted: str) -> Iterator[str]:
    """Yield the variable that holds whose request it is: the right-most address that no trusted proxy has.

    What a trusted proxy wrote and cannot be read is no address, and in no country.
    """
    yield f'geo $cdnblock_trust_0 {{ default ""; {trusted} }}'
    yield 'map $cdnblock_trust_0 $cdnblock_client { default $cdnblock_client_1; "" $remote_addr; }'
    for hop in range(1, _HOPS + 1):
        yield f"map $http_x_forwarded_for $cdnblock_hop_{hop} {{"
        yield '    default unreadable; "" none;'
        yield f'    "~^{_BETWEEN}{_repeated(0, hop - 1)}$" none;'
        behind = rf"[ \t]*+(?:,{_BETWEEN})?$" if hop == 1 else rf"[ \t]*+,{_BETWEEN}{_repeated(hop - 1, hop - 1)}$"
        for form, pattern in _NODES.items():
            name = f"cdnblock_{form}_{hop}"
            yield f'    "~*(?:^|,)[ \\t]*+{pattern.format(name=name)}{behind}" ${name};'
        yield "}"
        yield f'geo $cdnblock_hop_{hop} $cdnblock_trust_{hop} {{ default ""; {trusted} }}'
        before = f"$cdnblock_hop_{hop - 1}" if hop > 1 else "$remote_addr"
        after = f"$cdnblock_client_{hop + 1}" if hop < _HOPS else "$cdnblock_last_hop"
        yield f'map "$cdnblock_trust_{hop}:$cdnblock_hop_{hop}" $cdnblock_client_{hop} {{'
        yield f'    default $cdnblock_hop_{hop}; ~^1: {after}; ":none" {before};'
        yield "}"
    yield "map $http_x_forwarded_for $cdnblock_last_hop {"
    yield f'    default unreadable; "~^{_BETWEEN}{_repeated(0, _HOPS)}$" $cdnblock_hop_{_HOPS};'
    yield "}"


def _repeated(least: int, most: int) -> str:
    """Return the pattern of so many elements, and what is between them and behind."""
    return f"(?:{_ELEMENT}{_BETWEEN}){{{least},{most}}}" if most else ""


def negotiation(plan: Plan) -> Iterator[str]:
    yield "map $cdnblock_place $cdnblock_own_language {"
    yield f"    default {default_language(None)};"
    yield from (f"    {country} {default_language(country)};" for country in plan.countries)
    yield "}"
    languages = [{language: [language] for language in LANGUAGES}]
    yield from _liked_best("$http_accept_language", "language", "$cdnblock_own_language", languages)
    named = {
        LOCATIONS[offer]: [offer, *(name for name, meant in MEANT_BY.items() if meant == offer)] for offer in TYPES
    }
    ranges = {offer.partition("/")[0] + "/*": LOCATIONS[offer] for offer in reversed(TYPES)}
    anything = {"*/*": LOCATIONS[TYPES[0]]}
    types = [named, *({offer: [name]} for table in (ranges, anything) for name, offer in table.items())]
    yield from _liked_best("$http_accept", "type", LOCATIONS[TYPES[0]], types)


def _liked_best(field: str, variable: str, default: str, asked: Sequence[Mapping[str, Sequence[str]]]) -> Iterator[str]:
    """Yield the variable that holds what a field likes best: by weight to one digit, then as listed, then by what is first.

    The patterns are tried from the top, for covered clients alone.
    """
    yield f"map {field} $cdnblock_{variable} {{"
    yield f"    default {default};"
    for weight in _WEIGHTS:
        for offers in asked:
            words = {offer: _range(names, weight) for offer, names in offers.items()}
            for offer, word in words.items():
                others = "|".join(other for another, other in words.items() if another != offer)
                yield f'    "~*^{f"(?!.*({others}).*{word})" if others else ""}.*{word}" {offer};'
    yield "}"


def _range(names: Sequence[str], weight: str) -> str:
    """Return the pattern of one range of an Accept field (RFC 9110 §12.5.1), with `-…` behind a language."""
    any_of = "|".join(map(re.escape, names))
    return rf"(?<![^,\s])({any_of})(-[a-z0-9-]+)?\s*+(;\s*+(?!q=)[^,;]*+)*+{weight}\s*(?=,|$)"
