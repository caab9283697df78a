"""All words in one catalogue, in both languages; and numbers, dates and spans as each of them writes them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

import cdnblock.dashboard
from cdnblock.audit.records import Kind
from cdnblock.dashboard.language import LANGUAGES, Wording, catalogue
from cdnblock.dashboard.register import Turn
from cdnblock.matching.decision import Why
from cdnblock.matching.explanation import Effect, Verdict
from cdnblock.orders.life import OrderState
from cdnblock.orders.model import Anchor, Delay, DelayUnit, Mode, UnknownLocation

FOLDER = Path(cdnblock.dashboard.__file__).parent
EN, FR = (Wording(language) for language in LANGUAGES)
NOW = datetime(2025, 5, 1, 10, 0, tzinfo=UTC)
TWICE = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)  # 02:30 in Paris, and an hour later again


def forms(text):
    return text if isinstance(text, list) else [text]


def test_both_languages_say_everything():
    """Each key has two texts, or pairs of them, with the same places for values; and French is no English left over."""
    for key, (english, french) in catalogue().items():
        for text in (*forms(english), *forms(french)):
            assert isinstance(text, str), key
            assert text.strip() == text != "", key
        places = [{name for text in forms(both) for name in re.findall(r"{(\w+)}", text)} for both in (english, french)]
        assert places[0] == places[1], key
        assert len(forms(english)) in (1, 2), key
    same = [key for key, (english, french) in catalogue().items() if english == french]
    assert len(same) < 25, same


def test_every_word_of_templates_and_code_is_in_the_catalogue():
    """No template and no page asks for a key that is not there, and no key is there for nothing."""
    texts = [path.read_text() for path in (*FOLDER.rglob("*.html"), *FOLDER.rglob("*.py"))]
    asked = {key for text in texts for key in re.findall(r"""[(" ]_\(["']([a-z_]+\.[a-z_-]+)["']""", text)}
    asked |= {key for text in texts for key in re.findall(r'wording\(\s*"([a-z_]+\.[a-z_-]+)"', text)}
    assert len(asked) > 80
    assert {key for key in asked if not key.endswith("_")} <= catalogue().keys()
    built = tuple(found for text in texts for found in re.findall(r'"([a-z_]+\.)(?:[a-z_]*)" ~|f"([a-z_]+\.)\{', text))
    prefixes = {prefix for pair in built for prefix in pair if prefix}
    quoted = {key for text in texts for key in re.findall(r"""["']([a-z_]+\.[a-z_-]+)["']""", text)}
    unused = [key for key in catalogue() if key not in quoted and key.partition(".")[0] + "." not in prefixes]
    assert unused == []


@pytest.mark.parametrize(
    ("group", "members"),
    [
        ("kind", [kind.value for kind in Kind]), ("turn", [turn.value for turn in Turn]),
        ("why", [why.value for why in Why]), ("verdict", [verdict.name.lower() for verdict in Verdict]),
        ("effect", [effect.name.lower() for effect in Effect]), ("state", [state.name.lower() for state in OrderState]),
        ("mode", [mode.value for mode in Mode]), ("anchor", [anchor.value for anchor in Anchor]),
        ("unknown", [unknown.value for unknown in UnknownLocation]),
        ("delay", [unit.value.replace(" ", "_") for unit in DelayUnit]),
    ],
)  # fmt: skip
def test_every_member_has_its_words(group, members):
    """What the program may say of a record, an order or a decision is in the catalogue."""
    assert [member for member in members if f"{group}.{member}" not in catalogue()] == []


def test_every_alarm_has_its_sentence():
    """Each key that an alarm is made with is in the catalogue."""
    text = (FOLDER / "alarms.py").read_text()
    keys = set(re.findall(r'key="(\w+)"|_rest\(.*"(\w+)"\)|"(\w+)" if (?:item|file)', text))
    found = {key for keys_of_one in keys for key in keys_of_one if key}
    assert {"held", "file_kept", "overdue", "report_only"} <= found
    assert [key for key in found if f"alarm.{key}" not in catalogue()] == []


@pytest.mark.parametrize(
    ("said", "english", "french"),
    [
        (lambda w: w.number(1_234_567), "1,234,567", "1\u202f234\u202f567"),
        (lambda w: w.number(1234.5), "1,234.5", "1\u202f234,5"),
        (lambda w: w.day(date(2025, 4, 1)), "1 Apr 2025", "1er avr. 2025"),
        (lambda w: w.day(date(2025, 8, 31)), "31 Aug 2025", "31 août 2025"),
        (lambda w: w.instant(NOW), "1 May 2025, 12:00", "1er mai 2025, 12:00"),
        (lambda w: w.instant(NOW, "UTC", seconds=True), "1 May 2025, 10:00:00", "1er mai 2025, 10:00:00"),
        (lambda w: w.instant(NOW, "America/New_York"), "1 May 2025, 06:00 UTC-04:00", "1er mai 2025, 06:00 UTC-04:00"),
        (lambda w: w.instant(NOW, "Europe/Madrid"), "1 May 2025, 12:00", "1er mai 2025, 12:00"),
        (lambda w: w.instant(TWICE), "26 Oct 2025, 02:30", "26 oct. 2025, 02:30"),
        (
            lambda w: w.instant(TWICE + timedelta(hours=1)),
            "26 Oct 2025, 02:30 UTC+01:00",
            "26 oct. 2025, 02:30 UTC+01:00",
        ),
        (lambda w: w.instant(datetime.max.replace(tzinfo=UTC)), "31 Dec 9999, 23:59", "31 déc. 9999, 23:59"),
        (lambda w: w.away(NOW + timedelta(days=3, hours=5), NOW), "in 3 days", "dans 3 jours"),
        (lambda w: w.away(NOW + timedelta(hours=26, minutes=3), NOW), "in 1 day 2 h", "dans 1 jour 2 h"),
        (lambda w: w.away(NOW + timedelta(minutes=2, seconds=5), NOW), "in 2 min 5 s", "dans 2 min 5 s"),
        (lambda w: w.away(NOW - timedelta(minutes=2, seconds=5), NOW), "2 min ago", "il y a 2 min"),
        (lambda w: w.away(NOW - timedelta(days=3650), NOW), "10 years ago", "il y a 10 ans"),
        (lambda w: w.away(NOW, NOW), "now", "maintenant"),
        (lambda w: w.delay(Delay(1, DelayUnit.MONTHS)), "1 month", "1 mois"),
        (lambda w: w.delay(Delay(3, DelayUnit.WORKING_DAYS)), "3 working days", "3 jours ouvrés"),
        (lambda w: w("orders.count", n=0), "0 orders", "0 ordonnance"),
        (lambda w: w("orders.count", n=1), "1 order", "1 ordonnance"),
        (lambda w: w("orders.count", n=10_000), "10,000 orders", "10\u202f000 ordonnances"),
        (lambda w: w.country("RE"), "Réunion", "La Réunion"),
        (lambda w: w.country("XX"), "XX", "XX"),
    ],
    ids=range(24),
)
def test_what_each_language_writes(said, english, french):
    """Numbers, dates, spans, plurals and countries."""
    assert (said(EN), said(FR)) == (english, french)
