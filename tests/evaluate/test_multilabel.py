"""Mean average precision against scikit-learn's."""

import numpy as np
import pytest

from rs5m.evaluate import multilabel


def made(n=80, classes=5, step=0.2):
    """Scores with many ties; one class without an image."""
    generator = np.random.default_rng(0)
    true = generator.random((n, classes)) < 0.3
    true[:, -1] = False
    score = np.round((generator.normal(size=true.shape) + true) / step) * step
    return score, true


def test_the_values_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    score, true = made()
    found = multilabel.measure(score, true)
    each = [100 * average_precision_score(true[:, c], score[:, c]) for c in range(4)]
    assert found["by_class"][:4] == pytest.approx(each) and np.isnan(found["by_class"][4])
    assert found["map_macro"] == pytest.approx(np.mean(each))
    micro = 100 * average_precision_score(true, score, average="micro")
    assert found["map_micro"] == pytest.approx(micro)
    for kind in ("macro", "micro"):
        low, high = found[f"{kind}_interval"]
        assert low < found[f"map_{kind}"] < high


def test_a_weight_is_how_often_an_image_occurs():
    from sklearn.metrics import average_precision_score

    score, true = made(30)
    times = np.random.default_rng(1).integers(0, 4, 30)
    again = np.repeat(np.arange(30), times)
    wanted = average_precision_score(true[again, 0], score[again, 0])
    got = multilabel.average_precision(score[:, 0], true[:, 0], times[None].astype(float))
    assert got == pytest.approx([wanted])


@pytest.mark.parametrize("fill", [False, True])
def test_labels_that_rank_nothing_are_refused(fill):
    with pytest.raises(ValueError, match="no ranking can be judged"):
        multilabel.measure(np.zeros((3, 2)), np.full((3, 2), fill))
