"""The rendered book as a reader gets it, page by page: links, strip, console, requests, axe-core.

    RS5M_PAGES=_build/html python -m pytest tests/book/test_pages.py

Skipped without that variable, since a rendered book may be older than its sources. axe-core is
taken from the package axe-playwright-python (`pip install --no-deps`), or from the file that
RS5M_AXE names.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import bs4
import pytest
import strip
from browser import Browser, Slow

FOLDER = Path(os.environ.get("RS5M_PAGES", "")).resolve()
if "RS5M_PAGES" not in os.environ:
    pytest.skip("RS5M_PAGES names no rendered book", allow_module_level=True)
NUMBERED = [page for pages in strip.way(Path(__file__).parents[2]).values() for page in pages]
PAGES = sorted(path.stem for path in FOLDER.glob("*.html"))
GRAVE = ("serious", "critical")
THEMES = {"light": "wcag2a wcag2aa wcag21a wcag21aa wcag22aa best-practice", "dark": ""}
# Text of its background's colour is "incomplete" to axe, since it may be hidden on purpose.
AXE = """axe.run(document, {preload: false, runOnly: %s}).then((found) => {
  const told = (impact, rule, nodes) => nodes.map((node) =>
    [impact, rule.id, node.target.join(" "), node.html.slice(0, 200)]);
  const unseen = (node) => node.any.some((check) => check.data?.messageKey === "equalRatio");
  return [...found.violations.flatMap((rule) => told(rule.impact, rule, rule.nodes)),
    ...found.incomplete.flatMap((rule) => told("serious", rule, rule.nodes.filter(unseen)))];
})"""
# Overlays and tools of readers' own are not ours; these nodes are the theme's.
THEMES_OWN = ("#pst-", ".sidebar-", "button.", ".search-button", ".theme-switch", ".skip-link")


@cache
def parsed(page: str) -> bs4.BeautifulSoup:
    return bs4.BeautifulSoup((FOLDER / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def chapters() -> list[str]:
    return [page for page in PAGES if parsed(page).find("nav", class_="way")]


@pytest.fixture(scope="module")
def browser():
    one = Browser.start()
    if not one:
        pytest.skip("no Chromium here, or it does not start")
    yield one
    one.stop()


@pytest.fixture(scope="module")
def axe() -> str:
    if named := os.environ.get("RS5M_AXE"):
        return Path(named).read_text(encoding="utf-8")
    spec = find_spec("axe_playwright_python")
    if not spec:
        pytest.skip("axe-core is not here: pip install --no-deps axe-playwright-python")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def opened(browser: Browser, page: str) -> None:
    try:
        browser.go((FOLDER / f"{page}.html").as_uri())
    except Slow as slow:
        pytest.skip(str(slow))


def test_every_page_of_the_book_has_one_strip():
    own = {"404", "genindex", "search"}
    assert set(PAGES) - own == set(chapters())
    assert set(NUMBERED) <= set(PAGES)
    for page in chapters():
        strips = parsed(page).find_all("nav", class_="way")
        here = [link["href"] for link in strips[0].find_all("a", attrs={"aria-current": "page"})]
        assert len(strips) == 1 and here == ([f"{page}.html"] if page in NUMBERED else []), page


def followed(page: str, word: str) -> list[str]:
    """Pages that a reader of a page finds behind a link of its text that names the word."""
    links = parsed(page).find("article").find_all("a", href=True)
    named = (link for link in links if word in link.get_text().lower())
    return [link["href"].partition(".html")[0] for link in named if ".html" in link["href"]]


@pytest.mark.parametrize(
    ("word", "page", "answer"),
    [
        ("rotat", "rotation", "a ranker that sees directions chooses"),
        ("command", "reference", "rs5m evaluate"),
    ],
)
def test_two_clicks_from_the_front_page_to_an_answer(word, page, answer):
    first = followed("index", word)
    second = [there for here in first for there in followed(here, word)]
    assert page in first + second
    text = " ".join(parsed(page).find("article").get_text().lower().split())
    assert answer in text


def test_no_page_names_an_address_that_its_scripts_would_load():
    for page in PAGES:
        for tag in parsed(page).find_all(["script", "img", "iframe", "link"]):
            address = tag.get("src") or (tag.get("rel") == ["stylesheet"] and tag.get("href")) or ""
            assert not address.startswith(("http", "//")), (page, address)
            assert "THEBE" not in tag.get_text(), page


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_console_is_quiet_and_nothing_is_asked_of_the_network(browser, page):
    opened(browser, page)
    assert browser.errors() == []
    assert [one for one in browser.requests() if not one.startswith("file:")] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_cut_off_on_a_small_telephone(browser, page):
    size = {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    opened(browser, page)
    assert browser.run("document.documentElement.scrollWidth") <= 320
    browser.ask("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_grave(browser, axe, page):
    """Both themes; what does not depend on the theme in the light one only."""
    opened(browser, page)
    browser.run(f"{axe};0")
    for theme, tags in THEMES.items():
        browser.run(f"document.documentElement.dataset.theme = {theme!r}")
        rules = {"type": "tag", "values": tags.split()} if tags else ["color-contrast"]
        found = browser.run(AXE % rules, seconds=300)
        grave = [one for one in found if one[0] in GRAVE and not one[2].startswith(THEMES_OWN)]
        assert not grave, theme
