"""Every claim of the paper beside what the runs found: rows for `rs5m.paper.compare`. Chapter:
scorecard.
"""

from rs5m import intervals, paper, results
from rs5m.book import colour, contact, scales, weights

NAMES = {
    "pocket": "pocket world",
    "eurosat": "EuroSAT",
    "ucm": "UC Merced",
    "resisc45": "RESISC45",
    "aid": "AID",
    "rsitmd": "RSITMD",
    "rsicd": "RSICD",
    "air_slt": "AIR-SLT",
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
    about = {"claim": claim, "scale": scale, "what": f"{what}, scale {scale}"}
    return about | {"line": f"{claim}: {what}", "same_setting": False} | numbers | more


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
            contact=_of_published_pairs(),
        )
        for name, by in values["gains"].items()
        if name.startswith("GeoRSCLIP")
    ]


def _of_published_pairs() -> str:
    """What RS5M's pairs have to do with WHU-RS19, by a sample of their captions."""
    record = results.load("published", "local")
    found = record["values"]["captions"].get("contact", {}) if record else {}
    if not found.get(weights.FOLDER, {}).get("named"):
        return contact.UNKNOWN
    return contact.LEAST + " ({named:,} of {pairs:,} of RS3's)".format(**found[weights.FOLDER])


def _real_captions(claim: str) -> list[dict]:
    """What tuning on people's captions gains on sets of which no training image has a copy."""
    record = results.load("rsicd", "local")
    if not record:
        return []
    values, lines = record["values"], []
    why = (
        f"other towers, a linear head, {values['images']:,} captioned images, three seeds; no copy "
        "of a test image found among them"
    )
    for name, found in values["tests"].items():
        touched = contact.said(values.get("named", {}).get(name), name, "rsicd")
        lines.append(_on_rsicd(claim, NAMES[name], found, why, touched))
        if new := found.get("unheard"):
            said = f"{why}; images of {contact.levels(new)} alone, answers among all classes"
            said += "; the interval does not cover which classes"
            what = f"{NAMES[name]}, classes new to the captions"
            line = _on_rsicd(claim, what, new, said, contact.NONE)
            lines.append(line | {"classes": contact.levels(new)})
    return lines


def _on_rsicd(claim: str, what: str, found: dict, why: str, touched: str) -> dict:
    arms, beyond = found["arms"], found["over colour"]["gain"]
    return _row(
        claim,
        "local",
        f"{what}: balanced accuracy, gain by tuning on RSICD",
        found["over general"],
        reason=f"{why}; over colour from the same captions {beyond:+.1f} points",
        line=f"{claim}: {what}, tuned on RSICD",
        before=arms["general"]["gain"],
        after=arms["tuned"]["gain"],
        chance=found["chance"],
        colour=arms["colour"]["gain"],
        contact=touched,
    )


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
            reason=_setting(scale, test, run, values),
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


def _of_half(scale: str, name: str) -> dict | None:
    """What chapter tune counted on the pairs of a half."""
    record = results.load("tune", scale)
    return record and record["values"].get("contact", {}).get(name)


def _halves(claim: str) -> list[dict]:
    """What PUB11, RS3 and both are worth at each scale, by chapter tune."""
    lines = []
    for scale in scales.SCALES:
        record = results.load("tune", scale)
        test = scales.get(scale).tests[0]
        for name, gain in (record["values"].get("worth", {}) if record else {}).items():
            run = {"PUB11": "pub11", "RS3": "rs3"}.get(name, "pub11+rs3")
            small = ", small images" if scales.get(scale).lock_text else ""
            reason = f"{scales.get(scale).towers}{small}, {len(gain['seeds'])} seeds, equal steps"
            what = f"{NAMES.get(test, test)}: gain by tuning on {name}"
            touch = contact.said(_of_half(scale, name) or _contact(scale, test, run), test, run)
            more = {"paper": ABOVE, "reason": reason, "contact": touch}
            lines.append(_row(claim, scale, what, gain, **more))
    return lines


def _setting(scale: str, test: str, run: str, values: dict) -> str:
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
    parts = [scales.get(scale).towers] + [f"{count:,} {of}" for count, of in sizes if count]
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
            about = {"claim": claim, "scale": scale, "what": f"pairs built, scale {scale}"}
            lines.append(about | {"ours": pub11 + rs3, "reason": why})
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
            more = {"paper": ABOVE, "reason": OWN[1], "contact": contact.MADE}
            lines.append(_row(claim, scale, OWN[0], chosen["values"]["own_ranker"], **more))
        if built:
            lines.append(_tuned_on_choice(claim, scale, built["values"]))
    return lines


def _tuned_on_choice(claim: str, scale: str, values: dict) -> dict:
    """With a verdict where each seed drew its own training images, as the interval covers that."""
    what, change = "zero-shot accuracy after tuning on the choice", values["change"][TURNED]
    why = f"a linear head, {values['images']:,} images"
    if (draws := values.get("draws", 1)) > 1:
        why += f", of which {draws} draws are taught"
        touched = contact.said(_of_half(scale, "RS3"), scales.get(scale).tests[0], "rs3")
        return _row(claim, scale, what, change, paper=ABOVE, reason=why, contact=touched)
    gain = intervals.in_words(change, "gain", sign="+")
    why = f"{gain} points, {why}; no verdict, for the interval leaves out the draw of those images"
    return {"claim": claim, "scale": scale, "what": f"{what}, scale {scale}", "reason": why}


CLAIMS = {  # claim: what a row without a run says, who would write its result, its rows
    "ZSC": ("balanced accuracy, gain", "chapter zeroshot", _classified),
    "RSCTIR": ("mean recall, gain", "chapter retrieval", _gains),
    "SELO": ("Rmi, gain", "chapter selo", _gains),
    "SCALE": ("pairs built", "chapters pub11 and rs3", _size),
    "GAP": ("general model behind the domain model", "chapter zeroshot", _gap),
    "HALVES": ("gain by each half of the pairs", "chapter tune", _halves),
    "ROT": ("captions kept by rotation invariance", "chapters rotation and rs3", _rotation),
}
