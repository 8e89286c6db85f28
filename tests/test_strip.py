"""What rendering adds to a page and takes out: the strip, and what extensions leave behind."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import notebooks
import polish
import pytest
import strip
import yaml

from rs5m import __version__

ROOT = Path(__file__).parents[1]
TITLES = {"clip": "Build <it>: CLIP & all"}


class Links(HTMLParser):
    """(address, whether it is the current page) of every link, and the open elements at the end."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "a":
            attributes = dict(attributes)
            self.found.append((attributes["href"], attributes.get("aria-current") == "page"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@cache
def numbered() -> list[str]:
    """The way by hand: every chapter of a numbered part, in the order of _toc.yml."""
    tree = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [
        chapter["file"]
        for part in tree["parts"]
        for chapter in part["chapters"]
        if part.get("numbered")
    ]


@pytest.mark.parametrize("page", notebooks.toc(ROOT))
def test_every_page_knows_its_place(page):
    line = strip.strip(ROOT, page, {})
    links = Links(line)
    assert [address for address, _ in links.found] == [f"{name}.html" for name in numbered()]
    assert [address for address, here in links.found if here] == (
        [f"{page}.html"] if page in numbered() else []
    )
    assert not links.open and "\n" not in line


def test_a_title_cannot_break_the_strip():
    assert 'title="Build &lt;it&gt;: CLIP &amp; all"' in strip.strip(ROOT, "clip", TITLES)


def test_names_are_of_pages_that_exist():
    assert set(strip.NAMES) <= set(numbered())


def test_contents_without_parts_are_a_way_of_one_stage(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: index\nchapters:\n  - file: clip\n")
    assert list(strip.way(tmp_path).values()) == [["clip"]]


def test_the_strip_stands_below_the_title_and_nothing_else_moves():
    text = "(label)=\n# Title\n\nText\n\n# Another\n"
    done = strip.below_title(text, "<nav></nav>")
    assert done == "(label)=\n# Title\n\n<nav></nav>\n\nText\n\n# Another\n"
    assert strip.below_title("No heading", "<nav></nav>") == "No heading"


def test_a_line_below_the_strip_is_found_again():
    text = "(label)=\n# Title\n\nText\n\n# Another\n"
    for number, line in enumerate(text.splitlines(), 1):
        done = strip.below_title(
            text.replace(line, f"{line} here") if line else text, "<nav></nav>"
        )
        now = [i for i, one in enumerate(done.splitlines(), 1) if one.endswith(" here")]
        assert not line or [strip.moved_back(text, one) for one in now] == [number]
    assert strip.moved_back("No heading\n\nText", 3) == 3


def test_a_notebook_has_one_place_for_the_strip():
    cells = [nbformat.v4.new_code_cell("# no heading")]
    cells += map(nbformat.v4.new_markdown_cell, ["text", "# Title\n\nmore", "# Another"])
    assert strip.titled(nbformat.v4.new_notebook(cells=cells)) is cells[2]
    assert strip.titled(nbformat.v4.new_notebook(cells=cells[:2])) is None


def test_what_extensions_leave_is_taken_out_and_the_rest_stays():
    thebe = '<script>const THEBE_JS_URL = "https://unpkg.com/x"; const a = 1</script>'
    loaded = '<script async="async" src="_static/sphinx-thebe.js?v=1"></script>'
    keep = '<script src="_static/doctools.js"></script><div role="list" class="mine">'
    text = f'{thebe}\n{keep}\n{thebe}{loaded}<div role="list" class="citation-list">'
    entry = '<div class="citation" id="id1"{}>'
    assert polish.page(text) == f'{keep}\n<div class="citation-list">'
    assert polish.page(entry.format(' role="doc-biblioentry"')) == entry.format("")
    assert polish.page(keep) == keep
    assert polish.page("rs5m {rs5m version}") == f"rs5m {__version__}"


def test_a_number_of_the_prose_says_where_it_comes_from():
    text = '<span class="pasted-text">4</span><footer>{rs5m origin}</footer>'
    assert polish.page(text) == '<span class="pasted-text">4</span><footer></footer>'
    done = polish.page(text, "computed at <mini>")
    assert done.startswith('<span class="pasted-text" title="Computed at &lt;mini&gt;">4</span>')
    assert "with dots: computed at &lt;mini&gt;.</footer>" in done


def test_a_figure_opens_at_full_size_and_a_logo_does_not():
    image = '<img alt="Two lines" src="_images/a.png" />'
    said = polish.page(f'<figure id="fig">\n{image}\n<figcaption>')
    assert f'"fig">\n<a href="_images/a.png" title="Open at full size">{image}</a>' in said
    assert polish.page(image) == image


def test_a_shared_link_has_a_card():
    about = '<meta content="Of &quot;a&quot; book." lang="en" name="description" xml:lang="en" />'
    text = f"<head>{about}<title>7. Tune &amp; test &#8212; A book</title></head>"
    said = polish.page(text)
    assert '<meta property="og:title" content="Tune &amp; test" />' in said
    assert '<meta property="og:description" content="Of &quot;a&quot; book." />' in said
    assert "og:url" not in said and "og:image" not in said, "no address is made up"
    served = (
        '<link rel="canonical" href="https://a.org/b/c.html" /><img alt="" src="_images/d.png">'
    )
    said = polish.page(text + served)
    assert '<meta property="og:url" content="https://a.org/b/c.html" />' in said
    assert '<meta property="og:image" content="https://a.org/b/_images/d.png" />' in said
    assert polish.page("<title>No book</title>") == "<title>No book</title>"


def test_a_folder_is_polished_in_place(tmp_path):
    (tmp_path / "a.html").write_text('<div role="list" class="citation-list">')
    (tmp_path / "b.txt").write_text('<div role="list" class="citation-list">')
    polish.site(tmp_path, {})
    assert not re.search("role", (tmp_path / "a.html").read_text())
    assert re.search("role", (tmp_path / "b.txt").read_text())
    assert 'href="index.html"' in (tmp_path / "404.html").read_text()
