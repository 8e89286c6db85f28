"""What helps a reader of the book: a badge for each step of the paper, a solution for each
exercise, one list of what is not known.
"""

import re
from pathlib import Path

import chapter
import myst
import nbformat
import notebooks
import numpy as np
import pandas as pd
import pytest
import strip
import tables

ROOT = Path(__file__).parents[1]
BADGES = {  # class -> words
    "published": "as published",
    "ours": "ours",
    "unknown": "unknown",
    "other": "other model",
}
BADGE = re.compile(r'<span class="stands (\w+)">\*\*([\w ]+)\*\*</span>')


def text(page: str) -> str:
    return (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")


# The paper itself, the data and the scorecard have columns of their own for this.
METHODS = {
    page
    for pages in strip.way(ROOT).values()
    for page in pages
    if page not in ("paper", "data", "scorecard") and "| Paper section | none" not in text(page)
}


@pytest.mark.parametrize("page", sorted(METHODS))
def test_steps_of_the_paper_carry_a_badge_below_their_heading(page):
    sections = re.split(r"^## ", text(page), flags=re.M)[1:]
    heads = [section.split("\n", 2)[2].partition("\n\n")[0] for section in sections]
    badged = [head for head in heads if 'class="stands' in head]
    assert len(badged) >= 2
    for head in badged:
        assert not BADGE.sub("", head).strip(), "a line of its own"
    assert text(page).count('class="stands ') == sum(len(BADGE.findall(head)) for head in badged)


def test_badges_are_four_and_the_map_of_the_paper_explains_them():
    used = {found for page in METHODS for found in BADGE.findall(text(page))}
    assert used == set(BADGES.items()) == set(BADGE.findall(text("paper")))
    style = (ROOT / "book" / "_static" / "rs5m.css").read_text(encoding="utf-8")
    assert all(f"span.stands.{kind}" in style for kind in BADGES if kind != "ours")


def test_every_chapter_with_an_unknown_is_in_the_list_of_unknowns():
    listed = text("paper").partition("## What is not known\n")[2].partition("\n## ")[0]
    for page in METHODS:
        if "stands unknown" in text(page):
            assert f"[]({page}.md)" in listed, page


@pytest.mark.parametrize("page", notebooks.toc(ROOT))
def test_every_exercise_is_followed_by_a_folded_solution(page):
    found = re.findall(r"^```\{exercise\}.*?^```\n(.*?)(?=^```|^## |\Z)", text(page), re.M | re.S)
    for after in found:
        assert re.fullmatch(r"\n:::\{dropdown\} Solution\n(?:.+\n)+:::\n\s*", after), after
    assert text(page).count("{dropdown} Solution") == len(found)


@pytest.mark.parametrize("page", sorted(METHODS))
def test_what_only_sets_up_is_behind_a_toggle(page):
    head = notebooks.code_cells(notebooks.read(ROOT, page))[:3]
    hidden = [chapter.behind_a_toggle(cell) for cell in head]
    assert not hidden[0] and any(hidden), "the scale is shown, the imports are not"


@pytest.mark.parametrize(
    ("code", "tags", "hidden"),
    [
        ("import peft\n\nlayer = peft.LoraConfig()", [], False),
        ("import peft\n\nplots.theme()", [], True),
        ("plots.theme()\nplots.bars(x)", [], False),
        ("if x:\n    results.glue('x', x)", [], True),
        ("x = 1\npaper.show([x], scale)", [], True),
        ("results.glue('x', x)", ["remove-cell"], False),
        ("\n".join(["rows += [1]"] * 8), [], False),
        ("\n".join(["rows += [1]"] * 9), [], True),
        ("\n".join(["assert x"] * 9), [], False),
        ("def f(x):\n" + "\n".join(["    x += 1"] * 9), [], False),
    ],
)
def test_code_that_teaches_is_shown(code, tags, hidden):
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": tags})
    assert chapter.behind_a_toggle(cell) == hidden
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": "x"})]
    assert chapter.behind_a_toggle(cell) == (not tags)


def rows(html: str) -> list[list[str]]:
    """The cells of each row, with a hash before those that are headers."""
    parts = re.findall(r"<tr.*?</tr>", tables.tidy(html), re.S)
    cells = (re.findall(r"<(t[hd])[^>]*>(.*?)</", part, re.S) for part in parts)
    return [["#" * (tag == "th") + text.strip() for tag, text in row] for row in cells]


def test_the_index_is_named_in_the_row_of_the_columns():
    frame = pd.DataFrame({"a": [1], "b": [2]}, index=pd.Index(["x"], name="what"))
    for shown in (frame, frame.style, frame.rename_axis(columns="step")):
        assert rows(shown._repr_html_()) == [["#what", "#a", "#b"], ["#x", "1", "2"]]
    unnamed = frame.rename_axis(None)
    assert rows(unnamed._repr_html_()) == [["", "#a", "#b"], ["#x", "1", "2"]]
    two = pd.concat({"x": unnamed}, axis=1)
    assert len(rows(two._repr_html_())) == 3, "columns of two levels keep both"
    named = pd.concat({"x": frame}, axis=1).rename_axis(columns=["of", "step"])
    assert rows(named._repr_html_())[1:] == [["#what", "#a", "#b"], ["#x", "1", "2"]]


def test_an_index_of_numbers_without_a_name_is_left_out_and_any_other_kept():
    frame = pd.DataFrame({"a": ["x", "y"]})
    for numbers in ([0, 1], [7132, 4]):
        assert rows(frame.set_axis(numbers)._repr_html_()) == [["#a"], ["x"], ["y"]]
    for name in ([0.5, 2], [-1, 2], ["k", 2]):
        assert rows(frame.set_axis(name)._repr_html_())[1] == [f"#{name[0]}", "x"]
    assert rows(frame.rename_axis("epoch")._repr_html_())[1] == ["#0", "x"]
    two = frame.set_axis(pd.MultiIndex.from_tuples([(1, 2), (1, 3)]))
    assert rows(two._repr_html_())[1:] == [["#1", "#2", "x"], ["#3", "y"]]


@pytest.mark.parametrize(("columns", "between"), [(7, "\u00a0"), (8, " ")])
def test_an_interval_stays_on_one_line_where_there_is_room(columns, between):
    frame = pd.DataFrame([["+5.1 [+2.8, +7.4]"] * columns])
    assert f"+5.1 [+2.8,{between}+7.4]" in tables.tidy(frame.to_html(index=False))


def test_a_table_of_verdicts_can_be_cards():
    why = "the paper gives no number for it"
    frame = pd.DataFrame({"what": ["a", "b"], "verdict": ["yes", "no"], "reason": [why, why]})
    said = tables.tidy(frame.to_html(index=False))
    assert 'class="dataframe cards"' in said and '<td data-label="verdict">no</td>' in said
    assert said.count('data-label="reason for all"') == 1 and "rowspan" in said
    assert "cards" in tables.tidy(frame.rename(columns={"verdict": "outcome"}).to_html(index=False))
    assert "cards" not in tables.tidy(frame.drop(columns="verdict").to_html(index=False))
    spanned = frame.set_index(["reason", "what"]).to_html()
    assert "cards" not in tables.tidy(spanned)


def test_what_every_row_repeats_is_said_once_and_an_empty_column_left_out():
    why = "the paper gives no number for it"
    frame = pd.DataFrame({"claim": ["", ""], "what": ["a", "b"], "reason": [why, why]})
    html = frame.to_html(index=False)
    assert rows(html) == [["#what", "#reason"], ["a", why], ["b"]]
    assert 'rowspan="2"' in tables.tidy(html)
    other = frame.assign(claim=["ZSC", ""], reason=[why, "other images than the paper's"])
    assert rows(other.to_html(index=False))[2] == ["", "b", "other images than the paper's"]
    assert rows(frame[["what"]].assign(b="yes").to_html(index=False))[2] == ["b", "yes"]


def test_a_sentence_in_a_cell_is_marked_so_that_a_telephone_gives_it_room():
    frame = pd.DataFrame({"a": ["x" * 30, "x" * 31]})
    assert tables.tidy(frame.to_html(index=False)).count('class="long"') == 1


@pytest.mark.parametrize(("columns", "named"), [(7, "dataframe"), (8, "dataframe wide")])
def test_a_table_of_many_columns_is_set_narrow(columns, named):
    frame = pd.DataFrame([range(columns)])
    assert f'class="{named}"' in tables.tidy(frame.to_html(index=False))


def test_cells_are_in_words_and_counts_whole():
    frame = pd.DataFrame({"worst_case": [5504.0, np.nan], "rate": [1.0, 2.5]}, index=["a_b", "c_1"])
    frame["found"], frame["year"], frame["of"] = [True, False], [2019, 2020], [1005, 2100]
    assert rows(frame._repr_html_()) == [
        ["", "#worst case", "#rate", "#found", "#year", "#of"],
        ["#a b", "5,504", "1.0", "yes", "2019", "1,005"],
        ["#c_1", "—", "2.5", "no", "2020", "2,100"],
    ]
    assert rows(frame.set_index("found").to_html())[1][0] == "#yes"
    assert rows(frame.rename({"c_1": "http_404"}).to_html())[2][0] == "#http 404"
    links = '<table class="dataframe"><tr><td><a href="x">a_b &amp; NaN</a></td></tr></table>'
    assert 'href="x">a_b &amp; NaN</a>' in tables.tidy(links)
    for other in ("<table><tr><td><br></table>", '<table class="findings"><tr></tr></table>'):
        assert tables.tidy(other) == other


def test_a_notebook_for_colab_folds_it_too():
    class Book:
        said, labels, source, title, complete = {}, {}, {}, {}, True

    folded = myst.Page(Book(), "page").markdown(":::{dropdown} Solution\n*Why* not.\n:::\n")
    assert folded == "<details><summary>Solution</summary>\n\n*Why* not.\n\n</details>"
