"""The dashboard as people see it: every page in a real Chromium, in both languages, in light and dark, on a telephone."""

from __future__ import annotations

import re

import pytest
from chromium import axe_core
from click.testing import CliRunner
from order_texts import order_text
from running_dashboards import another_file, enforce, running, written

from cdnblock.cli.root import root

PAGES = {
    "overview": "/",
    "orders": "/orders",
    "order": "/orders/motogp",
    "try": "/try?host=www.motogpstream.me&client=203.0.113.7",
    "decisions": "/decisions",
    "trail": "/trail?verify=1",
    "missing": "/nowhere",
}
HEADINGS = {
    "overview": ("Overview", "Vue d’ensemble"),
    "orders": ("Orders", "Ordonnances"),
    "order": ("Ligue <b>MotoGP</b> & fils", "Ligue <b>MotoGP</b> & fils"),
    "try": ("Try it", "Essayer"),
    "decisions": ("Live decisions", "Décisions en direct"),
    "trail": ("Audit trail", "Journal d’audit"),
    "missing": ("Not here", "Introuvable"),
}


playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
playwright.expect.set_options(timeout=20_000)
expect = playwright.expect


@pytest.fixture(scope="module")
def axe():
    """What finds whom a page shuts out."""
    return axe_core()


def violations(page, axe):
    """What axe-core finds: rule and places."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(item["id"], [node["target"] for node in item["nodes"]]) for item in found]


def width(page):
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_in_both_languages_in_light_and_dark(look, axe, keep, name):
    """axe-core finds nothing; the language is that of the browser, the colours those of the system."""
    for language, locale, heading in zip(("en", "fr"), ("en-GB", "fr-FR"), HEADINGS[name], strict=True):
        page = look(PAGES[name], locale=locale, color_scheme="light")
        assert page.inner_text("h1") == heading
        assert page.get_attribute("html", "lang") == language
        for scheme, bright in (("light", True), ("dark", False)):
            page.emulate_media(color_scheme=scheme)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (int(re.search(r"\d+", paper)[0]) > 128) is bright
            assert violations(page, axe) == []
            if bright is (language == "en"):
                keep(page, f"{name}-{language}-{scheme}")


@pytest.mark.parametrize("locale", ["en-GB", "fr-FR"])
def test_a_telephone_shows_every_page_without_scrolling_sideways(look, dashboard, keep, axe, locale):
    """360 px are enough for each page, and it is accessible there too."""
    page = look(viewport={"width": 360, "height": 740}, locale=locale, color_scheme="dark")
    for name, path in PAGES.items():
        page.goto(dashboard.url + path)
        assert width(page) <= 360, name
        if locale == "en-GB":
            assert violations(page, axe) == []
            keep(page, f"{name}-telephone")


def test_the_switches_win_over_the_browser(look):
    """Language and colours can be chosen on the page, and stay chosen on the next one."""
    page = look("/orders?state=in_force", locale="en-GB", color_scheme="light")
    page.click("text=FR")
    page.click("text=Sombre")
    assert page.url.endswith("/orders?state=in_force")
    page.click("nav >> text=Essayer")
    assert page.inner_text("h1") == "Essayer"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in cookies.values())


def test_try_it_says_what_explain_says(look, dashboard, small_mmdb):
    """The form and `cdnblock explain` name the same verdict, order, place in the file and measures."""
    page = look("/try")
    page.fill("#host", "www.motogpstream.me")
    page.fill("#client", "203.0.113.7")
    page.press("#client", "Enter")
    page.wait_for_selector(".verdict")
    text = page.inner_text(".verdict")
    command = ["explain", "www.motogpstream.me", "203.0.113.7", "--orders", dashboard.folder, "--geo", small_mmdb]
    said = CliRunner().invoke(root, [str(word) for word in command]).stdout
    assert "BLOCKED" in said
    assert "is blocked" in text
    assert "motogp.yaml:11" in said
    assert "motogp.yaml:11" in text
    for words in ("dns: refuse", "cdn: disable", "proxy: terminate"):
        assert words in text
        assert words.replace(":", "") in said
    page.fill("#client", "198.51.100.7")
    page.click("text=Explain")
    assert "the client is outside its territory" in page.inner_text(".verdict")
    page.fill("#country", "UK")
    page.click("text=Explain")
    assert "United Kingdom GB" in page.inner_text("#country-wrong")


def test_a_reload_arrives_on_an_open_page(look, dashboard):
    """A new order file shows within moments, without the page being loaded again."""
    page = look("/")
    page.evaluate("window.stayed = true")
    figures = expect(page.locator(".figures"))
    figures.to_contain_text("of 25 listed")
    with another_file(dashboard, order_text(id="new", names="[fourth.example, fifth.example]")):
        figures.to_contain_text("of 27 listed")
    figures.to_contain_text("of 25 listed")
    assert page.evaluate("window.stayed")


def test_a_file_broken_while_a_page_is_open_raises_an_alarm_there(look, dashboard, keep):
    """The alarm stands on the page with file and line, in its title, and is told to a screen reader; and goes again."""
    page = look("/")
    assert page.inner_text("#alarms") == "No alarms"
    broken = (dashboard.folder / "motogp.yaml").read_text().replace("court:", "curt:")
    with another_file(dashboard, broken, "motogp.yaml"):
        page.wait_for_selector("li.alarm")
        assert "motogp.yaml is invalid. Its last good version stays in force." in page.inner_text("li.alarm")
        assert "motogp.yaml:3:1: curt" in page.inner_text("li.alarm")
        expect(page).to_have_title(re.compile(r"^\(1\) "))
        expect(page.locator("#announce")).to_contain_text("1 alarm:")
        keep(page, "alarm")
        page.click("nav >> text=Orders")
        page.click("#row-motogp")
        assert "What is shown as in force is its last good version" in page.inner_text("li.alarm")
        page.goto(dashboard.url)
    expect(page.locator("#alarms")).to_have_text("No alarms")


def test_everything_but_live_updates_works_without_javascript(look):
    """Pages, the filter, sorting, the form and the switches."""
    page = look("/", java_script_enabled=False)
    page.click("nav >> text=Orders")
    page.fill("#q", "ended")
    page.click("text=Apply")
    assert page.inner_text(".count") == "1 order of 4"
    page.click("text=Clear")
    page.click("#sort-names")
    assert page.get_attribute("th:has(#sort-names)", "aria-sort") == "ascending"
    page.click("#row-motogp")
    assert "second.example" in page.inner_text("main")
    page.click("text=FR")
    page.click("nav >> text=Essayer")
    page.fill("#host", "third.example")
    page.fill("#country", "fr")
    page.click("text=Expliquer")
    assert "passe" in page.inner_text("#verdict")
    assert "S’appliquerait ; en observation seule" in page.inner_text(".said")


def test_the_keyboard_is_enough(look, dashboard):
    """The first stop skips to the content; every stop is seen; a live update leaves the keyboard where it is."""
    page = look("/orders")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            "({id: document.activeElement.id, outline: getComputedStyle(document.activeElement).outlineStyle})"
        )
        if stop["id"] == "":  # round the corner, or a link that needs no name
            continue
        stops.append(stop)
        if stop["id"] == "row-motogp":
            break
    assert {"q", "state", "measure", "country", "sort-names", "row-motogp"} <= {stop["id"] for stop in stops}
    assert {stop["outline"] for stop in stops} == {"solid"}
    page.evaluate("window.old = document.activeElement")
    with another_file(dashboard, order_text(id="new", names="[fourth.example]")):
        page.wait_for_selector("#row-new")
        assert not page.evaluate("window.old.isConnected")
        assert page.evaluate("document.activeElement.id") == "row-motogp"
        page.keyboard.press("Enter")
        page.wait_for_url("**/orders/motogp")


def test_a_record_arrives_on_the_open_page_of_decisions(look, dashboard):
    """What is enforced shows as the trail has it, with the client's network, never the whole address."""
    page = look("/decisions")
    enforce(dashboard.enforcer, "live.n3.example")
    expect(page.locator("main")).to_contain_text("live.n3.example")
    text = page.inner_text("main")
    assert "203.0.113.0/24" in text
    assert "203.0.113.7" not in text


def test_the_trail_is_verified_on_the_page(look):
    """The button verifies, beside everything else; the result arrives by itself."""
    page = look("/trail")
    page.click("text=Verify now")
    page.wait_for_selector("#whole ~ p.good, section:has(#whole) .good")
    assert "Whole: no line is cut" in page.inner_text("section:has(#whole)")


def test_a_page_whose_server_is_gone_says_so(look, tmp_path, small_mmdb):
    """What is shown may be old, and whoever looks is told: at once, and to a screen reader."""
    with running(written(tmp_path / "orders"), small_mmdb) as found:
        page = look(at=found)
        page.wait_for_selector("#live")
        assert page.inner_text("#lost") == ""
        found.stop()
        expect(page.locator("#lost")).to_contain_text("No answer any more")
        assert page.get_attribute("#lost", "role") == "alert"


def test_a_token_is_typed_once(look, tmp_path, small_mmdb, axe):
    """A wrong one is told; the right one opens every page, until somebody logs out."""
    with running(written(tmp_path / "orders"), small_mmdb, token="0123456789abcdef") as found:
        page = look("/orders", at=found, java_script_enabled=False)
        page.fill("#token", "guess")
        page.press("#token", "Enter")
        assert page.inner_text("#wrong") == "That is not the token."
        page.fill("#token", "0123456789abcdef")
        page.click("button")
        page.click("nav >> text=Orders")
        assert page.inner_text("h1") == "Orders"
        page.click("text=Log out")
        page.goto(found.url + "/orders")
        assert page.inner_text("h1") == "Log in"
        other = look("/login", at=found, color_scheme="dark", locale="fr-FR")
        assert violations(other, axe) == []
