"""A page that shows a person what a run kept and dropped: tables and thumbnails in one HTML file.

The page asks nobody for anything and runs nothing: pictures are data in it, and whatever comes from
the web is escaped. Same samples, same bytes. Chapter: pub11.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pandas as pd
from PIL import Image

from rs5m import files

EACH = 40  # samples of a group
SIDE, QUALITY = 112, 70  # of a thumbnail: its long side in pixels, JPEG's quality; about 4 kB
LONGEST = 240  # characters of a caption or an address that are shown
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 78rem;
  color: CanvasText; background: Canvas }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
h2 small { font-weight: normal; opacity: .75 }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1rem }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #8885; text-align: left;
  white-space: nowrap }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)) }
ul.words { grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }
li { font-size: .75rem; line-height: 1.3; overflow: hidden; overflow-wrap: anywhere }
li img, .none { display: block; height: 112px; max-width: 100%; margin-bottom: .2rem }
.none { background: #8882; width: 112px; line-height: 112px; text-align: center }
.from, .facts { opacity: .75 } a { color: inherit }
p.caption { margin: 0 } p.from, p.facts { margin: .1rem 0 0 }
""".strip()
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Card(NamedTuple):
    """One sample: its picture (`thumbnail`), its caption, where it comes from, and facts of it."""

    picture: str | None
    caption: str
    source: str
    facts: str = ""


class Group(NamedTuple):
    """Samples with one fate: a title, how many there are in all, and the cards shown."""

    title: str
    count: int
    cards: list[Card]


def sample(names: Sequence[object], count: int = EACH) -> list[int]:
    """The places of `count` names in order, drawn by a hash of each: the same in every run."""

    def order(place: int) -> bytes:
        name = str(names[place]).encode("utf-8", "surrogatepass")
        return hashlib.sha256(name).digest()

    return sorted(sorted(range(len(names)), key=order)[:count])


def thumbnail(image: Image.Image) -> str:
    """An RGB picture as the address of a small JPEG that holds its own bytes."""
    small, stream = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def write(
    path: Path,
    title: str,
    lead: str,
    tables: Iterable[tuple[str, pd.DataFrame]],
    groups: Iterable[Group],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the page.
        title: its heading.
        lead: the sentences below.
        tables: headings and tables, before the samples.
        groups: the samples, in the order of the page.
    """
    parts = [_table(heading, table) for heading, table in tables]
    parts += [_group(group) for group in groups]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n<p>{_text(lead, None)}</p>\n{''.join(parts)}</body>\n</html>\n"
    )
    with files.whole(path) as temporary:
        temporary.write_bytes(page.encode())


def _text(value: object, longest: int | None = LONGEST) -> str:
    """Escaped text of one line: control characters and halves of surrogate pairs are replaced."""
    text = str(value).encode("utf-8", "replace").decode()
    text = "".join(c if c.isprintable() else " " for c in text[: longest and longest + 1])
    return escape(text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…")


def _table(heading: str, table: pd.DataFrame) -> str:
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    head = _row("th", [name.replace("_", " ") for name in map(str, table.columns)], numeric)
    body = [_row("td", row, numeric) for row in table.itertuples(index=False)]
    rows = "\n".join([head, *body])
    return f'<h2>{_text(heading)}</h2>\n<div class="wide"><table>\n{rows}\n</table></div>\n'


def _row(tag: str, cells: Iterable, numeric: Sequence[bool]) -> str:
    said = [_text(f"{cell:,}" if isinstance(cell, int) else cell) for cell in cells]
    kinds = [' class="number"' if number else "" for number in numeric]
    return f"<tr>{''.join(f'<{tag}{k}>{s}</{tag}>' for k, s in zip(kinds, said, strict=True))}</tr>"


def _group(group: Group) -> str:
    shown = f"{len(group.cards):,} of {group.count:,}"
    seen = any(card.picture for card in group.cards)
    cards = "\n".join(_card(card, seen) for card in group.cards)
    kind = "" if seen else ' class="words"'
    heading = f"<h2>{_text(group.title)} <small>{shown}</small></h2>"
    return f"{heading}\n<ul{kind}>\n{cards}\n</ul>\n"


def _card(card: Card, seen: bool) -> str:
    picture = '<span class="none">no picture</span>' if seen else ""
    if card.picture:
        picture = f'<img src="{escape(card.picture)}" alt="">'
    facts = f'<p class="facts">{_text(card.facts)}</p>' if card.facts else ""
    return (
        f'<li>{picture}<p class="caption">{_text(card.caption)}</p>'
        f'<p class="from">{_linked(card.source)}</p>{facts}</li>'
    )


def _linked(source: str) -> str:
    """Text that shows the host alone of a web address, and leads there; other text as it is."""
    try:
        parts = urlsplit(source)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host or not source.isprintable() or len(source) > 2000:
        return _text(source)
    return f'<a href="{escape(source)}" rel="noreferrer noopener nofollow">{_text(host)}</a>'
