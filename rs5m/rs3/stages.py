"""RS3's two stages, a shard of images each time: candidates are written, then one is chosen.
Chapter: rs3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import captions, clip, rotation
from rs5m.data.runfolder import shard_path
from rs5m.rs3.input import chunks
from rs5m.zeroshot import normalise

TEXT, TEXTS, NUMBERS = pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())
WRITTEN = pa.schema({"name": TEXT, "file": TEXT, "reason": TEXT, "candidates": TEXTS})
CHOSEN = pa.schema(
    {
        "name": TEXT,
        "kept": TEXTS,
        "dropped": pa.list_(pa.struct({"text": TEXT, "reason": TEXT})),
        "similarity_a": NUMBERS,
        "similarity_b": NUMBERS,
        "ranked": pa.list_(pa.int64()),
        "rotations": NUMBERS,
        "chosen": pa.int64(),
        "score": pa.float64(),
    }
)
Shard = Sequence[tuple[str, str]]  # name and file of its images
Rankers = tuple[clip.Model, clip.Model]


def write(
    shards: list[Shard], images: Path, n: int, captioner: captions.Captioner, number: int
) -> pa.Table:
    """WRITTEN of a shard: the candidates of every image, or why it is invalid. ValueError for a
    captioner that skips.

    Args:
        shards: names and files of the images, by shard.
        images: the folder of the files.
        n: candidates an image.
        captioner: writes them.
        number: which shard.
    """
    rows = [
        {"name": name, "file": file, "reason": None, "candidates": []}
        for name, file in shards[number]
    ]
    for chunk in chunks([images / file for _, file in shards[number]]):
        valid = [image for image in chunk if image.reason is None]
        candidates = captioner.generate([image.pixels for image in valid], n) if valid else []
        if len(candidates) != len(valid):
            raise ValueError(
                f"the captioner wrote for {len(candidates)} of {len(valid)} images: "
                "it must write for each"
            )
        for image in chunk:
            rows[image.row]["reason"] = image.reason
        for image, texts in zip(valid, candidates, strict=True):
            rows[image.row]["candidates"] = [_text(text) for text in texts]
    return pa.Table.from_pylist(rows, WRITTEN)


def _text(text: object) -> str | None:
    """A candidate as parquet takes it: half a surrogate pair becomes U+FFFD, which `captions.clean`
    drops.
    """
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if isinstance(text, str)
        else None
    )


def choose(
    shards: list[Shard],
    images: Path,
    out: Path,
    criterion: str,
    angles: Sequence[float],
    models: Rankers,
    number: int,
) -> pa.Table:
    """CHOSEN of a shard: the candidates cleaned, ranked by two models, and one of them chosen by
    turning the image.

    ValueError for a damaged shard of `write/`, or an image that has changed since.

    Args:
        shards: names and files of the images, by shard.
        images: the folder of the files.
        out: the folder of the run, with the shards of `write/`.
        criterion: one of `rotation.CRITERIA`.
        angles: degrees.
        models: the two rankers; the first one sees the turned images.
        number: which shard.
    """
    written = read(shard_path(out, "write", number), shards[number])
    rows = [_cleaned(row["name"], row["candidates"]) for row in written.to_pylist()]
    # encoded once a shard
    texts = list(dict.fromkeys(text for row in rows for text in row["kept"]))
    features = _text_features(models, texts) if texts else []
    known = [dict(zip(texts, vectors, strict=True)) for vectors in features]
    with_text = [
        (row, images / file)
        for row, (_, file) in zip(rows, shards[number], strict=True)
        if row["kept"]
    ]
    for chunk in chunks([path for _, path in with_text]):
        for image in chunk:
            if image.reason:
                raise ValueError(
                    f"{with_text[image.row][1]} has changed since the run began: name a new folder"
                )
        pixels = [image.pixels for image in chunk]
        kept = [with_text[image.row][0]["kept"] for image in chunk]
        judged = _judge(models, pixels, kept, known, criterion, angles)
        for image, columns in zip(chunk, judged, strict=True):
            with_text[image.row][0].update(columns)
    bare = {name: [] for name in ("similarity_a", "similarity_b", "ranked", "rotations")}
    return pa.Table.from_pylist([bare | row for row in rows], CHOSEN)


def _cleaned(name: str, candidates: list) -> dict:
    kept, dropped = captions.clean(candidates)
    reasons = [{"text": text, "reason": reason} for text, reason in dropped]
    return {"name": name, "kept": kept, "dropped": reasons}


def _text_features(models: Rankers, texts: list[str]) -> list[np.ndarray]:
    """Unit vectors (texts, dim) by each model; a text tower that both have, as the pocket's, reads
    them once.
    """
    first, probe = normalise(clip.encode_texts(models[0], texts)), texts[:2]
    shared = np.array_equal(*(clip.encode_texts(model, probe) for model in models))
    return [first, first if shared else normalise(clip.encode_texts(models[1], texts))]


def _judge(
    models: Rankers,
    images: list,
    kept: list[list[str]],
    known: list[dict],
    criterion: str,
    angles: Sequence[float],
) -> list[dict]:
    """The columns similarity_a to score of CHOSEN, for images that have a candidate each."""
    a, b = (
        _cosines(model, images, kept, vectors) for model, vectors in zip(models, known, strict=True)
    )
    ranked = [row[row >= 0].tolist() for row in captions.rank(a, b)]
    best = [[texts[place] for place in places] for texts, places in zip(kept, ranked, strict=True)]
    turned = rotation.similarities(models[0], images, best, angles, quiet=True)
    picked, scores = rotation.select(turned, criterion), rotation.scores(turned, criterion)
    return [
        {
            "similarity_a": a[i, : len(texts)].tolist(),
            "similarity_b": b[i, : len(texts)].tolist(),
            "ranked": places,
            "rotations": turned[i, :, : len(places)].ravel().tolist(),
            "chosen": places[picked[i]],
            "score": float(scores[i, picked[i]]),
        }
        for i, (texts, places) in enumerate(zip(kept, ranked, strict=True))
    ]


def _cosines(model: clip.Model, images: list, kept: list[list[str]], vectors: dict) -> np.ndarray:
    """Cosines of every upright image with its own texts: (images, most texts), NaN where an image
    has fewer.
    """
    cosines = np.full((len(images), max(map(len, kept))), np.nan)
    for i, image in enumerate(normalise(clip.encode_images(model, images, quiet=True))):
        cosines[i, : len(kept[i])] = np.stack([vectors[text] for text in kept[i]]) @ image
    return cosines


def read(path: Path, shard: Shard, columns: list[str] | None = None) -> pa.Table:
    """The table of a finished shard. ValueError for one that is damaged or not of these images."""
    try:
        table = pq.read_table(path, columns=columns)
        whole = table["name"].to_pylist() == [name for name, _ in shard]
    except (pa.ArrowException, OSError, KeyError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is not a whole shard of this run: delete it, then run it again")
    return table
