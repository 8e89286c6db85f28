"""The judge that a user names: checked before any work, and the outcome is what was asked for."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rs5m import cli, clip, filters
from rs5m.pub11 import judge

pytestmark = pytest.mark.usefixtures("one_thread")


def command(site, out, *options):
    return [
        "pub11",
        "--pairs",
        str(site[1]),
        "--out",
        str(out),
        "--allow-loopback",
        *map(str, options),
    ]


def fitted(path, name, width=None, **about):
    """A detector of random numbers for a model."""
    model = clip.load(name)
    pictures = [np.full((40, 40, 3), 50 * i, np.uint8) for i in range(4)]
    vectors = filters.features(model, pictures)[:, : width or None]
    generator = np.random.default_rng(0)
    detector = filters.Detector(
        generator.normal(size=vectors.shape[1]), np.zeros(1), vectors.mean(0), vectors.std(0) + 1e-3
    )
    about = {"model": name, "tower": filters.tower_digest(model)} | about
    filters.save_detector(path, detector, filters.Thresholds(0.5, 0.5, "probability"), about)
    return detector, model


def tables(out):
    return pd.read_parquet(out / "kept.parquet"), pd.read_parquet(out / "dropped.parquet")


def test_nobody_judges_and_no_model_is_loaded(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge.hub, "model_of", lambda *_: pytest.fail("a model was loaded"))
    assert cli.main(command(site, tmp_path / "out", "--keep-by", "none")) == 0
    assert "no judge" in capsys.readouterr().out
    kept, dropped = tables(tmp_path / "out")
    assert len(kept) and not (dropped.stage == "outliers").any()


def test_a_clip_by_name_keeps_by_its_score(site, small_model, tmp_path, capsys):
    out = tmp_path / "out"
    given = command(site, out, "--model", small_model, "--score-threshold", 0.5)
    assert cli.main(given) == 0
    assert f"judge: {small_model}, kept by score" in capsys.readouterr().out
    kept, dropped = tables(out)
    looked = dropped[dropped.stage == "outliers"]
    assert len(kept) and (kept.score >= 0.5).all()
    assert (looked.score < 0.5).all() and set(looked.reason) <= {filters.SCORE}
    assert json.loads((out / "run.json").read_text())["model"][0] == small_model
    again = command(site, out, "--model", small_model, "--score-threshold", 0.6)
    assert cli.main(again) == 2 and "model differ" in capsys.readouterr().err


def test_a_detector_keeps_what_it_finds_likely(site, small_model, tmp_path, capsys):
    path, out = tmp_path / "detector.npz", tmp_path / "out"
    figures = {"precision": 0.94, "AUC": 0.91}
    detector, model = fitted(path, small_model, validation=figures)
    assert cli.main(command(site, out, "--model", small_model, "--detector", path)) == 0
    assert "kept by detector; the detector's validation: " in capsys.readouterr().out
    kept, dropped = tables(out)
    assert (kept.probability >= 0.5).all()
    assert (dropped[dropped.stage == "outliers"].probability < 0.5).all()


def test_a_detector_that_states_no_validation_is_called_so(small_model, tmp_path):
    path = tmp_path / "detector.npz"
    detector, _ = fitted(path, small_model)
    filters.save_detector(path, detector, filters.Thresholds(0.0, 0.5, "probability"))
    assert "the detector's validation: not stated" in judge.Named(small_model, "", path).check()


@pytest.mark.parametrize(
    ("keep", "rule"),
    [("both", lambda s, p: s & p), ("either", lambda s, p: s | p), ("score", lambda s, p: s)],
)
def test_rules_keep_what_their_names_say(small_model, tmp_path, keep, rule):
    fitted(tmp_path / "detector.npz", small_model)
    one = judge.Named(small_model, detector=str(tmp_path / "detector.npz"), keep_by=keep)
    score, likely = np.array([0.9, 0.9, 0.1, 0.1]), np.array([0.9, 0.1, 0.9, 0.1])
    kept = np.array([reason is None for reason in one.reasons(score, likely, tmp_path)])
    assert kept.tolist() == rule(score >= 0.5, likely >= 0.5).tolist()


def test_a_detector_that_decides_alone_leaves_the_score_its_threshold(small_model, tmp_path):
    path = tmp_path / "detector.npz"
    detector, _ = fitted(path, small_model)
    filters.save_detector(path, detector, filters.Thresholds(0.0, 0.5, "probability"))
    one = judge.Named(small_model, detector=str(path), keep_by="either")
    assert one.reasons(np.array([0.1, 0.9]), np.array([0.1, 0.1]), tmp_path) == [filters.BOTH, None]


WRONG = ("width", "tower", "nan", "cut", "other", "missing", "length")
SAID = {  # what a detector says of itself, damaged
    "json": "{no",
    "list": "[1, 2]",
    "pixels": '{"image_size": -5}',
    "figures": '{"validation": "good"}',
}
ARRAYS = {  # arrays that are no detector's, and what is said
    "words": ({"weight": np.array(["a"] * 32)}, "its arrays are not numbers"),
    "square": ({"weight": np.ones((32, 1))}, "differ in length"),
    "thresholds": ({"thresholds": np.ones(3)}, "differ in length"),
    "number": ({"weight": np.array(1.0)}, "differ in length"),
    "spread": ({"spread": np.zeros(32)}, "a spread of 0"),
    "rule": ({"rule": np.array("neither")}, "has the unknown rule neither: choose one of both"),
}


@pytest.mark.parametrize("case", [*SAID, *ARRAYS])
def test_a_damaged_detector_is_named_before_any_work(case, site, small_model, tmp_path, capsys):
    path, out = tmp_path / "detector.npz", tmp_path / "out"
    fitted(path, small_model)
    changed, says = ARRAYS.get(case, ({}, "has a damaged description"))
    changed |= {"about": np.array(SAID[case])} if case in SAID else {}
    np.savez(path, **dict(np.load(path)) | changed)
    assert cli.main(command(site, out, "--model", small_model, "--detector", path)) == 2
    message = capsys.readouterr().err
    assert str(path) in message and says in message and message.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("# nothing\n\n", "has no term"),
        ("aerial\n/(sat/\n", "line 2: /(sat/ is a broken pattern: missing )"),
        ("/.+/\n", "line 1: /.+/ matches 100 of 100 ordinary captions"),
        ("/a|/\n", "matches the empty string"),
        ("aerial\n/e/\n", "line 2: /e/ matches 92 of 100 ordinary captions"),
    ],
)
def test_keywords_that_cannot_choose_are_refused(content, says, site, tmp_path, capsys):
    path, out = tmp_path / "terms.txt", tmp_path / "out"
    path.write_text(content)
    assert cli.main(command(site, out, "--keep-by", "none", "--keywords", path)) == 2
    message = capsys.readouterr().err
    assert str(path) in message and says in message and message.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_detector_is_refused_before_any_work(case, site, small_model, tmp_path, capsys):
    path, out = tmp_path / "detector.npz", tmp_path / "out"
    fitted(path, small_model, **({"width": 7} if case == "width" else {}))
    arrays = dict(np.load(path))
    says = {
        "width": "a detector of 7 features",
        "tower": "with other weights",
        "nan": "not finite",
        "cut": "is not a detector",
        "other": "is not a detector",
        "missing": "is not a file: check its spelling",
        "length": "differ in length",
    }
    if case == "tower":
        arrays["about"] = np.array(json.dumps({"model": "another", "tower": "0" * 64}))
    if case == "nan":
        arrays["weight"][3] = np.nan
    if case == "length":
        arrays["centre"] = arrays["centre"][:-1]
    if case in ("tower", "nan", "length"):
        np.savez(path, **arrays)
    if case == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if case == "other":
        np.savez(path, image=np.zeros((3, 3)))
    if case == "missing":
        path.unlink()
    assert cli.main(command(site, out, "--model", small_model, "--detector", path)) == 2
    message = capsys.readouterr().err
    assert says[case] in message and message.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--keep-by", "detector"), "needs a detector: name its file by --detector"),
        (("--score-threshold", "7"), "the score threshold is 7.0: give a number from 0 to 1"),
        (("--detector-threshold", "nan"), "the detector threshold is nan: give a number"),
        (("--workers", "0", "--keep-by", "none"), "workers is 0: give 1 or more"),
        (("--model", "RN50"), "RN50 needs weights: name their file with --checkpoint"),
        (("--model", "VitB32", "--checkpoint", "x.pt"), "unknown model 'VitB32'"),
    ],
)
def test_what_a_rule_or_a_model_lacks_is_said_before_any_work(
    options, says, site, tmp_path, capsys
):
    assert cli.main(command(site, tmp_path / "out", *options)) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_a_network_the_three_ways_out_are_one_sentence(site, tmp_path):
    """The real command in a home without a cache: the hub is a port where nobody listens."""
    home = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    home |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_CACHE": str(tmp_path / "hf")}
    run = subprocess.run(
        [sys.executable, "-m", "rs5m.cli", *command(site, tmp_path / "out")],
        capture_output=True,
        text=True,
        env=home,
        check=False,
        timeout=240,
    )
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 2 and judge.WAYS_OUT in last, run.stderr
    assert "asking the hub" in run.stdout and not (tmp_path / "out").exists()


def test_the_pocket_judge_says_what_it_is_worth(capsys):
    from rs5m.book.judge import Model

    assert Model("mini").identity() == Model("mini", spoken=True).identity()
    assert capsys.readouterr().out.count("one small made-up web") == 1
