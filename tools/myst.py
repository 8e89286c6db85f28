"""MyST Markdown of a chapter -> the plain Markdown that Colab shows.

The directives exercise, note, tip, warning and bibliography become quotes and headings, a dropdown
folds, the roles cite, glue, ref and numref become text and links. Any other is an error, never raw
text.
"""

import ast
import re
from pathlib import Path
from posixpath import normpath

import nbformat

FENCE = re.compile(r"^(`{3,}|:{3,})(.*)\n((?:.*\n)*?)\1[ ]*(?:\n|\Z)", re.M)
DIRECTIVE = re.compile(r"\{([\w:-]+)\} *(.*)")
OPTIONS = re.compile(r"\A(?::\w+:.*\n)+")
TARGET = re.compile(r"^\(([\w:.-]+)\)=\n(#+ )?(.*)", re.M)
INLINE = re.compile(
    r"\{(?P<role>[a-z:]+)\}`(?P<content>[^`]+)`"
    r"|(?P<tick>`+).+?(?P=tick)(?!`)"
    r"|(?P<bang>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\)",
    re.DOTALL,
)
QUOTES = ("note", "tip", "warning")


def title(notebook: nbformat.NotebookNode) -> str:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (.+)$", text, re.M)
    return heading[1].strip() if heading else "this page"


def citations(path: Path) -> dict[str, tuple[str, str, str]]:
    """key -> (authors, year, address or "") of a BibTeX file; none without the file."""
    if not path.exists():
        return {}
    from pybtex.database import parse_file

    return {key: cited(entry) for key, entry in parse_file(str(path)).entries.items()}


def cited(entry) -> tuple[str, str, str]:
    field, authors = entry.fields, entry.persons.get("author", [])
    names = [" ".join(p.prelast_names + p.last_names).strip("{}") for p in authors]
    who = " and ".join(names) or field.get("title", entry.key)
    if len(names) > 2:
        who = f"{names[0]} et al."
    address = f"https://doi.org/{field['doi']}" if "doi" in field else field.get("url", "")
    if not address and "eprint" in field:
        address = f"https://arxiv.org/abs/{field['eprint']}"
    return who, field.get("year", ""), address


class Page:
    """Converts one page of a book (notebooks.Book), cell by cell, and learns its labels and numbers
    on the way.
    """

    def __init__(self, book, page: str):
        self.book, self.page = book, page
        self.count: dict[str, int] = {}
        self.labels: dict[str, str] = {}

    def number(self, kind: str, label: str = "") -> str:
        """The next "Figure 2" or "Exercise 1" of this page, remembered under its label."""
        self.count[kind] = self.count.get(kind, 0) + 1
        self.labels[label] = f"{kind} {self.count[kind]}"
        return self.labels[label]

    def cell(self, cell: nbformat.NotebookNode) -> str:
        """The Markdown a cell becomes: all of a text cell, the caption of a figure that a code cell
        draws.
        """
        if cell.cell_type == "markdown":
            return self.markdown(cell.source)
        figure = cell.metadata.get("mystnb", {}).get("figure") or {}
        if not figure.get("caption"):
            return ""
        number = self.number("Figure", figure.get("name", ""))
        return f"**{number}.** {self.inline(figure['caption'].strip())}"

    def markdown(self, text: str) -> str:
        """Plain Markdown for a cell, or the body of a directive, of MyST."""
        parts, position = [], 0
        for fence in FENCE.finditer(text):
            directive = DIRECTIVE.fullmatch(fence[2].strip())
            block = self.directive(*directive.groups(), fence[3]) + "\n" if directive else fence[0]
            parts += [self.prose(text[position : fence.start()]), block]
            position = fence.end()
        return "".join([*parts, self.prose(text[position:])]).strip("\n")

    def prose(self, text: str) -> str:
        for label, hashes, line in TARGET.findall(text):
            self.labels[label] = line if hashes else self.book.title[self.page]
        text = re.sub(r"^\([\w:.-]+\)=\n", "", text, flags=re.M)
        # a role never spans a blank line, so a stray backtick cannot swallow the page
        return "\n\n".join(self.inline(part) for part in text.split("\n\n"))

    def directive(self, name: str, argument: str, body: str) -> str:
        head = OPTIONS.match(body)
        options = dict(re.findall(r"^:(\w+): *(.*)$", head[0], re.M)) if head else {}
        text = self.markdown(OPTIONS.sub("", body))
        if name == "exercise":
            given = f" ({self.inline(argument)})" if argument else ""
            return f"**{self.number('Exercise', options.get('label', ''))}{given}**\n\n{text}"
        if name == "dropdown":
            summary = f"<summary>{self.inline(argument)}</summary>"
            return f"<details>{summary}\n\n{text}\n\n</details>"
        if name in QUOTES:
            lines = f"**{self.inline(argument) or name.capitalize()}**\n\n{text}".split("\n")
            return "\n".join(f"> {line}".rstrip() for line in lines)
        if name == "bibliography":
            sources = self.book.address(self.page)
            return f"The references are listed in [the book's sources]({sources})."
        return self.unknown("directive", name, text)

    def inline(self, text: str) -> str:
        """Roles and links as plain Markdown; code spans stay as they are."""
        return INLINE.sub(self.one, text)

    def one(self, match: re.Match) -> str:
        if match["target"]:
            return self.link(match["text"], match["target"], match["bang"])
        if not match["role"]:
            return match[0]
        kind, content = match["role"].partition(":")[0], " ".join(match["content"].split())
        if kind == "cite":
            return self.cite(match["role"], content)
        if kind == "glue":
            return self.said(*content.partition(":")[::2])
        if kind in ("ref", "numref"):
            return self.link(self.label(content), f"#{content}")
        return self.unknown("role", match["role"], content)

    def said(self, name: str, form: str) -> str:
        """A number of the prose as the stored run found it, its name where none is stored."""
        stored = self.book.said.get(self.page, {}).get(name)
        return f"`{name}`" if stored is None else format(ast.literal_eval(stored), form)

    def unknown(self, kind: str, name: str, content: str) -> str:
        """Fine on a page of prose alone, which gets no notebook: its labels are collected, its text
        is not used.
        """
        self.need(False, f"has the {kind} {{{name}}}, which tools/myst.py does not know")
        return content

    def need(self, met: bool, said: str) -> None:
        """Stop if something is not there once all labels are collected."""
        if self.book.complete and not met:
            raise SystemExit(f"book/{self.page}.md {said}")

    def cite(self, name: str, keys: str) -> str:
        shown, textual = [], name.startswith("cite:t")
        for key in keys.replace(" ", "").split(","):
            self.need(key in self.book.cited, f"cites {key}, which is not in book/references.bib")
            who, year, address = self.book.cited.get(key, (key, "", ""))
            text = f"{who} ({year})" if textual else f"{who}, {year}"
            shown.append(f"[{text}]({address})" if address else text)
        return ", ".join(shown) if textual else f"({'; '.join(shown)})"

    def label(self, label: str) -> str:
        """The text that stands for a label; itself while the book is still collecting them."""
        known = label in self.book.labels
        self.need(known, f"refers to {label}, a label that no page in _toc.yml defines")
        return self.book.labels.get(label, (self.page, label))[1]

    def link(self, text: str, target: str, bang: str = "") -> str:
        """A link or an image (`bang` is "!") that works outside the book; the text defaults to what
        the link points to.
        """
        text, (page, _, anchor) = self.inline(text), target.partition("#")
        page = page.removesuffix(".md")
        if not page and anchor in self.book.labels:
            home, default = self.book.labels[anchor]
            text = text or default
            return text if home == self.page else f"[{text}]({self.book.address(home)})"
        if page in self.book.source:
            return f"[{text or self.book.title[page]}]({self.book.address(page)})"
        if re.match(r"[a-z]+:|#", target):
            return f"{bang}[{text}]({target})"
        place = f"{'raw' if bang else 'blob'}/{self.book.branch}/{normpath(f'book/{target}')}"
        return f"{bang}[{text or target}]({self.book.url}/{place})"
