"""A box to search the pictures of a captioned set by sentences that the run has encoded: one more
part to play with. Chapter: retrieval.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rs5m.book.play import MOST, Part, rounded, sheet

SENTENCES, SHOWN = 200, 12  # so many can be asked, so many pictures answer


def search(pictures, captions, scores: dict[str, np.ndarray]) -> Part:
    """Pictures by sentence, as each model ranks them.

    Sets of more than `play.MOST` pictures are thinned evenly; the sentences are the different ones
    among the captions of those that stay, thinned in the same way.

    Args:
        pictures: uint8 (h, w, 3).
        captions: of each picture, one or more.
        scores: model -> similarities (all captions, in the order of the pictures; pictures).
    """
    kept = evenly(range(len(pictures)), MOST)
    owner = np.repeat(np.arange(len(captions)), [len(group) for group in captions])
    texts = [text for group in captions for text in group]
    asked = {texts[i]: i for i in reversed(range(len(texts))) if owner[i] in set(kept)}
    rows = evenly(sorted(asked.values()), SENTENCES)
    own = np.searchsorted(kept, owner[rows])
    data = {
        "sentences": [texts[i] for i in rows],
        "captions": [captions[i][0] for i in kept],
        "models": [
            {"name": name, **_answers(np.asarray(of)[np.ix_(rows, kept)], own)}
            for name, of in scores.items()
        ],
        "sheet": sheet([pictures[i] for i in kept], 32),
    }
    label = "A box to search the pictures by a sentence"
    return Part("search", label, data, _still(data))


def evenly(values: Sequence, most: int) -> list:
    """At most so many of the values, evenly spread, in their order."""
    values = list(values)
    if len(values) <= most:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]


def _answers(scores: np.ndarray, own: np.ndarray) -> dict:
    """first: [picture, similarity] of the nearest to each sentence; place: of its own picture."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN]
    best = rounded(np.take_along_axis(scores, order, axis=1), 3)
    first = [list(zip(*row, strict=True)) for row in zip(order.tolist(), best, strict=True)]
    above = scores > np.take_along_axis(scores, own[:, None], axis=1)
    return {"first": first, "place": (1 + above.sum(axis=1)).tolist()}


def _still(data: dict, most: int = 5) -> str:
    """A table of some sentences and the caption of the picture that each model puts first."""
    some = evenly(range(len(data["sentences"])), most)
    table = {
        f"nearest picture's caption, {model['name']}": [
            data["captions"][model["first"][i][0][0]] for i in some
        ]
        for model in data["models"]
    }
    return pd.DataFrame(table, [data["sentences"][i] for i in some]).to_html(border=0)
