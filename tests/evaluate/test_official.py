"""`rs5m evaluate` end to end: a model whose vectors are colours, on folders in the true layout,
against slow twins.
"""

import hashlib
import json
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from named_colours import Net, seen
from small import encoded

from rs5m import __version__, cli, clip, paper, pocket, selo
from rs5m.clip import released
from rs5m.evaluate import official, reporting, testsets

# ---------------------------------------------------------------- a model that sees the mean colour
# and reads words

GREEN, BLUE, CYAN, RED = (40, 180, 40), (40, 60, 200), (60, 130, 220), (200, 40, 40)
WORDS = {"forest": GREEN, "river": BLUE, "sealake": CYAN, "red": RED, "green": GREEN, "blue": BLUE}


def read(text: str) -> np.ndarray:
    """The vector of a text: its words' colours; to prompts of satellites, rivers are green."""
    vectors = [seen(WORDS[word]) for word in text.lower().rstrip(".").split() if word in WORDS]
    vector = np.mean(vectors, 0) if vectors else np.full(3, 0.1)
    return 20 * seen(GREEN) if "satellite" in text and "river" in text else vector


def colours(*_, **__) -> clip.Model:
    return clip.Model(
        Net().eval(),
        lambda texts: torch.tensor(np.array([read(t) for t in texts])),
        (0.5,) * 3,
        (0.5,) * 3,
        32,
        "colours",
    )


# ---------------------------------------------------------------- a small official folder

CLASSES = {
    "Forest": [GREEN] * 4 + [BLUE],
    "River": [BLUE] * 5 + [CYAN],
    "SeaLake": [CYAN] * 3 + [GREEN],
}
SHADES = [tuple(map(int, c)) for c in np.random.default_rng(3).integers(0, 256, (14, 3))]
WORDS |= {f"shade{i}": colour for i, colour in enumerate(SHADES)}


def captions_of(i: int) -> list[str]:
    """Two captions that no picture shares; the second names mostly a wrong shade for every third
    picture.
    """
    mostly = f"shade{i if i % 3 else (i + 1) % 14}"
    return [
        f"shade{i} beside shade{(i + 5) % 14}",
        f"{mostly} and {mostly} and shade{(i + 3) % 14}",
    ]


def picture(path: Path, colour, shape: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        np.broadcast_to(np.array(colour, np.uint8), (*shape, 3)) if np.ndim(colour) < 2 else colour
    )
    path.write_bytes(encoded(pixels))  # colours stay exact, and readers go by content


def eurosat(folder: Path) -> None:
    for label, found in CLASSES.items():
        for i, colour in enumerate(found):
            picture(folder / "eurosat-rgb" / "2750" / label / f"{label}_{i}.jpg", colour)


def rsitmd(folder: Path) -> None:
    rows = ["filename,title"]
    for i, colour in enumerate(SHADES):
        picture(folder / "rsitmd" / "images" / f"{i:02d}.tif", colour)
        rows += [f"{i:02d}.tif,{caption}" for caption in captions_of(i)]
    (folder / "rsitmd" / "rsitmd_test.csv").write_text("\n".join(rows) + "\n")


def scene() -> np.ndarray:
    """Green land with a red and a blue block."""
    pixels = np.empty((600, 900, 3), np.uint8)
    pixels[:], pixels[50:300, 80:330], pixels[300:560, 560:830] = GREEN, RED, BLUE
    return pixels


QUERIES = {
    "red": [[80, 50], [330, 50], [330, 300], [80, 300]],
    "blue": [[560, 300], [830, 300], [830, 560], [560, 560]],
}


def air_slt(folder: Path) -> None:
    picture(folder / "AIR-SLT" / "imgs" / "0.jpg", scene())
    told = [
        {"caption": word, "jpg_name": "0.jpg", "points": [corners]}
        for word, corners in QUERIES.items()
    ]
    (folder / "AIR-SLT" / "annotations").mkdir()
    (folder / "AIR-SLT" / "annotations" / "anno.json").write_text(json.dumps(told))


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clip, "load", colours)
    for make in (eurosat, rsitmd, air_slt):
        make(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def whole(monkeypatch):
    """Every card agrees, as with the hub's folder."""
    monkeypatch.setattr(testsets, "differences", lambda *_: [])


def run(
    data: Path, tasks: str = "zeroshot,retrieval,selo", out: str = "out.json", code: int = 0, **more
) -> dict:
    options = [part for name, value in more.items() for part in (f"--{name}", str(value))]
    given = [
        "evaluate",
        "--model",
        "colours",
        "--data",
        str(data),
        "--tasks",
        tasks,
        "--out",
        out,
        *options,
    ]
    assert cli.main(given) == code
    return json.loads(Path(out).read_text()) if code == 0 else {}


# ---------------------------------------------------------------- twins


def cosine(a, b) -> float:
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def top1(clips: bool) -> float:
    """Top-1 by loops over the known colours; clips: every prompt normalised before the mean."""
    weights = []
    for label in CLASSES:
        vectors = [read(prompt.format(label.lower())) for prompt in paper.prompts()]
        weights.append(sum(v / np.sqrt(v @ v) if clips else v for v in vectors))
    hits = [
        max(range(3), key=lambda c: cosine(seen(colour), weights[c])) == label
        for label, found in enumerate(CLASSES.values())
        for colour in found
    ]
    return 100 * sum(hits) / len(hits)


def recalls() -> dict[str, float]:
    """The six recalls by sorting."""
    texts = [(i, read(caption)) for i in range(14) for caption in captions_of(i)]
    images, found = [seen(colour) for colour in SHADES], {}
    for k in (1, 5, 10):
        best = [sorted(texts, key=lambda text: -cosine(image, text[1]))[:k] for image in images]
        found[f"image2text-R@{k}"] = 100 * np.mean(
            [any(i == owner for owner, _ in top) for i, top in enumerate(best)]
        )
        best = [
            sorted(range(14), key=lambda i: -cosine(images[i], vector))[:k] for _, vector in texts
        ]
        found[f"text2image-R@{k}"] = 100 * np.mean(
            [texts[t][0] in top for t, top in enumerate(best)]
        )
    return found


def localized(word: str) -> dict[str, float]:
    """The four measures from the windows' mean colours."""
    pixels = scene()
    windows = selo.windows(*pixels.shape[:2])
    means = [seen(pixels[r0:r1, c0:c1].mean((0, 1))) for r0, r1, c0, c1 in windows]
    heat = selo.probability_map(
        windows, np.array([cosine(mean, read(word)) for mean in means]), *pixels.shape[:2]
    )
    return selo.metrics(heat, [np.array(QUERIES[word], float)])


# ---------------------------------------------------------------- the known result


def test_known_features_give_the_known_result(data, whole, capsys):
    report = run(data)
    metrics, intervals = report["metrics"], report["intervals"]
    assert metrics["EuroSAT-zeroshot-acc"] == round(top1(False), 2)
    assert report["extra"]["zeroshot eurosat"]["clip_top1"] == pytest.approx(top1(True))
    assert top1(True) != top1(False), "the two averagings must be told apart"
    expected = recalls()
    assert 0 < expected["image2text-R@1"] < 100 and 0 < expected["text2image-R@5"] < 100
    for name, value in expected.items():
        assert metrics[f"retrieval-{name}-rsitmd"] == pytest.approx(value)
    assert metrics["retrieval-mean-recall-rsitmd"] == pytest.approx(
        np.mean(list(expected.values()))
    )
    queries = report["extra"]["selo air_slt"]["queries"]
    assert [query["caption"] for query in queries] == list(QUERIES)
    for query in queries:
        for key, value in localized(query["caption"]).items():
            assert query[key] == pytest.approx(value, abs=0.02)
    for key, name in reporting.SELO.items():
        assert metrics[name] == pytest.approx(np.mean([query[key] for query in queries]))
    assert report["not_comparable"] == {} and set(metrics) == set(intervals)
    alike = report["chance"]
    assert alike["EuroSAT-zeroshot-acc"] == pytest.approx(100 / len(CLASSES))
    assert alike["retrieval-text2image-R@5-rsitmd"] == pytest.approx(100 * 5 / 14), "of 14 images"
    for name, value in metrics.items():
        assert intervals[name][0] - 1e-9 <= value <= intervals[name][1] + 1e-9
    missing = {(entry["task"], entry["set"]) for entry in report["left_out"]}
    assert missing == {("zeroshot", "resisc45"), ("zeroshot", "aid"), ("retrieval", "rsicd")}
    said = capsys.readouterr().out
    assert (
        "EuroSAT-zeroshot-acc" in said
        and "61.40" in said
        and "another model" in said
        and "0.7447" in said
    )


def test_what_the_json_tells(data, whole):
    report = run(data)
    told = report["protocol"]
    assert told["zeroshot"]["prompts"] == 105 and told["zeroshot"]["classes"]["eurosat"] == [
        c.lower() for c in CLASSES
    ]
    assert report["cards"]["rsitmd"]["known_by"].endswith("not by the pixels")
    assert told["preprocessing"]["image_size"] == 32 and told["selo"]["steps"] == [256, 512, 768]
    assert report["model"]["parameters"] == 3 and report["model"]["checkpoint"] is None
    assert len(report["model"]["weights_sha256"]) == 64 and report["cards"].keys() == {
        "eurosat",
        "rsitmd",
        "air_slt",
    }
    assert report["provenance"]["versions"]["torch"] and report["provenance"]["date"]
    assert report["provenance"]["rs5m"] == __version__
    assert set(report["sha256"]) == {
        *(f"images-{name}" for name in report["cards"]),
        *("texts-zeroshot-eurosat", "texts-retrieval-rsitmd", "texts-selo-air_slt"),
    }
    (data / "eurosat-rgb/2750/Forest/Forest_0.jpg").write_bytes(
        encoded(np.full((9, 9, 3), 7, np.uint8))
    )
    again = run(data)["sha256"]
    changed = {name for name in again if again[name] != report["sha256"][name]}
    assert changed == {"images-eurosat"}
    library = f"Pillow {version('pillow')}"
    assert told["preprocessing"]["pixels"] == library and told["zeroshot"]["templates_sha256"]
    assert 0 < report["seconds"]["encoding"] < report["seconds"]["total"]
    assert str(data.parent) not in json.dumps(report), "no path of this machine"


def test_a_second_run_encodes_nothing_and_says_the_same(data, whole, monkeypatch, capsys):
    first = run(data)
    monkeypatch.setattr(clip, "encode_pixels", None)
    monkeypatch.setattr(clip, "encode_texts", None)
    capsys.readouterr()
    second = run(data, out="new/folder/again.json")
    assert second["seconds"]["encoding"] == 0
    for key in set(first) - {"seconds", "provenance"}:
        assert first[key] == second[key]
    said = capsys.readouterr().err
    assert "computed" not in said and said.count(": loaded ") == 6


@pytest.mark.parametrize("what", ["image", "weights"])
def test_another_image_or_checkpoint_is_encoded_anew(data, whole, monkeypatch, capsys, what):
    run(data)
    capsys.readouterr()
    if what == "image":
        picture(data / "rsitmd" / "images" / "03.tif", (1, 2, 3))
    else:
        other = colours()
        with torch.no_grad():
            other.net.weight[0] = 1.5
        monkeypatch.setattr(clip, "load", lambda *_, **__: other)
    run(data)
    computed = re.findall(r"(\S+): computed", capsys.readouterr().err)
    pictures = ["images-eurosat", "images-rsitmd", "windows-air_slt"]
    texts = ["texts-zeroshot-eurosat", "texts-retrieval-rsitmd", "texts-selo-air_slt"]
    assert set(computed) == ({"images-rsitmd"} if what == "image" else {*pictures, *texts})


# ---------------------------------------------------------------- nothing passes for the official
# number


def test_a_folder_that_differs_from_its_card_has_no_official_number(data, capsys):
    report = run(data)
    assert report["metrics"] == {} and report["paper"]["values"] == {}
    assert set(report["not_comparable"]) == {"zeroshot eurosat", "retrieval rsitmd", "selo air_slt"}
    told = report["not_comparable"]["zeroshot eurosat"]
    assert told["values"]["top1"] == round(top1(False), 2) and told["why"]
    said = capsys.readouterr().out
    assert "warning: eurosat: " in said and "not comparable with the paper" in said
    assert "zeroshot-acc" not in said and "61.40" not in said


def test_a_corrupt_image_is_named_and_the_number_is_no_longer_official(data, whole, capsys):
    (data / "eurosat-rgb" / "2750" / "Forest" / "Forest_4.jpg").write_bytes(
        b"\xff\xd8\xff no more"
    )  # the blue one
    (data / "rsitmd" / "images" / "02.tif").write_bytes(b"")
    report = run(data, "zeroshot,retrieval")
    assert report["metrics"] == {} and set(report["not_comparable"]) == {
        "zeroshot eurosat",
        "retrieval rsitmd",
    }
    left = {entry["set"]: entry.get("files") for entry in report["left_out"]}
    assert "Forest_4.jpg" in left["eurosat"][0] and "02.tif" in left["rsitmd"][0]
    assert report["extra"]["zeroshot eurosat"]["images"] == 14
    assert (
        report["extra"]["retrieval rsitmd"]["images"] == 13
        and report["extra"]["retrieval rsitmd"]["captions"] == 26
    )
    assert report["not_comparable"]["zeroshot eurosat"]["values"]["top1"] == round(
        (15 * top1(False) / 14), 2
    )
    line = "left out: retrieval rsitmd: not_an_image, 1: 02.tif"
    assert line in capsys.readouterr().out


def test_a_missing_image_is_named(data, whole):
    (data / "rsitmd" / "images" / "02.tif").unlink()
    report = run(data, "retrieval")
    assert report["metrics"] == {} and "02.tif" in json.dumps(report["left_out"])


def test_a_task_without_a_set_is_told(data, whole, capsys):
    (data / "AIR-SLT" / "annotations" / "anno.json").unlink()
    report = run(data)
    assert not any(name in report["metrics"] for name in reporting.SELO.values())
    assert "selo: no set of this task is in " in capsys.readouterr().out
    assert ("selo", "air_slt") in {(entry["task"], entry["set"]) for entry in report["left_out"]}


def test_polygons_in_the_wrong_order_are_told(data, capsys):
    annotations = data / "AIR-SLT" / "annotations" / "anno.json"
    told = json.loads(annotations.read_text())
    told[1]["points"] = [[[y, x] for x, y in told[1]["points"][0]]]
    annotations.write_text(json.dumps(told))
    run(data, "selo", code=2)
    assert (
        "0.jpg: the polygons of 'blue' leave the image of 900 x 600 pixels"
        in capsys.readouterr().err
    )


# ---------------------------------------------------------------- bad input

BAD = {
    "task": (
        {"tasks": "zeroshot,caption"},
        "unknown task 'caption': choose from zeroshot,retrieval,selo",
    ),
    "no folder": ({"data": "absent"}, "absent is not a folder: put eurosat-rgb/2750/"),
    "data": ({"data": "pockett"}, "pockett is not a folder: did you mean pocket? put eurosat"),
    "empty folder": (
        {"data": "empty"},
        "empty has no set of zeroshot, retrieval, selo: put eurosat-rgb/2750/",
    ),
    "pocket": (
        {"data": "pocket", "tasks": "selo"},
        "the pocket world has no set of selo: give another task",
    ),
    "out is a folder": ({"out": "empty"}, "empty is a folder: name a file"),
    "predictions in a file": (
        {"predictions": "data/rsitmd/rsitmd_test.csv"},
        "rsitmd_test.csv cannot be used as a folder (file exists): name another",
    ),
    "checkpoint": ({"checkpoint": "absent.pt"}, "absent.pt is not there: give a checkpoint"),
    "model": ({"model": "ViT-B-33"}, "unknown model 'ViT-B-33': did you mean ViT-B-32 or "),
    "tag": ({"checkpoint": "opena"}, "unknown weights 'opena' of ViT-B-32-quickgelu: did you mean"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence(data, monkeypatch, capsys, what):
    monkeypatch.undo()
    monkeypatch.chdir(data.parent)
    Path("empty").mkdir()
    given, says = BAD[what]
    usual = {
        "model": "ViT-B-32-quickgelu",
        "data": "data",
        "tasks": "zeroshot,retrieval,selo",
        "out": "out.json",
    }
    options = [part for name, value in (usual | given).items() for part in (f"--{name}", value)]
    assert cli.main(["evaluate", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rs5m: ") and says in error
    assert not Path("out.json").exists()


# ---------------------------------------------------------------- parts


COLUMNS = {
    ("GeoRSCLIP-ViT-B-32", None): ("GeoRSCLIP ViT-B/32", "RS5M", False, True),
    ("GeoRSCLIP-ViT-H-14", None): ("GeoRSCLIP ViT-H/14", "RS5M", False, True),
    ("GeoRSCLIP-ViT-B-32-RET-2", None): ("GeoRSCLIP-FT ViT-B/32", "RS5M + RET-2", False, True),
    ("ViT-B-32-quickgelu", "some/RS5M_ViT-B-32.pt"): ("GeoRSCLIP ViT-B/32", "RS5M", False, True),
    ("ViT-B-32", "some/RS5M_ViT-B-32.pt"): ("GeoRSCLIP ViT-B/32", "RS5M", False, False),
    ("GeoRSCLIP-ViT-B-32", "mine.pt"): ("GeoRSCLIP ViT-B/32", "RS5M", False, False),
    ("ViT-B-32-quickgelu", "openai"): ("CLIP ViT-B/32", "none", True, False),
    ("ViT-H-14", "mine.pt"): ("GeoRSCLIP ViT-H/14", "RS5M", False, False),
    ("GeoRSCLIP-ViT-L-14", None): ("GeoRSCLIP ViT-B/32", "RS5M", False, False),
    ("pocket", None): ("GeoRSCLIP ViT-B/32", "RS5M", False, False),
}


@pytest.mark.parametrize("given", COLUMNS)
def test_the_column_of_the_paper(given):
    assert reporting.column(*given) == COLUMNS[given]


@pytest.mark.parametrize(("text", "same"), [("theirs", True), ("mine", False)])
def test_a_release_of_a_known_hash_is_the_same_by_it_alone(tmp_path, monkeypatch, text, same):
    name, file = "GeoRSCLIP-ViT-B-32", tmp_path / "RS5M_ViT-B-32.pt"
    file.write_text(text)
    known = hashlib.sha256(b"theirs").hexdigest()
    release = released.RELEASED[name]._replace(sha256=known)
    monkeypatch.setitem(released.RELEASED, name, release)
    monkeypatch.setattr(released, "fetch", lambda _: file)
    for given in ((name, None), ("ViT-B-32-quickgelu", file)):
        assert reporting.column(*given) == ("GeoRSCLIP ViT-B/32", "RS5M", same, False)


def test_every_published_value_of_georsclip_has_its_official_name():
    rows = paper.table("results")
    for size in ("B/32", "H/14"):
        model = f"GeoRSCLIP ViT-{size}"
        at, found = reporting.Column(model, "RS5M", True, False), {}
        for task, names in testsets.TASKS.items():
            for name in names:
                if name in reporting.TITLES:
                    found |= reporting.published(task, name, at)
        assert (
            sorted(found.values()) == sorted(rows[rows["model"] == model]["value"])
            and len(found) == 21
        )
        assert found["RESISC45-zeroshot-acc"] == paper.value(dataset="RESISC45", model=model)
        at = {"dataset": "RSICD", "model": model, "metric": "text-to-image R@5"}
        assert found["retrieval-text2image-R@5-rsicd"] == paper.value(**at)
        assert found["↓ Ras [0 ~ 1]"] == paper.value(metric="Ras", model=model)


def test_random_weights_are_said_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(clip, "load", colours)
    _, told = official.load("ViT-B-32-quickgelu", None)
    assert (
        told["checkpoint"] == "none: random weights"
        and "has random weights" in capsys.readouterr().out
    )
    calls = []
    monkeypatch.setattr(clip, "load", lambda *a, **k: calls.append((a, k)) or colours())
    _, told = official.load("ViT-B-32-quickgelu", "openai")
    assert told["checkpoint"] == {"tag": "openai"} and calls == [
        (("ViT-B-32-quickgelu", "openai"), {})
    ]
    file = tmp_path / "RS5M_ViT-B-32.pt"
    file.write_bytes(b"weights")
    monkeypatch.setattr(released, "fetch", lambda name: file)
    for given in (("GeoRSCLIP-ViT-B-32", None), ("ViT-B-32-quickgelu", file)):
        _, told = official.load(*given)
        assert told["checkpoint"] == {"file": file.name, "sha256": pocket.sha256(file)}
    assert "random" not in capsys.readouterr().out


def test_the_json_is_whole_or_not_there(tmp_path):
    out = tmp_path / "out.json"
    reporting.write({"a": 1}, out)
    with pytest.raises(TypeError):
        reporting.write({"a": object()}, out)
    assert json.loads(out.read_text()) == {"a": 1} and os.listdir(tmp_path) == ["out.json"]


# ---------------------------------------------------------------- a folder of one's own classes


@pytest.fixture
def own_classes(tmp_path, data) -> Path:
    """Green pictures under f, one of them blue, and blue ones under r/deep; a file beside them."""
    folder = tmp_path / "mine"
    for label, found in {"f": [GREEN] * 3 + [BLUE], "r/deep": [BLUE] * 2}.items():
        for i, colour in enumerate(found):
            picture(folder / label / f"{i}.png", colour)
    (folder / "notes.txt").write_text("what this is")
    (tmp_path / "names.csv").write_text("f,forest\nr,\t sea, river \n")
    (tmp_path / "templates.txt").write_text("a view of {}.\n\n{} from above\n")
    return folder


def test_a_folder_of_own_classes_is_scored_apart(own_classes, capsys):
    report = run(own_classes, classnames="names.csv", templates="templates.txt", predictions="p")
    told = report["not_comparable"]["zeroshot mine"]
    assert report["metrics"] == {} and report["cards"] == {}
    assert told["values"]["top1"] == round(100 * 5 / 6, 2)
    assert told["why"] == ["not one of the paper's test sets"]
    assert report["protocol"]["zeroshot"]["prompts"] == 2
    assert report["protocol"]["zeroshot"]["classes"] == {"mine": ["forest", "sea, river"]}
    assert [entry["files"] for entry in report["left_out"]] == [["notes.txt"]]
    table = pd.read_parquet("p/mine.parquet")
    assert list(table.columns) == ["path", "label", "predicted", "score_f", "score_r"]
    assert table.predicted.tolist() == list("fffrrr") and table.path[5] == "r/deep/1.png"
    assert "zeroshot mine: not comparable" in capsys.readouterr().out


def test_own_classes_are_named_by_their_folders_and_asked_by_the_papers_prompts(own_classes):
    for was, now in (("f", "Forest"), ("r", "River")):
        (own_classes / was).rename(own_classes / now)
    report = run(own_classes, "zeroshot")
    assert report["protocol"]["zeroshot"]["prompts"] == 105
    assert report["protocol"]["zeroshot"]["classes"] == {"mine": ["forest", "river"]}


def test_another_precision_is_never_official(data, whole):
    report = run(data, "zeroshot", precision="bfloat16")
    assert report["metrics"] == {} and report["protocol"]["preprocessing"]["image_precision"] == (
        "bfloat16"
    )
    assert report["not_comparable"]["zeroshot eurosat"]["why"] == [
        "images were encoded in bfloat16"
    ]


def test_batches_and_workers_change_no_number(data, whole):
    first = run(data, "zeroshot,selo")
    shutil.rmtree("runs")
    second = run(data, "zeroshot,selo", **{"batch-size": 3, "workers": 1})
    assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-4)


WRONG = {
    "f,forest\n": "--classnames: no name for r: give a line for each class folder",
    "f,forest\nr,river\nq,quarry\n": "--classnames: no folder of q: give a line",
    "f,forest\nf,field\n": "names.csv, line 2: give each folder once, a comma or tab, and its name",
    "f,forest\nr\n": "names.csv, line 2: give each folder once",
    " \n": "names.csv is empty: leave the option out",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_names_are_told_with_their_line(own_classes, capsys, text):
    Path("names.csv").write_text(text)
    run(own_classes, code=2, classnames="names.csv")
    assert WRONG[text] in capsys.readouterr().err


@pytest.mark.parametrize("line", ["a view", "{} or {}", "{c} from above", "{} at {0}"])
def test_a_template_without_its_place_is_told(own_classes, capsys, line):
    Path("templates.txt").write_text(f"{{}}\n{line}\n")
    run(own_classes, code=2, templates="templates.txt")
    assert "templates.txt, line 2: write {} once" in capsys.readouterr().err


def test_own_words_do_not_go_with_published_sets(data, own_classes, capsys):
    run(data, code=2, templates="templates.txt")
    assert "for a folder of your own classes, and this is eurosat" in capsys.readouterr().err


def test_a_folder_that_is_no_set_of_classes_is_told(own_classes, capsys):
    (own_classes / "empty").mkdir()
    run(own_classes, code=2)
    assert "class folders without an image: empty; left out are" in capsys.readouterr().err
    shutil.rmtree(own_classes / "empty")
    shutil.rmtree(own_classes / "r")
    run(own_classes, code=2)
    assert "mine has one folder of images, f: zero-shot" in capsys.readouterr().err
    (own_classes / "f").rename(own_classes / "rsitmd")  # half of the official layout
    run(own_classes, code=2)
    assert "has no set of zeroshot, retrieval, selo" in capsys.readouterr().err
