"""Varnish 7.1 and later: a file for `include`, and a table that it reads when the VCL is loaded.

    vcl 4.1;
    include "/etc/varnish/cdnblock/cdnblock.vcl";    # first of all: what follows runs for what is let through
    backend site { … }
    sub vcl_recv { … }

Varnish has to allow C in VCL (`varnishd -p vcc_allow_inline_c=on`): what it has of its own for many names, `if` and the
selector module, takes minutes to compile ten thousand of them. The C is the same for one name and for a million, and
compiles in a second; names, networks and notices are in the table, which is indexed when the VCL is loaded. So a change
of orders is an export, `vcl.load` and `vcl.use`, which no connection notices; a table that is wrong in any way does not
load, and the VCL that runs goes on with the one that it has. A host that nobody names costs one pass over its letters.

What is stored bears X-Cdnblock-Host while it is stored. Where measure `cdn` starts or ends, `bans` tells what to ban.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import resources
from ipaddress import ip_network
from typing import Final

from cdnblock.exporters._exporter import PROXY_SERVER, Exporter, File, Options, Work, every
from cdnblock.exporters._notice import LANGUAGES, TYPES, Page, headers, pages
from cdnblock.exporters._plan import Group, Outcome, Plan
from cdnblock.exporters._planner import notice_told
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import FORMS, MEANT_BY, UNAVAILABLE
from cdnblock.orders.model import Measure

TABLE: Final = "cdnblock.table"

_FREE: Final = "-"  # what a name maps to that is let go below one that is not
_PROGRAM: Final = (
    "table.c", "networks.c", "reading.c", "hosts.c", "clients.c", "wishes.c", "notices.c", "requests.c", "subroutines.vcl",
)  # fmt: skip
_NAMES_IN_A_BAN: Final = 100  # Varnish reads commands of at most 8 KiB, and a name has at most 253 octets but mostly 20
_OCTETS_OF_A_BAN: Final = 4_000
# What 6to4 and NAT64 make of IPv4 networks: the program takes addresses out of their tunnels itself.
_TUNNELS: Final = re.compile(r"2002:|64:ff9b::[0-9a-f]+:[0-9a-f]+/")
_PLACEHOLDER: Final = re.compile(r"@([A-Z]+)@(?:\n(?=  }|    C{))?")


def _render(work: Work) -> tuple[File, ...]:
    lines = [*_table(work)]
    text = work.top("#") + "".join(f"{key} {value}\n" for key, value in lines) + f":end {len(lines)}\n"
    return (File("cdnblock.vcl", _program(work)), File(TABLE, text))


def quoted(text: str) -> str:
    """Return text as a string of VCL, which knows no escapes: a quote stands in brackets of its own."""
    return ' + {"""} + '.join(f'"{piece}"' for piece in text.split('"'))


def in_table(text: str) -> str:
    """Return text as a value of the table: on one line, what is special percent-encoded."""
    return "".join(f"%{ord(c):02X}" if c in "%|\x7f" or (ord(c) < ord("!") and c != " ") else c for c in text)


def bans(names: Iterable[tuple[str, bool]]) -> Iterator[str]:
    """Yield what to `ban` when these names' stored answers have to go; (canonical name, with everything below it).

    Each comes twice: by the mark of what is stored, so that it goes even if nobody asks for it; and by the host that
    is asked for, for what was stored before there were marks.
    """
    for below in (True, False):
        found = sorted(name.replace(".", "[.]") for name, subdomains in names if subdomains is below)
        while found:
            count = _fitting(found)
            any_of = f"{'(^|[.])' if below else '^'}({'|'.join(found[:count])})"
            yield f"obj.http.X-Cdnblock-Host ~ {any_of}$"
            yield f"req.http.Host ~ (?i){any_of}[.]*(:[0-9]*)?$"
            found = found[count:]


def _fitting(names: list[str]) -> int:
    octets = 0
    for count, name in enumerate(names[:_NAMES_IN_A_BAN]):
        octets += len(name)
        if octets > _OCTETS_OF_A_BAN and count:
            return count
    return min(len(names), _NAMES_IN_A_BAN)


def _table(work: Work) -> Iterator[tuple[str, str]]:
    """Yield keys and values, as `_varnish/table.c` explains them; a name on each line but these."""
    yield from ((f"!{ip_network(network, strict=False)}", "-") for network in work.options.trusted_proxies)
    yield from ((f"@{cidr}", place) for cidr, place in work.networks if not _TUNNELS.match(cidr))
    yield from _actions(work.plan)
    yield from _notices(work.plan, work.options)
    yield from ((name, _value(group)) for name, group in work.plan.suffixes.items())
    yield from ((f"={name}", _value(group)) for name, group in work.plan.exact.items())


def _value(group: Group | None) -> str:
    return group.id if group else _FREE


def _actions(plan: Plan) -> Iterator[tuple[str, str]]:
    for group in plan.groups:
        for place, outcome in group.outcomes.items():
            yield f":{group.id}:{place}", _action(outcome, place)


def _action(outcome: Outcome, place: str) -> str:
    """Return `close`, `uncached`, or `terminate:` with the key of the notice and the language of who asks for none."""
    return outcome.action(f"terminate:{outcome.id}:{default_language(place)}")


def _notices(plan: Plan, options: Options) -> Iterator[tuple[str, str]]:
    yield ":languages", "|".join(LANGUAGES)
    yield ":types", "|".join(TYPES)
    yield from ((f":meant:{asked}", meant) for asked, meant in MEANT_BY.items())
    yield from ((f":content-type:{media_type}", content_type) for media_type, (content_type, _) in FORMS.items())
    for outcome in _told(plan):
        for page in pages(outcome, options):
            yield f":{page.outcome}:{page.language}:{page.media_type}", _text(page)


def _told(plan: Plan) -> list[Outcome]:
    return [outcome for outcome in plan.outcomes if outcome.measures.get(Measure.PROXY) == "terminate"]


def _text(page: Page) -> str:
    return "".join(f"|{part}|" if isinstance(part, int) else in_table(part) for part in page.parts)


def _program(work: Work) -> str:
    """Return what does not change from day to day: it tells of no order."""
    folder = resources.files("cdnblock.exporters").joinpath("_varnish")
    *program, subroutines = (folder.joinpath(name).read_text(encoding="utf-8") for name in _PROGRAM)
    told = _told(work.plan)
    notice = headers(told[0], work.options) if told else NO_STORE
    replaced = {name.lower() for name, _ in NO_STORE}
    removed = (f"    unset resp.http.{name};\n" for name in REMOVED_FROM_RESPONSES if name not in replaced)
    values = {
        "TABLE": work.options.path(TABLE),
        "REASON": UNAVAILABLE[1],
        "NOTICE": "".join(_statements(notice)),
        "UNCACHED": "".join([*removed, *_statements(NO_STORE)]),
    }
    text = "C{\n" + "\n".join(program) + "}C\n\n" + subroutines
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], text)
    return "# Written by `cdnblock export varnish`: do not edit. For which orders, the table tells.\n" + text


def _statements(fields: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"    set resp.http.{name} = {quoted(value)};\n" for name, value in fields)


EXPORTER: Final = Exporter(
    name="varnish",
    title="Varnish ≥ 7.1",
    carries={**every(Measure.CDN), **every(Measure.PROXY)},
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
)
