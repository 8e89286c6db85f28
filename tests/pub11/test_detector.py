"""`rs5m detector`: figures of pictures not learned from, and every picture accounted for."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rs5m import cli, filters
from rs5m.pub11 import detector

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(folder, count, blue, seed=0):
    """Noisy pictures, more blue or more red."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        picture = generator.integers(0, 120, (40, 48, 3))
        picture[..., 2 if blue else 0] += 120
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i}.png")


@pytest.fixture
def world(tmp_path):
    draw(tmp_path / "views", 20, True)
    draw(tmp_path / "others", 24, False, 1)
    return tmp_path


def fit(world, small_model, *more):
    given = ["detector", "fit", "--positives", world / "views", "--negatives", world / "others"]
    return cli.main(
        [str(x) for x in (*given, "--model", small_model, "--out", world / "d.npz", *more)]
    )


def test_what_was_fitted_is_reported_on_new_pictures(world, small_model, capsys):
    assert fit(world, small_model) == 0
    said = capsys.readouterr().out
    assert "20 and 24 pictures; precision 1.000" in said
    about = filters.about_detector(world / "d.npz")
    assert about["model"] == small_model and about["validation"]["AUC"] == 1
    draw(world / "new views", 12, True, 2)
    draw(world / "new others", 12, False, 3)
    (world / "new others/note.txt").write_text("x")
    (world / "new others/broken.png").write_bytes(b"\x89PNG\r\n")
    given = ["detector", "report", "--positives", world / "new views", "--negatives"]
    given += [world / "new others", "--model", small_model, "--detector", world / "d.npz"]
    assert cli.main(list(map(str, [*given, "--out", world / "page.html"]))) == 0
    said = capsys.readouterr().out
    assert "precision 1.000" in said and "recall 1.000" in said
    assert "note.txt" in said and "broken.png" in said
    page = (world / "page.html").read_text()
    assert page.count("<img") == 24 + 24 and "most likely" in page


def test_a_table_is_as_good_as_folders(world, small_model, capsys):
    assert fit(world, small_model) == 0
    rows = [f"views/{i}.png,1" for i in range(20)] + [f"others/{i}.png,0" for i in range(24)]
    (world / "table.csv").write_text("\n".join(["path,label", *rows, "gone.png,1"]))
    given = ["detector", "fit", "--table", world / "table.csv", "--model", small_model]
    assert cli.main(list(map(str, [*given, "--out", world / "t.npz"]))) == 0
    assert "left out, missing: 1 (gone.png)" in capsys.readouterr().out
    one, two = (dict(np.load(world / name)) for name in ("d.npz", "t.npz"))
    assert np.allclose(one["weight"], two["weight"]) and one["about"] == two["about"]


def test_a_picture_that_is_there_twice_is_learned_from_once(world, small_model, capsys):
    for name in ("1 too.png", "2 too.png"):
        shutil.copy(world / "views" / f"{name[0]}.png", world / "views" / name)
    assert fit(world, small_model) == 0
    said = capsys.readouterr().out
    assert "20 and 24 pictures" in said and "left out, the same picture again: 2" in said


def test_labels_without_meaning_are_worth_nothing():
    generator = np.random.default_rng(0)
    vectors, labels = generator.normal(size=(200, 20)), generator.random(200) < 0.5
    likely = detector._cross_validated(vectors, labels)
    area = detector.worth(likely, labels, 0.5)["AUC"]
    assert area["low"] < 0.5 < area["high"] + 0.1


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("one", "no readable picture of everything else"),
        ("few", "give 5 of each"),
        ("folder", "is not a folder"),
        ("both", "views/7.png and .*others/7 too.png are the same picture"),
        ("label", "row 1: the label 'maybe' is neither"),
        ("column", "column called path"),
        ("ending", "name a file that ends in .npz"),
        ("nowhere", "its folder does not exist: make it first"),
    ],
)
def test_bad_input_is_one_sentence(case, says, world, small_model, capsys):
    views, others, out = str(world / "views"), str(world / "others"), str(world / "d.npz")
    given = ["--positives", views, "--negatives", others]
    if case == "one":
        given = ["--positives", views]
    if case == "few":
        draw(world / "some", 3, True, 5)
        given = ["--positives", str(world / "some"), "--negatives", others]
    if case == "folder":
        given = ["--positives", views + "x", "--negatives", others]
    if case == "both":
        shutil.copy(world / "views/7.png", world / "others/7 too.png")
    if case in ("label", "column"):
        head = "path,label" if case == "label" else "where,label"
        (world / "t.csv").write_text(f"{head}\nviews/0.png,maybe\n")
        given = ["--table", str(world / "t.csv")]
    if case == "ending":
        out = str(world / "d.json")
    if case == "nowhere":
        out = str(world / "none/d.npz")
    assert cli.main(["detector", "fit", *given, "--model", small_model, "--out", out]) == 2
    message = capsys.readouterr().err
    assert re.search(says, message) and message.count("\n") == 1 and not (world / "d.npz").exists()


def test_figures_of_a_fit_are_in_the_file_as_plain_numbers(world, small_model):
    fit(world, small_model)
    about = filters.about_detector(world / "d.npz")
    assert json.loads(json.dumps(about)) == about and about["image_size"]
