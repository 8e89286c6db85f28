"""Colab siblings of the chapters: book/*.md (MyST) -> book/*.ipynb, without outputs and without
MyST.

    python tools/notebooks.py            write the siblings of the chapters in _toc.yml
    python tools/notebooks.py --check    change nothing, fail when a sibling is out of date

Colab shows plain Markdown only, so directives become quotes and headings, roles become text and
links.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import jupytext
import myst
import nbformat
import yaml

ROOT = Path(__file__).parents[1]
CURE = "make notebooks"
COLAB = "https://colab.research.google.com"
SETUP = """# @title Set-up on Colab {{ display-mode: "form" }}
import sys

if "google.colab" in sys.modules:
    %pip install -q "rs5m @ git+{url}"
"""


def toc(root: Path) -> list[str]:
    """The pages of `_toc.yml` in its order, the root page first; an error names a page without a
    source.
    """
    tree = yaml.safe_load((root / "_toc.yml").read_text())
    parts = tree.get("parts") or [tree]
    pages = [tree["root"]] + [page["file"] for part in parts for page in part.get("chapters", [])]
    for page in pages:
        if not (root / "book" / f"{page}.md").exists():
            cure = "write it or drop the line"
            raise SystemExit(f"_toc.yml names {page}, but book/{page}.md does not exist: {cure}")
    return pages


def read(root: Path, page: str) -> nbformat.NotebookNode:
    """The source of a page as a notebook; a page of prose alone has no code cells."""
    return jupytext.reads((root / "book" / f"{page}.md").read_text(encoding="utf-8"), fmt="md:myst")


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def titles(root: Path, pages: Iterable[str]) -> dict[str, str]:
    """page -> its topmost heading."""
    return {page: myst.title(read(root, page)) for page in pages}


def repository(root: Path) -> tuple[str, str]:
    """(url, branch) from `_config.yml`, the only place that names the repository."""
    settings = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    return settings["url"].rstrip("/"), settings.get("branch", "main")


class Book:
    """What a chapter's references can point to: titles, labels, citations."""

    def __init__(self, root: Path):
        self.url, self.branch = repository(root)
        self.source = {page: read(root, page) for page in toc(root)}
        self.title = {page: myst.title(notebook) for page, notebook in self.source.items()}
        self.cited = myst.citations(root / "book" / "references.bib")
        said = root / "book" / "said.json"  # by tools/said.py
        self.said = json.loads(said.read_text(encoding="utf-8")) if said.exists() else {}
        self.labels, self.complete = {}, False
        found = [(page, self.collect(page).items()) for page in self.source]
        self.labels = {label: (page, text) for page, items in found for label, text in items}
        self.complete = True

    def collect(self, page: str) -> dict[str, str]:
        """A first pass over a page: its labels and the text that stands for each."""
        convert = myst.Page(self, page)
        for cell in self.source[page].cells:
            convert.cell(cell)
        return convert.labels

    def address(self, page: str) -> str:
        """Where a notebook's reader goes for another page: its notebook on Colab, or its source."""
        place = f"{self.url}/blob/{self.branch}/book/{page}"
        if not code_cells(self.source[page]):
            return f"{place}.md"
        return f"{place}.ipynb".replace("https://github.com", f"{COLAB}/github")


def sibling(book: Book, page: str) -> str:
    """The Colab notebook of a page, as the bytes its .ipynb should hold."""
    convert = myst.Page(book, page)
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({book.address(page)})"
    setup = nbformat.v4.new_code_cell(SETUP.format(url=book.url).strip())
    setup.metadata = {"cellView": "form", "tags": ["hide-cell"]}
    if page in book.said:
        badge += "\n\nThe numbers in the text are those of the stored run at scale `mini`."
    cells = [nbformat.v4.new_markdown_cell(badge), setup]
    for cell in book.source[page].cells:
        if cell.cell_type == "code":
            cells.append(nbformat.v4.new_code_cell(cell.source, metadata=cell.metadata))
        if text := convert.cell(cell):
            cells.append(nbformat.v4.new_markdown_cell(text))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    name_cells(notebook)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1, sort_keys=True) + "\n"


def name_cells(notebook: nbformat.NotebookNode) -> None:
    """Ids from the content, so that the same source gives the same bytes and an edit changes one
    cell's id.
    """
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        seen[cell.source] = seen.get(cell.source, -1) + 1
        cell.id = hashlib.sha256(f"{seen[cell.source]}{cell.source}".encode()).hexdigest()[:12]


def stale(root: Path) -> dict[str, str]:
    """path below the root -> text it should hold, for every sibling that differs; "" for one that
    should not exist.
    """
    book = Book(root)
    pages = [page for page in book.source if code_cells(book.source[page])]
    wanted = {f"book/{page}.ipynb": sibling(book, page) for page in pages}
    extra = {f"book/{path.name}": "" for path in (root / "book").glob("*.ipynb")}
    there = [path for path in wanted if (root / path).exists()]
    held = {path: (root / path).read_text(encoding="utf-8") for path in there}
    return {path: text for path, text in (extra | wanted).items() if held.get(path) != text}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of _toc.yml")
    options = parser.parse_args(arguments)
    found = stale(options.root)
    if options.check and found:
        cure = f"run `{CURE}` and commit the result"
        raise SystemExit(f"{', '.join(found)}: not what the .md source gives; {cure}")
    for path, text in found.items():
        file = options.root / path
        file.write_text(text, encoding="utf-8") if text else file.unlink()
        print(f"{path}  {'written' if text else 'removed'}")


if __name__ == "__main__":
    main()
