"""The judge of the pocket web: the scale's general model and a detector of the pocket world."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from rs5m import files, filters, results
from rs5m.book import models
from rs5m.data.runfolder import save
from rs5m.filters import (
    Detector,
    Thresholds,
    choose_thresholds,
    features,
    fit_detector,
    probability,
    prompts,
    score_features,
)
from rs5m.intervals import in_words


@dataclass(frozen=True)
class Model:
    """The judge of outliers: the general model of a scale and a detector of the pocket world."""

    scale: str = "mini"
    spoken: bool = False  # whether it says what it is worth on photographs

    def identity(self) -> list[str]:
        """What run.json remembers of it."""
        if self.spoken:
            print(worth(), flush=True)
        return [self.scale, "pocket"]

    def about(self) -> str:
        """What it is worth on photographs."""
        return worth()

    def prepare(self, out: Path) -> None:
        """Leave the detector of the pocket world in `out`, with its validation split."""
        from rs5m.book import scales

        if not (out / "detector.npz").is_file():
            kept = _pocket_folder(scales.get(self.scale))
            for name in ("validation.parquet", "detector.npz"):
                with files.whole(out / name) as temporary:
                    shutil.copyfile(kept / name, temporary)

    def load(self, out: Path):
        """A function from images (h, w, 3) uint8 to score (n,) and probability (n,)."""
        from rs5m.book import scales

        model, (detector, _) = (
            models.general(scales.get(self.scale)),
            filters.load_detector(out / "detector.npz"),
        )
        text = filters.prompts(model)

        def values(pictures):
            vectors = filters.features(model, pictures)
            return filters.score_features(vectors, text), filters.probability(detector, vectors)

        return values

    def reasons(self, score: np.ndarray, probability: np.ndarray, out: Path) -> list[str | None]:
        """`filters.joint` of many; a picture without scores is kept here, an earlier stage has
        dropped it.
        """
        _, thresholds = filters.load_detector(out / "detector.npz")
        return filters.joint_all(score, probability, thresholds)


def worth() -> str:
    """What the pocket's judge is worth on photographs of a real crawl, as far as that is stored."""
    record = results.load("detector", "local")
    said = "judge: pocket, fitted on one small made-up web"
    if not record:
        return f"{said}; what it is worth on photographs is not stored here"
    area = record["values"]["readings"]["wide"]["pocket web"]["auc"]
    return (
        f"{said}; among {record['values']['hits']} real keyword hits judged by eye, a detector of "
        f"that web tells views with an AUC of {in_words(area, digits=2)}, where chance is 0.5: "
        "name a CLIP model for a real crawl"
    )


def _pocket_folder(scale) -> Path:
    """Where the detector of the pocket world is kept with its validation.parquet: it is fitted once
    for all runs.
    """

    def make(folder: Path) -> None:
        detector, thresholds, table = pocket_detector(models.general(scale))
        save(pa.Table.from_pandas(table, preserve_index=False), folder / "validation.parquet")
        filters.save_detector(folder / "detector.npz", detector, thresholds)

    return results.artefact("detector", scale.name, (scale,), make)


def pocket_detector(model, seed: int = 0) -> tuple[Detector, Thresholds, pd.DataFrame]:
    """Detector and thresholds from `webpages.labelled`, and the validation split: score,
    probability, label.

    The detector is fitted on the train half alone; thresholds and rule are chosen on the validation
    half, whose places and photographs are others.
    """
    from rs5m.pocket import webpages

    images, labels, validation = webpages.labelled(seed=seed)
    vectors = features(model, images)
    detector = fit_detector(vectors[~validation], labels[~validation], seed)
    values = {
        "score": score_features(vectors, prompts(model)),
        "probability": probability(detector, vectors),
    }
    table = pd.DataFrame(values | {"label": labels})[validation].reset_index(drop=True)
    return (
        detector,
        choose_thresholds(table.score.to_numpy(), table.probability.to_numpy(), table.label),
        table,
    )
