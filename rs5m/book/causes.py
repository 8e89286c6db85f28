"""Two stored experiments as tables: `bench/halves.py`, why web pairs hurt on EuroSAT, and
`bench/ladder.py`, what comes near six colour numbers or beats them. Chapter: tune.
"""

import pandas as pd

from rs5m import results
from rs5m.intervals import in_words

QUOTED = {  # name in the prose: arm of bench/halves.py
    "pub11": "PUB11",
    "rs3": "RS3",
    "both": "both",
    "plain": "as they are",
    "alt": "alt-texts that name the class",
    "world": "pixels of the pocket world, EuroSAT's names",
    "coarse": "pictures of 15 pixels",
    "cover": "names of the nearest land cover",
    "shuffled": "sentences of other images",
    "told": "texts that name a land cover alone",
    "silent": "texts that name none alone",
    "renamed": "land covers under EuroSAT's names",
    "few": "RS3 alone, as many looks as in both",
    "often": "both, RS3 as often as alone",
    "even": "both, half of each batch from each",
    "first": "PUB11 first, then RS3",
    "last": "RS3 first, then PUB11",
}

COLOUR = "six colour numbers"  # the arms of bench/ladder.py that are the baseline

RUNGS = {  # name in the prose: arm of bench/ladder.py
    "trunk": "matrix behind the trunk",
    "alone": "stem and first stages beside the frozen trunk",
    "few": "stem and first stages beside the frozen trunk, 40 images of a class in RS3",
    "both": "trunk, stem and first stages, both learned",
}


def stored(name: str) -> dict:
    """The values of results/bench/<name>.json, {"arms": []} where it is not there."""
    return (results.load(name, "bench") or {"values": {"arms": []}})["values"]


def halves() -> pd.DataFrame:
    """Every arm of bench/halves.py."""
    rows = [
        {
            "question": arm["question"],
            "arm": arm["arm"],
            "pairs": arm["pairs"],
            "steps": arm["steps"],
            "balanced accuracy, %": round(arm["balanced"], 1),
            "over the general model": in_words(arm["over_general"], "gain", sign="+"),
        }
        for arm in stored("halves")["arms"]
    ]
    return pd.DataFrame(rows).set_index(["question", "arm"]) if rows else pd.DataFrame()


def quoted() -> dict[str, float | str]:
    """The numbers of the prose about the halves, by the names of QUOTED and five more; not a number
    where the file is not there.
    """
    values = stored("halves")
    level = {arm["arm"]: arm["balanced"] for arm in values["arms"]}
    told = {name: level.get(arm, float("nan")) for name, arm in QUOTED.items()}
    by_class = values.get("pub11_by_class") or {"not measured": float("nan")}
    worst, best = (pick(by_class, key=by_class.get) for pick in (min, max))
    return told | {
        "general": values.get("general", float("nan")),
        "names": values.get("pub11_names_a_class", float("nan")),
        "worst": f"{worst} {by_class[worst]:+.0f} points",
        "best": f"{best} {by_class[best]:+.0f}",
        "less": in_words(values["both_over"]["RS3"], "gain", sign="+") if level else "unknown",
        "worth": worth(),
    }


def worth() -> str:
    """What each half is worth at scale local, in points with intervals."""
    halves = (results.load("tune", "local") or {"values": {}})["values"].get("worth", {})
    said = {"both": "both"}
    told = [
        f"{in_words(gain, 'gain', sign='+')} points with {said.get(name, name + ' alone')}"
        for name, gain in halves.items()
    ]
    return ", ".join(told) or "an amount that no stored run tells"


def ladder() -> pd.DataFrame:
    """Every arm of bench/ladder.py."""
    rows = [
        {
            "change": arm["change"],
            "balanced accuracy, %": round(arm["balanced"], 1),
            "over six colour numbers": in_words(arm["over_colour"], "gain", sign="+"),
            "over colour from the arm's own captions": (
                in_words(arm["over_same"], "gain", sign="+") if "over_same" in arm else "—"
            ),
            "seconds": round(arm["seconds"], 1),
        }
        for arm in stored("ladder")["arms"]
    ]
    return pd.DataFrame(rows)


def rungs() -> dict[str, int | str]:
    """What the prose says of the ladder: count, ahead (arms whose whole interval lies above
    colour that learns from the same captions), best (the highest arm), and the arms of RUNGS.
    Colour itself, from whatever pairs, is no arm here.
    """
    arms = [arm for arm in stored("ladder")["arms"] if not arm["change"].startswith(COLOUR)]
    ahead = [arm["change"] for arm in arms if over(arm)["low"] > 0]
    told = {"count": len(arms), "ahead": "; ".join(ahead) or ("none" if arms else "not measured")}
    by_change = {arm["change"]: arm for arm in arms}
    told |= {name: level(by_change.get(change)) for name, change in RUNGS.items()}
    best = max(arms, key=lambda arm: arm["balanced"], default=None)
    return told | {"best": f"{best['change']}: {level(best)}" if best else "not measured"}


def over(arm: dict) -> dict:
    """An arm's distance to colour that learns from the same captions."""
    return arm.get("over_same") or arm["over_colour"]


def level(arm: dict | None) -> str:
    """An arm's accuracy and its distance to colour that learns from the same captions."""
    if arm is None:
        return "not measured"
    distance = in_words(over(arm), "gain", sign="+")
    return f"{arm['balanced']:.1f} %, {distance} points against colour from the same captions"
