"""Models side by side by every protocol and every use of the same frozen vectors, and what
their order depends on. Chapter: leaderboard.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rs5m import intervals, results, zeroshot
from rs5m.book import domain, models, plots, testing, together, weights
from rs5m.book.scales import Scale, data_folder
from rs5m.clip import Model
from rs5m.data.datasets import Labelled
from rs5m.evaluate import frozen, prompts, protocols, reporting, stored
from rs5m.intervals import in_words

FAMILIES = together.FAMILIES
_COUNTS = ("models", "gain_low", "gain_high", "chosen")
_COUNTS += ("pairs", "turned", "unclear", "moved", "spread")  # of `order`
FEW, PROBE, ALL = "16-shot with texts", "linear probe", "transductive"
SHOWN = ("k-NN", PROBE, "1-shot with texts", FEW, ALL)  # beside the protocols of zero-shot


def published(scale: Scale) -> dict | None:
    """`measured` of each file of WHU-RS19's vectors in the scale's data folder, or what was stored,
    see `rs5m.results.measured`: models, and by_prompt, top-1 of each of the 105 prompts alone.
    """
    here = scale.name == "local" and any((data_folder(scale) / weights.FOLDER).glob("*.npz"))
    return results.measured(
        "frozen", "local", here, lambda: of_files(data_folder(scale) / weights.FOLDER)
    )


def of_files(folder: Path) -> dict:
    """`published` of a folder of npz files, those of FAMILIES."""
    found = {"models": {}, "by_prompt": {}}
    for family in FAMILIES:
        for path in sorted(folder.glob(f"{family}_*.npz")):
            name, one = path.stem.replace("_", " ", 1), stored.read(path)
            texts = {
                weights.ONE if key == weights.ONE else weights.MANY: text
                for key, text in stored.classifiers(one).items()
            }
            found["models"][name] = measured(one.image, one.label, texts)
            if "text" in one.texts:
                found["by_prompt"][name] = stored.spread(one).tolist()
    return found


def of_scale(scale: Scale, data: Labelled) -> dict[str, dict]:
    """`measured` of the scale's general model and of the one tuned on its first run."""
    run = scale.runs[0]
    known = {
        "general": ("general", lambda: models.general(scale)),
        f"tuned on {'+'.join(run)}": (
            domain.folder(scale, run, seed=0).name,
            lambda: domain.domain_model(scale, run, seed=0)[0],
        ),
    }
    return {name: _measured(scale, data, *model) for name, model in known.items()}


def _measured(scale: Scale, data: Labelled, name: str, model: Callable[[], Model]) -> dict:
    known, texts = testing.vectors(scale, data, name, model), {}
    for title, one in protocols.zeroshot().items():
        if title == protocols.USUAL:
            texts[title] = zeroshot.classifier(known["text"])
            continue
        groups = protocols.texts(one, data.classes, prompts.NONE)
        flat = [text for group in groups for text in group]
        text = testing.text_vectors(scale, f"{title}-{data.name}", flat, name, model)
        text = text.reshape(len(groups), len(groups[0]), -1)
        texts[title] = zeroshot.classifier(text, one.averaging)
    found = measured(known["image"], data.labels, texts)
    usual = texts[protocols.USUAL]
    return found | {"together": together.measured(known["image"], data.labels, usual)}


def measured(image: np.ndarray, label: np.ndarray, texts: dict[str, np.ndarray]) -> dict:
    """zeroshot: by protocol, and frozen: by use of the vectors, each top1, low and high in %.

    Args:
        image: vectors (n, dim).
        label: (n,).
        texts: protocol -> class vectors (classes, dim), of which the first is the usual one.
    """
    zero = {}
    for name, text in texts.items():
        hit = zeroshot.hits(image, text, label)
        low, high = intervals.stratified_share(hit, label)
        zero[name] = {"top1": 100 * float(hit.mean()), "low": low, "high": high}
    usual, used = next(iter(texts.values())), {}
    for score in frozen.TASKS.values():
        used |= score(image, label, usual)
    return {"zeroshot": zero, "frozen": used}


# ---------------------------------------------------------------- shown


def columns(values: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """Column -> model -> top1, low and high: every protocol, then SHOWN."""
    found: dict[str, dict[str, dict]] = {}
    for name, of in values.items():
        rows = {f"zero-shot, {key}": row for key, row in of["zeroshot"].items()}
        rows |= {key: of["frozen"][key] for key in SHOWN if key in of["frozen"]}
        for key, row in rows.items():
            found.setdefault(key, {})[name] = row
    return found


def table(values: dict[str, dict]) -> pd.DataFrame:
    """Top-1 in % with its interval: a row for each model, a column for each of `columns`."""
    return pd.DataFrame(
        {
            key: {name: in_words(row, "top1") for name, row in by.items()}
            for key, by in columns(values).items()
        }
    ).fillna("")


def beside_theirs(values: dict[str, dict]) -> pd.DataFrame:
    """Top-1 in % of zero-shot and of all images at once, ours and what RS-TransCLIP's authors got
    from the same vectors; a row for each model of which they have both.
    """
    rows = reporting.printed_by_others()
    theirs = rows[rows["dataset"] == "WHU-RS19"].set_index(["release", "metric"])["value"]
    found = {}
    for name, of in values.items():
        release = name.replace(" ", "-")
        if (release, "top-1") in theirs:
            zero, all_of = theirs[release, "top-1"], theirs[release, "transductive top-1"]
            found[name] = {
                "zero-shot, ours": of["zeroshot"][weights.MANY]["top1"],
                "zero-shot, theirs": zero,
                "all at once, ours": of["frozen"][ALL]["top1"],
                "all at once, theirs": all_of,
            }
    return pd.DataFrame(found).T


def apart(both: pd.DataFrame) -> dict[str, float]:
    """Of `beside_theirs`: models; same: those of equal zero-shot, to two digits; zero: the most
    points between the two; low and high: ours less theirs of all images at once. NaN for none.
    """
    if both.empty:
        return dict.fromkeys(("models", "same", "zero", "low", "high"), np.nan)
    zero = (both["zero-shot, ours"] - both["zero-shot, theirs"]).round(2)
    gap = both["all at once, ours"] - both["all at once, theirs"]
    told = {"models": len(both), "same": int((zero == 0).sum()), "zero": float(zero.abs().max())}
    return told | {"low": float(gap.min()), "high": float(gap.max())}


def ranks(values: dict[str, dict]) -> pd.DataFrame:
    """The place of each model, 1 the best, by each column that all have."""
    every = {
        key: {name: row["top1"] for name, row in by.items()}
        for key, by in columns(values).items()
        if len(by) == len(values)
    }
    return pd.DataFrame(every).rank(ascending=False, method="min").astype(int)


def order(values: dict[str, dict]) -> dict[str, float]:
    """What a single column hides: pairs of models; turned: those whose order is not the same in all
    columns; unclear: those whose intervals of zero-shot meet; moved: the most places that a model
    goes up or down between columns; spread: the most points between a model's protocols.
    """
    places, usual = ranks(values), next(iter(columns(values).values()))
    pairs = list(combinations(values, 2))
    turned = sum((places.loc[a] < places.loc[b]).nunique() > 1 for a, b in pairs)
    unclear = sum(
        usual[a]["low"] <= usual[b]["high"] and usual[b]["low"] <= usual[a]["high"]
        for a, b in pairs
    )
    by_model = [[row["top1"] for row in of["zeroshot"].values()] for of in values.values()]
    return {
        "pairs": len(pairs),
        "turned": turned,
        "unclear": unclear,
        "moved": int((places.max(axis=1) - places.min(axis=1)).max()),
        "spread": float(max(np.ptp(each) for each in by_model)),
    }


def gaps(values: dict[str, dict], first: str, second: str) -> dict[str, float]:
    """By how many points the second model is ahead of the first, by column."""
    both = columns(values).items()
    return {key: by[second]["top1"] - by[first]["top1"] for key, by in both if second in by}


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the first paragraph, leads over CLIP of the same size among them; NaN where
    none is stored.
    """
    leads = {"": "RemoteCLIP ViT-B-32", "large_": "GeoRSCLIP ViT-L-14"}
    wanted = {"zero": f"zero-shot, {weights.MANY}", "few": FEW}
    if not values:
        names = [f"{size}{key}" for size in leads for key in wanted]
        return dict.fromkeys((*names, *_COUNTS), np.nan)
    found, known = {}, values["models"]
    for size, name in leads.items():
        apart = gaps(known, f"CLIP {name.partition(' ')[2]}", name)
        found |= {f"{size}{key}": apart[column] for key, column in wanted.items()}
    gain = [of["frozen"][ALL]["gain"] for of in known.values()]
    best = [
        max(each) - known[name]["zeroshot"][weights.MANY]["top1"]
        for name, each in values["by_prompt"].items()
    ]
    counts = {"models": len(known), "gain_low": min(gain), "gain_high": max(gain)}
    return found | counts | {"chosen": max(best)} | order(known)


def curves(values: dict[str, dict]) -> plt.Figure:
    """Top-1 by the number of labelled images of a class: a panel for each architecture, lines for
    its models; at 0 zero-shot, solid with texts, dotted a linear probe alone.
    """
    panels: dict[str, list[str]] = {}
    for name in values:
        panels.setdefault(name.partition(" ViT-")[2] or name.partition(" RN")[2], []).append(name)
    if len(panels) == len(values):  # names without an architecture
        panels = {"": list(values)}
    families = list(dict.fromkeys(_family(name) for name in values))
    colours = plots.colours(families)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels) + 1, 3.6), sharey=True, squeeze=False
    )
    for axis, names in zip(axes.flat, panels.values(), strict=True):
        for name in names:
            _curve(axis, values[name], colours[_family(name)], _family(name))
        axis.set_title(names[0].partition(" ")[2] if len(panels) > 1 else "")
        axis.set_xticks(range(6), ("0", *map(str, frozen.SHOTS)))
        axis.set_xlabel("labelled images of a class")
    axes[0, 0].set_ylabel("top-1, %")
    handles, labels = [], []
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles, labels = [*handles, handle], [*labels, label]
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    return figure


def _family(name: str) -> str:
    return name.partition(" ")[0] if name.partition(" ")[0] in FAMILIES else name


def _curve(axis, of: dict, colour: str, label: str) -> None:
    zero = next(iter(of["zeroshot"].values()))
    for how, style in (("with texts", "-"), ("linear", ":")):
        there = [n for n in frozen.SHOTS if f"{n}-shot {how}" in of["frozen"]]
        rows = [of["frozen"][f"{n}-shot {how}"] for n in there]
        x = [frozen.SHOTS.index(n) + 1 for n in there]
        if how == "with texts":
            rows, x = [zero, *rows], [0, *x]
        top1, low, high = (np.array([row[key] for row in rows]) for key in ("top1", "low", "high"))
        axis.plot(x, top1, style, color=colour, label=label if style == "-" else None)
        axis.fill_between(x, low, high, color=colour, alpha=0.15)
