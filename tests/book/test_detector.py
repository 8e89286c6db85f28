"""The detector for photographs: figures of pictures that it has not seen, and a file that works."""

import numpy as np
import pytest

from rs5m import filters
from rs5m.book import criteria, detector, scales

MINI = scales.get("mini")


def world(seed: int = 0, views: int = 60, others: int = 40, dim: int = 30):
    """Vectors in which three numbers tell views from other pictures."""
    generator = np.random.default_rng(seed)
    label = np.arange(views + others) < views
    vectors = generator.normal(size=(len(label), dim))
    vectors[label, :3] += 1.5
    return vectors, label, generator.normal(size=(300, dim))


def fitted(x, y, ground):
    given = {"weights": np.ones(len(x)), "strength": detector.STRENGTH, "ground": ground}
    return filters.fit_detector(x, y, **given)


def test_no_picture_is_scored_by_a_detector_that_learned_from_it():
    vectors, label, photographs = world()
    seen = {}

    def learn(x, y):
        found = fitted(x, y, photographs)
        seen[found.weight.tobytes()] = {row.tobytes() for row in x}
        return found

    asked = []
    real = criteria.odds

    def odds(found, x):
        asked.append((seen[found.weight.tobytes()], {row.tobytes() for row in x}))
        return real(found, x)

    criteria.odds = odds
    try:
        score, _ = criteria.cross_validated(vectors, label, np.arange(100), photographs, learn)
    finally:
        criteria.odds = real
    assert len(seen) == criteria.FOLDS * criteria.REPEATS
    assert len(asked) == 2 * len(seen)
    for learned, tested in asked[::2]:
        assert tested and not learned & tested
    assert filters.auc(score, label) > 0.85


def test_pictures_alike_are_never_on_both_sides():
    vectors, label, photographs = world(dim=300)
    texts = np.array([f"view {i}" for i in range(100)])
    texts[[5, 70]] = "the same caption"
    vectors[20:24] = vectors[20] + 0.01 * np.arange(4)[:, None]
    like = criteria.alike(vectors, texts, photographs)
    assert like[5] == like[70] and len(set(like[20:24])) == 1 and len(set(like)) == 96
    learned = []

    def learn(x, y):
        rows = {row.tobytes() for row in x}
        learned.append([vectors[i].tobytes() in rows for i in range(100)])
        return fitted(x, y, photographs)

    criteria.cross_validated(vectors, label, like, photographs, learn)
    for row in learned:
        assert row[5] == row[70] and len(set(row[20:24])) == 1


def test_labels_without_meaning_give_chance():
    vectors, label, photographs = world()
    shuffled = np.random.default_rng(1).permutation(label)
    score, _ = criteria.cross_validated(
        vectors, shuffled, np.arange(100), photographs, lambda x, y: fitted(x, y, photographs)
    )
    assert 0.3 < filters.auc(score, shuffled) < 0.7


def test_figures_are_read_at_the_recall():
    label = np.arange(100) < 60
    score = np.where(label, np.arange(100.0) + 50, np.arange(100.0))
    found = detector.figures(score, label, np.linspace(0, 200, 400))
    kept = score >= found["threshold"]
    assert kept[label].mean() == pytest.approx(detector.RECALL, abs=0.02)
    assert found["precision"]["value"] == pytest.approx(100 * label[kept].mean())
    passing = (np.linspace(0, 200, 400) >= found["threshold"]).mean()
    assert found["photographs"]["value"] == pytest.approx(100 * passing)


def test_a_small_share_of_the_judged_has_both_labels():
    label = np.arange(50) < 45
    for seed in range(20):
        drawn = criteria._some(np.arange(50), label, 6, seed)
        assert len(set(drawn)) == 6 and set(label[drawn]) == {True, False}


def test_without_data_what_was_stored_is_shown_and_without_that_nothing(monkeypatch):
    assert not detector.there(MINI)
    monkeypatch.setattr(detector.results, "load", lambda name, scale: None)
    assert detector.published(MINI) is None
    assert np.isnan(detector.headline(None)["judged_wide"])
