"""Every published number of the paper beside the reports of `rs5m evaluate`. Chapter: scorecard."""

import json
import shutil
from pathlib import Path

from rs5m import paper, results
from rs5m.book import scales
from rs5m.book.claims import GAINS
from rs5m.book.scales import Scale, data_folder
from rs5m.clip.released import RELEASED as RELEASES
from rs5m.evaluate.reporting import TITLES, TUNED, names
from rs5m.files import walk, whole

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


def models(scale: Scale) -> dict[str, tuple[str, str, str]]:
    """The models of the paper's columns that a scale runs: a report's name -> name, tag of weights,
    tasks that the paper reports of it.

    colab runs those of its own architecture, paper all of them, mini and local none.
    """
    known, table = {}, paper.table("results")
    for about, command in RELEASED.items() if not scale.lock_text else ():
        name, _, tag = command.partition(" --checkpoint ")
        alike = RELEASES[name].architecture if name in RELEASES else name
        rows = table[(table["model"] == about[0]) & (table["tuned_on"] == about[1])]
        if len(rows) and (scale.name == "paper" or alike == scale.model):
            tasks = ",".join(TASKS[task] for task in rows["task"].unique())
            known[f"evaluate-{name}"] = name, tag, tasks
    return known


def measure(scale: Scale) -> None:
    """Write results/<scale>/evaluate-MODEL.json by the official evaluation for all `models` whose
    weights and sets are there; for the others a sentence says what is not.
    """
    for report, (name, tag, tasks) in models(scale).items():

        def make(out: Path, name=name, tag=tag, tasks=tasks) -> None:
            from rs5m.evaluate import official

            official.run(name, tag or None, data_folder(scale), tasks, out / "report.json")

        try:
            key = (name, tag, tasks, _listing(data_folder(scale)))
            made = results.artefact(report, scale.name, key, make)
        except (OSError, ValueError) as error:
            print(f"{name} is not evaluated: {error}")
            continue
        path = results.root() / "results" / scale.name / f"{report}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            shutil.copyfile(made / "report.json", temporary)


def _listing(folder: Path) -> str:
    """A digest of the names and sizes of a folder's files."""
    held = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in walk(folder)]
    return results.digest(*sorted(held))


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
    """(scale, report) of every results/<scale>/evaluate*.json on a model that the paper reports, as
    far as its hash or its name tells.

    ValueError, with the file, where one is not such a report.
    """
    kept = []
    for scale in scales.SCALES:
        for path in sorted((results.root() / "results" / scale).glob("evaluate*.json")):
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
                about = report["paper"]
                same = about["same_model"] or about.get("named_like_release")
                kept += [(scale, report)] if same else []
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
    about = report["paper"]  # older reports called a model the same by its name
    known = about["same_model"] and "named_like_release" in about
    doubt = "" if known else ", known as the paper's model by their name alone"
    return line | {"reason": f"`rs5m evaluate` on the whole set, weights {weights}{doubt}"}


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
