"""What a name server's answer does not keep of a decision, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdnblock.matching.decision import Decision
from cdnblock.measures.dns_refusal import CENSORED, RCODES
from cdnblock.orders.model import Measure
from cdnblock.verification.answers import Answer, DnsAnswer
from cdnblock.verification.dns_packets import RCODES as RCODE_NAMES
from cdnblock.verification.dns_packets import Reading
from cdnblock.verification.expecting import Difference, Judgement, Known, Promises, Unjudged
from cdnblock.verification.probes import Probe

BLOCKING: Final = range(15, 19)
"""INFO-CODEs that say that somebody keeps an answer back: Blocked, Censored, Filtered, Prohibited (RFC 8914 §4)."""

_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP, _REFUSED = range(6)
_TURNED_DOWN: Final = (_FORMERR, _SERVFAIL, _NOTIMP, _REFUSED)
_VARIANTS_IN_WORDS: Final = {
    "refuse": RCODE_NAMES[_REFUSED],
    "nxdomain": RCODE_NAMES[_NXDOMAIN],
    "nodata": f"{RCODE_NAMES[_NOERROR]} without a record",
}


def judge_dns(probe: Probe, decision: Decision, answer: Answer, promises: Promises, known: Known) -> Judgement:
    """Return None where a name server's answer is what the decision promises."""
    variant = decision.measures.get(Measure.DNS) if promises.dns else None
    if variant is None:
        return None if probe.form.may_be_turned_down else _judge_resolved(probe, answer, known)
    # RFC 7871 §7.4: with a client subnet any other would be kept for everybody.
    wanted = promises.variants[variant] if probe.client.subnet is None else ("refuse",)
    says_why = promises.ede and probe.question().has_opt
    expected = " or ".join(_VARIANTS_IN_WORDS[one] for one in wanted) + (f" with EDE {CENSORED}" if says_why else "")
    if not isinstance(answer, DnsAnswer):
        return Difference(expected, str(answer))
    rcodes = {RCODES[one] for one in wanted} | {*(_TURNED_DOWN if probe.form.may_be_turned_down else ())}
    if answer.reading.answers or answer.reading.rcode not in rcodes:
        return Difference(expected, str(answer))
    if probe.form.may_be_turned_down:
        return None
    wrong = tuple(_not_as_promised(probe, answer, promises))
    return Difference(expected, "; ".join(wrong)) if wrong else None


def _not_as_promised(probe: Probe, answer: DnsAnswer, promises: Promises) -> Iterator[str]:
    said, has_opt = answer.reading, probe.question().has_opt
    if promises.ede and has_opt and CENSORED not in said.codes:
        yield str(answer) + ("" if said.codes else " without EDE")
    if said.has_opt and not has_opt:
        yield "an OPT record that was not asked for"
    if said.rcode != _REFUSED and promises.negative_ttl is not None:
        if said.negative_ttl is None:
            yield f"{answer} without an SOA"
        elif said.negative_ttl > promises.negative_ttl:
            yield f"{answer} to be kept for {said.negative_ttl} s, more than {promises.negative_ttl}"
    if said.authenticated:
        yield "AD, as if it were signed"
    if said.truncated:
        yield "TC"


def _judge_resolved(probe: Probe, answer: Answer, known: Known) -> Judgement:
    expected = "answered"
    if not isinstance(answer, DnsAnswer):
        return Difference(expected, str(answer))
    said = answer.reading
    blocking = [code for code in said.codes if code in BLOCKING]
    if blocking or said.rcode == _REFUSED:
        return Difference(expected, str(answer))
    if isinstance(known.reference, DnsAnswer):
        return _beside(answer, known.reference)
    if _is_made_up(probe.name, said):
        owner = f"an SOA of {said.soa_owner or 'the root'}, to which it does not belong"
        return Difference(expected, f"{answer} with {owner}")
    if said.rcode not in (_NOERROR, _NXDOMAIN):
        return Unjudged(f"{answer}, which may be the name's own servers'")
    return None


def _beside(answer: DnsAnswer, reference: DnsAnswer) -> Judgement:
    mine, theirs = answer.reading, reference.reading
    if mine.rcode == theirs.rcode and bool(mine.answers) == bool(theirs.answers):
        return None
    if theirs.rcode not in (_NOERROR, _NXDOMAIN):
        return Unjudged(f"the reference says {reference}")
    return Difference(f"{reference}, as the reference says", str(answer))


def _is_made_up(name: str, said: Reading) -> bool:
    """Tell whether a negative answer's SOA is of no zone that the name can be in (RFC 2308 §3), or of its very own.

    A name that does not exist is no zone's own: whoever says so for himself makes it up, as refusals do.
    """
    if said.answers or said.soa_owner is None or said.rcode not in (_NOERROR, _NXDOMAIN):
        return False
    if said.soa_owner == "":
        return False
    if name == said.soa_owner:
        return said.rcode == _NXDOMAIN
    return not name.endswith(f".{said.soa_owner}")
