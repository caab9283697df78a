"""Measure proxy: the 451 and its notice."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from time import perf_counter
from zoneinfo import ZoneInfo

import pytest

from cdnblock.matching.decision import Decision
from cdnblock.measures.proxy_termination import bad_host, closes, failure, notice
from cdnblock.orders.model import Measure, Territory, UnknownLocation, Window

FORMS = ["text/html", "text/plain", "application/problem+json"]
OPERATOR = "https://edge.example/legal"


def fields(answer):
    headers = {name.lower(): value for name, value in answer.headers}
    assert len(headers) == len(answer.headers), "no field twice"
    return headers


class _Page(HTMLParser):
    """What a browser would see of a page: tags, attributes, text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.text += data


def page(answer):
    return _Page(answer.body.decode())


@pytest.mark.parametrize("accept", FORMS)
def test_the_status_is_451_and_no_cache_may_keep_it(decision, accept):
    """RFC 7725 lets caches keep a 451 by default, and Vary cannot say a country."""
    answer = notice(decision(), accept=accept)
    assert (answer.status, answer.reason) == (451, "Unavailable For Legal Reasons")
    headers = fields(answer)
    assert headers["cache-control"] == "no-store"
    assert headers["cdn-cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Language"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/html", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "application/problem+json"),
    ],
)
def test_the_type_says_its_charset_and_the_language_is_named(decision, accept, content_type):
    """JSON is UTF-8 by itself (RFC 8259 §8.1)."""
    headers = fields(notice(decision(), accept=accept, accept_language="en"))
    assert (headers["content-type"], headers["content-language"]) == (content_type, "en")


@pytest.mark.parametrize("accept", FORMS)
def test_head_has_no_body_and_the_length_of_get(decision, accept):
    """RFC 9110 §9.3.2: the same fields, no content."""
    get, head = (notice(decision(), accept=accept, method=method) for method in ("GET", "HEAD"))
    assert head.body == b""
    assert head.headers == get.headers
    assert int(fields(head)["content-length"]) == len(get.body) > 0


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT", "DELETE", "BREW"])
def test_every_other_method_gets_the_notice(decision, method):
    """The method does not open the way."""
    assert notice(decision(), method=method) == notice(decision())


def test_link_names_the_operator_as_the_one_who_blocks(decision):
    """RFC 7725 §4: who implements the block, not the court."""
    assert fields(notice(decision(), operator_url=OPERATOR))["link"] == '<https://edge.example/legal>; rel="blocked-by"'


def test_without_an_operators_page_there_is_no_link(decision):
    """Nothing is invented."""
    assert "link" not in fields(notice(decision()))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://edge.example/",
        "/relative",
        "",
        "https://",
        "not a url",
        "https://court.example@edge.example/",
        "\ud800",
        "https://edge.example/" + "a" * 5000,
    ],
)
def test_what_is_no_web_page_becomes_no_link(decision, url):
    """A bad configuration costs the Link, never the notice."""
    for accept in FORMS:
        answer = notice(decision(), operator_url=url, accept=accept, accept_language="en")
        assert "link" not in fields(answer)
        assert b"applied by the operator" not in answer.body


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("HTTPS://Edge.Example/a b", "https://edge.example/a%20b"),
        ("https://edge.example/é", "https://edge.example/%C3%A9"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ('https://edge.example/>; rel="evil"', "https://edge.example/%3E;%20rel=%22evil%22"),
        ("https://edge.example/a\r\nSet-Cookie: b=c", "https://edge.example/aSet-Cookie:%20b=c"),
        ("https://edge.example/?a>b#c>d", "https://edge.example/?a%3Eb#c%3Ed"),
    ],
)
def test_the_link_is_one_ascii_uri(decision, url, link):
    """Nothing in a configured URL can end the brackets, the line or the field."""
    assert fields(notice(decision(), operator_url=url))["link"] == f'<{link}>; rel="blocked-by"'


@pytest.mark.parametrize("accept", FORMS)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_notice_tells_what_rfc_7725_asks_for(decision, reason, addition, accept, language):
    """Who demanded it, under which law and order, which names and clients, until when, whom to contact."""
    answer = notice(
        decision(reason("added.example", addition=addition)),
        accept=accept,
        accept_language=language,
        operator_url=OPERATOR,
    )
    text = page(answer).text if accept == "text/html" else answer.body.decode()
    text = " ".join(text.split())
    for told in (
        "Tribunal judiciaire de Paris",
        "RG 25/00000",
        "Société d'édition Exemple",
        "Code du sport, art. L. 333-10",
        "tjp-2025-03-28-motogp",
        "added.example",
        "2025-118",
        "ARCOM",
        "legal@edge.example",
        "https://lumendatabase.org/notices/00000000",
        OPERATOR,
    ):
        assert told in text, told


def test_the_page_in_english(decision):
    """The sentences and dates a reader of English sees."""
    text = " ".join(page(notice(decision(), accept="text/html", accept_language="en")).text.split())
    assert "prevent access to stream.example for the users described below." in text
    assert "Tribunal judiciaire de Paris, 28 March 2025, RG 25/00000" in text
    assert "Those who connect from France, New Caledonia and Réunion" in text
    assert "16 November 2025, 24:00 (Europe/Paris, UTC+01:00)" in text
    assert "This notice does not say whether the page you asked for exists." in text


def test_the_page_in_french(decision):
    """The sentences and dates a reader of French sees."""
    text = " ".join(page(notice(decision(), accept="text/html", accept_language="fr")).text.split())
    assert "empêcher l’accès à stream.example pour les utilisateurs indiqués ci-dessous." in text
    assert "Tribunal judiciaire de Paris, 28 mars 2025, RG 25/00000" in text
    assert "Ceux qui se connectent depuis les territoires suivants : France, Nouvelle-Calédonie et La Réunion" in text
    assert "16 novembre 2025 à 24 h 00 (Europe/Paris, UTC+01:00)" in text
    assert "Ce message n’indique pas si la page demandée existe." in text


@pytest.mark.parametrize(
    ("until", "zone", "english", "french"),
    [
        # An end at midnight belongs to the day before, whatever zone the instant was given in.
        (
            datetime(2025, 11, 16, 23, 0, tzinfo=UTC),
            "Europe/Paris",
            "16 November 2025, 24:00 (Europe/Paris, UTC+01:00)",
            "16 novembre 2025 à 24 h 00 (Europe/Paris, UTC+01:00)",
        ),
        # Summer time; the first of a month.
        (
            datetime(2025, 6, 1, 10, 30, tzinfo=UTC),
            "Europe/Paris",
            "1 June 2025, 12:30 (Europe/Paris, UTC+02:00)",
            "1er juin 2025 à 12 h 30 (Europe/Paris, UTC+02:00)",
        ),
        # The year turns back with the day.
        (
            datetime(2026, 1, 1, tzinfo=ZoneInfo("Indian/Reunion")),
            "Indian/Reunion",
            "31 December 2025, 24:00 (Indian/Reunion, UTC+04:00)",
            "31 décembre 2025 à 24 h 00 (Indian/Reunion, UTC+04:00)",
        ),
    ],
)
def test_the_end_is_told_in_the_orders_own_time(decision, reason, until, zone, english, french):
    """The last moment covered, as a lawyer writes it (CPC art. 642: 24 heures)."""
    told = decision(reason(until=until, timezone=zone))
    assert english in notice(told, accept="text/html", accept_language="en").body.decode()
    assert french in notice(told, accept="text/html", accept_language="fr").body.decode()


@pytest.mark.parametrize(
    ("changes", "english"),
    [
        ({"territory": Territory(world=True)}, "Everyone, worldwide"),
        ({"territory": Territory(countries=frozenset({"DE"}))}, "Those who connect from Germany"),
        (
            {
                "territory": Territory(countries=frozenset({"FR", "GP"})),
                "unknown_location": UnknownLocation.ENFORCE,
            },
            "Those who connect from France and Guadeloupe, and those whose location cannot be determined",
        ),
        ({"windows": (Window(begins=datetime(2025, 4, 13), until=datetime(2025, 4, 14)),)}, "only during the events"),
    ],
)
def test_whom_and_when_it_concerns(decision, reason, changes, english):
    """World, one country, unknown clients, match windows."""
    assert english in notice(decision(reason(**changes)), accept="text/html", accept_language="en").body.decode()


def test_the_day_of_a_notification_is_a_day_in_the_orders_zone(decision, reason, addition):
    """23:30 UTC on 1 May is 2 May in Paris."""
    told = decision(reason("added.example", addition=addition))
    assert "added.example (added by notice ARCOM 2025-118 of 2 May 2025)" in " ".join(
        notice(told, accept_language="en").body.decode().split()
    )


def test_all_orders_that_ask_for_termination_are_listed_and_no_others(decision, reason):
    """Several orders may name one host; one that asks only for DNS refusal is not why the page is closed."""
    told = decision(
        reason(),
        reason("example", id="second-order", title="Second", contact=None),
        reason(id="dns-only", title="Third", measures={Measure.DNS: "refuse"}),
    )
    answer = notice(told, accept="text/html", accept_language="en", contact="desk@edge.example")
    text = " ".join(page(answer).text.split())
    assert "Several legal decisions require" in text
    assert "access to stream.example and example for" in text
    assert page(answer).tags.count("section") == 2
    assert "Second" in text
    assert "Third" not in text
    assert "dns-only" not in text
    assert text.count("desk@edge.example") == 1, "the operator's contact stands in only where an order names none"


def test_a_name_in_another_script_shows_both_forms(decision, reason):
    """A look-alike letter cannot hide: the A-label stands beside it."""
    body = notice(decision(reason("xn--bcher-kva.example")), accept="text/plain").body.decode()
    assert "bücher.example (xn--bcher-kva.example)" in body


def test_problem_details_for_programs(decision, reason, addition):
    """RFC 9457 members, and the orders with stable keys, null where nothing is known."""
    told = decision(reason("added.example", addition=addition, contact=None, case=None))
    problem = json.loads(notice(told, accept="application/json", accept_language="en", operator_url=OPERATOR).body)
    assert problem == {
        "type": "about:blank",
        "title": "Unavailable For Legal Reasons",
        "status": 451,
        "detail": "A legal decision requires the operator of this service to prevent access to added.example "
        "for the users described below.",
        "operator": "https://edge.example/legal",
        "contact": None,
        "orders": [
            {
                "id": "tjp-2025-03-28-motogp",
                "title": "Broadcaster v. Edge (MotoGP 2025)",
                "court": "Tribunal judiciaire de Paris",
                "case": None,
                "decided": "2025-03-28",
                "legal_basis": "Code du sport, art. L. 333-10",
                "claimant": "Société d'édition Exemple",
                "name": "added.example",
                "notice": "2025-118",
                "authority": "ARCOM",
                "territory": ["FR", "NC", "RE"],
                "unknown_location": "allow",
                "until": "2025-11-17T00:00:00+01:00",
                "contact": None,
                "publication": "https://lumendatabase.org/notices/00000000",
            }
        ],
    }


HOSTILE = {
    "title": "</h2><script>alert(1)</script>",
    "court": 'A "court" & <b>more</b>',
    "claimant": "x\r\nSet-Cookie: a=b\x00\x1b[31m\u202eevil\u2066\u200b\u2028\ud800",
    "legal_basis": "{{ 7*7 }}{% raw %}",
    "case": "' onmouseover='alert(1)",
    "contact": 'javascript:alert(1)//"><img src=x onerror=alert(1)>',
    "publication": "javascript:alert(1)",
}


def test_nothing_in_an_order_can_become_markup(decision, reason):
    """Every value is escaped; links are http, https or mailto only; no script, no request, no handler."""
    seen = page(notice(decision(reason("<i>.example", **HOSTILE)), accept="text/html", operator_url=OPERATOR))
    assert not {"script", "img", "b", "i", "iframe", "link", "form"} & set(seen.tags)
    assert not [item for item in seen.attributes if item[1].startswith("on")]
    assert {value for _, name, value in seen.attributes if name in {"href", "src"}} == {OPERATOR}
    assert "{{ 7*7 }}{% raw %}" in seen.text
    assert "</h2><script>alert(1)</script>" in seen.text


@pytest.mark.parametrize("accept", FORMS)
def test_characters_that_cannot_be_seen_do_not_pass(decision, reason, accept):
    """No control, bidirectional, zero-width character or lone surrogate reaches a page or a terminal."""
    answer = notice(decision(reason(**HOSTILE)), accept=accept, contact="a\x1b]0;x\x07b")
    text = answer.body.decode()
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text
    )
    assert "\nSet-Cookie" not in text
    assert "\\u" not in text, "nor as a JSON escape"


@pytest.mark.parametrize("accept", FORMS)
def test_no_field_can_be_broken(decision, reason, accept):
    """Field values are visible ASCII on one line (RFC 9110 §5.5), whatever the order holds."""
    answer = notice(decision(reason(**HOSTILE)), accept=accept, operator_url="https://edge.example/\r\nX: y")
    for name, value in answer.headers:
        assert re.fullmatch("[A-Za-z-]+", name)
        assert re.fullmatch("[\x20-\x7e]+", value), name


def test_the_page_may_only_show_its_own_style(decision):
    """The policy's hash is the hash of the very style between the tags, so that the page is seen as designed."""
    answer = notice(decision(), accept="text/html")
    style = re.search("<style>(.*?)</style>", answer.body.decode(), re.DOTALL)[1]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = fields(answer)["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "&" not in style, "an escaped quote would be no CSS"


def test_the_page_is_accessible_and_asks_for_nothing(decision):
    """A language, one first heading, a heading per order, a viewport for telephones, no request of its own."""
    answer = notice(decision(), accept="text/html", accept_language="fr", operator_url=OPERATOR)
    seen = page(answer)
    assert ("html", "lang", "fr") in seen.attributes
    assert seen.tags.count("h1") == seen.tags.count("h2") == seen.tags.count("main") == 1
    assert ("meta", "name", "viewport") in seen.attributes
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(seen.tags)
    assert b"url(" not in answer.body
    assert b"@import" not in answer.body
    assert seen.tags.count("dt") == seen.tags.count("dd") == 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(decision, scheme):
    """WCAG 2.2 §1.4.3: a contrast of at least 4.5 to 1 for each colour of text, by day and by night."""
    style = notice(decision(), accept="text/html").body.decode()
    light, dark = re.findall(r":root \{([^}]*--paper[^}]*)\}", style)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", dark if scheme == "dark" else light))

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("ink", "soft", "link", "mark"):
        darker, lighter = sorted(luminance(colours[key]) for key in (name, "paper"))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, name


def test_plain_text_fits_a_terminal(decision, reason):
    """No line over 78 columns but for a word that is longer."""
    many = Territory(
        countries=frozenset(["FR", "GP", "RE", "YT", "MQ", "GF", "WF", "NC", "TF", "PF", "PM", "BL", "MF"])
    )
    body = notice(decision(reason(territory=many)), accept="text/plain", operator_url=OPERATOR).body.decode()
    assert all(len(line) <= 78 for line in body.splitlines())
    assert body.endswith("\n")


@pytest.mark.parametrize("country", [None, "FR", "DE"])
def test_a_decision_without_termination_has_no_notice(decision, reason, country):
    """A page that blames an order which asks for something else would be false: the caller is told instead."""
    for other in (Decision(measures={}), decision(reason(measures={Measure.DNS: "refuse"}), country=country)):
        with pytest.raises(ValueError, match="measure proxy"):
            notice(other)


def test_close_is_told_apart_from_terminate(decision, reason):
    """The stricter variant wins when orders differ; the notice still lists both, should a host be unable to close."""
    close = decision(reason(), reason(id="stricter", measures={Measure.PROXY: "close"}))
    assert closes(close) is True
    assert closes(decision()) is False
    assert closes(Decision(measures={})) is False
    assert json.loads(notice(close, accept="application/json").body)["orders"][0]["id"] == "stricter"


def test_a_bad_host_is_400_and_a_failure_503():
    """RFC 9112 §3.2; and no decision means no forwarding. Neither may be kept by a cache."""
    for answer, status in ((bad_host(), (400, "Bad Request")), (failure(), (503, "Service Unavailable"))):
        headers = fields(answer)
        assert (answer.status, answer.reason) == status
        assert (headers["cache-control"], headers["cdn-cache-control"]) == ("no-store", "no-store")
        assert headers["content-length"] == str(len(answer.body))
        assert headers["content-type"] == "text/plain; charset=utf-8"
    assert fields(failure())["retry-after"] == "5"
    assert bad_host(method="HEAD").body == failure(method="HEAD").body == b""
    assert fields(failure(method="HEAD")) == fields(failure())


@pytest.mark.parametrize("accept", FORMS)
def test_a_notice_is_made_within_a_millisecond(decision, accept):
    """Median of many, so that a busy machine does not decide."""
    told, times = decision(), []
    for _ in range(200):
        begun = perf_counter()
        notice(told, accept=accept, accept_language="fr-FR,fr;q=0.9,en;q=0.8", operator_url=OPERATOR)
        times.append(perf_counter() - begun)
    assert sorted(times)[100] < 0.001


def test_an_answer_unpacks(decision):
    """`status, headers, body = notice(…)`, in any server that wants three things."""
    answer = notice(decision())
    status, headers, body = answer
    assert (status, headers, body) == (451, answer.headers, answer.body)
