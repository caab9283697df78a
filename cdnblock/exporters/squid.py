"""Squid 5 and later: a file for `include`, the lists that its ACLs read, and the pages that it answers with.

    include /etc/squid/cdnblock/cdnblock.conf    # before any other http_access
    http_port 80 accel vhost
    …

A host that nobody names costs one look-up in a tree, whatever there is to look up. Squid stops where a list holds a name
and another below it, and takes any name of a list that a host is below. So names are laid in layers: each holds none
below another of its own, and a name counts where none of the next layer does. What is found out is noted down once for
each request, and asked for by all that follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias

from cdnblock.exporters._exporter import PROXY_SERVER, Exporter, File, Options, Work, every
from cdnblock.exporters._notice import LANGUAGES, Page, headers, pages
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan
from cdnblock.exporters._planner import notice_told
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.wording import default_language
from cdnblock.orders.model import Measure

_TYPE: Final = "text/html"  # whatever Squid answers with is said to be that
_ALONE: Final = "alone"  # the layer of hosts that are meant without what is below them
_FRENCH: Final = "fr"  # what clients read who ask for nothing else, where that is not English
_HOST: Final = "%H"  # in a page of Squid's: the host that is asked for
_ANY: Final = "cdnblock_names"  # the ACL of all that is covered
_FEW_LISTS: Final = 4  # that a host is looked up in before it is worth while to have all names in one more
_FREE: Final = "free"  # in place of a group: a name that is let go below one that is not
# In Accept-Language, the first of our languages that is there at all; POSIX has no better pattern.
_FIRST: Final = r"^(([^,fe][^,]*|f[^r,][^,]*|e[^n,][^,]*|(fr|en)[a-z][^,]*|[fe])?[[:space:]]*,[[:space:]]*)*{}(-[a-z0-9-]+)?[[:space:]]*([,;]|$)"
# The right-most hop of X-Forwarded-For as Squid reads it; it takes 3325256711 and 198.51.100 for addresses as well.
_NUMBER: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_READABLE: Final = rf"(^|[,[:space:]])({_NUMBER}\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}|[0-9a-f:]*:[0-9a-f:.]*)[,[:space:]]*$"

# What a Host field may hold (RFC 9110 §7.2, without what no client sends): another is 400, as RFC 9112 §3.2 wants it.
_PLAIN_HOST: Final = r"^[[:space:]]*(\[[0-9a-f:.]+\]|[0-9a-z._-]{1,253})(:[0-9]*)?[[:space:]]*$"

_Lists: TypeAlias = Mapping[str, Mapping[str, list[str]]]
"""By layer, from the outermost, and by group: names as `dstdomain` takes them."""


def _render(work: Work) -> tuple[File, ...]:
    lists, top = _lists(work.plan), work.top("#")
    files = [File("cdnblock.conf", top + "".join(f"{line}\n" for line in _configuration(work, lists)))]
    for layer, groups in lists.items():
        for group, names in groups.items():
            files.append(File(f"{_named(layer, group)}.names", "\n".join([*names, ""])))
    files += [File(f"{name}.names", "\n".join([*names, ""])) for name, names in _gates(lists).items()]
    for place in _places(work.plan):
        networks = (cidr for cidr, where in work.networks if where == place)
        files.append(File(f"cdnblock_in_{place}.networks", "\n".join([*networks, ""])))
    for outcome in _told(work.plan):
        for page in pages(outcome, work.options):
            if page.media_type == _TYPE:
                files.append(File(_page(outcome, page.language), _text(page)))
    return tuple(files)


def quoted(text: str) -> str:
    """Return text as a value of Squid's, in which a percent sign begins a code."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _text(page: Page) -> str:
    return "".join(_HOST if isinstance(part, int) else part.replace("%", "%%") for part in page.parts)


def _lists(plan: Plan) -> _Lists:
    lists: dict[str, dict[str, list[str]]] = {}
    depths: dict[str, int] = {}
    for name in sorted(plan.suffixes, key=lambda name: (name.count("."), name)):
        depth = depths[name] = _depth_above(depths, name)
        lists.setdefault(str(depth), defaultdict(list))[_id(plan.suffixes[name])].append(f".{name}")
    for name, group in plan.exact.items():
        lists.setdefault(_ALONE, defaultdict(list))[_id(group)].append(name)
    return lists


def _depth_above(depths: Mapping[str, int], name: str) -> int:
    while name := name.partition(".")[2]:
        if name in depths:
            return depths[name] + 1
    return 0


def _id(group: Group | None) -> str:
    return group.id if group else _FREE


def _gates(lists: _Lists) -> dict[str, list[str]]:
    """Return all names of each layer but the outermost; and of the outermost where there are many lists to look into."""
    gates = {
        _named(layer): sorted(name for names in groups.values() for name in names)
        for layer, groups in lists.items()
        if layer != "0"
    }
    outermost = lists.get("0", {})
    if len(outermost) <= _FEW_LISTS:
        return gates
    names = {name for names in outermost.values() for name in names}
    alone = [name for name in gates.get(_named(_ALONE), ()) if not _is_below(f".{name}", names)]
    return gates | {_ANY: sorted([*names, *alone])}


def _is_below(name: str, names: set[str]) -> bool:
    while name:
        if name in names:
            return True
        dot, name = name[:1], name[1:].partition(".")[2]
        name = dot + name if name else ""
    return False


def _named(layer: str, group: str = "") -> str:
    return f"cdnblock_{layer}_{group}" if group else f"cdnblock_{layer}"


def _places(plan: Plan) -> list[str]:
    return [*plan.countries, *([UNKNOWN] if plan.tells_unknown else [])]


def _told(plan: Plan) -> list[Outcome]:
    return [outcome for outcome in plan.outcomes if outcome.measures.get(Measure.PROXY) == "terminate"]


def _page(outcome: Outcome, language: str) -> str:
    return f"ERR_CDNBLOCK_{outcome.id}_{language}"


def _configuration(work: Work, lists: _Lists) -> Iterator[str]:
    yield "acl cdnblock_host req_header Host ."
    yield f"acl cdnblock_plain_host req_header Host -i {_PLAIN_HOST}"
    yield "acl cdnblock_bad src all"
    yield "deny_info 400:ERR_INVALID_REQ cdnblock_bad"
    yield "http_access deny cdnblock_host !cdnblock_plain_host cdnblock_bad"
    yield from _clients(work)
    yield from _names(work, lists)
    yield from _actions(work.plan)
    yield from _answers(work)
    yield "cache deny cdnblock_uncached"
    yield "send_hit deny cdnblock_uncached"
    yield "store_miss deny cdnblock_uncached"
    for name in REMOVED_FROM_RESPONSES:
        yield f"reply_header_access {name} deny cdnblock_uncached"
    for name, value in NO_STORE:
        yield f"reply_header_add {name} {quoted(value)} cdnblock_uncached"


def _clients(work: Work) -> Iterator[str]:
    """Yield whose request it is, and the ACLs of places; what a trusted proxy wrote and cannot be read is in none."""
    plan, unless = work.plan, ""
    if work.options.trusted_proxies:
        unless = " !cdnblock_unreadable"
        yield f"acl cdnblock_trusted src {' '.join(work.options.trusted_proxies)}"
        yield "acl cdnblock_note_trusted annotate_transaction cdnblock_peer=trusted"
        yield "follow_x_forwarded_for allow cdnblock_trusted cdnblock_note_trusted"
        yield "follow_x_forwarded_for deny all"
        yield "acl_uses_indirect_client on"
        yield "acl cdnblock_peer_trusted note cdnblock_peer trusted"
        yield f"acl cdnblock_readable req_header X-Forwarded-For -i {_READABLE}"
        yield "acl cdnblock_forwarded req_header X-Forwarded-For ."
        yield "acl cdnblock_unreadable all-of cdnblock_peer_trusted cdnblock_forwarded !cdnblock_readable"
    for place in _places(plan):
        yield f'acl cdnblock_in_{place} src "{work.options.path(f"cdnblock_in_{place}.networks")}"'
    for country in plan.countries:
        yield f"acl cdnblock_at_{country} all-of cdnblock_in_{country}{unless}"
    if plan.tells_unknown:
        elsewhere = "".join(f" !cdnblock_in_{country}" for country in plan.countries)
        yield f"acl cdnblock_nowhere all-of cdnblock_in_{UNKNOWN}{elsewhere}"
        yield f"acl cdnblock_at_{UNKNOWN} any-of cdnblock_nowhere{unless.replace('!', '')}"


def _names(work: Work, lists: _Lists) -> Iterator[str]:
    """Yield an ACL for each group; `-n` keeps Squid from asking for the names of hosts that are addresses."""

    def listed(name: str) -> str:
        return f'acl {name} dstdomain -n "{work.options.path(f"{name}.names")}"'

    yield from (listed(name) for name in _gates(lists))
    members: dict[str, list[str]] = defaultdict(list)
    for layer, groups in lists.items():
        closer = _ALONE if layer == _ALONE else str(int(layer) + 1)
        unless = [_named(other) for other in dict.fromkeys((closer, _ALONE)) if other in lists and other != layer]
        for group in groups:
            if group != _FREE:
                yield listed(_named(layer, group))
                yield f"acl {_named(layer, group)}_here all-of {' !'.join([_named(layer, group), *unless])}"
                members[group].append(f"{_named(layer, group)}_here")
    for group, acls in members.items():
        yield f"acl cdnblock_{group} any-of {' '.join(acls)}"
    if _ANY not in _gates(lists):
        outermost = [_named("0", group) for group in lists.get("0", ())] + [_named(_ALONE)] * (_ALONE in lists)
        yield f"acl {_ANY} any-of {' '.join(outermost)}" if outermost else f"acl {_ANY} all-of !all"


def _actions(plan: Plan) -> Iterator[str]:
    """Yield an ACL for each thing that may become of a request, and what notes it down."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for group in plan.groups:
        for place, outcome in group.outcomes.items():
            found[outcome.action(outcome.id)][group.id].append(place)
    yield "acl cdnblock_note_covered annotate_transaction cdnblock=covered"
    yield "acl cdnblock_covered note cdnblock covered"
    sets = {frozenset(places): "" for groups in found.values() for places in groups.values()}
    for number, places in enumerate(sets):
        sets[places], definition = _anywhere(plan, places, f"cdnblock_places_{number}")
        yield from definition
    for action, groups in found.items():
        members = []
        for group_id, where in groups.items():
            members.append(f"cdnblock_{group_id}_{action}")
            yield f"acl {members[-1]} all-of cdnblock_{group_id}{sets[frozenset(where)]}"
        yield f"acl cdnblock_is_{action} any-of {' '.join(members)}"
    yield "acl cdnblock_note_uncached annotate_transaction cdnblock_action=uncached"
    yield "acl cdnblock_uncached note cdnblock_action uncached"
    yield f"http_access deny {_ANY} cdnblock_note_covered !all"
    if "uncached" in found:
        yield "http_access deny cdnblock_covered cdnblock_is_uncached cdnblock_note_uncached !all"


def _anywhere(plan: Plan, places: Collection[str], name: str) -> tuple[str, list[str]]:
    """Return what to add to an `all-of` so that it holds in these places, and what defines that."""
    known = _places(plan)
    if OTHER in places:
        return "".join(f" !cdnblock_at_{place}" for place in known if place not in places), []
    members = " ".join(f"cdnblock_at_{place}" for place in known if place in places)
    return f" {name}", [f"acl {name} any-of {members}"]


def _answers(work: Work) -> Iterator[str]:
    """Yield what refuses: Squid answers as the last ACL of the line that refused says."""
    told = _told(work.plan)
    yield f"error_directory {work.options.folder.rstrip('/')}"
    for language in LANGUAGES:
        yield f"acl cdnblock_reads_{language} req_header Accept-Language -i {_FIRST.format(language)}"
    if _french(work.plan):
        yield f"acl cdnblock_in_french any-of {' '.join(_french(work.plan))}"
    if any(outcome.measures.get(Measure.PROXY) == "close" for outcome in work.plan.outcomes):
        yield "acl cdnblock_reset src all"
        yield "deny_info TCP_RESET cdnblock_reset"
        yield "http_access deny cdnblock_covered cdnblock_is_close cdnblock_reset"
    for language in LANGUAGES:
        yield f"acl cdnblock_note_{language} annotate_transaction cdnblock_refused={language}"
        yield f"acl cdnblock_refused_{language} note cdnblock_refused {language}"
    yield "acl cdnblock_refused note cdnblock_refused"
    for outcome in told:
        for language in LANGUAGES:
            yield f"acl cdnblock_tell_{outcome.id}_{language} src all"
            yield f"deny_info 451:{_page(outcome, language)} cdnblock_tell_{outcome.id}_{language}"
        for wish, language in _wishes(work.plan):
            told_by = f"cdnblock_note_{language} cdnblock_tell_{outcome.id}_{language}"
            yield f"http_access deny cdnblock_covered cdnblock_is_{outcome.id} {wish} {told_by}".replace("  ", " ")
    if told:
        yield from _fields(told[0], work.options)


def _fields(outcome: Outcome, options: Options) -> Iterator[str]:
    """Yield what stands in the head of a notice beside what Squid itself puts there."""
    fields = [(name, value) for name, value in headers(outcome, options) if name != "Vary"]
    for name in (*(name for name, _ in fields), "Vary", "Content-Language"):
        yield f"reply_header_access {name} deny cdnblock_refused"
    for name, value in (*fields, ("Vary", "Accept-Language")):
        yield f"reply_header_add {name} {quoted(value)} cdnblock_refused"
    for language in LANGUAGES:
        yield f"reply_header_add Content-Language {language} cdnblock_refused_{language}"


def _french(plan: Plan) -> list[str]:
    return [f"cdnblock_at_{country}" for country in plan.countries if default_language(country) == _FRENCH]


def _wishes(plan: Plan) -> Iterator[tuple[str, str]]:
    yield from ((f"cdnblock_reads_{language}", language) for language in LANGUAGES)
    if _french(plan):
        yield "cdnblock_in_french", _FRENCH
    yield "", default_language(None)


EXPORTER: Final = Exporter(
    name="squid",
    title="Squid ≥ 5",
    carries={**every(Measure.CDN), **every(Measure.PROXY)},
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
)
