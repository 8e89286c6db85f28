"""Writes the measured parts of README.md, and its picture, from results/.

    python tools/readme.py            write what is out of date
    python tools/readme.py --check    change nothing, fail when something is out of date

Two blocks between markers: cost, from results/mini/timing.json, and findings, from the chapters'
results. Minutes and gigabytes are another machine's: those stated may be off by a factor of 1.5.
"""

import argparse
import json
import re
from collections import Counter
from math import ceil

from rs5m import intervals, paper, results
from rs5m.book import colour as colours
from rs5m.book import scorecard, weights

CURE = "python tools/readme.py"
BLOCK = r"<!-- {0}:start -->\n(.*?)<!-- {0}:end -->"
MEASURED = re.compile(r"\d[\d.]*(?= (?:minutes|GB))")
FACTOR = 1.5
FIGURE = "results/scorecard.png"


def cost() -> str:
    """The two commands with what they cost; without numbers before a complete run."""
    path = results.root() / "results" / "mini" / "timing.json"
    timing = json.loads(path.read_text()) if path.is_file() else {}
    setup, run = "", ""
    if timing:
        disk = timing["gigabytes"]
        if timing["setup_seconds"]:
            setup = f": {ceil(timing['setup_seconds'] / 60)} minutes, {disk.pop('.venv'):.1f} GB"
        size = sum(size for name, size in disk.items() if name != ".venv")
        run = f": {ceil(timing['seconds'] / 60)} minutes, {size:.1f} GB"
        run += f" ({timing['run']}, {timing['cpus']} CPU cores)"
    return f"```bash\nmake setup       # once{setup}\nmake reproduce   # every chapter{run}\n```\n"


def gain(values: dict) -> str:
    return intervals.in_words(values, "gain", sign="+")


def change(chapter: str, scale: str, test: str, measure: str) -> str:
    """A measure of the general model, of the one tuned on the book's own pairs, and the gain."""
    values, tuned = results.load(chapter, scale)["values"]["tests"][test], "pub11+rs3"
    before, after = (values["models"][model][measure] for model in ("general", tuned))
    factor = 100 if measure == "rmi" else 1
    levels = f"{scorecard.NAMES[test]} {before * factor:.1f} to {after * factor:.1f}"
    shown = f"{levels}, {gain(values['gain'][tuned])}"
    if colour := values.get("baselines", {}).get(colours.CAPTIONS):
        shown += f" (colour alone {colour[measure]:.1f})"
    return shown


def both(chapter: str, measure: str, local: str) -> str:
    shown = (("mini", "pocket"), ("local", local))
    return "; ".join(change(chapter, scale, test, measure) for scale, test in shown)


def real_captions() -> str:
    """The head tuned on RSICD, beside the fair baseline, on sets without contact."""
    shown = []
    for name, found in results.load("rsicd", "local")["values"]["tests"].items():
        before, after, colour = (
            found["arms"][arm]["gain"] for arm in ("general", "tuned", "colour")
        )
        shown.append(
            f"{scorecard.NAMES[name]} {before:.1f} to {after:.1f}, {gain(found['over general'])} "
            f"(colour alone {colour:.1f})"
        )
    return "; ".join(shown)


def published_weights() -> str:
    """CLIP beside GeoRSCLIP on WHU-RS19."""
    values = results.load("weights", "local")["values"]
    shown = []
    for name in ("ViT-B-32", "ViT-L-14"):
        before, after = (
            values["models"][f"{family} {name}"][weights.MANY]["top1"]
            for family in ("CLIP", "GeoRSCLIP")
        )
        found = values["gains"][f"GeoRSCLIP {name}"][weights.MANY]
        shown.append(f"{name} {before:.1f} to {after:.1f}, {gain(found)}")
    return "WHU-RS19, vectors computed by others: " + "; ".join(shown)


def rows() -> dict[str, str]:
    """Six questions, and what was measured."""
    turned, built = (results.load(name, "mini")["values"] for name in ("rotation", "rs3"))
    filters = results.load("filters", "local")["values"]
    words = results.load("keywords", "mini")["values"]["found"]
    seen, own = turned["halves_gain_of_free"]["mean_minus_deviation"], turned["own_ranker"]
    return {
        "Does tuning on [people's captions](book/tune.md) help on test sets that the model has "
        "never seen?": real_captions(),
        "What do the [published weights](book/zeroshot.md) gain over CLIP on a set that the paper "
        "does not report?": published_weights(),
        "Does tuning on the rebuilt pairs help [zero-shot classification](book/zeroshot.md), and "
        "more than six colour numbers from the same captions?": (
            both("zeroshot", "balanced", "eurosat")
        ),
        "Does it help [retrieval](book/retrieval.md) (mean recall) and "
        "[localization](book/selo.md) in large scenes (Rmi)?": (
            f"{both('retrieval', 'mean_recall', 'ucm')}; {both('selo', 'rmi', 'ucm')}"
        ),
        "Does [ranking over rotations](book/rotation.md) choose captions without directions?": (
            f"{gain(seen)} if the ranker sees directions, {gain(own)} if it hardly does; "
            f"after tuning on the choice, {gain(built['change'][scorecard.TURNED])}, over "
            f"{built.get('draws', 1)} draws of training images"
        ),
        "What do [keywords](book/keywords.md) and the [outlier filters](book/filters.md) keep?": (
            f"keywords {words['says so']['rate']:.0f} % of captions that name the view from above, "
            f"{words['silent']['rate']:.0f} % of those that do not; the filters "
            f"{filters['reported']['recall']['rate']:.0f} % of the pocket web's views, "
            f"{filters['real_images_kept']['EuroSAT']['rate']:.0f} % of EuroSAT's"
        ),
    }


def findings() -> str:
    numbers = paper.compare(scorecard.published())["verdict"]
    lines = scorecard.rows()
    outcomes = Counter(map(scorecard.outcome, lines))
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    table = "\n".join(f"| {question} | {measured} |" for question, measured in rows().items())
    return (
        f"| question | measured (%; gains in points, with 95 % intervals) |\n|---|---|\n{table}\n\n"
        "The [scorecard](book/scorecard.md) tells what the tuning pairs knew of each test set: as "
        f"far as we know, {scorecard.untouched(lines)} free of contact with its test. It gives "
        f"every outcome its reason: {counted}. "
        f"Of the paper's {len(numbers)} published numbers, "
        f"{sum(numbers != 'not attempted')} have been measured again with the released weights.\n"
    )


def agree(held: str, wanted: str) -> bool:
    """The same text, its minutes and gigabytes within FACTOR of each other."""
    if MEASURED.sub("", held) != MEASURED.sub("", wanted):
        return False
    pairs = zip(MEASURED.findall(held), MEASURED.findall(wanted), strict=True)
    return all(float(a) <= FACTOR * float(b) and float(b) <= FACTOR * float(a) for a, b in pairs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args(arguments).check
    path, stale = results.root() / "README.md", []
    text = path.read_text(encoding="utf-8")
    for name, block in (("cost", cost), ("findings", findings)):
        held = re.search(BLOCK.format(name), text, re.DOTALL)
        if not held:
            raise SystemExit(f"README.md has no block between the markers {name}:start and :end")
        wanted = block()
        if not agree(held[1], wanted):
            stale.append(name)
            text = text[: held.start(1)] + wanted + text[held.end(1) :]
    if check and stale:
        raise SystemExit(f"README.md: {', '.join(stale)} out of date: run `{CURE}` and commit")
    figure = results.root() / FIGURE
    if not check and ("findings" in stale or not figure.exists()):
        scorecard.figure(figure)
    if stale:
        path.write_text(text, encoding="utf-8")
    print(f"README.md   {', '.join(stale)} written" if stale else "README.md   up to date")


if __name__ == "__main__":
    main()
