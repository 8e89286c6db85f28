"""Every claim and every published number of the paper beside what the runs found. Chapter:
scorecard.

Rows for `rs5m.paper.compare`, made of the files in results/ alone: what has no file there has no
number here.
"""

import json
from pathlib import Path

from rs5m import intervals, paper, results
from rs5m.book import plots, scales, weights
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
SEEN = {  # what the pairs of a run know of a test set
    ("pocket", "pub11+rs3"): "RS3 names the same land covers on other continents",
    ("eurosat", "pub11+rs3"): "RS3 captions other images of the same set",
    ("ucm", "pub11+rs3"): "RS3's captioner learned from its training split",
    ("eurosat", "ucm"): "no caption touched it",
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
        )
        for scale, test, values in found(name)
        for run, gain in values["gain"].items()
    ]


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
            lines.append(_row(claim, scale, HALVES[0], gain, paper=ABOVE, reason=HALVES[1]))
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
    "ROT": ("captions kept by rotation invariance", "chapters rotation and rs3", _rotation),
}

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
    drawn = plots.intervals(points, "balanced zero-shot accuracy, %")
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
