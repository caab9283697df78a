"""What the notice tells: RFC 7725 §3 asks for who demanded it, under which law, and whom and what it concerns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import ada_url

from cdnblock.errors import ConfigError
from cdnblock.matching.decision import Reason
from cdnblock.matching.names import to_unicode
from cdnblock.measures.notice.countries import COUNTRY_NAMES
from cdnblock.measures.notice.wording import Wording
from cdnblock.measures.printable import printable
from cdnblock.orders.model import Addition, Moment, Order, Territory, UnknownLocation
from cdnblock.shown import shown

_LONGEST_LINK: Final = 2_000
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=\S)")
_REACHED_BY: Final = frozenset({"http", "https", "mailto", "tel", "sip", "sips", "xmpp"})
_MAIL: Final = re.compile(r"[^\s@<>\"(),:;]+@[^\s@<>\"(),:;]+\.[^\s@<>\"(),:;]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fact about an order: its label, its value, and where the value leads (an https, http or mailto URI)."""

    label: str
    value: str
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One order: its heading, its facts for people, and the same as the members of a JSON object."""

    heading: str
    rows: tuple[Row, ...]
    members: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The whole notice in one language, before it takes a form. All text is printable, none is escaped.

    The lead is a sentence: `lead[0]`, the names, `lead[1]`. `operator` is the page of who implements the block.
    """

    wording: Wording
    lead: tuple[str, str]
    names: tuple[str, ...]
    sections: tuple[Section, ...]
    operator: str | None
    contact: str | None

    def sentence(self) -> str:
        """Return the lead as one text."""
        return self.lead[0] + self.wording.listed(self.names) + self.lead[1]


def contents(
    reasons: Sequence[Reason], wording: Wording, *, operator_url: str | None = None, contact: str | None = None
) -> Contents:
    """Return what a notice about these reasons says; `contact` stands in for orders that name none."""
    before, _, after = (wording.lead_one if len(reasons) == 1 else wording.lead_many).partition("{names}")
    return Contents(
        wording=wording,
        lead=(before, after),
        names=tuple(dict.fromkeys(_name(reason) for reason in reasons)),
        sections=tuple(_section(reason, wording, contact) for reason in reasons),
        operator=web_link(operator_url),
        contact=printable(contact) if contact else None,
    )


@lru_cache(maxsize=256)
def web_link(url: str | None) -> str | None:
    """Return an http or https URL in its canonical ASCII form, safe inside `<…>` and quotes, or None if it is none.

    URLs with a user name are none: they are made to look like somebody else's.
    """
    try:
        parsed = ada_url.URL(url or "")
    except ValueError:
        return None
    plain = parsed.protocol in {"http:", "https:"} and not (parsed.username or parsed.password)
    return parsed.href if plain and parsed.href.isascii() and len(parsed.href) <= _LONGEST_LINK else None


def check_operator(operator_url: str | None, contact: str | None) -> None:
    """Look at what an operator says of himself, for notices and refusals, before anybody is shown it.

    Raises:
        ConfigError: the page is no http(s) address, or the contact is empty, hides something or is an address that runs.

    """
    if operator_url is not None and web_link(operator_url) is None:
        raise ConfigError(
            f"operator URL '{shown(operator_url)}': is no web address that a notice could lead to; write one that begins"
            " with https:// or http://, without a user name"
        )
    if contact is None:
        return
    if not contact.strip() or shown(contact) != contact:
        raise ConfigError(
            f"contact '{shown(contact)}': is empty, or has line ends or characters that cannot be seen; write one line of"
            " text"
        )
    scheme = _SCHEME.match(contact)
    if scheme is not None and scheme[1].lower() not in _REACHED_BY:
        raise ConfigError(
            f"contact '{shown(contact)}': {scheme[1]}: is no way to reach somebody; write a mail address, a page that"
            " begins with https://, or a telephone number"
        )


def contact_link(contact: str) -> str | None:
    """Return where a contact leads: a web page, a mail address as `mailto:`, or None for anything else."""
    if _MAIL.match(contact):
        return "mailto:" + quote(contact, safe="@")
    return web_link(contact)


def _section(reason: Reason, wording: Wording, contact: str | None) -> Section:
    members = _members(reason, contact)
    rows = (row for row in _rows(reason, wording, contact) if row.value)
    order = reason.order
    return Section(heading=printable(order.title or order.court), rows=tuple(rows), members=members)


def _rows(reason: Reason, wording: Wording, contact: str | None) -> Iterator[Row]:
    order = reason.order
    whom = printable(order.contact or contact or "")
    publication = web_link(order.publication)
    decision = (printable(order.court), wording.dated(order.decided), printable(order.case or ""))
    yield Row(label=wording.decision, value=", ".join(part for part in decision if part))
    yield Row(label=wording.claimant, value=printable(order.claimant))
    yield Row(label=wording.legal_basis, value=printable(order.legal_basis))
    yield Row(label=wording.name, value=_name_and_addition(reason, wording))
    yield Row(label=wording.users, value=_users(order, wording))
    yield Row(label=wording.until, value=_until(reason, wording))
    yield Row(label=wording.contact, value=whom, link=contact_link(whom))
    yield Row(label=wording.publication, value=publication or "", link=publication)
    yield Row(label=wording.reference, value=printable(order.id))


def _members(reason: Reason, contact: str | None) -> dict[str, object]:
    order, addition = reason.order, reason.addition
    return {
        "id": printable(order.id),
        "title": _printable(order.title),
        "court": printable(order.court),
        "case": _printable(order.case),
        "decided": order.decided.isoformat(),
        "legal_basis": printable(order.legal_basis),
        "claimant": printable(order.claimant),
        "name": printable(reason.name),
        "notice": _printable(addition.notice) if addition else None,
        "authority": _printable(addition.authority) if addition else None,
        "territory": _codes(order.territory),
        "unknown_location": order.unknown_location.value,
        "until": _local(reason.until, order).isoformat(),
        "contact": _printable(order.contact or contact),
        "publication": web_link(order.publication),
    }


def _printable(text: str | None) -> str | None:
    return printable(text) if text else None


def _codes(territory: Territory) -> list[str]:
    return ["world"] if territory.world else sorted(territory.countries)


def _name(reason: Reason) -> str:
    """Return the name as people write it, with its A-labels where they differ: a look-alike letter shows."""
    name, unicode = printable(reason.name), printable(to_unicode(reason.name))
    return name if unicode == name else f"{unicode} ({name})"


def _name_and_addition(reason: Reason, wording: Wording) -> str:
    addition = reason.addition
    if addition is None:
        return _name(reason)
    day = wording.dated(_day(addition.notified, reason.order))
    return wording.added.format(name=_name(reason), notice=_notice(addition), day=day)


def _notice(addition: Addition) -> str:
    notice, authority = printable(addition.notice), printable(addition.authority or "")
    return notice if authority in notice else f"{authority} {notice}"


def _users(order: Order, wording: Wording) -> str:
    if order.territory.world:
        return wording.users_everywhere
    users = wording.users_from.format(countries=wording.listed(_countries(order.territory.countries, wording)))
    return users + wording.users_unknown if order.unknown_location is UnknownLocation.ENFORCE else users


def _countries(codes: Iterable[str], wording: Wording) -> list[str]:
    names = COUNTRY_NAMES[wording.language]
    return [names.get(code) or printable(code) for code in sorted(codes)]


def _until(reason: Reason, wording: Wording) -> str:
    end = wording.end(_local(reason.until, reason.order), printable(reason.order.timezone))
    return end + wording.until_events if reason.order.windows else end


def _day(moment: Moment, order: Order) -> date:
    if not isinstance(moment, datetime):
        return moment
    return (moment if moment.tzinfo is None else _local(moment, order)).date()


def _local(instant: datetime, order: Order) -> datetime:
    """Return the instant in legal time of the order; zones are read once and kept by `zoneinfo`."""
    return instant.astimezone(ZoneInfo(order.timezone))
