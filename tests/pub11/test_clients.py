"""Chapter pub11: what a run writes, read by other libraries as they are."""

import io
import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from fake_pub11 import LIMITS, Cheap
from PIL import Image

from rs5m import cli, pub11
from rs5m.data import records
from rs5m.pub11 import outcome

TABLES = ("kept", "dropped", "attrition", "keywords")


class Silent(Cheap):
    """A judge that was written before judges said what they are worth."""

    about = property()  # not there


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The folder of a run that was given no pair."""
    folder = tmp_path_factory.mktemp("empty")
    none = pa.array([], pa.string())
    pq.write_table(pa.table({"url": none, "text": none}), folder / "a.parquet")
    return pub11.run(folder / "a.parquet", folder / "out", Silent(), LIMITS)


@pytest.mark.slow
def test_tables_have_the_same_types_in_every_run(finished, empty):
    inside = [f"{name}/00000" for name in ("select", "unmatched")]
    for name in (*TABLES, *inside):
        one, other = (pq.read_schema(out / f"{name}.parquet") for out in (finished, empty))
        assert one.equals(other), name
    assert pq.read_metadata(empty / "kept.parquet").num_row_groups == 0  # as datasets wants it
    assert pq.read_schema(empty / "kept.parquet").equals(outcome.KEPT, check_metadata=True)
    assert pq.read_schema(empty / "dropped.parquet").equals(outcome.DROPPED, check_metadata=True)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("empty_first", [False, True])
def test_two_runs_are_one_table(finished, empty, name, empty_first):
    outs = (empty, finished) if empty_first else (finished, empty)
    paths = [out / f"{name}.parquet" for out in outs]
    # of no pair, a line for the total is there
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    wanted = pq.read_schema(paths[0])
    assert rows > 0
    joined = pa.concat_tables(pq.read_table(path) for path in paths)
    assert len(joined) == rows and joined.schema.equals(wanted)
    assert pl.concat(pl.read_parquet(path) for path in paths).height == rows
    assert pl.scan_parquet(paths).collect().height == rows
    names = ", ".join(f"'{path}'" for path in paths)
    found = duckdb.sql(f"select count(*) from read_parquet([{names}])").fetchall()
    assert found == [(rows,)]
    frames = [pd.read_parquet(path, dtype_backend="pyarrow") for path in paths]
    assert (frames[0].dtypes == frames[1].dtypes).all()
    assert len(pd.concat(frames)) == rows


def test_tar_and_key_lead_to_each_pair(finished):
    kept = pd.read_parquet(finished / "kept.parquet")
    assert not kept.key.duplicated().any()
    shards = [str(path) for path in sorted(finished.glob("*.tar"))]
    found = {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False)}
    assert len(found) == len(kept)
    for row in kept.itertuples():
        assert found[row.key]["txt"].decode() == row.text
        assert found[row.key]["__url__"] == str(finished / row.tar)


def test_webdataset_decodes_the_shards(finished):
    shards = [str(path) for path in sorted(finished.glob("*.tar"))]
    data = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
    rows = list(data.to_tuple("jpg;png;gif;webp;bmp;tif", "txt", "json"))
    kept = pd.read_parquet(finished / "kept.parquet")
    assert [image.size for image, _, _ in rows] == list(zip(kept.width, kept.height, strict=True))
    assert [text for _, text, _ in rows] == kept.text.tolist()
    assert [note["img_name"].split(".")[0] for *_, note in rows] == kept.row.map(str).tolist()


def test_counts_stand_where_img2dataset_and_open_clip_look(finished, empty):
    kept = pd.read_parquet(finished / "kept.parquet")
    stats = json.loads((finished / "pub11-train-0000_stats.json").read_text())
    assert stats["successes"] == stats["count"] == len(kept)
    assert json.loads((finished / "sizes.json").read_text()) == {"pub11-train-0000.tar": len(kept)}
    assert json.loads((empty / "sizes.json").read_text()) == {}


def test_the_release_s_layout_is_an_option(site, tmp_path, monkeypatch):
    monkeypatch.setattr("rs5m.pub11.judge.Named", lambda *_: Cheap())
    some = pq.read_table(sorted(site[1].glob("*.parquet"))[0]).slice(0, 60)
    pq.write_table(some, tmp_path / "some.parquet")
    arguments = ["pub11", "--pairs", str(tmp_path / "some.parquet"), "--allow-loopback"]
    arguments += ["--out", str(tmp_path / "out"), "--layout", "rs5m"]
    assert cli.main(arguments) == 0
    shard = tmp_path / "out/pub11-train-0000.tar"
    sample = next(iter(webdataset.WebDataset(str(shard), shardshuffle=False)))
    assert {key for key in sample if key[0] != "_"} == {"img_content", "img_name", "caption"}
    record = next(records.read([shard]))
    assert record.image == sample["img_content"] and Image.open(io.BytesIO(record.image)).size
    assert json.loads((tmp_path / "out/run.json").read_text())["layout"] == "rs5m"
