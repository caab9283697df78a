"""Envoy 1.36 and later: one HTTP filter, in two files that Envoy reads again by itself when they change.

    http_filters:
      - name: cdnblock            # before everything that answers or stores
        config_discovery:
          config_source:
            resource_api_version: V3
            path_config_source: { path: /etc/envoy/cdnblock/cdnblock-filter.yaml }
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]

The routes stay yours. Virtual hosts for the names would have to be woven into them, would take seconds to load by the
hundred thousand, and would let every spelling pass that they do not know. Names and networks are two long texts, in
which the program looks without ever building a table: there is next to nothing to load, and a change is in force within
a tenth of a second and costs no request. Envoy takes a new filter when cdnblock-filter.yaml changes, which names the
program by its digest; so it is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

from cdnblock.exporters._exporter import PROXY_SERVER, Cannot, Exporter, File, Setting, Work, every
from cdnblock.exporters._hashed_names import hashed_names
from cdnblock.exporters._lua import in_lua, long_string, program_text
from cdnblock.exporters._notice import LANGUAGES, TYPES, Page, headers, pages
from cdnblock.exporters._plan import OTHER, Outcome
from cdnblock.exporters._planner import notice_told
from cdnblock.exporters._spans import spans, trusted_spans
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import FORMS, MEANT_BY, Answer, bad_host, failure
from cdnblock.orders.model import Measure

_UNCACHED: Final = "uncached"
_BY_ENVOY: Final = "Content-Length"  # which it adds to every answer
_PEERS: Final = {
    # Setting: what of Envoy's tells the peer, and whether the peer's X-Forwarded-For may count.
    "direct": ("downstreamDirectRemoteAddress", True),
    "remote": ("downstreamRemoteAddress", False),
}


def _render(work: Work) -> tuple[File, ...]:
    program = work.top("--") + "\n".join(_tables(work)) + "\n\n" + program_text("_envoy.lua")
    return (File("cdnblock.lua", program), File("cdnblock-filter.yaml", _filter(work, program)))


def _filter(work: Work, program: str) -> str:
    digest = hashlib.sha256(program.encode()).hexdigest()
    return work.top("#") + "\n".join(
        (
            "resources:",
            '  - "@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
            f"    name: {json.dumps(work.options.settings['filter'])}",
            "    typed_config:",
            '      "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua',
            f"      default_source_code: {{ filename: {json.dumps(work.options.path('cdnblock.lua'))} }}",
            "      # Nothing runs this: it makes the filter another one for Envoy whenever the program is another one.",
            f'      source_codes: {{ "sha256:{digest}": {{ inline_string: "--" }} }}',
            "",
        )
    )


def _tables(work: Work) -> Iterator[str]:
    """Yield the program's data, a statement each."""
    plan, options, names = work.plan, work.options, hashed_names(work.plan)
    ipv4, ipv6 = spans(work.networks)
    trusted_ipv4, trusted_ipv6 = trusted_spans(options.trusted_proxies)
    peer, believed = _PEERS[options.settings["peer"]]
    yield f"\nlocal actions = {_table({group.id: _actions(group.outcomes) for group in plan.groups})}"
    yield f"local names = {long_string(names.lines)}"
    yield f"local buckets = {long_string(names.index)}"
    yield f"local mask = {names.mask}"
    yield f"local ipv4_spans = {long_string(ipv4)}"
    yield f"local ipv6_spans = {long_string(ipv6)}"
    yield f"local trusted_ipv4 = {long_string(trusted_ipv4)}"
    yield f"local trusted_ipv6 = {long_string(trusted_ipv6)}"
    yield f"local believed = {'true' if believed and options.trusted_proxies else 'false'}"
    yield f"local function peer_of(info) return info:{peer}() end"
    yield f"local bad_host = {_answer(bad_host())}"
    yield f"local failure = {_answer(failure())}"
    yield f"local has_uncached = {'true' if any(map(_is_uncached, plan.outcomes)) else 'false'}"
    yield f"local removed_from_responses = {_list(map(in_lua, REMOVED_FROM_RESPONSES))}"
    yield f"local no_store = {_table({name.lower(): in_lua(value) for name, value in NO_STORE})}"
    yield from _notices(work)


def _notices(work: Work) -> Iterator[str]:
    plan, options = work.plan, work.options
    told = [outcome for outcome in plan.outcomes if _is_told(outcome)]
    found = {outcome.id: [*pages(outcome, options)] for outcome in told}
    fields = headers(told[0], options) if told else ()
    own = {place: default_language(place) for place in plan.countries} | {OTHER: default_language(None)}
    yield f"local languages = {_list(map(in_lua, LANGUAGES))}"
    yield f"local own_languages = {_table({place: in_lua(language) for place, language in own.items()})}"
    yield f"local types = {_list(map(in_lua, TYPES))}"
    yield f"local content_types = {_table({kind: in_lua(form[0]) for kind, form in FORMS.items()})}"
    yield f"local meant_by = {_table({asked: in_lua(meant) for asked, meant in MEANT_BY.items()})}"
    yield f"local notice_headers = {_table({name.lower(): in_lua(value) for name, value in fields})}"
    yield f"local notices = {_table({key: _texts(those) for key, those in found.items()})}"


def _texts(those: list[Page]) -> str:
    by_language = {
        language: _table({page.media_type: _parts(page) for page in those if page.language == language})
        for language in LANGUAGES
    }
    return _table(by_language)


def _parts(page: Page) -> str:
    return _list(str(part) if isinstance(part, int) else in_lua(part) for part in page.parts)


def _actions(outcomes: Mapping[str, Outcome]) -> str:
    return _table(
        {place: in_lua(outcome.id if _is_told(outcome) else _UNCACHED) for place, outcome in outcomes.items()}
    )


def _is_told(outcome: Outcome) -> bool:
    return Measure.PROXY in outcome.measures


def _is_uncached(outcome: Outcome) -> bool:
    return not _is_told(outcome)


def _answer(answer: Answer) -> str:
    fields = {":status": str(answer.status)} | {
        name.lower(): value for name, value in answer.headers if name != _BY_ENVOY
    }
    values = {name: in_lua(value) for name, value in fields.items()}
    return f"{{headers = {_table(values)}, body = {in_lua(answer.body.decode())}}}"


def _table(values: Mapping[str, str]) -> str:
    """Return a table of Lua; the values are Lua already."""
    return "{" + ", ".join(f"[{in_lua(key)}] = {value}" for key, value in values.items()) + "}"


def _list(values: Iterator[str] | map[str]) -> str:
    return "{" + ", ".join(values) + "}"


EXPORTER: Final = Exporter(
    name="envoy",
    title="Envoy ≥ 1.36",
    carries={
        **every(Measure.CDN),
        **every(Measure.PROXY),
        (Measure.PROXY, "close"): Cannot("Envoy closes no connection without an answer", "terminate"),
    },
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
    settings={
        "filter": Setting(
            "cdnblock", "name of the filter in your http_filters", pattern=r"[A-Za-z0-9._-]+", right="cdnblock"
        ),
        "peer": Setting(
            "direct",
            "`direct`: the connection's own address, and X-Forwarded-For of trusted proxies; `remote`: what Envoy takes"
            " for the client, by PROXY protocol or by settings of its own",
            (*_PEERS,),
        ),
    },
)
