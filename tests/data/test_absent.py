"""What programs write for a value that is missing is no caption, and a file without bytes no image:
under one name in every layout.
"""

import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import encoded
from textures import texture

from rs5m.data import datasets, images, pairs, records
from rs5m.data.sample import is_caption
from rs5m.evaluate import labelled
from rs5m.pub11 import input

ABSENT = ["", "  ", "\t", "\u00a0", "NULL", "null", "NaN", " nan ", "None", "N/A", "NA", "<NA>"]
WORDS = ["a view", "none of these", "Nantes", "no", "0", "-"]
IMAGE = encoded(texture(0), "PNG")


def counts(given, out) -> tuple[list[str], dict[str, int]]:
    """The captions that were packed, and what was left out by reason."""
    texts = [
        text
        for path in pairs.pack([given], out)
        for text in (record.caption for record in records.read([path]))
    ]
    left_out = json.loads((out / "left_out.json").read_text())
    return sorted(texts), {reason: len(names) for reason, names in left_out.items()}


def tarred(folder, path):
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "")
    return path


@pytest.mark.parametrize("text", ABSENT)
def test_a_missing_value_is_no_caption(text):
    assert not is_caption(text)


def test_a_missing_caption_counts_the_same_in_every_layout(tmp_path):
    beside, notes, table = (tmp_path / name for name in ("beside", "notes", "table"))
    texts = ABSENT + WORDS
    for folder in (beside, notes, table):
        folder.mkdir()
        for i in range(len(texts)):
            (folder / f"{i}.png").write_bytes(IMAGE)
    for i, text in enumerate(texts):
        (beside / f"{i}.txt").write_text(text)
    names = [f"{i}.png" for i in range(len(texts))]
    rows = [{"image": name, "text": text} for name, text in zip(names, texts, strict=True)]
    (table / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), notes / "metadata.parquet")
    wanted = sorted(WORDS), {"has no caption": len(ABSENT)}
    for given in (beside, notes, table / "a.jsonl"):
        assert counts(given, tmp_path / f"{given.name}.out") == wanted
    assert records.index(tarred(beside, tmp_path / "a.tar")).left_out == wanted[1]
    path, out = tmp_path / "web.parquet", tmp_path / "out"
    pq.write_table(pa.table({"url": [f"http://a.example/{i}" for i in texts], "text": texts}), path)
    out.mkdir()
    _, listed = input.select([path], out)
    assert listed == {"web": (len(texts), len(ABSENT))}


def test_a_file_without_bytes_has_one_reason(tmp_path):
    for name, image in (("full", IMAGE), ("empty", b"")):
        for folder in ("beside", "table", "bare/full"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / f"{name}.png").write_bytes(image)
        (tmp_path / f"beside/{name}.txt").write_text("a view")
    (tmp_path / "table/a.csv").write_text("image,caption\nfull.png,a\nempty.png,b\n")
    whole = pa.table({"image": [IMAGE, b"", None], "caption": ["a", "b", "c"]})
    pq.write_table(whole, tmp_path / "bytes.parquet")
    struct = [{"bytes": data, "path": None} for data in (IMAGE, b"", None)]
    pq.write_table(pa.table({"image": struct, "caption": list("abc")}), tmp_path / "s.parquet")
    reason = images.check(b"")
    assert counts(tmp_path / "beside", tmp_path / "1")[1] == {reason: 1}
    assert counts(tmp_path / "table/a.csv", tmp_path / "2")[1] == {reason: 1}
    for name in ("bytes.parquet", "s.parquet"):
        said = counts(tmp_path / name, tmp_path / f"{name}.out")[1]
        assert said == {reason: 1, "has no image": 1}
    assert records.index(tarred(tmp_path / "beside", tmp_path / "a.tar")).left_out == {reason: 1}


def test_an_evaluated_file_without_bytes_has_that_reason_too(tmp_path):
    rows = pa.table({"image": [IMAGE, b"", IMAGE, None], "label": ["a", "a", "b", "b"]})
    pq.write_table(rows, tmp_path / "set.parquet")
    with zipfile.ZipFile(tmp_path / "EuroSAT.zip", "w") as archive:
        for name, image in (("full", IMAGE), ("empty", b"")):
            archive.writestr(f"2750/River/{name}.jpg", image)
    table, zipped = labelled.read(tmp_path / "set.parquet"), datasets.classes("eurosat", tmp_path)
    assert table.left_out == {"has no image": ["set-3.jpg"]}
    for found, count in ((table, 3), (zipped, 2)):
        reasons = [datasets.decode(found.images.read(i))[1] for i in range(count)]
        assert sorted(map(str, reasons)) == ["None"] * (count - 1) + [images.check(b"")]
