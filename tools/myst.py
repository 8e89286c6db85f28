"""MyST Markdown of a chapter -> the plain Markdown that Colab shows.

Directives become quotes and headings, roles become text and links. An unknown one is an error,
never raw text.
"""

import re
from pathlib import Path
from posixpath import normpath

import nbformat
import yaml

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,}|:{3,})(.*)$")
TARGET = re.compile(r"^\(([\w:.-]+)\)=\s*$")
DIRECTIVE = re.compile(r"^\{([\w:-]+)\}\s*(.*?)\s*$")
INLINE = re.compile(
    r"\{(?P<role>[a-zA-Z:_-]+)\}(?P<rt>`+)(?P<content>.+?)(?P=rt)"
    r"|(?P<ct>`+).+?(?P=ct)(?!`)"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<image>[^)\s]+)\)"
    r"|(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\)",
    re.DOTALL,
)
QUOTES = {
    "note",
    "tip",
    "warning",
    "important",
    "caution",
    "hint",
    "attention",
    "danger",
    "error",
    "seealso",
    "admonition",
    "dropdown",
    "margin",
    "sidebar",
    "epigraph",
    "topic",
}
BOXES = {"grid", "grid-item", "grid-item-card", "card", "tab-set", "tab-item", "div", "container"}
SILENT = {"tableofcontents", "toctree", "contents", "exercise-end", "solution-end"}


def title(notebook: nbformat.NotebookNode) -> str:
    found = re.search(
        r"^# (.+)$", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"), re.M
    )
    return found[1].strip() if found else "this page"


def citations(path: Path) -> dict[str, tuple[str, str, str]]:
    """key -> (authors, year, address or "") of a BibTeX file; none without the file."""
    if not path.exists():
        return {}
    from pybtex.database import parse_file

    return {key: cited(entry) for key, entry in parse_file(str(path)).entries.items()}


def cited(entry) -> tuple[str, str, str]:
    names = [
        " ".join(p.prelast_names + p.last_names).strip("{}")
        for p in entry.persons.get("author", [])
    ]
    who = (
        f"{names[0]} et al."
        if len(names) > 2
        else " and ".join(names) or entry.fields.get("title", entry.key)
    )
    field = entry.fields
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
        """The next "Figure 2", "Exercise 1" ... of this page, remembered under its label."""
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
        return f"**{self.number('Figure', figure.get('name', ''))}.** {self.inline(figure['caption'].strip())}"

    def markdown(self, text: str) -> str:
        """Plain Markdown for a cell (or the body of a directive) of MyST."""
        out, prose, lines = [], [], text.splitlines()
        position = 0
        while position < len(lines):
            fence = FENCE.match(lines[position])
            if not fence:
                prose.append(lines[position])
                position += 1
                continue
            closing = re.compile(rf"^\s*{fence[2][0]}{{{len(fence[2])},}}\s*$")
            inside = position + 1
            end = next(
                (n for n in range(inside, len(lines)) if closing.match(lines[n])), len(lines)
            )
            out += self.prose(prose)
            out += [
                fence[1] + line if line else line for line in self.fenced(fence, lines[inside:end])
            ]
            prose, position = [], end + 1
        return "\n".join(out + self.prose(prose)).strip("\n")

    def prose(self, lines: list[str]) -> list[str]:
        for target, following in zip(lines, lines[1:], strict=False):
            if label := TARGET.match(target):
                heading = (
                    following.lstrip("# ")
                    if following.startswith("#")
                    else self.book.title[self.page]
                )
                self.labels[label[1]] = heading
        kept = [line for line in lines if not TARGET.match(line) and not line.startswith("%")]
        # a role never spans a blank line, so a stray backtick cannot swallow the page
        return (
            "\n\n".join(self.inline(part) for part in "\n".join(kept).split("\n\n")).split("\n")
            if kept
            else []
        )

    def fenced(self, fence: re.Match, body: list[str]) -> list[str]:
        body = [line.removeprefix(fence[1]) for line in body]
        directive = DIRECTIVE.match(fence[3])
        if not directive:
            return [fence[2] + fence[3], *body, fence[2]]
        name, argument = directive.groups()
        options, body = split_options(body)
        return self.directive(name, argument, options, "\n".join(body)).split("\n")

    def directive(self, name: str, argument: str, options: dict, body: str) -> str:
        label = options.get("name") or options.get("label") or ""
        if name in SILENT:
            return ""
        if name in QUOTES:
            given = (
                argument
                if argument
                else ""
                if name in ("margin", "sidebar", "epigraph")
                else name.capitalize()
            )
            heading = [f"**{self.inline(given)}**"] if given else []
            return quote("\n\n".join([*heading, self.markdown(body)]))
        if name in BOXES:
            heading = [f"**{self.inline(argument)}**"] if argument and name != "grid" else []
            return "\n\n".join([*heading, self.markdown(body)])
        if name in ("exercise", "exercise-start"):
            given = f" ({self.inline(argument)})" if argument else ""
            return "\n\n".join(
                [f"**{self.number('Exercise', label)}{given}**", self.markdown(body)]
            ).strip("\n")
        if name in ("solution", "solution-start"):
            return f"**Solution to {self.label(argument)}**\n\n{self.markdown(body)}"
        if name in ("figure", "image"):
            caption = (
                f"\n\n**{self.number('Figure', label)}.** {self.markdown(body)}"
                if body.strip()
                else ""
            )
            return f"![{options.get('alt', '')}]({self.raw(argument)}){caption}"
        if name == "table":
            return f"**{self.number('Table', label)}.** {self.inline(argument)}\n\n{self.markdown(body)}"
        if name == "math":
            self.number("Equation", label)
            return f"$$\n{(argument + chr(10) + body).strip()}\n$$"
        if name in ("code-block", "code", "sourcecode"):
            return f"```{argument}\n{body}\n```"
        if name.split(":")[0] == "glue":
            return f"`{argument.split('::')[-1]}`"
        if name == "bibliography":
            return f"The references are listed in [the book's sources]({self.book.address(self.page)})."
        return self.unknown("directive", name, body)

    def inline(self, text: str) -> str:
        return INLINE.sub(self.one, text)

    def one(self, match: re.Match) -> str:
        """One role, image or link as plain Markdown; code spans stay as they are."""
        if match["role"]:
            return self.role(match["role"], " ".join(match["content"].split()))
        if match["image"]:
            return f"![{match['alt']}]({self.raw(match['image'])})"
        if match["target"]:
            return self.link(match["text"], match["target"])
        return match[0]

    def role(self, name: str, content: str) -> str:
        kind = name.split(":")[0]
        if kind == "cite":
            return self.cite(name, content)
        if kind == "glue":
            return f"`{content.split('::')[-1].split(':')[0]}`"
        shown = re.fullmatch(r"(.*?)\s*<(.+)>", content)
        text, target = (shown[1], shown[2]) if shown else ("", content)
        if name == "doc":
            return self.link(text, f"{target.removesuffix('.md')}.md")
        if name in ("ref", "numref", "eq"):
            stands = self.label(target)
            text = text.replace("%s", stands.rpartition(" ")[2]).replace("{name}", stands)
            return self.link(text, f"#{target}")
        plain = {
            "math": "${}$",
            "code": "`{}`",
            "kbd": "`{}`",
            "sub": "<sub>{}</sub>",
            "sup": "<sup>{}</sup>",
        }
        if name in plain:
            return plain[name].format(content)
        if name in ("term", "abbr", "download", "index"):
            return text or target
        return self.unknown("role", name, content)

    def unknown(self, kind: str, name: str, content: str) -> str:
        """Fine on a page of prose alone, which gets no notebook: its labels are collected, its text
        is not used.
        """
        if self.book.complete:
            raise SystemExit(
                f"book/{self.page}.md: tools/myst.py cannot turn the {kind} {{{name}}} into Markdown"
            )
        return content

    def cite(self, name: str, keys: str) -> str:
        shown = []
        for key in keys.replace(" ", "").split(","):
            if key not in self.book.cited and self.book.complete:
                raise SystemExit(
                    f"book/{self.page}.md cites {key}, which book/references.bib does not hold"
                )
            who, year, address = self.book.cited.get(key, (key, "", ""))
            text = f"{who} ({year})" if name.startswith("cite:t") else f"{who}, {year}"
            shown.append(f"[{text}]({address})" if address else text)
        return ", ".join(shown) if name.startswith("cite:t") else f"({'; '.join(shown)})"

    def label(self, label: str) -> str:
        """The text that stands for a label; itself while the book is still collecting them."""
        if label not in self.book.labels and self.book.complete:
            raise SystemExit(
                f"book/{self.page}.md refers to {label}, a label that no page in _toc.yml defines"
            )
        return self.book.labels.get(label, (self.page, label))[1]

    def link(self, text: str, target: str) -> str:
        """A link of the book as one that works outside it; the text defaults to what it points to."""
        text = self.inline(text)
        page, _, anchor = target.partition("#")
        if target.startswith("#") and anchor in self.book.labels:
            home, default = self.book.labels[anchor]
            text = text or default
            return text if home == self.page else f"[{text}]({self.book.address(home)})"
        if page.removesuffix(".md") in self.book.source:
            page = page.removesuffix(".md")
            return f"[{text or self.book.title[page]}]({self.book.address(page)})"
        if re.match(r"[a-z]+:|#", target):
            return f"[{text}]({target})"
        return f"[{text or target}]({self.book.url}/blob/{self.book.branch}/{normpath(f'book/{target}')})"

    def raw(self, path: str) -> str:
        return (
            path
            if ":" in path
            else f"{self.book.url}/raw/{self.book.branch}/{normpath(f'book/{path}')}"
        )


def split_options(body: list[str]) -> tuple[dict, list[str]]:
    """The options of a directive (`:key: value` lines or a YAML block) and what follows them."""
    if body and body[0].strip() == "---":
        end = next((n for n in range(1, len(body)) if body[n].strip() == "---"), len(body))
        return yaml.safe_load("\n".join(body[1:end])) or {}, body[end + 1 :]
    size = next((n for n, line in enumerate(body) if not re.match(r":[\w-]+:", line)), len(body))
    options = (re.match(r":([\w-]+):\s*(.*)", line).groups() for line in body[:size])
    return dict(options), body[size:]


def quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
