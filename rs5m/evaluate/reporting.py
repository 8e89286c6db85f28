"""What the official evaluation reports: published names, the paper's column, what cannot be
compared, the table.

Chapter: zeroshot, retrieval, selo.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rs5m import paper
from rs5m.clip import released
from rs5m.evaluate import protocols
from rs5m.files import sha256, whole

KS = (1, 5, 10)
RECALLS = {"image_to_text": "image2text", "text_to_image": "text2image"}
SELO = {
    "rsu": "↑ Rsu [0 ~ 1]",
    "rda": "↑ Rda [0 ~ 1]",
    "ras": "↓ Ras [0 ~ 1]",
    "rmi": "↑ Rmi [0 ~ 1]",
}
TITLES = {
    "eurosat": "EuroSAT",
    "resisc45": "RESISC45",
    "aid": "AID",
    "rsitmd": "RSITMD",
    "rsicd": "RSICD",
    "air_slt": "AIR-SLT",
}
TUNED = {  # released names by the paper's columns: model, what it was tuned on
    "GeoRSCLIP-ViT-B-32": ("GeoRSCLIP ViT-B/32", "RS5M"),
    "GeoRSCLIP-ViT-H-14": ("GeoRSCLIP ViT-H/14", "RS5M"),
    "GeoRSCLIP-ViT-B-32-RET-2": ("GeoRSCLIP-FT ViT-B/32", "RS5M + RET-2"),
    "GeoRSCLIP-ViT-B-32-RSICD": ("GeoRSCLIP-FT ViT-B/32", "RS5M + RSICD"),
}

PRINTED = {  # by what protocol the paper's numbers came about, by task
    "zero-shot classification": f"rs5m: {len(paper.prompts())} prompts, folder names, mean vector",
    "retrieval": "rs5m: captions as they stand, five right texts an image",
    "semantic localization": "the official script's windows and maps",
}


class Column(NamedTuple):
    """A column of the paper's results.

    same: whether the model evaluated is that very model; named: whether only its name says so.
    """

    model: str
    tuned_on: str
    same: bool
    named: bool


def names(task: str, name: str) -> dict[str, str]:
    """Our key of each published value of an official set -> its official name."""
    if task == "zeroshot":
        return {"top1": f"{TITLES[name]}-zeroshot-acc"}
    if task == "selo":
        return SELO
    recalls = {
        f"{ours}_R@{k}": f"retrieval-{theirs}-R@{k}-{name}"
        for ours, theirs in RECALLS.items()
        for k in KS
    }
    return recalls | {"mean_recall": f"retrieval-mean-recall-{name}"}


def column(name: str, checkpoint: str | Path | None) -> Column:
    """The paper's column of a model, by the hash of its release, or by its name where the hash is
    not known; else GeoRSCLIP of the nearest size as a reference.
    """
    files = {release.file: known for known, release in released.RELEASED.items()}
    release = files.get(Path(checkpoint).name, "") if checkpoint else name
    architecture = released.RELEASED[name].architecture if name in released.RELEASED else name
    if release in TUNED and released.RELEASED[release].architecture == architecture:
        known = released.RELEASED[release].sha256
        if not known:
            return Column(*TUNED[release], same=False, named=True)
        if sha256(checkpoint or released.fetch(name)) == known:
            return Column(*TUNED[release], same=True, named=False)
    if (name, str(checkpoint)) == ("ViT-B-32-quickgelu", "openai"):  # open_clip fetches it by tag
        return Column("CLIP ViT-B/32", "none", same=True, named=False)
    nearest = "GeoRSCLIP ViT-H/14" if "ViT-H" in architecture else "GeoRSCLIP ViT-B/32"
    return Column(nearest, "RS5M", same=False, named=False)


def published(task: str, name: str, at: Column) -> dict[str, float]:
    """Official name -> the paper's value in that column, as far as the paper has one."""
    rows = paper.table("results")
    rows = rows[
        (rows["dataset"] == TITLES[name])
        & (rows["model"] == at.model)
        & (rows["tuned_on"] == at.tuned_on)
    ]
    values = dict(zip(rows["metric"], rows["value"], strict=True))
    spelled = {"top1": "top-1", "mean_recall": "mean recall"} | {
        key: key.capitalize() for key in SELO
    }
    theirs = {
        key: spelled.get(key, key.replace("_R@", " R@").replace("_", "-"))
        for key in names(task, name)
    }
    return {
        official: values[theirs[key]]
        for key, official in names(task, name).items()
        if theirs[key] in values
    }


@cache
def printed_by_others() -> pd.DataFrame:
    """What other authors print of released models and of CLIP's: release and the columns of
    `printed`.
    """
    return pd.read_csv(files("rs5m.evaluate") / "printed.csv", encoding="utf-8")


def printed(release: str) -> pd.DataFrame:
    """What is printed of a released model, by the paper and others: task, dataset, metric, value,
    unit, source and the protocol; empty where no printed number of it was checked.
    """
    rows, about = paper.table("results"), TUNED.get(release, ("", ""))
    rows = rows[(rows["model"] == about[0]) & (rows["tuned_on"] == about[1])]
    columns = ["task", "dataset", "metric", "value", "unit", "source"]
    own, others = rows[columns].assign(protocol=rows["task"].map(PRINTED)), printed_by_others()
    others = others[others["release"] == release].drop(columns="release")
    return (
        pd.concat([own, others], ignore_index=True) if len(own) else others.reset_index(drop=True)
    )


def sorted_out(scored: dict, why: dict, at: Column) -> dict:
    """Values of whole official sets under their official names; all others, with the reasons, under
    not_comparable.
    """
    report = {key: {} for key in ("metrics", "intervals", "chance", "not_comparable", "extra")}
    report["paper"] = {
        "model": at.model,
        "tuned_on": at.tuned_on,
        "same_model": at.same,
        "named_like_release": at.named,
        "values": {},
    }
    for (task, name), result in scored.items():
        report["extra"][f"{task} {name}"] = result.extra
        if reasons := why[task, name]:
            told = {"why": reasons, "values": result.values, "intervals": result.intervals}
            report["not_comparable"][f"{task} {name}"] = told | {"chance": result.chance}
            continue
        for key, official in names(task, name).items():
            report["metrics"][official], report["intervals"][official] = (
                result.values[key],
                result.intervals[key],
            )
            if key in result.chance:
                report["chance"][official] = result.chance[key]
        report["paper"]["values"] |= published(task, name, at)
    return report


def side_by_side(scored: dict) -> dict[str, dict]:
    """ "task set" -> protocol -> values, intervals and chance, of the sets that were measured by
    more than the usual protocol.
    """
    found = {}
    for (task, name), result in scored.items():
        if result.protocols:
            usual = {"values": result.values, "intervals": result.intervals}
            usual["chance"] = result.chance
            found[f"{task} {name}"] = {protocols.USUAL: usual} | result.protocols
    return found


def spread(rows: dict[str, dict]) -> tuple[str, dict[str, float], float]:
    """The headline value of each protocol, and how far they lie apart: its name, by protocol, in
    points.
    """
    known = next(iter(rows.values()))["values"]
    key = next(key for key in ("top1", "map_macro", "mean_recall") if key in known)
    values = {name: row["values"][key] for name, row in rows.items()}
    return key, values, max(values.values()) - min(values.values())


def write(report: dict, out: Path) -> None:
    """The JSON under its name once it is whole."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_predictions(scored: dict, folder: str | Path | None) -> None:
    """SET.parquet in the folder for each table by image there is; nothing without a folder."""
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for (_, name), one in scored.items():
        if one.predictions is not None:
            with whole(Path(folder) / f"{name}.parquet") as temporary:
                one.predictions.to_parquet(temporary, index=False)


def show(report: dict) -> None:
    """The table on the terminal, then what cannot be compared and what was left out."""
    at = report["paper"]
    other = " (same by name alone)" if at["named_like_release"] else " (another model)"
    theirs = f"paper, {at['model']}" + ("" if at["same_model"] else other)
    rows = []
    for name, value in report["metrics"].items():
        row = {
            "metric": name,
            "this run": _text(name, value),
            "95 %": _between(name, report["intervals"][name]),
            "chance": _chance(name, report["chance"]),
        }
        published = at["values"].get(name)
        gap = "" if published is None else _text(name, value - published, "+")
        rows.append(
            row | {theirs: "" if published is None else _text(name, published), "difference": gap}
        )
    if rows:
        print(pd.DataFrame(rows).to_string(index=False))
        for known in report["cards"].values():
            print(f"{known['title']}: compared with the published set by {known['known_by']}")
    for name, told in report["not_comparable"].items():
        print(f"\n{name}: not comparable with the paper, {'; '.join(told['why'])}")
        rows = [
            {"value": k, "this run": _text(k, v), "95 %": _between(k, told["intervals"][k])}
            | {"chance": _chance(k, told["chance"])}
            for k, v in told["values"].items()
        ]
        print(pd.DataFrame(rows).to_string(index=False))
    for name, rows in report.get("protocols", {}).items():
        key, values, apart = spread(rows)
        told = ", ".join(f"{protocol} {value:.2f}" for protocol, value in values.items())
        print(f"{name}, {key} by protocol: {told}; {apart:.1f} points apart by the protocol alone")
    for entry in report["left_out"]:
        print(f"left out: {entry['task']} {entry['set']}: {entry['reason']}{_files(entry)}")


def _files(entry: dict) -> str:
    """How many files an entry names, and the first ten of them."""
    if not entry.get("files"):
        return ""
    more = ", ..." if entry["count"] > 10 else ""
    return f", {entry['count']}: {', '.join(entry['files'][:10])}{more}"


def _text(name: str, value: float, sign: str = "") -> str:
    """Percents to two digits as published, ratios (of semantic localization) to four."""
    return f"{value:{sign}.{4 if name in SELO or name in SELO.values() else 2}f}"


def _chance(name: str, known: dict[str, float]) -> str:
    return _text(name, known[name]) if name in known else ""


def _between(name: str, interval: tuple[float, float]) -> str:
    return f"{_text(name, interval[0])} to {_text(name, interval[1])}"
