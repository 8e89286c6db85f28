"""Chapter rs3, the whole path with cheap networks: accounts that add up, interruption, parts, bad
input.
"""

import hashlib
import json
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import killed
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cheap_rs3 import Cheap, cheap_rankers
from PIL import Image
from small_disk import small_disk

from rs5m import captions, cli, clip, rotation, rs3
from rs5m.book import models, scales
from rs5m.captions import sources
from rs5m.captions.sentences import make, sentence
from rs5m.commands import rs3 as rs3_command
from rs5m.data import records, runfolder, sample
from rs5m.rs3 import input, stages

HERE = Path(__file__).parents[1]
BROOKLYN = "POLYGON ((-73.95 40.70, -73.93 40.70, -73.93 40.72, -73.95 40.72, -73.95 40.70))"
FMOW = {
    "country_code": "USA",
    "timestamp": "2016-06-09T15:04:05Z",
    "utm": "18T",
    "img_width": 900,
    "img_height": 900,
    "target_azimuth_dbl": 314.3,
    "bounding_boxes": [
        {"raw_location": BROOKLYN},
        {"category": "airport", "box": [310, 200, 280, 300]},
    ],
}
PATCH = {
    "labels": ["Pastures", "Sea and ocean"], "acquisition_date": "2017-12-21 11:25:01",
    "coordinates": {"ulx": 567180, "uly": 4358040, "lrx": 568380, "lry": 4356840},
    "projection": 'PROJCS["WGS 84 / UTM zone 29N"]',
}  # fmt: skip
AIRPORT, PASTURE = "airport_0_0_rgb", "S2A_MSIL2A_36_85"


def small_run(images, out, found=None, **options):
    torch.set_num_threads(1)
    return rs3.run(images, out, Cheap, cheap_rankers, found, "cheap", settings(**options))


def settings(**options):
    """Small shards, few candidates and turns, unless the options say otherwise."""
    small = {"shard_size": 4, "candidates": 8, "angles": tuple(range(0, 360, 60))}
    return rs3.Settings(**(small | options))


def draw(path, size, seed, black=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 256, (*size, 3), np.uint8)
    Image.fromarray(np.zeros_like(pixels) if black else pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def quiet(monkeypatch, one_thread):
    monkeypatch.setattr(Cheap, "calls", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """22 images of many sizes and formats, of which two are broken, one is tiny and one says
    nothing to anyone.
    """
    folder = tmp_path_factory.mktemp("images")
    draw(folder / f"fmow/airport/{AIRPORT}.jpg", (64, 90), 0)
    draw(folder / f"ben/{PASTURE}.TIF", (60, 60), 1)
    draw(folder / "black.png", (20, 20), 2, black=True)
    draw(folder / "bad/tiny.png", (5, 40), 3)
    (folder / "bad/cut.jpg").write_bytes(
        (folder / f"fmow/airport/{AIRPORT}.jpg").read_bytes()[:900]
    )
    (folder / "bad/empty.png").write_bytes(b"")
    for i in range(16):
        ending = ("png", "jpeg", "webp", "bmp")[i % 4]
        draw(
            folder / f"other/über {i:02d}.{ending}",
            ((15, 15), (40, 22), (31, 100), (224, 200))[i // 4],
            10 + i,
        )
    for hidden in ("._a.jpg", ".thumbs/black.png", "notes.txt"):
        draw(folder / hidden.replace(".txt", ".png"), (9, 9), 0).rename(folder / hidden)
    return folder


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metadata")
    (folder / "a/b").mkdir(parents=True)
    (folder / f"a/b/{AIRPORT}.json").write_text(json.dumps(FMOW))
    (folder / f"a/{PASTURE}_labels_metadata.json").write_text(json.dumps(PATCH))
    (folder / "nobody_0_0_rgb.json").write_text(json.dumps(FMOW | {"timestamp": "?"}))
    (folder / "broken.json").write_bytes(b'{"bounding_boxes": [\xff')
    (folder / "other.json").write_text('{"weather": "fine"}')
    (folder / "list.json").write_text("[1]")
    (folder / "large.json").write_bytes(b" " * (sources.MAX_BYTES + 1))
    (folder / "gone.json").symlink_to(folder / "nowhere")
    (folder / "._shadow.json").write_text("x")
    return folder


@pytest.fixture(scope="module")
def finished(folder, documents, tmp_path_factory):
    return small_run(
        folder, tmp_path_factory.mktemp("run") / "out", rs3.read_records(documents).records
    )


@pytest.fixture
def given(documents):
    return rs3.read_records(documents).records


def contents(out):
    paths = [*out.glob("*.parquet"), *out.glob("*.tar"), *out.glob("*/*.parquet"), out / "run.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(paths)}


def test_every_image_is_a_pair_or_dropped_with_a_reason(folder, finished):
    made, dropped = rs3.pairs(finished), pq.read_table(finished / "dropped.parquet").to_pandas()
    images = dropped[dropped.stage == "image"]
    assert images.set_index("name").reason.to_dict() == {
        "cut": "truncated",
        "empty": "not_an_image",
        "tiny": "too_small",
        "black": "no_caption",
    }
    assert images.text.isna().all()
    assert sorted([*made.name, *images.name]) == sorted(input.listed(folder)) and len(made) == 18
    assert made.file.tolist() == sorted(made.file), "in order of the paths"
    candidates = dropped[dropped.stage == "candidate"]
    black = candidates[candidates.name == "black"]
    assert black.reason.tolist() == [
        "empty",
        "empty",
        "another script",
        "empty",
        "broken characters",
    ]
    assert black.text.tolist()[2:] == ["卫星图像", "...", "cut \ufffd here"]
    assert set(candidates.reason) == {"empty", "another script", "broken characters", "duplicate"}
    table = rs3.choices(finished)
    assert sum(map(len, table.kept)) + len(candidates) == 18 * 8 + 5, (
        "each candidate is kept, or dropped"
    )


def test_metadata_goes_into_the_text(finished, given):
    made = rs3.pairs(finished).set_index("name")
    airport, pasture, plain = made.loc[AIRPORT], made.loc[PASTURE], made.loc["über 00"]
    assert airport.label == "airport" and airport.country == "United States" and airport.month == 6
    assert (airport.latitude, airport.longitude) == pytest.approx((40.71, -73.94))
    assert (
        pasture.label == "Pastures; Sea and ocean"
        and pasture.country == "Portugal"
        and pasture.month == 12
    )
    assert airport.metadata == sentence(given[AIRPORT]) and "314 degrees" in airport.metadata
    assert (
        airport.rotation_safe == sentence(given[AIRPORT], True)
        and "314" not in airport.rotation_safe
    )
    assert airport.caption == f"{airport.metadata} A{airport.visual[1:]}."
    assert plain.metadata == plain.rotation_safe == "" and plain.caption == plain.visual
    assert plain[["label", "latitude", "country", "month"]].isna().all()
    left_out = pq.read_table(finished / "left_out.parquet").to_pandas().set_index("field").images
    assert left_out["satellite"] == 1 and left_out["gsd"] == 1 and "labels" not in left_out


def test_the_caption_is_the_one_that_the_parts_choose(folder, finished):
    """Every step again, an image at a time."""
    table, made = rs3.choices(finished).set_index("name"), rs3.pairs(finished).set_index("name")
    assert table.index.tolist() == list(input.listed(folder))
    a, b = cheap_rankers()
    for name, pair in made.iterrows():
        image = np.array(Image.open(folder / pair.file).convert("RGB"))
        kept, dropped = captions.clean([stages._text(t) for t in Cheap().generate([image], 8)[0]])
        row = table.loc[name]
        assert (
            row.kept.tolist() == kept and [(d["text"], d["reason"]) for d in row.dropped] == dropped
        )
        for model, got in ((a, row.similarity_a), (b, row.similarity_b)):
            seen, texts = (
                clip.encode_images(model, [image], quiet=True)[0],
                clip.encode_texts(model, kept),
            )
            lengths = np.linalg.norm(seen) * np.linalg.norm(texts, axis=1)
            assert got == pytest.approx(texts @ seen / lengths, abs=1e-5)
        ranked = captions.rank(row.similarity_a[None], row.similarity_b[None])[0]
        assert row.ranked.tolist() == [p for p in ranked if p >= 0]
        turned = rotation.similarities(
            a, [image], [[kept[p] for p in row.ranked]], range(0, 360, 60), quiet=True
        )
        assert row.rotations == pytest.approx(turned[0], abs=1e-5) and row.rotations.shape == (
            6,
            len(row.ranked),
        )
        picked = rotation.select(turned)[0]
        assert row.chosen == row.ranked[picked] and pair.visual == kept[row.chosen]
        assert (
            pair.score == row.score == pytest.approx(rotation.scores(turned)[0, picked], abs=1e-5)
        )
    assert table.chosen.isna().sum() == 4 and table.loc["black"].rotations.shape == (6, 0)


def test_shards_hold_the_original_bytes(folder, finished):
    made, found = rs3.pairs(finished), list(records.read([finished / "rs3-train-0000.tar"]))
    assert [r.caption for r in found] == made.caption.tolist()
    assert [r.name for r in found] == [Path(file).name for file in made.file]
    assert [r.image for r in found] == [(folder / file).read_bytes() for file in made.file]
    places = [(f"rs3-train-{0:04d}.tar", records.key(i)) for i in range(len(made))]
    assert list(zip(made.tar, made.key, strict=True)) == places


def test_more_pairs_than_a_tar_holds(folder, finished, tmp_path, monkeypatch, given):
    monkeypatch.setattr(runfolder, "TAR", 8)
    out = small_run(folder, tmp_path / "out", given)
    tars = sorted(out.glob("*.tar"))
    assert [tar.name for tar in tars] == [f"rs3-train-{i:04d}.tar" for i in range(3)]
    assert list(records.read(tars)) == list(records.read([finished / "rs3-train-0000.tar"]))


def test_the_release_s_layout_is_an_option_and_another_run(folder, finished, tmp_path, given):
    out = shutil.copytree(finished, tmp_path / "out")
    with pytest.raises(ValueError, match="another run .layout differ"):
        small_run(folder, out, given, layout="rs5m")
    (out / "run.json").write_text((out / "run.json").read_text().replace('"webdataset"', '"rs5m"'))
    (out / "dropped.parquet").unlink()
    small_run(folder, out, given, layout="rs5m")  # the shards alone are made again
    tars = [folder / "rs3-train-0000.tar" for folder in (out, finished)]
    assert list(records.read(tars[:1])) == list(records.read(tars[1:]))
    kinds = [
        {name.rpartition(".")[2] for name in tarfile.TarFile(path).getnames()} for path in tars
    ]
    assert kinds[0] == set(sample.OFFICIAL) and {"txt", "json", "png"} <= kinds[1]
    with pytest.raises(ValueError, match="unknown layout 'zip'"):
        settings(layout="zip")


def test_a_second_start_does_no_work(folder, finished, given):
    before = contents(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert small_run(folder, finished, given) == finished and Cheap.calls == 0
    assert contents(finished) == before and all(
        path.stat().st_mtime_ns == t for path, t in times.items()
    )


def test_only_what_is_missing_is_done_again(folder, finished, tmp_path, given):
    out = shutil.copytree(finished, tmp_path / "out")
    for name in (
        "dropped.parquet",
        "write/00002.parquet",
        "choose/00002.parquet",
        "choose/00004.parquet",
    ):
        (out / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*.parquet")}
    small_run(folder, out, given)
    assert contents(out) == contents(finished) and Cheap.calls == 1
    assert all(path.stat().st_mtime_ns == t for path, t in kept.items())


def test_the_captioner_is_loaded_only_for_a_shard_to_write(folder, finished, tmp_path, given):
    out = shutil.copytree(finished, tmp_path / "out")
    (out / "dropped.parquet").unlink()
    rs3.run(folder, out, None, None, given, "cheap", settings())
    assert contents(out) == contents(finished)


def test_memory_bounds_the_chunks_and_they_change_nothing(
    folder, finished, tmp_path, given, monkeypatch
):
    monkeypatch.setattr(input, "PIXELS", 2000)
    paths = [folder / file for file in input.listed(folder).values()]
    found = list(input.chunks(paths))
    assert [image.row for chunk in found for image in chunk] == list(range(len(paths)))
    assert len(found) > 5
    out = small_run(folder, tmp_path / "out", given)
    assert rs3.pairs(out).drop(columns="score").equals(rs3.pairs(finished).drop(columns="score"))


@pytest.fixture(scope="module")
def processes():
    return killed.ready()


def killed_run(step, folder, out, given):
    killed.at(step, out)
    small_run(folder, out, given)


@pytest.mark.slow
def test_killed_at_many_moments_it_ends_with_the_same_bytes(
    folder, finished, tmp_path, given, processes
):
    generator, reached = random.Random(0), []
    for attempt in range(15):
        out = tmp_path / f"out{attempt % 3}"
        step = generator.randrange(2, 20)
        process = processes.Process(target=killed_run, args=(step, folder, out, given))
        process.start()
        process.join()
        if process.exitcode == -9:
            reached.append(len(files(out)))
    assert len(reached) >= 8 and len(set(reached)) >= 5, (
        f"the kills hit different moments: {reached}"
    )
    for out in (tmp_path / f"out{i}" for i in range(3)):
        small_run(folder, out, given)
        assert contents(out) == contents(finished)
        assert not list(out.rglob("*.tmp"))


def files(out):
    return [path for path in out.rglob("*") if path.is_file()]


def test_parts_together_are_one_run(folder, finished, tmp_path, given, capsys):
    out = small_run(folder, tmp_path / "out", given, part=(1, 2))
    assert "3 of 6 shards are not there yet, let part 0/2 finish" in capsys.readouterr().out
    assert not (out / "dropped.parquet").exists()
    with pytest.raises(
        FileNotFoundError, match="dropped.parquet does not exist: let rs5m rs3 finish first"
    ):
        rs3.pairs(out)
    small_run(folder, out, given, part=(0, 2))
    assert contents(out) == contents(finished)


@pytest.mark.slow
def test_parts_at_the_same_time(folder, finished, tmp_path, given, processes):
    for attempt in range(2):
        out = tmp_path / f"out{attempt}"
        args = folder, out, given
        parts = [
            processes.Process(target=small_run, args=args, kwargs={"part": (i, 3)})
            for i in range(3)
        ]
        for process in parts:
            process.start()
        for process in parts:
            process.join()
        assert [process.exitcode for process in parts] == [0, 0, 0]
        assert contents(out) == contents(finished) and not list(out.rglob("*.tmp"))


def test_another_runs_folder_is_refused(folder, finished, tmp_path, given):
    for option in (
        {"order": "visual first"},
        {"candidates": 9},
        {"criterion": "mean"},
        {"angles": (0,)},
        {"shard_size": 5},
    ):
        with pytest.raises(ValueError, match="holds another run .* name a new folder"):
            small_run(folder, finished, given, **option)
    with pytest.raises(ValueError, match=r"holds another run \(records differ"):
        small_run(folder, finished, {})
    with pytest.raises(ValueError, match=r"\(identity differ"):
        rs3.run(folder, finished, Cheap, cheap_rankers, given, "dear", settings())
    other = shutil.copytree(folder, tmp_path / "images")
    draw(other / "black.png", (20, 20), 7)
    with pytest.raises(ValueError, match=r"\(images differ"):
        small_run(other, finished, given)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds no run.json"):
        small_run(folder, tmp_path / "mine", given)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/run.json").write_text("no json")
    with pytest.raises(ValueError, match="holds another run"):
        small_run(folder, tmp_path / "old", given)


def test_a_damaged_shard_is_named(folder, finished, tmp_path, given):
    out = shutil.copytree(finished, tmp_path / "out")
    (out / "dropped.parquet").unlink()
    (out / "choose/00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match="choose/00001.parquet is not a whole shard of this run: delete it"
    ):
        small_run(folder, out, given)
    (out / "choose/00001.parquet").unlink()
    small_run(folder, out, given)
    assert contents(out) == contents(finished)


def test_visual_first_says_what_is_seen_and_what_any_turn_leaves_true(folder, tmp_path, given):
    out = small_run(folder, tmp_path / "out", given, order="visual first")
    airport = rs3.pairs(out).set_index("name").loc[AIRPORT]
    assert airport.caption == f"A{airport.visual[1:]}. {airport.rotation_safe}" != airport.metadata


def test_join_reads_well():
    assert rs3.join("a river", "A satellite image.") == "A satellite image. A river."
    assert (
        rs3.join("a river.", "a satellite image", "visual first") == "A river. A satellite image."
    )
    assert (
        rs3.join(" a river ", "") == "a river"
        and rs3.join("", "X.") == "X."
        and rs3.join("", " ") == ""
    )
    with pytest.raises(
        ValueError, match="unknown order 'both': choose metadata first or visual first"
    ):
        rs3.join("a", "b", "both")


def test_documents_are_told_apart_by_their_keys(documents, given):
    found = rs3.read_records(documents)
    assert given[AIRPORT].source == "fmow" and given[PASTURE].source == "bigearthnet"
    assert sorted(given) == sorted([AIRPORT, PASTURE, "nobody_0_0_rgb"])
    reasons = {Path(name).name: reason for name, reason in found.left_out}
    assert sorted(reasons) == ["broken.json", "gone.json", "large.json", "list.json", "other.json"]
    assert (
        "not readable json" in reasons["broken.json"] and "neither fMoW's" in reasons["other.json"]
    )
    assert "holds a list" in reasons["list.json"] and "4194305 bytes" in reasons["large.json"]


def test_two_documents_of_one_name_count_only_if_they_agree(tmp_path):
    for folder, document in (("a", FMOW), ("b", FMOW), ("c", PATCH)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.json").write_text(json.dumps(document))
    assert rs3.read_records(tmp_path) == ({}, [("same", "documents of this name differ")])
    shutil.rmtree(tmp_path / "c")
    assert list(rs3.read_records(tmp_path).records) == ["same"]


def test_metadata_from_a_zip(documents, given, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for path in documents.rglob("*.json"):
            if path.name not in ("gone.json", "large.json"):
                archive.write(path, path.relative_to(documents))
    found = rs3.read_records(tmp_path / "m.zip")
    assert found.records == given and [name for name, _ in found.left_out] == [
        "broken",
        "list",
        "other",
    ]


def test_images_without_any_record_and_records_of_the_pocket_world(tmp_path):
    draw(tmp_path / "in/chip.png", (15, 15), 0)
    bare = rs3.pairs(small_run(tmp_path / "in", tmp_path / "bare"))
    assert len(bare) == 1 and bare.caption[0] == bare.visual[0]
    record = make(
        "chip", "pocket", labels=("savanna",), latitude=-0.5, longitude=36.5, climate="tropical"
    )
    made = rs3.pairs(small_run(tmp_path / "in", tmp_path / "out", {"chip": record}))
    assert made.label[0] == "savanna" and "savanna" in made.caption[0] and made.month.isna().all()


def test_no_pair_at_all(finished, tmp_path):
    draw(tmp_path / "in/a.png", (15, 15), 0, black=True)
    (tmp_path / "in/b.png").write_bytes(b"x")
    out = small_run(tmp_path / "in", tmp_path / "out")
    assert len(rs3.pairs(out)) == 0 and not list(out.glob("*.tar")) and len(rs3.choices(out)) == 2
    for name in ("pairs", "dropped", "left_out"):  # the types of every run
        one, other = (pq.read_schema(f / f"{name}.parquet") for f in (finished, out))
        assert one.equals(other)
    (tmp_path / "in/a.png").unlink()
    Cheap.calls = 0
    assert rs3.summary(small_run(tmp_path / "in", tmp_path / "again")).iloc[0].tolist() == [
        "images",
        1,
    ]
    assert Cheap.calls == 0, "nothing to caption"


def test_a_captioner_that_skips_an_image_is_told_so(folder, tmp_path):
    class Lazy:
        def generate(self, images, n):
            return [["a river"]] * (len(images) - 1)

    with pytest.raises(ValueError, match="the captioner wrote for . of . images"):
        rs3.run(folder, tmp_path / "out", Lazy, cheap_rankers, settings=settings())


def test_an_image_that_goes_away_is_named(folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")

    class Thief(Cheap):
        def generate(self, found, n):
            (images / f"ben/{PASTURE}.TIF").unlink(missing_ok=True)
            return super().generate(found, n)

    with pytest.raises(ValueError, match=f"{PASTURE}.TIF cannot be read"):
        rs3.run(images, tmp_path / "out", Thief, cheap_rankers, settings=settings())


def test_too_many_bytes_are_not_read(folder, monkeypatch):
    monkeypatch.setattr(input, "MAX_BYTES", 100)
    assert (
        next(input.chunks([folder / "black.png", folder / f"ben/{PASTURE}.TIF"]))[1].reason
        == "too_large"
    )


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(folder, finished, tmp_path, given):
    with small_disk(tmp_path, "64k") as (disk, resize):
        for size in ("64k", "100k", "200k"):  # full in a stage, later, and at the tar
            resize(size)
            with pytest.raises(OSError, match="could not be written .* free some space"):
                small_run(folder, disk / "out", given)
            assert not list(disk.rglob("*.tmp"))
            for path in disk.rglob("*.parquet"):
                pq.read_table(path)
        resize("50m")
        small_run(folder, disk / "out", given)
        assert contents(disk / "out") == contents(finished)


def command(tmp_path, *arguments):
    return cli.main(["rs3", "--out", str(tmp_path / "out"), *map(str, arguments)])


def test_the_command_prints_what_became_of_the_images(
    folder, documents, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(rs3_command, "_captioner", lambda *_: (Cheap, "cheap"))
    monkeypatch.setattr(rs3_command, "_rankers", lambda _: (cheap_rankers, "cheap"))
    arguments = ("--images", folder, "--metadata", documents, "--order", "visual-first")
    assert command(tmp_path, *arguments) == 0
    lines = " ".join(capsys.readouterr().out.split())
    assert "5 metadata documents are left out" in lines and "broken.json" in lines
    for line in (
        "images 22",
        "pairs 18",
        "pairs without metadata 16",
        "metadata without an image 1",
        "image dropped: too_small 1",
        "image dropped: no_caption 1",
        "candidate dropped: another script 19",
        "field left out: gsd 1",
    ):
        assert line in lines
    assert rs3.pairs(tmp_path / "out").caption.str.startswith("A ").any()
    page = (tmp_path / "out/report.html").read_text()
    assert "18 of 22 images became pairs" in page and page.count("data:image/jpeg") == 18
    assert "Captions dropped: another script <small>10 of 19</small>" in page
    assert command(tmp_path, *arguments, "--part", "1/2") == 0, "already whole"


@pytest.mark.parametrize(
    "case",
    [
        "missing",
        "empty",
        "metadata",
        "bare",
        "zip",
        "part",
        "captioner",
        "model",
        "adapter",
        "no adapter",
        "checkpoint",
        "folder",
        "surrogate",
    ],
)
def test_bad_input_is_one_sentence_that_names_the_file(case, tmp_path, capsys, monkeypatch):
    images, more, named = tmp_path / "in", [], "in"
    draw(images / "a.png", (15, 15), 0)
    if case == "missing":
        images = tmp_path / "in_"
    if case == "empty":
        (images / "a.png").rename(images / "a.txt")
    if case == "surrogate":
        (images / "a.png").rename(images / os.fsdecode(b"\xff.png"))
        named = "\\udcff"
    if case in ("metadata", "bare", "zip"):
        more, named = ["--metadata", tmp_path / "m.zip"], "m.zip"
        (tmp_path / "m.zip").write_bytes(b"PK") if case == "zip" else None
        (tmp_path / "m.zip").mkdir() if case == "bare" else None
    if case == "part":
        more, named = ["--part", "2/2"], "2/2"
    if case == "captioner":
        more, named = ["--captioner", "nowhere"], "nowhere is neither a folder"
    if case in ("captioner", "no adapter", "checkpoint", "part"):
        monkeypatch.setattr(input, "listed", lambda *_: pytest.fail("before any image is read"))
    if case == "no adapter":
        more, named = ["--adapter", "lora"], "lora is not a folder"
    if case == "checkpoint":
        more, named = ["--second-checkpoint", "b.pt"], "--second-checkpoint b.pt is not a file"
    if case == "model":
        monkeypatch.setattr(rs3_command, "_captioner", lambda *_: (Cheap, "cheap"))
        more, named = ["--model", "ViT-B-16"], "ViT-B-16 needs weights"
    if case == "adapter":
        more, named = ["--captioner", "pocket", "--adapter", "lora"], "lora belongs to BLIP-2"
    if case == "folder":
        (tmp_path / "c").mkdir()
        (tmp_path / "c/captioner.json").write_text("{")
        more, named = ["--captioner", tmp_path / "c"], "/c holds no whole captioner"
    assert command(tmp_path, "--images", images, *more) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert named in message and message.startswith("rs5m: ")
    assert not (tmp_path / "out").exists(), "refused before any work"


@pytest.mark.parametrize(
    "option",
    [
        {"order": "x"},
        {"criterion": "x"},
        {"choice": "x"},
        {"rendering": "x"},
        {"part": (2, 2)},
        {"candidates": 0},
        {"shard_size": 0},
        {"angles": ()},
    ],
)
def test_bad_settings_are_refused_before_any_work(option, folder, tmp_path):
    with pytest.raises(ValueError, match="choose|give"):
        small_run(folder, tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("choice", ["top", "drawn"])
def test_the_caption_is_the_best_ranked_or_drawn_as_in_the_release(
    choice, folder, finished, tmp_path, given
):
    made = rs3.pairs(small_run(folder, tmp_path / "out", given, choice=choice))
    usual, ranks = rs3.pairs(finished), rs3.choices(finished).set_index("name")
    assert made.name.tolist() == usual.name.tolist()
    for row, turned in zip(made.itertuples(), usual.itertuples(), strict=True):
        image = ranks.loc[row[1]]
        assert row.ssl_cap == turned.ssl_cap == turned.visual == image.kept[image.chosen]
        assert row.top_cap == turned.top_cap == image.kept[image.ranked[0]]
    expected = {"top": [made.top_cap], "drawn": [made.top_cap, made.ssl_cap]}[choice]
    assert all(any(made.visual[i] == one[i] for one in expected) for i in range(len(made)))
    if choice == "drawn":
        apart = made[made.top_cap != made.ssl_cap]
        assert 0 < (apart.visual == apart.top_cap).sum() < len(apart), "both are drawn"


def test_the_other_rendering_of_a_view_is_left_out_and_told(folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in (AIRPORT, "airport_0_0_msrgb"):
        shutil.copy(folder / f"fmow/airport/{AIRPORT}.jpg", images / f"{name}.jpg")
    out = small_run(images, tmp_path / "out", rendering="rgb")
    assert rs3.pairs(out).name.tolist() == [AIRPORT]
    told = {"another rendering of a view": ["airport_0_0_msrgb.jpg"]}
    assert runfolder.left_out(out) == told
    both = small_run(images, tmp_path / "both")
    assert sorted(rs3.pairs(both).name) == ["airport_0_0_msrgb", AIRPORT]
    assert "rendering" not in json.loads((both / "run.json").read_text())


def test_a_local_captioner_is_remembered_by_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(rs3_command, "_ask_hub", lambda name: None)
    folder = tmp_path / "blip"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    first = rs3_command._local_captioner(str(folder), "")[1]
    assert first == rs3_command._local_captioner(f"{folder}/../blip", "")[1] and first.startswith(
        "blip "
    )
    assert first != rs3_command._local_captioner(str(folder), str(folder))[1]
    (folder / "config.json").write_text("{ }")
    assert first != rs3_command._local_captioner(str(folder), "")[1]
    assert rs3_command._local_captioner("", "")[1] == captions.BLIP2
    with pytest.raises(FileNotFoundError, match="lora is not a folder"):
        rs3_command._local_captioner("", "lora")


@pytest.mark.slow
def test_with_a_real_model(tmp_path):
    """The general model of scale mini ranks: water captions for water, whatever the checksum wrote
    first.
    """

    class Two:
        def generate(self, images, n):
            return [["a lake of blue water", "a photo of a dog", "卫星图像", ""] for _ in images]

    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30), (20, 60, 160)).save(tmp_path / "in/lake.png")
    draw(tmp_path / "in/noise.jpg", (15, 15), 0)
    model = models.general(scales.get("mini"))
    out = rs3.run(tmp_path / "in", tmp_path / "out", Two, lambda: (model, model))
    table = rs3.choices(out)
    assert (
        table.rotations[0].shape == (12, 2)
        and table.similarity_a[0].tolist() == table.similarity_b[0].tolist()
    )
    assert rs3.pairs(out).visual[0] == "a lake of blue water"


def test_tables_have_their_schemas_and_the_note_its_digests(folder, finished):
    for name, schema in (
        ("pairs", rs3.PAIRS),
        ("dropped", rs3.DROPPED),
        ("left_out", rs3.LEFT_OUT),
        ("write/00000", stages.WRITTEN),
        ("choose/00000", stages.CHOSEN),
    ):
        assert pq.read_schema(finished / f"{name}.parquet").equals(schema)
    about = json.loads((finished / "run.json").read_text())
    assert (
        len(about["images"]) == 22
        and about["records"]["count"] == 3
        and about["records"]["without_image"] == 1
    )
    data = (folder / "black.png").read_bytes()
    assert about["images"]["black.png"] == [len(data), hashlib.sha256(data).hexdigest()]
