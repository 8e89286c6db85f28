"""Every claim of the paper beside what the runs found, as rows for `rs5m.paper.compare`. Chapter: scorecard."""

from pathlib import Path

from rs5m import plots, results, scales

NAMES = {"pocket": "pocket world", "eurosat": "EuroSAT", "ucm": "UC Merced"}
NOT_YET = {  # claims that no chapter tests yet
    "RSCTIR": ("mean recall, gain", "no chapter on retrieval yet"),
    "SELO": ("Rmi, gain", "no chapter on semantic localization yet; its images are not to be had"),
    "SCALE": ("pairs built", "no chapter builds pairs at the paper's scale"),
}
SEEN = {  # what the pairs of a run know of a test set
    ("pocket", "pub11+rs3"): "RS3 names the same land covers on other continents",
    ("eurosat", "pub11+rs3"): "RS3 captions other images of the same set",
    ("ucm", "pub11+rs3"): "no caption touched it",
    ("eurosat", "ucm"): "no caption touched it",
    ("ucm", "ucm"): "its training split was seen",
}


def found() -> list[tuple[str, str, dict]]:
    """(scale, test set, its values) of every zero-shot result there is, smallest scale first."""
    rows = []
    for scale in scales.SCALES:
        record = results.load("zeroshot", scale) or {"values": {"tests": {}}}
        rows += [(scale, name, values) for name, values in record["values"]["tests"].items()]
    return rows


def rows() -> list[dict]:
    """One row for each test set and tuning run found, then the claims without a run."""
    lines = [_gain(scale, name, run, values) for scale, name, values in found() for run in values["gain"]]
    gap = [_gap(scale, name, values) for scale, name, values in found()]
    missing = [{"claim": key, "what": what, "reason": why} for key, (what, why) in NOT_YET.items()]
    return lines + gap + _rotation() + missing


def _gain(scale: str, name: str, run: str, values: dict) -> dict:
    gain = values["gain"][run]
    return {
        "claim": "ZSC",
        "what": f"{NAMES.get(name, name)}: balanced accuracy, gain by tuning on {run}, scale {scale}",
        "ours": gain["gain"], "low": gain["low"], "high": gain["high"],
        "same_setting": False,
        "reason": f"other towers, {values['pairs'][run]:,} tuning pairs, {SEEN.get((name, run), 'held out')}",
    }  # fmt: skip


def _gap(scale: str, name: str, values: dict) -> dict:
    """The general model against a model of its own size that saw the domain: a gain above zero is the gap."""
    run = next(iter(values["gain"]))
    return _gain(scale, name, run, values) | {
        "claim": "GAP",
        "what": f"{NAMES.get(name, name)}: general model behind the domain model, scale {scale}",
        "paper": (0, float("inf")),
        "unit": "points",
        "reason": "the general model is two towers that never saw a pair, not CLIP",
    }


def _rotation() -> list[dict]:
    """What choosing over rotations gains at each scale: where the ranker sees directions, where it does not, in tuning.

    The paper gives no number, so a gain above zero is what counts. A scale without a run has no row; without any, one
    row says so.
    """
    lines = []
    first = next((scale for scale in scales.SCALES if results.load("rotation", scale)), None)
    for scale in scales.SCALES:
        chosen, built = (results.load(name, scale) for name in ("rotation", "rs3"))
        if scale == first:  # the halves are the pocket world's at every scale: one row
            lines.append(_above(chosen["values"]["halves_gain_of_free"]["mean_minus_deviation"], scale, *HALVES))
        if chosen:
            lines.append(_above(chosen["values"]["own_ranker"], scale, *OWN))
        if built:
            why = f"{built['values']['images']:,} images, a linear head, three seeds; "
            why += "the interval leaves out the draw of those images"
            gain = built["values"]["change"][TURNED]
            lines.append(_above(gain, scale, "zero-shot accuracy after tuning on the choice", why))
    return lines or [{"claim": "ROT", "what": "captions kept by rotation invariance", "reason": "not run here"}]


HALVES = ("captions free of a direction chosen, by a ranker that sees directions",
          "images of two halves, made for this question; its ranker was taught directions")  # fmt: skip
OWN = ("captions free of a direction chosen, by the scale's ranker",
       "a ranker that averages over the image hardly sees directions")  # fmt: skip
TURNED = "rotation, less the upright choice of A"  # the row of chapter rs3's table of changes


def _above(gain: dict, scale: str, what: str, why: str) -> dict:
    """A row of claim ROT from gain, low and high in points."""
    numbers = {"ours": gain["gain"], "low": gain["low"], "high": gain["high"], "unit": "points"}
    about = {"paper": (0, float("inf")), "same_setting": False, "reason": why}
    return {"claim": "ROT", "what": f"{what}, scale {scale}"} | numbers | about


def figure(path: Path | None = None):
    """Balanced accuracy of every model on every test set with its interval; saved to `path` if one is given."""
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
