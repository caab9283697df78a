"""nginx 1.22 and later: files for `include` in http, server and cached locations, and in stream.

    http {
        include /etc/nginx/cdnblock/cdnblock-http.conf;            # before any `map`: it sets the size of their hash
        server {
            include /etc/nginx/cdnblock/cdnblock-server.conf;      # first of all
            location / {
                include /etc/nginx/cdnblock/cdnblock-cache.conf;   # wherever something is cached or passed on
                proxy_pass …;
            }
        }
    }

Everything is a variable that nginx works out when it is asked for: a host that nobody names costs one look-up in a
hash, and its client's address is looked at by nobody. Names go into `map` with `hostnames`, the longest of which wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from cdnblock.exporters._exporter import PROXY_SERVER, Exporter, File, Setting, Work, every
from cdnblock.exporters._nginx_requests import LOCATIONS, NOBODYS_LENGTH, client, negotiation
from cdnblock.exporters._notice import Page, headers, pages
from cdnblock.exporters._plan import OTHER, UNKNOWN, Group, Outcome, Plan
from cdnblock.exporters._planner import notice_told
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.proxy_termination import FORMS
from cdnblock.orders.model import Measure

MOST_OF_A_WORD: Final = 3_000  # octets: nginx reads its configuration by 4096, and no quoted text may be longer

_BUCKETS: Final = (128, 256, 512)  # map_hash_bucket_size: a name, its length and two pointers must fit
_BESIDE_A_NAME: Final = 64  # with room for a second one: where names of one bucket do not fit, it takes longer to load
_SMALLEST_TABLE: Final = 2_048  # map_hash_max_size, as nginx has it
# What nginx leaves of a Host field or a target; another is 400, as RFC 9112 §3.2 wants it.
_HOSTS: Final = (r"^[0-9a-z_-]+(?:\.[0-9a-z_-]+)*$", r"^\[[0-9a-f:.]+\]$")


def _render(work: Work) -> tuple[File, ...]:
    top, settings = work.top("#"), work.options.settings
    files = [
        File("cdnblock-http.conf", top + _lines(_http(work))),
        File("cdnblock-hosts.map", top + "".join(_hosts(work.plan))),
        File("cdnblock-actions.map", top + "".join(_actions(work.plan))),
        File("cdnblock-server.conf", _lines(_server(work))),
        File("cdnblock-cache.conf", _lines(_cache(settings["headers-more"] == "yes"))),
    ]
    if settings["country"] == "geo":
        files.append(
            File("cdnblock-territory.conf", top + "".join(f"{cidr} {place};\n" for cidr, place in work.networks))
        )
    if settings["headers-more"] == "no":
        files.append(File("cdnblock-uncached.conf", _lines(_uncached())))
    if settings["sni"]:
        files.append(File("cdnblock-stream.conf", top + _lines(_stream(work))))
    return tuple(files)


def quoted(text: str) -> str:
    """Return text as one word of nginx's configuration in which nothing is a variable."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Return text for the inside of quotes: nginx knows no escape for `$`, so a variable of ours holds one."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "${cdnblock_dollar}")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _hosts(plan: Plan) -> Iterator[str]:
    yield from plan.lines(lambda group, alone: ("*." if alone else ".", f" {_value(group)};\n"))
    yield from plan.lines(lambda group, _: ("", f" {_value(group)};\n"), exact=True)


def _value(group: Group | None) -> str:
    return group.id if group else '""'


def _actions(plan: Plan) -> Iterator[str]:
    for group in plan.groups:
        for place, outcome in group.outcomes.items():
            yield f"{group.id}:{place} {_action(outcome)};\n"


def _action(outcome: Outcome) -> str:
    return outcome.action(f"terminate:{outcome.id}")


def _http(work: Work) -> Iterator[str]:
    plan, path = work.plan, work.options.path
    if work.options.settings["hash"] == "yes":
        yield from _hash_sizes(plan)
    yield "geo $cdnblock_dollar { default $; }"
    yield f'map $host $cdnblock_group {{ hostnames; default ""; include {quoted(path("cdnblock-hosts.map"))}; }}'
    yield "map $host $cdnblock_no_host { default 1;" + "".join(f' "~{pattern}" "";' for pattern in _HOSTS) + " }"
    yield from _place(work)
    yield from _decision("")
    yield f'map $cdnblock_key $cdnblock_outcome {{ default ""; include {quoted(path("cdnblock-actions.map"))}; }}'
    yield 'map $cdnblock_action $cdnblock_uncached { default ""; uncached 1; }'
    yield from negotiation(plan)
    yield from _names(plan)
    yield from _notices(work)


def _hash_sizes(plan: Plan) -> Iterator[str]:
    wanted = plan.longest() + _BESIDE_A_NAME
    yield f"map_hash_bucket_size {next(size for size in _BUCKETS if size >= wanted)};"
    yield f"map_hash_max_size {max(_SMALLEST_TABLE, len(plan.suffixes) + len(plan.exact))};"
    yield "variables_hash_max_size 2048;"


def _decision(sni: str) -> Iterator[str]:
    """Yield the variables between group and action; what follows a group is worked out for covered hosts alone."""
    group, key, outcome, action = (f"$cdnblock_{sni}{name}" for name in ("group", "key", "outcome", "action"))
    yield f'map {group} {key} {{ "" ""; default "{group}:$cdnblock_{sni}place"; }}'
    yield f"map {outcome} $cdnblock_{sni}verb {{ default {outcome}; ~^terminate: terminate; }}"
    yield f'map {group} {action} {{ "" ""; default $cdnblock_{sni}verb; }}'


def _place(work: Work) -> Iterator[str]:
    """Yield the variable that holds where the client is: by a list of networks, or by what geoip2 tells."""
    country, trusted = work.options.settings["country"], work.options.trusted_proxies
    if country != "geo":
        yield from _by_country(country, "cdnblock_place", work.plan)
        return
    if trusted:
        yield from client(" ".join(f"{network} 1;" for network in trusted))
    yield from _by_networks("$cdnblock_client" if trusted else "$remote_addr", "cdnblock_place", work)


def _by_networks(address: str, variable: str, work: Work) -> Iterator[str]:
    yield f"geo {address} ${variable} {{"
    yield f"    default {OTHER};"
    yield f"    include {quoted(work.options.path('cdnblock-territory.conf'))};"
    yield "}"


def _by_country(source: str, variable: str, plan: Plan) -> Iterator[str]:
    yield f"map {source} ${variable} {{"
    yield f'    default {OTHER}; "" {UNKNOWN};'
    yield from (f"    {country} {country};" for country in plan.countries)
    yield "}"


def _names(plan: Plan) -> Iterator[str]:
    """Yield for each depth that notices mention the variable that holds so many labels of the host."""
    for depth in sorted(_depths(plan)):
        pattern = r"[^.]+" + r"\.[^.]+" * (depth - 1)
        yield f'map $host $cdnblock_name_{depth} {{ default $host; "~(?<cdnblock_labels_{depth}>{pattern})$" $cdnblock_labels_{depth}; }}'


def _depths(plan: Plan) -> set[int]:
    reasons = (reason for outcome in _told(plan) for reason in outcome.because(Measure.PROXY))
    return {reason.name.count(".") + 1 for reason in reasons}


def _told(plan: Plan) -> list[Outcome]:
    return [outcome for outcome in plan.outcomes if outcome.measures.get(Measure.PROXY) == "terminate"]


def _notices(work: Work) -> Iterator[str]:
    """Yield the notices, cut into variables `cdnblock_notice_0` and so on, as many as the longest one needs."""
    texts = {
        key: _pieces(page)
        for outcome in _told(work.plan)
        for page in pages(outcome, work.options)
        for key in [_key(page)]
    }
    yield 'map "" $cdnblock_notice_key { default "$cdnblock_outcome:$cdnblock_language:$cdnblock_type"; }'
    for number in range(_most_pieces(work)):
        yield f"map $cdnblock_notice_key $cdnblock_notice_{number} {{"
        yield '    default "";'
        for key, pieces in texts.items():
            if number < len(pieces):
                yield f'    {key} "{pieces[number]}";'
        yield "}"


def _most_pieces(work: Work) -> int:
    counts = (len(_pieces(page)) for outcome in _told(work.plan) for page in pages(outcome, work.options))
    return max(counts, default=1)


def _key(page: Page) -> str:
    return f"terminate:{page.outcome}:{page.language}:{LOCATIONS[page.media_type]}"


@lru_cache(maxsize=4096)  # pages, which are kept anyway: each is asked for several times in each export
def _pieces(page: Page) -> tuple[str, ...]:
    """Return a notice as texts that nginx can read, the host's labels as variables."""
    atoms = [
        atom
        for part in page.parts
        for atom in ([f"${{cdnblock_name_{part}}}"] if isinstance(part, int) else map(_escaped, part))
    ]
    filled, pieces = 0, [""]
    for atom in atoms:
        filled += len(atom.encode())
        if filled > MOST_OF_A_WORD:
            filled = len(atom.encode())
            pieces.append("")
        pieces[-1] += atom
    return tuple(pieces)


def _server(work: Work) -> Iterator[str]:
    told = _told(work.plan)
    yield "# Written by `cdnblock export nginx`: do not edit. For which orders, cdnblock-hosts.map tells."
    yield "if ($cdnblock_no_host) { return 400; }"
    yield "if ($cdnblock_action = close) { return 444; }"
    yield "if ($cdnblock_action = terminate) { return 451; }"
    # Whatever client_max_body_size is: so `cdnblock apply` hears nginx itself, and not a site that imitates us.
    yield f"if ($content_length = {NOBODYS_LENGTH}) {{ return 413; }}"
    yield "error_page 451 @cdnblock_$cdnblock_type;"
    if work.options.settings["headers-more"] == "no":
        yield "if ($cdnblock_action = uncached) { return 418; }"
        yield "error_page 418 = @cdnblock_uncached;"
    body = "".join(f"$cdnblock_notice_{number}" for number in range(_most_pieces(work)))
    for media_type, (content_type, _) in FORMS.items():
        yield f"location @cdnblock_{LOCATIONS[media_type]} {{"
        yield "    types { }"
        yield f"    default_type {quoted(content_type)};"
        for name, value in headers(told[0], work.options) if told else NO_STORE:
            yield f"    add_header {name} {quoted(value)} always;"
        yield "    add_header Content-Language $cdnblock_language always;"
        yield f'    return 451 "{body}";'
        yield "}"


def _cache(headers_more: bool) -> Iterator[str]:  # noqa: FBT001 (one of two texts)
    yield "# Written by `cdnblock export nginx`: do not edit."
    yield "proxy_cache_bypass $cdnblock_uncached;"
    yield "proxy_no_cache $cdnblock_uncached;"
    if headers_more:
        yield "if ($cdnblock_uncached) {"
        yield f"    more_clear_headers {' '.join(quoted(name) for name in REMOVED_FROM_RESPONSES)};"
        yield f"    more_set_headers {' '.join(quoted(f'{name}: {value}') for name, value in NO_STORE)};"
        yield "}"


def _uncached() -> Iterator[str]:
    """Yield what `location @cdnblock_uncached` includes, beside the proxy_pass of its own that it needs."""
    yield "# Written by `cdnblock export nginx`: do not edit."
    yield "proxy_cache off;"
    yield from (f"proxy_hide_header {name};" for name in REMOVED_FROM_RESPONSES)
    yield from (f"add_header {name} {quoted(value)} always;" for name, value in NO_STORE)


def _stream(work: Work) -> Iterator[str]:
    """Yield what refuses TLS by its server name where it is passed on unopened: the address to pass it on to."""
    path = work.options.path
    if work.options.settings["hash"] == "yes":
        yield from (line for line in _hash_sizes(work.plan) if line.startswith("map_"))
    hosts = quoted(path("cdnblock-hosts.map"))
    yield f'map $ssl_preread_server_name $cdnblock_sni_group {{ hostnames; default ""; include {hosts}; }}'
    country = work.options.settings["country"]
    by_networks = _by_networks("$remote_addr", "cdnblock_sni_place", work)
    yield from by_networks if country == "geo" else _by_country(country, "cdnblock_sni_place", work.plan)
    yield from _decision("sni_")
    yield f'map $cdnblock_sni_key $cdnblock_sni_outcome {{ default ""; include {quoted(path("cdnblock-actions.map"))}; }}'
    refused = quoted(f"unix:{path('refused')}")
    yield (
        "map $cdnblock_sni_action $cdnblock_sni_backend"
        f" {{ default {quoted(work.options.settings['sni'])}; close {refused}; terminate {refused}; }}"
    )


EXPORTER: Final = Exporter(
    name="nginx",
    title="nginx ≥ 1.22",
    carries={**every(Measure.CDN), **every(Measure.PROXY)},
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
    settings={
        "headers-more": Setting("yes", "whether nginx has that module; without it you write a location", ("yes", "no")),
        "country": Setting(
            "geo",
            "`geo`: by a list of networks; or the variable in which geoip2 gives the country",
            pattern=r"\$[A-Za-z0-9_]+",
            right="$geoip2_country",
        ),
        "hash": Setting("yes", "whether to set the sizes of nginx's hashes, which it allows once", ("yes", "no")),
        "sni": Setting(
            "",
            "address that stream passes TLS on to; then also cdnblock-stream.conf",
            pattern=r"[A-Za-z0-9._/:\[\]-]+",
            right="127.0.0.1:8443",
        ),
    },
)
