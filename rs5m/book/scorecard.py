"""Every claim and every published number of the paper beside what the runs found. Chapter:
scorecard.

Rows for `rs5m.paper.compare`, made of the files in results/ alone: what has no file there has no
number here.
"""

import json
from pathlib import Path

import pandas as pd

from rs5m import intervals, paper, results
from rs5m.book import colour, contact, plots, scales, weights
from rs5m.evaluate.reporting import TITLES, TUNED, names

NAMES = {
    "pocket": "pocket world",
    "eurosat": "EuroSAT",
    "ucm": "UC Merced",
    "whurs19": "WHU-RS19",
}
GAINS = {  # claims on a gain by tuning: the result that holds it, and what is measured
    "ZSC": ("zeroshot", "balanced accuracy"),
    "RSCTIR": ("retrieval", "mean recall"),
    "SELO": ("selo", "Rmi"),
}
LEVEL = {"ZSC": "balanced", "RSCTIR": "mean_recall", "SELO": "rmi"}  # of GAINS, in a result
SEEN = {  # what the pairs of a run know of a test set
    ("pocket", "pub11+rs3"): "the captions name the same land covers on other continents",
    ("eurosat", "pub11+rs3"): "RS3 captions other images of the same set",
    ("ucm", "pub11+rs3"): "RS3's captioner learned from its training split",
    ("ucm", "ucm"): "its training split was seen",
}
ABOVE = (0, float("inf"))  # a claim without a number: any gain counts
HALVES = (
    "captions free of a direction chosen, by a ranker that sees directions",
    "images of two halves, made for this question; its ranker was taught directions",
)
OWN = (
    "captions free of a direction chosen, by the scale's ranker",
    "a ranker that averages over the image hardly sees directions",
)
TURNED = "rotation, less the upright choice of A"  # the row of chapter rs3's table of changes


def found(name: str = "zeroshot") -> list[tuple[str, str, dict]]:
    """(scale, test set, its values) of every result of that chapter, smallest scale first."""
    records = [(scale, results.load(name, scale)) for scale in scales.SCALES]
    return [
        (scale, test, of)
        for scale, record in records
        if record
        for test, of in record["values"]["tests"].items()
    ]


# ---------------------------------------------------------------- claims


def rows() -> list[dict]:
    """The claims in the order of claims.csv: a row for each scale, set and run, or one that says
    that none ran.
    """
    lines = []
    for claim in paper.table("claims")["id"]:
        what, writers, make = CLAIMS[claim]
        cure = f"not run here: {writers} would write the result"
        lines += make(claim) or [{"claim": claim, "what": what, "reason": cure}]
    return lines


def _row(claim: str, scale: str, what: str, gain: dict, **more) -> dict:
    """A row from gain, low and high in points. `line` and `scale` are for the figure."""
    numbers = {"ours": gain["gain"], "low": gain["low"], "high": gain["high"], "unit": "points"}
    about = {
        "claim": claim,
        "scale": scale,
        "what": f"{what}, scale {scale}",
        "line": f"{claim}: {what}",
    }
    return about | {"same_setting": False} | numbers | more


def _published_weights(claim: str) -> list[dict]:
    """What the published weights gain over CLIP of the same architecture: a line for each."""
    record = results.load("weights", "local")
    if not record:
        return []
    values = record["values"]
    why = (
        f"published weights, vectors computed by others, {values['images']:,} images of a set that "
        "the paper does not report"
    )
    return [
        _row(
            claim,
            "local",
            f"WHU-RS19: top-1, gain of {name} over CLIP, published weights",
            by[weights.MANY],
            reason=why,
            line=f"{claim}: WHU-RS19, published {name}",
            before=values["models"][name.replace("GeoRSCLIP", "CLIP")][weights.MANY]["top1"],
            after=values["models"][name][weights.MANY]["top1"],
            chance=100 / len(weights.CLASSES),
            contact=contact.UNKNOWN,  # of RS5M's pairs
        )
        for name, by in values["gains"].items()
        if name.startswith("GeoRSCLIP")
    ]


def _real_captions(claim: str) -> list[dict]:
    """What tuning on people's captions gains on sets of which no training image has a copy."""
    record = results.load("rsicd", "local")
    if not record:
        return []
    values = record["values"]
    why = (
        f"other towers, a linear head, {values['images']:,} captioned images, three seeds; no copy "
        "of a test image among them"
    )
    return [
        _row(
            claim,
            "local",
            f"{NAMES[name]}: balanced accuracy, gain by tuning on RSICD",
            found["over general"],
            reason=f"{why}; over colour from the same captions "
            f"{found['over colour']['gain']:+.1f} points",
            line=f"{claim}: {NAMES[name]}, tuned on RSICD",
            before=found["arms"]["general"]["gain"],
            after=found["arms"]["tuned"]["gain"],
            chance=found["chance"],
            colour=found["arms"]["colour"]["gain"],
            contact=contact.said(values.get("named", {}).get(name), name, "rsicd"),
        )
        for name, found in values["tests"].items()
    ]


def _classified(claim: str) -> list[dict]:
    return _real_captions(claim) + _published_weights(claim) + _gains(claim)


def _gains(claim: str) -> list[dict]:
    name, measure = GAINS[claim]
    return [
        _row(
            claim,
            scale,
            f"{NAMES.get(test, test)}: {measure}, gain by tuning on {run}",
            gain,
            reason=_setting(test, run, values),
            line=f"{claim}: {NAMES.get(test, test)}, tuned on {run}",
            contact=contact.said(_contact(scale, test, run), test, run),
            **_levels(claim, run, values),
        )
        for scale, test, values in found(name)
        for run, gain in values["gain"].items()
    ]


def _levels(claim: str, run: str, values: dict) -> dict:
    """before and after, and chance and colour where the result has them."""
    models, without = values["models"], values.get("baselines", {})
    known = {
        "before": models.get("general", {}).get(LEVEL[claim]),
        "after": models.get(run, {}).get(LEVEL[claim]),
        "chance": without.get(colour.CHANCE, {}).get("balanced"),
        "colour": without.get(colour.CAPTIONS, {}).get("balanced"),
    }
    return {key: value for key, value in known.items() if value is not None}


def _contact(scale: str, test: str, run: str) -> dict | None:
    """What chapter zeroshot counted on the pairs of that run."""
    record = results.load("zeroshot", scale)
    tests = record["values"]["tests"] if record else {}
    return tests.get(test, {}).get("contact", {}).get(run)


def _halves(claim: str) -> list[dict]:
    """What PUB11, RS3 and both are worth at each scale, by chapter tune."""
    lines = []
    for scale in scales.SCALES:
        record = results.load("tune", scale)
        test = scales.get(scale).tests[0]
        for name, gain in (record["values"].get("worth", {}) if record else {}).items():
            run = {"PUB11": "pub11", "RS3": "rs3"}.get(name, "pub11+rs3")
            reason = f"other towers, small images, {len(gain['seeds'])} seeds, equal steps"
            what = f"{NAMES.get(test, test)}: gain by tuning on {name}"
            touch = contact.said(_contact(scale, test, run), test, run)
            more = {"paper": ABOVE, "reason": reason, "contact": touch}
            lines.append(_row(claim, scale, what, gain, **more))
    return lines


def _setting(test: str, run: str, values: dict) -> str:
    """What stands between a gain of this project and the paper's, as far as the result tells it."""
    pairs, seeds = values.get("pairs", {}).get(run), values["gain"][run].get("seeds", 1)
    seeds = seeds if isinstance(seeds, int) else len(seeds)
    sizes = (
        (pairs, "tuning pairs"),
        (values.get("images"), "images"),
        (values.get("texts"), "texts"),
        (values.get("scenes"), "scenes"),
        (values.get("queries"), "queries"),
    )
    parts = ["other towers"] + [f"{count:,} {of}" for count, of in sizes if count]
    parts += [f"{seeds} seed{'s' * (seeds > 1)} of tuning", SEEN.get((test, run), "")]
    return ", ".join(part for part in parts if part)


def _gap(claim: str) -> list[dict]:
    """One line without a number: the gap between two models is the gain of ZSC, read backwards."""
    why = "the gains of ZSC are this gap, and they are counted there once"
    return [{"claim": claim, "what": "general models behind domain models", "reason": why}]


def _size(claim: str) -> list[dict]:
    """The pairs that both halves of the data set came to."""
    lines = []
    for scale in scales.SCALES:
        web, labelled = results.load("pub11", scale), results.load("rs3", scale)
        if web and labelled:
            pub11 = sum(
                row["remaining"] for row in web["values"]["attrition"] if row["source"] != "total"
            )
            rs3 = labelled["values"]["summary"]["pairs"]
            why = (
                f"{pub11:,} of PUB11 from a small web of known truth, {rs3:,} of RS3: "
                "made to show every stage"
            )
            lines.append(
                {
                    "claim": claim,
                    "scale": scale,
                    "what": f"pairs built, scale {scale}",
                    "ours": pub11 + rs3,
                    "reason": why,
                }
            )
    return lines


def _rotation(claim: str) -> list[dict]:
    """What choosing over rotations gains at each scale: where the ranker sees directions, where it
    does not, in tuning.

    The paper gives no number, so a gain above zero is what counts.
    """
    lines = []
    first = next((scale for scale in scales.SCALES if results.load("rotation", scale)), None)
    for scale in scales.SCALES:
        chosen, built = (results.load(name, scale) for name in ("rotation", "rs3"))
        if scale == first:  # the halves are the pocket world's at every scale: one row
            gain = chosen["values"]["halves_gain_of_free"]["mean_minus_deviation"]
            more = {"paper": ABOVE, "reason": HALVES[1], "contact": contact.MADE}
            lines.append(_row(claim, scale, HALVES[0], gain, **more))
        if chosen:
            lines.append(
                _row(
                    claim, scale, OWN[0], chosen["values"]["own_ranker"], paper=ABOVE, reason=OWN[1]
                )
            )
        if built:
            gain = intervals.in_words(built["values"]["change"][TURNED], "gain", sign="+")
            why = f"{gain} points with {built['values']['images']:,} images, a linear head and "
            why += "three seeds; no verdict, for the interval leaves out the draw of those images"
            what = f"zero-shot accuracy after tuning on the choice, scale {scale}"
            lines.append({"claim": claim, "scale": scale, "what": what, "reason": why})
    return lines


CLAIMS = {  # claim: what a row without a run says, who would write its result, its rows
    "ZSC": ("balanced accuracy, gain", "chapter zeroshot", _classified),
    "RSCTIR": ("mean recall, gain", "chapter retrieval", _gains),
    "SELO": ("Rmi, gain", "chapter selo", _gains),
    "SCALE": ("pairs built", "chapters pub11 and rs3", _size),
    "GAP": ("general model behind the domain model", "chapter zeroshot", _gap),
    "HALVES": ("gain by each half of the pairs", "chapter tune", _halves),
    "ROT": ("captions kept by rotation invariance", "chapters rotation and rs3", _rotation),
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


# ---------------------------------------------------------------- published numbers

TASKS = {
    "zero-shot classification": "zeroshot",
    "retrieval": "retrieval",
    "semantic localization": "selo",
}
SETS = {title: name for name, title in TITLES.items()}
ROUNDING = {"%": 0.005, "ratio": 5e-7}
RELEASED = {about: name for name, about in TUNED.items()} | {
    ("CLIP ViT-B/32", "none"): "ViT-B-32-quickgelu --checkpoint openai"
}
OWN_SETS = {test for scale in ("mini", "local") for test in scales.get(scale).tests}


def published() -> list[dict]:
    """Every row of results.csv beside the reports of `rs5m evaluate` on that very model and set.

    The reports are results/<scale>/evaluate*.json. Where none fits, there is no number, and the
    reason says why.
    """
    known, lines = reports(), []
    for row in paper.table("results").to_dict("records"):
        about = (row["model"], row["tuned_on"])
        fitting = [
            (scale, r)
            for scale, r in known
            if (r["paper"]["model"], r["paper"]["tuned_on"]) == about
        ]
        found = [
            _level(row, scale, report)
            for scale, report in fitting
            if _official(row) in report["metrics"]
        ]
        lines += found or [
            _published(row) | {"reason": _needs(row, [report for _, report in fitting])}
        ]
    return lines


def reports() -> list[tuple[str, dict]]:
    """(scale, report) of every results/<scale>/evaluate*.json on a model that the paper reports.

    ValueError, with the file, where one is not such a report.
    """
    kept = []
    for scale in scales.SCALES:
        for path in sorted((results.root() / "results" / scale).glob("evaluate*.json")):
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
                kept += [(scale, report)] if report["paper"]["same_model"] else []
            except (ValueError, KeyError, TypeError) as error:
                cure = "write it again with `rs5m evaluate --out`, or take it away"
                raise ValueError(f"{path} is not a report of `rs5m evaluate`: {cure}") from error
    return kept


def _published(row: dict) -> dict:
    """What a published number is, without a run."""
    tuned = "" if row["tuned_on"] in ("none", "RS5M") else f" ({row['tuned_on']})"
    claim = next(claim for claim, (name, _) in GAINS.items() if name == TASKS[row["task"]])
    about = {
        "claim": claim,
        "what": f"{row['dataset']}: {row['metric']}, {row['model']}{tuned}",
        "task": row["task"],
    }
    return about | {
        "paper": row["value"],
        "unit": row["unit"],
        "gain": False,
        "tolerance": ROUNDING[row["unit"]],
    }


def _official(row: dict) -> str:
    """The name that a report gives to a published metric."""
    spelled = (
        row["metric"]
        .lower()
        .replace("r@", "R@")
        .replace("top-1", "top1")
        .replace("-", "_")
        .replace(" ", "_")
    )
    return names(TASKS[row["task"]], SETS[row["dataset"]])[spelled]


def _level(row: dict, scale: str, report: dict) -> dict:
    """A published number beside that of a report. Only a whole set, as its card lists it, is in its
    metrics.
    """
    line, (low, high) = _published(row), report["intervals"][_official(row)]
    weights = report["model"].get("weights_sha256", "unknown")[:12]
    line |= {"what": f"{line['what']}, scale {scale}", "scale": scale, "same_setting": True}
    line |= {"ours": report["metrics"][_official(row)], "low": low, "high": high}
    return line | {"reason": f"`rs5m evaluate` on the whole set, weights {weights}"}


def _needs(row: dict, stored: list[dict]) -> str:
    """Why a published number has no run: what is missing, and the command that would give it.

    stored: reports on that model without this number; they may say why.
    """
    for report in stored:
        if why := report["not_comparable"].get(f"{TASKS[row['task']]} {SETS[row['dataset']]}"):
            return f"`rs5m evaluate` ran, but not on the published set: {'; '.join(why['why'])}"
    if row["model"] == "RemoteCLIP":
        return (
            "not run: another group's model, quoted for comparison; "
            "this project does not fetch its weights"
        )
    model = RELEASED.get((row["model"], row["tuned_on"]))
    if not model:
        return (
            "not run: no file of this model was released; "
            "one tuned here by its recipe would be another model"
        )
    images = "" if SETS[row["dataset"]] in OWN_SETS else f" and {row['dataset']}'s images"
    command = f"`rs5m evaluate --model {model} --tasks {TASKS[row['task']]}`"
    return f"not run: the laptop scales lack its weights{images}; {command} on the official folder"


# ---------------------------------------------------------------- figures


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
                color="black",
                alpha=0.12,
                linewidth=0,
            )
    return drawn
