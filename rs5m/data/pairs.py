"""Pairs of an image and its captions from what people have beside shards, packed into shards once.

* tables (parquet, csv, tsv, jsonl) whose image is bytes, Hugging Face's struct of bytes and path,
  or the path of a file; img2dataset's parquet and RSICD's csv are such
* a folder with metadata.csv, .jsonl or .parquet (Hugging Face's imagefolder)
* a folder of images with a .txt or .json of the same name beside each (img2dataset's files)
* captions in a json: COCO's, or Karpathy's form of them with a split, as RSICD has it

What is found is packed, or left out for a reason under which it is named. Chapter: tune.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

from tqdm.auto import tqdm

from rs5m import files
from rs5m.data import datasets, images, records, sample, shards, tables
from rs5m.data.found import NO_IMAGE, Pair, found
from rs5m.data.runfolder import NOTE, save_left_out

TAR = 1000  # pairs of a shard
NO_TEXT = "has a caption that is not text"


def packable(given: Sequence[str]) -> list[Path]:
    """The files or folders that are not shards, [] where they are or are not on this machine."""
    paths = [Path(one) for one in given]
    there = all(path.exists() for path in paths)
    return paths if there and not any(map(_holds_shards, paths)) else []


def _holds_shards(path: Path) -> bool:
    if path.is_dir():
        return any(shards.SHARD.fullmatch(file.name) for file in files.walk(path))
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[257:262] == b"ustar":  # a long name before it looks like text
        return True
    text = files.kind(head[:64]).startswith(("text", "json", "parquet"))
    return not (text or path.suffix.lower() in (*tables.ENDINGS, ".json"))


def pack(
    given: Sequence[Path], out: Path, image: str = "", caption: str = "", part: str = "train"
) -> list[Path]:
    """The shards of what `given` holds, written into `out` once; it appears whole or not at all.

    out/left_out.json names what was left out by reason, out/data.json counts. ValueError or OSError
    that names what cannot be read, or where no pair is whole.

    Args:
        image, caption: the names of a table's columns; guessed, and said, where not given.
        part: of a json with splits, see `rs5m.data.found.found`.
    """
    return packer(given, image, caption, part)(out)


def packer(
    given: Sequence[Path], image: str = "", caption: str = "", part: str = "train"
) -> Callable[[Path], list[Path]]:
    """`pack` in two steps: what is given is opened here, so that a wrong kind or column is named;
    images are read when the folder is named.

    Args:
        image, caption, part: as of `pack`.
    """
    opened = [found(path, image, caption, part) for path in given]
    note = {"data": [str(path.resolve()) for path in given], "columns": [image, caption]}
    return partial(_pack, chain.from_iterable(opened), note)


def _pack(opened: Iterable[Pair], note: dict, out: Path) -> list[Path]:
    total = hashlib.sha256()
    opened = _noted(opened, total)
    if made := not out.is_dir():
        with files.whole_folder(out) as temporary:
            _fill(temporary, opened, note)
            with files.whole(temporary / NOTE) as path:
                path.write_text(json.dumps(note | {"content": total.hexdigest()}, indent=1))
    if not made:
        deque(opened, maxlen=0)
    known = json.loads((out / NOTE).read_text())
    content = known.pop("content", None)
    if known != note:
        raise ValueError(f"{out} holds the shards of {known['data']}: name another folder")
    if content not in (None, total.hexdigest()):
        raise ValueError(
            f"{', '.join(note['data'])} has changed since {out} was packed: name a new folder"
        )
    return sorted(out.glob("*.tar"))


def _fill(out: Path, found: Iterable[Pair], note: dict) -> None:
    left_out: dict[str, list[str]] = {}
    kept = _kept(tqdm(found, desc="pack", unit=" pairs"), left_out)
    count = 0
    while some := list(islice(kept, 1)):
        path = out / f"train-{count // TAR:05d}.tar"
        count += records.write(path, chain(some, islice(kept, TAR - 1)), "webdataset")
    counts = Counter({reason: len(names) for reason, names in left_out.items()})
    if not count:
        why = datasets.in_words(left_out) or "nothing is there"
        raise ValueError(f"{', '.join(note['data'])} has no whole pair: {why}")
    total = counts.total()
    about = {"found": count + total, "packed": count, "left_out": dict(counts)}
    with files.whole(out / "data.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1))
    save_left_out(out, left_out)


def _noted(found: Iterable[Pair], total) -> Iterator[Pair]:
    """The pairs, and a digest of what they are; of a file its size stands for its bytes."""
    for pair in found:
        file = getattr(pair.read, "__self__", None)
        if isinstance(file, Path):
            size = file.stat().st_size if file.is_file() else -1
        else:
            size = zlib.crc32((pair.read and pair.read()) or b"")
        about = (pair.name, size, pair.captions, pair.fault)
        total.update(repr(about).encode("utf-8", "surrogatepass"))
        yield pair


def _kept(found: Iterable[Pair], left_out: dict[str, list[str]]) -> Iterator[records.Record]:
    for pair in found:
        texts, fault = _texts(pair.captions)
        data = None
        if not (fault := pair.fault or fault):
            data, fault = _content(pair.read)
        if fault:
            left_out.setdefault(fault, []).append(pair.name)
        else:
            yield records.Record(data, pair.name, texts)


def _texts(value: object) -> tuple[tuple[str, ...], str | None]:
    several = value if isinstance(value, list | tuple) else [value]
    several = [  # bytes of a fixed length end in zeros
        sample.spelled(one.rstrip(b"\0")) if isinstance(one, bytes) else one for one in several
    ]
    strange = any(not isinstance(one, str | None) for one in several)
    some = (one for one in several if isinstance(one, str))  # as of a json in a shard
    whole = (one.encode("utf-8", "replace").decode().strip() for one in some)
    texts = tuple(dict.fromkeys(filter(sample.is_caption, whole)))  # no halves of surrogate pairs
    return texts, None if texts else NO_TEXT if strange else sample.NO_CAPTION


def _content(read: Callable[[], bytes | None] | None) -> tuple[bytes | None, str | None]:
    """The bytes of an image, or why there are none or they are not an image."""
    try:
        data = read and read()
    except OSError as error:
        return None, f"{datasets.UNREAD} ({error.strerror})"
    if data is None:
        return None, NO_IMAGE
    whole = images.jpeg_size(data, images.DECODING)
    return data, None if whole else images.check(data, images.DECODING)
