"""The notice's own sentences, in each language it speaks; and its dates, without the machine's locale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Every sentence and label of the notice in one language; braces hold what is filled in."""

    language: str
    title: str
    lead_one: str
    lead_many: str
    decision: str
    claimant: str
    legal_basis: str
    name: str
    added: str
    users: str
    users_from: str
    users_everywhere: str
    users_unknown: str
    until: str
    until_at: str
    until_events: str
    contact: str
    publication: str
    reference: str
    existence: str
    operator: str
    last: str
    colon: str
    months: tuple[str, ...]
    first_of_month: str
    day: str
    clock: str

    def listed(self, items: Sequence[str]) -> str:
        """Return items as a sentence has them: `France, Guadeloupe and Martinique`."""
        if len(items) < 2:  # noqa: PLR2004 (one item needs no "and")
            return "".join(items)
        return ", ".join(items[:-1]) + self.last + items[-1]

    def dated(self, day: date) -> str:
        """Return a day as people write it: `28 March 2025`, `1er avril 2025`."""
        number = self.first_of_month if day.day == 1 else str(day.day)
        return self.day.format(day=number, month=self.months[day.month - 1], year=day.year)

    def end(self, until: datetime, zone: str) -> str:
        """Return an exclusive end as the last moment covered: midnight is 24:00 of the day before (CPC art. 642)."""
        midnight = until.time() == time.min and until.date() > date.min
        day, hour, minute = (until.date() - _DAY, 24, 0) if midnight else (until.date(), until.hour, until.minute)
        offset = until.isoformat()[-6:]
        return self.until_at.format(day=self.dated(day), time=self.clock.format(hour, minute), zone=zone, offset=offset)


ENGLISH: Final = Wording(
    language="en",
    title="Unavailable for legal reasons",
    lead_one=(
        "A legal decision requires the operator of this service to prevent access to {names} "
        "for the users described below."
    ),
    lead_many=(
        "Several legal decisions require the operator of this service to prevent access to {names} "
        "for the users described below."
    ),
    decision="Decision",
    claimant="At the request of",
    legal_basis="Legal basis",
    name="Name concerned",
    added="{name} (added by notice {notice} of {day})",
    users="Users concerned",
    users_from="Those who connect from {countries}",
    users_everywhere="Everyone, worldwide",
    users_unknown=", and those whose location cannot be determined",
    until="Until",
    until_at="{day}, {time} ({zone}, UTC{offset})",
    until_events=", only during the events that the decision lists",
    contact="Contact",
    publication="Publication",
    reference="Reference",
    existence="This notice does not say whether the page you asked for exists.",
    operator="This measure is applied by the operator of this service",
    last=" and ",
    colon=":",
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    first_of_month="1",
    day="{day} {month} {year}",
    clock="{:02d}:{:02d}",
)

FRENCH: Final = Wording(
    language="fr",
    title="Indisponible pour raisons légales",
    lead_one=(
        "Une décision impose à l’exploitant de ce service d’empêcher l’accès à {names} "
        "pour les utilisateurs indiqués ci-dessous."
    ),
    lead_many=(
        "Plusieurs décisions imposent à l’exploitant de ce service d’empêcher l’accès à {names} "
        "pour les utilisateurs indiqués ci-dessous."
    ),
    decision="Décision",
    claimant="À la demande de",
    legal_basis="Fondement juridique",
    name="Nom visé",
    added="{name} (ajouté par la notification {notice} du {day})",
    users="Utilisateurs visés",
    users_from="Ceux qui se connectent depuis les territoires suivants\N{NO-BREAK SPACE}: {countries}",
    users_everywhere="Tous, dans le monde entier",
    users_unknown=", ainsi que ceux dont la localisation ne peut être déterminée",
    until="Jusqu’au",
    until_at="{day} à {time} ({zone}, UTC{offset})",
    until_events=", seulement pendant les événements prévus par la décision",
    contact="Contact",
    publication="Publication",
    reference="Référence",
    existence="Ce message n’indique pas si la page demandée existe.",
    operator="Cette mesure est appliquée par l’exploitant de ce service",
    last=" et ",
    colon="\N{NO-BREAK SPACE}:",
    months=(
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ),
    first_of_month="1er",
    day="{day} {month} {year}",
    clock="{:02d} h {:02d}",
)

WORDINGS: Final[Mapping[str, Wording]] = {wording.language: wording for wording in (ENGLISH, FRENCH)}

_FRENCH_REPUBLIC: Final = frozenset(("FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF", "PF", "PM", "BL", "MF"))


def default_language(country: str | None) -> str:
    """Return the language for a client that names none we speak: French in the French Republic, else English."""
    return "fr" if country in _FRENCH_REPUBLIC else "en"
