"""The printed book: all pages in one, in order, with links inside it; by Chromium where it is."""

import re

import bs4
import pdf
import pytest

PAGE = """<!doctype html><html><head>
<link rel="stylesheet" href="a.css"/><link rel="icon" href="b"/>
<script src="_static/mathjax/tex.js"></script><script src="c.js"></script></head><body>
<article class="bd-article"><h1 id="top">{0}<a class="headerlink" href="#top">#</a></h1>
<nav class="way">strip</nav><details class="hide"><summary>Show</summary>
<div class="cell_input">code of {0}</div></details><div class="cell_input">more code</div>
<details><summary>Solution</summary>answer of {0}</details><img loading="lazy" src="d.png"/>
<a href="two.html#top">there</a> <a href="one.html">start</a> <a href="#top">here</a>
<a href="https://example.org/two.html">away</a> <a href="genindex.html">index</a></article></body>
"""


@pytest.fixture
def book(tmp_path):
    folder = tmp_path / "_build" / "html"
    folder.mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: one\nchapters:\n- file: two\n")
    (tmp_path / "book").mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.html").write_text(PAGE.format(name))
        (tmp_path / "book" / f"{name}.md").write_text(f"# {name}\n")
    return tmp_path


def test_all_pages_in_order_with_code_folded_and_links_inside(book):
    soup = bs4.BeautifulSoup(pdf.whole(book / "_build" / "html", ["one", "two"]), "html.parser")
    assert [article["id"] for article in soup.find_all("article")] == ["one", "two"]
    assert [heading["id"] for heading in soup.find_all("h1")] == ["one--top", "two--top"]
    places = ["#two--top", "#one", "#{}--top", "https://example.org/two.html", "genindex.html"]
    assert [link["href"] for link in soup.find_all("a")] == [
        place.format(name) for name in ("one", "two") for place in places
    ]
    text = soup.get_text()
    assert "code" not in text and "strip" not in text and "Show" not in text
    assert [d.get_text() for d in soup.find_all("details", open=True)] == [
        "Solutionanswer of one",
        "Solutionanswer of two",
    ]
    assert not soup.find("img", loading=True)
    assert [s["src"] for s in soup.find_all("script")] == ["_static/mathjax/tex.js"]
    assert [link["href"] for link in soup.find_all("link")] == ["a.css"]


def test_what_is_missing_is_said(book, monkeypatch):
    (book / "_build" / "html" / "two.html").unlink()
    with pytest.raises(SystemExit, match="no page two.*make book"):
        pdf.main(["--root", str(book)])
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="no Chromium here"):
        pdf.printed(book / "_build" / "html", ["one"], book / "out.pdf")
    assert not (book / "_build" / "html" / "whole.html").exists()


@pytest.mark.slow
def test_chromium_prints_every_page(book, capsys, monkeypatch):
    monkeypatch.setattr(pdf, "PATIENCE", 60)
    if not any(map(pdf.shutil.which, pdf.BROWSERS)):
        pytest.skip("no Chromium here")
    try:
        pdf.main(["--root", str(book)])
    except SystemExit as failed:
        pytest.skip(f"Chromium does not start here: {failed}")
    made = (book / "_build" / "rs5m.pdf").read_bytes()
    assert made.startswith(b"%PDF")
    assert len(re.findall(rb"/Type */Page\b", made)) == 2, "a chapter starts a page"
    assert capsys.readouterr().out.startswith("_build/rs5m.pdf: ")
