"""What a name server is to answer in an outcome's place: the library's own refusal, taken apart. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from cdnblock.exporters._plan import Outcome
from cdnblock.matching.decision import Decision
from cdnblock.measures.dns_refusal import refusal

_HEAD: Final = 6  # octets of an EDNS option before EXTRA-TEXT: code, length, INFO-CODE


class Answer(NamedTuple):
    """An answer without data. `soa` asks for the record that lets a negative be cached; `text` is EXTRA-TEXT."""

    rcode: int
    soa: bool
    text: str


def answer_of(outcome: Outcome, contact: str | None) -> Answer:
    """Return what `measures.dns_refusal` answers in this outcome to a query without a client subnet."""
    decision = Decision(measures=outcome.measures, reasons=outcome.reasons)
    refused = refusal(decision, has_opt=True, client_subnet_present=False, contact=contact)
    return Answer(refused.rcode, refused.soa, (refused.ede or b"")[_HEAD:].decode())
