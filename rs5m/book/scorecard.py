"""Every claim and every published number of the paper beside what the runs found. Chapter:
scorecard.

Rows for `rs5m.paper.compare`, made of the files in results/ alone: what has no file there has no
number here.
"""

from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from rs5m import intervals, paper, results
from rs5m.book import contact, plots
from rs5m.book.claims import NAMES, TURNED, found, rows
from rs5m.book.published import measure, published, reports

OUTCOMES = {  # and their colours
    "reproduced": plots.COLOURS[3],
    "direction only": plots.AFTER,
    "undecided": plots.BEFORE,
    "too small": plots.COLOURS[5],
    "opposite": plots.THIRD,
}


def outcome(row: dict) -> str:
    """`rs5m.paper.verdict` of a row of `rows`, with what "not reproduced" hides parted: opposite
    (the interval lies on the other side of zero), undecided (it holds zero and meets the paper's
    range), too small (it ends below the range).
    """
    said = paper.compare([row])["verdict"][0]
    if said != "not reproduced":
        return said
    if row["high"] < 0:
        return "opposite"
    least = row["paper"][0] if "paper" in row else paper.claim(row["claim"])["low"]
    return "undecided" if row["high"] >= least else "too small"


def clean(row: dict) -> bool:
    """Whether a row has a number and its pairs had no contact with the test."""
    return row.get("ours") is not None and row.get("contact") == contact.NONE


def measured(lines: list[dict]) -> list[dict]:
    """The rows that test something and have a number."""
    return [row for row in lines if row.get("ours") is not None and "contact" in row]


def finding(lines: list[dict]) -> str:
    """The page's first sentence: how many gains point the paper's way, in what setting, and how
    many are `clean`.
    """
    some = measured(lines)
    said, alone = Counter(map(outcome, some)), sum(map(clean, some))
    same, up = said["reproduced"], said["reproduced"] + said["direction only"]
    return (
        f"Of {len(some)} measured gains, {up} point{'s' if up == 1 else ''} the paper's way; "
        f"{same or 'none'} confirm{'' if same > 1 else 's'} a claim in the paper's own setting, "
        f"and {alone or 'none'} {'were' if alone > 1 else 'was'} measured on a test with which the "
        "tuning pairs, as far as we know, had no contact."
    )


def untouched(lines: list[dict]) -> str:
    """How many of the rows that test something are `clean`, in words: "none of 26 measured gains
    is", to be followed by what they are free of.
    """
    some = measured(lines)
    count = sum(map(clean, some))
    return f"{count or 'none'} of {len(some)} measured gains {'are' if count > 1 else 'is'}"


def free(lines: list[dict]) -> str:
    """The rows that are `clean`, with gain, outcome and what each class has of it, in brackets; ""
    where none is.
    """
    said = [
        f"{row['line']}, {intervals.in_words(row, 'ours', sign='+')} points, {outcome(row)}"
        + (f": {row['classes']}" if "classes" in row else "")
        for row in filter(clean, lines)
    ]
    return f" ({'; '.join(said)})" if said else ""


def names_alone(lines: list[dict]) -> dict[str, str]:
    """What the page says of contact by names alone: `names`, how many rows have it; `names_real`,
    how many of them by real set; `paper`, whether the paper's own claim has it.
    """
    some = [row for row in lines if row.get("contact", "").startswith(contact.NAMES)]
    sets = [row["what"].partition(":")[0] for row in some]
    real = {name: sets.count(name) for name in NAMES.values() if name != NAMES["pocket"]}
    record = results.load("published", "local")
    held = record["values"]["captions"].get("contact", {}).get("eurosat") if record else None
    told = "of {pairs:,} captions of RS3 that were published apart, {named:,} name a class of "
    told += "EuroSAT, on which the paper claims a gain"
    return {
        "names": f"{len(some)} lines",
        "names_real": ", ".join(f"{name} ({n})" for name, n in real.items() if n) or "none",
        "paper": told.format(**held) if held else "the paper's own were not counted",
    }


def table(lines: list[dict]) -> pd.DataFrame:
    """`rows` as a table: what a gain leads from and to, chance, colour, contact and outcome."""

    def number(row: dict, key: str) -> str:
        digits = 3 if row.get("claim") == "SELO" else 1
        return f"{row[key]:.{digits}f}" if key in row else "—"

    compared = paper.compare(lines)
    more = {
        "before → after": [
            f"{number(r, 'before')} → {number(r, 'after')}" if "after" in r else "—" for r in lines
        ],
        "chance": [number(row, "chance") for row in lines],
        "colour": [number(row, "colour") for row in lines],
        "contact with the test": [row.get("contact", "—") for row in lines],
        "outcome": [outcome(row) for row in lines],
    }
    kept = ["claim", "what", "paper", "this run"]
    return compared[kept].assign(**more).assign(reason=compared["reason"])


def figure(path: Path | None = None):
    """Balanced accuracy of every model on every test set with its interval; saved to `path` if one
    is given.
    """
    plots.theme()
    points = []
    for scale, name, values in found():
        line = f"{NAMES.get(name, name)} ({scale})"
        for model, value in values["models"].items():
            kind = "general" if model == "general" else f"tuned on {model}"
            points.append((line, kind, value["balanced"], value["low"], value["high"]))
        for kind, value in values.get("baselines", {}).items():
            points.append((line, kind, value["balanced"], value["low"], value["high"]))
    drawn = plots.intervals(points, "balanced accuracy, %")
    if path:
        drawn.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
    return drawn


def overview(lines: list[dict]):
    """The measured gains, a bar for each kind of contact, parted by outcome."""
    plots.theme()
    some = [(row["contact"].partition(" (")[0], outcome(row)) for row in measured(lines)]
    kinds = [name for name, _ in Counter(kind for kind, _ in some).most_common()]
    kinds.sort(key=contact.NONE.__ne__)  # the clean ones on top
    drawn, axis = plt.subplots(figsize=(7.5, 1.4 + 0.34 * len(kinds)))
    said, ends, counts = [one for _, one in some], dict.fromkeys(kinds, 0), Counter(some)
    shown = [name for name in OUTCOMES if name in said]
    for name in shown:
        width = [counts[kind, name] for kind in kinds]
        bars = axis.barh(kinds, width, left=list(ends.values()), color=OUTCOMES[name], label=name)
        axis.bar_label(bars, [n or "" for n in width], label_type="center", color="white")
        ends = {kind: ends[kind] + n for kind, n in zip(kinds, width, strict=True)}
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="measured gains", ylabel="contact with the test")
    drawn.legend(loc="lower center", ncols=len(shown), frameon=False)
    drawn.tight_layout(rect=(0, 0.1, 1, 1))
    return drawn


def gains():
    """Every gain with its interval, a line for each claim and a colour for each scale; the paper's
    range as a band.
    """
    plots.theme()
    shown = [row for row in rows() if row.get("unit") == "points"]
    points = [
        (plots.wrap(r["line"], 34), r["scale"], r["ours"], r["low"], r["high"]) for r in shown
    ]
    drawn = plots.intervals(points, "gain, points", limits=None)
    axis, claims = drawn.axes[0], {row["line"]: row["claim"] for row in shown}
    for y, claim in enumerate(map(paper.claim, claims.values())):
        if claim["low"] == claim["low"]:  # NaN where the paper gives no number
            axis.fill_betweenx(
                (y - 0.5, y + 0.5),
                claim["low"],
                claim["high"],
                color=plots.INK,
                alpha=0.12,
                linewidth=0,
            )
    return drawn


__all__ = [
    "NAMES",
    "TURNED",
    "clean",
    "figure",
    "finding",
    "found",
    "free",
    "gains",
    "measure",
    "measured",
    "names_alone",
    "outcome",
    "overview",
    "published",
    "reports",
    "rows",
    "table",
    "untouched",
]
