"""The parts to play with: what stands in the page by brute force, and the scripts in a browser."""

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rs5m import filters, rotation
from rs5m.book import play, searchbox
from rs5m.pocket import Chips

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
RULE = filters.Thresholds(0.5, 0.6, "both")
MOVE = """
<script>
const by = (name) => document.querySelector(`[id^="play-${name}-"]`);
const set = (name, tag, number, value, event) => {
  const input = by(name).querySelectorAll(tag)[number];
  input.value = value;
  input.dispatchEvent(new Event(event));
};
const key = (name) => by("world").querySelectorAll(".panel")[1].dispatchEvent(
  new KeyboardEvent("keydown", { key: name, cancelable: true }));
const before = JSON.stringify([by("rotation").dataset.chosen, by("world").dataset.chip]);
set("rotation", "select", 0, 2, "change");
set("rotation", "input", 0, 180, "input");
set("thresholds", "input", 0, 0.3, "input");
set("thresholds", "input", 1, 0.4, "input");
set("thresholds", "select", 0, "either", "change");
key("ArrowLeft");
set("pairs", "select", 0, "invalid", "change");
set("pairs", "select", 3, "1", "change");
const asked = [by("search").dataset.found];
set("search", "input", 0, "NOTHING like it", "input");
asked.push(by("search").dataset.found);
set("search", "input", 0, "a FOR of b7", "input");
asked.push(by("search").dataset.found);
set("search", "select", 1, 1, "change");
asked.push(by("search").dataset.found, by("search").querySelector("[aria-live]").textContent);
const told = { before, rotation: by("rotation").dataset.chosen, world: by("world").dataset.chip,
  asked, thresholds: by("thresholds").dataset.counts, pairs: by("pairs").dataset.counts,
  hidden: by("rotation").querySelector(".still").hidden };
const result = document.createElement("pre");
result.textContent = JSON.stringify(told);
document.body.append(result);
</script>
"""


def pictures(count: int) -> list[np.ndarray]:
    values = np.random.default_rng(0).integers(0, 255, (count, 15, 15, 3))
    return list(values.astype(np.uint8))


@pytest.fixture(scope="session")
def similarity() -> np.ndarray:
    return np.random.default_rng(1).random((4, 12, 4)).round(4)


@pytest.fixture(scope="session")
def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    truth = generator.random(400) < 0.6
    score, probability = generator.random((2, 400)) * 0.5 + truth * 0.4
    return score, probability, truth


@pytest.fixture(scope="session")
def chips() -> Chips:
    cells = np.random.default_rng(3).permutation(40)[:20]
    latitude, longitude = 0.5 - cells // 8, cells % 8 + 0.5
    labels = np.arange(20) % 2
    classes = ["open water", "a </script> of its own"]
    return Chips(np.array(pictures(20)), labels, classes, latitude, longitude, [{}] * 20, "test")


@pytest.fixture(scope="session")
def crawl() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    stage = generator.choice(["kept", "invalid", "download"], 300)
    return pd.DataFrame(
        {
            "row": np.arange(300),
            "text": [f"text <{i}> of Zürich" for i in range(300)],
            "stage": stage,
            "reason": np.where(stage == "kept", None, generator.choice(["empty", "bomb"], 300)),
            "source": generator.choice(["one", "two"], 300),
            "truth": generator.random(300) < 0.5,
        }
    )


@pytest.fixture(scope="session")
def captioned() -> tuple[list[list[str]], dict[str, np.ndarray]]:
    captions = [[f"a{i} of a river", f"b{i} for a road", "the same"] for i in range(20)]
    scores = np.random.default_rng(5).random((2, 60, 20))
    return captions, dict(zip(("general", "tuned"), scores, strict=True))


@pytest.fixture(scope="session")
def parts(similarity, judged, chips, crawl, captioned) -> dict[str, play.Part]:
    captions = [[f"{kind} {i}" for kind in "abcd"] for i in range(4)]
    answers = {"truth": chips.labels, "general": 1 - chips.labels, "colour": np.full(20, -1)}
    found = (
        play.rotation(pictures(4), rotation.ANGLES, similarity, captions, list("abcd")),
        play.thresholds(pictures(400), *judged, ["photo"] * 400, RULE),
        play.world(chips, [f"chip {i}" for i in range(20)], answers),
        play.pairs(crawl, dict(enumerate(pictures(150)))),
        searchbox.search(pictures(20), *captioned),
    )
    return {part.script: part for part in found}


@pytest.fixture(scope="session")
def told(parts, tmp_path_factory) -> dict:
    """What the parts say after they were moved, by the browser of this machine."""
    if not BROWSER:
        pytest.skip("no Chromium here")
    folder = tmp_path_factory.mktemp("play")
    body = "".join(part._repr_html_() for part in parts.values())
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}{MOVE}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={folder / 'home'}", "--no-first-run", "--dump-dom"]
    try:
        said = subprocess.run(
            [BROWSER, *options, "--virtual-time-budget=5000", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium gives no answer here")
    if "rs5m-play" not in said.stdout:
        pytest.skip("Chromium does not start here")
    found = re.search(r"<pre>(.*)</pre>", said.stdout)
    assert found, "a script stopped with an error"
    return json.loads(found[1])


def test_a_turned_image_gives_each_criterion_its_caption(told, similarity):
    def wanted(image, views):
        upright, seen = similarity[[image], :1], similarity[[image], :views]
        return [
            int(rotation.select(upright)[0]),
            *(int(rotation.select(seen, name)[0]) for name in rotation.CRITERIA),
        ]

    assert json.loads(json.loads(told["before"])[0]) == wanted(0, 1)
    assert json.loads(told["rotation"]) == wanted(2, 7)  # 0 to 180 degrees
    assert wanted(2, 7) != wanted(2, 1), "turning must change something here"
    assert told["hidden"], "the still table makes room for the live one"


def test_thresholds_count_like_the_package(told, judged):
    score, probability, truth = judged
    moved = filters.Thresholds(0.3, 0.4, "either")
    reasons = filters.joint_all(score.round(3), probability.round(3), moved)
    kept = np.array([reason is None for reason in reasons])
    assert json.loads(told["thresholds"]) == [kept.sum(), (kept & truth).sum(), truth.sum()]


def test_an_arrow_key_walks_to_the_next_chip_on_that_side(told, chips):
    first = json.loads(json.loads(told["before"])[1])[0]
    chip, *answers = json.loads(told["world"])
    west = chips.longitude[first] - chips.longitude
    away = np.abs(chips.latitude - chips.latitude[first])
    ahead = (west > 0) & (away <= west)
    squared = away**2 + west**2
    assert ahead[chip] and squared[chip] == squared[ahead].min()
    assert answers == [chips.labels[chip], 1 - chips.labels[chip], -1]


def test_pairs_are_counted_over_all_and_shown_from_a_sample(told, crawl):
    wanted = crawl[(crawl.stage == "invalid") & crawl.truth]
    shown = sum(min(8, len(of)) for _, of in wanted.groupby("reason"))
    assert json.loads(told["pairs"]) == [len(wanted), len(wanted), shown]


def test_typed_words_find_the_sentence_and_its_pictures(told, parts, captioned):
    captions, scores = captioned
    texts = [text for group in captions for text in group]
    sentences = parts["search"].data["sentences"]
    *asked, said = told["asked"]
    first, none, general, tuned = map(json.loads, asked)
    assert first[0] == 0 and none == [-1, []]
    assert sentences[general[0]] == "b7 for a road", "of the words typed it has most"
    for name, found in (("general", general), ("tuned", tuned)):
        score = scores[name][texts.index("b7 for a road")]
        assert found == [general[0], np.argsort(-score)[:12].tolist()]
    assert f"at place {1 + (score > score[7]).sum()}." in said


def test_sentences_are_different_and_large_sets_are_thinned():
    captions = [[f"picture {i}", "the same"] for i in range(700)]
    scores = {"one": np.eye(700).repeat(2, axis=0)}  # each caption knows its own picture
    part = searchbox.search([np.zeros((2, 2, 3), np.uint8)] * 700, captions, scores)
    sentences, answers = part.data["sentences"], part.data["models"][0]
    assert len(set(sentences)) == len(sentences) == searchbox.SENTENCES
    assert len(part.data["captions"]) == play.MOST
    assert set(answers["place"]) == {1}
    for text, first in zip(sentences, answers["first"], strict=True):
        assert text in ("the same", part.data["captions"][first[0][0]])


def test_counts_of_pairs_by_brute_force(parts, crawl):
    counts = parts["pairs"].data["counts"]
    assert sum(one["pairs"] for one in counts) == len(crawl)
    for one in counts:
        rows = crawl.fillna({"reason": ""}).itertuples()
        same = [r for r in rows if all(getattr(r, k) == v for k, v in one.items() if k != "pairs")]
        assert len(same) == one["pairs"]


def test_the_sheet_holds_each_picture_at_its_place():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)] * 12  # two rows of the sheet
    sheet = play.sheet([np.full((9, 9, 3), colour, np.uint8) for colour in colours], 8)
    file = io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    for i, colour in enumerate(colours):
        x, y = i % sheet["columns"] * 8 + 4, i // sheet["columns"] * 8 + 4
        assert np.abs(pixels[y, x] - colour).max() < 40


def test_without_scripts_a_picture_or_a_table_stands_there(parts):
    for name, part in parts.items():
        page = part._repr_html_()
        assert part.still in page and ("<svg" in part.still or "<table" in part.still), name
        assert not re.search(r"""(?:src|href)=["']?http""", page), "nothing from the network"
        assert page.count("</script>") == 2, "no text ends a script"
    assert sum(parts["world"].still.count(f"M{x} ") for x in range(8)) == 40  # -1 is drawn nowhere


def test_a_page_stays_small():
    """300 kB for the pocket world's real size, with noise for pictures, which compress worst."""
    size, generator = 1400, np.random.default_rng(0)
    values = generator.random((2, size))
    part = play.thresholds(pictures(size), *values, values[0] > 0.5, ["photo"] * size, RULE)
    assert len(part._repr_html_()) < 300_000
    assert sum(place >= 0 for place in part.data["tile"]) == play.MOST


def test_a_part_is_kept_for_another_page(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert play.kept("pairs", "mini") == "<p>Not made at this scale.</p>"
    assert not list(tmp_path.iterdir()), "reading writes nothing"
    assert play.keep(parts["pairs"], "mini") is parts["pairs"]
    assert play.kept("pairs", "mini") == parts["pairs"]._repr_html_()
