"""A DNS client that comes from any address of loopback, and says exactly what it is told to say. Needs dnspython."""

from __future__ import annotations

from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset

PATIENCE = 10.0
"""Seconds until an answer that has not come is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    r"""One query. `name` is presentation text (`\.` and `\DDD` inside labels), in the case in which it is to be sent."""

    name: str
    kind: str = "A"
    source: str = "127.0.0.1"
    tcp: bool = False
    edns: bool = True
    dnssec_ok: bool = False
    recursion: bool = True
    checking_disabled: bool = False

    def message(self) -> dns.message.QueryMessage:
        """Return it as it goes over the wire."""
        query = dns.message.make_query(
            self.name, self.kind, use_edns=0 if self.edns else -1, want_dnssec=self.dnssec_ok and self.edns
        )
        if not self.recursion:
            query.flags &= ~dns.flags.RD
        if self.checking_disabled:
            query.flags |= dns.flags.CD
        return query

    def __str__(self) -> str:
        """Return it in a few words."""
        marks = (
            (self.tcp, "tcp"),
            (not self.edns, "without EDNS"),
            (self.dnssec_ok, "DO"),
            (not self.recursion, "without RD"),
            (self.checking_disabled, "CD"),
        )
        return " ".join([self.name, self.kind, "from", self.source, *(word for said, word in marks if said)])


def ask(address: tuple[str, int], query: Query, patience: float = PATIENCE) -> dns.message.Message:
    """Return the answer.

    Raises OSError when none comes, and AssertionError when it is none to this query, or no DNS message.
    """
    message = query.message()
    way = dns.query.tcp if query.tcp else dns.query.udp
    try:
        answer = way(message, address[0], patience, address[1], source=query.source)
    except dns.exception.Timeout as error:
        raise TimeoutError(f"no answer to {query}") from error
    except dns.exception.DNSException as error:
        raise AssertionError(f"{type(error).__name__} of the answer to {query}: {error}") from error
    spelled, echoed = ([question.name.labels for question in each.question] for each in (message, answer))
    if echoed != spelled:
        raise AssertionError(f"the question comes back in another spelling: {answer.question}, not {message.question}")
    return answer


def errors_of(answer: dns.message.Message) -> list[tuple[int, str]]:
    """Return code and text of every extended error in an answer (RFC 8914)."""
    return [
        (int(option.code), option.text or "") for option in answer.options if isinstance(option, dns.edns.EDEOption)
    ]


def records_of(section: list[dns.rrset.RRset]) -> list[str]:
    """Return the records of a section as text, in an order that does not depend on the server, without TTLs."""
    return sorted(
        f"{rrset.name.to_text().lower()} {dns.rdatatype.to_text(rrset.rdtype)} {item.to_text().lower()}"
        for rrset in section
        for item in rrset
    )
