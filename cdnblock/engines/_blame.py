"""Whose doing it is that an answer is not as decided: the engine's, or that of a site behind it, which must have no say.

A site answers whatever its edge lets through to it, and may be as hostile as it likes: with a 451 of its own, silence,
`no-store`, a copy of our very notice. What is held against the engine is therefore only what no site can bring about:

- a covered client gets something else than the refusal: somebody let it through, and only the engine could;
- a client that has to be let through gets what looks like ours, and gets it as well for a request that the engine never
  passes on (`Own`): CONNECT to HAProxy and Varnish, a body that is too long for nginx. No site sees those.

What no engine of ours says is the site's own: a 451 without our headers, silence, errors, a name server's failure. What
looks like ours where there is no such request, or measure `cdn`, is in doubt. Doubt is held against an engine only for
clients who fare otherwise than before, and only where no name that changed speaks for it (`Prober.require`); otherwise it
is said. A refusal in other words is no reason to let anybody through: it is said as well, and nothing goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from cdnblock.exporters._nginx_requests import NOBODYS_LENGTH
from cdnblock.measures.cache_disable import NO_STORE, REMOVED_FROM_RESPONSES
from cdnblock.measures.dns_refusal import CENSORED, RCODES
from cdnblock.measures.proxy_termination import UNAVAILABLE
from cdnblock.orders.model import Measure
from cdnblock.verification.answers import DnsAnswer, HttpAnswer
from cdnblock.verification.asking import ask
from cdnblock.verification.expecting import Promises
from cdnblock.verification.findings import Finding
from cdnblock.verification.http_judging import is_notice, says_no_store
from cdnblock.verification.probes import Form, Way
from cdnblock.verification.servers import Server

_REPLACED: Final = REMOVED_FROM_RESPONSES.keys() - {name.lower() for name, _ in NO_STORE}

Actions = Callable[[str], Collection[str]]
"""Given a name, what an engine did or does about it anywhere: `close`, `uncached` and the like."""


class Blame(Enum):
    """Whose doing a finding is."""

    ENGINE = "the engine's"
    DOUBT = "the engine's, or a site's that imitates it"
    WORDS = "the engine's, which refuses in other words"
    SITE = "the site's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A request that an engine answers itself: as measure `proxy` says, or with the status `free`. No site sees it."""

    form: Form
    free: int


CONNECT: Final = Own(form=Form(label="CONNECT", method="CONNECT", port=True), free=405)
TOO_LONG: Final = Own(form=Form(label="with too long a body", method="POST", length=NOBODYS_LENGTH), free=413)


def blamed(
    findings: Iterable[Finding], server: Server, own: Own | None, promises: Promises, actions: Actions, patience: float
) -> list[tuple[Finding, Blame]]:
    """Return each finding with whose doing it is; what is in doubt is asked for in the engine's own form, if it has one."""
    found = [(finding, blame_of(finding, promises, actions(finding.probe.name))) for finding in findings]
    doubtful = [finding for finding, blame in found if blame is Blame.DOUBT]
    if own is None or not doubtful:
        return found
    told = asyncio.run(_told_apart(doubtful, server, own, patience))
    return [(finding, told.get(id(finding), blame)) for finding, blame in found]


def blame_of(finding: Finding, promises: Promises, actions: Collection[str]) -> Blame:
    """Return whose doing a finding is, as far as the answer alone tells."""
    if isinstance(finding.answer, DnsAnswer) or Measure.DNS in finding.decision.measures:
        return _of_resolver(finding, promises)
    match finding.decision.measures.get(Measure.PROXY):
        case None:
            return _of_passed_on(finding, actions)
        case "terminate" if isinstance(finding.answer, HttpAnswer) and is_notice(finding.answer):
            return Blame.WORDS
        case _:
            return Blame.ENGINE


def _of_passed_on(finding: Finding, actions: Collection[str]) -> Blame:
    answer = finding.answer
    if not isinstance(answer, HttpAnswer):
        return Blame.SITE
    if not answer.status:
        return Blame.DOUBT if "close" in actions else Blame.SITE
    if answer.status == UNAVAILABLE[0]:
        return Blame.DOUBT if is_notice(answer) else Blame.SITE
    if Measure.CDN not in finding.decision.measures:
        return Blame.DOUBT if says_no_store(answer) and "uncached" in actions else Blame.SITE
    replaced = says_no_store(answer) and not any(answer.of(name) for name in _REPLACED)
    return Blame.DOUBT if replaced else Blame.ENGINE


def _of_resolver(finding: Finding, promises: Promises) -> Blame:
    variant = finding.decision.measures.get(Measure.DNS)
    said = finding.answer.reading if isinstance(finding.answer, DnsAnswer) else None
    if variant is None:
        censors = said is not None and (CENSORED in said.codes or not promises.ede)
        return Blame.DOUBT if censors else Blame.SITE
    wanted = ("refuse",) if finding.probe.client.subnet else promises.variants[variant]
    refuses = said is not None and not said.answers and said.rcode in {RCODES[one] for one in wanted}
    return Blame.WORDS if refuses else Blame.ENGINE


async def _told_apart(findings: Iterable[Finding], server: Server, own: Own, patience: float) -> dict[int, Blame]:
    async def one(finding: Finding) -> tuple[int, Blame]:
        probe = replace(finding.probe, way=Way.HTTP1, form=own.form, again=False)
        answer = await ask(server, probe, patience)
        if not isinstance(answer, HttpAnswer):
            return id(finding), Blame.DOUBT
        if answer.status in (0, UNAVAILABLE[0]):
            return id(finding), Blame.ENGINE
        is_of_proxy = isinstance(finding.answer, HttpAnswer) and finding.answer.status in (0, UNAVAILABLE[0])
        return id(finding), Blame.SITE if answer.status == own.free and is_of_proxy else Blame.DOUBT

    return dict(await asyncio.gather(*map(one, findings)))
