"""One question to a server: about which name, as which client, by which way, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cdnblock.verification.clients import Client
from cdnblock.verification.connections import Request
from cdnblock.verification.dns_packets import QTYPES, Question


class Way(StrEnum):
    """By which protocol a probe goes."""

    HTTP1 = "http/1.1"
    HTTP2 = "http/2"
    UDP = "udp"
    TCP = "tcp"


class Kind(StrEnum):
    """What a name is to the orders."""

    NAMED = "in force"
    PAST = "listed, not in force"
    BELOW = "below a listed name"
    PARENT = "above a listed name"
    NEIGHBOUR = "beside a listed name"
    LOOK_ALIKE = "looks like a listed name"
    POPULAR = "popular"
    STRANGER = "named by nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """In which form a name is asked for; what is of HTTP means nothing to DNS, and the reverse.

    `may_be_turned_down` is for what a sound server may also refuse by itself: then it is enough if a covered client
    does not get the name's content, and nothing is said of others that do not.
    """

    label: str = "as it is"
    upper: bool = False
    dot: bool = False
    port: bool = False
    absolute: bool = False
    coalesced: bool = False
    method: str = "GET"
    length: int | None = None
    qtype: str = "A"
    has_opt: bool = True
    dnssec_ok: bool = False
    recursion: bool = True
    may_be_turned_down: bool = False


PLAIN: Final = Form()
FORMS: Final = {
    # for every name
    Way.HTTP1: (PLAIN,),
    Way.HTTP2: (PLAIN,),
    Way.UDP: (Form(label="A"), Form(label="HTTPS", qtype="HTTPS")),
    Way.TCP: (Form(label="A"), Form(label="HTTPS", qtype="HTTPS")),
}
MORE_FORMS: Final = {
    # for some names of each order
    Way.HTTP1: (
        Form(label="in capitals", upper=True),
        Form(label="with a dot at its end", dot=True),
        Form(label="with a port", port=True),
        Form(label="HEAD", method="HEAD"),
        Form(label="in absolute form, Host another", absolute=True, may_be_turned_down=True),
    ),
    Way.HTTP2: (
        Form(label="in capitals", upper=True, may_be_turned_down=True),  # RFC 9113 has names in any case; few send it
        Form(label="with a dot at its end", dot=True),
        Form(label="with a port", port=True),
        Form(label="HEAD", method="HEAD"),
        Form(label="on a connection for another name", coalesced=True, may_be_turned_down=True),
    ),
    Way.UDP: (
        Form(label="A in capitals", upper=True),
        Form(label="A without EDNS", has_opt=False),
        Form(label="A with DO", dnssec_ok=True),
        Form(label="A without RD", recursion=False, may_be_turned_down=True),
        Form(label="AAAA", qtype="AAAA"),
        Form(label="SVCB", qtype="SVCB"),
        Form(label="MX", qtype="MX"),
        Form(label="TXT", qtype="TXT"),
        Form(label="NS", qtype="NS"),
    ),
    Way.TCP: (
        Form(label="A in capitals", upper=True),
        Form(label="A with DO", dnssec_ok=True),
        Form(label="AAAA", qtype="AAAA"),
        Form(label="ANY", qtype="ANY", may_be_turned_down=True),  # RFC 8482: it may get little or nothing
    ),
}
_ELSEWHERE: Final = "cdnblock-verify.invalid"  # a name that nobody has (RFC 6761 §6.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question; `again` once the same client has asked before and others have in between."""

    name: str
    kind: Kind
    client: Client
    way: Way
    form: Form = PLAIN
    again: bool = False

    def request(self, port: int) -> Request:
        """Return it as a request to an edge on a port."""
        host = self._spelled() + (f":{port}" if self.form.port else "")
        return Request(
            host=_ELSEWHERE if self.form.absolute else host,
            server_name=_ELSEWHERE if self.form.coalesced else self.name,
            method=self.form.method,
            absolute=host if self.form.absolute else None,
            length=self.form.length,
        )

    def question(self) -> Question:
        """Return it as a query."""
        return Question(
            name=self._spelled(),
            qtype=QTYPES[self.form.qtype],
            has_opt=self.form.has_opt or self.client.subnet is not None,
            dnssec_ok=self.form.dnssec_ok,
            recursion=self.form.recursion,
            subnet=self.client.subnet,
        )

    def __str__(self) -> str:
        """Return name, way, form and client in a line."""
        form = "" if self.form is PLAIN else f" {self.form.label}"
        return f"{self.name} ({self.kind}), {self.way}{form}{', again' if self.again else ''}, as {self.client}"

    def _spelled(self) -> str:
        name = self.name.upper() if self.form.upper else self.name
        return f"{name}." if self.form.dot else name
