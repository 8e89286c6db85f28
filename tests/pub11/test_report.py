"""Chapter pub11: what a run tells a person, on the screen and as a page of samples."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_pub11 import LIMITS, Cheap
from PIL import Image

from rs5m import pub11, web
from rs5m.data import sheet
from rs5m.pocket import webpages
from rs5m.pub11 import download, report
from rs5m.web.task import Fetched

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></ul></body>&lt;b&gt;",
    "satellite \ud800 \x00 \u202e view",
    "x" * 5000,
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every element ends in its own place"

    def handle_data(self, data):
        self.text += data


def page(path: Path) -> Page:
    """The page, once what must hold for every page has been checked."""
    text = path.read_text()
    found = Page(text)
    assert not found.open
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "link", "iframe", "object", "form", "base", "svg", "video"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "img" or attributes["src"].startswith("data:image/jpeg;base64,")
        assert "href" not in attributes or re.match("(?i)https?://", attributes["href"])
    assert "@import" not in text and "url(" not in sheet.STYLE
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    return found


def card(caption="a", source="http://a.example/x"):
    return sheet.Card(None, caption, source)


def write(path, cards, tables=()):
    sheet.write(path, "A run", "Lead.", tables, [sheet.Group("Kept", len(cards), cards)])
    return page(path)


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_the_web_says_is_text(tmp_path, text):
    host = pd.DataFrame({"host": pd.Series([text], dtype=object), "pairs": [1]})
    found = write(tmp_path / "a.html", [card(text, text)], [(text, host)])
    assert [tag for tag, _ in found.tags if tag in ("a", "img", "b")] == []
    assert "alert(1)" not in text or "alert(1)" in found.text
    assert (tmp_path / "a.html").stat().st_size < 8000, "long text is cut"


@pytest.mark.parametrize(
    ("source", "linked"),
    [
        ("http://a.example/x?y=1&z=2", True),
        ("HTTPS://a.example/x", True),
        ('http://a.example/"onmouseover="alert(1)', True),
        ("javascript:alert(1)", False),
        ("java\nscript:alert(1)", False),
        ("\x01javascript:alert(1)", False),
        ("data:text/html,<script>alert(1)</script>", False),
        ("file:///etc/passwd", False),
        ("//a.example/x", False),
        ("http://[::1", False),
        ("http:///x", False),
        ("class/image.jpg", False),
        ("", False),
    ],
)
def test_only_web_addresses_are_links(tmp_path, source, linked):
    found = write(tmp_path / "a.html", [card(source=source)])
    links = [attributes for tag, attributes in found.tags if tag == "a"]
    assert len(links) == linked
    if linked:
        assert links[0]["href"] == source and "noreferrer" in links[0]["rel"]


def test_samples_are_the_same_in_every_run_and_spread():
    names = [f"name {i}" for i in range(1000)]
    drawn = sheet.sample(names)
    assert len(drawn) == sheet.EACH == len(set(drawn)) and drawn == sorted(drawn)
    assert {names[i] for i in drawn} == {names[::-1][i] for i in sheet.sample(names[::-1])}
    assert 300 < np.mean(drawn) < 700
    assert sheet.sample(["a", "\ud800"]) == [0, 1] and sheet.sample([]) == []


def test_a_thumbnail_is_small_and_keeps_the_shape():
    noise = np.random.default_rng(0).integers(0, 256, (300, 900, 3), np.uint8)
    data = base64.b64decode(sheet.thumbnail(Image.fromarray(noise)).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (112, 37) and len(data) < 12_000


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    made = webpages.build(listed=600)
    with webpages.serve(made) as base:
        webpages.write(made, base, folder)
        hostile = pa.table(
            {
                "url": ["javascript:alert('aerial')", f"{base}/none.jpg", "http://127.0.0.1:9/x"],
                "text": [f"aerial view {text}" for text in ("<script>x</script>", "b", "c")],
            }
        )
        pq.write_table(hostile, folder / "hostile.parquet")
        yield folder


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    tally = web.Tally()
    out = tmp_path_factory.mktemp("run") / "out"
    return pub11.run(pairs, out, Cheap(), LIMITS, 8, progress=tally.add), tally


def test_the_page_has_samples_of_every_fate(finished):
    out = finished[0]
    found = page(out / report.PAGE)
    kept, dropped = (pd.read_parquet(out / f"{n}.parquet") for n in ("kept", "dropped"))
    counts = report.reasons(out)
    pictures = [tag for tag, _ in found.tags].count("img")
    cards = [tag for tag, _ in found.tags].count("li")
    assert cards == min(len(kept), 40) + sum(min(n, 40) for n in counts.pairs)
    seen = dropped[dropped.width.notna()].groupby(["stage", "reason"]).size()
    assert pictures >= min(len(kept), 40) + sum(min(n, 40) for n in seen)
    for row in counts.itertuples():
        assert f"Dropped by {row.stage}: {row.reason} " in found.text
    assert "<script>x</script>" in found.text, "as text"
    for caption in kept.text.iloc[sheet.sample(kept.row.tolist())]:
        assert caption in found.text
    assert "127.0.0.1" in found.text and "connection_error" in found.text
    assert (out / report.PAGE).stat().st_size < 3e6


def test_every_pair_is_counted_once(finished):
    counts, total = report.reasons(finished[0]), pub11.attrition(finished[0]).iloc[-1]
    assert counts.pairs.sum() == total.pairs_listed - total.remaining
    assert counts.stage.tolist() == sorted(counts.stage, key=pub11.STAGES.index)
    by_stage = counts.groupby("stage").pairs.sum()
    assert by_stage["keywords"] == total.pairs_listed - total.after_keyword_filter
    assert by_stage["download"] == total.after_keyword_filter - total.downloaded


def test_the_last_words_name_reasons_and_hosts(finished):
    out, tally = finished
    said = report.words(out, tally)
    for row in report.reasons(out).itertuples():
        assert re.search(rf"{row.stage} +{row.reason} +{row.pairs:,}\n", said)
    assert "slowest hosts, by mean time of a URL: 127.0.0.1 (" in said
    assert said.endswith(f"samples of all of them: {out / report.PAGE}")
    assert "slowest" not in report.words(out, web.Tally()), "nothing was asked in this process"
    assert "no host answered" not in said
    assert "--allow-" not in said
    silent = web.Tally()
    silent.add("http://gone.example/a.jpg", web.Fetched("dns_failure", None, "", attempts=1))
    assert "no host answered: if this machine's network" in report.words(out, silent)


def test_the_page_of_a_run_that_was_cut_off_is_the_same(pairs, finished, tmp_path):
    whole = (finished[0] / report.PAGE).read_bytes()
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / report.PAGE).unlink()
    pub11.run(pairs, out, Cheap(), LIMITS, 8)
    assert (out / report.PAGE).read_bytes() == whole
    for name in ("dropped.parquet", "look/00001.parquet"):
        (out / name).unlink()
    (out / report.PAGE).write_text("of another state")
    pub11.run(pairs, out, Cheap(), LIMITS, 8)
    assert (out / report.PAGE).read_bytes() == whole


def test_rows_without_url_or_text_are_counted_and_shown(tmp_path):
    texts = [None, "aerial view", "aerial photo"]
    pq.write_table(pa.table({"url": [None, None, ""], "text": texts}), tmp_path / "a.parquet")
    out = pub11.run(tmp_path, tmp_path / "out", Cheap(), LIMITS)
    found = page(out / report.PAGE).text
    assert report.reasons(out).pairs.sum() == 3 and "nan" not in found.lower().split()


def test_a_run_that_kept_nothing_has_a_page(tmp_path):
    pq.write_table(pa.table({"url": ["x"], "text": ["a dog"]}), tmp_path / "a.parquet")
    out = pub11.run(tmp_path, tmp_path / "out", Cheap(), LIMITS)
    assert "Dropped by keywords: no_keyword 1 of 1" in page(out / report.PAGE).text
    empty = pa.table({"url": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    (tmp_path / "b").mkdir()
    pq.write_table(empty, tmp_path / "b/a.parquet")
    out = pub11.run(tmp_path / "b", tmp_path / "out_b", Cheap(), LIMITS)
    assert "0 of 0 listed pairs" in page(out / report.PAGE).text
    assert report.words(out).startswith("nothing was dropped")


def test_refused_addresses_are_said_with_what_allows_them(tmp_path):
    pairs = pa.table({"url": ["http://127.0.0.1:9/a.jpg"], "text": ["aerial view"]})
    pq.write_table(pairs, tmp_path / "a.parquet")
    out = pub11.run(tmp_path, tmp_path / "out", Cheap(), web.Limits())
    assert "refused_address: the URL leads to this machine" in report.words(out)


def test_progress_counts_pairs_and_their_failures(capsys):
    todo = pd.DataFrame({"key": ["a", "b", "c"], "pairs": [3, 1, 4]})
    with download._bar(todo, todo[1:]) as bar:
        assert (bar.n, bar.total) == (3, 8), "what an earlier run has counts"
        bar.add(1, Fetched("ok", bytes(2_000_000), "b"))
        bar.add(4, Fetched("timeout", None, "c"))
        assert bar.n == 8 and "80% failed, 2.0 MB" in str(bar)
    assert "8/8" in capsys.readouterr().err
