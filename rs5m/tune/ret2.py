"""RSICD, RSITMD and RET-2, their training sets joined without what duplicates a test image: as
shards. Chapter: tune.

* author, official tracker (issue 12): images that duplicate a test image of either set are removed
  by perceptual hash, where fewer than 2 bits differ (RemoteCLIP's tracker, issue 13)
* ours: `rs5m.dedup.leaks` finds them, mirrored and turned ones too; the list is kept as removed.csv
  beside the shards. How many images the published rule would take, by our hash, stands beside
* ours: every distinct caption of an image makes a pair, and the pairs are shuffled once. Four
  images of RSITMD's training list have empty captions alone, and make none
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from rs5m import dedup
from rs5m.data import datasets, documents, records
from rs5m.data.sample import is_caption
from rs5m.dedup.hamming import hash_pairs
from rs5m.files import whole, whole_folder

PARTS = {"rsicd": ("rsicd",), "rsitmd": ("rsitmd",), "ret2": ("rsicd", "rsitmd")}
BASES = (".", "rs5m_test_data")
BITS = 2  # of the published rule: fewer differ
TAR = 5000  # pairs a shard
LEAK = ["train", "test", "distance", "orientation", "score"]  # of rs5m.dedup.leaks
COLUMNS = ["set", "image", "test_set", "test_image", *LEAK[2:]]


class Split(NamedTuple):
    """The images of one part of a set, with their distinct captions in the order of the lists."""

    name: str
    paths: list[Path]
    captions: list[tuple[str, ...]]


def split(folder: Path, name: str, part: str) -> Split:
    """The "train" or "test" part of rsicd or rsitmd under a folder, from its csv, else its json,
    else its text lists.

    NAME/NAME_PART.csv has the columns filename and title; NAME/dataset_NAME.json is as Karpathy's
    (the files' names, splits and sentences); captions/NAME_PART_{filename,caps}.txt
    have an image and a caption a line (five captions for each image). Images lie in
    rsicd/RSICD_images/ and rsitmd/images/. FileNotFoundError and ValueError that name a file which
    is missing or cannot be read.
    """
    images, encodings = datasets.CAPTIONED[name]
    root = next(
        (folder / base / name for base in BASES if (folder / base / name / images).is_dir()), None
    )
    if root is None:
        raise FileNotFoundError(
            f"{folder} has no {name}/{images}/: put {name.upper()}'s images there"
        )
    table, lists = root / f"{name}_{part}.csv", _lists(folder, root, f"{name}_{part}")
    document = root / f"dataset_{name}.json"
    if table.is_file():
        rows = [row[1:] for row in datasets.table_rows(table, encodings)]
    elif document.is_file():
        rows = list(documents.of_part(document, part))
    elif lists:
        rows = _lines(*lists)
    else:
        raise FileNotFoundError(
            f"{root} has no {table.name}, and {folder} no captions/{name}_{part}_filename.txt with "
            f"its caps: put {name.upper()}'s {part} list there"
        )
    captions: dict[str, dict[str, None]] = {}
    for file, text in rows:
        if file != Path(file).name:  # a list from elsewhere names files, not places
            raise ValueError(f"{root}: the {part} list names {file!r}, which is not a file name")
        captions.setdefault(file, {})[text.strip()] = None
    paths = [root / images / file for file in captions]
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{missing[0]} is not there, one of {len(missing)} missing images of {name}'s {part} "
            "list: put them there, or take their rows out of the list"
        )
    return Split(name, paths, [tuple(filter(is_caption, texts)) for texts in captions.values()])


def _lists(folder: Path, root: Path, stem: str) -> tuple[Path, Path] | None:
    for base in (root, folder / "captions", root.parent / "captions"):
        pair = base / f"{stem}_filename.txt", base / f"{stem}_caps.txt"
        if all(path.is_file() for path in pair):
            return pair
    return None


def _lines(names: Path, captions: Path) -> list[tuple[str, str]]:
    files, texts = (
        path.read_text(encoding="utf-8", errors="replace").splitlines()
        for path in (names, captions)
    )
    each = len(texts) // max(
        len(files), 1
    )  # the training lists name an image once for all its captions
    if not files or each * len(files) != len(texts):
        raise ValueError(
            f"{captions} has {len(texts)} captions for {len(files)} names in {names}: fetch both "
            "again"
        )
    return list(zip([file for file in files for _ in range(each)], texts, strict=True))


# ---------------------------------------------------------------- leaks


def _signed(paths: Iterable[Path], skipped: dict[Path, str]) -> tuple[list[Path], dict]:
    """The paths of readable images and their signatures; the others and why go to `skipped`."""
    kept: list[Path] = []

    def pictures():
        for path in tqdm(list(paths), desc="signatures", unit="image"):
            pixels, reason = datasets.decode(path.read_bytes())
            if pixels is None:
                skipped[path] = reason
                continue
            kept.append(path)
            yield pixels

    signatures = dedup.signatures(pictures())
    return kept, signatures


def leaks(
    train: list[Split], test: list[Split]
) -> tuple[pd.DataFrame, dict[Path, str], set[tuple[str, str]]]:
    """DataFrame of COLUMNS: the training images that duplicate a test image, each with its best
    match; why of each file that holds no image; and (set, image) of what the published rule takes.

    distance in bits, orientation as in `rs5m.dedup.orient`, score 0 to 1.
    """
    skipped: dict[Path, str] = {}
    tests = [(part.name, *_signed(part.paths, skipped)) for part in test]
    rows, near = [], set()
    for part in train:
        paths, signatures = _signed(part.paths, skipped)
        for name, test_paths, test_signatures in tests:
            found = dedup.leaks(signatures, test_signatures)
            near |= {(part.name, paths[i].name) for i in _by_hash(signatures, test_signatures)}
            rows += [
                (part.name, paths[i].name, name, test_paths[j].name, *rest)
                for i, j, *rest in found[LEAK].itertuples(index=False)
            ]
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(
        ["set", "image", "score"], ascending=[True, True, False]
    )
    return table.drop_duplicates(["set", "image"], ignore_index=True), skipped, near


def _by_hash(train: dict, test: dict) -> np.ndarray:
    """Positions of the training images with an upright hash fewer than BITS off a test image's."""
    upright = (np.ascontiguousarray(one["hash"][:, 0]) for one in (train, test))
    found = [i for i, _ in hash_pairs(*upright, BITS - 1)]
    return np.unique(np.concatenate(found)) if found else np.empty(0, int)


# ---------------------------------------------------------------- shards


def shards(folder: str | Path, data: str, out: str | Path, seed: int = 0) -> list[Path]:
    """Training shards of a set, written into `out` once: the folder appears whole or not at all,
    and if it is there, its shards are returned. ValueError where it holds another set's.

    out/data.json counts images and pairs and names files that hold no image.

    Args:
        folder: in the official layout; with ret2 both test sets must be there.
        data: "rsicd", "rsitmd" or "ret2", of which out/removed.csv lists what was left out as a
            duplicate of a test image.
        out: the folder to write.
        seed: of the order of the pairs.
    """
    out, folder = Path(out), Path(folder)
    if not out.is_dir():
        with whole_folder(out) as temporary:
            _fill(temporary, folder, data, seed)
    kept = json.loads((out / "data.json").read_text())
    asked = {"data": data, "folder": str(folder.resolve())}
    if other := [f"{kept[key]}, not of {asked[key]}" for key in asked if kept[key] != asked[key]]:
        raise ValueError(f"{out} holds the shards of {other[0]}: name another folder")
    return sorted(out.glob("*.tar"))


def _fill(out: Path, folder: Path, data: str, seed: int) -> None:
    train = [split(folder, name, "train") for name in PARTS[data]]
    removed, unreadable, near = pd.DataFrame(columns=COLUMNS), {}, set()
    if data == "ret2":
        tests = [split(folder, name, "test") for name in PARTS["ret2"]]
        removed, unreadable, near = leaks(train, tests)
        removed.to_csv(out / "removed.csv", index=False)
    gone = {(row.set, row.image) for row in removed.itertuples()}
    pairs = [
        (path, text)
        for part in train
        for path, texts in zip(part.paths, part.captions, strict=True)
        if (part.name, path.name) not in gone and path not in unreadable
        for text in texts
    ]
    order = np.random.default_rng(seed).permutation(len(pairs))
    for start in tqdm(range(0, len(pairs), TAR), desc=data, unit="shard"):
        some = (pairs[i] for i in order[start : start + TAR])
        records.write(
            out / f"{data}-train-{start // TAR:04d}.tar",
            (_record(path, text) for path, text in some),
        )
    counts = {
        "data": data,
        "folder": str(folder.resolve()),
        "images": sum(len(part.paths) for part in train),
        "without a caption": sum(not texts for part in train for texts in part.captions),
        "removed as duplicates": len(removed),
        "duplicates by the published rule": len(near),
        "of them removed": len(near & gone),
        "pairs": len(pairs),
        "unreadable": {path.name: reason for path, reason in sorted(unreadable.items())},
    }
    with whole(out / "data.json") as temporary:
        temporary.write_text(json.dumps(counts, indent=1))


def _record(path: Path, text: str) -> records.Record:
    return records.Record(path.read_bytes(), path.name, text)
