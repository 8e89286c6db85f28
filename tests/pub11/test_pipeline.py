"""Chapter pub11, the whole path: accounts that add up, interruption, bad input. Real HTTP from
loopback.
"""

import hashlib
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_pub11 import LIMITS, WHOLE, Cheap, child, contents
from small_disk import small_disk

from rs5m import cli, dedup, keywords, pub11
from rs5m.data import records
from rs5m.pub11 import duplicates, input, stages


def test_every_listed_pair_is_accounted_for(site, finished):
    table = pub11.attrition(finished)
    web = site[0].pairs
    hit = keywords.matches(web.text.tolist())
    kept, dropped = (pd.read_parquet(finished / f"{n}.parquet") for n in ("kept", "dropped"))
    assert table.source.tolist() == [*sorted(web.source.unique()), "total"] and len(table) == 5
    total = table.iloc[-1]
    assert total.pairs_listed == 600 and total.after_keyword_filter == hit.sum()
    assert sorted([*kept.row, *dropped.row]) == web.row[hit].tolist(), (
        "each hit is kept, or dropped with a reason"
    )
    rest = pd.concat(pd.read_parquet(p) for p in sorted((finished / "unmatched").iterdir()))
    assert rest.row.tolist() == web.row[~hit].tolist() and set(rest.reason) == {"no_keyword"}
    assert dropped.reason.notna().all() and set(dropped.stage) <= set(pub11.STAGES)
    removed = table.invalid_removed + table.duplicate_removed + table.outlier_removed
    assert (table.downloaded - removed == table.remaining).all() and total.remaining == len(kept)
    assert kept.row.is_monotonic_increasing and dropped.row.is_monotonic_increasing
    text = web.set_index("row").text
    assert (kept.text == text[kept.row].to_numpy()).all(), "row is the position in the input"


def test_every_near_copy_is_explained_by_pairs_and_scores(site, finished):
    kept, dropped, links = (
        pd.read_parquet(finished / f"{n}.parquet") for n in ("kept", "dropped", "copies")
    )
    rows = set(site[0].pairs.row)
    near = dropped[dropped.reason == "duplicate_near"]
    assert len(near) and set(near.row) <= {*links.first_row, *links.second_row} <= rows
    assert links.score.between(dedup.MIN_SCORE, 1).all() and set(links.road) <= set(dedup.ROADS)
    assert not set(links.stays) & set(near.row) and set(links.stays) - set(kept.row) <= set(
        dropped.row
    )
    listed = pd.concat([kept, dropped]).set_index("row").url
    assert (listed[links.first_row].to_numpy() == links.first_url).all()
    page = (finished / "report.html").read_text()
    assert "Near-copies: the first" in page
    best = links[(links[["first_row", "second_row"]] == near.row.iloc[0]).any(axis=1)]
    best = best.sort_values("score", kind="stable").iloc[-1]
    assert f": {best.score:.3f} by {best.road}" in page


def test_each_broken_link_ends_with_its_own_reason(site, finished):
    dropped = pd.read_parquet(finished / "dropped.parquet").merge(
        site[0].pairs[["row", "broken", "role"]], on="row"
    )
    broken = dropped[dropped.broken != ""]
    assert len(broken) >= 4 and (broken.reason == broken.broken).all()


def test_shards_hold_what_kept_lists(finished):
    kept = pd.read_parquet(finished / "kept.parquet")
    found = list(records.read([finished / "pub11-train-0000.tar"]))
    assert [r.caption for r in found] == kept.text.tolist()
    assert [hashlib.sha256(r.image).hexdigest() for r in found] == kept.sha256.tolist()
    assert pub11.content(finished, kept.head(3)) == [r.image for r in found[:3]]


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_bytes(site, finished, tmp_path):
    out, generator = tmp_path / "out", random.Random(0)
    for _ in range(20):
        process = child(f"{site[1]}/*.parquet", out)
        process.stdout.readline()  # imports are over
        time.sleep(generator.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = child(f"{site[1]}/*.parquet", out)
    assert process.wait(600) == 0
    assert contents(out) == contents(finished)
    log = (out / "log.txt").read_text().splitlines()
    done = sorted(
        f"{stage} {path.stem}"
        for stage in ("fetch", "look")
        for path in (out / stage).glob("*.parquet")
    )
    done += ["near 00000", "join 00000"]
    assert len(done) > 8 and set(log) <= set(done) and len(log) == len(set(log)), (
        "a finished shard was done twice"
    )


def test_a_second_start_does_no_work(site, finished):
    before = (finished / "log.txt").read_text()
    pub11.run(f"{site[1]}/*.parquet", finished, Cheap(), LIMITS, 8)
    assert (finished / "log.txt").read_text() == before


def test_duplicates_beyond_memory_give_the_same_bytes(site, finished, tmp_path, monkeypatch):
    """From the shards of a run, its last stages once more with signatures on disk."""
    asked = []
    pairs = duplicates.dedup.scored_pairs
    monkeypatch.setattr(
        duplicates.dedup,
        "scored_pairs",
        lambda *a, folder, **more: asked.append(folder) or pairs(*a, folder=folder, **more),
    )
    monkeypatch.setattr(duplicates, "BEYOND", 10)
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    (there,) = (again / "near").iterdir()
    there.rename(there.with_name("of_other_pictures.parquet"))
    (again / ".near").mkdir()
    (again / ".near" / "thumb.npy").write_bytes(b"of a killed run")
    for name in WHOLE:
        (again / name).unlink()
    pub11.run(f"{site[1]}/*.parquet", again, Cheap(), LIMITS, 8)
    assert contents(again) == contents(finished)
    assert asked == [again / ".near"] and not (again / ".near").exists()


def test_the_model_is_loaded_once(finished):
    assert len((finished / "loads.txt").read_text().split()) == 1


def test_two_threads_that_ask_at_once_load_once(tmp_path):
    class Slow(Cheap):
        def load(self, out):
            time.sleep(0.2)
            return super().load(out)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: stages._loaded(Slow(), str(tmp_path)), range(4)))
    assert len((tmp_path / "loads.txt").read_text().split()) == 1


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_without_text_have_a_reason_and_other_encodings_are_read(tmp_path):
    text = pa.array([b"satellite image", b"\xffaerial view", None, b"a dog"], pa.binary())
    write(tmp_path / "a.parquet", URL=["http://127.0.0.1:9/x"] * 4, TEXT=text)
    write(tmp_path / "b.parquet", url=["not a url"], text=["aerial"])
    write(tmp_path / "c.parquet", url=["x"], text=pa.nulls(1))
    pub11.run(tmp_path, tmp_path / "out", Cheap(), LIMITS)
    table = pub11.attrition(tmp_path / "out").set_index("source")
    assert table.no_text.to_dict() == {"a": 1, "b": 0, "c": 1, "total": 2}
    assert table.after_keyword_filter.to_dict() == {"a": 2, "b": 1, "c": 0, "total": 3}
    dropped = pd.read_parquet(tmp_path / "out/dropped.parquet")
    assert dropped.reason.tolist() == ["connection_error", "connection_error", "bad_url"]
    assert dropped.text[1] == "\ufffdaerial view"
    rest = pd.concat(pd.read_parquet(p) for p in sorted((tmp_path / "out/unmatched").iterdir()))
    assert rest.row.tolist() == [2, 3, 5] and rest.reason.tolist() == [
        "no_text",
        "no_keyword",
        "no_text",
    ]


def test_a_glob_that_the_shell_expanded_is_a_list_of_files(tmp_path, monkeypatch, capsys):
    paths = [
        str(write(tmp_path / f"{n}.parquet", url=[f"http://127.0.0.1:9/{n}"], text=["aerial"]))
        for n in "ab"
    ]
    monkeypatch.setattr("rs5m.pub11.judge.Named", lambda *_: Cheap())
    assert cli.main(["pub11", "--pairs", *paths, "--out", str(tmp_path / "out")]) == 0
    assert (
        "total" in capsys.readouterr().out
        and len(pd.read_parquet(tmp_path / "out/dropped.parquet")) == 2
    )


def test_an_empty_parquet_gives_an_empty_table(tmp_path):
    write(tmp_path / "a.parquet", url=pa.array([], pa.string()), text=pa.array([], pa.string()))
    pub11.run(tmp_path, tmp_path / "out", Cheap(), LIMITS)
    assert len(pd.read_parquet(tmp_path / "out/kept.parquet")) == 0


@pytest.mark.parametrize("case", ["column", "corrupt", "none", "missing", "numbers"])
def test_bad_input_is_one_sentence_that_names_the_file(case, tmp_path, capsys):
    write(tmp_path / "good.parquet", url=["http://a.example/x"], text=["aerial"])
    pairs = f"{tmp_path}/*.parquet"
    if case == "column":
        write(tmp_path / "bad.parquet", url=["x"], words=["y"])
    if case == "numbers":
        write(tmp_path / "bad.parquet", url=["x"], text=[7])
    if case == "corrupt":
        whole = (tmp_path / "good.parquet").read_bytes()
        (tmp_path / "bad.parquet").write_bytes(whole[:-20])
    if case in ("none", "missing"):
        pairs = str(tmp_path / "bad.parquet")
        (tmp_path / "bad.parquet").mkdir() if case == "none" else None
    assert cli.main(["pub11", "--pairs", pairs, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "bad.parquet" in message and "Traceback" not in message
    assert not (tmp_path / "out").exists(), "refused before any work"


@pytest.mark.parametrize(
    "option", ["--workers 0", "--retries -1", "--per-host 0", "--timeout 0", "--timeout nan"]
)
def test_options_of_the_download_are_checked_before_any_work(option, tmp_path, monkeypatch, capsys):
    path = str(write(tmp_path / "a.parquet", url=["http://127.0.0.1:9/x"], text=["aerial"]))
    monkeypatch.setattr("rs5m.pub11.judge.Named", lambda *_: Cheap())
    command = ["pub11", "--pairs", path, "--out", str(tmp_path / "out"), *option.split()]
    assert cli.main(command) == 2
    message, name = capsys.readouterr().err, option.split()[0][2:].replace("-", "_")
    assert message.count("\n") == 1 and f"{name} is " in message and ": give " in message
    assert not (tmp_path / "out").exists()


def test_a_parquet_damaged_inside_is_named_and_the_good_ones_survive(tmp_path):
    generator = random.Random(0)
    texts = [f"aerial view {generator.random()}" for _ in range(5000)]
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", url=["http://127.0.0.1:9/x"] * 5000, text=texts)
    whole = bytearray((tmp_path / "b.parquet").read_bytes())
    broken = whole.copy()
    broken[len(whole) // 3 : len(whole) // 3 + 4000] = bytes(
        4000
    )  # the footer is whole, a page is not
    (tmp_path / "b.parquet").write_bytes(broken)
    for _ in range(20):  # Daft's own error comes most times, not always
        with pytest.raises(ValueError, match="b.parquet is damaged inside"):
            input.select([tmp_path / "b.parquet"], tmp_path)
    with pytest.raises(ValueError, match="b.parquet is damaged inside"):
        pub11.run(tmp_path, tmp_path / "out", Cheap(), LIMITS)
    assert not (tmp_path / "out/dropped.parquet").exists() and not list(
        (tmp_path / "out").rglob("*.tmp")
    )


def test_rows_that_get_lost_on_the_way_stop_the_run(site, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    for name in ("dropped.parquet", "look/00002.parquet"):
        (out / name).unlink()
    table = pq.read_table(out / "fetch/00002.parquet")
    pq.write_table(table.slice(1), out / "fetch/00002.parquet")
    with pytest.raises(ValueError, match=f"look 00002 has {len(table) - 1} of {len(table)} rows"):
        pub11.run(f"{site[1]}/*.parquet", out, Cheap(), LIMITS, 8)
    assert not (out / "look/00002.parquet").exists() and not (out / "dropped.parquet").exists()


def test_another_runs_folder_is_refused(site, finished, tmp_path):
    write(tmp_path / "a.parquet", url=["x"], text=["aerial"])
    with pytest.raises(ValueError, match="holds another run"):
        pub11.run(tmp_path, finished, Cheap(), LIMITS, 8)
    with pytest.raises(ValueError, match="holds another run"):
        pub11.run(site[1], finished, Cheap(), LIMITS, 9)
    with pytest.raises(ValueError, match="another run .layout differ"):
        pub11.run(f"{site[1]}/*.parquet", finished, Cheap(), LIMITS, 8, layout="rs5m")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds no run.json"):
        pub11.run(tmp_path, tmp_path / "mine", Cheap(), LIMITS)
    assert (tmp_path / "mine/thesis.tex").read_text() == "x"


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(site, finished, tmp_path):
    with small_disk(tmp_path, "300k") as (disk, resize):
        with pytest.raises(OSError, match="could not be written .* free some space"):
            pub11.run(site[1], disk / "out", Cheap(), LIMITS, 8)
        assert not list(disk.rglob("*.tmp"))
        for path in disk.rglob("*.parquet"):
            pq.read_table(path)
        resize("50m")
        pub11.run(site[1], disk / "out", Cheap(), LIMITS, 8)
        assert contents(disk / "out") == contents(finished)


def test_the_largest_copy_stays(site, finished):
    pairs = site[0].pairs.set_index("row")
    kept = pd.read_parquet(finished / "kept.parquet")
    assert (
        pairs.loc[kept.row].duplicate_of.is_unique
        or np.mean(pairs.loc[kept.row].duplicate_of.duplicated()) < 0.02
    )
