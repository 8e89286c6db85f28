"""RS3's metadata: json documents and tables told apart, and each read or left out with a reason.
Chapter: rs3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from rs5m import files
from rs5m.captions import metadata, sources
from rs5m.captions.sentences import Record


class Metadata(NamedTuple):
    """The records by image name, and (document, reason) of every document that gave none."""

    records: dict[str, Record]
    left_out: list[tuple[str, str]]


def read_records(path: str | Path) -> Metadata:
    """The records of a folder or zip of json documents, fMoW's and BigEarthNet's told apart by
    their keys, or of BigEarthNet v2's metadata.parquet, alone or in the folder.

    A document that is neither or cannot be read is left out with a reason; so are all that share an
    image's name but not their content. FileNotFoundError or ValueError for no such path, a broken
    zip or no document at all.
    """
    path, records, left_out, twice = Path(path), {}, [], set()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check the spelling of --metadata")
    for source, read in tqdm(_documents(path), desc="metadata", unit="record"):
        try:
            record = read()
        except (ValueError, OSError) as error:
            left_out.append((source, str(error)))
            continue
        if records.setdefault(record.name, record) != record:
            twice.add(record.name)
    for name in sorted(twice):
        del records[name]
        left_out.append((name, "documents of this name differ"))
    if not records and not left_out:
        raise ValueError(
            f"{path} holds no json document and no metadata.parquet: name the folder, zip or "
            "parquet file of the metadata, or leave it out"
        )
    return Metadata(records, left_out)


def _documents(path: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    """The name of every document, and what reads it: one that cannot be read does not end the
    list.
    """
    if path.is_dir():
        for file in files.walk(path):
            if file.name[0] != "." and file.suffix.lower() in (".json", ".parquet"):
                yield from _documents_in(file)
    elif path.suffix.lower() in (".json", ".parquet"):
        yield from _documents_in(path)
    else:
        for name, document in sources.listed(path):
            yield name, partial(_record, document, name)


def _documents_in(file: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    if file.suffix.lower() == ".json":
        yield str(file), partial(_record, file, None)
        return
    try:
        rows = _rows(file)
    except ValueError as error:
        yield str(file), partial(_fail, error)
        return
    for number, row in enumerate(rows):
        yield f"{file}, row {number}", partial(metadata.read_bigearthnet_v2, row)


def _rows(file: Path) -> list[dict]:
    with file.open("rb") as stream:
        files.refuse_other(file, stream.read(64), "parquet")
    try:
        names = pq.read_schema(file).names
        if "patch_id" not in names:
            raise ValueError(
                f"{file} has no column 'patch_id' (it has {', '.join(names)}): it is not "
                "BigEarthNet's metadata"
            )
        columns = [name for name in ("patch_id", "labels", "country") if name in names]
        return pq.read_table(file, columns=columns).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a whole parquet file: fetch it again") from error


def _fail(error: Exception) -> Record:
    raise error


def _record(source: Path | Callable[[], bytes], name: str | None) -> Record:
    document, name = metadata._load(source() if callable(source) else source, name)
    if "bounding_boxes" in document:
        return metadata.read_fmow(document, name)
    if document.keys() & {"labels", "coordinates", "tile_source"}:
        return metadata.read_bigearthnet(document, name)
    raise ValueError(
        "neither fMoW's (bounding_boxes) nor BigEarthNet's (labels, coordinates, tile_source)"
    )
