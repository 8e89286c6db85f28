"""The judge of outliers that a user names: a CLIP by name or file, a detector, and how the two are
joined. Chapter: filters.

* the score is the vision-language model's: views from above against everything else
* the detector is a logistic regression on the same model's features (`rs5m.filters.fit_detector`);
  a file of another model is refused before anything is downloaded
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rs5m import files, filters
from rs5m.clip import hub

NAME = "ViT-B-32-quickgelu"
KEEP_BY = {  # what keeps a picture -> the rule of `filters.Thresholds`, which says what drops it
    "score": "score",
    "detector": "probability",
    "both": "either",
    "either": "both",
}
NOBODY = "none"
SCORE, PROBABILITY = 0.5, 0.5  # as likely a view from above as not
WAYS_OUT = f"{hub.WAYS_OUT}, or --keep-by none"


@dataclass(frozen=True)
class Named:
    """A judge by name; arguments like the options of `rs5m pub11`.

    name: a model of `rs5m.clip.load`; checkpoint: its weights, empty for OpenAI's of the default;
    detector: an npz of `filters.save_detector`; keep_by: a key of KEEP_BY or "none", by default the
    detector where there is one and the score elsewhere; thresholds: None for the detector's own.
    """

    name: str = NAME
    checkpoint: str = ""
    detector: str = ""
    keep_by: str = ""
    score_threshold: float | None = None
    detector_threshold: float | None = None

    @property
    def rule(self) -> str:
        """How pictures are kept."""
        return self.keep_by or ("detector" if self.detector else "score")

    def identity(self) -> list:
        """What run.json remembers of it; what `check` finds is said, or raised."""
        print(self.check(), flush=True)
        detector = files.sha256(self.detector) if self.detector else ""
        tower = "" if self.rule == NOBODY else filters.tower_digest(self._model())
        return [self.name, tower, detector, self.rule, list(self.thresholds()[:2])]

    def about(self) -> str:
        """What it is and what its detector's validation found."""
        return self.check()

    def thresholds(self) -> filters.Thresholds:
        """Of score and probability, and the rule that joins them."""
        _, own = self._detector() if self.detector else (None, None)
        likely = own.probability if own else PROBABILITY
        # a detector that decides alone states no threshold of the score
        score = own.score if own and own.rule != "probability" else SCORE
        score = score if self.score_threshold is None else self.score_threshold
        likely = likely if self.detector_threshold is None else self.detector_threshold
        return filters.Thresholds(score, likely, KEEP_BY.get(self.rule, NOBODY))

    def check(self) -> str:
        """Load what was named, before any pair is downloaded: a sentence about the judge.

        ValueError for a rule without what it needs, and for a detector of another model; OSError
        with the ways out where the weights are not available.
        """
        if self.rule not in (*KEEP_BY, NOBODY):
            raise ValueError(
                f"unknown --keep-by {self.rule!r}: choose one of {', '.join([*KEEP_BY, NOBODY])}"
            )
        for name, value in zip(("score", "detector"), self.thresholds(), strict=False):
            if not 0 <= value <= 1:
                raise ValueError(f"the {name} threshold is {value}: give a number from 0 to 1")
        if self.rule == NOBODY:
            return "no judge: every picture that is valid and no copy is kept"
        if self.rule != "score" and not self.detector:
            raise ValueError(f"--keep-by {self.rule} needs a detector: name its file by --detector")
        detector = self._detector()[0] if self.detector else None
        model = self._model()
        if detector is not None:
            with warnings.catch_warnings():  # of 32 pixels a wrong model may leave a single one
                warnings.simplefilter("ignore")
                width = filters.features(model, [np.zeros((32, 32, 3), np.uint8)]).shape[1]
            filters.check_detector(self.detector, detector, model, width)
        said = f"judge: {self.name}, kept by {self.rule}"
        if self.detector:
            about = filters.about_detector(Path(self.detector))
            said += f"; the detector's validation: {filters.words(about)}"
        elif self.rule == "score":
            said += f" (threshold {self.thresholds().score:g}, not calibrated on your pictures)"
        return said

    def _detector(self):
        if not Path(self.detector).is_file():
            raise FileNotFoundError(
                f"--detector {self.detector} is not a file: check its spelling, or write one with "
                "`rs5m detector fit`"
            )
        return filters.load_detector(Path(self.detector))

    def _model(self):
        """The model, at the pixels that the detector was fitted at or at its own."""
        about = filters.about_detector(Path(self.detector)) if self.detector else {}
        size = int(about.get("image_size", 0))
        return hub.model_of(self.name, self.checkpoint, size, WAYS_OUT)

    def prepare(self, out: Path) -> None:
        """Nothing has to be left in the run's folder."""

    def load(self, out: Path):
        """A function from images (h, w, 3) uint8 to score (n,) and probability (n,), NaN where
        nothing asks for them.
        """
        if self.rule == NOBODY:
            return lambda pictures: (np.full(len(pictures), np.nan),) * 2
        model = self._model()
        detector = self._detector()[0] if self.detector else None
        text = filters.prompts(model)

        def values(pictures):
            vectors = filters.features(model, pictures)
            likely = np.full(len(pictures), np.nan)
            if detector is not None:
                likely = filters.probability(detector, vectors)
            return filters.score_features(vectors, text), likely

        return values

    def reasons(self, score: np.ndarray, probability: np.ndarray, out: Path) -> list[str | None]:
        """Why each picture is an outlier, None to keep it."""
        if self.rule == NOBODY:
            return [None] * len(score)
        return filters.joint_all(score, probability, self.thresholds())
