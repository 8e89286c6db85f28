"""Images or texts as a file of vectors, which another run scores or searches. Chapter: zeroshot.

Vectors are normalised, but for the prompts of classes, which are averaged as they are. They are
made block by block, and each block is kept in the user's cache folder by its content: a command
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rs5m import files
from rs5m.clip import Model
from rs5m.data import tables
from rs5m.data.datasets import Images, in_words
from rs5m.evaluate import features, prompts, search, stored, testsets
from rs5m.vectors import normalise

BLOCK = 2048  # images or texts that are kept at once; whole batches of clip.encode_texts
ENDINGS = (".npz", ".parquet")
# what makes vectors comparable
SAME = ("weights", "quick_gelu", "image_size", "squash", "mean", "std")


class Index(NamedTuple):
    """Normalised vectors (n, dim) of images, their names, the folder that these are in, and the
    model's identity as far as vectors depend on it.
    """

    vectors: np.ndarray
    names: list[str]
    folder: str
    model: dict


def images(store: features.Store, found: Images, name: str) -> tuple[np.ndarray, list[int], dict]:
    """Normalised vectors, the places of the images that have one, the reason of each other."""
    vectors, kept, skipped = [], [], {}
    for start in range(0, len(found.names), BLOCK):
        part = Images(found.names[start : start + BLOCK], lambda i, a=start: found.read(a + i))
        encoded = store.images(part, f"{name}-{start // BLOCK}" if start else name)
        vectors.append(normalise(encoded.vectors).astype(np.float32))
        kept += [start + int(i) for i in encoded.kept]
        skipped |= encoded.skipped
    return np.concatenate(vectors), kept, skipped


def texts(store: features.Store, lines: list[str], name: str) -> np.ndarray:
    """Normalised vectors (n, dim) of texts, each different one encoded once, block by block."""
    order = sorted(sorted(set(lines)), key=len)  # as the store does: the batches are the same
    blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
    parts = [store.texts(block, f"{name}-{i}" if i else name) for i, block in enumerate(blocks)]
    vectors, place = np.concatenate(parts), {text: i for i, text in enumerate(order)}
    return normalise(vectors[[place[text] for text in lines]]).astype(np.float32)


def run(model: Model, data: str | Path, out: str | Path, classes: bool = False) -> Path:
    """Write the vectors of a folder of images, or of a text file's lines, to an npz or parquet.

    An npz of images has image, names and about; with `classes` also label and text, as `rs5m
    evaluate --features` reads them; one of texts has text and texts. ValueError for another ending,
    for texts with classes, a table, and for no image or line.

    Args:
        model: whose vectors.
        data: the folder or the text file.
        out: the file to write.
        classes: the folder's own folders are classes.
    """
    data, out = Path(data), Path(out)
    if out.suffix not in ENDINGS:
        raise ValueError(f"{out}: name a file that ends in {' or '.join(ENDINGS)}")
    if classes and (data.is_file() or out.suffix != ".npz"):
        raise ValueError("--classes needs a folder of class folders, and an npz to write")
    store = features.Store(model)
    about = {key: store.identity[key] for key in (*SAME, "architecture")}
    about["version"] = stored.VERSION
    if data.is_file():
        if data.suffix.lower() in tables.ENDINGS:
            raise ValueError(f"{data} is a table: name a folder of images, or a text file")
        lines = [line.strip() for line in files.text(data).split("\n")]
        if not (lines := [line for line in lines if line]):
            raise ValueError(f"{data} has no text: write one on each line")
        return _write(out, {"text": texts(store, lines, data.stem), "texts": lines}, about)
    return _write(out, _of_folder(store, data, classes), about | {"folder": str(data)})


def _of_folder(store: features.Store, folder: Path, classes: bool) -> dict:
    labelled = testsets.own(folder) if classes and folder.is_dir() else None
    if classes and labelled is None:
        raise ValueError(f"{folder} has no class folders: leave --classes out")
    found, left_out = (labelled.images, labelled.left_out) if labelled else search.images(folder)
    name = folder.resolve().name
    if left_out:
        print(f"{name}: left out {in_words(left_out)}")
    vectors, kept, _ = images(store, found, name)
    arrays = {"image": vectors, "names": [found.names[i] for i in kept]}
    if labelled:
        groups = prompts.prompts(labelled)
        text = store.texts([text for group in groups for text in group], f"prompts-{name}")
        arrays["label"] = labelled.labels[kept].astype(np.int64)
        arrays["text"] = text.reshape(len(groups), -1, text.shape[1])
        arrays["classes"] = labelled.classes
    return arrays


def _write(out: Path, arrays: dict, about: dict) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    told = json.dumps(about, sort_keys=True)
    with files.whole(out) as temporary:
        if out.suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays, about=told)
        else:
            _table(arrays, out, told).to_parquet(temporary, index=False)
    count = len(next(iter(arrays.values())))
    print(f"{count:,} vectors: {out}")
    return out


def _table(arrays: dict, out: Path, told: str) -> pd.DataFrame:
    try:
        table = pd.DataFrame({name: list(values) for name, values in arrays.items()})
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{out} holds no name that is not UTF-8, as one of an image is: write an npz, or "
            "rename the image"
        ) from error
    table.attrs["rs5m"] = told  # pandas keeps it in the file's header
    return table


def read(path: str | Path) -> Index:
    """The index that `run` wrote of a folder; ValueError for any other file."""
    path = Path(path)
    arrays = _of_table(path) if path.suffix == ".parquet" else stored.arrays(path)
    about = stored.about(arrays, path)
    if not {"image", "names"} <= arrays.keys() or not isinstance(about.get("folder"), str):
        raise ValueError(
            f"{path} is not an index of images: write one with rs5m embed --data FOLDER"
        )
    vectors = stored.vectors(arrays["image"], "image", 2, path).astype(np.float32, copy=False)
    names = list(map(str, arrays["names"].ravel()))
    if len(names) != len(vectors):
        raise ValueError(
            f"{path} has {len(names)} names and {len(vectors)} vectors: run rs5m embed again"
        )
    return Index(vectors, names, about["folder"], about)


def _of_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a parquet file and what its header says, as arrays."""
    with path.open("rb") as stream:
        files.refuse_other(path, stream.read(64), "parquet")
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a whole parquet file: fetch or save it again") from error
    arrays = {name: table[name].to_numpy() for name in table}
    if "image" in table and len({np.shape(row) for row in table["image"]}) == 1:
        arrays["image"] = np.stack(list(table["image"]))
    return arrays | {"about": np.array(table.attrs.get("rs5m", ""))}


def find(model: Model, path: str | Path, query: str, k: int = 10) -> search.Found:
    """The k images of an index that fit a sentence best. ValueError where the index was made by
    another model, or the same one with other preprocessing.

    Args:
        model: the one of the index.
        path: of the index, as `run` wrote it.
        query: the sentence.
        k: how many images.
    """
    index = read(path)
    mine = json.loads(json.dumps(features.identity(model)))
    if other := [key for key in SAME if index.model.get(key, False) != mine[key]]:
        raise ValueError(
            f"{path} was made by another model (its {', '.join(other)} differ): name that one, or "
            "run rs5m embed again"
        )
    paths = [Path(index.folder) / name for name in index.names]
    try:
        return search.best(model, index.vectors, paths, query, k)
    except ValueError as error:
        raise ValueError(f"{path}: {error}: run rs5m embed again") from error
