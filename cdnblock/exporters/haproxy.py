"""HAProxy 2.6 and later, built with Lua as nearly all are.

The frontend takes its rules from a `defaults` section, so that nothing has to be pasted:

    frontend edge from cdnblock
      bind :80
      http-request cache-use  mine if !{ var(txn.cdnblock_action) -m str uncached }
      http-response cache-store mine if !{ var(txn.cdnblock_action) -m str uncached }

What is asked of every request is native and little: whether its host is a plain one, and whether a name ends in its last
two labels, a gate. Both are asked such that HAProxy does not look into its cache of patterns: for a text that is in no
map it does (2.6), in a tree of thousands of entries that are cold by then, and that costs more than all the rest. So the
map of gates knows the beginning of every host, too. All else is a Lua program's, which answers a condition of the
same rule: it walks the host's suffixes, and what cannot be decided because of a fault is a 503. Never `map_dom` or
`map_end`, which are linear. All that changes from day to day is in the five maps, which the runtime API can change
without a reload; a group's and an outcome's id stay when others come and go. The 451 is written from the map of notices,
since HAProxy itself can neither choose between six texts by key nor put a line break into one.

The program is loaded once for all threads (`lua-load`), which take turns in it: a stream of HAProxy before 3.0 cannot run
programs that are loaded once for each thread and others, such as an operator's own, after each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cdnblock.exporters._exporter import PROXY_SERVER, Exporter, File, Missing, Options, Setting, Work, every
from cdnblock.exporters._lua import in_lua, program_text
from cdnblock.exporters._notice import LANGUAGES, TYPES, Page, headers, pages
from cdnblock.exporters._plan import OTHER, Group, Outcome, Plan, labels
from cdnblock.exporters._planner import notice_told
from cdnblock.exporters._roll import top_of
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.notice.wording import default_language
from cdnblock.measures.proxy_termination import MEANT_BY, UNAVAILABLE
from cdnblock.orders.model import Measure

GATES: Final = "cdnblock-gates.map"
HOSTS: Final = "cdnblock-hosts.map"
TERRITORY: Final = "cdnblock-territory.map"
ACTIONS: Final = "cdnblock-actions.map"
NOTICES: Final = "cdnblock-notices.map"
FREE: Final = "free"
"""What a name maps to that is let go below one that is not."""
GATE: Final = 2
"""Labels of a host that are looked up first: where no name ends in them, as for nearly all hosts, nothing else is."""
A_GATE: Final = "gate"
NO_GATE: Final = "-"
"""What the two kinds of a host's last labels map to: texts of different length, which is what is asked for."""
MOST_OF_A_LINE: Final = 15_000  # octets: HAProxy reads maps and runtime commands by lines of tune.bufsize, 16 384

# What a Host field may hold (RFC 9110 §7.2, without what no client sends): another is 400, as RFC 9112 §3.2 wants it.
# No label is empty, but for the root's.
_HOST: Final = r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?)(:[0-9]*)?$"
# What nearly all send, which is canonical as it stands. No dot is written as `\.`: `regsub` reads one backslash more.
_CANONICAL: Final = "^[0-9a-z_-]+([.][0-9a-z_-]+)*$"
_LETTERS: Final = "-0123456789_abcdefghijklmnopqrstuvwxyz"  # that it may begin with
_END: Final = "/"  # of a gate: it is looked for among the beginnings of longer ones
# When a request is served: the commonest first, since the next are not asked then. The last but one never holds.
_SERVED: Final = (
    "canonical ungated !METH_CONNECT",
    "plain plain_ungated !METH_CONNECT",
    "gate_free !gated_deeper !METH_CONNECT",
    "!has_host http_1.0 has_path !METH_CONNECT",  # which needs no Host; where its target names one, the program looks
    "{told}place FALSE",
    "decided",
)
# WebSockets, and no other upgrade: what follows one to h2c would be requests that these rules never see.
_WEBSOCKET: Final = "METH_GET { req.fhdr(upgrade) -m str -i websocket } { req.fhdr_cnt(upgrade) eq 1 }"
_NO_UPGRADE: Final = "!{ req.fhdr(upgrade) -m found }"
_UPGRADING: Final = "^(connection|upgrade|http2-settings)$"
_IN_MAP: Final = {number: f"%{number:02X}" for number in (*range(ord(" ")), *b"%|")}


def _render(work: Work) -> tuple[File, ...]:
    top = work.top("#")
    return (
        File("cdnblock.cfg", "\n".join(_configuration(work)) + "\n"),
        File(GATES, top + "".join(_gates(work.plan))),
        File(HOSTS, top + "".join(_hosts(work.plan))),
        File(TERRITORY, top + "".join(f"{cidr} {place}\n" for cidr, place in work.networks)),
        File(ACTIONS, top + "".join(_actions(work.plan))),
        File(NOTICES, top + "".join(_notices(work.plan, work.options))),
        File("cdnblock.lua", _program(work.options)),
    )


def quoted(text: str) -> str:
    """Return text as one argument of HAProxy's configuration, quoted for its parser (section 2.2)."""
    return "'" + text.replace("'", "'\\''") + "'"


def in_map(text: str) -> str:
    """Return text as a map's value, as `cdnblock.lua` reads it: on one line, what is special percent-encoded."""
    return text.translate(_IN_MAP)


def _gates(plan: Plan) -> Iterator[str]:
    """Yield the last labels of all names, with an end that no host has, and what else any host begins with."""
    yield from (f"{letter} {NO_GATE}\n" for letter in _LETTERS)
    gates = {*plan.gates(GATE), *(name for name in plan.suffixes if labels(name) <= GATE)}
    yield from (f"{gate}{_END} {A_GATE}\n" for gate in sorted(gates))


def _hosts(plan: Plan) -> Iterator[str]:
    """Yield what hosts map to, and for each name of more labels than a gate that its last ones are worth a closer look.

    Where these are free there is a second gate, of a label more: a platform that has a few names has many customers.
    """
    yield from plan.lines(lambda group, _: ("=", f" {_value(group)}\n"), exact=True)
    yield from plan.lines(lambda group, _: ("", f" {_value(group)}\n"))
    yield f" {FREE}\n".join((*plan.gates(GATE), ""))
    for gate in plan.gates(GATE + 1):
        if labels(gate) > GATE and not plan.suffixes.get(top_of(gate, GATE)):
            yield f"{gate} {FREE}\n"


def _value(group: Group | None) -> str:
    return group.id if group else FREE


def _configuration(work: Work) -> Iterator[str]:
    """Yield what changes only when HAProxy has to be reloaded; orders that come and go change the maps."""
    yield "# Written by `cdnblock export haproxy`: do not edit. For which orders, the maps tell."
    settings = work.options.settings
    yield "global"
    yield f"  lua-load {quoted(work.options.path('cdnblock.lua'))}"
    base = f" from {settings['defaults']}" if settings["defaults"] else ""
    yield f"\ndefaults cdnblock{base}"
    yield "  mode http"
    yield from (f"  acl {name} {asked}" for name, asked in _questions(work))
    served = " or ".join(_SERVED).format(told="!trusted " if work.options.trusted_proxies else "")
    yield f"  http-request use-service lua.cdnblock-answer unless {served}"
    yield f"  http-request del-header {quoted(_UPGRADING)} -m reg unless {_NO_UPGRADE} or {_WEBSOCKET}"
    yield "  # What takes a response's freshness away answers the condition: where it cannot, nobody gets the response."
    uncached = "{ var(txn.cdnblock_action) -m str uncached close } !{ lua.cdnblock-uncached -m str done }"
    yield f"  http-response deny deny_status 502 errorfile /dev/null if {uncached}"
    if settings["sni"]:
        yield from _by_server_name(work, base)
    yield f"\n# What follows without a `from` inherits none of this.\ndefaults cdnblock-others{base}"


def _by_server_name(work: Work, base: str) -> Iterator[str]:
    """Yield what refuses TLS by its server name, where it is passed on unopened; the maps are the same."""
    hello = "if { req.ssl_hello_type 1 }"
    gated = f"if {{ req.ssl_sni -m found }} !{{ var(sess.cdnblock_gate) -m len {len(NO_GATE)} }}"
    gate = _gate(work, otherwise=NO_GATE)
    bind, _, backend = work.options.settings["sni"].partition(" ")
    yield "\n# A whole frontend: for rules that stand in defaults HAProxy 2.6 does not wait until a server name is there."
    yield f"frontend cdnblock-tls{base}"
    yield "  mode tcp"
    yield f"  bind {bind}"
    yield "  tcp-request inspect-delay 5s"
    yield f"  tcp-request content set-var(sess.cdnblock_host) req.ssl_sni,lower,rtrim(.) {hello}"
    yield f"  tcp-request content set-var(sess.cdnblock_gate) var(sess.cdnblock_host),{gate} {hello}"
    yield f"  tcp-request content lua.cdnblock-hello {gated}"
    yield f"  tcp-request content reject {gated} !{{ var(sess.cdnblock_action) -m str serve uncached }}"
    yield f"  tcp-request content accept {hello}"
    yield f"  default_backend {backend}"


def _questions(work: Work) -> Iterator[tuple[str, str]]:
    """Yield what `_SERVED` asks; `plain_ungated` and `place` leave what they find to the program, which is slower at it."""
    host = "var(txn.cdnblock_host)"
    canonical = f'req.fhdr(host),regsub("{_CANONICAL}",!)'
    yield "canonical", f"{quoted(canonical)} -m str !"
    gate = f"field(-1,.,{GATE}),concat({_END}),map_beg({work.options.path(GATES)})"
    # Not what is missing, but what is found serves: where a map is empty, or there is no room for a variable, nothing is.
    yield "ungated", f"req.fhdr(host),{gate} -m len {len(NO_GATE)}"
    yield "plain", f"req.fhdr(host) -m reg {quoted(_HOST)}"
    ungated = f"{_gate(work, otherwise=NO_GATE)} -m len {len(NO_GATE)}"
    yield "plain_ungated", f"req.fhdr(host),host_only,lower,rtrim(.),set-var(txn.cdnblock_host),{ungated}"
    yield "gate_free", f"{host},{_gate(work)} -m str {FREE}"
    yield "gated_deeper", f"{host},{_gate(work, GATE + 1)} -m found"
    yield "has_host", "req.fhdr(host) -m found"
    yield "has_path", "url -m reg '^(/|\\*$)'"
    yield "http_1.0", "req.ver 1.0"
    yield "place", f"src,map_ip({work.options.path(TERRITORY)},{OTHER}),set-var(txn.cdnblock_place) -m found"
    yield from (("trusted", f"src -m ip {network}") for network in work.options.trusted_proxies)
    yield "decided", "lua.cdnblock-decided -m str serve"


def _gate(work: Work, count: int = GATE, *, otherwise: str = "") -> str:
    default = f",{otherwise}" if otherwise else ""
    return f"field(-1,.,{count}),map_str({work.options.path(HOSTS)}{default})"


def _actions(plan: Plan) -> Iterator[str]:
    for group in plan.groups:
        for place, outcome in group.outcomes.items():
            yield f"{place}:{group.id} {_action(outcome, place)}\n"


def _action(outcome: Outcome, place: str) -> str:
    """Return `close`, `uncached`, or `terminate:` with the key of the notice and the language of who asks for none."""
    return outcome.action(f"terminate:{outcome.id}:{default_language(place)}")


def _notices(plan: Plan, options: Options) -> Iterator[str]:
    """Yield what the Lua service needs: words common to all notices, and a text for each key."""
    told = [outcome for outcome in plan.outcomes if outcome.measures.get(Measure.PROXY) == "terminate"]
    if not told:
        return
    yield f"reason {in_map(UNAVAILABLE[1])}\n"
    lines = (f"{in_map(name)}: {in_map(value)}" for name, value in headers(told[0], options))
    yield f"headers {'|'.join(lines)}\n"
    yield f"languages {'|'.join(LANGUAGES)}\n"
    yield f"types {'|'.join(TYPES)}\n"
    for asked, meant in MEANT_BY.items():
        yield f"meant:{asked} {meant}\n"
    for page in pages(told[0], options):
        yield f"content-type:{page.media_type} {page.content_type}\n" if page.language == LANGUAGES[0] else ""
    for outcome in told:
        for page in pages(outcome, options):
            yield f"{page.outcome}:{page.language}:{page.media_type} {_text(page)}\n"


def _text(page: Page) -> str:
    return "".join(f"|{part}|" if isinstance(part, int) else in_map(part) for part in page.parts)


def _objections(plan: Plan, options: Options) -> Iterator[Missing]:
    """Yield each notice that is too long for a line of a map."""
    for outcome in plan.outcomes:
        if outcome.measures.get(Measure.PROXY) != "terminate":
            continue
        longest = max(len(_text(page).encode()) for page in pages(outcome, options))
        if longest > MOST_OF_A_LINE:
            ids = ", ".join(reason.id for reason in outcome.because(Measure.PROXY))
            yield Missing(ids, f"their notice has {longest} octets, a line of a map at most {MOST_OF_A_LINE}")


def _program(options: Options) -> str:
    known = {
        "HOSTS": in_lua(options.path(HOSTS)),
        "TERRITORY": in_lua(options.path(TERRITORY)),
        "ACTIONS": in_lua(options.path(ACTIONS)),
        "NOTICES": in_lua(options.path(NOTICES)),
        "TRUSTED": ", ".join(map(in_lua, options.trusted_proxies)),
        "REMOVED": ", ".join(map(in_lua, REMOVED_FROM_RESPONSES)),
        "NO_STORE": ", ".join(f"{{{in_lua(name)}, {in_lua(value)}}}" for name, value in NO_STORE),
        "FREE": in_lua(FREE),
        "OTHER": in_lua(OTHER),
    }
    marks = re.compile(f'"@({"|".join(known)})@"')
    return marks.sub(lambda mark: known[mark[1]], program_text("_haproxy.lua"))


EXPORTER: Final = Exporter(
    name="haproxy",
    title="HAProxy ≥ 2.6",
    carries={**every(Measure.CDN), **every(Measure.PROXY)},
    elsewhere=PROXY_SERVER,
    tells=notice_told,
    render=_render,
    objections=_objections,
    settings={
        "defaults": Setting(
            "", "name of your defaults section that ours builds on", pattern=r"[A-Za-z0-9._:-]+", right="base"
        ),
        "sni": Setting(
            "",
            "also a frontend for TLS that is passed on unopened: where it listens and its backend, `:443 tls`",
            pattern=r"[A-Za-z0-9._/@:*,\[\]-]+ [A-Za-z0-9._:-]+",
            right=":443 tls",
        ),
    },
)
