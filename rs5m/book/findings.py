"""The findings of the front page: from what to what, beside chance and colour, and a verdict.

Read from results/ alone; a finding whose chapter has not run is left out. Chapter: index.
"""

import html
import json

import pandas as pd

from rs5m import results
from rs5m.book import colour, weights
from rs5m.book.scorecard import NAMES, rows, untouched

UNKNOWN = "not measured"
COLUMNS = ["measured", "before → after", "chance", "colour", "verdict"]


def table(scale: str) -> pd.DataFrame:
    """A line for each question."""
    found = {}
    for question, name, at, line in QUESTIONS:
        record = results.load(name, at or scale)
        if record:
            found[question] = dict(zip(COLUMNS, line(record["values"]), strict=True))
    return pd.DataFrame.from_dict(found, orient="index", columns=COLUMNS)


def page(scale: str) -> str:
    """`table` as HTML whose rows become cards on a telephone."""
    lines = []
    for question, row in table(scale).iterrows():
        cells = "".join(
            f'<td data-label="{name}">{html.escape(value)}</td>' for name, value in row.items()
        )
        word = row["verdict"].partition(":")[0].split()[0]
        kind = "but" if ", but " in row["verdict"] or word == "undecided" else word
        lines.append(f'<tr class="{kind}"><th scope="row">{question}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ["question", *COLUMNS])
    return f'<table class="findings"><thead><tr>{head}</tr></thead>{"".join(lines)}</table>'


def sentences(scale: str) -> dict:
    """The numbers of the front page's first sentences, by name; UNKNOWN where no result has one."""
    names = "test before after chance colour probe real_general real_tuned real_colour"
    said = dict.fromkeys([*names.split(), "time"], UNKNOWN) | {"clean": untouched(rows())}
    records = results.load("zeroshot", scale), results.load("rsicd", "local")
    tuned, real = (record and record["values"] for record in records)
    if tuned:
        said |= _first(*next(iter(tuned["tests"].items())))
    if real:
        arms = real["tests"]["whurs19"]["arms"]
        said |= {f"real_{name}": arms[name]["gain"] for name in ("general", "tuned", "colour")}
    timing = results.stored("timing.json", scale)
    if timing.is_file():
        said["time"] = _time(json.loads(timing.read_text(encoding="utf-8")))
    return {k: v if isinstance(v, str) else round(v, 1) for k, v in said.items()}


def _time(run: dict) -> str:
    """What a run of all chapters took, of tools/reproduce.py's record."""
    where = "a GPU" if run["device"].startswith("cuda") else f"{run['cpus']} CPU cores"
    return f"{run['seconds'] / 60:.0f} minutes on {where} ({run['run']} run of {run['date']})"


def _first(test: str, values: dict) -> dict:
    """What `sentences` says of a test; older results have no baselines."""
    before, after = (model["balanced"] for model in list(values["models"].values())[:2])
    said = {"test": NAMES.get(test, test), "before": before, "after": after}
    kinds = {"chance": colour.CHANCE, "colour": colour.CAPTIONS, "probe": colour.PROBE}
    known = values.get("baselines", {})
    return said | {name: known[of]["balanced"] for name, of in kinds.items() if of in known}


def percent(value: float) -> str:
    """A value in % with one digit."""
    return f"{value:.1f} %"


def path(before: float, after: float) -> str:
    """From one value in % to another, as in "17.8 → 34.3 %"."""
    return f"{before:.1f} → {percent(after)}"


def verdict(gain: dict, over_colour: dict | None = None) -> str:
    """Whether the interval of a gain leaves zero, in words, and who wins against colour."""
    word = "helps" if gain["low"] > 0 else "harms" if gain["high"] < 0 else "undecided"
    said = f"{word}: {gain['gain']:+.1f} points ({gain['low']:+.1f} to {gain['high']:+.1f})"
    if not over_colour:
        return said
    if over_colour["high"] < 0:
        return f"{said}, but colour alone does better"
    ahead = "and beats colour" if over_colour["low"] > 0 else "no better than colour for sure"
    return f"{said}, {ahead}"


def _tuned(values: dict) -> tuple:
    name, test = next(iter(values["tests"].items()))
    run, gain = next(iter(test["gain"].items()))
    models, without = test["models"], test.get("baselines", {})
    level = {name: percent(row["balanced"]) for name, row in without.items()}
    return (
        f"balanced accuracy, {NAMES.get(name, name)}",
        path(models["general"]["balanced"], models[run]["balanced"]),
        level.get(colour.CHANCE, "—"),
        level.get(colour.CAPTIONS, "—"),
        verdict(gain, test.get("over_colour")),
    )


def _real(values: dict) -> tuple:
    test = values["tests"]["whurs19"]
    arms = {name: arm["gain"] for name, arm in test["arms"].items()}
    return (
        f"balanced accuracy, {NAMES['whurs19']}",
        path(arms["general"], arms["tuned"]),
        percent(test["chance"]),
        percent(arms["colour"]),
        verdict(test["over general"], test["over colour"]),
    )


def _weights(values: dict) -> tuple:
    models = values["models"]
    return (
        f"top-1, {NAMES['whurs19']}, GeoRSCLIP after CLIP (ViT-B/32)",
        path(*(models[f"{name} ViT-B-32"][weights.MANY]["top1"] for name in ("CLIP", "GeoRSCLIP"))),
        percent(100 / len(weights.CLASSES)),
        "—",
        verdict(values["gains"]["GeoRSCLIP ViT-B-32"][weights.MANY]),
    )


def _cleaned(values: dict) -> tuple:
    ladder, final = values["ladder"], values["final"]
    before = ladder[0]["precision"]
    after = final["precision"]
    gain = {"gain": after["rate"], "low": after["low"], "high": after["high"]}
    gain = {key: value - before for key, value in gain.items()}
    return (
        "views among the pairs, after the keywords and at the end",
        path(before, ladder[-1]["precision"]),
        "—",
        "—",
        f"{verdict(gain)}, on a web of known truth; {percent(final['recall']['rate'])} of the "
        "views remain",
    )


def _rotated(values: dict) -> tuple:
    before, after = (values["halves"][k] for k in ("none: upright image", "mean_minus_deviation"))
    mean, tied, wrong = values["halves"]["mean"], "tied to a direction", "wrong class"
    own, wrongly = values["own_ranker"], path(before[wrong], after[wrong])
    joint = ";" if own["low"] > 0 else ", but"
    return (
        "captions chosen that are tied to a direction, by a ranker that sees directions",
        path(before[tied], after[tied]),
        "—",
        "—",
        f"{verdict(values['halves_gain_of_free']['mean_minus_deviation'])} of captions free of "
        f"directions there{joint} with this scale's own ranker {verdict(own)}; the plain mean "
        f"reaches {percent(mean[tied])}; captions of a wrong class {wrongly}",
    )


QUESTIONS = (  # question, the result that answers it, its scale or None for the page's, its line
    ("Does tuning on remote-sensing pairs help?", "zeroshot", None, _tuned),
    ("And with people's captions, on real images?", "rsicd", "local", _real),
    ("Do the published weights help?", "weights", "local", _weights),
    ("Can a web crawl be cleaned?", "pub11", None, _cleaned),
    ("Does it help to rotate?", "rotation", None, _rotated),
)
