"""The first mention of a glossary's term on a page leads to its explanation and shows it where the
pointer rests. Made when the book is rendered; the siblings for Colab have none.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

ENTRY = re.compile(r"^(\S.*)\n((?:  .+\n|\n(?=  ))+)", re.M)
# What is no running prose: blocks, code, formulas, roles, links, tags, headings, rows of tables.
OTHER = (
    r"^(`{3,}|:{3,})[\s\S]*?^\1|\{[a-z:]+\}`[^`]*`|`+[^`]+`+|\$\$[\s\S]*?\$\$|\$[^$]+\$"
    r"|!?\[[^\]]*\](?:\([^)]*\))?|<[^>]+>|^(?:#|\|).*$"
)
COMMON = {"head", "contact"}  # words that pages also use in another sense


def terms(text: str) -> dict[str, tuple[str, str]]:
    """Name -> (anchor, first sentence) of each entry of the Markdown of a page with a glossary."""
    block = re.search(r"^```\{glossary\}\n([\s\S]*?)^```", text, re.M)
    found = {}
    for heading, body in ENTRY.findall(block[1] if block else ""):
        letters = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        anchor = "term-" + re.sub(r"[^A-Za-z0-9]+", "-", letters).strip("-")
        plain = re.sub(r" *\{cite:?\w*\}`[^`]*`|\*", "", " ".join(body.split()))
        sentence = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain).partition(". ")[0]
        found |= {name: (anchor, sentence.rstrip(".") + ".") for name in heading.split(", ")}
    return {name: entry for name, entry in found.items() if name not in COMMON}


def marker(root: Path) -> Callable[[str], str]:
    """A function for the Markdown cells of one page, one after the other, which marks in each the
    terms that no cell before it has; book/glossary.md explains them.
    """
    file = root / "book" / "glossary.md"
    known = terms(file.read_text(encoding="utf-8")) if file.is_file() else {}
    names = sorted(known, key=len, reverse=True)
    pattern = re.compile(rf"{OTHER}|\b(?P<term>{'|'.join(map(re.escape, names))})(?P<s>s?)\b", re.M)
    seen = set()

    def one(match: re.Match) -> str:
        name = match["term"]
        if not name or known[name][0] in seen:
            return match[0]
        anchor, sentence = known[name]
        seen.add(anchor)
        title = html.escape(sentence)
        return f'<a class="term" href="glossary.html#{anchor}" title="{title}">{match[0]}</a>'

    return (lambda text: pattern.sub(one, text)) if known else str
