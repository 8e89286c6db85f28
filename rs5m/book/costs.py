"""What a crawl costs: a model made of stored measurements, and what it says of more pairs. Chapter:
scaling.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rs5m import paper
from rs5m.book import plots
from rs5m.dedup import CROPS, HALVES, MAX_DISTANCE

UNITS = {  # stage -> what it works on
    "select": "listed",
    "download": "urls",
    "look": "pictures",
    "duplicates": "pictures",
    "write": "pictures",
}
WORDS = {"listed": "listed pairs", "urls": "URLs", "pictures": "pictures"}
WINDOWS = len(CROPS + HALVES)


def counts() -> dict[str, int]:
    """The paper's own: pairs listed, URLs asked (one a pair), pictures that came, pairs kept."""
    table = paper.table("pub11_attrition")
    total = table[table.corpus == "total"].set_index("step").pairs
    names = {"listed": "listed", "urls": "keyword filter", "pictures": "download"}
    return {name: int(total[step]) for name, step in (names | {"kept": "remaining"}).items()}


def _units(run: dict, stage: str) -> int:
    return run["listed"] if UNITS[stage] == "listed" else run["pages"]


def line(runs: Sequence[dict], stage: str) -> tuple[float, float]:
    """Processor seconds of a stage: those that every run takes, and those of one unit."""
    x = [_units(run, stage) for run in runs]
    y = [run["cpu_seconds"][stage] for run in runs]
    slope, start = np.polyfit(x, y, 1)
    return (float(start), float(slope)) if start > 0 else (0.0, float(np.dot(x, y) / np.dot(x, x)))


def power(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """a and b of y = a * x ** b."""
    b, a = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(a)), float(b)


def foretold(runs: Sequence[dict], stage: str, units: float) -> float:
    """Processor seconds of a stage by runs: a line, but for duplicates a power of the size."""
    if stage == "duplicates":
        sizes = [run["pages"] for run in runs]
        a, b = power(sizes, [run["cpu_seconds"][stage] for run in runs])
        return a * units**b
    start, slope = line(runs, stage)
    return start + slope * units


def checked(runs: Sequence[dict]) -> pd.DataFrame:
    """The largest run beside what the smaller ones foretell: stage, foretold, measured, ratio."""
    rows = []
    for stage in UNITS:
        told = foretold(runs[:-1], stage, _units(runs[-1], stage))
        rows.append((stage, told, runs[-1]["cpu_seconds"][stage]))
    table = pd.DataFrame(rows, columns=["stage", "foretold", "measured"])
    every = {"stage": "all", **table[["foretold", "measured"]].sum().to_dict()}
    table = pd.concat([table, pd.DataFrame([every])], ignore_index=True)
    return table.assign(ratio=table.measured / table.foretold)


def held(characters: float, url: int) -> float:
    """Bytes that the driver holds for a pair in its two tables, with texts of so many characters
    and URLs of so many.
    """
    n = 1000
    digest = [f"{k:064x}" for k in range(n)]
    names = [f"https://{k:0{url - 8}}" for k in range(n)]
    texts = [f"{k:0{round(characters)}}" for k in range(n)]
    numbers = dict.fromkeys(
        ("row", "shard", "width", "height", "bytes", "score", "probability"), 1.0
    )
    listed = pd.DataFrame({"url": names, "key": names, "text": texts, "source": texts[:1] * n})
    pictures = pd.DataFrame({"key": names, "sha256": digest} | numbers, index=range(n))
    tables = (listed, pictures)
    return sum(float(table.memory_usage(deep=True).sum()) for table in tables) / n


# ---------------------------------------------------------------- near hashes


def growth(hashes: Sequence[dict], distance: int) -> tuple[float, float]:
    """a and b of a * n ** b, processor seconds of the search by the sizes that were measured."""
    rows = [one for one in hashes if one["max_distance"] == distance and one["on_disk"]]
    return power(*([one[name] for one in rows] for name in ("hashes", "cpu_seconds")))


def near(stored: dict[str, dict], n: float, distance: int = MAX_DISTANCE) -> dict[str, float]:
    """Processor seconds of near-duplicates among n pictures: the search in every window, and a
    closer look at the look-alikes that it proposes, whose share of all pairs is that of the real
    pictures of bench/dedup.py. Copies themselves come on top.
    """
    a, b = growth(stored["beyond"]["hashes"], distance)
    look = stored["beyond"]["look"]["cpu_seconds"] / stored["beyond"]["look"]["pairs"]
    real = stored["dedup"]["planted"]["reported_on"]
    share = (real["candidates"] - real["planted"]) / (real["images"] ** 2 / 2)
    return {"search": WINDOWS * a * n**b, "closer look": look * share * n**2 / 2}


def both_ways(grouped: dict | None) -> str:
    """A sentence on pictures that were grouped in memory and on disk; ValueError where the groups
    differ.
    """
    if not grouped:
        return "grouping in memory and on disk is not stored: run bench/beyond.py"
    if not grouped["equal"]:
        raise ValueError("the groups on disk are not those in memory: see bench/beyond.py")
    sides = (
        f"{words} ({grouped[name]['gb']:.2f} GB, {grouped[name]['cpu_seconds']:.0f} s of processor)"
        for name, words in (("in_memory", "in memory"), ("on_disk", "on disk"))
    )
    return f"{grouped['images']:,} pictures, a tenth copies: the same groups {' and '.join(sides)}"


# ---------------------------------------------------------------- the bill


def bill(
    stored: dict[str, dict], asked: dict[str, float], prices: dict[str, float]
) -> pd.DataFrame:
    """Stages with what they work on: units, core-hours, gigabytes kept, money.

    Args:
        stored: scaling, keywords, beyond and dedup of results/bench; ten million rows say more
            of the first stage than runs, and the model of `near` more of duplicates.
        asked: units by name.
        prices: core_hour, gigabyte_month, and bytes_a_picture of the web.
    """
    rows, runs = [], stored["scaling"]["runs"]
    seconds = {stage: line(runs, stage)[1] * asked[unit] for stage, unit in UNITS.items()}
    row = stored["keywords"]["sides"]["ours"]["cpu_ns_per_row"] / 1e9
    seconds |= {"select": row * asked["listed"]}
    seconds |= {"duplicates": sum(near(stored, asked["pictures"]).values())}
    for stage, unit in UNITS.items():
        hours = seconds[stage] / 3600
        kept = asked[unit] * _bytes(runs[-1], stage, prices["bytes_a_picture"]) / 1e9
        money = hours * prices["core_hour"] + kept * prices["gigabyte_month"]
        each = seconds[stage] / asked[unit] * 1e6
        rows.append((stage, WORDS[unit], asked[unit], each, hours, kept, money))
    names = ["stage", "of", "units", "microseconds", "core_hours", "gigabytes", "money"]
    table = pd.DataFrame(rows, columns=names)
    total = table[["core_hours", "gigabytes", "money"]].sum().to_dict()
    return pd.concat([table, pd.DataFrame([{"stage": "all"} | total])], ignore_index=True)


def _bytes(run: dict, stage: str, picture: float) -> float:
    """Bytes on disk of a unit of a stage; downloads and shards hold a picture of the web's size."""
    scale = picture / run["bytes_a_picture"]
    held = run["bytes"]
    names = {"select": ("select", "unmatched"), "download": ("fetch",), "look": ("look",)}
    size = sum(held[name] for name in names.get(stage, ())) / _units(run, stage)
    if stage == "write":
        size = held["tars"] / run["pages"]
    return size * (scale if stage in ("download", "write") else 1)


def hours_of_one_host(urls: float, seconds: float, at_once: int) -> float:
    """How long one host has to be asked for all its URLs."""
    return urls * seconds / at_once / 3600


def figure(stored: dict[str, dict], sizes: Sequence[float]) -> plt.Figure:
    """Core-hours by the number of pictures: what grows with it, and the two parts of
    near-duplicates, dots where the search was measured.
    """
    drawn, axis = plt.subplots(figsize=(7.2, 4))
    x, runs = np.asarray(sizes, float), stored["scaling"]["runs"]
    linear = sum(line(runs, stage)[1] for stage in ("download", "look", "write"))
    axis.plot(x, linear * x / 3600, color=plots.AFTER, label="download, look, write")
    for part, colour in (("search", plots.BEFORE), ("closer look", plots.THIRD)):
        hours = [near(stored, n)[part] / 3600 for n in x]
        axis.plot(x, hours, "--", color=colour, label=f"near-duplicates: {part}")
    seen = [o for o in stored["beyond"]["hashes"] if o["max_distance"] == MAX_DISTANCE]
    seen = [(o["hashes"], WINDOWS * o["cpu_seconds"] / 3600) for o in seen if o["on_disk"]]
    axis.plot(*zip(*seen, strict=True), "o", color=plots.BEFORE)
    axis.set(xscale="log", yscale="log", xlabel="pictures", ylabel="core-hours")
    axis.legend(fontsize=9)
    drawn.tight_layout()
    return drawn
