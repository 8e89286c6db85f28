"""A strip for the head of every page: where it stands on the way from the web to the score.

Made from _toc.yml alone, when the book is rendered: its numbered parts are the way. The siblings
for Colab carry none.
"""

import html
import re
from pathlib import Path

import nbformat
import yaml

NAMES = {  # in the strip; any other page goes by the name of its file
    "paper": "the paper",
    "pub11": "PUB11",
    "rs3": "RS3",
    "clip": "CLIP",
    "zeroshot": "zero-shot",
    "selo": "localization",
    "scorecard": "score",
}
LABEL = "The way from the web to the score"
TITLE = re.compile(r"^# .+$", re.M)


def way(root: Path) -> dict[str, list[str]]:
    """Caption of each numbered part of `_toc.yml` -> its pages; without parts, all its chapters."""
    tree = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in tree.get("parts", []) if part.get("numbered")] or [tree]
    chapters = (part.get("chapters", []) for part in parts)
    captions = (part.get("caption", LABEL) for part in parts)
    return {
        caption: [page["file"] for page in of]
        for caption, of in zip(captions, chapters, strict=True)
    }


def strip(root: Path, page: str, titles: dict[str, str]) -> str:
    """HTML, one line without blank ones, so that Markdown leaves it as it is.

    Args:
        root: of the project.
        page: where it will stand.
        titles: page -> its heading, shown where the pointer rests.
    """

    def link(other: str) -> str:
        here = ' aria-current="page"' if other == page else ""
        title, name = html.escape(titles.get(other, other)), NAMES.get(other, other)
        return f'<li><a href="{other}.html" title="{title}"{here}>{html.escape(name)}</a></li>'

    stages = (
        f'<li><ol aria-label="{html.escape(caption)}">{"".join(map(link, pages))}</ol></li>'
        for caption, pages in way(root).items()
    )
    return f'<nav class="way" aria-label="{LABEL}"><ol>{"".join(stages)}</ol></nav>'


def below_title(text: str, line: str) -> str:
    """`text` with an HTML line of its own below its first topmost heading; the same without one."""
    heading = TITLE.search(text)
    if not heading:
        return text
    return f"{text[: heading.end()]}\n\n{line}{text[heading.end() :]}"


def moved_back(text: str, number: int) -> int:
    """Number of a line in `text` that has this number after `below_title`, two lines more."""
    heading = TITLE.search(text)
    below = heading and number > text[: heading.end()].count("\n") + 1
    return number - 2 if below else number


def titled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """The first text cell of a notebook with a topmost heading: the strip stands there."""
    texts = (cell for cell in notebook.cells if cell.cell_type == "markdown")
    return next((cell for cell in texts if TITLE.search(cell.source)), None)
