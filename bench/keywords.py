"""Rows per second of the keyword filter, from parquet to kept rows, beside Python `re`, pandas and
a bare scan.

    python -m bench.keywords [--rows 10000000] [--rounds 5] [--out results/bench/keywords.json]

The text is generated: alt-text-like rows of 40 to 120 characters, about 1.5 % of them with a
keyword. Every file holds the same row groups, so that ten million rows are quick to make. Each side
reads both columns (the scan: the text) and keeps whole rows. The sides run in turn, on the same
files, which the operating system has in its cache; Python `re` runs on a sample and is compared per
row. Processor seconds are stored too: on a busy machine they say more than the clock. Target: 25
times Python `re` with the same pattern and IGNORECASE, one `search` per row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import keywords

FILES, GROUPS, SAMPLE, SEED, TARGET = 8, 10, 200_000, 0, 25
SCAN = "scan of the text column"
BASELINE = "re, same pattern, IGNORECASE"
_VOCABULARY = """
a the of in on with for and to from at by is his her new old black white red blue green small large
young beautiful vintage modern happy free best home house kitchen room bedroom living table chair
wall art print poster photo picture image stock illustration vector design pattern background
texture flower rose wedding dress woman man girl boy people family baby dog cat horse bird car
truck bike wheel engine road street city town river lake beach sea ocean mountain forest sky sunset
night light winter summer snow food cake chocolate recipe chicken salad wine coffee cup glass
bottle shoes bag leather jacket shirt cotton hoodie women's men's kids ring gold silver necklace
jewelry watch phone case cover samsung iphone apple laptop screen camera lens book page cover paper
card christmas birthday gift party music band guitar game football team player match world cup
school student teacher office business company logo sign icon market price sale shop store online
review set pack piece size inch cm quality high custom handmade wood metal plastic steel garden
plant tree grass park bridge tower church castle museum hotel view map north south east west london
paris york california india china japan german 2012 2015 2018 2019 3d 4k hd 50 100 12 no. vol. | -
& , : ... (pack #3 – “classic” café naïve über año 中国 ™ ® €
"""
WORDS = _VOCABULARY.split()
TRAPS = ["satellite dish", "Aerial Yoga class", "satellite TV receiver", "aerial silks"]


def make_rows(n: int, rng: np.random.Generator) -> pa.Table:
    """n rows of `url` and `text`; a keyword in 1.3 % and a trap in 0.2 % of them."""
    words = np.array(WORDS, object)
    words = np.concatenate([words, [w.capitalize() for w in WORDS]])
    drawn, lengths = words[rng.integers(len(words), size=(n, 20))], rng.integers(8, 19, n)
    texts = [list(row[:k]) for row, k in zip(drawn, lengths, strict=True)]
    planted = [t.replace("#", "2") for t in keywords.terms()]
    for i in np.flatnonzero(rng.random(n) < 0.015):
        texts[i][int(rng.integers(7))] = str(rng.choice(planted if rng.random() < 0.87 else TRAPS))
    texts = [" ".join(t) for t in texts]
    keys = rng.integers(1 << 60, size=n)
    urls = [f"https://images.example{k % 997}.com/media/{k % 89}/{k:016x}-large.jpg" for k in keys]
    return pa.table({"url": urls, "text": texts})


def make_files(folder: Path, rows: int) -> list[str]:
    """`rows` rows as FILES parquet files of GROUPS row groups each, all with the same content."""
    rng, first = np.random.default_rng(SEED), folder / "part-0.parquet"
    per_group = rows // (FILES * GROUPS)
    with pq.ParquetWriter(
        first, pa.schema([("url", pa.string()), ("text", pa.string())])
    ) as writer:
        for _ in range(GROUPS):
            writer.write_table(make_rows(per_group, rng))
    return [str(shutil.copy(first, folder / f"copy-{k}.parquet")) for k in range(1, FILES)] + [
        str(first)
    ]


def ours(files: list[str]) -> int:
    return len(daft.read_parquet(files).where(keywords.expression("text")).collect())


def arrow(files: list[str]) -> int:
    """The package's other door, `matches`, one row group after the other."""
    kept = 0
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1 << 17):
            kept += batch.filter(pa.array(keywords.matches(batch.column("text")))).num_rows
    return kept


def scan(files: list[str]) -> int:
    """Read the text column and touch every value: the least that any filter has to do."""
    out = (
        daft.read_parquet(files)
        .select(daft.col("text").length().alias("n"))
        .agg(daft.col("n").sum())
    )
    return out.to_pydict()["n"][0]


def with_pandas(files: list[str]) -> int:
    kept = 0
    for file in files:
        frame = pd.read_parquet(file)
        kept += len(frame[frame["text"].str.contains(keywords.pattern(), regex=True)])
    return kept


def with_re(files: list[str], compiled: re.Pattern, sample: int) -> int:
    """`compiled.search` on each of the first `sample` rows, one after the other."""
    kept = seen = 0
    for batch in pq.ParquetFile(files[0]).iter_batches(batch_size=min(sample, 50_000)):
        keep = [compiled.search(text) is not None for text in batch.column("text").to_pylist()]
        kept, seen = kept + batch.filter(pa.array(keep)).num_rows, seen + len(keep)
        if seen >= sample:
            break
    return kept


def re_forms() -> dict[str, re.Pattern]:
    """Ways to write the filter with `re`: three of our factored pattern, then the usual join of
    terms.
    """
    folded = re.sub(r"\[([A-Z])([a-z])\]", r"\2", keywords.pattern())
    words = [re.escape(term).replace(r"\ ", r"[\s_-]*") for term in keywords.terms()]
    words = [word.replace(r"\#", r"\d{1,2}[a-z]?") for word in words]
    return {
        BASELINE: re.compile(keywords.pattern(), re.IGNORECASE),
        "re, same pattern, no flag": re.compile(keywords.pattern()),
        "re, one case, IGNORECASE": re.compile(folded, re.IGNORECASE),
        "re, terms joined by |": re.compile(rf"\b(?:{'|'.join(words)})s?\b", re.IGNORECASE),
    }


def sides(files: list[str], rows: int) -> dict[str, tuple]:
    """{name: (function without arguments, rows it reads)}."""
    sample = min(SAMPLE, rows // FILES)
    table = {
        "ours": (lambda: ours(files), rows),
        "ours, matches()": (lambda: arrow(files), rows),
        SCAN: (lambda: scan(files), rows),
        "pandas str.contains": (lambda: with_pandas(files), rows),
    }
    for name, compiled in re_forms().items():
        n = sample if "joined" not in name else sample // 10
        table[name] = (lambda compiled=compiled, n=n: with_re(files, compiled, n), n)
    return table


def measure(table: dict[str, tuple], rounds: int) -> dict[str, dict]:
    """Clock and processor seconds of every side in every round; one side after the other inside a
    round.
    """
    out = {
        name: {"rows": rows, "seconds": [], "cpu_seconds": []} for name, (_, rows) in table.items()
    }
    for number in range(rounds):
        for name, (run, rows) in table.items():
            clock, cpu = time.perf_counter(), time.process_time()
            kept = run()
            out[name]["seconds"].append(round(time.perf_counter() - clock, 4))
            out[name]["cpu_seconds"].append(round(time.process_time() - cpu, 4))
            out[name]["kept"] = None if name == SCAN else kept
            speed = rows / out[name]["seconds"][-1] / 1e6
            print(f"round {number + 1}  {name:32s} {speed:7.3f} M rows/s", flush=True)
    for side in out.values():
        side["rows_per_second"] = round(side["rows"] / statistics.median(side["seconds"]))
        side["cpu_ns_per_row"] = round(statistics.median(side["cpu_seconds"]) / side["rows"] * 1e9)
    return out


def check(files: list[str]) -> int:
    """All sides keep the same number of rows of the first file; returns that number."""
    size = pq.ParquetFile(files[0]).metadata.num_rows
    compiled = re.compile(keywords.pattern())
    counts = {
        ours(files[:1]),
        arrow(files[:1]),
        with_pandas(files[:1]),
        with_re(files, compiled, size),
    }
    if len(counts) != 1:
        raise AssertionError(f"the engines keep different numbers of rows: {counts}")
    return counts.pop()


def report(table: dict[str, dict], rows: int, mean_length: float) -> dict:
    speed = {name: side["rows_per_second"] for name, side in table.items()}
    ratios = {name: round(speed["ours"] / v, 3) for name, v in speed.items() if name != "ours"}
    cpu = {name: side["cpu_ns_per_row"] for name, side in table.items()}
    return {
        "bench": "keywords",
        "rows": rows,
        "mean_characters": mean_length,
        "terms": len(keywords.terms()),
        "seed": SEED,
        "sides": table,
        "ours_over": ratios,
        "ours_over_per_core": {
            name: round(v / cpu["ours"], 3) for name, v in cpu.items() if name != "ours"
        },
        "baseline": BASELINE,
        "target": TARGET,
        "target_met": ratios[BASELINE] >= TARGET,
        "device": "cpu",
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "load_average": os.getloadavg(),
        "versions": {m.__name__: m.__version__ for m in (daft, pa, pd, np)}
        | {"python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "results/bench/keywords.json"
    )
    args = parser.parse_args()
    rows = max(args.rows // (FILES * GROUPS), 1) * FILES * GROUPS
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), rows)
        mean = round(
            float(np.mean([len(t) for t in pq.read_table(files[0])["text"].to_pylist()])), 1
        )
        print(
            f"{rows:,} rows, {mean} characters a row; kept in one file of {FILES}: {check(files):,}"
        )
        result = report(measure(sides(files, rows), args.rounds), rows, mean)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps(
            {k: result[k] for k in ("ours_over", "ours_over_per_core", "baseline", "target_met")},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
