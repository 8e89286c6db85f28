"""RS3: from labelled images, with metadata or without, to image-text pairs, with a reason for every
drop.

Paper: RS3. Chapter: rs3. Candidates are written, cleaned and ranked by two models; of the best five
the one that fits steadily however the image is turned is joined with the sentence of the metadata.
The work is divided into shards of images (`rs5m.data.runfolder`). The captioner has left the memory
when the rankers enter it. With RAY_ADDRESS set, workers of that Ray cluster make and write the
shards (`rs5m.rs3.shares`): its machines then share the disks of images and output.

* paper: 20 candidates, 10 by one model, 5 by another, one by rotation invariance; "meta caption +
  visual caption"
* ours: the cleaning, the criterion, and the order "visual first", in which neither CLIP's 77 tokens
  cut off what is seen nor a turned image contradicts its text
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import torch

from rs5m import captions
from rs5m.captions.sentences import Record, count_left_out, sentence
from rs5m.data import cluster, records, runfolder
from rs5m.data import images as pictures
from rs5m.data.runfolder import save, shard_path
from rs5m.rs3 import shares
from rs5m.rs3.documents import Metadata
from rs5m.rs3.input import content, facts, one_rendering, sorted_out, sources
from rs5m.rs3.settings import DEFAULT, ORDERS, RENDERINGS, Settings
from rs5m.rs3.stages import TEXT, TEXTS, Rankers, Shard, choose, read, write

PAIRS = pa.schema(
    {
        "name": TEXT,
        "file": TEXT,
        "visual": TEXT,
        "top_cap": TEXT,  # the release's names: the best ranked, and the one that turning chose
        "ssl_cap": TEXT,
        "metadata": TEXT,
        "rotation_safe": TEXT,
        "caption": TEXT,
        "captions": TEXTS,  # the caption first; tuning draws one of them each time
        "score": pa.float64(),
        "label": TEXT,
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "country": TEXT,
        "month": pa.int64(),
        "tar": TEXT,
        "key": TEXT,
    }
)
DROPPED = pa.schema({"name": TEXT, "text": TEXT, "stage": TEXT, "reason": TEXT})
LEFT_OUT = pa.schema({"field": TEXT, "images": pa.int64()})


def run(
    images: str | Path,
    out: str | Path,
    captioner: Callable[[], captions.Captioner],
    rankers: Callable[[], Rankers],
    records: Metadata | Mapping[str, Record] | None = None,
    identity: str = "",
    settings: Settings = DEFAULT,
    here: Collection[str] = (),
) -> Path:
    """All stages from a folder of images into the folder `out`; resumes an interrupted run.

    Writes pairs.parquet, left_out.parquet (fields the records lack), left_out.json (files that are
    not images), rs3-train-NNNN.tar and dropped.parquet (stage, reason). Of several processes, the
    last one joins. ValueError, FileNotFoundError or OSError, before any work, for no image, the
    folder of another run and one where the same part is at work.

    Args:
        images: a folder; every image below it is taken.
        out: a new folder, or one of an interrupted run.
        captioner: returns the model that writes; called only if a shard is missing.
        rankers: returns the two models that rank, likewise.
        records: what is known of the images, by name, or what `read_records` returned.
        identity: names the models in run.json.
        settings: how it is done.
        here: of the stages "write" and "choose" those that no worker of Ray may do.
    """
    cluster.check()
    images, out = Path(images), Path(out)
    files, left_out = sorted_out(images)
    if settings.rendering != RENDERINGS[0]:
        files, others = one_rendering(files, settings.rendering)
        left_out |= {"another rendering of a view": others} if others else {}
    known, unread = records if isinstance(records, Metadata) else (records or {}, [])
    if unread:
        left_out["metadata"] = [f"{name}: {reason}" for name, reason in unread]
    rests_on = facts(images, files, known, settings.facts() | {"identity": identity})
    part = "part-{}-of-{}".format(*settings.part)
    with runfolder.claim(out, rests_on, part, notes={"images": pictures.RULE}):
        if not (out / "dropped.parquet").is_file():
            rows, size = list(files.items()), settings.shard_size
            shards = [rows[start : start + size] for start in range(0, len(rows), size)]
            _work(shards, images, out, captioner, rankers, settings, here)
            if missing := _missing(out, len(shards), settings.part[1]):
                print(f"rs3: {missing}")
                return out
            with runfolder.alone(out):  # two parts may see the last shard at once
                runfolder.save_left_out(out, left_out)
                _finish(out, images, shards, known, settings)
    return out


def _work(
    shards: list[Shard],
    images: Path,
    out: Path,
    captioner: Callable,
    rankers: Callable,
    settings: Settings,
    here: Collection[str],
) -> None:
    """Both stages over the shards of this part; a stage's models are gone from memory at its
    end.
    """
    turning, on_ray = (settings.criterion, settings.angles), os.environ.get("RAY_ADDRESS")
    images, out = images.resolve(), out.resolve()  # workers may be in another folder
    for stage, load, do in (
        ("write", captioner, partial(write, shards, images, settings.candidates)),
        ("choose", rankers, partial(choose, shards, images, out, *turning)),
    ):
        first, parts = settings.part
        mine = runfolder.missing(out, stage, range(first, len(shards), parts))
        if mine:
            sizes = {number: len(shards[number]) for number in mine}
            if on_ray and stage not in here:
                shares.work(stage, load, do, sizes, out)
            else:
                runfolder.work(out, stage, sizes, partial(do, load()))
            gc.collect()  # networks refer to themselves
            torch.cuda.empty_cache()  # does nothing without CUDA


def _missing(out: Path, count: int, parts: int) -> str:
    """A sentence on the shards that other parts have not finished; "" where none is missing."""
    stages = [runfolder.missing(out, stage, range(count)) for stage in ("write", "choose")]
    missing = sorted(set(chain(*stages)))
    names = ", ".join(f"{i}/{parts}" for i in sorted({number % parts for number in missing}))
    return missing and (
        f"{len(missing)} of {count} shards are not there yet, let part {names} finish"
    )


# ---------------------------------------------------------------- the texts, and the tables of the
# end


def join(visual: str, metadata: str, order: str = ORDERS[0]) -> str:
    """The caption of a pair from its visual caption and the sentence of its metadata, each with
    capital and full stop.

    "metadata first" is the paper's order; of "visual first" CLIP's 77 tokens cut the metadata and
    not what is seen, and its metadata should be the rotation-safe sentence. Where one of the two is
    empty, the other comes back as it is. ValueError for another order.
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose {' or '.join(ORDERS)}")
    parts = (metadata, visual) if order == ORDERS[0] else (visual, metadata)
    texts = [text.strip() for text in parts if text.strip()]
    if len(texts) < 2:
        return "".join(texts)
    return " ".join(
        text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".") for text in texts
    )


def _finish(
    out: Path, images: Path, shards: list[Shard], given: Mapping[str, Record], settings: Settings
) -> None:
    """Shards first, then pairs, left_out and, as the mark of a whole run, dropped.parquet."""
    if (out / "dropped.parquet").is_file():
        return  # by another process
    made, dropped = [], []
    for number, shard in enumerate(shards):
        written = read(shard_path(out, "write", number), shard, ["name", "file", "reason"])
        chosen = read(
            shard_path(out, "choose", number),
            shard,
            ["name", "kept", "dropped", "ranked", "chosen", "score"],
        )
        for image, choice in zip(written.to_pylist(), chosen.to_pylist(), strict=True):
            dropped += _drops(image, choice)
            if choice["chosen"] is not None:
                made.append(_pair(image, choice, given.get(image["name"]), settings))
    places = runfolder.write_tars(
        out, "rs3-train", len(made), lambda part: _records(made[part], images), settings.layout
    )
    for pair, tar, key in zip(made, places["tar"], places["key"], strict=True):
        pair |= {"tar": tar, "key": key}
    lacking = count_left_out(given[pair["name"]] for pair in made if pair["name"] in given)
    fields = [{"field": field, "images": lacking[field]} for field in sorted(lacking)]
    save(pa.Table.from_pylist(made, PAIRS), out / "pairs.parquet")
    save(pa.Table.from_pylist(fields, LEFT_OUT), out / "left_out.parquet")
    runfolder.sweep(out)
    save(pa.Table.from_pylist(dropped, DROPPED), out / "dropped.parquet")


def _drops(image: dict, choice: dict) -> list[dict]:
    """The rows of dropped.parquet of one image: its candidates, and itself where no caption is
    left.
    """
    drops = [{"stage": "candidate"} | drop for drop in choice["dropped"]]
    if choice["chosen"] is None:
        drops.append({"text": None, "stage": "image", "reason": image["reason"] or "no_caption"})
    return [{"name": image["name"]} | drop for drop in drops]


def _pair(image: dict, choice: dict, record: Record | None, settings: Settings) -> dict:
    full, safe = (
        (sentence(record), sentence(record, rotation_safe_only=True)) if record else ("", "")
    )
    places = {"rotation": choice["chosen"], "top": choice["ranked"][0]}
    drawn = ("rotation", "top")[hashlib.sha256(image["name"].encode()).digest()[0] % 2]
    texts = {rule: choice["kept"][place] for rule, place in places.items()}
    visual, order = (texts | {"drawn": texts[drawn]})[settings.choice], settings.order
    beside = full if order == ORDERS[0] else safe
    ranked = (choice["kept"][place] for place in choice["ranked"])
    several = [visual, *(text for text in ranked if text != visual)][: settings.captions]
    joined = [join(text, beside, order) for text in several]
    pair = {
        "name": image["name"],
        "file": image["file"],
        "visual": visual,
        "top_cap": texts["top"],
        "ssl_cap": texts["rotation"],
        "metadata": full,
        "rotation_safe": safe,
        "caption": joined[0],
        "captions": joined,
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


def _records(pairs: list[dict], images: Path) -> Iterable[records.Record]:
    for pair in pairs:
        file = Path(pair["file"])
        name = pair["name"] + (file.suffix if len(sources(images / file)) == 1 else ".png")
        yield records.Record(content(images / file), name, tuple(pair["captions"]))
