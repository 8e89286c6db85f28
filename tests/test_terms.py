"""Words of the glossary on the other pages: marked once, in running prose alone."""

import re
from pathlib import Path

import pytest
import terms

ROOT = Path(__file__).parents[1]
GLOSSARY = """# Words

```{glossary}
chip
  A *small* square of [a map](data.md) {cite:p}`x2024`. More of it.

chip map, plate carrée
  A map with "quotes".
```
"""


@pytest.fixture
def mark(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "glossary.md").write_text(GLOSSARY, encoding="utf-8")
    return terms.marker(tmp_path)


def test_the_first_mention_alone_is_marked_and_says_the_first_sentence(mark):
    link = '<a class="term" href="glossary.html#term-chip" title="A small square of a map.">{}</a>'
    assert mark("Two chips, one chip.") == f"Two {link.format('chips')}, one chip."
    assert mark("A chip in a later cell.") == "A chip in a later cell."


def test_the_longest_name_wins_and_quotes_stay_inside(mark):
    said = mark("A chip map and a plate carrée.")
    assert said.count("<a ") == 1, "two names of one entry"
    assert (
        '#term-chip-map-plate-carree" title="A map with &quot;quotes&quot;.">chip map</a>' in said
    )


@pytest.mark.parametrize(
    "text",
    [
        "# A chip",
        "`chip` and ``a chip``",
        "$chip$ and\n\n$$\nchip\n$$",
        "[a chip](chip.md), ![chip](chip.png), {cite:p}`chip`, {glue:text}`chip:.1f`",
        "| chip | x |",
        "```python\nchip\n```",
        ":::{dropdown} Solution\nA chip.\n:::",
        "```{exercise}\n:label: chip\nA chip.\n```",
        "<b title='chip'>",
        "chipped microchip",
    ],
)
def test_what_is_no_running_prose_stays_as_it_is(mark, text):
    assert mark(text) == text


def test_a_book_without_a_glossary_stays_as_it_is(tmp_path):
    assert terms.marker(tmp_path)("A chip.") == "A chip."


def test_every_entry_of_the_glossary_has_a_sentence():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    found = terms.terms(text)
    entries = re.findall(r"^\S.*(?=\n  \S)", text.partition("{glossary}")[2], re.M)
    assert len(entries) > 30
    assert {entry.partition(", ")[0] for entry in entries} <= found.keys() | terms.COMMON
    assert all(re.fullmatch(r"[^`{}\[\]]+\.", sentence) for _, sentence in found.values())
