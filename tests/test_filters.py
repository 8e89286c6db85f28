"""Chapter filters: scores, the detector, the joint rule and its thresholds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rs5m import clip, filters
from rs5m.book import models, scales
from rs5m.filters import Thresholds

# `filters.tower_digest` of the pocket model
TOWER = "fe901002d6084de98cbfb5780f7faf2a649c2ec60587773a9b2ae98c05fbc2ab"


def made(n=200, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2 == 0
    return generator.normal(size=(n, 8)) + 2.0 * labels[:, None] * (np.arange(8) < 2), labels


def test_detector_learns_a_separable_world_and_repeats_itself():
    x, y = made()
    detector = filters.fit_detector(x, y)
    p = filters.probability(detector, x)
    assert ((p > 0.5) == y).mean() > 0.85
    assert (p == filters.probability(filters.fit_detector(x, y), x)).all()


def test_detector_equals_scikit_learns_own_probabilities():
    from sklearn.linear_model import LogisticRegression

    x, y = made()
    z = (x - x.mean(0)) / (x.std(0) + 1e-6)
    head = LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced").fit(z, y)
    np.testing.assert_allclose(
        filters.probability(filters.fit_detector(x, y), x), head.predict_proba(z)[:, 1], atol=1e-6
    )


def test_a_probability_is_never_nought_and_its_logarithm_finite():
    detector = filters.Detector(np.ones(1), np.zeros(1), np.zeros(1), np.ones(1))
    p = filters.probability(detector, np.array([[-900.0], [-50], [0], [50], [900]]))
    assert p.tolist() == pytest.approx([np.exp(-50)] * 2 + [0.5, 1, 1], rel=1e-9, abs=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_road_gives_the_coefficients_of_both_regressions(weighted):
    from sklearn.linear_model import LogisticRegression

    (x, y), ground = made(), made(90, 1)[0] * 3 + 1
    given = {"weights": np.where(np.arange(len(x)) < 40, 16.0, 1.0), "strength": 1e-3}
    given |= {"ground": ground}
    given, by = (given, ground) if weighted else ({}, x)
    detector = filters.fit_detector(x, y, **given)
    head = LogisticRegression(C=given.get("strength", 0.01), max_iter=300 if weighted else 1000)
    head.set_params(class_weight=None if weighted else "balanced")
    head.fit((x - by.mean(0)) / (by.std(0) + 1e-6), y.astype(float), given.get("weights"))
    assert (detector.weight == head.coef_[0]).all() and detector.bias == head.intercept_


def test_detector_survives_the_disk_without_pickle(tmp_path):
    x, y = made()
    detector, thresholds = filters.fit_detector(x, y), Thresholds(0.25, 0.5, "either")
    filters.save_detector(tmp_path / "d.npz", detector, thresholds)
    again, same = filters.load_detector(tmp_path / "d.npz")
    assert (
        same == thresholds
        and (filters.probability(again, x) == filters.probability(detector, x)).all()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]
    np.savez(tmp_path / "evil.npz", weight=np.array([{}], object))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("evil.npz", "text.npz"):
        with pytest.raises(ValueError, match=f"{name} is not a detector"):
            filters.load_detector(tmp_path / name)
    with pytest.raises(ValueError, match="one of them is missing"):
        filters.fit_detector(x, np.ones(len(x)))


TRUNKS = {  # a timm trunk and its head -> numbers of a picture, and those that the head gives
    ("test_convnext", "linear"): (432, 32),
    ("test_vit", "none"): (640, 64),
    ("test_vit", "mlp"): (608, 32),
}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_towers_of_any_trunk_have_features_and_a_detector_of_their_inner_part(trunk, tmp_path):
    (name, head), (width, projected) = trunk, TRUNKS[trunk]
    vision = {"image_size": 160, "timm_model_name": name, "timm_model_pretrained": False}
    vision |= {"timm_pool": "avg", "timm_proj": head}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    config = {"embed_dim": projected, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / f"rs5m-{name}-{head}.json").write_text(json.dumps(config))
    clip.open_clip.add_model_config(tmp_path)
    model = clip.load(f"rs5m-{name}-{head}")
    found = filters.features(model, [np.full((40, 40, 3), 9, np.uint8)] * 2)
    assert found.shape == (2, width) and np.isfinite(found).all()
    ones = np.ones(width)
    for count in (width, width - projected):
        part = filters.Detector(ones[:count], ones[:1], ones[:count], ones[:count])
        filters.save_detector(tmp_path / "d.npz", part, Thresholds(0.5, 0.5))
        filters.check_detector(tmp_path / "d.npz", part, model, width)
    other = filters.Detector(ones[:30], ones[:1], ones[:30], ones[:30])
    with pytest.raises(ValueError, match=f"a detector of 30 features, and rs5m-{name}"):
        filters.check_detector(tmp_path / "d.npz", other, model, width)


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        ("both", [0, 0, 0, 1]),
        ("either", [0, 1, 1, 1]),
        ("score", [0, 0, 1, 1]),
        ("probability", [0, 1, 0, 1]),
    ],
)
def test_joint_rule(rule, dropped):
    cases = [(0.9, 0.9), (0.9, 0.1), (0.1, 0.9), (0.1, 0.1)]
    reasons = [filters.joint(s, p, Thresholds(0.5, 0.5, rule)) for s, p in cases]
    assert [r is not None for r in reasons] == list(map(bool, dropped))
    assert filters.joint(0.5, 0.5, Thresholds(0.5, 0.5, rule)) is None, "at the threshold is kept"
    with pytest.raises(ValueError, match="unknown rule"):
        filters.joint(0.1, 0.1, Thresholds(0.5, 0.5, "neither"))


def test_chosen_thresholds_are_the_best_of_brute_force():
    generator = np.random.default_rng(1)
    y = generator.random(300) < 0.4
    s, p = generator.random(300) + 0.5 * y, (generator.random(300) + 0.7 * y) / 1.7
    chosen = filters.choose_thresholds(s, p, y)
    best = 0.0
    for rule in ("both", "either"):
        for a in np.quantile(s, np.linspace(0, 1, 41)):
            for b in np.linspace(0.02, 0.98, 49):
                kept = np.array(
                    [r is None for r in filters.joint_all(s, p, Thresholds(a, b, rule))]
                )
                hit = (kept & y).sum()
                best = max(best, 2 * hit / (kept.sum() + y.sum()))
    kept = np.array([r is None for r in filters.joint_all(s, p, chosen)])
    assert filters.f_beta(y, kept, 1.0) == pytest.approx(best)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_is_scikit_learns(beta):
    from sklearn.metrics import fbeta_score

    labels, kept = np.random.default_rng(3).random((2, 90)) < [[0.4], [0.6]]
    assert filters.f_beta(labels, kept, beta) == pytest.approx(fbeta_score(labels, kept, beta=beta))
    assert filters.f_beta(labels, ~labels, beta) == 0


def test_of_thresholds_that_do_as_well_the_middle_one_is_chosen():
    labels = np.arange(40) >= 20
    scores = labels + np.arange(40) / 100  # apart: all limits between the two kinds do as well
    chosen = filters.choose_thresholds(scores, scores / 1.4, labels, rules=("either",))
    limits = np.unique(np.quantile(scores, np.linspace(0, 1, 41)))
    tied = [
        Thresholds(a, p, "either")
        for a in limits
        for p in np.linspace(0.02, 0.98, 49)
        if (((scores >= a) & (scores / 1.4 >= p)) == labels).all()
    ]
    assert len(tied) > 8 and chosen == sorted(tied)[len(tied) // 2]


def test_areas_are_scikit_learns_in_every_row_with_ties_for_half():
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(2)
    score, label = generator.integers(0, 9, (3, 40)), generator.random((3, 40)) < 0.4
    wanted = [roc_auc_score(right, row) for row, right in zip(score, label, strict=True)]
    assert filters.auc(score, label) == pytest.approx(wanted)
    assert filters.auc(score[0], label[0]) == pytest.approx(wanted[0])
    assert np.isnan(filters.auc(score[0], label[0] & False))


def test_curves_end_where_they_must():
    _, y = made()
    roc = filters.roc(y.astype(float), y)
    assert (
        roc.true_positive_rate.iloc[-1] == 1
        and (roc.false_positive_rate == 0)[roc.true_positive_rate < 1].all()
    )
    curve = filters.precision_recall(y.astype(float), y)
    assert curve.precision.iloc[-1] == 1 and curve.recall.iloc[0] == 1


@pytest.mark.slow
def test_features_begin_with_the_vector_the_model_gives_and_do_not_depend_on_the_batch():
    model = models.general(scales.get("mini"))
    images = list(np.random.default_rng(0).integers(0, 256, (5, 64, 80, 3), dtype=np.uint8))
    vectors = filters.features(model, images)
    np.testing.assert_allclose(
        vectors[:, :384], clip.encode_images(model, images, quiet=True), atol=2e-3
    )
    np.testing.assert_allclose(vectors, filters.features(model, images, batch=2), atol=2e-3)
    scores = filters.score(model, images)
    assert scores.shape == (5,) and ((scores >= 0) & (scores <= 1)).all()
    text = filters.prompts(model)
    assert text.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)
    scores = filters.score_features(text, text)
    assert scores[0] > 0.9 and scores[1] == pytest.approx(1 - scores[0], abs=1e-6), (
        "the two sides mirror each other"
    )


def test_scores_are_a_soft_choice_between_the_two_sides():
    """Against the formula: cosines times 100, over 10, through a softmax; what follows the
    projected vector does not count.
    """
    text = np.eye(3)[:2]
    vectors = np.array([[2.0, 0, 0], [0, 3, 0], [3, 4, 0], [0, 0, 1]])
    scores = filters.score_features(np.hstack([vectors, 9 * np.ones((4, 2))]), text)
    odds = np.exp(10 * np.array([1, -1, 0.6 - 0.8, 0]))
    np.testing.assert_allclose(scores, odds / (1 + odds))


def test_features_of_a_trunk_are_its_output_and_its_stages_means_and_deviations(monkeypatch):
    """The first stage, whose channels are colours, is left out."""
    import torch

    stages = [torch.arange(2.0 * c * 6).reshape(2, c, 2, 3) ** 1.5 for c in (1, 2, 3, 4, 5)]

    class Trunk:
        feature_info = stages

        def forward_intermediates(self, pixels, indices):
            return stages[-1], [stages[i] for i in indices]

        def forward_head(self, last):
            return last.sum((2, 3))

    visual = SimpleNamespace(trunk=Trunk(), head=lambda pooled: 2 * pooled)
    monkeypatch.setattr(clip, "preprocess", lambda images, model: torch.zeros(2, 3, 4, 4))
    model = SimpleNamespace(net=SimpleNamespace(visual=visual))
    found = filters.features(model, [None, None])
    pooled = stages[-1].sum((2, 3))
    wanted = [2 * pooled, pooled]
    for stage in stages[1:]:
        flat = stage.reshape(2, stage.shape[1], 6)
        wanted += [flat.mean(2), flat.std(2)]
    np.testing.assert_allclose(found, np.concatenate(wanted, 1), rtol=1e-6)
    assert filters.features(model, []).shape == (0, 0)


def test_auc_is_the_share_of_ordered_pairs():
    score, label = np.array([3.0, 1.0, 2.0, 2.0]), np.array([1, 0, 1, 0])
    pairs = [(3, 1), (3, 2), (2, 1), (2, 2)]  # a tie is half a pair
    expected = np.mean([1 if a > b else 0.5 if a == b else 0 for a, b in pairs])
    assert filters.auc(score, label) == pytest.approx(expected)
    assert filters.auc(np.stack([score, -score]), np.stack([label] * 2)) == pytest.approx(
        [expected, 1 - expected]
    )


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["SSE4_2", "AVX2", "AVX512"])
def test_the_pocket_tower_has_the_same_digits_on_every_processor(instructions):
    """Else a detector that was fitted on one processor is refused on another."""
    code = (
        "from rs5m import filters; from rs5m.clip.pocket import pocket_model; "
        "print(filters.tower_digest(pocket_model(64)))"
    )
    variables = os.environ | {"MKL_ENABLE_INSTRUCTIONS": instructions}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1:] == [TOWER], said.stderr


def test_the_stored_detector_knows_the_pocket_tower():
    about = filters.about_detector(Path(__file__).parents[1] / "results/local/detector.npz")
    assert about["tower"] == TOWER
