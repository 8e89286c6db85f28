"""Models side by side: reports of `rs5m evaluate` as one page to sort, and as a table in Markdown.

A number stands with its interval; the best of a column is bold, and so is each one whose interval
reaches the best one's: a sample of other images could turn their order. What its authors printed of
the same weights stands beside it. The page asks nobody for anything. Chapter: zeroshot.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

from rs5m.evaluate import contact, protocols, reporting
from rs5m.evaluate.reporting import SELO
from rs5m.files import whole

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 78rem;
  color: CanvasText; background: Canvas }
h1 { font-size: 1.5rem } .wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8885; text-align: left;
  white-space: nowrap; vertical-align: bottom }
th button { font: inherit; font-weight: 600; border: 0; padding: 0; background: none;
  color: inherit; cursor: pointer; text-align: left; white-space: normal }
th[aria-sort=descending] button::after { content: " \\2193" }
th[aria-sort=ascending] button::after { content: " \\2191" }
tr > :first-child { position: sticky; left: 0; z-index: 1; background: Canvas; min-width: 7rem;
  max-width: 16rem; white-space: normal; overflow-wrap: anywhere }
td { vertical-align: top } td.words { min-width: 14rem; white-space: normal }
small { opacity: .75; display: block; font-weight: 400 }
@media (max-width: 40rem) { tr > :first-child { max-width: 8rem } }
""".strip()
SCRIPT = """
const heads = [...document.querySelectorAll("th")], body = document.querySelector("tbody");
heads.forEach((head, place) => head.firstChild.onclick = () => {
  const down = head.ariaSort !== "descending";
  heads.forEach(other => other.ariaSort = "none");
  head.ariaSort = down ? "descending" : "ascending";
  const number = row => row.cells[place].dataset.value, text = row => row.cells[place].textContent;
  const order = (a, b) => number(a) ? number(a) - number(b) : text(a).localeCompare(text(b));
  const rows = [...body.rows].sort(order);
  body.append(...(down ? rows.reverse() : rows));
});
""".strip()
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
CONTACT = (
    "contact: how the sets that a model was trained on, as its authors tell, met the test sets, by "
    "their names; general pictures of the web, on which each model stands, are not listed by "
    "anyone. Copies are found by pixels, as the chapter on data shows"
)


class Number(NamedTuple):
    """A value with its 95 % interval, what is printed of the same weights, and chance."""

    value: float
    low: float
    high: float
    printed: float | None = None
    chance: float | None = None


class Entry(NamedTuple):
    """A model's line: its name, its activation, a digest of its weights, its numbers by column, how
    they came about, a sentence each, and how its training met the test sets.
    """

    model: str
    activation: str
    weights: str
    numbers: dict[str, Number]
    notes: tuple[str, ...]
    contact: str = contact.UNKNOWN


def entries(report: dict) -> list[Entry]:
    """The lines of a report: of a model on test sets, or of files of vectors. ValueError for
    another JSON.
    """
    if isinstance(report.get("model"), dict) and "metrics" in report:
        return [_of_model(report)]
    if not report or not all("protocols" in told for told in report.values()):
        raise ValueError("this JSON is not a report of rs5m evaluate: give one of its --out")
    found = []
    for name, told in report.items():
        numbers = {
            protocol: Number(row["top1"], row["low"], row["high"], None, told.get("chance"))
            for protocol, row in told["protocols"].items()
        }
        images = f"{told['images']:,} images, top-1 in %"
        found.append(Entry(name, "not in the file", "", numbers, (images, *told["notes"])))
    return found


def _of_model(report: dict) -> Entry:
    about, told = report["model"], report["protocol"]
    quick = {True: "QuickGELU", False: "GELU", None: "neither"}[about.get("quick_gelu")]
    theirs = report.get("paper", {})
    same = theirs.get("same_model") or theirs.get("named_like_release")
    printed = theirs["values"] if same else {}
    alike = report.get("chance", {})
    numbers = {
        name: Number(value, *report["intervals"][name], printed.get(name), alike.get(name))
        for name, value in report["metrics"].items()
    }
    notes = [
        f"zero-shot: {told['zeroshot']['prompts']} prompts, {told['zeroshot']['averaging']}",
        f"images: {told['preprocessing']['resize']}, {told['preprocessing']['image_size']} pixels",
    ]
    by_reason: dict[str, list[str]] = {}
    for name, apart in report["not_comparable"].items():
        by_reason.setdefault("; ".join(apart["why"]), []).append(name)
        for key, value in apart["values"].items():
            by_chance = apart.get("chance", {}).get(key)
            numbers[f"{name}, {key}"] = Number(value, *apart["intervals"][key], None, by_chance)
        numbers |= _by_protocol(report, name)  # beside its own set
    notes += [
        f"{', '.join(some)}: not comparable with published numbers, {why}"
        for why, some in by_reason.items()
    ]
    told_apart = []
    for name, rows in report.get("protocols", {}).items():
        key, _, apart = reporting.spread(rows)
        told_apart.append(f"{apart:.1f} points of {key} on {name}")
        numbers |= _by_protocol(report, name)
    if told_apart:
        notes.append(f"the protocol alone makes {', '.join(told_apart)}")
    for name, count in report.get("texts_cut", {}).items():
        notes.append(f"{name}: {count} texts are longer than the text tower reads")
    met = contact.in_words(report.get("contact", {}).get("sets", {})) or contact.UNKNOWN
    return Entry(about["name"], quick, about["weights_sha256"][:12], numbers, tuple(notes), met)


def _by_protocol(report: dict, name: str) -> dict[str, Number]:
    """The numbers of a set by all protocols but the usual one."""
    if not (rows := report.get("protocols", {}).get(name)):
        return {}
    key = reporting.spread(rows)[0]
    return {
        f"{name}, {key} by {protocol}": Number(
            row["values"][key], *row["intervals"][key], None, row.get("chance", {}).get(key)
        )
        for protocol, row in rows.items()
        if protocol != protocols.USUAL
    }


# ---------------------------------------------------------------- the table


def columns(lines: list[Entry]) -> list[str]:
    """The names of all numbers, in the order in which they come."""
    return list(dict.fromkeys(name for line in lines for name in line.numbers))


def chance(lines: list[Entry], column: str) -> str:
    """What chance is in a column, in words; "" where no model's report has it, or they differ."""
    known = {line.numbers[column].chance for line in lines if column in line.numbers}
    if len(known) != 1 or known == {None}:
        return ""
    return f"chance {known.pop():.{_digits(column)}f}"


def leaders(lines: list[Entry], column: str) -> set[str]:
    """The models whose number in a column is the best, or has an interval that reaches the best
    one's.
    """
    sign = -1 if "↓" in column or column.endswith(", ras") else 1
    there = {line.model: line.numbers[column] for line in lines if column in line.numbers}
    best = max(there.values(), key=lambda number: sign * number.value)
    if sign > 0:
        return {model for model, number in there.items() if number.high >= best.low}
    return {model for model, number in there.items() if number.low <= best.high}


def _digits(column: str) -> int:
    ratio = column in SELO.values() or column.rpartition(", ")[2] in SELO
    return 4 if ratio else 1


def _cells(lines: list[Entry]) -> list[list[tuple[str, str, bool, float | None]]]:
    """Text, interval, whether it leads, and the value, of each column in each line."""
    names = columns(lines)
    lead = {name: leaders(lines, name) for name in names}
    table = []
    for line in lines:
        row = []
        for name in names:
            number, digits = line.numbers.get(name), _digits(name)
            if number is None:
                row.append(("", "", False, None))
                continue
            value, low, high = (f"{part:.{digits}f}" for part in number[:3])
            told = "" if number.printed is None else f"; printed {number.printed:.{digits}f}"
            row.append((value, f"{low} to {high}{told}", line.model in lead[name], number.value))
        table.append(row)
    return table


def markdown(lines: list[Entry]) -> str:
    """The table, then the notes."""
    told = [(name, chance(lines, name)) for name in columns(lines)]
    heads = [f"{name} ({by_chance})" if by_chance else name for name, by_chance in told]
    heads = ["model", "activation", *heads, "contact"]
    rows = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 3) + ["---"]]
    for line, cells in zip(lines, _cells(lines), strict=True):
        told = [
            f"{f'**{value}**' if leads else value} ({between})" if value else ""
            for value, between, leads, _ in cells
        ]
        rows.append([line.model, line.activation, *told, line.contact])
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return f"{table}\n\n" + "".join(f"- {note}\n" for note in _notes(lines))


def _notes(lines: list[Entry]) -> list[str]:
    bold = "bold: the best of a column, and each whose 95 % interval reaches the best one's"
    by_note: dict[str, list[str]] = {}
    for line in lines:
        for note in line.notes:
            by_note.setdefault(note, []).append(line.model)
    told = [
        note if len(models) == len(lines) else f"{', '.join(models)}: {note}"
        for note, models in by_note.items()
    ]
    return [bold, *told, CONTACT]


def page(lines: list[Entry]) -> str:
    """The table as HTML; a click on a column's name sorts by it."""
    heads = ["model, activation", *columns(lines), "contact", "weights"]
    by_chance = ["", *(chance(lines, name) for name in columns(lines)), "", ""]
    head = "".join(
        f'<th aria-sort="none"><button>{escape(name)}</button><small>{told}</small></th>'
        for name, told in zip(heads, by_chance, strict=True)
    )
    rows = []
    for line, cells in zip(lines, _cells(lines), strict=True):
        first = f"<td>{escape(line.model)}<small>{escape(line.activation)}</small></td>"
        told = "".join(
            f'<td data-value="{-1 if number is None else number}">'
            f"{f'<b>{value}</b>' if leads else value}<small>{between}</small></td>"
            for value, between, leads, number in cells
        )
        met = f'<td class="words">{escape(line.contact)}</td>'
        rows.append(f"<tr>{first}{told}{met}<td><code>{escape(line.weights)}</code></td></tr>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in _notes(lines))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>Leaderboard</title>\n'
        f"<style>\n{STYLE}\n</style></head>\n<body><h1>Leaderboard</h1>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f"\n</tbody></table></div>\n<ul>{notes}</ul>\n<script>\n{SCRIPT}\n</script>"
        "</body></html>\n"
    )


def write(reports: list[dict], path: str | Path) -> list[Entry]:
    """The page under its name and the Markdown beside it, each whole or not at all; the lines."""
    lines, path = [line for report in reports for line in entries(report)], Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, text in ((path, page(lines)), (path.with_suffix(".md"), markdown(lines))):
        with whole(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{len(lines)} models side by side: {path} and {path.with_suffix('.md').name}")
    return lines
