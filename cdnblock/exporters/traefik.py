"""Traefik 3.7 and later: a plugin that it interprets from a folder, so nothing is built or fetched, and a file that the plugin watches.

    experimental:
      localPlugins: { cdnblock: { moduleName: cdnblock.invalid/cdnblock } }
    entryPoints:
      web:
        address: :80
        http: { middlewares: [cdnblock@file] }    # before those of any router

Traefik is started in the folder that holds `plugins-local`, and its file provider has cdnblock.yaml. Rules alone would
carry a hundred names: a router compares one host and one network after the other, forgets X-Forwarded-For, and has no
answer of its own with a body. In the plugin names are in a hash and networks are found by bisection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Final

from cdnblock.exporters._exporter import PROXY_SERVER, Cannot, Exporter, File, Work, every
from cdnblock.exporters._hashed_names import FREE
from cdnblock.exporters._notice import LANGUAGES, TYPES, Page, headers, pages
from cdnblock.exporters._plan import OTHER, Group, Outcome
from cdnblock.exporters._planner import notice_told
from cdnblock.exporters._spans import spans, trusted_spans
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import FORMS, MEANT_BY, Answer, bad_host, failure
from cdnblock.orders.model import Measure

MODULE: Final = "cdnblock.invalid/cdnblock"
"""What the plugin is called; nobody can have that name (RFC 6761 §6.4)."""

_FOLDER: Final = f"plugins-local/src/{MODULE}"
_BY_PLUGIN: Final = "Content-Length"  # which it adds to every answer
_UNCACHED: Final = "uncached"


def _render(work: Work) -> tuple[File, ...]:
    source = resources.files("cdnblock.exporters").joinpath("_traefik.go").read_text(encoding="utf-8")
    return (
        File("cdnblock.json", json.dumps(_data(work), ensure_ascii=False, indent=0) + "\n"),
        File("cdnblock.yaml", work.top("#") + _middleware(work)),
        File(f"{_FOLDER}/cdnblock.go", source),
        File(f"{_FOLDER}/.traefik.yml", _manifest()),
    )


def _middleware(work: Work) -> str:
    file = json.dumps(work.options.path("cdnblock.json"))
    return f"http:\n  middlewares:\n    cdnblock:\n      plugin:\n        cdnblock: {{ file: {file} }}\n"


def _manifest() -> str:
    return "\n".join(
        (
            "displayName: cdnblock",
            "type: middleware",
            f"import: {MODULE}",
            "summary: Court-ordered blocking, written by `cdnblock export traefik`",
            "testData: { file: cdnblock.json }",
            "",
        )
    )


def _data(work: Work) -> dict[str, object]:
    plan, options = work.plan, work.options
    ipv4, ipv6 = spans(work.networks)
    trusted_ipv4, trusted_ipv6 = trusted_spans(options.trusted_proxies)
    told = [outcome for outcome in plan.outcomes if _is_told(outcome)]
    return {
        "about": work.header,
        "names": _groups(plan.suffixes),
        "alone": _groups(plan.exact),
        "actions": {group.id: {place: _action(o) for place, o in group.outcomes.items()} for group in plan.groups},
        "ipv4": ipv4,
        "ipv6": ipv6,
        "trusted_ipv4": trusted_ipv4,
        "trusted_ipv6": trusted_ipv6,
        "languages": LANGUAGES,
        "own_languages": {place: default_language(place) for place in plan.countries} | {OTHER: default_language(None)},
        "types": TYPES,
        "content_types": {kind: form[0] for kind, form in FORMS.items()},
        "meant_by": dict(MEANT_BY),
        "headers": headers(told[0], options) if told else [],
        "notices": {outcome.id: _texts([*pages(outcome, options)]) for outcome in told},
        "bad_host": _answer(bad_host()),
        "failure": _answer(failure()),
        "removed": [*REMOVED_FROM_RESPONSES],
        "no_store": NO_STORE,
    }


def _groups(table: Mapping[str, Group | None]) -> dict[str, str]:
    return {name: group.id if group else FREE for name, group in table.items()}


def _is_told(outcome: Outcome) -> bool:
    return Measure.PROXY in outcome.measures


def _action(outcome: Outcome) -> str:
    return outcome.id if _is_told(outcome) else _UNCACHED


def _texts(those: list[Page]) -> dict[str, dict[str, list[str]]]:
    """Return each text as pieces: text, how many labels of the host stand there, text, and so on."""
    return {
        language: {page.media_type: [*map(str, page.parts)] for page in those if page.language == language}
        for language in LANGUAGES
    }


def _answer(answer: Answer) -> dict[str, object]:
    fields = [(name, value) for name, value in answer.headers if name != _BY_PLUGIN]
    return {"status": answer.status, "headers": fields, "body": answer.body.decode()}


EXPORTER: Final = Exporter(
    name="traefik",
    title="Traefik ≥ 3.7",
    carries={
        **every(Measure.CDN),
        **every(Measure.PROXY),
        (Measure.PROXY, "close"): Cannot("Traefik ends no stream of HTTP/2 without an answer", "terminate"),
    },
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
)
