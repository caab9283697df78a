"""Caddy 2.11 and later: a named route, which a site invokes before anything else of its own.

    import /etc/caddy/cdnblock/cdnblock.caddy

    example.org {
        route {
            invoke cdnblock
            reverse_proxy …
        }
    }

Caddy knows one way to look among many names that is not one after the other: `host`, with the whole names of a long
list. So it is asked for the last labels of a host, as many as names have, one depth after the other; the host that the
route goes on with is the client's own. Whose request it is, and where he is, only covered hosts have to tell: `client_ip`
is linear, so networks stand in a tree of routes, and it takes what is to be looked at from a variable of Caddy's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from cdnblock.exporters import _caddy_requests as requests
from cdnblock.exporters._caddy_territory import place
from cdnblock.exporters._caddyfile import block, matcher, quoted, special_characters, words
from cdnblock.exporters._exporter import PROXY_SERVER, Exporter, File, Setting, Work, every
from cdnblock.exporters._notice import Page, headers, pages
from cdnblock.exporters._plan import Group, Outcome, Plan, labels
from cdnblock.exporters._planner import notice_told
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.proxy_termination import Answer, bad_host
from cdnblock.orders.model import Measure

FREE: Final = "free"
"""The group of a name that is let go below one that is not."""

_BY_CADDY: Final = "Content-Length"  # which it finds out by itself
_UNFOUND: Final = 'vars {http.vars.cdnblock_group} ""'
_Names = Mapping[str, Group | None]


def _render(work: Work) -> tuple[File, ...]:
    lines = block(f"&({work.options.settings['name']})", block("route", _route(work)))
    return (File("cdnblock.caddy", work.top("#") + "\n".join(lines) + "\n"),)


def _route(work: Work) -> Iterator[str]:
    plan = work.plan
    yield from requests.upgrades()
    yield from requests.host()
    yield "@cdnblock_no_host not vars {http.vars.cdnblock_is_host} yes"
    yield from block("route @cdnblock_no_host", _answer(bad_host()))
    if not plan.groups:
        return
    yield from _look_up(plan)
    yield "request_header Host {http.vars.cdnblock_hostport}"
    yield f'@cdnblock_covered not vars {{http.vars.cdnblock_group}} "" {FREE}'
    yield from block("route @cdnblock_covered", _covered(work))


def _look_up(plan: Plan) -> Iterator[str]:
    """Yield what finds the group of the longest name: the whole host, then its last labels, the most first."""
    yield "request_header Host {http.vars.cdnblock_host}"
    depths = sorted({*plan.depths(), *_told_depths(plan)}, reverse=True)
    yield from block("vars", (f"cdnblock_name_{depth} {_last_labels(depth)}" for depth in depths))
    if plan.exact:
        yield from _names("exact", plan.exact)
    for depth in plan.depths():
        yield f"request_header Host {{http.vars.cdnblock_name_{depth}}}"
        yield from _names(str(depth), {name: group for name, group in plan.suffixes.items() if labels(name) == depth})


def _last_labels(count: int) -> str:
    return ".".join(f"{{http.request.host.labels.{number}}}" for number in reversed(range(count)))


def _names(which: str, table: _Names) -> Iterator[str]:
    """Yield what sets the group where the host is one of these names, and none was found before."""
    groups: dict[str, list[str]] = {}
    for name, group in table.items():
        groups.setdefault(group.id if group else FREE, []).append(name)
    yield from matcher(f"cdnblock_names_{which}", [_UNFOUND], words("host", table))
    if len(groups) == 1:
        yield f"vars @cdnblock_names_{which} cdnblock_group {next(iter(groups))}"
        return
    yield from block(f"route @cdnblock_names_{which}", _which(which, groups))


def _which(which: str, groups: Mapping[str, list[str]]) -> Iterator[str]:
    for group, names in groups.items():
        yield from matcher(f"cdnblock_names_{which}_{group}", words("host", names))
        yield f"vars @cdnblock_names_{which}_{group} cdnblock_group {group}"


def _covered(work: Work) -> Iterator[str]:
    plan = work.plan
    yield from requests.client(work.options.trusted_proxies)
    yield from place(work.networks)
    yield "vars client_ip {http.vars.cdnblock_client_before}"
    yield "vars cdnblock_key {http.vars.cdnblock_group}:{http.vars.cdnblock_place}"
    keys: dict[str, list[str]] = {}
    for group in plan.groups:
        for where, outcome in group.outcomes.items():
            keys.setdefault(outcome.action(outcome.id), []).append(f"{group.id}:{where}")
    for action, those in keys.items():
        yield from matcher(f"cdnblock_{action}", words("vars {http.vars.cdnblock_key}", those))
    if "close" in keys:
        yield "abort @cdnblock_close"
    if "uncached" in keys:
        yield from block("header @cdnblock_uncached", _uncached())
    told = [outcome for outcome in plan.outcomes if outcome.action(outcome.id) == outcome.id]
    if told:
        yield from matcher(
            "cdnblock_told", words("vars {http.vars.cdnblock_key}", (k for o in told for k in keys[o.id]))
        )
        yield from block("route @cdnblock_told", _notices(work, told))


def _uncached() -> Iterator[str]:
    yield from (f"-{name}" for name in REMOVED_FROM_RESPONSES if name not in {field.lower() for field, _ in NO_STORE})
    yield from (f"{name} {value}" for name, value in NO_STORE)
    yield "defer"


def _notices(work: Work, told: list[Outcome]) -> Iterator[str]:
    yield from special_characters()
    yield from requests.negotiation(work.plan)
    yield from block("header", _fields(headers(told[0], work.options)))
    for outcome in told:
        lines = (line for number, page in enumerate(pages(outcome, work.options)) for line in _page(page, number))
        yield from block(f"route @cdnblock_{outcome.id}", lines)


def _page(page: Page, number: int) -> Iterator[str]:
    name = f"cdnblock_page_{page.outcome}_{number}"
    yield f"@{name} vars_regexp {{http.vars.cdnblock_page}} `{requests.page(page.language, page.media_type)}`"
    lines = (
        f"header Content-Type {quoted(page.content_type)}",
        f"header Content-Language {page.language}",
        f"respond {_text(page)} 451",
    )
    yield from block(f"route @{name}", lines)


def _text(page: Page) -> str:
    parts = (
        f"{{http.vars.cdnblock_name_{part}}}" if isinstance(part, int) else quoted(part)[1:-1] for part in page.parts
    )
    return f"`{''.join(parts)}`"


def _told_depths(plan: Plan) -> set[int]:
    reasons = (reason for outcome in plan.outcomes for reason in outcome.because(Measure.PROXY))
    return {labels(reason.name) for reason in reasons}


def _answer(answer: Answer) -> Iterator[str]:
    yield from block("header", _fields(answer.headers))
    yield f"respond {quoted(answer.body.decode())} {answer.status}"


def _fields(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from (f"{name} {quoted(value)}" for name, value in lines if name != _BY_CADDY)


EXPORTER: Final = Exporter(
    name="caddy",
    title="Caddy ≥ 2.11",
    carries={**every(Measure.CDN), **every(Measure.PROXY)},
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
    settings={
        "name": Setting(
            "cdnblock", "name of the route that your sites invoke", pattern=r"[A-Za-z0-9_-]+", right="cdnblock"
        )
    },
)
