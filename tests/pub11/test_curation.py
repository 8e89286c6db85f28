"""Filters beyond the paper: off they change no byte; on, kept and dropped are all pairs."""

import json
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fake_pub11 import LIMITS, Cheap
from safetensors.numpy import save_file

from rs5m import cli, pub11
from rs5m.pub11 import curation, report, scorers
from rs5m.pub11.curation import Curation

TABLES = ("kept.parquet", "dropped.parquet", "attrition.parquet")


def table(**columns):
    n = len(next(iter(columns.values())))
    held = {"row": range(n), "stage": None, "reason": None, "width": 100.0, "height": 100.0}
    return pd.DataFrame(held | columns, index=range(n)).astype({"stage": object, "reason": object})


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A module of a user's that can be imported."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_scorer.py").write_text(
        "def bright(pictures, texts):\n    return [p.mean() / 255 for p in pictures]\n"
        "def short(pictures, texts):\n    return [1.0]\n"
        "def broken(pictures, texts):\n    raise KeyError('x')\n"
    )
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def curated(site, own, small_model, tmp_path_factory):
    """A run with every filter that needs no further library."""
    source = sorted(site[0].pairs.source.unique())[0]
    asked = Curation(*(40, 3.0, (), 0.999, "my_scorer:bright", 0.2, 0.5, (source,), small_model))
    out = tmp_path_factory.mktemp("curated") / "out"
    pairs = f"{site[1]}/*.parquet"
    return pub11.run(pairs, out, Cheap(), LIMITS, 8, asked=asked), asked, pairs


def test_nothing_asked_for_changes_nothing(site, finished, tmp_path):
    assert Curation(model="ViT-B-32").identity() == {} and Curation().about() == ""
    assert "curation" not in (finished / "run.json").read_text()
    assert pq.read_schema(finished / "kept.parquet").equals(pub11.outcome.KEPT)
    before = table(width=[3.0, 500.0])
    pd.testing.assert_frame_equal(curation.apply(Curation(), before.copy(), tmp_path), before)


def test_kept_and_dropped_are_all_pairs(curated, finished):
    out, asked, _ = curated
    kept, dropped = (pd.read_parquet(out / name) for name in TABLES[:2])
    before = pd.read_parquet(finished / "kept.parquet")
    more = dropped[dropped.stage.isin(curation.NAMES)]
    assert sorted([*kept.row, *more.row]) == before.row.tolist()
    attrition = pub11.attrition(out).iloc[-1]
    for step in asked.steps():
        mine = more[more.stage == step.stage]
        assert attrition[f"{step.stage}_removed"] == len(mine)
        assert set(mine.reason) <= {step.reason}
    assert attrition.remaining == len(kept) > 10
    left = len(kept) + (more.stage == "similarity").sum()
    assert len(kept) == -(-left // 2), "half of what is left, rounded up"
    assert kept.similarity.min() >= more[more.stage == "similarity"].similarity.max()
    bright = more[more.stage == "scorer"]
    assert (bright.scorer < 0.2).all() and kept.scorer.min() >= 0.2 and len(bright)
    assert (kept.machine_text == (kept.source == asked.machine_sources[0])).all()


def test_the_run_says_what_was_asked_for(curated):
    out, asked, _ = curated
    note = json.loads((out / "run.json").read_text())
    assert note["curation"]["top_share"] == 0.5 and "languages" not in note["curation"]
    assert note["curation"]["scorer"][0] == "my_scorer:bright"
    page, card = (out / report.PAGE).read_text(), (out / "README.md").read_text()
    for text in (page, card):
        assert "Beyond the paper: no picture with a side under 40 pixels" in text
        assert "below_top_share" in text and "similarity removed" in text.replace(
            "_removed", " removed"
        )
    assert "below_top_share" in report.words(out)


def test_a_run_cut_off_in_the_last_stage_ends_alike(curated):
    out, asked, pairs = curated
    whole = {name: (out / name).read_bytes() for name in TABLES}
    for name in (*TABLES, "curate/00000.parquet"):
        (out / name).unlink()
    pub11.run(pairs, out, Cheap(), LIMITS, 8, asked=asked)
    assert whole == {name: (out / name).read_bytes() for name in TABLES}
    with pytest.raises(ValueError, match="curation differ"):
        pub11.run(pairs, out, Cheap(), LIMITS, 8, asked=Curation(min_side=41))


def test_sides_and_aspect(tmp_path):
    found = curation.apply(
        Curation(min_side=50, max_aspect=2.0),
        table(width=[49.0, 50.0, 100.0, 101.0], height=[400.0, 50.0, 50.0, 50.0]),
        tmp_path,
    )
    assert found.reason.tolist() == ["small_side", None, None, "long_and_narrow"]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
def test_the_share_is_exact_with_ties(share):
    values = np.random.default_rng(0).integers(0, 3, 101).astype(float)
    dropped = curation._below(Curation(top_share=share), table(similarity=values))
    kept = np.flatnonzero(~dropped)
    assert len(kept) == int(np.ceil(share * 101))
    order = sorted(range(101), key=lambda i: (-values[i], i))
    assert sorted(order[: len(kept)]) == kept.tolist()


def test_languages(tmp_path):
    pytest.importorskip("py3langid")
    texts = [
        "An aerial photograph of the harbour and the fields behind it",
        "Ein Luftbild des Hafens und der Felder, die dahinter liegen",
    ]
    assert "texts in en, de by py3langid" in Curation(languages=("en", "de")).about()
    found = curation.apply(Curation(languages=("en",)), table(text=texts), tmp_path)
    assert found.language.tolist() == ["en", "de"]
    assert found.reason.tolist() == [None, "other_language"]
    with pytest.raises(ValueError, match="--language klingon is not known"):
        Curation(languages=("klingon",)).identity()


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    scorers._identifier.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'rs5m\[language\]'"):
        Curation(languages=("en",)).identity()


def test_a_linear_head(tmp_path):
    weight = np.float32([[1, -2, 0]])
    save_file({"weight": weight, "bias": np.float32([0.5])}, tmp_path / "head.safetensors")
    vectors = np.float32([[3, 0, 4], [0, 2, 0]])
    score = scorers.load(str(tmp_path / "head.safetensors"), 3)
    assert score(vectors) == pytest.approx([0.6 + 0.5, -2 + 0.5])
    with pytest.raises(ValueError, match="weighs 3 numbers, the model's vectors have 512"):
        scorers.load(str(tmp_path / "head.safetensors"), 512)
    save_file({"other": weight}, tmp_path / "bad.safetensors")
    for name, content in (("bad", None), ("text", b"hello")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content or path.read_bytes())
        with pytest.raises(ValueError, match="holds no linear head"):
            scorers.load(str(path))


def test_a_scorer_that_answers_nonsense_is_told(own):
    pictures, texts = [np.zeros((8, 8, 3), np.uint8)] * 2, ["a", "b"]
    assert scorers.load("my_scorer:bright")(pictures, texts).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"gave an array \(1,\) for 2 pairs"):
        scorers.load("my_scorer:short")(pictures, texts)
    with pytest.raises(ValueError, match="failed on 2 pairs .KeyError"):
        scorers.load("my_scorer:broken")(pictures, texts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min-side", "-1"], "--min-side is -1: give pixels"),
        (["--max-aspect", "0.5"], "--max-aspect is 0.5: give long over short"),
        (["--top-share", "0"], "--top-share is 0: give a number above 0"),
        (["--max-nsfw", "nan"], "--max-nsfw is nan: give a number above 0"),
        (["--scorer", "my_scorer:bright"], "--scorer and --min-score belong together"),
        (["--scorer", "gone", "--min-score", "0"], "neither module:function nor"),
        (["--scorer", "no_such:f", "--min-score", "0"], "no_such cannot be imported"),
        (["--scorer", "json:nope", "--min-score", "0"], "json has no function nope"),
        (["--scorer", "x.safetensors", "--min-score", "0"], "x.safetensors is not a file"),
        (["--mark-source", "nobody"], "the input has no such source"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, words, site, tmp_path, capsys):
    command = ["pub11", "--pairs", str(site[1]), "--keep-by", "none", "--out", str(tmp_path / "o")]
    assert cli.main([*command, *options]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1


def test_images_of_a_head_are_its_models(small_model, tmp_path):
    save_file({"weight": np.zeros(7, np.float32)}, tmp_path / "head.safetensors")
    asked = Curation(scorer=str(tmp_path / "head.safetensors"), min_score=0.0, model=small_model)
    with pytest.raises(ValueError, match="weighs 7 numbers"):
        asked.identity()
    with pytest.raises(ValueError, match="name it with --model"):
        Curation(top_share=0.5).identity()
