"""RS3: from labelled images, with metadata or without, to image-text pairs, with a reason for every
drop.

Paper: RS3. Chapter: rs3. Candidates are written, cleaned and ranked by two models; of the best five
the one that fits steadily however the image is turned is joined with the sentence of the metadata.
The work is cut into shards of images; a finished shard of `write/` or `choose/` is a parquet file
under its final name and is never made again, so a run that is killed at any moment and started
again ends with the same bytes. The captioner has left the memory when the rankers enter it.

* paper: 20 candidates, 10 by one model, 5 by another, one by rotation invariance; "meta caption +
  visual caption"
* ours: the cleaning, the criterion, and the order "visual first", in which neither CLIP's 77 tokens
  cut off what is seen nor a turned image contradicts its text
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from rs5m import captions, rotation
from rs5m.captions.sentences import Record, count_left_out, sentence
from rs5m.data import records
from rs5m.pub11.input import save
from rs5m.rs3.input import Metadata, alone, claim, content, facts, listed, read_records
from rs5m.rs3.stages import TEXT, Rankers, Shard, choose, read, shard_path, write

__all__ = ["Metadata", "choices", "join", "pairs", "read_records", "run", "summary"]
ORDERS = ("metadata first", "visual first")
SHARD = 256  # images of one shard: what a killed run may have to do again
TAR = 1000  # pairs of one webdataset shard
PAIRS = pa.schema(
    {
        "name": TEXT,
        "file": TEXT,
        "visual": TEXT,
        "metadata": TEXT,
        "rotation_safe": TEXT,
        "caption": TEXT,
        "score": pa.float64(),
        "label": TEXT,
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "country": TEXT,
        "month": pa.int64(),
    }
)
DROPPED = pa.schema({"name": TEXT, "text": TEXT, "stage": TEXT, "reason": TEXT})
LEFT_OUT = pa.schema({"field": TEXT, "images": pa.int64()})


def run(
    images: str | Path,
    out: str | Path,
    captioner: Callable[[], captions.Captioner],
    rankers: Callable[[], Rankers],
    records: Mapping[str, Record] | None = None,
    identity: str = "",
    *,
    order: str = ORDERS[0],
    part: tuple[int, int] = (0, 1),
    n: int = captions.CANDIDATES,
    criterion: str = rotation.CRITERIA[0],
    angles: Sequence[float] = rotation.ANGLES,
    shard_size: int = SHARD,
) -> Path:
    """All stages from a folder of images, and records by image name, into the folder `out`.

    Leaves pairs.parquet, left_out.parquet (fields the records lack), rs3-train-NNNN.tar and
    dropped.parquet (stage, reason). captioner and rankers return the models, and are called only if
    a shard is to do; identity names them. part (i, n): do only the shards whose number is i modulo
    n; the last of several processes joins. Angles in degrees. Resumes an interrupted run.
    ValueError or FileNotFoundError, before any work, for bad settings, two images of one name, no
    image, and the folder of another run. Paper: RS3. Chapter: rs3.
    """
    images, out, given = Path(images), Path(out), records or {}
    _check(order, part, n, criterion, angles, shard_size)
    files = listed(images)
    claim(
        out,
        facts(
            images,
            files,
            given,
            {
                "identity": identity,
                "order": order,
                "candidates": n,
                "criterion": criterion,
                "angles": [float(a) for a in angles],
                "shard": shard_size,
            },
        ),
    )
    if not (out / "dropped.parquet").is_file():
        rows = list(files.items())
        shards = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)]
        mine = range(part[0], len(shards), part[1])
        _work("write", mine, out, captioner, partial(write, shards, images, n))
        _work("choose", mine, out, rankers, partial(choose, shards, images, out, criterion, angles))
        stages = ("write", "choose")
        missing = [
            i
            for i in range(len(shards))
            if not all(shard_path(out, stage, i).is_file() for stage in stages)
        ]
        if missing:
            parts = sorted({number % part[1] for number in missing})
            text = ", ".join(f"{i}/{part[1]}" for i in parts)
            print(
                f"rs3: {len(missing)} of {len(shards)} shards are not there yet, let part {text} finish"
            )
        else:
            with alone(out):  # two parts may see the last shard at once
                _finish(out, images, shards, given, order)
    return out


def _check(
    order: str, part: tuple, n: int, criterion: str, angles: Sequence[float], shard_size: int
) -> None:
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose {' or '.join(ORDERS)}")
    if criterion not in rotation.CRITERIA:
        raise ValueError(
            f"unknown criterion {criterion!r}: choose one of {', '.join(rotation.CRITERIA)}"
        )
    if not (len(part) == 2 and 0 <= part[0] < part[1]):
        raise ValueError(f"part is {part}: give (i, n) with i from 0 to n - 1")
    if n < 1 or shard_size < 1:
        raise ValueError(f"n is {n} and shard_size is {shard_size}: give at least 1")
    rotation.side(1, angles)  # its own sentence for bad angles


def _work(stage: str, numbers: Sequence[int], out: Path, load: Callable, do: Callable) -> None:
    """`do(models, number)` for every shard that is not done; the models are gone from memory at the
    end.
    """
    todo = [number for number in numbers if not shard_path(out, stage, number).is_file()]
    if not todo:
        return
    models = load()
    (out / stage).mkdir(exist_ok=True)
    for number in tqdm(todo, desc=stage, unit="shard"):
        save(do(models, number), shard_path(out, stage, number))
    del models
    gc.collect()  # networks refer to themselves
    torch.cuda.empty_cache()  # does nothing without CUDA


# ---------------------------------------------------------------- the texts, and the tables of the
# end


def join(visual: str, metadata: str, order: str = ORDERS[0]) -> str:
    """The caption of a pair from its visual caption and the sentence of its metadata, each with
    capital and full stop.

    "metadata first" is the paper's order; of "visual first" CLIP's 77 tokens cut the metadata and
    not what is seen, and its metadata should be the rotation-safe sentence. Where one of the two is
    empty, the other comes back as it is. ValueError for another order. Paper: RS3. Chapter: rs3.
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose {' or '.join(ORDERS)}")
    said = [
        text.strip()
        for text in ((metadata, visual) if order == ORDERS[0] else (visual, metadata))
        if text.strip()
    ]
    if len(said) < 2:
        return "".join(said)
    return " ".join(
        text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".") for text in said
    )


def _finish(
    out: Path, images: Path, shards: list[Shard], given: Mapping[str, Record], order: str
) -> None:
    """Shards first, then pairs, left_out and, as the mark of a whole run, dropped.parquet."""
    if (out / "dropped.parquet").is_file():
        return  # by another process
    made, dropped = [], []
    for number, shard in enumerate(shards):
        written = read(shard_path(out, "write", number), shard, ["name", "file", "reason"])
        chosen = read(
            shard_path(out, "choose", number), shard, ["name", "kept", "dropped", "chosen", "score"]
        )
        for image, choice in zip(written.to_pylist(), chosen.to_pylist(), strict=True):
            dropped += _drops(image, choice)
            if choice["chosen"] is not None:
                made.append(_pair(image, choice, given.get(image["name"]), order))
    for start in tqdm(range(0, len(made), TAR), desc="join", unit="tar"):
        _tar(out / f"rs3-train-{start // TAR:04d}.tar", made[start : start + TAR], images)
    lacking = count_left_out(given[pair["name"]] for pair in made if pair["name"] in given)
    fields = [{"field": field, "images": lacking[field]} for field in sorted(lacking)]
    save(pa.Table.from_pylist(made, PAIRS), out / "pairs.parquet")
    save(pa.Table.from_pylist(fields, LEFT_OUT), out / "left_out.parquet")
    save(pa.Table.from_pylist(dropped, DROPPED), out / "dropped.parquet")


def _drops(image: dict, choice: dict) -> list[dict]:
    """The rows of dropped.parquet of one image: its candidates, and itself where no caption is
    left.
    """
    drops = [{"stage": "candidate"} | drop for drop in choice["dropped"]]
    if choice["chosen"] is None:
        drops.append({"text": None, "stage": "image", "reason": image["reason"] or "no_caption"})
    return [{"name": image["name"]} | drop for drop in drops]


def _pair(image: dict, choice: dict, record: Record | None, order: str) -> dict:
    full, safe = (
        (sentence(record), sentence(record, rotation_safe_only=True)) if record else ("", "")
    )
    visual = choice["kept"][choice["chosen"]]
    pair = {
        "name": image["name"],
        "file": image["file"],
        "visual": visual,
        "metadata": full,
        "rotation_safe": safe,
        "caption": join(visual, full if order == ORDERS[0] else safe, order),
        "score": choice["score"],
    }
    if record:
        pair |= {
            "label": "; ".join(record.labels) or None,
            "latitude": record.latitude,
            "longitude": record.longitude,
            "country": record.country,
            "month": record.date and record.date.month,
        }
    return pair


def _tar(path: Path, rows: list[dict], images: Path) -> None:
    found = ((images / row["file"], row["caption"]) for row in rows)
    try:
        records.write(
            path, (records.Record(content(file), file.name, caption) for file, caption in found)
        )
    except OSError as error:
        path.with_suffix(".tar.tmp").unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror}): free space, then run it again"
        ) from error


# ---------------------------------------------------------------- readers


def pairs(out: str | Path) -> pd.DataFrame:
    """The pairs of a finished run, columns as in PAIRS; month 1 to 12. FileNotFoundError for one
    that has not finished.

    Chapter: rs3.
    """
    return pd.read_parquet(_finished(out) / "pairs.parquet").astype({"month": "Int64"})


def choices(out: str | Path) -> pd.DataFrame:
    """Every image of a finished run as in CHOSEN, in order; rotations are float64 (angles, ranked).
    Chapter: rs3.

    FileNotFoundError for a run that has not finished.
    """
    paths = sorted((_finished(out) / "choose").glob("*.parquet"))
    frame = (
        pa.concat_tables([pq.read_table(path) for path in paths])
        .to_pandas()
        .astype({"chosen": "Int64"})
    )
    turns = len(json.loads((Path(out) / "run.json").read_text())["angles"])
    frame["rotations"] = [
        flat.reshape(turns, -1) if len(flat) else np.empty((turns, 0)) for flat in frame.rotations
    ]
    return frame


def summary(out: str | Path) -> pd.DataFrame:
    """What became of the images of a finished run: what, count. FileNotFoundError as in `pairs`.
    Chapter: rs3.
    """
    out, made = _finished(out), pairs(out)
    about = json.loads((out / "run.json").read_text())
    dropped, left_out = (
        pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("dropped", "left_out")
    )
    reasons = Counter((row["stage"], row["reason"]) for row in dropped)
    rows = chain(
        [("images", len(about["images"])), ("pairs", len(made))],
        [("pairs without metadata", (made.metadata == "").sum())],
        [("metadata without an image", about["records"]["without_image"])],
        [
            (f"{stage} dropped: {reason}", reasons[stage, reason])
            for stage, reason in sorted(reasons, reverse=True)
        ],
        [(f"field left out: {row['field']}", row["images"]) for row in left_out],
    )
    return pd.DataFrame(rows, columns=["what", "count"])


def _finished(out: str | Path) -> Path:
    if not (Path(out) / "dropped.parquet").is_file():
        raise FileNotFoundError(
            f"{Path(out) / 'dropped.parquet'} does not exist: let rs5m rs3 finish first"
        )
    return Path(out)
