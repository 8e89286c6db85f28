"""The book's interactive parts: what a chapter has found as JSON in the page, a still picture that
needs no script, and plain JavaScript that makes it answer. No network, no framework.

Each function gives a `Part`, which a notebook shows by itself. The scripts lie in scripts/.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from rs5m import results
from rs5m import rotation as rotations
from rs5m.book import plots
from rs5m.files import whole

SCRIPTS = {s[:-3]: s for s in ("pairs.js", "rotation.js", "search.js", "thresholds.js", "world.js")}
MOST = 300  # pictures in a page, so that it stays under 300 kB


class Part(NamedTuple):
    """Something to play with: `data` for the script of that name, and what stands there without."""

    script: str
    label: str
    data: dict
    still: str

    def __repr__(self) -> str:
        return f"<{self.label}>"  # not a page of JSON

    def _repr_html_(self) -> str:
        folder = files("rs5m.book") / "scripts"
        style, *code = (
            (folder / name).read_text(encoding="utf-8")
            for name in ("play.css", "common.js", SCRIPTS[self.script])
        )
        # no "</script>" may stand in a text
        data = json.dumps(self.data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        name = f"play-{self.script}-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
        return (
            f'<div class="rs5m-play" id="{name}" role="group" aria-label="{self.label}">'
            f'<style>{style}</style><div class="still">{self.still}</div>'
            f'<script type="application/json">{data}</script><script>(() => {{\n'
            f'const root = document.getElementById("{name}");\n{"".join(code)}}})();</script></div>'
        )


def keep(part: Part, scale: str) -> Part:
    """Write a part to runs/<scale>/play/, where `kept` finds it from another chapter."""
    file = _file(part.script, scale)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as temporary:
        temporary.write_text(part._repr_html_(), encoding="utf-8")
    return part


def kept(script: str, scale: str) -> str:
    """The HTML that `keep` wrote, or a sentence that says that nobody did."""
    file = _file(script, scale)
    return file.read_text(encoding="utf-8") if file.is_file() else "<p>Not made at this scale.</p>"


def _file(script: str, scale: str) -> Path:
    return results.root() / "runs" / scale / "play" / f"{script}.html"


def sheet(pictures: Sequence[np.ndarray], size: int) -> dict:
    """Pictures uint8 (h, w, 3) as one WebP, `size` pixels each: its data address and columns."""
    columns = max(1, min(30, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    joined = Image.new("RGB", (columns * size, rows * size))
    for i, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
        joined.paste(small, (i % columns * size, i // columns * size))
    file = io.BytesIO()
    joined.save(file, "WEBP", quality=75, method=4)
    code = base64.b64encode(file.getvalue()).decode()
    return {"src": f"data:image/webp;base64,{code}", "columns": columns}


def rounded(values, digits: int = 4) -> list:
    """Floats of any shape as nested lists, short enough for a page."""
    return np.round(np.asarray(values, np.float64), digits).tolist()


# ---------------------------------------------------------------- rotation


def rotation(pictures, angles, similarity, captions, kinds: Sequence[str]) -> Part:
    """A slider that turns an image, and what each criterion chooses over the views so far.

    Args:
        pictures: of the images, uint8 (h, w, 3).
        angles: evenly spaced degrees, 0 first, less than a full turn.
        similarity: (images, angles, captions).
        captions: of each image.
        kinds: of the captions, the same for every image.
    """
    data = {
        "angles": list(angles),
        "similarity": rounded(similarity),
        "captions": [list(texts) for texts in captions],
        "kinds": list(kinds),
        "sheet": sheet(pictures, 48),
    }
    first = np.asarray(data["similarity"])[:1]
    picks = {"upright image alone": rotations.select(first[:, :1])[0]}
    picks |= {name: rotations.select(first, name)[0] for name in rotations.CRITERIA}
    still = pd.DataFrame(
        {
            "similarity, upright": first[0, 0],
            "mean over a full turn": first[0].mean(0),
            "deviation": first[0].std(0),
            "chosen by": [
                ", ".join(name.replace("_", " ") for name, pick in picks.items() if pick == c)
                for c in range(len(kinds))
            ],
        },
        [f"{text} ({kind})" for text, kind in zip(captions[0], kinds, strict=True)],
    )
    label = "An image to turn, and the captions that are chosen"
    return Part("rotation", label, data, still.round(3).to_html(border=0))


# ---------------------------------------------------------------- thresholds


def thresholds(pictures, score, probability, truth, kind, chosen) -> Part:
    """Two thresholds on the outputs of two classifiers; which pictures change sides.

    Args:
        pictures: uint8 (h, w, 3), of which those nearest to the thresholds are shown.
        score: of each, 0 to 1; what is below the threshold looks like an outlier.
        probability: the other classifier's.
        truth: whether it is wanted.
        kind: of the picture, in a word.
        chosen: `rs5m.filters.Thresholds` to start from.
    """
    score, probability = np.round(score, 3), np.round(probability, 3)
    wrong = (probability >= chosen.probability) != np.asarray(truth)
    near = np.abs(probability - chosen.probability) - 2 * wrong
    shown = np.sort(np.argsort(near, kind="stable")[:MOST])
    tile = np.full(len(pictures), -1)
    tile[shown] = np.arange(len(shown))
    data = {
        "score": score.tolist(),
        "probability": probability.tolist(),
        "truth": np.asarray(truth).astype(int).tolist(),
        "kind": list(kind),
        "tile": tile.tolist(),
        "chosen": {
            "score": round(float(chosen.score), 3),
            "probability": round(float(chosen.probability), 3),
            "rule": chosen.rule,
        },
        "sheet": sheet([pictures[i] for i in shown], 32),
    }
    label = "Thresholds to move, and the pictures that change sides"
    return Part("thresholds", label, data, _plane(data))


def _plane(data: dict) -> str:
    x = 40 + 300 * np.array(data["score"])
    y = 210 - 200 * np.array(data["probability"])
    truth = np.array(data["truth"], bool)
    points = "".join(
        f'<path d="{"".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(x[w], y[w], strict=True))}" '
        f'stroke="{colour}" stroke-width="4" stroke-linecap="round" opacity=".8"/>'
        for w, colour in ((~truth, plots.THIRD), (truth, plots.AFTER))
    )
    at = 40 + 300 * data["chosen"]["score"], 210 - 200 * data["chosen"]["probability"]
    line = 'stroke="currentColor" stroke-dasharray="3 3"'
    return (
        '<svg viewBox="0 0 360 250" width="540" role="img">'
        "<title>Every picture by the outputs of the two classifiers</title>"
        f'<path d="M40 10v200h300" fill="none" stroke="currentColor"/>{points}'
        f'<line class="up" x1="{at[0]:.1f}" x2="{at[0]:.1f}" y1="10" y2="210" {line}/>'
        f'<line class="across" x1="40" x2="340" y1="{at[1]:.1f}" y2="{at[1]:.1f}" {line}/>'
        '<text x="150" y="240">score, 0 to 1</text>'
        '<text x="-180" y="25" transform="rotate(-90)">detector, 0 to 1</text></svg>'
        + _legend({"views from above": plots.AFTER, "others": plots.THIRD})
    )


def _legend(colours: dict[str, str]) -> str:
    keys = (
        f'<span><span class="key" style="background:{colour}"></span>{html.escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<div class="legend">{"".join(keys)}</div>'


# ---------------------------------------------------------------- the map


def world(chips, captions: Sequence[str], answers: dict[str, np.ndarray]) -> Part:
    """The test chips of the pocket world as maps, one for each row of answers.

    Args:
        chips: `rs5m.pocket.chips`.
        captions: one sentence for each chip.
        answers: name -> class of each chip (n,), -1 for none; the truth first.
    """
    spare = iter(plots.COLOURS * 2)
    colours = [plots.COVERS.get(name) or next(spare) for name in chips.classes]
    x, y = np.floor(chips.longitude).astype(int), np.floor(-chips.latitude).astype(int)
    data = {
        "x": x.tolist(),
        "y": y.tolist(),
        "classes": list(chips.classes),
        "colours": colours,
        "captions": list(captions),
        "answers": [{"name": name, "of": list(map(int, of))} for name, of in answers.items()],
        "sheet": sheet(list(chips.images), 15),
    }
    box = f"{x.min() - 2} {y.min() - 2} {np.ptp(x) + 5} {np.ptp(y) + 5}"
    maps = "".join(_map(data, row, box) for row in data["answers"])
    legend = _legend(dict(zip(chips.classes, colours, strict=True)))
    label = "Maps of the test chips: the truth and three answers"
    return Part("world", label, data, f'<div class="maps">{maps}</div>{legend}')


def _map(data: dict, row: dict, box: str) -> str:
    """One map: each class a path of squares of one degree."""
    of, x, y = np.array(row["of"]), np.array(data["x"]), np.array(data["y"])
    right = 100 * float(np.mean(of == np.array(data["answers"][0]["of"])))
    paths = "".join(
        f'<path d="{"".join(f"M{a} {b + 0.5}h1" for a, b in zip(x[w], y[w], strict=True))}" '
        f'stroke="{colour}" stroke-width="1"/>'
        for w, colour in ((of == c, colour) for c, colour in enumerate(data["colours"]))
    )
    said = row["name"] if row is data["answers"][0] else f"{row['name']}, {right:.0f} % right"
    return (
        f'<div><div>{html.escape(said)}</div><svg class="panel" viewBox="{box}" width="320" '
        f'role="img"><title>{html.escape(said)}</title>{paths}</svg></div>'
    )


# ---------------------------------------------------------------- kept and dropped pairs


def pairs(table: pd.DataFrame, pictures: dict[int, np.ndarray], most: int = 8) -> Part:
    """What became of every pair of a crawl, and a sample of them to look at.

    Args:
        table: a row for each pair: row, text, stage, reason, source, truth (wanted or not).
        pictures: row -> picture uint8 (h, w, 3); the others are shown as grey squares.
        most: pairs of each stage, reason and truth in the sample.
    """
    by = ["stage", "reason", "source", "truth"]
    text, reason = table.text.fillna("").str.slice(0, 200), table.reason.fillna("")
    table = table.assign(truth=table.truth.astype(int), text=text, reason=reason)
    counts = table.groupby(by, sort=False).size().to_frame("pairs").reset_index()
    some = sample(table, most)
    have = [row for row in some.row if row in pictures][:MOST]
    tile = {row: i for i, row in enumerate(have)}
    data = {
        "counts": counts.to_dict("records"),
        "pairs": [
            {"tile": tile.get(one["row"], -1), **{key: one[key] for key in ["text", *by]}}
            for one in some.to_dict("records")
        ],
        "sheet": sheet([pictures[row] for row in have], 32),
    }
    still = counts.groupby(["stage", "reason"], sort=False).pairs.sum().reset_index()
    return Part("pairs", "Kept and dropped pairs", data, still.to_html(border=0, index=False))


def sample(table: pd.DataFrame, most: int = 8) -> pd.DataFrame:
    """At most so many pairs of each stage, reason and truth, drawn with a fixed seed."""
    drawn = table.sample(frac=1, random_state=0)
    groups = drawn.groupby(["stage", "reason", "truth"], dropna=False, sort=False)
    return drawn[groups.cumcount() < most]
